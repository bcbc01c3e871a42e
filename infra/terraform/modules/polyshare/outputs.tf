output "url" {
  description = "URL template of the functions: what `polyshare login --url` takes."
  value       = local.url
}

output "trust_root" {
  description = "The chain and its contracts, for clients to pin."
  value       = var.trust_root
}

output "settings" {
  description = "The settings of the functions, without any secret."
  value       = local.settings
}

output "services" {
  description = "Names of the Knative Services, by function."
  value       = module.functions.services
}

output "namespaces" {
  description = "Namespaces of the functions and of the jobs."
  value       = var.namespaces
}
