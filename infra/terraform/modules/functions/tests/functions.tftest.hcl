mock_provider "kubectl" {}

variables {
  namespace = "polyshare"
  images = {
    functions = "registry.example.org/functions@sha256:1111111111111111111111111111111111111111111111111111111111111111"
    ledger    = "registry.example.org/ledger@sha256:2222222222222222222222222222222222222222222222222222222222222222"
  }
  settings = {
    database      = "postgresql://polyshare@db.example.org/polyshare"
    functions_url = "http://{function}.polyshare.svc.cluster.local"
    ledger_rpc    = "http://a:8545,http://b:8545"
    runner        = "argo"
  }
  trust_root = {
    chain_id    = 1337
    registry    = "0x1111111111111111111111111111111111111111"
    definitions = { "1" = "0x2222222222222222222222222222222222222222" }
  }
  jwks = "{\"keys\": []}"
  destinations = {
    dns        = { namespace = "kube-system", ports = [53] }
    kubernetes = { cidr = "10.0.0.1/32", ports = [6443] }
    broker     = { namespace = "knative-eventing", labels = { role = "ingress" }, ports = [8080] }
    database   = { cidr = "10.1.0.0/16", ports = [5432] }
    store      = { cidr = "0.0.0.0/0", ports = [443] }
    ledger     = { namespace = "ledger", ports = [8545] }
  }
}

run "each_function_is_a_service_with_an_account_and_a_policy" {
  command = plan

  assert {
    condition     = length(kubectl_manifest.this) == 13 && length(kubectl_manifest.access) == 27
    error_message = "There are not 13 Services, 13 accounts, 13 policies and the issuer's keys."
  }
  assert {
    condition = alltrue([
      for name in keys(output.services) :
      output.manifests["service/${name}"].spec.template.spec.containers[0].env[0].value == name &&
      output.manifests["service/${name}"].metadata.name == replace(name, "_", "-") &&
      output.manifests["service/${name}"].spec.template.spec.serviceAccountName == output.manifests["account/${name}"].metadata.name
    ])
    error_message = "A Service is not named, targeted or accounted for as its function."
  }
}

run "the_ledgers_key_is_in_anchor_alone" {
  command = plan

  assert {
    condition = [
      for name in keys(output.services) : name
      if length([for v in output.manifests["service/${name}"].spec.template.spec.volumes : v if try(v.secret.secretName, "") == "polyshare-ledger-writer"]) > 0
    ] == ["anchor"]
    error_message = "The ledger's key is mounted elsewhere than in anchor."
  }
  assert {
    condition = [
      for name in keys(output.services) : name
      if contains([for e in output.manifests["service/${name}"].spec.template.spec.containers[0].env : e.name], "POLYSHARE_LEDGER_KEY_FILE")
    ] == ["anchor"]
    error_message = "The ledger's key is named elsewhere than in anchor."
  }
  assert {
    condition = [
      for name in keys(output.services) : name
      if startswith(output.manifests["service/${name}"].spec.template.spec.containers[0].image, "registry.example.org/ledger@")
    ] == ["anchor", "prove"]
    error_message = "Others than anchor and prove run in the ledger's image."
  }
}

run "a_key_that_a_kms_keeps_is_named_to_anchor_alone" {
  command = plan

  variables {
    settings = {
      database = "postgresql://polyshare@db.example.org/polyshare", functions_url = "http://{function}.x", ledger_kms_key = "arn:aws:kms:x"
    }
  }

  assert {
    condition = [
      for name in keys(output.services) : name
      if contains([for e in output.manifests["service/${name}"].spec.template.spec.containers[0].env : e.name], "POLYSHARE_LEDGER_KMS_KEY")
    ] == ["anchor"]
    error_message = "Others than anchor are told of the ledger's key."
  }
  assert {
    condition     = !strcontains(jsonencode(values(output.manifests)), "polyshare-ledger-writer")
    error_message = "There is a key in a file besides."
  }
}

run "a_store_reached_by_a_role_has_no_key_anywhere" {
  command = plan

  variables {
    secrets = { store = "" }
  }

  assert {
    condition     = !strcontains(jsonencode(values(output.manifests)), "/secrets/store") && !strcontains(jsonencode(values(output.manifests)), "S3_ACCESS_KEY")
    error_message = "A key is named besides the role."
  }
}

run "anchor_is_one_instance_for_many_requests" {
  command = plan

  assert {
    condition = (
      output.manifests["service/anchor"].spec.template.metadata.annotations["autoscaling.knative.dev/min-scale"] == "1" &&
      output.manifests["service/anchor"].spec.template.metadata.annotations["autoscaling.knative.dev/max-scale"] == "1" &&
      output.manifests["service/anchor"].spec.template.spec.containerConcurrency >= 100
    )
    error_message = "anchor is not one instance with a high concurrency."
  }
  assert {
    condition = (
      output.manifests["service/sweep"].spec.template.metadata.annotations["autoscaling.knative.dev/max-scale"] == "1" &&
      output.manifests["service/sweep"].spec.template.spec.containerConcurrency == 1
    )
    error_message = "sweep, which takes unsigned ticks, may do more than one round at a time."
  }
}

run "what_takes_only_events_is_not_public" {
  command = plan

  assert {
    condition = toset([
      for name in keys(output.services) : name
      if lookup(output.manifests["service/${name}"].metadata.labels, "networking.knative.dev/visibility", "") == "cluster-local"
    ]) == toset(["anchor", "run_job", "complete_job", "sweep"])
    error_message = "The functions reached from outside are not those meant to be."
  }
}

run "every_container_is_confined" {
  command = plan

  assert {
    condition = alltrue([
      for name in keys(output.services) : (
        output.manifests["service/${name}"].spec.template.spec.containers[0].securityContext.runAsNonRoot &&
        output.manifests["service/${name}"].spec.template.spec.containers[0].securityContext.readOnlyRootFilesystem &&
        !output.manifests["service/${name}"].spec.template.spec.containers[0].securityContext.allowPrivilegeEscalation &&
        output.manifests["service/${name}"].spec.template.spec.containers[0].securityContext.capabilities.drop[0] == "ALL" &&
        output.manifests["service/${name}"].spec.template.spec.containers[0].securityContext.seccompProfile.type == "RuntimeDefault"
      )
    ])
    error_message = "A container may do more than it needs."
  }
  assert {
    condition     = [for name in keys(output.services) : name if output.manifests["account/${name}"].automountServiceAccountToken] == ["query_status", "run_job", "sweep"]
    error_message = "Others than those that have to do with jobs have a token of Kubernetes."
  }
  assert {
    condition     = output.rights == { runner = ["run-job", "sweep"], queue = ["query-status"] }
    error_message = "Others than run_job and sweep start jobs."
  }
}

run "a_function_reaches_only_what_it_needs" {
  command = plan

  assert {
    condition = toset(flatten([for e in output.manifests["policy/query_status"].spec.egress : [for p in e.ports : p.port]])) == toset([
      53, 5432, 6443
    ])
    error_message = "query_status reaches more than DNS, the database and the API server."
  }
  assert {
    condition = toset([
      for name in keys(output.services) : name
      if contains(flatten([for e in output.manifests["policy/${name}"].spec.egress : [for p in e.ports : p.port]]), 8545)
    ]) == toset(["anchor", "prove", "mlaas"])
    error_message = "Others than anchor, prove and mlaas reach the ledger."
  }
  assert {
    condition     = length(output.manifests["policy/anchor"].spec.ingress[0].from) == 2
    error_message = "Others than Knative and its ingress reach anchor."
  }
}

run "no_secret_is_in_a_manifest" {
  command = plan

  assert {
    condition     = strcontains(jsonencode(output.manifests["service/anchor"]), "password_file=/secrets/database/password")
    error_message = "The database's password is not read from its file."
  }
  assert {
    condition     = length([for m in output.manifests : m if m.kind == "Secret"]) == 0
    error_message = "A Secret is made here, so it is in the state."
  }
}

run "scale_is_changed_for_some" {
  command = plan

  variables {
    scale = { query_status = { min = 2, max = 50 } }
  }

  assert {
    condition     = output.manifests["service/query_status"].spec.template.metadata.annotations["autoscaling.knative.dev/max-scale"] == "50"
    error_message = "The scale was not taken."
  }
}

run "a_tag_is_refused" {
  command = plan

  variables {
    images = { functions = "registry.example.org/functions:latest", ledger = "registry.example.org/ledger:latest" }
  }

  expect_failures = [var.images]
}

run "a_password_in_the_url_is_refused" {
  command = plan

  variables {
    settings = { database = "postgresql://polyshare:secret@db.example.org/polyshare" }
  }

  expect_failures = [var.settings]
}

run "the_ledgers_key_elsewhere_is_refused" {
  command = plan

  variables {
    functions = { sweep = { reaches = [], secrets = ["ledger"] } }
  }

  expect_failures = [var.functions]
}

run "a_private_key_among_the_public_ones_is_refused" {
  command = plan

  variables {
    jwks = "{\"keys\": [{\"kty\": \"EC\", \"d\": \"x\"}]}"
  }

  expect_failures = [var.jwks]
}

run "a_function_has_what_its_cloud_asks_of_its_pods" {
  command = plan

  variables {
    pods = {
      sweep = {
        labels      = { "azure.workload.identity/use" = "true" }
        environment = { AZURE_STORAGE_ACCOUNT_NAME = "models" }
        secret      = "azure-inbox"
      }
    }
  }

  assert {
    condition = [
      for name in keys(output.services) : name
      if lookup(output.manifests["service/${name}"].spec.template.metadata.labels, "azure.workload.identity/use", "") == "true" &&
      contains(output.manifests["service/${name}"].spec.template.spec.containers[0].env, { name = "AZURE_STORAGE_ACCOUNT_NAME", value = "models" }) &&
      try(output.manifests["service/${name}"].spec.template.spec.containers[0].envFrom[0].secretRef.name, "") == "azure-inbox"
    ] == ["sweep"]
    error_message = "sweep lacks its label, its variable or its Secret, or others have them too."
  }
  assert {
    condition     = !strcontains(yamlencode(output.manifests["service/anchor"]), "envFrom")
    error_message = "A function that was given no Secret names one."
  }
}

run "pods_of_no_function_are_refused" {
  command = plan

  variables {
    pods = { sweeper = { labels = {} } }
  }

  expect_failures = [var.pods]
}

run "a_setting_given_as_a_variable_is_refused" {
  command = plan

  variables {
    pods = { sweep = { environment = { POLYSHARE_INBOX_URL = "az://drops" } } }
  }

  expect_failures = [var.pods]
}
