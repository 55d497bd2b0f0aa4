//! `trustwatch policy`: the least that the roles must be allowed.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Context, Failure, chosen, say};
use crate::aws::policy;
use crate::config::{Detail, role_arn};

/// Print the least-privilege policies of the member role, of the central role, and of the reader role if there is one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trustwatch policy --central-role-arn arn:aws:iam::111111111111:role/Trustwatch --runs-on eks\n  \
    trustwatch policy | jq .member_role.permissions_policy")]
pub struct Policy {
    /// The role that trustwatch runs as: the one that member roles trust.
    #[arg(long, value_name = "ARN")]
    central_role_arn: Option<String>,
    /// Where trustwatch runs, for the central role's trust policy.
    #[arg(long, value_enum, default_value_t = RunsOn::Ec2)]
    runs_on: RunsOn,
    /// Who applies plans: prints the role that changes things too (`remediation.role`), which trusts this one. Better a role that
    /// people use than the one that trustwatch runs as: then the daemon can change nothing.
    #[arg(long, value_name = "ARN")]
    remediation_principal_arn: Option<String>,
    /// Print the role that imports findings into AWS Security Hub too (`export.security_hub_role`), which trusts the one that members
    /// trust.
    #[arg(long)]
    security_hub: bool,
    /// The organization whose member role is meant; without one, the first.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RunsOn {
    /// An EC2 instance profile.
    Ec2,
    /// A task role of ECS.
    Ecs,
    /// EKS pod identity.
    Eks,
}

impl Policy {
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = context.load()?;
        let organizations = chosen(&loaded, self.organization.as_deref())?;
        let Some(organization) = organizations.first() else { return Ok(()) };
        let reader_arn = organization.reader_role_arn.clone();
        let partition_of = |arn: &str| arn.split(':').nth(1).filter(|name| name.starts_with("aws")).map(str::to_owned);
        let central_arn = match &self.central_role_arn {
            Some(arn) => arn.clone(),
            None => {
                eprintln!(
                    "trustwatch: 111111111111 and Trustwatch are placeholders: name your role with --central-role-arn"
                );
                let partition = reader_arn.as_deref().and_then(partition_of).unwrap_or_else(|| "aws".to_owned());
                format!("arn:{partition}:iam::111111111111:role/Trustwatch")
            }
        };
        let Some(partition) = partition_of(&central_arn).filter(|_| central_arn.contains(":role/")) else {
            return Err(Failure::Usage(format!(
                "--central-role-arn {central_arn}: not a role ARN; expected one like \
                 \"arn:aws:iam::111111111111:role/Trustwatch\""
            )));
        };
        let roles = policy::Roles {
            member_arn: organization.member_role_arn(&partition, "*"),
            central_arn,
            reader_arn,
            hub_arn: self.security_hub.then(|| role_arn(&loaded.config.export.security_hub_role, &partition, "*")),
            chained: organization.chain_roles,
            source_identity: organization.source_identity.is_some(),
            transitive_tags: matches!(self.runs_on, RunsOn::Eks),
            reads_findings: loaded.config.findings.detail != Detail::Off,
        };
        let external_id = organization.external_id.as_ref().map(|_| "<the external id of your configuration>");
        let (service, actions) = match self.runs_on {
            RunsOn::Ec2 => ("ec2.amazonaws.com", json!("sts:AssumeRole")),
            RunsOn::Ecs => ("ecs-tasks.amazonaws.com", json!("sts:AssumeRole")),
            RunsOn::Eks => ("pods.eks.amazonaws.com", json!(["sts:AssumeRole", "sts:TagSession"])),
        };
        let central_trust: Value = json!({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": actions}],
        });
        let mut policies = json!({
            "member_role": {
                "arn": organization.member_role_arn(&partition, "<each account>"),
                "trust_policy": roles.member_trust(external_id),
                "permissions_policy": roles.member_permissions(),
            },
            "central_role": {
                "arn": roles.central_arn,
                "trust_policy": central_trust,
                "permissions_policy": roles.central_permissions(),
            },
        });
        if let Some(arn) = &roles.reader_arn {
            policies["reader_role"] = json!({
                "arn": arn,
                "trust_policy": roles.reader_trust(),
                "permissions_policy": roles.reader_permissions(),
            });
        }
        if let Some(principal) = &self.remediation_principal_arn {
            if !principal.starts_with("arn:") {
                return Err(Failure::Usage(format!(
                    "--remediation-principal-arn {principal}: not an ARN; expected one like \
                     \"arn:aws:iam::111111111111:role/SecurityEngineers\""
                )));
            }
            policies["remediation_role"] = json!({
                "arn": role_arn(&loaded.config.remediation.role, &partition, "<each account>"),
                "trust_policy": roles.remediation_trust(principal, external_id),
                "permissions_policy": policy::remediation_permissions(roles.reads_findings),
            });
        }
        if self.security_hub {
            policies["security_hub_role"] = json!({
                "arn": role_arn(&loaded.config.export.security_hub_role, &partition, "<each account>"),
                "trust_policy": roles.member_trust(external_id),
                "permissions_policy": policy::security_hub_permissions(),
            });
        }
        say(&serde_json::to_string_pretty(&policies)?)?;
        Ok(())
    }
}
