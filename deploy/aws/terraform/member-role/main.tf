# The role by which trustwatch audits one account: for the management account, to which service-managed StackSets never deploy, or
# wherever accounts are made by Terraform.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

locals {
  audit = concat(
    ["access-analyzer:GetFindingsStatistics", "access-analyzer:ListAnalyzers", "account:ListRegions"],
    var.read_findings ? ["access-analyzer:ListArchiveRules", "access-analyzer:ListFindings", "access-analyzer:ListFindingsV2"] : [],
  )
}

resource "aws_iam_role" "member" {
  name                 = var.role_name
  description          = "Lets trustwatch list the IAM Access Analyzer analyzers and the regions of this account"
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

resource "aws_iam_role_policy" "member" {
  name = "AuditAccessAnalyzer"
  role = aws_iam_role.member.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "AuditAccessAnalyzer"
      Effect   = "Allow"
      Action   = local.audit
      Resource = "*"
    }]
  })
}
