mock_provider "kubectl" {}

variables {
  images = {
    functions = "registry.example.org/functions@sha256:1111111111111111111111111111111111111111111111111111111111111111"
    ledger    = "registry.example.org/ledger@sha256:2222222222222222222222222222222222222222222222222222222222222222"
  }
  domain = "models.example.org"
  issuer = { url = "https://login.example.org" }
  trust_root = {
    chain_id    = 1337
    registry    = "0x1111111111111111111111111111111111111111"
    definitions = { "1" = "0x2222222222222222222222222222222222222222" }
  }
  ledger   = { rpc = "http://10.2.0.1:8545,http://10.2.0.2:8545", at = { cidr = "10.2.0.0/16" } }
  database = { url = "postgresql://polyshare@db.example.org/polyshare", at = { cidr = "10.1.0.0/16" } }
  store    = { endpoint = "https://s3.example.org", at = { cidr = "10.3.0.0/16" } }
  network  = { api = { cidr = "10.0.0.1/32" } }
}

run "all_is_wired_for_what_exists" {
  command = plan

  assert {
    condition     = output.url == "https://{function}.polyshare.models.example.org" && output.trust_root.chain_id == 1337
    error_message = "The URL template or the trust root is not what clients need."
  }
  assert {
    condition = (
      output.settings.functions_url == "http://{function}.polyshare.svc.cluster.local" &&
      output.settings.broker_url == "http://broker-ingress.knative-eventing.svc.cluster.local/polyshare/polyshare" &&
      output.settings.s3_endpoint == "https://s3.example.org" && output.settings.ledger_rpc == var.ledger.rpc
    )
    error_message = "The functions are told of other parts than those named."
  }
  assert {
    condition     = length(module.ledger) == 0
    error_message = "A ledger is run beside the one that exists."
  }
}

run "all_is_run_here" {
  command = plan

  variables {
    images = {
      functions = "registry.example.org/functions@sha256:1111111111111111111111111111111111111111111111111111111111111111"
      ledger    = "registry.example.org/ledger@sha256:2222222222222222222222222222222222222222222222222222222222222222"
      postgres  = "registry.example.org/postgres@sha256:3333333333333333333333333333333333333333333333333333333333333333"
      seaweedfs = "registry.example.org/seaweedfs@sha256:4444444444444444444444444444444444444444444444444444444444444444"
      validator = "registry.example.org/goquorum@sha256:5555555555555555555555555555555555555555555555555555555555555555"
    }
    database = {}
    store    = {}
    ledger = {
      own = {
        genesis = "{\"config\": {\"chainId\": 1337, \"qbft\": {}}}"
        nodes   = [for digit in ["1", "2", "3", "4"] : join("", [for i in range(128) : digit])]
        writers = ["0x1111111111111111111111111111111111111111"]
      }
    }
  }

  assert {
    condition     = length(split(",", output.settings.ledger_rpc)) == 4 && strcontains(output.settings.database, "@postgres.polyshare.svc/")
    error_message = "The functions are not told of the parts run here."
  }
}

run "an_inbox_in_another_cloud_is_reached_by_those_who_read_it" {
  command = plan

  variables {
    network = { api = { cidr = "10.0.0.1/32" }, inbox = { cidr = "203.0.113.0/24" } }
  }

  assert {
    condition = [
      for name, manifest in module.functions.manifests : name if strcontains(yamlencode(manifest), "203.0.113.0/24")
    ] == ["policy/complete_job", "policy/register_dataset", "policy/sweep"]
    error_message = "Others than register_dataset, complete_job and sweep reach the inbox, or one of them doesn't."
  }
  assert {
    condition     = strcontains(jsonencode(module.workflows.manifests), "203.0.113.0/24")
    error_message = "The step that fetches what was dropped doesn't reach the inbox."
  }
}

run "one_namespace_for_functions_and_jobs_is_refused" {
  command = plan

  variables {
    namespaces = { functions = "polyshare", jobs = "polyshare" }
  }

  expect_failures = [var.namespaces]
}

run "no_ledger_is_refused" {
  command = plan

  variables {
    ledger = {}
  }

  expect_failures = [var.ledger]
}
