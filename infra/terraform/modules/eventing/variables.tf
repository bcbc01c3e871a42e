variable "namespace" {
  description = "Namespace of the broker and the functions; it exists."
  type        = string
  nullable    = false
}

variable "services" {
  description = "Names of the Knative Services, by function: the output of the module functions."
  type        = map(string)
  nullable    = false

  validation {
    condition     = contains(keys(var.services), "sweep")
    error_message = "There is no Service of sweep: it takes what could not be delivered, and does its rounds by the timer."
  }
}

variable "broker" {
  description = "Name of the Broker, its class, and the ConfigMap that configures it (null: the cluster's default)."
  type = object({
    name   = optional(string, "polyshare")
    class  = optional(string, "MTChannelBasedBroker")
    config = optional(object({ name = string, namespace = string }))
  })
  default  = {}
  nullable = false
}

variable "delivery" {
  description = "How often an event is tried again, after how long (ISO 8601), and how long one try may take; then sweep has it."
  type = object({
    retry         = optional(number, 5)
    backoff       = optional(string, "exponential")
    backoff_delay = optional(string, "PT0.5S")
    timeout       = optional(string, "PT120S")
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains(["linear", "exponential"], var.delivery.backoff)
    error_message = "Backoff is \"linear\" or \"exponential\"."
  }
  validation {
    condition     = var.delivery.retry >= 0 && var.delivery.retry <= 20
    error_message = "An event is tried again 0 to 20 times."
  }
  validation {
    condition     = alltrue([for d in [var.delivery.backoff_delay, var.delivery.timeout] : can(regex("^PT[0-9.]+[SM]$", d))])
    error_message = "A duration is written like PT0.5S or PT2M."
  }
}

variable "sweep_schedule" {
  description = "When sweep does its rounds, in cron's fields, seconds first where there are six."
  type        = string
  default     = "*/30 * * * * *"
  nullable    = false

  validation {
    condition     = can(regex("^(\\S+ ){4,5}\\S+$", var.sweep_schedule))
    error_message = "A schedule is five or six fields of cron, like \"*/30 * * * * *\" for every 30 seconds."
  }
}
