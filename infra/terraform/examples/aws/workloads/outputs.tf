output "url" {
  description = "URL template of the functions: what `polyshare login --url` takes."
  value       = module.polyshare.url
}

output "trust_root" {
  description = "The chain and its contracts, for clients to pin."
  value       = module.polyshare.trust_root
}
