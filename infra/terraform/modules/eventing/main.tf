locals {
  labels = { "app.kubernetes.io/part-of" = "polyshare" }

  # Derived from the routing table in shared/polyshare/events.py by `make routes`: event → functions that take it.
  routes = jsondecode(file("${path.module}/routes.json"))

  pairs = merge([
    for kind, functions in local.routes : {
      for function in functions :
      "${trimprefix(replace(kind, ".", "-"), "polyshare-")}-${replace(function, "_", "-")}" => { kind = kind, function = function }
    }
  ]...)

  broker = {
    apiVersion = "eventing.knative.dev/v1"
    kind       = "Broker"
    metadata = {
      name        = var.broker.name
      namespace   = var.namespace
      labels      = local.labels
      annotations = { "eventing.knative.dev/broker.class" = var.broker.class }
    }
    spec = merge(
      { delivery = local.delivery },
      var.broker.config == null ? {} : { config = merge({ apiVersion = "v1", kind = "ConfigMap" }, var.broker.config) },
    )
  }

  # What is undeliverable, sweep sends again later; a dead letter of sweep's own is only a round that was not done.
  delivery = {
    retry          = var.delivery.retry
    backoffPolicy  = var.delivery.backoff
    backoffDelay   = var.delivery.backoff_delay
    timeout        = var.delivery.timeout
    deadLetterSink = { ref = local.service["sweep"] }
  }

  service = {
    for function, name in var.services : function => {
      apiVersion = "serving.knative.dev/v1"
      kind       = "Service"
      name       = name
      namespace  = var.namespace
    }
  }

  triggers = {
    for name, pair in local.pairs : "trigger/${name}" => {
      apiVersion = "eventing.knative.dev/v1"
      kind       = "Trigger"
      metadata   = { name = name, namespace = var.namespace, labels = local.labels }
      spec = {
        broker     = var.broker.name
        filter     = { attributes = { type = pair.kind } }
        subscriber = { ref = try(local.service[pair.function], {}) }
        delivery   = local.delivery
      }
    }
  }

  timer = {
    apiVersion = "sources.knative.dev/v1"
    kind       = "PingSource"
    metadata   = { name = "sweep", namespace = var.namespace, labels = local.labels }
    spec = {
      schedule    = var.sweep_schedule
      contentType = "application/json"
      data        = "{}"
      sink        = { ref = local.service["sweep"] }
    }
  }

  manifests = merge({ "broker" = local.broker, "timer" = local.timer }, local.triggers)
}

resource "kubectl_manifest" "this" {
  for_each = local.manifests

  yaml_body         = yamlencode(each.value)
  server_side_apply = true
  force_conflicts   = true

  lifecycle {
    precondition {
      condition     = length(setsubtract(flatten(values(local.routes)), keys(var.services))) == 0
      error_message = "The routing table names functions without a Service: ${join(", ", setsubtract(flatten(values(local.routes)), keys(var.services)))}."
    }
  }
}
