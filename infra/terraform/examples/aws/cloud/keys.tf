data "aws_caller_identity" "this" {}

resource "aws_kms_key" "data" {
  description         = "${var.name}: objects, database, Kubernetes Secrets, images"
  enable_key_rotation = true
}

resource "aws_kms_alias" "data" {
  name          = "alias/${var.name}-data"
  target_key_id = aws_kms_key.data.key_id
}

# The keys of the ledger never leave KMS: the writer's is anchor's, the owner's is for those who run it.
resource "aws_kms_key" "ledger" {
  for_each = toset(["writer", "owner"])

  description              = "${var.name}: signs for the ledger as its ${each.key}"
  key_usage                = "SIGN_VERIFY"
  customer_master_key_spec = "ECC_SECG_P256K1"
  deletion_window_in_days  = 30
}

resource "aws_kms_alias" "ledger" {
  for_each = aws_kms_key.ledger

  name          = "alias/${var.name}-ledger-${each.key}"
  target_key_id = each.value.key_id
}
