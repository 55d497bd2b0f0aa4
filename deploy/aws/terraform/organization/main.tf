# The member role in every account of the organization, and in those that join it: a service-managed StackSet. The management account
# is not among them: give it the module member-role as well.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

resource "aws_cloudformation_stack_set" "member_role" {
  name             = "trustwatch-member-role"
  description      = "The role by which trustwatch audits each account"
  permission_model = "SERVICE_MANAGED"
  call_as          = var.call_as
  capabilities     = ["CAPABILITY_NAMED_IAM"]
  template_body    = file("${path.module}/../../cloudformation/member-role.yaml")
  parameters = {
    CentralRoleArn = var.central_role_arn
    ExternalId     = var.external_id
    RoleName       = var.role_name
    TagSession     = tostring(var.tag_session)
    ReadFindings   = tostring(var.read_findings)
  }

  auto_deployment {
    enabled                          = true
    retain_stacks_on_account_removal = false
  }

  operation_preferences {
    failure_tolerance_percentage = 100
    max_concurrent_percentage    = 100
  }

  lifecycle {
    # AWS fills it in, and Terraform would take it for a change.
    ignore_changes = [administration_role_arn]
  }
}

# IAM is global: one region is enough.
resource "aws_cloudformation_stack_set_instance" "member_role" {
  stack_set_name = aws_cloudformation_stack_set.member_role.name
  region         = var.region
  call_as        = var.call_as

  deployment_targets {
    organizational_unit_ids = var.organizational_unit_ids
  }

  # An account that refuses the role keeps it from no other; thousands of accounts take longer than the half hour of the default.
  operation_preferences {
    failure_tolerance_percentage = 100
    max_concurrent_percentage    = 100
  }

  timeouts {
    create = "6h"
    update = "6h"
    delete = "6h"
  }
}
