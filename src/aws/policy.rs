//! The least-privilege policies, made from the same list of operations that the product calls.

use serde_json::{Value, json};

use super::{ACCESS_ANALYZER, Operation};

/// What the audit calls in each account; `GetFindingsStatistics` only where findings are counted.
const AUDIT: &[Operation] = &[Operation::ListAnalyzers, Operation::ListRegions, Operation::GetFindingsStatistics];

/// What reading findings one by one calls in each account (`findings.detail`).
const READ_FINDINGS: &[Operation] = &[Operation::ListFindings, Operation::ListFindingsV2, Operation::ListArchiveRules];

/// What reading the organization calls: `ListRoots` and what lists what is below a root or an OU only where `Account.Paths` is absent,
/// `ListTagsForResource` only where accounts are chosen by tag, `ListAwsServiceAccess` only for a remediation plan.
const READ: &[Operation] = &[
    Operation::DescribeOrganization,
    Operation::ListAccounts,
    Operation::DescribeAccount,
    Operation::ListDelegatedAdministrators,
    Operation::ListRoots,
    Operation::ListOrganizationalUnitsForParent,
    Operation::ListAccountsForParent,
    Operation::ListTagsForResource,
    Operation::ListAwsServiceAccess,
];

/// What remediation calls in each account, to see and to change.
const REMEDIATE: &[Operation] =
    &[Operation::ListAnalyzers, Operation::GetAnalyzer, Operation::CreateAnalyzer, Operation::DeleteAnalyzer];

fn actions(operations: &[Operation]) -> Vec<&'static str> {
    let mut actions: Vec<_> = operations.iter().map(|operation| operation.action()).collect();
    actions.sort_unstable();
    actions
}

fn policy(statements: &[Value]) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

/// What of the configuration decides what the roles need.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the configuration, or a fact of its own")]
pub struct Roles {
    /// The member role's ARN, with a wildcard or a placeholder for the account.
    pub member_arn: String,
    /// The role that trustwatch runs as.
    pub central_arn: String,
    /// The role that reads the organization, where there is one.
    pub reader_arn: Option<String>,
    /// The role that imports findings into Security Hub, with a wildcard for the account, where it is used.
    pub hub_arn: Option<String>,
    /// Whether the member role is assumed from the reader role's session.
    pub chained: bool,
    /// Whether sessions carry a source identity.
    pub source_identity: bool,
    /// Whether the caller's session carries transitive tags, as those of EKS pod identity do.
    pub transitive_tags: bool,
    /// Whether findings are read one by one.
    pub reads_findings: bool,
}

impl Roles {
    /// The actions of assuming a role: session tags and a source identity each need one of their own (IAM User Guide,
    /// "Pass session tags in AWS STS", "Monitor and control actions taken with assumed roles").
    fn assume(&self) -> Value {
        let mut actions = vec![Operation::AssumeRole.action()];
        actions.extend(self.source_identity.then_some("sts:SetSourceIdentity"));
        actions.extend(self.transitive_tags.then_some("sts:TagSession"));
        json!(actions)
    }

    /// The trust policy of the member role.
    pub fn member_trust(&self, external_id: Option<&str>) -> Value {
        let from_reader = self.reader_arn.as_ref().filter(|_| self.chained);
        self.trust(from_reader.unwrap_or(&self.central_arn), external_id)
    }

    /// The trust policy of the reader role.
    pub fn reader_trust(&self) -> Value {
        self.trust(&self.central_arn, None)
    }

    /// The trust policy of the role that changes things: whoever applies plans, which is better not the daemon.
    pub fn remediation_trust(&self, principal: &str, external_id: Option<&str>) -> Value {
        self.trust(principal, external_id)
    }

    fn trust(&self, principal: &str, external_id: Option<&str>) -> Value {
        let mut statement = json!({"Effect": "Allow", "Principal": {"AWS": principal}, "Action": self.assume()});
        if let Some(external_id) = external_id {
            statement["Condition"] = json!({"StringEquals": {"sts:ExternalId": external_id}});
        }
        policy(&[statement])
    }

    /// The permissions of the reader role, where there is one: it reads the organization, audits its own account, and
    /// enters the others where roles are chained.
    pub fn reader_permissions(&self) -> Value {
        let mut statements = vec![read_organization(), audit_own_account(self.reads_findings)];
        statements.extend(self.chained.then(|| self.enter(&self.entered())));
        policy(&statements)
    }

    /// The permissions of the central role: it enters the other roles, audits its own account, and reads the organization
    /// where no reader role does.
    pub fn central_permissions(&self) -> Value {
        let mut statements = vec![audit_own_account(self.reads_findings)];
        let mut enters = Vec::new();
        match &self.reader_arn {
            None => statements.push(read_organization()),
            Some(reader) => enters.push(reader.as_str()),
        }
        if !self.chained {
            enters.extend(self.entered());
        }
        statements.push(self.enter(&enters));
        policy(&statements)
    }

    /// The permissions of the member role.
    pub fn member_permissions(&self) -> Value {
        member_permissions(self.reads_findings)
    }

    /// The roles that are assumed in each account.
    fn entered(&self) -> Vec<&str> {
        [self.member_arn.as_str()].into_iter().chain(self.hub_arn.as_deref()).collect()
    }

    fn enter(&self, roles: &[&str]) -> Value {
        json!({"Sid": "EnterAccounts", "Effect": "Allow", "Action": self.assume(), "Resource": roles})
    }
}

fn read_organization() -> Value {
    json!({"Sid": "ReadOrganization", "Effect": "Allow", "Action": actions(READ), "Resource": "*"})
}

fn audit_actions(reads_findings: bool) -> Vec<&'static str> {
    let read = if reads_findings { READ_FINDINGS } else { &[] };
    actions(&[AUDIT, read].concat())
}

fn audit_own_account(reads_findings: bool) -> Value {
    json!({"Sid": "AuditOwnAccount", "Effect": "Allow", "Action": audit_actions(reads_findings), "Resource": "*"})
}

fn member_permissions(reads_findings: bool) -> Value {
    let actions = audit_actions(reads_findings);
    policy(&[json!({"Sid": "AuditAccessAnalyzer", "Effect": "Allow", "Action": actions, "Resource": "*"})])
}

/// The permissions of the role that changes things. Access Analyzer makes its service-linked role with the first analyzer of an
/// account, on behalf of whoever creates that; tags are given at creation, and an analyzer of the organization is created only by
/// one who may see the organization (IAM User Guide, "Using service-linked roles for IAM Access Analyzer").
pub fn remediation_permissions(reviews_findings: bool) -> Value {
    let mut actions = actions(REMEDIATE);
    actions.push("access-analyzer:TagResource");
    actions.extend(reviews_findings.then(|| Operation::UpdateFindings.action()));
    let organization = [
        Operation::DescribeOrganization.action(),
        Operation::ListAwsServiceAccess.action(),
        Operation::ListDelegatedAdministrators.action(),
    ];
    policy(&[
        json!({"Sid": "Remediate", "Effect": "Allow", "Action": actions, "Resource": "*"}),
        json!({"Sid": "SeeTheOrganization", "Effect": "Allow", "Action": organization, "Resource": "*"}),
        json!({
            "Sid": "CreateTheServiceLinkedRoleOfAccessAnalyzer",
            "Effect": "Allow",
            "Action": "iam:CreateServiceLinkedRole",
            "Resource": "arn:*:iam::*:role/aws-service-role/access-analyzer.amazonaws.com/AWSServiceRoleForAccessAnalyzer",
            "Condition": {"StringEquals": {"iam:AWSServiceName": ACCESS_ANALYZER}},
        }),
    ])
}

/// The permissions of the role that imports findings into Security Hub.
pub fn security_hub_permissions() -> Value {
    let action = Operation::BatchImportFindings.action();
    policy(&[json!({"Sid": "ImportFindings", "Effect": "Allow", "Action": action, "Resource": "*"})])
}

/// The session policy, which narrows each session of that role to the same.
pub fn security_hub_session_policy() -> String {
    security_hub_permissions().to_string()
}

/// The session policy of whoever applies a plan.
pub fn remediation_session_policy() -> String {
    remediation_permissions(false).to_string()
}

/// The session policy of whoever archives findings: the same role, and no analyzer can be changed.
pub fn review_session_policy() -> String {
    let action = Operation::UpdateFindings.action();
    policy(&[json!({"Sid": "ReviewFindings", "Effect": "Allow", "Action": action, "Resource": "*"})]).to_string()
}

/// The session policy, which narrows each session to what the audit calls, or to that and the reading of findings.
pub fn session_policy(reads_findings: bool) -> String {
    member_permissions(reads_findings).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_allow_every_operation_that_is_called_and_nothing_else() {
        let central = Roles { reads_findings: true, ..roles(None, false) }.central_permissions().to_string();
        let remediation = remediation_permissions(true).to_string();
        let hub = security_hub_permissions().to_string();
        let names = |policy: &str, operation: &Operation| policy.contains(&format!("\"{}\"", operation.action()));
        for operation in Operation::ALL {
            // GetCallerIdentity needs no permission.
            let is_needed = *operation != Operation::GetCallerIdentity;
            let is_allowed = [&central, &remediation, &hub].iter().any(|policy| names(policy, operation));
            assert_eq!(is_allowed, is_needed, "{operation:?}");
        }
        for changing in [Operation::CreateAnalyzer, Operation::DeleteAnalyzer, Operation::UpdateFindings] {
            assert!(!names(&central, &changing), "the audit may change nothing");
        }
        let least = roles(None, false).central_permissions().to_string();
        assert!(READ_FINDINGS.iter().all(|operation| !names(&least, operation)), "{least}");
    }

    fn roles(reader: Option<&str>, chained: bool) -> Roles {
        Roles {
            member_arn: "arn:aws:iam::*:role/TrustwatchAudit".into(),
            central_arn: "arn:aws:iam::111111111111:role/Trustwatch".into(),
            reader_arn: reader.map(str::to_owned),
            hub_arn: None,
            chained,
            source_identity: false,
            transitive_tags: false,
            reads_findings: false,
        }
    }

    #[test]
    fn with_a_reader_role_the_central_role_only_enters() {
        let reader = "arn:aws:iam::222222222222:role/OrgReader";
        let apart = roles(Some(reader), false);
        let central = apart.central_permissions().to_string();
        assert!(central.contains(reader) && central.contains("TrustwatchAudit") && !central.contains("ListAccounts"));
        assert!(apart.reader_permissions().to_string().contains("organizations:ListAccounts"));
        assert!(!apart.reader_permissions().to_string().contains("sts:AssumeRole"));
        assert!(apart.member_trust(None).to_string().contains("role/Trustwatch\""));

        let chained = roles(Some(reader), true);
        assert!(!chained.central_permissions().to_string().contains("TrustwatchAudit"));
        assert!(chained.reader_permissions().to_string().contains("sts:AssumeRole"));
        assert!(chained.member_trust(None).to_string().contains("role/OrgReader\""));
    }

    #[test]
    fn whoever_enters_accounts_may_assume_the_role_that_tells_security_hub_where_it_is_used() {
        let hub = Some("arn:aws:iam::*:role/Hub".to_owned());
        let alone = Roles { hub_arn: hub.clone(), ..roles(None, false) };
        assert!(alone.central_permissions().to_string().contains("role/Hub"));
        let chained = Roles { hub_arn: hub, ..roles(Some("arn:aws:iam::222222222222:role/OrgReader"), true) };
        assert!(!chained.central_permissions().to_string().contains("role/Hub"));
        assert!(chained.reader_permissions().to_string().contains("role/Hub"));
    }

    #[test]
    fn tags_and_a_source_identity_are_allowed_where_sessions_carry_them() {
        let roles = Roles { source_identity: true, transitive_tags: true, ..roles(None, false) };
        for policy in [roles.member_trust(Some("x")), roles.central_permissions()] {
            let text = policy.to_string();
            assert!(text.contains("sts:SetSourceIdentity") && text.contains("sts:TagSession"), "{text}");
        }
    }

    #[test]
    fn the_session_policy_is_within_the_limit_of_sts() {
        assert!(session_policy(true).len() <= 2048 && remediation_session_policy().len() <= 2048);
    }
}
