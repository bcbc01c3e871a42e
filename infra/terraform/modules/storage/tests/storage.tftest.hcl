mock_provider "kubectl" {}

variables {
  namespace = "polyshare"
  images = {
    buckets = "registry.example.org/functions@sha256:1111111111111111111111111111111111111111111111111111111111111111"
    server  = "registry.example.org/seaweedfs@sha256:2222222222222222222222222222222222222222222222222222222222222222"
  }
  callers = ["polyshare-jobs"]
}

run "a_store_is_run_where_none_is_named" {
  command = plan

  assert {
    condition     = output.settings.s3_endpoint == "http://store.polyshare.svc:8333" && contains(keys(output.manifests), "server")
    error_message = "There is no store."
  }
  assert {
    condition     = [for i in output.manifests["policy/server"].spec.ingress : i.ports[0].port] == [8333]
    error_message = "More than S3 is reached: the other ports bypass its keys."
  }
  assert {
    condition     = !strcontains(jsonencode(output.manifests["server"].spec.template.spec.containers), "AWS_")
    error_message = "The store's keys are in its environment."
  }
}

run "an_existing_store_only_gets_its_buckets" {
  command = plan

  variables {
    endpoint = "https://s3.eu-central-1.amazonaws.com"
    region   = "eu-central-1"
    buckets  = { blobs = "acme-blobs", journal = "acme-journal", inbox = "acme-inbox" }
  }

  assert {
    condition     = keys(output.manifests) == ["buckets", "policy/buckets"] && output.settings.bucket_inbox == "acme-inbox"
    error_message = "More is made than the buckets."
  }
}

run "where_functions_have_a_role_the_buckets_are_there_already" {
  command = plan

  variables {
    endpoint = "https://s3.eu-central-1.amazonaws.com"
    secrets  = { keys = "" }
  }

  assert {
    condition     = length(output.manifests) == 0
    error_message = "Something is made that would need a key."
  }
}

run "one_name_for_two_buckets_is_refused" {
  command = plan

  variables {
    buckets = { blobs = "acme", journal = "acme" }
  }

  expect_failures = [var.buckets]
}

run "an_endpoint_with_a_path_is_refused" {
  command = plan

  variables {
    endpoint = "https://s3.example.org/bucket"
  }

  expect_failures = [var.endpoint]
}
