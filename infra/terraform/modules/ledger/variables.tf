variable "namespace" {
  description = "Namespace of the validators; it exists."
  type        = string
  nullable    = false
}

variable "client" {
  description = "Whose program the image has: \"goquorum\" or \"besu\"."
  type        = string
  default     = "goquorum"
  nullable    = false

  validation {
    condition     = contains(["goquorum", "besu"], var.client)
    error_message = "The client is \"goquorum\" or \"besu\"."
  }
}

variable "images" {
  description = "By digest: `validator` has the client and a shell; `deploy` is the ledger's functions' image."
  type = object({
    validator = string
    deploy    = string
  })
  nullable = false

  validation {
    condition     = alltrue([for image in values(var.images) : can(regex("@sha256:[0-9a-f]{64}$", image))])
    error_message = "An image is named by its digest (name@sha256:…)."
  }
}

variable "chain_id" {
  description = "Id of the chain, as in the genesis."
  type        = number
  nullable    = false
}

variable "genesis" {
  description = "The genesis document, as JSON: QBFT, its validators those of `nodes`, no gas price."
  type        = string
  nullable    = false

  validation {
    condition     = can(jsondecode(var.genesis).config.chainId) && can(jsondecode(var.genesis).config.qbft)
    error_message = "The genesis is the JSON of a QBFT network, with config.chainId and config.qbft."
  }
}

variable "nodes" {
  description = "Public keys of the validators, in the order of their private ones in the Secret: 128 hexadecimal digits each."
  type        = list(string)
  nullable    = false

  validation {
    condition     = alltrue([for key in var.nodes : can(regex("^[0-9a-f]{128}$", key))])
    error_message = "A node's public key is 128 hexadecimal digits, in lower case."
  }
  validation {
    condition     = length(distinct(var.nodes)) == length(var.nodes) && length(var.nodes) >= 4
    error_message = "There are four validators at least, each with a key of its own: three can't lose one."
  }
}

variable "secrets" {
  description = "Secrets: `nodes` with nodekey-0, nodekey-1, …; `owner` with owner_key, which deploys the contracts."
  type = object({
    nodes = optional(string, "polyshare-ledger-nodes")
    owner = optional(string, "polyshare-ledger-owner")
  })
  default  = {}
  nullable = false
}

variable "writers" {
  description = "Accounts that may write to the registry: anchor's."
  type        = set(string)
  nullable    = false

  validation {
    condition     = alltrue([for account in var.writers : can(regex("^0x[0-9a-fA-F]{40}$", account))])
    error_message = "An account is 0x and 40 hexadecimal digits."
  }
}

variable "storage" {
  description = "Size and class of each validator's volume; class null is the cluster's default."
  type = object({
    size  = optional(string, "50Gi")
    class = optional(string)
  })
  default  = {}
  nullable = false
}

variable "callers" {
  description = "Names of the functions' Knative Services that ask the nodes."
  type        = set(string)
  default     = ["anchor", "prove", "mlaas"]
  nullable    = false
}

variable "chown_volume" {
  description = "Whether an init container gives the volume to the node's user first: for volumes that ignore fsGroup, like hostPath."
  type        = bool
  default     = false
  nullable    = false
}
