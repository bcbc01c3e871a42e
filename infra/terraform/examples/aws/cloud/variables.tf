variable "name" {
  description = "Prefix of all names; buckets are named by it, so it is yours alone in the world."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,30}$", var.name))
    error_message = "A name is 3 to 31 lower-case letters, digits and hyphens, the first a letter."
  }
}

variable "region" {
  description = "AWS region."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "A region is written like eu-central-1."
  }
}

variable "endpoint" {
  description = "URL of a local stand-in for AWS, in tests; empty is AWS."
  type        = string
  default     = ""
}

variable "cidr" {
  description = "Addresses of the network: a /16, cut in subnets of two zones."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrsubnet(var.cidr, 4, 3))
    error_message = "The network's addresses are written like 10.40.0.0/16."
  }
}

variable "namespaces" {
  description = "Kubernetes namespaces of the functions and of the jobs, as the workloads have them."
  type        = object({ functions = optional(string, "polyshare"), jobs = optional(string, "polyshare-jobs") })
  default     = {}
}

variable "cluster" {
  description = "Kubernetes' version, its nodes, and who may reach its API server over the internet."
  type = object({
    version      = optional(string, "1.34")
    instances    = optional(list(string), ["m7i.xlarge"])
    min          = optional(number, 3)
    max          = optional(number, 12)
    public_cidrs = optional(list(string), [])
  })
  default = {}

  validation {
    condition     = !contains(var.cluster.public_cidrs, "0.0.0.0/0")
    error_message = "The API server is not for all the internet: name the addresses of those who run it."
  }
}

variable "database" {
  description = "The PostgreSQL server: version, instance, storage in GiB, in two zones or one."
  type = object({
    version  = optional(string, "17.5")
    instance = optional(string, "db.m7g.large")
    storage  = optional(number, 100)
    zones    = optional(number, 2)
  })
  default = {}

  validation {
    condition     = contains([1, 2], var.database.zones)
    error_message = "The database is in one zone or in two."
  }
}

variable "retention_days" {
  description = "Days that Object Lock keeps blobs at least (governance mode; null: none, so that `erase` works at once), and that old versions are kept."
  type        = object({ blobs = optional(number), old_versions = optional(number, 30) })
  default     = {}

  validation {
    condition     = coalesce(var.retention_days.blobs, 1) >= 1 && var.retention_days.old_versions >= 1
    error_message = "A retention is a day at least."
  }
}

variable "origins" {
  description = "Origins of web pages that may up- and download straight from the store."
  type        = list(string)
  default     = []
}

variable "is_kept" {
  description = "Whether buckets with objects in them, and the database, are protected from being destroyed."
  type        = bool
  default     = true
}
