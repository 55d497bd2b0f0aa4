output "role_arn" {
  description = "The role; the central_role_arn of the member roles."
  value       = aws_iam_role.central.arn
}
