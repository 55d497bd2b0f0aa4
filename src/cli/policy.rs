//! `trustwatch policy`: the least that the roles must be allowed.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Context, Failure, chosen};
use crate::aws::policy;

/// Print the least-privilege policies of the member role and of the central role.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trustwatch policy --central-role-arn arn:aws:iam::111111111111:role/Trustwatch --runs-on eks\n  \
    trustwatch policy | jq .member_role.permissions_policy")]
pub struct Policy {
    /// The role that trustwatch runs as: the one that member roles trust.
    #[arg(long, value_name = "ARN", default_value = "arn:aws:iam::111111111111:role/Trustwatch")]
    central_role_arn: String,
    /// Where trustwatch runs, for the central role's trust policy.
    #[arg(long, value_enum, default_value_t = RunsOn::Ec2)]
    runs_on: RunsOn,
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
        let partition = self.central_role_arn.split(':').nth(1).filter(|name| name.starts_with("aws"));
        let Some(partition) = partition.filter(|_| self.central_role_arn.contains(":role/")) else {
            return Err(Failure::Usage(format!(
                "--central-role-arn {}: not a role ARN; expected one like \"arn:aws:iam::111111111111:role/Trustwatch\"",
                self.central_role_arn
            )));
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
        let policies = json!({
            "member_role": {
                "arn": organization.member_role_arn(partition, "<each account>"),
                "trust_policy": policy::member_trust(&self.central_role_arn, external_id),
                "permissions_policy": policy::member_permissions(),
            },
            "central_role": {
                "arn": self.central_role_arn,
                "trust_policy": central_trust,
                "permissions_policy": policy::central_permissions(&organization.member_role_arn(partition, "*")),
            },
        });
        println!("{}", serde_json::to_string_pretty(&policies)?);
        Ok(())
    }
}
