mock_provider "kubectl" {}

variables {
  namespace = "polyshare"
  services = {
    anchor = "anchor", run_job = "run-job", translate = "translate", register_dataset = "register-dataset", sweep = "sweep"
  }
}

run "each_route_is_a_trigger" {
  command = plan

  assert {
    condition     = length(kubectl_manifest.this) == length(flatten(values(local.routes))) + 2
    error_message = "There is not a trigger for each route, a broker and a timer."
  }
  assert {
    condition = alltrue([
      for name, pair in local.pairs : contains(local.routes[local.triggers["trigger/${name}"].spec.filter.attributes.type], pair.function)
    ])
    error_message = "A trigger is not one of the routing table's."
  }
  assert {
    condition     = length(distinct([for m in values(local.triggers) : m.metadata.name])) == length(local.triggers)
    error_message = "Two triggers have the same name."
  }
}

run "what_can_not_be_delivered_goes_to_sweep" {
  command = plan

  assert {
    condition = alltrue([
      for m in values(local.triggers) :
      m.spec.delivery.deadLetterSink.ref.name == "sweep" && m.spec.delivery.retry == 5 && m.spec.delivery.backoffPolicy == "exponential"
    ])
    error_message = "A trigger has no retries, or its dead letters do not go to sweep."
  }
  assert {
    condition     = local.timer.spec.sink.ref.name == "sweep"
    error_message = "The timer does not wake sweep."
  }
}

run "a_route_without_a_service_is_refused" {
  command = plan

  variables {
    services = { sweep = "sweep" }
  }

  expect_failures = [kubectl_manifest.this]
}

run "a_wrong_schedule_is_refused" {
  command = plan

  variables {
    sweep_schedule = "now then"
  }

  expect_failures = [var.sweep_schedule]
}

run "a_wrong_backoff_is_refused" {
  command = plan

  variables {
    delivery = { backoff = "random" }
  }

  expect_failures = [var.delivery]
}
