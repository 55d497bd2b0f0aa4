//! AWS Security Hub: findings of ours, imported.

use std::collections::HashMap;

use aws_sdk_securityhub::types::{
    AwsSecurityFinding, Compliance, ComplianceStatus, FindingProviderFields, FindingProviderSeverity, Partition,
    Recommendation, RecordState, Remediation, Resource, Severity, SeverityLabel,
};
use serde_json::Value;

use super::client::send;
use super::{Aws, AwsError, Operation, Session};
use crate::model::Region;

/// Findings in one call, at most (AWS Security Hub API Reference, `BatchImportFindings`).
pub const MOST_AT_ONCE: usize = 100;

/// What Security Hub took, and what it did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    /// What it refused: the id of the finding, and why.
    pub refused: Vec<(String, String)>,
}

impl Aws {
    /// `securityhub:BatchImportFindings`: up to [`MOST_AT_ONCE`] findings in Security Hub's own format, of the session's account and
    /// of this region: AWS takes no others.
    ///
    /// # Errors
    /// As every call: see [`AwsError`]. A finding that lacks what the format requires makes the request malformed.
    pub async fn import_findings(
        &self,
        session: &Session,
        region: &Region,
        findings: &[Value],
    ) -> Result<Import, AwsError> {
        const OPERATION: Operation = Operation::BatchImportFindings;
        let findings = findings.iter().map(finding).collect::<Result<Vec<_>, _>>();
        let findings = findings.map_err(|problem| AwsError::malformed(OPERATION, problem))?;
        let call = self.security_hub_in(region).batch_import_findings().set_findings(Some(findings));
        let output =
            send!(call, aws_sdk_securityhub, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        let refused = output.failed_findings.unwrap_or_default().into_iter().map(|failed| {
            let why = [failed.error_code, failed.error_message].into_iter().flatten().collect::<Vec<_>>().join(": ");
            (failed.id.unwrap_or_default(), why)
        });
        let refused: Vec<_> = refused.collect();
        // The number is believed over the list: what is not listed was not imported either.
        if output.failed_count.unwrap_or(0) > 0 && refused.is_empty() {
            return Err(AwsError::malformed(OPERATION, "findings were refused, and AWS does not say which"));
        }
        Ok(Import { refused })
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(text).collect()
}

/// The SDK's form of a finding in Security Hub's format.
fn finding(value: &Value) -> Result<AwsSecurityFinding, String> {
    let resources = value["Resources"].as_array().into_iter().flatten().map(|resource| {
        Resource::builder()
            .set_type(text(&resource["Type"]))
            .set_id(text(&resource["Id"]))
            .set_partition(resource["Partition"].as_str().map(Partition::from))
            .set_region(text(&resource["Region"]))
            .build()
    });
    let fields: HashMap<String, String> = value["ProductFields"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), text(value)?)))
        .collect();
    let severity = Severity::builder()
        .set_label(value["Severity"]["Label"].as_str().map(SeverityLabel::from))
        .set_original(text(&value["Severity"]["Original"]))
        .build();
    let recommendation = &value["Remediation"]["Recommendation"];
    let recommendation =
        Recommendation::builder().set_text(text(&recommendation["Text"])).set_url(text(&recommendation["Url"])).build();
    let compliance = Compliance::builder()
        .set_status(value["Compliance"]["Status"].as_str().map(ComplianceStatus::from))
        .set_related_requirements(Some(texts(&value["Compliance"]["RelatedRequirements"])))
        .build();
    let provided = &value["FindingProviderFields"];
    let provided = FindingProviderFields::builder()
        .severity(
            FindingProviderSeverity::builder()
                .set_label(provided["Severity"]["Label"].as_str().map(SeverityLabel::from))
                .set_original(text(&provided["Severity"]["Original"]))
                .build(),
        )
        .set_types(Some(texts(&provided["Types"])))
        .build();
    let finding = AwsSecurityFinding::builder()
        .set_schema_version(text(&value["SchemaVersion"]))
        .set_id(text(&value["Id"]))
        .set_product_arn(text(&value["ProductArn"]))
        .set_generator_id(text(&value["GeneratorId"]))
        .set_aws_account_id(text(&value["AwsAccountId"]))
        .set_types(Some(texts(&value["Types"])))
        .set_first_observed_at(text(&value["FirstObservedAt"]))
        .set_last_observed_at(text(&value["LastObservedAt"]))
        .set_created_at(text(&value["CreatedAt"]))
        .set_updated_at(text(&value["UpdatedAt"]))
        .severity(severity)
        .set_title(text(&value["Title"]))
        .set_description(text(&value["Description"]))
        .remediation(Remediation::builder().recommendation(recommendation).build())
        .set_product_fields(Some(fields))
        .set_resources(Some(resources.collect()))
        .compliance(compliance)
        .finding_provider_fields(provided)
        .set_record_state(value["RecordState"].as_str().map(RecordState::from))
        .build();
    for (member, given) in
        [("Id", &finding.id), ("ProductArn", &finding.product_arn), ("AwsAccountId", &finding.aws_account_id)]
    {
        if given.as_deref().is_none_or(str::is_empty) {
            return Err(format!("a finding lacks its {member}"));
        }
    }
    Ok(finding)
}
