# The role by which a plan of trustwatch is applied to one account: it creates and deletes analyzers, archives
# their findings, sees which organization it is in, and nothing else.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

resource "aws_iam_role" "remediation" {
  name                 = var.role_name
  description          = "Lets plans of trustwatch be applied, which create IAM Access Analyzer analyzers"
  max_session_duration = 3600
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [merge(
      {
        Effect    = "Allow"
        Principal = { AWS = var.principal_arn }
        Action    = concat(["sts:AssumeRole"], var.tag_session ? ["sts:TagSession"] : [])
      },
      var.external_id == "" ? {} : { Condition = { StringEquals = { "sts:ExternalId" = var.external_id } } },
    )]
  })
}

resource "aws_iam_role_policy" "remediation" {
  name = "Remediate"
  role = aws_iam_role.remediation.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "Remediate"
        Effect = "Allow"
        Action = concat(
          [
            "access-analyzer:CreateAnalyzer",
            "access-analyzer:DeleteAnalyzer",
            "access-analyzer:GetAnalyzer",
            "access-analyzer:ListAnalyzers",
            "access-analyzer:TagResource",
          ],
          var.review_findings ? ["access-analyzer:UpdateFindings"] : [],
        )
        Resource = "*"
      },
      {
        Sid    = "SeeTheOrganization"
        Effect = "Allow"
        Action = [
          "organizations:DescribeOrganization",
          "organizations:ListAWSServiceAccessForOrganization",
          "organizations:ListDelegatedAdministrators",
        ]
        Resource = "*"
      },
      {
        Sid       = "CreateTheServiceLinkedRoleOfAccessAnalyzer"
        Effect    = "Allow"
        Action    = "iam:CreateServiceLinkedRole"
        Resource  = "arn:*:iam::*:role/aws-service-role/access-analyzer.amazonaws.com/AWSServiceRoleForAccessAnalyzer"
        Condition = { StringEquals = { "iam:AWSServiceName" = "access-analyzer.amazonaws.com" } }
      },
    ]
  })
}
