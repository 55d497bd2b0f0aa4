//! IAM Access Analyzer: the analyzers of one account in one region, read and changed.

use std::collections::BTreeMap;

use aws_sdk_accessanalyzer::operation::RequestId;
use aws_sdk_accessanalyzer::types::{AnalyzerSummary, Criterion, FindingsStatistics, InlineArchiveRule, Type};
use chrono::DateTime;

use super::client::send;
use super::{Aws, AwsError, Operation, Page, Session, token};
use crate::config::ArchiveRule;
use crate::model::{Analyzer, AnalyzerArn, FindingsCount, Region, TypeCount, ZoneOfTrust};

/// An analyzer that is to be. Of external access only: there is no other zone of trust.
#[derive(Debug, Clone)]
pub struct NewAnalyzer<'a> {
    /// Its name, unique in its account and region.
    pub name: &'a str,
    /// What it takes for its own.
    pub zone: ZoneOfTrust,
    /// Its tags.
    pub tags: &'a BTreeMap<String, String>,
    /// What it archives by itself.
    pub archive_rules: &'a [ArchiveRule],
    /// The same for every attempt to create it: AWS creates one for all.
    pub client_token: &'a str,
}

/// What a call that changed something answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The ARN of what it made, where it made something.
    pub arn: Option<String>,
    /// AWS's id of the request.
    pub request_id: Option<String>,
}

impl Aws {
    /// One page of `access-analyzer:ListAnalyzers`: analyzers of every type and status.
    ///
    /// # Errors
    /// As every call: see [`AwsError`]. An analyzer that lacks what the verdict needs makes the answer malformed.
    pub async fn list_analyzers(
        &self,
        session: &Session,
        region: &Region,
        next_token: Option<String>,
    ) -> Result<Page<Analyzer>, AwsError> {
        const OPERATION: Operation = Operation::ListAnalyzers;
        let call = self.access_analyzer_in(region).list_analyzers().set_next_token(next_token);
        let output =
            send!(call, aws_sdk_accessanalyzer, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        let items = output
            .analyzers
            .into_iter()
            .map(|summary| read(summary, region).map_err(|problem| AwsError::malformed(OPERATION, problem)))
            .collect::<Result<_, _>>()?;
        Ok(Page { items, next_token: token(output.next_token) })
    }

    /// `access-analyzer:GetFindingsStatistics`: how many findings an analyzer of the session's account has.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn count_findings(
        &self,
        session: &Session,
        region: &Region,
        analyzer_arn: &str,
    ) -> Result<FindingsCount, AwsError> {
        const OPERATION: Operation = Operation::GetFindingsStatistics;
        let call = self.access_analyzer_in(region).get_findings_statistics().analyzer_arn(analyzer_arn);
        let output =
            send!(call, aws_sdk_accessanalyzer, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        let statistics = output.findings_statistics.unwrap_or_default();
        Ok(count(analyzer_arn, &statistics))
    }

    /// `access-analyzer:GetAnalyzer`: an analyzer of the session's account, by its name.
    ///
    /// # Errors
    /// As [`Aws::list_analyzers`].
    pub async fn get_analyzer(&self, session: &Session, region: &Region, name: &str) -> Result<Analyzer, AwsError> {
        const OPERATION: Operation = Operation::GetAnalyzer;
        let call = self.access_analyzer_in(region).get_analyzer().analyzer_name(name);
        let output =
            send!(call, aws_sdk_accessanalyzer, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        let summary = output.analyzer.ok_or_else(|| AwsError::malformed(OPERATION, "the answer has no analyzer"))?;
        read(summary, region).map_err(|problem| AwsError::malformed(OPERATION, problem))
    }

    /// `access-analyzer:CreateAnalyzer`. It is `CREATING` at first.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn create_analyzer(
        &self,
        session: &Session,
        region: &Region,
        new: &NewAnalyzer<'_>,
    ) -> Result<Changed, AwsError> {
        const OPERATION: Operation = Operation::CreateAnalyzer;
        let zone = match new.zone {
            ZoneOfTrust::Account => Type::Account,
            ZoneOfTrust::Organization => Type::Organization,
        };
        let rules = new.archive_rules.iter().map(rule).collect::<Result<Vec<_>, _>>();
        let rules = rules.map_err(|problem| AwsError::malformed(OPERATION, problem))?;
        let call = self
            .access_analyzer_in(region)
            .create_analyzer()
            .analyzer_name(new.name)
            .r#type(zone)
            .set_tags((!new.tags.is_empty()).then(|| new.tags.clone().into_iter().collect()))
            .set_archive_rules((!rules.is_empty()).then_some(rules))
            .client_token(new.client_token);
        let output =
            send!(call, aws_sdk_accessanalyzer, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        let request_id = output.request_id().map(str::to_owned);
        Ok(Changed { arn: output.arn, request_id })
    }

    /// `access-analyzer:DeleteAnalyzer`. Its findings are gone for good.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn delete_analyzer(&self, session: &Session, region: &Region, name: &str) -> Result<Changed, AwsError> {
        const OPERATION: Operation = Operation::DeleteAnalyzer;
        let call = self.access_analyzer_in(region).delete_analyzer().analyzer_name(name);
        let output =
            send!(call, aws_sdk_accessanalyzer, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        Ok(Changed { arn: None, request_id: output.request_id().map(str::to_owned) })
    }
}

/// Adds up what AWS counted; a number that is left out is none.
fn count(analyzer_arn: &str, statistics: &[FindingsStatistics]) -> FindingsCount {
    let mut by_type = BTreeMap::new();
    let (mut all_active, mut all_archived, mut all_resolved) = (0, 0, 0);
    let number = |number: Option<i32>| i64::from(number.unwrap_or(0));
    let mut add = |active: Option<i32>, archived: Option<i32>, resolved: Option<i32>| {
        all_active += number(active);
        all_archived += number(archived);
        all_resolved += number(resolved);
    };
    for part in statistics {
        match part {
            FindingsStatistics::ExternalAccessFindingsStatistics(one) => {
                add(one.total_active_findings, one.total_archived_findings, one.total_resolved_findings);
                for (kind, details) in one.resource_type_statistics.iter().flatten() {
                    let public = Some(number(details.total_active_public));
                    let cross_account = Some(number(details.total_active_cross_account));
                    let count = TypeCount { public, cross_account, active: None };
                    by_type.insert(kind.as_str().to_owned(), count);
                }
            }
            FindingsStatistics::InternalAccessFindingsStatistics(one) => {
                add(one.total_active_findings, one.total_archived_findings, one.total_resolved_findings);
                for (kind, details) in one.resource_type_statistics.iter().flatten() {
                    let active = Some(number(details.total_active_findings));
                    by_type.insert(kind.as_str().to_owned(), TypeCount { active, ..TypeCount::default() });
                }
            }
            FindingsStatistics::UnusedAccessFindingsStatistics(one) => {
                add(one.total_active_findings, one.total_archived_findings, one.total_resolved_findings);
                for details in one.unused_access_type_statistics.iter().flatten() {
                    let active = Some(number(details.total));
                    let kind = details.unused_access_type.clone().unwrap_or_default();
                    by_type.insert(kind, TypeCount { active, ..TypeCount::default() });
                }
            }
            // A kind that was invented after us is in no sum of ours.
            _ => {}
        }
    }
    FindingsCount {
        analyzer_arn: analyzer_arn.to_owned(),
        active: all_active,
        archived: all_archived,
        resolved: all_resolved,
        by_type,
    }
}

fn rule(rule: &ArchiveRule) -> Result<InlineArchiveRule, String> {
    let list = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    let mut inline = InlineArchiveRule::builder().rule_name(&rule.name);
    for (key, criterion) in &rule.filter {
        let sdk = Criterion::builder()
            .set_eq(list(&criterion.eq))
            .set_neq(list(&criterion.neq))
            .set_contains(list(&criterion.contains))
            .set_exists(criterion.exists)
            .build();
        inline = inline.filter(key, sdk);
    }
    inline.build().map_err(|error| error.to_string())
}

/// The SDK fills in required members that are missing; none of those is taken for an answer.
fn read(summary: AnalyzerSummary, region: &Region) -> Result<Analyzer, String> {
    let arn = summary.arn;
    let location = AnalyzerArn::parse(&arn).ok_or_else(|| format!("`{arn}` is not the ARN of an analyzer"))?;
    if location.region != *region {
        return Err(format!("{region} listed `{arn}`, which is in another region"));
    }
    let analyzer_type = summary.r#type.as_str().to_owned();
    let status = summary.status.as_str().to_owned();
    for (member, word) in [("type", &analyzer_type), ("status", &status)] {
        // The SDK's filler for a missing word is a sentence.
        if word.is_empty() || word.contains(char::is_whitespace) {
            return Err(format!("the {member} of {arn} is missing"));
        }
    }
    Ok(Analyzer {
        arn,
        location,
        name: summary.name,
        analyzer_type,
        status,
        status_reason: summary.status_reason.map(|reason| reason.code.as_str().to_owned()),
        managed_by: summary.managed_by.filter(|service| !service.is_empty()),
        created_at: DateTime::from_timestamp(summary.created_at.secs(), 0).filter(|at| at.timestamp() > 0),
        tags: summary.tags.unwrap_or_default().into_iter().collect(),
    })
}
