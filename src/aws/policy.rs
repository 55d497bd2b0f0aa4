//! The least-privilege policies, made from the same list of operations that the product calls.

use serde_json::{Value, json};

use super::Operation;

/// What the audit calls in each account.
const AUDIT: &[Operation] = &[Operation::ListAnalyzers, Operation::ListRegions];

/// What reading the organization calls. The last three only where `Account.Paths` is absent, or tags are selected by.
const READ: &[Operation] = &[
    Operation::DescribeOrganization,
    Operation::ListAccounts,
    Operation::DescribeAccount,
    Operation::ListDelegatedAdministrators,
    Operation::ListRoots,
    Operation::ListOrganizationalUnitsForParent,
    Operation::ListAccountsForParent,
    Operation::ListTagsForResource,
];

fn actions(operations: &[Operation]) -> Vec<&'static str> {
    let mut actions: Vec<_> = operations.iter().map(|operation| operation.action()).collect();
    actions.sort_unstable();
    actions
}

fn policy(statements: &[Value]) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

/// The permissions of the member role; the session policy is the same.
pub fn member_permissions() -> Value {
    policy(&[json!({"Sid": "AuditAccessAnalyzer", "Effect": "Allow", "Action": actions(AUDIT), "Resource": "*"})])
}

/// The session policy, which narrows each session to what the audit calls.
pub fn session_policy() -> String {
    member_permissions().to_string()
}

/// The trust policy of the member role.
pub fn member_trust(central_role_arn: &str, external_id: Option<&str>) -> Value {
    let mut statement = json!({
        "Effect": "Allow",
        "Principal": {"AWS": central_role_arn},
        "Action": Operation::AssumeRole.action(),
    });
    if let Some(external_id) = external_id {
        statement["Condition"] = json!({"StringEquals": {"sts:ExternalId": external_id}});
    }
    policy(&[statement])
}

/// The permissions of the central role: it reads the organization, assumes the member role, and audits its own account.
pub fn central_permissions(member_role_arn: &str) -> Value {
    policy(&[
        json!({"Sid": "ReadOrganization", "Effect": "Allow", "Action": actions(READ), "Resource": "*"}),
        json!({"Sid": "EnterAccounts", "Effect": "Allow", "Action": Operation::AssumeRole.action(), "Resource": member_role_arn}),
        json!({"Sid": "AuditOwnAccount", "Effect": "Allow", "Action": actions(AUDIT), "Resource": "*"}),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_allow_every_operation_that_is_called_and_nothing_else() {
        let central = central_permissions("arn:aws:iam::*:role/TrustwatchAudit").to_string();
        for operation in Operation::ALL {
            // GetCallerIdentity needs no permission.
            let is_needed = *operation != Operation::GetCallerIdentity;
            assert_eq!(central.contains(&format!("\"{}\"", operation.action())), is_needed, "{operation:?}");
        }
    }

    #[test]
    fn the_session_policy_is_within_the_limit_of_sts() {
        assert!(session_policy().len() <= 2048);
    }
}
