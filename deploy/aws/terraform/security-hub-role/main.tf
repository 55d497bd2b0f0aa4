# The role by which trustwatch tells AWS Security Hub of one account's results, and nothing else.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

resource "aws_iam_role" "security_hub" {
  name                 = var.role_name
  description          = "Lets trustwatch import findings into AWS Security Hub"
  max_session_duration = 3600
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [merge(
      {
        Effect    = "Allow"
        Principal = { AWS = var.central_role_arn }
        Action    = concat(["sts:AssumeRole"], var.tag_session ? ["sts:TagSession"] : [])
      },
      var.external_id == "" ? {} : { Condition = { StringEquals = { "sts:ExternalId" = var.external_id } } },
    )]
  })
}

resource "aws_iam_role_policy" "security_hub" {
  name = "ImportFindings"
  role = aws_iam_role.security_hub.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "ImportFindings"
      Effect   = "Allow"
      Action   = "securityhub:BatchImportFindings"
      Resource = "*"
    }]
  })
}
