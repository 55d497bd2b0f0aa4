variable "central_role_arn" {
  description = "The role that trustwatch runs as (with chain_roles, the reader role)."
  type        = string
}

variable "external_id" {
  description = "The external_id of trustwatch's configuration; empty where it has none."
  type        = string
  default     = ""
}

variable "role_name" {
  description = "The export.security_hub_role of trustwatch's configuration."
  type        = string
  default     = "TrustwatchSecurityHub"
}

variable "tag_session" {
  description = "Whether the sessions of trustwatch carry tags, as those of EKS pod identity do."
  type        = bool
  default     = false
}
