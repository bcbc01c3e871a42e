terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region = var.region

  # A local stand-in for AWS, in tests; empty is AWS itself.
  skip_credentials_validation = var.endpoint != ""
  skip_metadata_api_check     = var.endpoint != ""
  skip_requesting_account_id  = false
  s3_use_path_style           = var.endpoint != ""

  dynamic "endpoints" {
    for_each = var.endpoint == "" ? [] : [var.endpoint]

    content {
      ec2            = endpoints.value
      ecr            = endpoints.value
      eks            = endpoints.value
      iam            = endpoints.value
      kms            = endpoints.value
      rds            = endpoints.value
      s3             = endpoints.value
      secretsmanager = endpoints.value
      sqs            = endpoints.value
      sts            = endpoints.value
    }
  }

  default_tags {
    tags = { "polyshare" = var.name }
  }
}
