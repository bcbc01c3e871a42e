output "services" {
  description = "Names of the Knative Services, by function."
  value       = local.names
}

output "rights" {
  description = "ServiceAccounts of the functions that have to do with jobs, by what they may do."
  value       = { for role in distinct([for f in values(var.functions) : f.jobs if f.jobs != ""]) : role => [for name, f in var.functions : local.names[name] if f.jobs == role] }
}

output "manifests" {
  description = "All that is applied, by kind and function."
  value       = merge(local.accounts, local.policies, local.issuer, local.services)
}
