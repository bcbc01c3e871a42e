locals {
  labels = { "app.kubernetes.io/part-of" = "polyshare" }

  namespaces = {
    for part, name in var.namespaces : "namespace/${part}" => {
      apiVersion = "v1"
      kind       = "Namespace"
      metadata = {
        name = name
        labels = merge(local.labels, {
          # Giving a volume away takes root and CHOWN, and Argo's own containers name no profile.
          "pod-security.kubernetes.io/enforce" = part == "functions" && !var.chown_volumes ? "restricted" : "baseline"
        })
      }
    } if var.create_namespaces
  }

  # What has no policy of its own reaches nothing and is reached by nothing.
  closed = {
    "policy/default" = {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata   = { name = "default-deny", namespace = var.namespaces.functions, labels = local.labels }
      spec       = { podSelector = {}, policyTypes = ["Ingress", "Egress"] }
    }
  }

  dns      = { namespace = "kube-system", labels = {}, cidr = null, ports = [53] }
  api      = { namespace = null, labels = {}, cidr = var.network.api.cidr, ports = [var.network.api.port] }
  external = { namespace = null, labels = {}, cidr = var.issuer.cidr, ports = [443] }
  broker = {
    namespace = "knative-eventing", labels = { "eventing.knative.dev/brokerRole" = "ingress" }, cidr = null, ports = [8080]
  }
  ledger = var.ledger.own != null ? module.ledger[0].destination : {
    namespace = null, labels = {}, cidr = try(var.ledger.at.cidr, "0.0.0.0/0"), ports = [try(var.ledger.at.port, 8545)]
  }

  inbox = var.network.inbox == null ? {} : {
    inbox = { namespace = null, labels = {}, cidr = var.network.inbox.cidr, ports = var.network.inbox.ports }
  }

  destinations = merge(
    local.inbox,
    {
      dns        = local.dns
      kubernetes = local.api
      broker     = local.broker
      database   = module.database.destination
      store      = module.storage.destination
      ledger     = local.ledger
    },
    var.issuer.jwks == null ? { issuer = local.external } : {},
    var.network.registry == null ? {} : { registry = { namespace = null, labels = {}, cidr = var.network.registry.cidr, ports = [var.network.registry.port] } },
    var.network.keys == null ? {} : { keys = { namespace = null, labels = {}, cidr = var.network.keys.cidr, ports = [var.network.keys.port] } },
  )

  # Requests to a function go through Knative's activator or its ingress.
  step_destinations = merge(
    local.inbox,
    { dns = local.dns, kubernetes = local.api, store = module.storage.destination },
    { for caller in var.network.callers : "functions-${caller}" => { namespace = caller, labels = {}, cidr = null, ports = [80, 8012, 8080, 8081] } },
  )

  url = "${var.scheme}://{function}.${var.namespaces.functions}.${var.domain}"

  settings = merge(
    module.storage.settings,
    {
      database           = module.database.url
      s3_public_endpoint = var.store.public_endpoint
      functions_url      = "http://{function}.${var.namespaces.functions}.svc.cluster.local"
      broker_url         = "http://broker-ingress.knative-eventing.svc.cluster.local/${var.namespaces.functions}/polyshare"
      jwt_issuer         = var.issuer.url
      ledger_rpc         = var.ledger.own != null ? module.ledger[0].rpc : var.ledger.rpc
      runner             = "argo"
      runner_namespace   = var.namespaces.jobs
    },
    var.settings,
  )
}

resource "kubectl_manifest" "namespace" {
  for_each = local.namespaces

  yaml_body         = yamlencode(each.value)
  server_side_apply = true
  force_conflicts   = true
  wait              = true # when it is deleted, until it is gone
}

resource "kubectl_manifest" "closed" {
  for_each = local.closed

  yaml_body         = yamlencode(each.value)
  server_side_apply = true
  force_conflicts   = true

  depends_on = [kubectl_manifest.namespace]
}

module "database" {
  source = "../database"

  namespace    = var.namespaces.functions
  url          = var.database.url
  destination  = var.database.at
  storage      = var.database.storage
  images       = { migrate = var.images.functions, server = var.images.postgres }
  chown_volume = var.chown_volumes

  depends_on = [kubectl_manifest.closed]
}

module "storage" {
  source = "../storage"

  namespace    = var.namespaces.functions
  endpoint     = var.store.endpoint
  region       = var.store.region
  buckets      = var.store.buckets
  destination  = var.store.at
  secrets      = var.store.by_role ? { keys = "" } : {}
  storage      = var.store.storage
  callers      = setunion([var.namespaces.jobs], var.network.store_via)
  notifies     = var.network.callers
  images       = { buckets = var.images.functions, server = var.images.seaweedfs }
  chown_volume = var.chown_volumes

  depends_on = [kubectl_manifest.closed]
}

module "ledger" {
  source = "../ledger"
  count  = var.ledger.own == null ? 0 : 1

  namespace    = var.namespaces.functions
  client       = var.ledger.own.client
  images       = { validator = coalesce(var.images.validator, "missing"), deploy = var.images.ledger }
  chain_id     = var.trust_root.chain_id
  genesis      = var.ledger.own.genesis
  nodes        = var.ledger.own.nodes
  writers      = var.ledger.own.writers
  storage      = var.ledger.own.storage
  chown_volume = var.chown_volumes

  depends_on = [kubectl_manifest.closed]
}

module "functions" {
  source = "../functions"

  namespace                   = var.namespaces.functions
  images                      = { functions = var.images.functions, ledger = var.images.ledger }
  settings                    = local.settings
  trust_root                  = var.trust_root
  secrets                     = var.store.by_role ? { store = "" } : {}
  jwks                        = var.issuer.jwks
  callers                     = var.network.callers
  destinations                = local.destinations
  scale                       = var.scale
  service_account_annotations = var.service_account_annotations
  pods                        = var.pods

  depends_on = [kubectl_manifest.closed]
}

module "eventing" {
  source = "../eventing"

  namespace      = var.namespaces.functions
  services       = module.functions.services
  sweep_schedule = var.sweep_schedule

  depends_on = [kubectl_manifest.closed]
}

module "workflows" {
  source = "../workflows"

  namespace    = var.namespaces.jobs
  parameters   = merge({ image = var.images.functions }, var.jobs.parameters)
  functions    = { namespace = var.namespaces.functions, rights = module.functions.rights }
  destinations = local.step_destinations
  quota        = { hard = var.jobs.quota }
  chown_volume = var.chown_volumes

  depends_on = [kubectl_manifest.namespace]
}
