resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = values(aws_subnet.private)[*].id
}

resource "aws_security_group" "database" {
  name        = "${var.name}-database"
  description = "PostgreSQL, from the cluster's nodes and pods"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  for_each = aws_subnet.private

  security_group_id = aws_security_group.database.id
  description       = "from ${each.key}"
  cidr_ipv4         = each.value.cidr_block
  from_port         = 5432
  to_port           = 5432
  ip_protocol       = "tcp"
}

resource "aws_db_parameter_group" "this" {
  name   = var.name
  family = "postgres${split(".", var.database.version)[0]}"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
}

# RDS makes the password and keeps it in Secrets Manager: it is never in Terraform's state.
resource "aws_db_instance" "this" {
  identifier                  = var.name
  engine                      = "postgres"
  engine_version              = var.database.version
  instance_class              = var.database.instance
  allocated_storage           = var.database.storage
  max_allocated_storage       = var.database.storage * 10
  storage_type                = "gp3"
  storage_encrypted           = true
  kms_key_id                  = aws_kms_key.data.arn
  db_name                     = "polyshare"
  username                    = "polyshare"
  manage_master_user_password = true
  multi_az                    = var.database.zones == 2
  db_subnet_group_name        = aws_db_subnet_group.this.name
  parameter_group_name        = aws_db_parameter_group.this.name
  vpc_security_group_ids      = [aws_security_group.database.id]
  backup_retention_period     = 14
  deletion_protection         = var.is_kept
  skip_final_snapshot         = !var.is_kept
  final_snapshot_identifier   = var.is_kept ? "${var.name}-last" : null
  copy_tags_to_snapshot       = true
  apply_immediately           = false
}
