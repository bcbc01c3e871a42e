variable "namespace" {
  description = "Namespace of the database and of the migration; it exists."
  type        = string
  nullable    = false
}

variable "url" {
  description = "SQLAlchemy URL of an existing PostgreSQL, without its password; null runs one here."
  type        = string
  default     = null

  validation {
    condition     = var.url == null || can(regex("^postgresql://[^/:@]+@[^/]+/[^/?]+", var.url))
    error_message = "The database's URL is postgresql://user@host/database, without the password: the Secret has it."
  }
}

variable "secret" {
  description = "Name of the Secret with the key `password`."
  type        = string
  default     = "polyshare-database"
  nullable    = false
}

variable "images" {
  description = "By digest: `migrate` is the functions' image, `server` has PostgreSQL (needed without a url)."
  type = object({
    migrate = string
    server  = optional(string)
  })
  nullable = false

  validation {
    condition     = alltrue([for image in values(var.images) : image == null || can(regex("@sha256:[0-9a-f]{64}$", image))])
    error_message = "An image is named by its digest (name@sha256:…)."
  }
}

variable "storage" {
  description = "Size and class of the server's volume (class null: the cluster's default), and memory of its caches."
  type = object({
    size           = optional(string, "20Gi")
    class          = optional(string)
    shared_buffers = optional(string, "128MB")
    connections    = optional(number, 200)
  })
  default  = {}
  nullable = false
}

variable "user_id" {
  description = "User and group as which the server runs; it owns the volume."
  type        = number
  default     = 999
  nullable    = false
}

variable "chown_volume" {
  description = "Whether an init container gives the volume to that user first: for volumes that ignore fsGroup, like hostPath."
  type        = bool
  default     = false
  nullable    = false
}

variable "destination" {
  description = "Where an existing database is, for the migration's NetworkPolicy: its addresses and port."
  type        = object({ cidr = string, port = optional(number, 5432) })
  default     = null
}
