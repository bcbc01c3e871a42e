# polyshare on the cluster of ../cloud: its objects in S3, its state in RDS, its ledger's writer in KMS; each by the roles of its functions.

provider "kubectl" {
  config_path       = pathexpand(var.kubeconfig)
  apply_retry_count = 5
}

module "polyshare" {
  source = "../../../modules/polyshare"

  images     = var.images
  domain     = var.domain
  issuer     = { url = var.issuer }
  trust_root = var.trust_root
  database   = { url = var.cloud.database, at = { cidr = var.cloud.cidr } }
  ledger     = { rpc = var.ledger.rpc, at = { cidr = var.ledger.cidr, port = var.ledger.port } }
  network    = { api = { cidr = var.cloud.cidr, port = 443 }, keys = { cidr = "0.0.0.0/0" } }
  settings   = { ledger_kms_key = var.cloud.writer_key, inbox_role = var.cloud.roles.inbox }

  store = {
    endpoint = "https://s3.${var.cloud.region}.amazonaws.com"
    by_role  = true
    region   = var.cloud.region
    buckets  = var.cloud.buckets
    at       = { cidr = "0.0.0.0/0" }
  }

  service_account_annotations = merge([for role, accounts in var.cloud.accounts : {
    for account in accounts : replace(account, "-", "_") => { "eks.amazonaws.com/role-arn" = var.cloud.roles[role] }
  }]...)
}

# What is dropped in the inbox: the queue's messages wake sweep, which lists it. Needs Knative Eventing 1.17 or newer. In a
# namespace of its own, whose Secret `polyshare-inbox` has the keys aws.accessKey and aws.secretKey.
locals {
  inbox = {
    namespace = {
      apiVersion = "v1"
      kind       = "Namespace"
      metadata   = { name = "polyshare-inbox" }
    }
    source = {
      apiVersion = "sources.knative.dev/v1alpha1"
      kind       = "IntegrationSource"
      metadata   = { name = "inbox", namespace = "polyshare-inbox" }
      spec = {
        aws = {
          sqs  = { arn = var.cloud.queue, region = var.cloud.region, autoCreateQueue = false }
          auth = { secret = { ref = { name = "polyshare-inbox" } } }
        }
        sink = {
          ref = {
            apiVersion = "serving.knative.dev/v1"
            kind       = "Service"
            name       = module.polyshare.services["sweep"]
            namespace  = module.polyshare.namespaces.functions
          }
        }
      }
    }
  }
}

resource "kubectl_manifest" "inbox" {
  yaml_body         = yamlencode(local.inbox.namespace)
  server_side_apply = true
  force_conflicts   = true
}

resource "kubectl_manifest" "source" {
  yaml_body         = yamlencode(local.inbox.source)
  server_side_apply = true
  force_conflicts   = true

  depends_on = [kubectl_manifest.inbox, module.polyshare]
}
