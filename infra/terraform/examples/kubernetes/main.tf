# polyshare on any Kubernetes with Knative Serving, Knative Eventing and Argo Workflows: everything else is run here.
# docs/deploy.md goes through it.

provider "kubectl" {
  config_path       = pathexpand(var.kubeconfig)
  apply_retry_count = 5
}

module "polyshare" {
  source = "../../modules/polyshare"

  create_namespaces = true
  images            = var.images
  domain            = var.domain
  scheme            = var.scheme
  issuer            = var.issuer
  trust_root        = var.trust_root
  network           = var.network
  chown_volumes     = var.chown_volumes
  jobs              = var.jobs
  settings          = var.settings
  pods              = var.pods

  service_account_annotations = var.service_account_annotations

  ledger   = { own = merge(var.ledger.own, { storage = { size = var.storage.ledger, class = var.storage.class } }) }
  database = { storage = { size = var.storage.database, class = var.storage.class } }
  store    = { public_endpoint = var.store_url, storage = { size = var.storage.store, class = var.storage.class } }
}

# A rollout that the provider waits for taints what times out, and the next apply replaces it: so it is waited for here.
resource "terraform_data" "ready" {
  count = var.wait_seconds > 0 ? 1 : 0

  triggers_replace = [var.images, module.polyshare.settings]

  provisioner "local-exec" {
    command = "kubectl -n \"$NAMESPACE\" wait --for=condition=Ready ksvc,trigger,broker,pingsource --all --timeout=${var.wait_seconds}s"
    environment = {
      KUBECONFIG = pathexpand(var.kubeconfig)
      NAMESPACE  = module.polyshare.namespaces.functions
    }
  }

  depends_on = [module.polyshare]
}
