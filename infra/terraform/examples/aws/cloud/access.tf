# Who may do what in AWS. anchor may sign with the writer's key, by its role. The functions and jobs reach S3 with the key of
# a user of their own, with which presigned URLs are signed: signed by a role, they would end with its session. The source
# of the inbox's queue takes a key too.
locals {
  oidc = replace(aws_iam_openid_connect_provider.cluster.url, "https://", "")
}

data "aws_iam_policy_document" "as_anchor" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.cluster.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.oidc}:sub"
      values   = ["system:serviceaccount:${var.namespaces.functions}:anchor"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.oidc}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "anchor" {
  statement {
    actions   = ["kms:Sign", "kms:GetPublicKey"]
    resources = [aws_kms_key.ledger["writer"].arn]
  }
}

resource "aws_iam_role" "anchor" {
  name               = "${var.name}-anchor"
  assume_role_policy = data.aws_iam_policy_document.as_anchor.json
}

resource "aws_iam_role_policy" "anchor" {
  name   = "anchor"
  role   = aws_iam_role.anchor.id
  policy = data.aws_iam_policy_document.anchor.json
}

data "aws_iam_policy_document" "inbox" {
  statement {
    actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl"]
    resources = [aws_sqs_queue.inbox.arn]
  }
}

data "aws_iam_policy_document" "store" {
  statement {
    sid = "Objects"
    actions = [
      "s3:GetObject", "s3:GetObjectAttributes", "s3:GetObjectVersion", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion",
      "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
    ]
    resources = [for bucket in aws_s3_bucket.this : "${bucket.arn}/*"]
  }

  statement {
    sid       = "Lists"
    actions   = ["s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"]
    resources = values(aws_s3_bucket.this)[*].arn
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.data.arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${var.region}.amazonaws.com"]
    }
  }
}

locals {
  users = { store = data.aws_iam_policy_document.store.json, inbox = data.aws_iam_policy_document.inbox.json }
}

# Their access keys are made by `aws iam create-access-key`, straight into Secrets: not here, where they would be in the state.
resource "aws_iam_user" "this" {
  for_each = local.users

  name = "${var.name}-${each.key}"
}

resource "aws_iam_user_policy" "this" {
  for_each = local.users

  name   = each.key
  user   = aws_iam_user.this[each.key].name
  policy = each.value
}
