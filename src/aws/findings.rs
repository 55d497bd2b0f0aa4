//! IAM Access Analyzer: findings, one by one, and the rules that archive them.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_accessanalyzer::operation::RequestId;
use aws_sdk_accessanalyzer::types::{
    ArchiveRuleSummary, Criterion, FindingStatusUpdate, FindingSummary, FindingSummaryV2,
};
use chrono::{DateTime, Utc};
use serde_json::json;

use super::client::send;
use super::{Aws, AwsError, Changed, Operation, Page, Session, token};
use crate::model::{Access, Finding, ReadRule, Region};

impl Aws {
    /// One page of an analyzer's findings: of `access-analyzer:ListFindings` for an analyzer of external access, whose summaries
    /// say who has access; of `access-analyzer:ListFindingsV2` for any other, which the first refuses.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn list_findings(
        &self,
        session: &Session,
        region: &Region,
        of: &FindingsOf<'_>,
        next_token: Option<String>,
    ) -> Result<Page<Finding>, AwsError> {
        let operation = of.operation();
        let client = self.access_analyzer_in(region);
        let active = || Criterion::builder().eq("ACTIVE").build();
        let filter = of.active_only.then(|| HashMap::from([("status".to_owned(), active())]));
        if operation == Operation::ListFindings {
            let call =
                client.list_findings().analyzer_arn(of.analyzer_arn).set_filter(filter).set_next_token(next_token);
            let output =
                send!(call, aws_sdk_accessanalyzer, session).map_err(|error| AwsError::classify(operation, &error))?;
            let items = output.findings.into_iter().map(|summary| believed(operation, external(summary)));
            return Ok(Page { items: items.collect::<Result<_, _>>()?, next_token: token(output.next_token) });
        }
        let call =
            client.list_findings_v2().analyzer_arn(of.analyzer_arn).set_filter(filter).set_next_token(next_token);
        let output =
            send!(call, aws_sdk_accessanalyzer, session).map_err(|error| AwsError::classify(operation, &error))?;
        let items = output.findings.into_iter().map(|summary| believed(operation, other(summary)));
        Ok(Page { items: items.collect::<Result<_, _>>()?, next_token: token(output.next_token) })
    }

    /// One page of `access-analyzer:ListArchiveRules`.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn list_archive_rules(
        &self,
        session: &Session,
        region: &Region,
        analyzer_name: &str,
        next_token: Option<String>,
    ) -> Result<Page<ReadRule>, AwsError> {
        let call = self
            .access_analyzer_in(region)
            .list_archive_rules()
            .analyzer_name(analyzer_name)
            .set_next_token(next_token);
        let output = send!(call, aws_sdk_accessanalyzer, session)
            .map_err(|error| AwsError::classify(Operation::ListArchiveRules, &error))?;
        Ok(Page { items: output.archive_rules.into_iter().map(rule).collect(), next_token: token(output.next_token) })
    }

    /// `access-analyzer:UpdateFindings`: archives findings of an analyzer, or makes them active again.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn update_findings(
        &self,
        session: &Session,
        region: &Region,
        analyzer_arn: &str,
        ids: &[String],
        archive: bool,
    ) -> Result<Changed, AwsError> {
        let status = if archive { FindingStatusUpdate::Archived } else { FindingStatusUpdate::Active };
        let call = self
            .access_analyzer_in(region)
            .update_findings()
            .analyzer_arn(analyzer_arn)
            .set_ids(Some(ids.to_vec()))
            .status(status);
        let output = send!(call, aws_sdk_accessanalyzer, session)
            .map_err(|error| AwsError::classify(Operation::UpdateFindings, &error))?;
        Ok(Changed { arn: None, request_id: output.request_id().map(str::to_owned) })
    }
}

/// Which findings of which analyzer.
#[derive(Debug, Clone, Copy)]
pub struct FindingsOf<'a> {
    /// The analyzer.
    pub analyzer_arn: &'a str,
    /// Its type, as AWS spells it.
    pub analyzer_type: &'a str,
    /// Whether those that are archived or resolved are left out.
    pub active_only: bool,
}

impl FindingsOf<'_> {
    /// The call that lists them.
    pub fn operation(&self) -> Operation {
        match self.analyzer_type {
            "ACCOUNT" | "ORGANIZATION" => Operation::ListFindings,
            _ => Operation::ListFindingsV2,
        }
    }
}

/// The SDK fills in required members that are missing; a finding without an id or a status is none. Postgres keeps no NUL, which a
/// condition may hold.
fn believed(operation: Operation, mut finding: Finding) -> Result<Finding, AwsError> {
    let clean = |text: &mut String| text.retain(|c| c != '\0');
    finding.resource.iter_mut().chain(&mut finding.error).for_each(clean);
    if let Some(access) = &mut finding.access {
        access
            .action
            .iter_mut()
            .chain(access.principal.values_mut())
            .chain(access.condition.values_mut())
            .for_each(clean);
    }
    for (member, word) in [("id", &finding.id), ("status", &finding.status)] {
        if word.is_empty() || word.contains(char::is_whitespace) {
            return Err(AwsError::malformed(operation, format!("the {member} of a finding is missing")));
        }
    }
    Ok(finding)
}

fn instant(at: aws_sdk_accessanalyzer::primitives::DateTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.secs(), at.subsec_nanos()).filter(|at| at.timestamp() > 0)
}

fn external(summary: FindingSummary) -> Finding {
    let sorted = |map: HashMap<String, String>| map.into_iter().collect::<BTreeMap<_, _>>();
    Finding {
        id: summary.id,
        status: summary.status.as_str().to_owned(),
        finding_type: "ExternalAccess".to_owned(),
        resource: summary.resource,
        resource_type: summary.resource_type.as_str().to_owned(),
        owner: summary.resource_owner_account,
        access: Some(Access {
            is_public: summary.is_public,
            principal: sorted(summary.principal.unwrap_or_default()),
            action: summary.action.unwrap_or_default(),
            condition: sorted(summary.condition),
        }),
        error: summary.error,
        created_at: instant(summary.created_at),
        updated_at: instant(summary.updated_at),
    }
}

fn other(summary: FindingSummaryV2) -> Finding {
    Finding {
        id: summary.id,
        status: summary.status.as_str().to_owned(),
        finding_type: summary.finding_type.map_or_else(|| "unknown".to_owned(), |kind| kind.as_str().to_owned()),
        resource: summary.resource,
        resource_type: summary.resource_type.as_str().to_owned(),
        owner: summary.resource_owner_account,
        access: None,
        error: summary.error,
        created_at: instant(summary.created_at),
        updated_at: instant(summary.updated_at),
    }
}

fn rule(summary: ArchiveRuleSummary) -> ReadRule {
    let words = |list: Option<Vec<String>>| {
        list.map(|mut words| {
            words.sort_unstable();
            words
        })
    };
    let criteria: BTreeMap<String, _> = summary
        .filter
        .into_iter()
        .map(|(key, criterion)| {
            let Criterion { eq, neq, contains, exists, .. } = criterion;
            let members = [
                ("eq", json!(words(eq))),
                ("neq", json!(words(neq))),
                ("contains", json!(words(contains))),
                ("exists", json!(exists)),
            ];
            let given: BTreeMap<_, _> = members.into_iter().filter(|(_, value)| !value.is_null()).collect();
            (key, given)
        })
        .collect();
    ReadRule { name: summary.rule_name, filter: json!(criteria).to_string() }
}
