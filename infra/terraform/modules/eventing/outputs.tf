output "broker_url" {
  description = "Where functions post their events: the setting broker_url."
  value       = "http://broker-ingress.knative-eventing.svc.cluster.local/${var.namespace}/${var.broker.name}"
}

output "manifests" {
  description = "All that is applied."
  value       = local.manifests
}
