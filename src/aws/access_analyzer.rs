//! IAM Access Analyzer: the analyzers of one account in one region.

use aws_sdk_accessanalyzer::types::AnalyzerSummary;
use chrono::DateTime;

use super::client::send;
use super::{Aws, AwsError, Operation, Page, Session, token};
use crate::model::{Analyzer, AnalyzerArn, Region};

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
