output "cluster" {
  description = "Name and endpoint of the cluster: `aws eks update-kubeconfig --name …`."
  value       = { name = aws_eks_cluster.this.name, endpoint = aws_eks_cluster.this.endpoint }
}

output "repositories" {
  description = "Where the images are pushed, by name."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.repository_url }
}

output "secrets" {
  description = "Where the Secrets of the workloads come from: the database's password, and the user whose access key the queue's source has."
  value = {
    database = try(aws_db_instance.this.master_user_secret[0].secret_arn, null)
    user     = aws_iam_user.inbox.name
  }
}

output "ledger_keys" {
  description = "ARNs of the ledger's keys, by role: the writer's is the setting ledger_kms_key."
  value       = { for role, key in aws_kms_key.ledger : role => key.arn }
}

output "workloads" {
  description = "What the workloads' root takes: `terraform output -json workloads > ../workloads/cloud.auto.tfvars.json`."
  value = {
    cloud = {
      region     = var.region
      database   = "postgresql://polyshare@${aws_db_instance.this.endpoint}/polyshare?sslmode=require"
      buckets    = { for name, bucket in aws_s3_bucket.this : name => bucket.id }
      cidr       = var.cidr
      writer_key = aws_kms_key.ledger["writer"].arn
      queue      = aws_sqs_queue.inbox.arn
      roles      = { for name, role in merge(aws_iam_role.this, { inbox = aws_iam_role.inbox }) : name => role.arn }
      accounts   = local.accounts
    }
  }
}
