output "namespace" {
  description = "Namespace of the jobs."
  value       = var.namespace
}

output "templates" {
  description = "Names of the WorkflowTemplates."
  value       = [for m in local.given : m.metadata.name if m.kind == "WorkflowTemplate"]
}

output "manifests" {
  description = "All that is applied."
  value       = local.manifests
}
