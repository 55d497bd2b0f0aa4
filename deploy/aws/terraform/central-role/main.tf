# The role that trustwatch runs as, in the management account or in a delegated administrator.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

data "aws_partition" "current" {}

locals {
  services = {
    ec2 = "ec2.amazonaws.com"
    ecs = "ecs-tasks.amazonaws.com"
    eks = "pods.eks.amazonaws.com"
  }
  audit = concat(
    ["access-analyzer:GetFindingsStatistics", "access-analyzer:ListAnalyzers", "account:ListRegions"],
    var.read_findings ? ["access-analyzer:ListArchiveRules", "access-analyzer:ListFindings", "access-analyzer:ListFindingsV2"] : [],
  )
  assume = concat(["sts:AssumeRole"], var.runs_on == "eks" ? ["sts:TagSession"] : [])
}

resource "aws_iam_role" "central" {
  name        = var.role_name
  description = "The role that trustwatch runs as"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = local.services[var.runs_on] }
      Action    = local.assume
    }]
  })
}

resource "aws_iam_role_policy" "central" {
  name = "Trustwatch"
  role = aws_iam_role.central.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "AuditOwnAccount"
        Effect   = "Allow"
        Action   = local.audit
        Resource = "*"
      },
      {
        Sid    = "ReadOrganization"
        Effect = "Allow"
        Action = [
          "organizations:DescribeAccount",
          "organizations:DescribeOrganization",
          "organizations:ListAccounts",
          "organizations:ListAccountsForParent",
          "organizations:ListDelegatedAdministrators",
          "organizations:ListOrganizationalUnitsForParent",
          "organizations:ListRoots",
          "organizations:ListTagsForResource",
          "organizations:ListAWSServiceAccessForOrganization",
        ]
        Resource = "*"
      },
      {
        Sid    = "EnterAccounts"
        Effect = "Allow"
        Action = local.assume
        Resource = [
          for name in compact([var.member_role_name, var.security_hub_role_name]) :
          "arn:${data.aws_partition.current.partition}:iam::*:role/${name}"
        ]
      },
    ]
  })
}

resource "aws_iam_instance_profile" "central" {
  count = var.runs_on == "ec2" ? 1 : 0
  name  = var.role_name
  role  = aws_iam_role.central.name
}
