locals {
  labels = { "app.kubernetes.io/part-of" = "polyshare" }
  is_own = var.url == null

  url = local.is_own ? "postgresql://polyshare@postgres.${var.namespace}.svc/polyshare" : var.url

  # Jobs can't be changed, so each image has its own.
  migration = "migrate-${substr(sha256("${var.images.migrate} ${local.url}"), 0, 8)}"

  container_security = {
    allowPrivilegeEscalation = false
    capabilities             = { drop = ["ALL"] }
    readOnlyRootFilesystem   = true
  }

  server = { for key, value in local.own : key => value if local.is_own }

  own = {
    "config" = {
      apiVersion = "v1"
      kind       = "ConfigMap"
      metadata   = { name = "postgres", namespace = var.namespace, labels = local.labels }
      data       = { "start.sh" = file("${path.module}/start.sh") }
    }
    "service" = {
      apiVersion = "v1"
      kind       = "Service"
      metadata   = { name = "postgres", namespace = var.namespace, labels = local.labels }
      spec       = { selector = { app = "postgres" }, ports = [{ name = "postgres", port = 5432 }] }
    }
    "policy/server" = {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata   = { name = "postgres", namespace = var.namespace, labels = local.labels }
      spec = {
        podSelector = { matchLabels = { app = "postgres" } }
        policyTypes = ["Ingress", "Egress"]
        ingress = [{
          from  = [{ podSelector = { matchExpressions = [{ key = "serving.knative.dev/service", operator = "Exists" }] } }, { podSelector = { matchLabels = { app = "migrate" } } }]
          ports = [{ port = 5432, protocol = "TCP" }]
        }]
      }
    }
    "server" = {
      apiVersion = "apps/v1"
      kind       = "StatefulSet"
      metadata   = { name = "postgres", namespace = var.namespace, labels = local.labels }
      spec = {
        serviceName = "postgres"
        replicas    = 1
        selector    = { matchLabels = { app = "postgres" } }
        template = {
          metadata = {
            labels      = merge(local.labels, { app = "postgres" })
            annotations = { "polyshare/start" = sha256(file("${path.module}/start.sh")) }
          }
          spec = {
            automountServiceAccountToken  = false
            enableServiceLinks            = false
            terminationGracePeriodSeconds = 60
            securityContext = {
              runAsUser = var.user_id, runAsGroup = var.user_id, fsGroup = var.user_id, seccompProfile = { type = "RuntimeDefault" }
            }
            initContainers = [for name in var.chown_volume ? ["chown"] : [] : {
              name    = name
              image   = var.images.server
              command = ["chown", "${var.user_id}:${var.user_id}", "/data"]
              securityContext = {
                runAsUser = 0, allowPrivilegeEscalation = false, readOnlyRootFilesystem = true, capabilities = { drop = ["ALL"], add = ["CHOWN"] }
              }
              volumeMounts = [{ name = "data", mountPath = "/data" }]
            }]
            containers = [{
              name    = "postgres"
              image   = var.images.server
              command = ["sh", "/scripts/start.sh"]
              env = [
                { name = "CONNECTIONS", value = tostring(var.storage.connections) },
                { name = "SHARED_BUFFERS", value = var.storage.shared_buffers },
              ]
              # Told to end, PostgreSQL waits for its clients, unless it is told so.
              lifecycle       = { preStop = { exec = { command = ["sh", "-c", "kill -INT 1"] } } }
              ports           = [{ containerPort = 5432 }]
              securityContext = merge(local.container_security, { runAsNonRoot = true })
              readinessProbe = {
                exec          = { command = ["sh", "-c", "PATH=$PATH:$(echo /usr/lib/postgresql/*/bin) pg_isready -h 127.0.0.1 -q"] }
                periodSeconds = 5, timeoutSeconds = 5
              }
              resources = { requests = { cpu = "50m", memory = "256Mi" } }
              volumeMounts = [
                { name = "data", mountPath = "/data", readOnly = false },
                { name = "tmp", mountPath = "/tmp", readOnly = false },
                { name = "scripts", mountPath = "/scripts", readOnly = true },
                { name = "secret", mountPath = "/secrets", readOnly = true },
              ]
            }]
            volumes = [
              { name = "tmp", emptyDir = {} },
              { name = "scripts", configMap = { name = "postgres" } },
              { name = "secret", secret = { secretName = var.secret } },
            ]
          }
        }
        volumeClaimTemplates = [{
          metadata = { name = "data" }
          spec = merge(
            { accessModes = ["ReadWriteOnce"], resources = { requests = { storage = var.storage.size } } },
            var.storage.class == null ? {} : { storageClassName = var.storage.class },
          )
        }]
      }
    }
  }

  migrate = {
    "policy/migrate" = {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata   = { name = "migrate", namespace = var.namespace, labels = local.labels }
      spec = {
        podSelector = { matchLabels = { app = "migrate" } }
        policyTypes = ["Ingress", "Egress"]
        egress = [
          {
            to    = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "kube-system" } } }]
            ports = [{ port = 53, protocol = "UDP" }, { port = 53, protocol = "TCP" }]
          },
          {
            to = [merge(
              { for key, value in { podSelector = { matchLabels = { app = "postgres" } } } : key => value if local.is_own },
              { for key, value in { ipBlock = { cidr = try(var.destination.cidr, "0.0.0.0/0") } } : key => value if !local.is_own },
            )]
            ports = [{ port = try(var.destination.port, 5432), protocol = "TCP" }]
          },
        ]
      }
    }
    "migration" = {
      apiVersion = "batch/v1"
      kind       = "Job"
      metadata   = { name = local.migration, namespace = var.namespace, labels = local.labels }
      spec = {
        backoffLimit = 20 # the server may still be starting
        template = {
          metadata = { labels = merge(local.labels, { app = "migrate" }) }
          spec = {
            restartPolicy                = "OnFailure"
            automountServiceAccountToken = false
            enableServiceLinks           = false
            securityContext              = { seccompProfile = { type = "RuntimeDefault" } }
            containers = [{
              name            = "migrate"
              image           = var.images.migrate
              args            = ["polyshare.catalogue", "upgrade"]
              env             = [{ name = "POLYSHARE_DATABASE", value = "${local.url}${strcontains(local.url, "?") ? "&" : "?"}password_file=/secrets/password" }]
              securityContext = merge(local.container_security, { runAsNonRoot = true })
              resources       = { requests = { cpu = "50m", memory = "128Mi" }, limits = { memory = "512Mi" } }
              volumeMounts    = [{ name = "secret", mountPath = "/secrets", readOnly = true }]
            }]
            volumes = [{ name = "secret", secret = { secretName = var.secret } }]
          }
        }
      }
    }
  }

  manifests = merge(local.server, local.migrate)
}

resource "kubectl_manifest" "this" {
  for_each = local.manifests

  yaml_body         = yamlencode(each.value)
  server_side_apply = true
  force_conflicts   = true
  wait_for_rollout  = false

  lifecycle {
    precondition {
      condition     = !local.is_own || var.images.server != null
      error_message = "Without a url a PostgreSQL runs here: name its image in images.server."
    }
  }
}
