variable "kubeconfig" {
  description = "Path of the cluster's kubeconfig: `aws eks update-kubeconfig --name … --kubeconfig …`."
  type        = string

  validation {
    condition     = fileexists(pathexpand(var.kubeconfig))
    error_message = "There is no file at that path: write it by `aws eks update-kubeconfig`."
  }
}

variable "cloud" {
  description = "Output `workloads` of ../cloud."
  type = object({
    region     = string
    database   = string
    buckets    = object({ blobs = string, journal = string, inbox = string })
    cidr       = string
    writer_key = string
    queue      = string
    roles      = object({ anchor = string, store = string, inbox = string })
    accounts   = object({ anchor = list(string), store = list(string) })
  })
}

variable "images" {
  description = "Images by digest, in the repositories of ../cloud."
  type        = object({ functions = string, ledger = string })
}

variable "domain" {
  description = "Domain that Knative Serving gives its services."
  type        = string
}

variable "issuer" {
  description = "URL of the OIDC issuer of users' tokens."
  type        = string
}

variable "ledger" {
  description = "URLs of the chain's nodes, separated by commas, and their addresses."
  type        = object({ rpc = string, cidr = string, port = optional(number, 8545) })
}

variable "trust_root" {
  description = "The chain and its contracts, as `polyshare ledger deploy` wrote them."
  type = object({
    chain_id    = number
    registry    = string
    definitions = map(string)
  })
}
