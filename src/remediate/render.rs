//! A plan in the words of other tools: for a team that changes AWS with those.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::plan::{Plan, Step};
use crate::config::{ArchiveRule, Criterion};
use crate::model::{AccountId, Partition, Region, ZoneOfTrust};

/// The tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Commands of AWS's own command line.
    Cli,
    /// A CloudFormation template of StackSets.
    CloudFormation,
    /// Terraform.
    Terraform,
}

/// Writes a plan's steps for another tool. `role` is the role that changes things: a name, or an ARN with placeholders.
pub fn render(plan: &Plan, form: Form, role: &str) -> String {
    match form {
        Form::Cli => cli(plan, role),
        Form::CloudFormation => cloud_formation(plan),
        Form::Terraform => terraform(plan, role),
    }
}

fn role_in(role: &str, step: &Step) -> String {
    let partition = Partition::of_region(step.region.as_str());
    crate::config::role_arn(role, partition.as_str(), step.account.as_str())
}

/// A word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn criteria(rule: &ArchiveRule) -> BTreeMap<&str, &Criterion> {
    rule.filter.iter().map(|(key, criterion)| (key.as_str(), criterion)).collect()
}

/// What runs a command in a session of a role. The external id is given in a variable, so that it is in no file.
const IN_ROLE: &str = r#"set -eu

in_role() {
  session=$(aws sts assume-role --role-arn "$1" --role-session-name trustwatch ${EXTERNAL_ID:+--external-id "$EXTERNAL_ID"} \
    --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]' --output text)
  shift
  AWS_ACCESS_KEY_ID=$(printf '%s' "$session" | cut -f1) AWS_SECRET_ACCESS_KEY=$(printf '%s' "$session" | cut -f2) \
    AWS_SESSION_TOKEN=$(printf '%s' "$session" | cut -f3) "$@"
}
"#;

fn cli(plan: &Plan, role: &str) -> String {
    let organization = plan.organization.replace(|c: char| c.is_control(), " ");
    let mut text = format!("#!/bin/sh\n# Plan {} of {organization}: {} steps.\n{IN_ROLE}\n", plan.id, plan.steps.len());
    for step in &plan.steps {
        let in_role = format!("in_role {} aws accessanalyzer", quoted(&role_in(role, step)));
        for name in &step.replaces {
            let _ =
                writeln!(text, "{in_role} delete-analyzer --region {} --analyzer-name {}", step.region, quoted(name));
        }
        let _ = write!(
            text,
            "{in_role} create-analyzer --region {} --analyzer-name {} --type {} --client-token {}",
            step.region,
            step.analyzer_name,
            step.zone.as_str(),
            plan.client_token(step)
        );
        if !plan.tags.is_empty() {
            let _ = write!(text, " --tags {}", quoted(&json!(plan.tags).to_string()));
        }
        if !plan.archive_rules.is_empty() {
            let rule = |rule: &ArchiveRule| json!({"ruleName": rule.name, "filter": criteria(rule)});
            let rules: Vec<Value> = plan.archive_rules.iter().map(rule).collect();
            let _ = write!(text, " --archive-rules {}", quoted(&json!(rules).to_string()));
        }
        text.push('\n');
    }
    text
}

/// The regions of accounts that have the same: what one StackSet's instances can be said by.
fn groups(steps: &[&Step]) -> Vec<(Vec<AccountId>, Vec<Region>)> {
    let mut regions_of: BTreeMap<AccountId, BTreeSet<&Region>> = BTreeMap::new();
    for step in steps {
        regions_of.entry(step.account).or_default().insert(&step.region);
    }
    let mut accounts_of: BTreeMap<Vec<&Region>, Vec<AccountId>> = BTreeMap::new();
    for (account, regions) in regions_of {
        accounts_of.entry(regions.into_iter().collect()).or_default().push(account);
    }
    accounts_of.into_iter().map(|(regions, accounts)| (accounts, regions.into_iter().cloned().collect())).collect()
}

fn cloud_formation(plan: &Plan) -> String {
    let tags: Vec<Value> = plan.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
    let mut resources = serde_json::Map::new();
    for zone in [ZoneOfTrust::Organization, ZoneOfTrust::Account] {
        let steps: Vec<&Step> = plan.steps.iter().filter(|step| step.zone == zone).collect();
        let Some(first) = steps.first() else { continue };
        let filter = |(property, criterion): (&str, &Criterion)| {
            let mut filter = json!({"Property": property});
            for (key, words) in [("Eq", &criterion.eq), ("Neq", &criterion.neq), ("Contains", &criterion.contains)] {
                if !words.is_empty() {
                    filter[key] = json!(words);
                }
            }
            if let Some(exists) = criterion.exists {
                filter["Exists"] = json!(exists);
            }
            filter
        };
        let rule = |rule: &ArchiveRule| {
            let filters: Vec<Value> = criteria(rule).into_iter().map(filter).collect();
            json!({"RuleName": rule.name, "Filter": filters})
        };
        let mut properties = json!({"AnalyzerName": first.analyzer_name, "Type": zone.as_str()});
        if !tags.is_empty() {
            properties["Tags"] = json!(tags);
        }
        if !plan.archive_rules.is_empty() {
            properties["ArchiveRules"] = plan.archive_rules.iter().map(rule).collect();
        }
        let template = json!({
            "AWSTemplateFormatVersion": "2010-09-09",
            "Resources": {"Analyzer": {"Type": "AWS::AccessAnalyzer::Analyzer", "Properties": properties}},
        });
        let instances: Vec<Value> = groups(&steps)
            .into_iter()
            .map(|(accounts, regions)| json!({"DeploymentTargets": {"Accounts": accounts}, "Regions": regions}))
            .collect();
        let name = if zone == ZoneOfTrust::Organization { "OrganizationAnalyzers" } else { "AccountAnalyzers" };
        resources.insert(
            name.into(),
            json!({
                "Type": "AWS::CloudFormation::StackSet",
                "Properties": {
                    "StackSetName": first.analyzer_name,
                    "PermissionModel": "SELF_MANAGED",
                    "StackInstancesGroup": instances,
                    "TemplateBody": template.to_string(),
                },
            }),
        );
    }
    let description =
        format!("Plan {} of trustwatch: analyzers of external access, {} in all", plan.id, plan.steps.len());
    let document =
        json!({"AWSTemplateFormatVersion": "2010-09-09", "Description": description, "Resources": resources});
    format!("{document:#}\n")
}

/// A string of HCL.
fn hcl(text: &str) -> String {
    json!(text).to_string().replace("${", "$${").replace("%{", "%%{")
}

/// The external id is given as a variable, so that it is in no file.
const EXTERNAL_ID: &str = r#"
variable "external_id" {
  description = "What the trust policy of the role asks for as sts:ExternalId; null where it asks for none."
  type        = string
  default     = null
  sensitive   = true
}
"#;

fn terraform(plan: &Plan, role: &str) -> String {
    let mut text =
        format!("# Plan {} of {}: {} steps.\n", plan.id, plan.organization.replace('\n', " "), plan.steps.len());
    text.push_str(EXTERNAL_ID);
    for step in &plan.steps {
        let label = format!("{}_{}_{}", step.zone.as_str().to_lowercase(), step.account, step.region).replace('-', "_");
        let _ = write!(
            text,
            "\nprovider \"aws\" {{\n  alias  = \"{label}\"\n  region = \"{}\"\n\n  assume_role {{\n    role_arn    = {}\n    external_id = var.external_id\n  }}\n}}\n",
            step.region,
            hcl(&role_in(role, step))
        );
        let _ = write!(
            text,
            "\nresource \"aws_accessanalyzer_analyzer\" \"{label}\" {{\n  provider      = aws.{label}\n  analyzer_name = {}\n  type          = \"{}\"\n",
            hcl(&step.analyzer_name),
            step.zone.as_str()
        );
        if !plan.tags.is_empty() {
            let width = plan.tags.keys().map(|key| hcl(key).chars().count()).max().unwrap_or_default();
            text.push_str("\n  tags = {\n");
            for (key, value) in &plan.tags {
                let _ = writeln!(text, "    {:width$} = {}", hcl(key), hcl(value));
            }
            text.push_str("  }\n");
        }
        text.push_str("}\n");
        for rule in &plan.archive_rules {
            archive_rule(rule, &label, &mut text);
        }
    }
    text
}

fn archive_rule(rule: &ArchiveRule, label: &str, text: &mut String) {
    let _ = write!(
        text,
        "\nresource \"aws_accessanalyzer_archive_rule\" \"{label}_{}\" {{\n  provider      = aws.{label}\n  analyzer_name = \
         aws_accessanalyzer_analyzer.{label}.analyzer_name\n  rule_name     = {}\n",
        rule.name.replace(['.', '-'], "_"),
        hcl(&rule.name)
    );
    for (property, criterion) in criteria(rule) {
        let list = |words: &[String]| words.iter().map(|word| hcl(word)).collect::<Vec<_>>().join(", ");
        let mut lines = vec![("criteria", hcl(property))];
        for (key, words) in [("eq", &criterion.eq), ("neq", &criterion.neq), ("contains", &criterion.contains)] {
            if !words.is_empty() {
                lines.push((key, format!("[{}]", list(words))));
            }
        }
        if let Some(exists) = criterion.exists {
            lines.push(("exists", hcl(&exists.to_string())));
        }
        let width = lines.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
        text.push_str("\n  filter {\n");
        for (key, value) in lines {
            let _ = writeln!(text, "    {key:width$} = {value}");
        }
        text.push_str("  }\n");
    }
    text.push_str("}\n");
}
