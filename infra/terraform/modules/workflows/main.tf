locals {
  labels = { "app.kubernetes.io/part-of" = "polyshare" }
  folder = coalesce(var.templates, "${path.module}/../../../workflows")

  documents = flatten([
    for path in sort(fileset(local.folder, "*.yaml")) : [
      for text in split("\n---", "\n${file("${local.folder}/${path}")}") : yamldecode(text) if can(yamldecode(text).kind)
    ]
  ])

  # Each as it is written there, in our namespace; the values of the templates' parameters are ours.
  given = {
    for document in local.documents : "${lower(document.kind)}/${document.metadata.name}" => merge(
      document,
      { metadata = merge({ labels = local.labels }, document.metadata, { namespace = var.namespace }) },
      { for key, value in {
        spec = merge(try(document.spec, {}), {
          templates = [
            for template in try(document.spec.templates, []) : merge(
              template,
              { for key, value in { initContainers = [local.chown] } : key => value if var.chown_volume && contains(["fetch", "main"], template.name) && can(template.container) },
            )
          ]
          arguments = {
            parameters = [
              for parameter in try(document.spec.arguments.parameters, []) : {
                name  = parameter.name
                value = lookup(var.parameters, parameter.name, try(parameter.value, ""))
              }
            ]
          }
        })
      } : key => value if document.kind == "WorkflowTemplate" },
      { for key, value in {
        subjects = [for subject in try(document.subjects, []) : merge(subject, { namespace = var.namespace })]
      } : key => value if document.kind == "RoleBinding" },
    )
  }

  chown = {
    name               = "chown"
    image              = "{{workflow.parameters.image}}"
    command            = ["python", "-c", "import os; os.chown('/job', 65532, 65532)"]
    mirrorVolumeMounts = true
    securityContext = {
      runAsUser = 0, runAsNonRoot = false, allowPrivilegeEscalation = false, readOnlyRootFilesystem = true, capabilities = { drop = ["ALL"], add = ["CHOWN"] }
    }
  }

  own = {
    "policy/default" = {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata   = { name = "default-deny", namespace = var.namespace, labels = local.labels }
      spec       = { podSelector = {}, policyTypes = ["Ingress", "Egress"] }
    }
    # Policies add up, so this one must not select a run.
    "policy/steps" = {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata   = { name = "steps", namespace = var.namespace, labels = local.labels }
      spec = {
        podSelector = {
          matchExpressions = [
            { key = "workflows.argoproj.io/workflow", operator = "Exists" },
            { key = "polyshare.network", operator = "DoesNotExist" },
          ]
        }
        policyTypes = ["Ingress", "Egress"]
        egress = [
          for name, d in var.destinations : {
            to = [merge(
              { for key, value in { ipBlock = { cidr = d.cidr } } : key => value if d.cidr != null },
              { for key, value in { namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = d.namespace } } } : key => value if d.cidr == null },
              { for key, value in { podSelector = { matchLabels = d.labels } } : key => value if d.cidr == null && length(d.labels) > 0 },
            )]
            ports = flatten([for port in d.ports : [for protocol in name == "dns" ? ["UDP", "TCP"] : ["TCP"] : { port = port, protocol = protocol }]])
          }
        ]
      }
    }
    "quota" = {
      apiVersion = "v1"
      kind       = "ResourceQuota"
      metadata   = { name = "jobs", namespace = var.namespace, labels = local.labels }
      spec       = { hard = var.quota.hard }
    }
    "limits" = {
      apiVersion = "v1"
      kind       = "LimitRange"
      metadata   = { name = "jobs", namespace = var.namespace, labels = local.labels }
      spec       = { limits = [{ type = "Container", defaultRequest = var.quota.default_request, default = var.quota.default_limit }] }
    }
  }

  rights = {
    for role, names in var.functions.rights : "rights/${role}" => {
      apiVersion = "rbac.authorization.k8s.io/v1"
      kind       = "RoleBinding"
      metadata   = { name = "polyshare-functions-${role}", namespace = var.namespace, labels = local.labels }
      roleRef    = { apiGroup = "rbac.authorization.k8s.io", kind = "Role", name = "polyshare-${role}" }
      subjects   = [for name in names : { kind = "ServiceAccount", name = name, namespace = var.functions.namespace }]
    }
  }

  manifests = merge(local.given, local.own, local.rights)
}

resource "kubectl_manifest" "this" {
  for_each = local.manifests

  yaml_body         = yamlencode(each.value)
  server_side_apply = true
  force_conflicts   = true

  lifecycle {
    precondition {
      condition     = length(local.documents) > 0
      error_message = "There are no WorkflowTemplates in ${local.folder}."
    }
  }
}
