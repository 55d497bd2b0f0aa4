//! Compliance Findings, class 2003 of the Open Cybersecurity Schema Framework 1.5.0 (schema.ocsf.io).

use std::io::{self, Write};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::plain::Json;
use super::{Form, Head, Row};
use crate::model::{CONTROLS, RULE, Severity, Status, TITLE};

const DESCRIPTION: &str = "An ACTIVE analyzer of external access, of the account or of its organization, watches the region: what is shared with \
                           others is found.";

pub struct Ocsf {
    made_at: DateTime<Utc>,
    as_of: DateTime<Utc>,
    severity: Severity,
    array: Json,
}

impl Ocsf {
    pub const fn new(head: &Head) -> Self {
        Self { made_at: head.made_at, as_of: head.as_of, severity: head.severity, array: Json::array() }
    }

    fn finding(&self, row: &Row) -> io::Result<Value> {
        let status = row.status()?;
        // compliance.status_id: pass, warning, fail, other. What could not be looked at is a warning, neither a pass nor a fail.
        let compliance_id = match status {
            Status::Covered => 1,
            Status::Unknown => 2,
            Status::NotCovered => 3,
            Status::NotApplicable => 99,
        };
        let (severity_id, severity) = match (status, self.severity) {
            (Status::Covered | Status::NotApplicable, _) => (1, "Informational"),
            (_, Severity::Low) => (2, "Low"),
            (_, Severity::Medium) => (3, "Medium"),
            (_, Severity::High) => (4, "High"),
            (_, Severity::Critical) => (5, "Critical"),
        };
        let (status_id, state) = if row.is_suppressed()? { (3, "Suppressed") } else { (1, "New") };
        let millis = |column: &str| row.instant(column).map(|at| at.timestamp_millis());
        let made = self.made_at.timestamp_millis();
        let since = millis("since").unwrap_or(made);
        let requirements: Vec<String> = CONTROLS.iter().map(|(framework, id)| format!("{framework}: {id}")).collect();
        let standards: Vec<&str> = CONTROLS.iter().map(|(framework, _)| *framework).collect();
        let (account, region) = (row.text("account_id"), row.text("region"));
        let mut organization = json!({"uid": row.text("organization_id"), "name": row.text("organization_name")});
        if !row.text("ou_path").is_empty() {
            organization["ou_uid"] = json!(row.text("ou_path"));
        }
        Ok(json!({
            "activity_id": 1,
            "activity_name": "Create",
            "category_uid": 2,
            "category_name": "Findings",
            "class_uid": 2003,
            "class_name": "Compliance Finding",
            "type_uid": 200_301,
            "type_name": "Compliance Finding: Create",
            "time": made,
            "severity_id": severity_id,
            "severity": severity,
            "status_id": status_id,
            "status": state,
            "status_code": row.text("status"),
            "status_detail": row.sentence(),
            "message": row.sentence(),
            "metadata": {
                "version": "1.5.0",
                "profiles": ["cloud"],
                "event_code": RULE,
                "product": {
                    "name": "trustwatch",
                    "vendor_name": "trustwatch",
                    "uid": "trustwatch",
                    "version": env!("CARGO_PKG_VERSION"),
                },
            },
            "finding_info": {
                "uid": row.uid(),
                "title": TITLE,
                "desc": DESCRIPTION,
                "types": ["Access Analyzer coverage"],
                "created_time": since,
                "first_seen_time": since,
                "last_seen_time": millis("checked_at").unwrap_or_else(|| self.as_of.timestamp_millis()),
            },
            "compliance": {
                "standards": standards,
                "requirements": requirements,
                "control": RULE,
                "status_id": compliance_id,
                "desc": row.text("reason"),
            },
            "cloud": {
                "provider": "AWS",
                "region": region,
                "account": {"uid": account, "name": row.text("account_name"), "type_id": 10, "type": "AWS Account"},
                "org": organization,
            },
            "resources": [{
                "uid": format!("arn:{}:iam::{account}:root", row.partition().as_str()),
                "name": account,
                "type": "AwsAccount",
                "region": region,
                "cloud_partition": row.partition().as_str(),
            }],
        }))
    }
}

impl Form for Ocsf {
    fn begin(&mut self, _: &mut dyn Write, _: &Head) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()> {
        let finding = self.finding(&row)?;
        self.array.value(out, &finding)
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.array.close(out)
    }
}
