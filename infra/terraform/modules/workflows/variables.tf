variable "namespace" {
  description = "Namespace of the jobs; it exists. One of its own: whoever starts jobs may write Secrets there."
  type        = string
  nullable    = false
}

variable "templates" {
  description = "Folder with the WorkflowTemplates and what belongs to them; null takes this repository's infra/workflows."
  type        = string
  default     = null
}

variable "parameters" {
  description = "Values of the templates' parameters, by name: `image` is that of the jobs' own steps, by digest."
  type        = map(string)
  nullable    = false

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.parameters["image"]))
    error_message = "The parameter image is named by its digest (name@sha256:…)."
  }
}

variable "functions" {
  description = "Namespace of the functions, and the ServiceAccounts of those that have a role polyshare-<name> of infra/workflows, by its name."
  type        = object({ namespace = string, rights = map(set(string)) })
  nullable    = false
}

variable "destinations" {
  description = "What a job's own steps may reach, by a name of it: the store, the functions' ingress, the API server, DNS. A run reaches nothing."
  type = map(object({
    namespace = optional(string)
    labels    = optional(map(string), {})
    cidr      = optional(string)
    ports     = set(number)
  }))
  nullable = false

  validation {
    condition     = alltrue([for d in values(var.destinations) : (d.namespace == null) != (d.cidr == null)])
    error_message = "A destination is either pods of a namespace, or addresses (cidr)."
  }
}

variable "quota" {
  description = "What all jobs together may ask for (ResourceQuota's names), and what a container gets that asks for nothing."
  type = object({
    hard            = optional(map(string), { "count/workflows.argoproj.io" = "5000", "pods" = "500", "persistentvolumeclaims" = "200" })
    default_request = optional(map(string), { cpu = "100m", memory = "128Mi" })
    default_limit   = optional(map(string), { memory = "2Gi" })
  })
  default  = {}
  nullable = false
}

variable "chown_volume" {
  description = "Whether an init container gives a job's volume to its steps' user first: for volumes that ignore fsGroup, like hostPath."
  type        = bool
  default     = false
  nullable    = false
}
