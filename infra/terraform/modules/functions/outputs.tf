output "services" {
  description = "Names of the Knative Services, by function."
  value       = local.names
}

output "service_accounts" {
  description = "Names of the ServiceAccounts of the functions that call Kubernetes: those that start jobs and look after them."
  value       = [for name, f in var.functions : local.names[name] if f.calls_kubernetes]
}

output "manifests" {
  description = "All that is applied, by kind and function."
  value       = merge(local.accounts, local.policies, local.issuer, local.services)
}
