mock_provider "kubectl" {}

variables {
  namespace = "polyshare"
  images = {
    validator = "registry.example.org/goquorum@sha256:1111111111111111111111111111111111111111111111111111111111111111"
    deploy    = "registry.example.org/ledger@sha256:2222222222222222222222222222222222222222222222222222222222222222"
  }
  chain_id = 1337
  genesis  = "{\"config\": {\"chainId\": 1337, \"qbft\": {}}}"
  nodes    = [for digit in ["1", "2", "3", "4"] : join("", [for i in range(128) : digit])]
  writers  = ["0x1111111111111111111111111111111111111111"]
}

run "each_validator_has_an_address_that_outlives_its_pod" {
  command = plan

  assert {
    condition     = output.rpc == join(",", [for i in range(4) : "http://validator-${i}.polyshare.svc:8545"])
    error_message = "Not every validator answers by a name of its own."
  }
  assert {
    condition = alltrue([
      for i in range(4) : strcontains(output.manifests["config"].data["permissioned-nodes.json"], "@validator-${i}.polyshare.svc:30303")
    ])
    error_message = "Not every validator may be a peer."
  }
  assert {
    condition     = output.manifests["validators"].spec.replicas == 4 && output.manifests["budget"].spec.maxUnavailable == 1
    error_message = "More than one of four validators may be taken away at once."
  }
}

run "only_those_who_read_and_write_it_reach_the_ledger" {
  command = plan

  assert {
    condition = toset([
      for from in output.manifests["policy/validators"].spec.ingress[1].from : values(from.podSelector.matchLabels)[0]
    ]) == toset(["ledger-deploy", "anchor", "prove", "mlaas"])
    error_message = "Others reach the nodes."
  }
  assert {
    condition     = !strcontains(jsonencode(output.manifests), "admin,") && strcontains(output.manifests["config"].data["start.sh"], "--permissioned")
    error_message = "A node can be administered over the network, or takes any peer."
  }
}

run "besu_is_started_its_own_way" {
  command = plan

  variables {
    client = "besu"
  }

  assert {
    condition     = strcontains(output.manifests["config"].data["start.sh"], "--min-gas-price=0")
    error_message = "Besu is not started for free gas."
  }
}

run "three_validators_are_refused" {
  command = plan

  variables {
    nodes = [for digit in ["1", "2", "3"] : join("", [for i in range(128) : digit])]
  }

  expect_failures = [var.nodes]
}

run "a_genesis_of_another_chain_is_refused" {
  command = plan

  variables {
    chain_id = 7
  }

  expect_failures = [kubectl_manifest.this]
}
