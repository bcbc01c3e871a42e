mock_provider "kubectl" {}

variables {
  namespace    = "polyshare-jobs"
  templates    = "tests/templates"
  parameters   = { image = "registry.example.org/functions@sha256:1111111111111111111111111111111111111111111111111111111111111111", gpus = "1" }
  functions    = { namespace = "polyshare", rights = { runner = ["run-job", "sweep"], queue = ["query-status"] } }
  destinations = { dns = { namespace = "kube-system", ports = [53] }, store = { cidr = "0.0.0.0/0", ports = [443] } }
}

run "what_is_written_there_is_installed_in_the_jobs_namespace" {
  command = plan

  assert {
    condition     = alltrue([for m in values(output.manifests) : m.metadata.namespace == "polyshare-jobs"])
    error_message = "Something is installed elsewhere."
  }
  assert {
    condition     = output.templates == ["example"]
    error_message = "The template is not there."
  }
  assert {
    condition = { for p in output.manifests["workflowtemplate/example"].spec.arguments.parameters : p.name => p.value } == {
      image = "registry.example.org/functions@sha256:1111111111111111111111111111111111111111111111111111111111111111", gpus = "1", patience = "1800"
    }
    error_message = "The parameters do not have our values, or lost those of the template."
  }
  assert {
    condition     = output.manifests["rolebinding/polyshare-job"].subjects[0].namespace == "polyshare-jobs"
    error_message = "The job's rights are another namespace's account's."
  }
}

run "the_functions_that_start_jobs_may_and_runs_reach_nothing" {
  command = plan

  assert {
    condition     = toset([for s in output.manifests["rights/runner"].subjects : "${s.namespace}/${s.name}"]) == toset(["polyshare/run-job", "polyshare/sweep"])
    error_message = "Others than run_job and sweep start jobs."
  }
  assert {
    condition = contains(
      [for e in output.manifests["policy/steps"].spec.podSelector.matchExpressions : "${e.key} ${e.operator}"],
      "polyshare.network DoesNotExist",
    )
    error_message = "The steps' policy opens the network of a run."
  }
  assert {
    condition     = output.manifests["policy/default"].spec.podSelector == {} && length(output.manifests["policy/default"].spec.policyTypes) == 2
    error_message = "What has no policy is not closed."
  }
}

run "a_folder_without_templates_is_refused" {
  command = plan

  variables {
    templates = "tests/nothing"
  }

  expect_failures = [kubectl_manifest.this]
}

run "an_image_by_tag_is_refused" {
  command = plan

  variables {
    parameters = { image = "registry.example.org/functions:latest" }
  }

  expect_failures = [var.parameters]
}
