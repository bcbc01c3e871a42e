locals {
  labels = { "app.kubernetes.io/part-of" = "polyshare" }
  user   = 65532
  count  = length(var.nodes)

  # Each has a Service, and so an address that outlives its pod.
  hosts  = [for i in range(local.count) : "validator-${i}.${var.namespace}.svc"]
  enodes = [for i, key in var.nodes : "enode://${key}@${local.hosts[i]}:30303?discport=0"]

  config = {
    "genesis.json"            = var.genesis
    "static-nodes.json"       = jsonencode(local.enodes)
    "permissioned-nodes.json" = jsonencode(local.enodes)
    "permissions.toml"        = "nodes-allowlist=${jsonencode(local.enodes)}\n"
    "config.toml"             = "[Node.P2P]\nListenAddr = \":30303\"\nNoDiscovery = true\nMaxPeers = 25\n"
    "start.sh"                = file("${path.module}/${var.client}.sh")
  }

  container_security = {
    allowPrivilegeEscalation = false
    capabilities             = { drop = ["ALL"] }
    readOnlyRootFilesystem   = true
  }

  services = {
    for i in range(local.count) : "service/${i}" => {
      apiVersion = "v1"
      kind       = "Service"
      metadata   = { name = "validator-${i}", namespace = var.namespace, labels = local.labels }
      spec = {
        selector                 = { "statefulset.kubernetes.io/pod-name" = "validator-${i}" }
        publishNotReadyAddresses = true # they find each other before they are ready
        ports                    = [{ name = "rpc", port = 8545 }, { name = "peers", port = 30303 }]
      }
    }
  }

  # Read-only RPC: the registry's own list of writers is what lets an account write.
  nodes = {
    "config" = {
      apiVersion = "v1"
      kind       = "ConfigMap"
      metadata   = { name = "validators", namespace = var.namespace, labels = local.labels }
      data       = local.config
    }
    "policy/validators" = {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata   = { name = "validators", namespace = var.namespace, labels = local.labels }
      spec = {
        podSelector = { matchLabels = { app = "validator" } }
        policyTypes = ["Ingress", "Egress"]
        ingress = [
          {
            from  = [{ podSelector = { matchLabels = { app = "validator" } } }]
            ports = [{ port = 30303, protocol = "TCP" }]
          },
          {
            from = concat(
              [{ podSelector = { matchLabels = { app = "ledger-deploy" } } }],
              [for name in var.callers : { podSelector = { matchLabels = { "serving.knative.dev/service" = name } } }],
            )
            ports = [{ port = 8545, protocol = "TCP" }]
          },
        ]
        egress = [
          {
            to    = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "kube-system" } } }]
            ports = [{ port = 53, protocol = "UDP" }, { port = 53, protocol = "TCP" }]
          },
          {
            to    = [{ podSelector = { matchLabels = { app = "validator" } } }]
            ports = [{ port = 30303, protocol = "TCP" }]
          },
        ]
      }
    }
    "budget" = {
      apiVersion = "policy/v1"
      kind       = "PodDisruptionBudget"
      metadata   = { name = "validators", namespace = var.namespace, labels = local.labels }
      # QBFT goes on without a third of them, rounded down.
      spec = { maxUnavailable = floor((local.count - 1) / 3), selector = { matchLabels = { app = "validator" } } }
    }
    "validators" = {
      apiVersion = "apps/v1"
      kind       = "StatefulSet"
      metadata   = { name = "validator", namespace = var.namespace, labels = local.labels }
      spec = {
        serviceName         = "validator"
        replicas            = local.count
        podManagementPolicy = "Parallel"
        selector            = { matchLabels = { app = "validator" } }
        template = {
          metadata = {
            labels      = merge(local.labels, { app = "validator" })
            annotations = { "polyshare/config" = sha256(jsonencode(local.config)) }
          }
          spec = {
            automountServiceAccountToken = false
            enableServiceLinks           = false
            securityContext = {
              runAsUser = local.user, runAsGroup = local.user, fsGroup = local.user, seccompProfile = { type = "RuntimeDefault" }
            }
            # Apart where there are nodes to be apart on.
            topologySpreadConstraints = [{
              maxSkew       = 1, topologyKey = "kubernetes.io/hostname", whenUnsatisfiable = "ScheduleAnyway"
              labelSelector = { matchLabels = { app = "validator" } }
            }]
            initContainers = [for name in var.chown_volume ? ["chown"] : [] : {
              name    = name
              image   = var.images.validator
              command = ["chown", "${local.user}:${local.user}", "/data"]
              securityContext = {
                runAsUser = 0, runAsNonRoot = false, allowPrivilegeEscalation = false, readOnlyRootFilesystem = true, capabilities = { drop = ["ALL"], add = ["CHOWN"] }
              }
              volumeMounts = [{ name = "data", mountPath = "/data" }]
            }]
            containers = [{
              name    = "node"
              image   = var.images.validator
              command = ["sh", "/config/start.sh"]
              env = [
                { name = "CHAIN_ID", value = tostring(var.chain_id) },
                { name = "PRIVATE_CONFIG", value = "ignore" }, # GoQuorum: no private transactions
                { name = "HOME", value = "/tmp" },
              ]
              ports           = [{ containerPort = 8545 }, { containerPort = 30303 }]
              readinessProbe  = { tcpSocket = { port = 8545 }, periodSeconds = 5 }
              resources       = { requests = { cpu = "50m", memory = "192Mi" }, limits = { memory = "2Gi" } }
              securityContext = merge(local.container_security, { runAsNonRoot = true })
              volumeMounts = [
                { name = "data", mountPath = "/data", readOnly = false },
                { name = "tmp", mountPath = "/tmp", readOnly = false },
                { name = "config", mountPath = "/config", readOnly = true },
                { name = "keys", mountPath = "/keys", readOnly = true },
              ]
            }]
            volumes = [
              { name = "tmp", emptyDir = {} },
              { name = "config", configMap = { name = "validators" } },
              { name = "keys", secret = { secretName = var.secrets.nodes } },
            ]
          }
        }
        volumeClaimTemplates = [{
          metadata = { name = "data" }
          spec = merge(
            { accessModes = ["ReadWriteOnce"], resources = { requests = { storage = var.storage.size } } },
            { for key, value in { storageClassName = var.storage.class } : key => value if value != null },
          )
        }]
      }
    }
  }

  deploying = concat(
    ["polyshare.cli", "ledger", "deploy", "--yes"],
    ["--rpc", local.rpc, "--key-file", "/secrets/owner_key"],
    flatten([for account in sort(var.writers) : ["--writer", account]]),
  )

  # Deploying again changes nothing; Jobs can't be changed, so each command has its own.
  deployment = {
    "policy/deploy" = {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata   = { name = "ledger-deploy", namespace = var.namespace, labels = local.labels }
      spec = {
        podSelector = { matchLabels = { app = "ledger-deploy" } }
        policyTypes = ["Ingress", "Egress"]
        egress = [
          {
            to    = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "kube-system" } } }]
            ports = [{ port = 53, protocol = "UDP" }, { port = 53, protocol = "TCP" }]
          },
          {
            to    = [{ podSelector = { matchLabels = { app = "validator" } } }]
            ports = [{ port = 8545, protocol = "TCP" }]
          },
        ]
      }
    }
    "deploy" = {
      apiVersion = "batch/v1"
      kind       = "Job"
      metadata = {
        name   = "ledger-deploy-${substr(sha256(jsonencode([local.deploying, var.images.deploy])), 0, 8)}", namespace = var.namespace
        labels = local.labels
      }
      spec = {
        backoffLimit = 20 # the validators may still be starting
        template = {
          metadata = { labels = merge(local.labels, { app = "ledger-deploy" }) }
          spec = {
            restartPolicy                = "OnFailure"
            automountServiceAccountToken = false
            enableServiceLinks           = false
            securityContext              = { seccompProfile = { type = "RuntimeDefault" } }
            containers = [{
              name            = "deploy"
              image           = var.images.deploy
              args            = local.deploying
              env             = [{ name = "HOME", value = "/tmp" }]
              securityContext = merge(local.container_security, { runAsNonRoot = true })
              resources       = { requests = { cpu = "50m", memory = "128Mi" }, limits = { memory = "512Mi" } }
              volumeMounts    = [{ name = "owner", mountPath = "/secrets", readOnly = true }]
            }]
            volumes = [{ name = "owner", secret = { secretName = var.secrets.owner } }]
          }
        }
      }
    }
  }

  rpc = join(",", [for host in local.hosts : "http://${host}:8545"])

  manifests = merge(local.services, local.nodes, local.deployment)
}

resource "kubectl_manifest" "this" {
  for_each = local.manifests

  yaml_body         = yamlencode(each.value)
  server_side_apply = true
  force_conflicts   = true
  wait_for_rollout  = false

  lifecycle {
    precondition {
      condition     = jsondecode(var.genesis).config.chainId == var.chain_id
      error_message = "The genesis is of chain ${jsondecode(var.genesis).config.chainId}, not of ${var.chain_id}."
    }
  }
}
