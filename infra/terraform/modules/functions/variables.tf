variable "namespace" {
  description = "Namespace in which the functions run; it exists."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "A namespace is lower-case letters, digits and hyphens, at most 63 of them."
  }
}

variable "images" {
  description = "The two images, by digest: `functions` has everything but the ledger's library, `ledger` is for anchor and prove."
  type = object({
    functions = string
    ledger    = string
  })
  nullable = false

  validation {
    condition     = alltrue([for image in values(var.images) : can(regex("@sha256:[0-9a-f]{64}$", image))])
    error_message = "An image is named by its digest (name@sha256:…), so that what was planned is what runs."
  }
}

variable "functions" {
  description = <<-EOT
    Every function, by the name that FUNCTION_TARGET takes. `public` ones are reached through the ingress; the others
    from inside the cluster only. `reaches` names what its NetworkPolicy lets it reach, of `destinations`; `secrets` what
    is mounted in it, of `secrets`. `jobs` is what it may do with jobs (a role in infra/workflows: "runner" starts them,
    "queue" looks at them); without, it has no token of Kubernetes.
  EOT
  type = map(object({
    image       = optional(string, "functions")
    public      = optional(bool, true)
    reaches     = set(string)
    secrets     = optional(set(string), ["events", "store", "database"])
    jobs        = optional(string, "")
    min_scale   = optional(number, 0)
    max_scale   = optional(number, 10)
    concurrency = optional(number, 32) # requests at once in one instance; it has 32 threads
    seconds     = optional(number, 120)
    cpu         = optional(string, "50m")
    memory      = optional(string, "512Mi")
  }))
  nullable = false

  default = {
    register_dataset = { reaches = ["broker", "database", "store", "issuer", "inbox"] }
    register_model   = { reaches = ["broker", "database", "store", "issuer", "registry"] }
    query_status     = { reaches = ["database", "issuer", "kubernetes"], secrets = ["database"], jobs = "queue", concurrency = 100 }
    fetch_asset      = { reaches = ["broker", "database", "store", "issuer"] }
    translate        = { reaches = ["broker", "database", "store", "issuer"] }
    govern           = { reaches = ["broker", "database", "store", "issuer"] }
    catalogue        = { reaches = ["database", "issuer"], secrets = ["database"] }
    mlaas            = { reaches = ["broker", "database", "store", "issuer", "ledger", "registry"], seconds = 600 }
    prove            = { reaches = ["database", "issuer", "ledger"], secrets = ["database"], image = "ledger" }
    complete_job     = { reaches = ["broker", "database", "store", "inbox"], public = false }
    run_job = {
      reaches = ["broker", "database", "store", "kubernetes"], public = false, jobs = "runner", max_scale = 4
    }
    # One signer: it holds a lease, so a second instance would only wait for it. Events wake it, all at once.
    anchor = {
      reaches = ["broker", "database", "ledger", "keys"], secrets = ["events", "database", "ledger"], image = "ledger"
      public  = false, min_scale = 1, max_scale = 1, concurrency = 500
    }
    # One round at a time, whoever asks for it.
    sweep = {
      reaches   = ["broker", "database", "store", "kubernetes", "inbox"], public = false, jobs = "runner"
      max_scale = 1, concurrency = 1, seconds = 600
    }
  }

  validation {
    condition     = alltrue([for name in keys(var.functions) : can(regex("^[a-z][a-z_]{0,40}$", name))])
    error_message = "A function is named by lower-case letters and underscores."
  }
  validation {
    condition     = alltrue([for f in values(var.functions) : contains(["functions", "ledger"], f.image)])
    error_message = "A function's image is \"functions\" or \"ledger\"."
  }
  validation {
    condition = alltrue([
      for f in values(var.functions) : length(setsubtract(f.secrets, ["events", "store", "database", "ledger"])) == 0
    ])
    error_message = "A function's secrets are of \"events\", \"store\", \"database\" and \"ledger\"."
  }
  validation {
    condition     = alltrue([for f in values(var.functions) : contains(["", "runner", "queue"], f.jobs)])
    error_message = "What a function may do with jobs is \"runner\", \"queue\" or nothing."
  }
  validation {
    condition     = alltrue([for name, f in var.functions : name == "anchor" || !contains(f.secrets, "ledger")])
    error_message = "Only anchor may have the ledger's key."
  }
  validation {
    condition = alltrue([
      for f in values(var.functions) :
      f.min_scale >= 0 && f.max_scale >= max(1, f.min_scale) && f.concurrency >= 1 && f.concurrency <= 1000 &&
      f.seconds >= 1 && f.seconds <= 600
    ])
    error_message = "A function's min_scale is at most its max_scale, its concurrency 1 to 1000, its seconds 1 to 600."
  }
}

variable "scale" {
  description = "Other scales for some functions than those of `functions`, by their names."
  type        = map(object({ min = optional(number), max = optional(number) }))
  default     = {}
  nullable    = false
}

variable "settings" {
  description = "Settings by their names in polyshare/settings.py (each becomes POLYSHARE_<NAME>). No secret is one: a setting names a file."
  type        = map(string)
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^[a-z0-9_]+$", name))])
    error_message = "A setting is named as in polyshare/settings.py, in lower case."
  }
  validation {
    condition     = length([for name in keys(var.settings) : name if endswith(name, "_file")]) == 0
    error_message = "Files are mounted by this module: name their Secrets in `secrets` instead."
  }
  validation {
    condition     = !can(regex("://[^/@]*:[^/@]*@", lookup(var.settings, "database", "")))
    error_message = "The database's URL has no password in it: it comes from the Secret `database`."
  }
}

variable "trust_root" {
  description = "The chain and its contracts, as `polyshare ledger deploy` prints them."
  type = object({
    chain_id    = number
    registry    = string
    definitions = map(string)
  })
  nullable = false

  validation {
    condition = alltrue([
      for address in concat([var.trust_root.registry], values(var.trust_root.definitions)) :
      can(regex("^0x[0-9a-fA-F]{40}$", address))
    ])
    error_message = "An address in the trust root is 0x and 40 hexadecimal digits."
  }
}

variable "secrets" {
  description = <<-EOT
    Names of Secrets in the namespace, made outside of Terraform so that nothing of them is in its state, with their keys:
    `events` token; `store` access_key, secret_key ("": functions reach the store by a role of their ServiceAccounts);
    `database` password; `ledger` writer_key.
  EOT
  type = object({
    events   = optional(string, "polyshare-events")
    store    = optional(string, "polyshare-store")
    database = optional(string, "polyshare-database")
    ledger   = optional(string, "polyshare-ledger-writer")
  })
  default  = {}
  nullable = false
}

variable "jwks" {
  description = "The token issuer's public keys, as JSON; null asks the issuer's discovery document for them."
  type        = string
  default     = null

  validation {
    condition     = var.jwks == null || can(jsondecode(var.jwks).keys)
    error_message = "The keys are a JSON Web Key Set: {\"keys\": […]}."
  }
  validation {
    condition     = var.jwks == null || !can(regex("\"d\"\\s*:", var.jwks))
    error_message = "There is a private key in the key set: give the public part only."
  }
}

variable "callers" {
  description = "Namespaces whose pods hand requests to the functions: Knative Serving's (activator, autoscaler) and its ingress's."
  type        = set(string)
  default     = ["knative-serving", "kourier-system"]
  nullable    = false
}

variable "destinations" {
  description = <<-EOT
    What functions may reach, by the names that `reaches` takes (dns is for all): pods of a namespace with labels, or
    addresses. A destination that is not here is closed.
  EOT
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
  validation {
    condition     = alltrue([for d in values(var.destinations) : d.cidr == null || can(cidrhost(d.cidr, 0))])
    error_message = "A destination's addresses are written like 10.0.0.0/16."
  }
}

variable "service_account_annotations" {
  description = "Annotations of the functions' ServiceAccounts, by function: an IAM role, for one."
  type        = map(map(string))
  default     = {}
  nullable    = false
}

variable "pods" {
  description = <<-EOT
    What the pods of some functions have besides, by function: labels (Azure's workload identity asks for one), environment
    variables of libraries, and the name of a Secret whose keys are more of them.
  EOT
  type = map(object({
    labels      = optional(map(string), {})
    environment = optional(map(string), {})
    secret      = optional(string)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = length(setsubtract(keys(var.pods), keys(var.functions))) == 0
    error_message = "There is no function ${join(" or ", setsubtract(keys(var.pods), keys(var.functions)))}."
  }
  validation {
    condition = alltrue(flatten([
      for pod in values(var.pods) : [for name in keys(pod.environment) : can(regex("^[A-Z_][A-Z0-9_]*$", name)) && !startswith(name, "POLYSHARE_")]
    ]))
    error_message = "An environment variable is upper-case letters, digits and underscores; those of POLYSHARE_ are given as `settings`."
  }
}
