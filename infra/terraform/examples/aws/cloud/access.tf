# Who may do what in AWS, by roles of ServiceAccounts (IRSA). anchor may sign with the writer's key; the functions that have to
# do with objects reach S3, and may give out sessions of the role `inbox`, which organisations put files with. Only the source
# of the inbox's queue takes a user's key.
locals {
  oidc = replace(aws_iam_openid_connect_provider.cluster.url, "https://", "")

  accounts = {
    anchor = ["anchor"]
    store = [
      "register-dataset", "register-model", "fetch-asset", "translate", "govern", "mlaas", "complete-job", "run-job", "sweep",
    ]
  }
  rights = { anchor = data.aws_iam_policy_document.anchor.json, store = data.aws_iam_policy_document.store.json }
}

data "aws_iam_policy_document" "as" {
  for_each = local.accounts

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.cluster.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.oidc}:sub"
      values   = [for account in each.value : "system:serviceaccount:${var.namespaces.functions}:${account}"]
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

resource "aws_iam_role" "this" {
  for_each = local.accounts

  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.as[each.key].json
}

resource "aws_iam_role_policy" "this" {
  for_each = local.rights

  name   = each.key
  role   = aws_iam_role.this[each.key].id
  policy = each.value
}

moved {
  from = aws_iam_role.anchor
  to   = aws_iam_role.this["anchor"]
}

moved {
  from = aws_iam_role_policy.anchor
  to   = aws_iam_role_policy.this["anchor"]
}

# Of the role `inbox` only sessions are used, each with a policy that leaves it one organisation's prefix.
data "aws_iam_policy_document" "as_inbox" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = [aws_iam_role.this["store"].arn]
    }
  }
}

data "aws_iam_policy_document" "drops" {
  statement {
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = ["${aws_s3_bucket.this["inbox"].arn}/*"]
  }

  statement {
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this["inbox"].arn]
  }

  statement {
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.data.arn]
  }
}

resource "aws_iam_role" "inbox" {
  name               = "${var.name}-inbox"
  assume_role_policy = data.aws_iam_policy_document.as_inbox.json
}

resource "aws_iam_role_policy" "inbox" {
  name   = "inbox"
  role   = aws_iam_role.inbox.id
  policy = data.aws_iam_policy_document.drops.json
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
    sid       = "Sessions"
    actions   = ["sts:AssumeRole"]
    resources = ["arn:aws:iam::${data.aws_caller_identity.this.account_id}:role/${var.name}-inbox"]
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

# Its access key is made by `aws iam create-access-key`, straight into a Secret: not here, where it would be in the state.
resource "aws_iam_user" "inbox" {
  name = "${var.name}-inbox"
}

resource "aws_iam_user_policy" "inbox" {
  name   = "inbox"
  user   = aws_iam_user.inbox.name
  policy = data.aws_iam_policy_document.inbox.json
}

moved {
  from = aws_iam_user.this["inbox"]
  to   = aws_iam_user.inbox
}

moved {
  from = aws_iam_user_policy.this["inbox"]
  to   = aws_iam_user_policy.inbox
}
