variable "namespace" {
  description = "Namespace of the store and of what makes its buckets; it exists."
  type        = string
  nullable    = false
}

variable "endpoint" {
  description = "URL of an existing S3, as functions and jobs reach it; null runs SeaweedFS here."
  type        = string
  default     = null

  validation {
    condition     = var.endpoint == null || can(regex("^https?://[^/]+$", var.endpoint))
    error_message = "An endpoint is http(s)://host[:port], without a path."
  }
}

variable "region" {
  description = "The store's region."
  type        = string
  default     = "us-east-1"
  nullable    = false
}

variable "buckets" {
  description = "Names of the three buckets. Of an existing store they may be there already."
  type = object({
    blobs   = optional(string, "polyshare-blobs")
    journal = optional(string, "polyshare-journal")
    inbox   = optional(string, "polyshare-inbox")
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in values(var.buckets) : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", name))])
    error_message = "A bucket's name is 3 to 63 lower-case letters, digits, points and hyphens."
  }
  validation {
    condition     = length(distinct(values(var.buckets))) == 3
    error_message = "The three buckets have names of their own."
  }
}

variable "secrets" {
  description = "Secrets: `keys` with access_key and secret_key (\"\": the buckets of an existing store are not made here); `server` with SeaweedFS's s3.json and iam.json (and notification.toml)."
  type = object({
    keys   = optional(string, "polyshare-store")
    server = optional(string, "polyshare-store-server")
  })
  default  = {}
  nullable = false
}

variable "images" {
  description = "By digest: `buckets` is the functions' image, `server` has SeaweedFS's weed (needed without an endpoint)."
  type = object({
    buckets = string
    server  = optional(string)
  })
  nullable = false

  validation {
    condition     = alltrue([for image in values(var.images) : image == null || can(regex("@sha256:[0-9a-f]{64}$", image))])
    error_message = "An image is named by its digest (name@sha256:…)."
  }
}

variable "storage" {
  description = "Size and class of the server's volume; class null is the cluster's default."
  type = object({
    size  = optional(string, "100Gi")
    class = optional(string)
  })
  default  = {}
  nullable = false
}

variable "callers" {
  description = "Namespaces whose pods may reach the server: the jobs', and that of an ingress by which clients come."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "notifies" {
  description = "Namespaces by which the server's notifications reach register_dataset: Knative Serving's and its ingress's. None: sweep finds what is in the inbox."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "chown_volume" {
  description = "Whether an init container gives the volume to the server's user first: for volumes that ignore fsGroup, like hostPath."
  type        = bool
  default     = false
  nullable    = false
}

variable "destination" {
  description = "Where an existing store is, for the NetworkPolicy of what makes its buckets: its addresses and port."
  type        = object({ cidr = string, port = optional(number, 443) })
  default     = null
}
