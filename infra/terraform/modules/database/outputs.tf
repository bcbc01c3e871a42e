output "url" {
  description = "The setting database: without its password."
  value       = local.url
}

output "destination" {
  description = "What NetworkPolicies let functions reach."
  value = {
    namespace = local.is_own ? var.namespace : null
    labels    = local.is_own ? { app = "postgres" } : {}
    cidr      = local.is_own ? null : try(var.destination.cidr, "0.0.0.0/0")
    ports     = [try(var.destination.port, 5432)]
  }
}

output "migration" {
  description = "Name of the Job that migrates the database."
  value       = local.migration
}

output "manifests" {
  description = "All that is applied."
  value       = local.manifests
}
