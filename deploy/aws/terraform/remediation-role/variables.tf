variable "principal_arn" {
  description = "The role of the people who apply plans; better not the one that trustwatch runs as."
  type        = string
}

variable "external_id" {
  description = "The external_id of trustwatch's configuration; empty where it has none."
  type        = string
  default     = ""
}

variable "role_name" {
  description = "The remediation.role of trustwatch's configuration."
  type        = string
  default     = "TrustwatchRemediate"
}

variable "tag_session" {
  description = "Whether the sessions of trustwatch carry tags, as those of EKS pod identity do."
  type        = bool
  default     = false
}

variable "review_findings" {
  description = "Whether findings are archived with it too (trustwatch findings archive)."
  type        = bool
  default     = false
}
