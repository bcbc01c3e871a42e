output "rpc" {
  description = "The setting ledger_rpc: all nodes, separated by commas."
  value       = local.rpc
}

output "destination" {
  description = "What NetworkPolicies let functions reach."
  value       = { namespace = var.namespace, labels = { app = "validator" }, cidr = null, ports = [8545] }
}

output "manifests" {
  description = "All that is applied."
  value       = local.manifests
}
