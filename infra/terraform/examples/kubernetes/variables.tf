variable "kubeconfig" {
  description = "Path of the cluster's kubeconfig; its current context is used."
  type        = string

  validation {
    condition     = fileexists(pathexpand(var.kubeconfig))
    error_message = "There is no file at that path: give the kubeconfig of a cluster with Knative Serving, Knative Eventing and Argo Workflows."
  }
}

variable "images" {
  description = "Images by digest: see the module polyshare."
  type = object({
    functions = string
    ledger    = string
    postgres  = string
    seaweedfs = string
    validator = string
  })
}

variable "domain" {
  description = "Domain that Knative Serving gives its services (ConfigMap config-domain)."
  type        = string
}

variable "scheme" {
  description = "\"https\", or \"http\" where the ingress has no certificate."
  type        = string
  default     = "https"
}

variable "store_url" {
  description = "URL by which clients reach the store: what presigned URLs are signed for."
  type        = string
}

variable "network" {
  description = "How NetworkPolicies know the cluster: see the module polyshare."
  type = object({
    callers   = optional(set(string), ["knative-serving", "kourier-system"])
    api       = object({ cidr = string, port = optional(number, 6443) })
    store_via = optional(set(string), [])
    registry  = optional(object({ cidr = string, port = optional(number, 443) }), { cidr = "0.0.0.0/0" })
    inbox     = optional(object({ cidr = string, ports = optional(set(number), [443]) }))
  })
}

variable "trust_root" {
  description = "From make_secrets.py."
  type = object({
    chain_id    = number
    registry    = string
    definitions = map(string)
  })
}

variable "ledger" {
  description = "From make_secrets.py."
  type = object({
    own = object({ genesis = string, nodes = list(string), writers = set(string) })
  })
}

variable "issuer" {
  description = "From make_secrets.py, or your OIDC issuer's URL with jwks = null."
  type        = object({ url = string, jwks = optional(string) })
}

variable "storage" {
  description = "Sizes of the volumes, and their class (null: the cluster's default)."
  type = object({
    class    = optional(string)
    database = optional(string, "5Gi")
    store    = optional(string, "20Gi")
    ledger   = optional(string, "5Gi")
  })
  default = {}
}

variable "chown_volumes" {
  description = "Whether volumes are given to their servers' users by an init container: for classes that ignore fsGroup, like hostPath."
  type        = bool
  default     = false
}

variable "jobs" {
  description = "Values of the WorkflowTemplates' parameters besides the steps' image: see the module workflows."
  type        = object({ parameters = optional(map(string), {}) })
  default     = {}
}

variable "settings" {
  description = "More settings of the functions, by their names in polyshare/settings.py."
  type        = map(string)
  default     = {}
}

variable "service_account_annotations" {
  description = "Annotations of the functions' ServiceAccounts, by function: an identity in a cloud, for one."
  type        = map(map(string))
  default     = {}
}

variable "pods" {
  description = "What the pods of some functions have besides, by function: see the module functions."
  type = map(object({
    labels      = optional(map(string), {})
    environment = optional(map(string), {})
    secret      = optional(string)
  }))
  default = {}
}

variable "wait_seconds" {
  description = "How long an apply waits until every function is ready; 0 does not wait. It needs kubectl."
  type        = number
  default     = 600
}
