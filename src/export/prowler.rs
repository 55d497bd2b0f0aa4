//! Prowler's columns, for whoever has a pipeline for them (Prowler 5, "Output formats", CSV). What could not be read is `MANUAL`, as Prowler
//! has it for what a person must look at; what is not applicable has no row there, and none here.

use std::io::{self, Write};

use super::plain::record;
use super::{Form, Head, Row};
use crate::model::{CONTROLS, RULE, Severity, Status, TITLE, inert};

const COLUMNS: &[&str] = &[
    "AUTH_METHOD",
    "TIMESTAMP",
    "ACCOUNT_UID",
    "ACCOUNT_NAME",
    "ACCOUNT_EMAIL",
    "ACCOUNT_ORGANIZATION_UID",
    "ACCOUNT_ORGANIZATION_NAME",
    "ACCOUNT_TAGS",
    "FINDING_UID",
    "PROVIDER",
    "CHECK_ID",
    "CHECK_TITLE",
    "CHECK_TYPE",
    "STATUS",
    "STATUS_EXTENDED",
    "MUTED",
    "SERVICE_NAME",
    "SUBSERVICE_NAME",
    "SEVERITY",
    "RESOURCE_TYPE",
    "RESOURCE_UID",
    "RESOURCE_NAME",
    "RESOURCE_DETAILS",
    "RESOURCE_TAGS",
    "PARTITION",
    "REGION",
    "DESCRIPTION",
    "RISK",
    "RELATED_URL",
    "REMEDIATION_RECOMMENDATION_TEXT",
    "REMEDIATION_RECOMMENDATION_URL",
    "REMEDIATION_CODE_NATIVEIAC",
    "REMEDIATION_CODE_TERRAFORM",
    "REMEDIATION_CODE_CLI",
    "REMEDIATION_CODE_OTHER",
    "COMPLIANCE",
    "CATEGORIES",
    "DEPENDS_ON",
    "RELATED_TO",
    "NOTES",
    "PROWLER_VERSION",
];

pub struct Prowler {
    as_of: String,
    severity: Severity,
    compliance: String,
}

impl Prowler {
    pub fn new(head: &Head) -> Self {
        let controls: Vec<String> = CONTROLS.iter().map(|(framework, id)| format!("{framework}: {id}")).collect();
        let as_of = head.as_of.format("%Y-%m-%d %H:%M:%S").to_string();
        Self { as_of, severity: head.severity, compliance: controls.join(" | ") }
    }

    fn value(&self, column: &str, row: &Row, status: &str) -> String {
        let (account, region) = (row.text("account_id"), row.text("region"));
        let partition = row.partition();
        let partition = partition.as_str();
        match column {
            "TIMESTAMP" => self.as_of.clone(),
            "ACCOUNT_UID" | "RESOURCE_NAME" => account.to_owned(),
            "ACCOUNT_NAME" => row.text("account_name").to_owned(),
            "ACCOUNT_ORGANIZATION_UID" => row.text("organization_id").to_owned(),
            "ACCOUNT_ORGANIZATION_NAME" => row.text("organization_name").to_owned(),
            "FINDING_UID" => row.uid(),
            "PROVIDER" => "aws".to_owned(),
            "CHECK_ID" => "accessanalyzer_enabled".to_owned(),
            "CHECK_TITLE" | "DESCRIPTION" => TITLE.to_owned(),
            "STATUS" => status.to_owned(),
            "STATUS_EXTENDED" => row.sentence(),
            "MUTED" => if row.is_exempt() && status != "PASS" { "True" } else { "False" }.to_owned(),
            "SERVICE_NAME" => "accessanalyzer".to_owned(),
            "SEVERITY" => self.severity.as_str().to_owned(),
            "RESOURCE_TYPE" => "AwsAccount".to_owned(),
            "RESOURCE_UID" => format!("arn:{partition}:iam::{account}:root"),
            "PARTITION" => partition.to_owned(),
            "REGION" => region.to_owned(),
            "COMPLIANCE" => self.compliance.clone(),
            "NOTES" => format!("{RULE}; written by trustwatch {}", env!("CARGO_PKG_VERSION")),
            _ => String::new(),
        }
    }
}

impl Form for Prowler {
    fn begin(&mut self, out: &mut dyn Write, _: &Head) -> io::Result<()> {
        record(out, COLUMNS.iter().copied().map(str::to_owned), b';')
    }

    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()> {
        let status = match row.status()? {
            Status::Covered => "PASS",
            Status::NotCovered => "FAIL",
            Status::Unknown => "MANUAL",
            Status::NotApplicable => return Ok(()),
        };
        record(out, COLUMNS.iter().map(|column| inert(self.value(column, &row, status))), b';')
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
