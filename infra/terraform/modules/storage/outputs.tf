output "settings" {
  description = "The settings of the store, by name."
  value = merge({
    s3_endpoint    = local.endpoint
    s3_region      = var.region
    bucket_blobs   = var.buckets.blobs
    bucket_journal = var.buckets.journal
    bucket_inbox   = var.buckets.inbox
    }, local.is_own ? {
    inbox_role   = "arn:aws:iam::000000000000:role/inbox" # of iam.json
    sts_endpoint = local.endpoint
  } : {})
}

output "destination" {
  description = "What NetworkPolicies let functions and jobs reach."
  value = {
    namespace = local.is_own ? var.namespace : null
    labels    = local.is_own ? { app = "store" } : {}
    cidr      = local.is_own ? null : try(var.destination.cidr, "0.0.0.0/0")
    ports     = [local.port]
  }
}

output "manifests" {
  description = "All that is applied."
  value       = local.manifests
}
