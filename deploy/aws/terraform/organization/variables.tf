variable "central_role_arn" {
  description = "The role that trustwatch runs as (with chain_roles, the reader role)."
  type        = string
}

variable "organizational_unit_ids" {
  description = "The OUs whose accounts get the role: the root (r-…) for all."
  type        = list(string)
}

variable "external_id" {
  description = "The external_id of trustwatch's configuration; empty where it has none."
  type        = string
  default     = ""
}

variable "role_name" {
  description = "The member_role of trustwatch's configuration."
  type        = string
  default     = "TrustwatchAudit"
}

variable "tag_session" {
  description = "Whether the sessions of trustwatch carry tags, as those of EKS pod identity do."
  type        = bool
  default     = false
}

variable "region" {
  description = "The region in which the stacks are kept; the role itself is global."
  type        = string
  default     = "us-east-1"
}

variable "call_as" {
  description = "SELF in the management account, DELEGATED_ADMIN in a delegated administrator of StackSets."
  type        = string
  default     = "SELF"
}

variable "read_findings" {
  description = "Whether trustwatch reads findings one by one (findings.detail of its configuration)."
  type        = bool
  default     = false
}
