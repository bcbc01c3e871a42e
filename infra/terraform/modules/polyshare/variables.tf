variable "namespaces" {
  description = "Namespaces of the functions and of the jobs, made here. Two, since whoever starts jobs may write Secrets there."
  type = object({
    functions = optional(string, "polyshare")
    jobs      = optional(string, "polyshare-jobs")
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.namespaces.functions != var.namespaces.jobs
    error_message = "The functions and the jobs have a namespace each: whoever starts jobs may write Secrets there."
  }
}

variable "create_namespaces" {
  description = "Whether the namespaces are made here; false where they are there already, with the Secrets in them."
  type        = bool
  default     = true
  nullable    = false
}

variable "images" {
  description = "Images by digest. The last three are needed for what is run here: PostgreSQL, SeaweedFS, a QBFT node."
  type = object({
    functions = string
    ledger    = string
    postgres  = optional(string)
    seaweedfs = optional(string)
    validator = optional(string)
  })
  nullable = false
}

variable "domain" {
  description = "Domain of the functions, as Knative Serving gives it: a function is at <function>.<namespace>.<domain>."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9.-]+$", var.domain))
    error_message = "A domain is lower-case letters, digits, points and hyphens, like models.example.org."
  }
}

variable "scheme" {
  description = "\"https\", or \"http\" where the ingress has no certificate."
  type        = string
  default     = "https"
  nullable    = false

  validation {
    condition     = contains(["http", "https"], var.scheme)
    error_message = "The scheme is \"https\" or \"http\"."
  }
}

variable "issuer" {
  description = "The OIDC issuer of users' tokens; its public keys as JSON, where functions can't ask it for them; else its addresses."
  type = object({
    url  = string
    jwks = optional(string)
    cidr = optional(string, "0.0.0.0/0")
  })
  nullable = false

  validation {
    condition     = can(regex("^https?://", var.issuer.url))
    error_message = "The issuer is an http(s) URL."
  }
}

variable "trust_root" {
  description = "The chain and its contracts: what `polyshare ledger deploy` prints, or what infra/terraform/make_secrets.py foretells."
  type = object({
    chain_id    = number
    registry    = string
    definitions = map(string)
  })
  nullable = false
}

variable "ledger" {
  description = "An existing chain (`rpc`: URLs separated by commas, and its addresses), or a network of validators run here."
  type = object({
    rpc = optional(string)
    at  = optional(object({ cidr = string, port = optional(number, 8545) }))
    own = optional(object({
      client  = optional(string, "goquorum")
      genesis = string
      nodes   = list(string)
      writers = set(string)
      storage = optional(object({ size = optional(string, "50Gi"), class = optional(string) }), {})
    }))
  })
  nullable = false

  validation {
    condition     = (var.ledger.rpc == null) != (var.ledger.own == null)
    error_message = "Either name an existing chain (rpc), or have one run here (own)."
  }
}

variable "database" {
  description = "An existing PostgreSQL (`url` without its password, and its addresses), or one run here with this storage."
  type = object({
    url = optional(string)
    at  = optional(object({ cidr = string, port = optional(number, 5432) }))
    storage = optional(object({
      size = optional(string, "20Gi"), class = optional(string), shared_buffers = optional(string, "128MB"), connections = optional(number, 200)
    }), {})
  })
  default  = {}
  nullable = false
}

variable "store" {
  description = "An existing S3 (`endpoint`, and its addresses), or SeaweedFS run here; `public_endpoint` is what clients are sent to. `by_role`: no key; the ServiceAccounts have a role, and the buckets are there."
  type = object({
    endpoint        = optional(string)
    by_role         = optional(bool, false)
    public_endpoint = optional(string, "")
    region          = optional(string, "us-east-1")
    buckets         = optional(object({ blobs = optional(string, "polyshare-blobs"), journal = optional(string, "polyshare-journal"), inbox = optional(string, "polyshare-inbox") }), {})
    at              = optional(object({ cidr = string, port = optional(number, 443) }))
    storage         = optional(object({ size = optional(string, "100Gi"), class = optional(string) }), {})
  })
  default  = {}
  nullable = false
}

variable "network" {
  description = <<-EOT
    How NetworkPolicies know the cluster: namespaces of Knative Serving and its ingress (`callers`), the API server's
    addresses as pods' packets have them behind the Service, the namespace of the ingress by which the store is reached,
    the addresses of the KMS that keeps the ledger's key, where one does, of the registry that images' tags are asked of, and
    of another cloud that has the inbox (setting `inbox_url`) with what gives credentials for it.
  EOT
  type = object({
    callers   = optional(set(string), ["knative-serving", "kourier-system"])
    api       = object({ cidr = string, port = optional(number, 6443) })
    store_via = optional(set(string), [])
    keys      = optional(object({ cidr = string, port = optional(number, 443) }))
    inbox     = optional(object({ cidr = string, ports = optional(set(number), [443]) }))
    registry  = optional(object({ cidr = string, port = optional(number, 443) }), { cidr = "0.0.0.0/0" })
  })
  nullable = false

  validation {
    condition     = can(cidrhost(var.network.api.cidr, 0))
    error_message = "The API server's addresses are written like 10.0.0.1/32."
  }
}

variable "jobs" {
  description = "Values of the WorkflowTemplates' parameters besides the steps' own image, and limits of all jobs together."
  type = object({
    parameters = optional(map(string), {})
    quota      = optional(map(string), { "count/workflows.argoproj.io" = "5000", "pods" = "500", "persistentvolumeclaims" = "200" })
  })
  default  = {}
  nullable = false
}

variable "settings" {
  description = "More settings of the functions, by their names in polyshare/settings.py."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "scale" {
  description = "Other scales for some functions, by their names."
  type        = map(object({ min = optional(number), max = optional(number) }))
  default     = {}
  nullable    = false
}

variable "sweep_schedule" {
  description = "When sweep does its rounds: cron's fields, seconds first where there are six."
  type        = string
  default     = "*/30 * * * * *"
  nullable    = false
}

variable "service_account_annotations" {
  description = "Annotations of the functions' ServiceAccounts, by function: an IAM role, for one."
  type        = map(map(string))
  default     = {}
  nullable    = false
}

variable "pods" {
  description = "What the pods of some functions have besides, by function: see the module functions."
  type = map(object({
    labels      = optional(map(string), {})
    environment = optional(map(string), {})
    secret      = optional(string)
  }))
  default  = {}
  nullable = false
}

variable "chown_volumes" {
  description = "Whether volumes are given to their servers' users by an init container: for volumes that ignore fsGroup, like hostPath."
  type        = bool
  default     = false
  nullable    = false
}
