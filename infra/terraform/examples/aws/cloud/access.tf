# Who may do what in AWS: anchor may sign with the writer's key; the source of the inbox may read its queue. The functions
# and jobs reach S3 with the key of a user of their own, which presigned URLs are signed with: they outlive a role's session.
locals {
  roles = {
    anchor = { account = "anchor", policy = data.aws_iam_policy_document.anchor.json }
    inbox  = { account = "inbox", policy = data.aws_iam_policy_document.inbox.json }
  }
  oidc = replace(aws_iam_openid_connect_provider.cluster.url, "https://", "")
}

data "aws_iam_policy_document" "account" {
  for_each = { anchor = "anchor", inbox = "inbox" }

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.cluster.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.oidc}:sub"
      values   = ["system:serviceaccount:${var.namespaces.functions}:${each.value}"]
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

data "aws_iam_policy_document" "inbox" {
  statement {
    actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl"]
    resources = [aws_sqs_queue.inbox.arn]
  }
}

resource "aws_iam_role" "account" {
  for_each = local.roles

  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.account[each.key].json
}

resource "aws_iam_role_policy" "account" {
  for_each = local.roles

  name   = each.key
  role   = aws_iam_role.account[each.key].id
  policy = each.value.policy
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

resource "aws_iam_user" "store" {
  name = "${var.name}-store"
}

# Its access key is made by `aws iam create-access-key`, straight into a Secret: not here, where it would be in the state.
resource "aws_iam_user_policy" "store" {
  name   = "store"
  user   = aws_iam_user.store.name
  policy = data.aws_iam_policy_document.store.json
}
