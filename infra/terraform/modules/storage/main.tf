locals {
  labels = { "app.kubernetes.io/part-of" = "polyshare" }
  is_own = var.endpoint == null
  user   = 65532

  endpoint = local.is_own ? "http://store.${var.namespace}.svc:8333" : var.endpoint

  making = [
    "polyshare.store", "buckets", "--endpoint", local.endpoint, "--region", var.region,
    "--access-key-file", "/secrets/access_key", "--secret-key-file", "/secrets/secret_key",
    var.buckets.blobs, var.buckets.journal, var.buckets.inbox,
  ]

  container_security = {
    allowPrivilegeEscalation = false
    capabilities             = { drop = ["ALL"] }
    readOnlyRootFilesystem   = true
  }

  own = {
    "service" = {
      apiVersion = "v1"
      kind       = "Service"
      metadata   = { name = "store", namespace = var.namespace, labels = local.labels }
      spec       = { selector = { app = "store" }, ports = [{ name = "s3", port = 8333 }] }
    }
    # Its other ports bypass S3's keys: nobody reaches them.
    "policy/server" = {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata   = { name = "store", namespace = var.namespace, labels = local.labels }
      spec = {
        podSelector = { matchLabels = { app = "store" } }
        policyTypes = ["Ingress", "Egress"]
        ingress = [{
          from = concat(
            [{ podSelector = {} }],
            [for caller in var.callers : { namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = caller } } }],
          )
          ports = [{ port = 8333, protocol = "TCP" }]
        }]
        egress = concat(
          [for namespace in length(var.notifies) > 0 ? ["kube-system"] : [] : {
            to    = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = namespace } } }]
            ports = [{ port = 53, protocol = "UDP" }, { port = 53, protocol = "TCP" }]
          }],
          [for namespace in var.notifies : {
            to    = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = namespace } } }]
            ports = [for port in [80, 8012, 8080, 8081] : { port = port, protocol = "TCP" }]
          }],
        )
      }
    }
    "server" = {
      apiVersion = "apps/v1"
      kind       = "StatefulSet"
      metadata   = { name = "store", namespace = var.namespace, labels = local.labels }
      spec = {
        serviceName = "store"
        replicas    = 1
        selector    = { matchLabels = { app = "store" } }
        template = {
          metadata = { labels = merge(local.labels, { app = "store" }) }
          spec = {
            automountServiceAccountToken  = false
            enableServiceLinks            = false
            terminationGracePeriodSeconds = 30
            securityContext = {
              runAsUser = local.user, runAsGroup = local.user, fsGroup = local.user, seccompProfile = { type = "RuntimeDefault" }
            }
            initContainers = [for name in var.chown_volume ? ["chown"] : [] : {
              name    = name
              image   = var.images.buckets
              command = ["/usr/bin/python3", "-c", "import os; os.chown('/data', ${local.user}, ${local.user})"]
              securityContext = {
                runAsUser = 0, runAsNonRoot = false, allowPrivilegeEscalation = false, readOnlyRootFilesystem = true, capabilities = { drop = ["ALL"], add = ["CHOWN"] }
              }
              volumeMounts = [{ name = "data", mountPath = "/data" }]
            }]
            containers = [{
              name  = "weed"
              image = var.images.server
              # Volumes, filer and S3 in one process; no credentials in arguments.
              args = [
                "-logtostderr=true", "mini", "-dir=/data", "-ip=127.0.0.1", "-ip.bind=0.0.0.0", "-s3.port=8333",
                "-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
                "-s3.autoCreateBucket=false", "-s3.iam=false", "-s3.config=/etc/seaweedfs/s3.json",
                "-s3.iam.config=/etc/seaweedfs/iam.json",
              ]
              env            = [{ name = "HOME", value = "/tmp" }, { name = "GOMEMLIMIT", value = "600MiB" }]
              ports          = [{ containerPort = 8333 }]
              readinessProbe = { httpGet = { path = "/healthz", port = 8333 }, periodSeconds = 3, timeoutSeconds = 3 }
              livenessProbe = {
                httpGet = { path = "/healthz", port = 8333 }, periodSeconds = 20, timeoutSeconds = 10, failureThreshold = 6
              }
              resources       = { requests = { cpu = "50m", memory = "256Mi" } }
              securityContext = merge(local.container_security, { runAsNonRoot = true })
              volumeMounts = [
                { name = "data", mountPath = "/data", readOnly = false },
                { name = "tmp", mountPath = "/tmp", readOnly = false },
                { name = "config", mountPath = "/etc/seaweedfs", readOnly = true },
              ]
            }]
            volumes = [
              { name = "tmp", emptyDir = {} },
              { name = "config", secret = { secretName = var.secrets.server } },
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

  buckets = {
    "policy/buckets" = {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata   = { name = "buckets", namespace = var.namespace, labels = local.labels }
      spec = {
        podSelector = { matchLabels = { app = "buckets" } }
        policyTypes = ["Ingress", "Egress"]
        egress = [
          {
            to    = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "kube-system" } } }]
            ports = [{ port = 53, protocol = "UDP" }, { port = 53, protocol = "TCP" }]
          },
          {
            to = [merge(
              { for key, value in { podSelector = { matchLabels = { app = "store" } } } : key => value if local.is_own },
              { for key, value in { ipBlock = { cidr = try(var.destination.cidr, "0.0.0.0/0") } } : key => value if !local.is_own },
            )]
            ports = [{ port = local.port, protocol = "TCP" }]
          },
        ]
      }
    }
    "buckets" = {
      apiVersion = "batch/v1"
      kind       = "Job"
      # Jobs can't be changed, so each command has its own.
      metadata = {
        name   = "buckets-${substr(sha256(jsonencode([local.making, var.images.buckets])), 0, 8)}", namespace = var.namespace
        labels = local.labels
      }
      spec = {
        backoffLimit = 20 # the server may still be starting
        template = {
          metadata = { labels = merge(local.labels, { app = "buckets" }) }
          spec = {
            restartPolicy                = "OnFailure"
            automountServiceAccountToken = false
            enableServiceLinks           = false
            securityContext              = { seccompProfile = { type = "RuntimeDefault" } }
            containers = [{
              name            = "buckets"
              image           = var.images.buckets
              args            = local.making
              securityContext = merge(local.container_security, { runAsNonRoot = true })
              resources       = { requests = { cpu = "50m", memory = "128Mi" }, limits = { memory = "512Mi" } }
              volumeMounts    = [{ name = "keys", mountPath = "/secrets", readOnly = true }]
            }]
            volumes = [{ name = "keys", secret = { secretName = var.secrets.keys } }]
          }
        }
      }
    }
  }

  port = local.is_own ? 8333 : try(var.destination.port, 443)

  manifests = merge(
    { for key, value in local.own : key => value if local.is_own },
    { for key, value in local.buckets : key => value if var.secrets.keys != "" },
  )
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
      error_message = "Without an endpoint SeaweedFS runs here: name its image in images.server."
    }
    precondition {
      condition     = !local.is_own || var.secrets.keys != ""
      error_message = "SeaweedFS knows keys, no roles: name the Secret with its keys in secrets.keys."
    }
  }
}
