mock_provider "kubectl" {}

variables {
  namespace = "polyshare"
  images = {
    migrate = "registry.example.org/functions@sha256:1111111111111111111111111111111111111111111111111111111111111111"
    server  = "registry.example.org/postgres@sha256:2222222222222222222222222222222222222222222222222222222222222222"
  }
}

run "a_server_is_run_where_none_is_named" {
  command = plan

  assert {
    condition     = output.url == "postgresql://polyshare@postgres.polyshare.svc/polyshare" && contains(keys(output.manifests), "server")
    error_message = "There is no server."
  }
  assert {
    condition     = output.manifests["server"].spec.template.spec.initContainers == [] && !strcontains(jsonencode(output.manifests), "PASSWORD=")
    error_message = "The server runs something as root, or with a password in its environment."
  }
}

run "an_existing_one_is_migrated_and_not_run" {
  command = plan

  variables {
    url         = "postgresql://polyshare@db.example.org:5432/polyshare?sslmode=verify-full"
    destination = { cidr = "10.1.0.0/16" }
  }

  assert {
    condition     = keys(output.manifests) == ["migration", "policy/migrate"]
    error_message = "More is made than the migration."
  }
  assert {
    condition = (
      output.manifests["migration"].spec.template.spec.containers[0].env[0].value ==
      "postgresql://polyshare@db.example.org:5432/polyshare?sslmode=verify-full&password_file=/secrets/password"
    )
    error_message = "The migration does not read the password from its file."
  }
  assert {
    condition     = output.destination.cidr == "10.1.0.0/16"
    error_message = "The functions do not reach the database."
  }
}

run "another_image_is_another_migration" {
  command = plan

  variables {
    images = {
      migrate = "registry.example.org/functions@sha256:3333333333333333333333333333333333333333333333333333333333333333"
      server  = "registry.example.org/postgres@sha256:2222222222222222222222222222222222222222222222222222222222222222"
    }
  }

  assert {
    condition     = startswith(output.migration, "migrate-") && output.migration != run.a_server_is_run_where_none_is_named.migration
    error_message = "A Job can't be changed: a new image needs a new one."
  }
}

run "a_password_in_the_url_is_refused" {
  command = plan

  variables {
    url = "postgresql://polyshare:secret@db.example.org/polyshare"
  }

  expect_failures = [var.url]
}

run "a_server_without_an_image_is_refused" {
  command = plan

  variables {
    images = { migrate = "registry.example.org/functions@sha256:1111111111111111111111111111111111111111111111111111111111111111" }
  }

  expect_failures = [kubectl_manifest.this]
}
