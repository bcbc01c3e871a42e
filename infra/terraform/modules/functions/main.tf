# Manifests are plain values, so that a plan needs no cluster and most tests no provider.
locals {
  labels = { "app.kubernetes.io/part-of" = "polyshare" }

  names = { for name in keys(var.functions) : name => replace(name, "_", "-") }

  secret_keys = {
    events   = ["token"]
    store    = ["access_key", "secret_key"]
    database = ["password"]
    ledger   = ["writer_key"]
  }

  database = lookup(var.settings, "database", "")

  settings = merge(var.settings, {
    database         = "${local.database}${strcontains(local.database, "?") ? "&" : "?"}password_file=/secrets/database/password"
    event_token_file = "/secrets/events/token"
    jwks_file        = var.jwks == null ? "" : "/config/jwks.json"
    trust_root       = jsonencode(var.trust_root)
    }, var.secrets.store == "" ? {} : {
    s3_access_key_file = "/secrets/store/access_key"
    s3_secret_key_file = "/secrets/store/secret_key"
  })

  # The ledger's key is a file of anchor's, or is kept by a KMS that anchor asks to sign; the store's a file, or a role's session.
  without = concat(contains(keys(var.settings), "ledger_kms_key") ? ["ledger"] : [], var.secrets.store == "" ? ["store"] : [])
  secrets_of = {
    for name, f in var.functions : name => [for secret in f.secrets : secret if !contains(local.without, secret)]
  }
  settings_of = {
    for name, f in var.functions : name => merge(
      { for key, value in local.settings : key => value if key != "ledger_kms_key" || contains(f.secrets, "ledger") },
      contains(local.secrets_of[name], "ledger") ? { ledger_key_file = "/secrets/ledger/writer_key" } : {},
    )
  }

  accounts = {
    for name in keys(var.functions) : "account/${name}" => {
      apiVersion = "v1"
      kind       = "ServiceAccount"
      metadata = {
        name        = local.names[name]
        namespace   = var.namespace
        labels      = local.labels
        annotations = lookup(var.service_account_annotations, name, {})
      }
      automountServiceAccountToken = var.functions[name].jobs != ""
    }
  }

  services = {
    for name, f in var.functions : "service/${name}" => {
      apiVersion = "serving.knative.dev/v1"
      kind       = "Service"
      metadata = {
        name      = local.names[name]
        namespace = var.namespace
        labels    = merge(local.labels, f.public ? {} : { "networking.knative.dev/visibility" = "cluster-local" })
      }
      spec = {
        template = {
          metadata = {
            labels = merge(local.labels, try(var.pods[name].labels, {}))
            annotations = {
              "autoscaling.knative.dev/class"     = "kpa.autoscaling.knative.dev"
              "autoscaling.knative.dev/min-scale" = tostring(coalesce(try(var.scale[name].min, null), f.min_scale))
              "autoscaling.knative.dev/max-scale" = tostring(coalesce(try(var.scale[name].max, null), f.max_scale))
            }
          }
          spec = {
            serviceAccountName   = local.names[name]
            enableServiceLinks   = false
            containerConcurrency = f.concurrency
            timeoutSeconds       = f.seconds
            containers = [merge({
              name  = "function"
              image = var.images[f.image]
              env = concat(
                [{ name = "FUNCTION_TARGET", value = name }],
                [for key, value in local.settings_of[name] : { name = "POLYSHARE_${upper(key)}", value = value }],
                [for key, value in try(var.pods[name].environment, {}) : { name = key, value = value }],
              )
              ports = [{ containerPort = 8080 }]
              resources = {
                requests = { cpu = f.cpu, memory = "128Mi" }
                limits   = { memory = f.memory }
              }
              securityContext = {
                allowPrivilegeEscalation = false
                capabilities             = { drop = ["ALL"] }
                readOnlyRootFilesystem   = true
                runAsNonRoot             = true
                seccompProfile           = { type = "RuntimeDefault" }
              }
              # Says that it can work, its database for one; alive is who answers at all.
              readinessProbe = { httpGet = { path = "/readyz" }, periodSeconds = 5, timeoutSeconds = 5 }
              livenessProbe = {
                httpGet = { path = "/healthz" }, periodSeconds = 20, timeoutSeconds = 5, failureThreshold = 3
              }
              volumeMounts = concat(
                [{ name = "tmp", mountPath = "/tmp", readOnly = false }],
                var.jwks == null ? [] : [{ name = "config", mountPath = "/config", readOnly = true }],
                [for secret in local.secrets_of[name] : { name = "secret-${secret}", mountPath = "/secrets/${secret}", readOnly = true }],
              )
            }, try(var.pods[name].secret, null) == null ? {} : { envFrom = [{ secretRef = { name = var.pods[name].secret } }] })]
            volumes = concat(
              [{ name = "tmp", emptyDir = { sizeLimit = "64Mi" } }],
              var.jwks == null ? [] : [{ name = "config", configMap = { name = "polyshare-issuer" } }],
              [for secret in local.secrets_of[name] : {
                name = "secret-${secret}"
                secret = {
                  secretName = var.secrets[secret]
                  items      = [for key in local.secret_keys[secret] : { key = key, path = key }]
                }
              }],
            )
          }
        }
      }
    }
  }

  policies = {
    for name, f in var.functions : "policy/${name}" => {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata   = { name = "function-${local.names[name]}", namespace = var.namespace, labels = local.labels }
      spec = {
        podSelector = { matchLabels = { "serving.knative.dev/service" = local.names[name] } }
        policyTypes = ["Ingress", "Egress"]
        ingress = [{
          from = [for caller in var.callers : {
            namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = caller } }
          }]
        }]
        egress = [
          for destination in setunion(f.reaches, ["dns"]) : {
            to = [local.peers[destination]]
            ports = flatten([for port in var.destinations[destination].ports : [
              for protocol in destination == "dns" ? ["UDP", "TCP"] : ["TCP"] : { port = port, protocol = protocol }
            ]])
          } if contains(keys(var.destinations), destination)
        ]
      }
    }
  }

  peers = {
    for name, d in var.destinations : name => merge(
      { for key, value in { ipBlock = { cidr = d.cidr } } : key => value if d.cidr != null },
      { for key, value in { namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = d.namespace } } } : key => value if d.cidr == null },
      { for key, value in { podSelector = { matchLabels = d.labels } } : key => value if d.cidr == null && length(d.labels) > 0 },
    )
  }

  issuer = var.jwks == null ? {} : {
    "config/issuer" = {
      apiVersion = "v1"
      kind       = "ConfigMap"
      metadata   = { name = "polyshare-issuer", namespace = var.namespace, labels = local.labels }
      data       = { "jwks.json" = var.jwks }
    }
  }
}

resource "kubectl_manifest" "access" {
  for_each = merge(local.accounts, local.policies, local.issuer)

  yaml_body         = yamlencode(each.value)
  server_side_apply = true
  force_conflicts   = true
}

# Policies first: no function ever runs without its own.
resource "kubectl_manifest" "this" {
  for_each = local.services

  yaml_body         = yamlencode(each.value)
  server_side_apply = true
  force_conflicts   = true
  wait_for_rollout  = false

  depends_on = [kubectl_manifest.access]

  lifecycle {
    precondition {
      condition     = strcontains(lookup(var.settings, "functions_url", ""), "{function}")
      error_message = "The setting functions_url is a template with {function} in it, like http://{function}.polyshare.svc.cluster.local."
    }
  }
}
