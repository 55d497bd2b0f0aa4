variable "role_name" {
  description = "The role's name."
  type        = string
  default     = "Trustwatch"
}

variable "member_role_name" {
  description = "The member_role of trustwatch's configuration."
  type        = string
  default     = "TrustwatchAudit"
}

variable "runs_on" {
  description = "Where trustwatch runs: ec2, ecs, or eks (pod identity)."
  type        = string
  default     = "ec2"

  validation {
    condition     = contains(["ec2", "ecs", "eks"], var.runs_on)
    error_message = "Expected ec2, ecs or eks."
  }
}

variable "read_findings" {
  description = "Whether trustwatch reads findings one by one (findings.detail of its configuration)."
  type        = bool
  default     = false
}

variable "security_hub_role_name" {
  description = "The export.security_hub_role of trustwatch's configuration, where findings are imported into Security Hub; else empty."
  type        = string
  default     = ""
}
