//! Findings of AWS Security Hub in its own format (AWS Security Hub User Guide, "AWS Security Finding Format").

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::plain::Json;
use super::{ExportError, Filter, Form, Head, Row, select};
use crate::model::{AccountId, AccountState, CONTROLS, RULE, Status, TITLE};
use crate::model::{Severity, shortened};
use crate::store::Store;
use crate::store::query::ask;

/// Characters of a description (the same guide, "`Description`").
const DESCRIPTION: usize = 1024;

/// What kind of finding it is ("Types taxonomy for ASFF").
const TYPE: &str = "Software and Configuration Checks/AWS Security Best Practices";

/// Characters of one related requirement, and how many there may be ("`RelatedRequirements`").
const REQUIREMENT: usize = 64;

pub struct Asff {
    maker: Maker,
    array: Json,
}

/// Makes findings.
struct Maker {
    made_at: DateTime<Utc>,
    as_of: DateTime<Utc>,
    severity: Severity,
}

/// A finding for Security Hub itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Hub {
    /// AWS's id of the organization.
    pub organization_id: String,
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// Whether the rule applies there.
    pub applies: bool,
    /// Whether the account is ACTIVE.
    pub is_active: bool,
    /// The finding, in Security Hub's format.
    pub finding: Value,
}

/// A finding as it is imported. Its workflow is the team's: after the first import Security Hub lets nobody else change it, so
/// none is sent; what is exempt is archived for as long as it is.
fn importable(mut finding: Value, is_suppressed: bool) -> Value {
    if let Some(members) = finding.as_object_mut() {
        members.remove("Workflow");
        if is_suppressed {
            members.insert("RecordState".to_owned(), json!("ARCHIVED"));
        }
    }
    finding
}

/// The newest results of some accounts of an organization as findings.
///
/// # Errors
/// Where the store cannot be read, or holds a word that there is not.
pub async fn for_security_hub(
    store: &dyn Store,
    organization: &str,
    accounts: &[AccountId],
    severity: Severity,
    made_at: DateTime<Utc>,
) -> Result<Vec<Hub>, ExportError> {
    let filter =
        Filter { organization: Some(organization.to_owned()), accounts: accounts.to_vec(), ..Filter::default() };
    let rows = ask(store, &select::rows(&filter, None)).await?.rows.into_iter().map(Row::new);
    let maker = Maker { made_at, as_of: made_at, severity };
    let hub = |row: Row| {
        Ok(Hub {
            organization_id: row.text("organization_id").to_owned(),
            account: row.text("account_id").to_owned(),
            region: row.text("region").to_owned(),
            applies: row.status()? != Status::NotApplicable,
            is_active: row.text("account_state") == AccountState::Active.as_str(),
            finding: importable(maker.finding(&row)?, row.is_suppressed()?),
        })
    };
    rows.map(hub).collect()
}

impl Asff {
    pub const fn new(head: &Head) -> Self {
        let Head { made_at, as_of, severity, .. } = *head;
        Self { maker: Maker { made_at, as_of, severity }, array: Json::array() }
    }
}

impl Maker {
    fn finding(&self, row: &Row) -> io::Result<Value> {
        let status = row.status()?;
        let compliance = match status {
            Status::Covered => "PASSED",
            Status::NotCovered => "FAILED",
            Status::Unknown => "WARNING",
            Status::NotApplicable => "NOT_AVAILABLE",
        };
        let severity = match (status, self.severity) {
            (Status::Covered | Status::NotApplicable, _) => "INFORMATIONAL",
            (_, Severity::Low) => "LOW",
            (_, Severity::Medium) => "MEDIUM",
            (_, Severity::High) => "HIGH",
            (_, Severity::Critical) => "CRITICAL",
        };
        let text = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
        let made = text(self.made_at);
        let since = row.instant("since").map_or_else(|| made.clone(), text);
        let (account, region) = (row.text("account_id"), row.text("region"));
        let partition = row.partition();
        let partition = partition.as_str();
        let requirement = |(framework, id): &(&str, &str)| shortened(&format!("{framework} {id}"), REQUIREMENT);
        let requirements: Vec<String> = CONTROLS.iter().map(requirement).collect();
        let workflow = if row.is_suppressed()? {
            "SUPPRESSED"
        } else if status == Status::Covered {
            "RESOLVED"
        } else {
            "NEW"
        };
        Ok(json!({
            "SchemaVersion": "2018-10-08",
            "Id": row.uid(),
            "ProductArn": format!("arn:{partition}:securityhub:{region}:{account}:product/{account}/default"),
            "GeneratorId": format!("trustwatch/{RULE}"),
            "AwsAccountId": account,
            "Types": [TYPE],
            "FirstObservedAt": since,
            "LastObservedAt": text(row.instant("checked_at").unwrap_or(self.as_of)),
            "CreatedAt": since,
            "UpdatedAt": made,
            "Severity": {"Label": severity, "Original": self.severity.as_str()},
            // By these Security Hub lets the severity of a finding change after it was first imported.
            "FindingProviderFields": {
                "Severity": {"Label": severity, "Original": self.severity.as_str()},
                "Types": [TYPE],
            },
            "Title": TITLE,
            "Description": shortened(&row.sentence(), DESCRIPTION),
            "Remediation": {"Recommendation": {
                "Text": "Create an analyzer of external access, of the organization or of the account, in the region.",
                "Url": "https://docs.aws.amazon.com/IAM/latest/UserGuide/access-analyzer-getting-started.html",
            }},
            "ProductFields": {
                "trustwatch/organization_id": row.text("organization_id"),
                "trustwatch/status": row.text("status"),
                "trustwatch/reason": row.text("reason"),
            },
            "Resources": [{
                "Type": "AwsAccount",
                "Id": format!("AWS::::Account:{account}"),
                "Partition": partition,
                "Region": region,
            }],
            "Compliance": {"Status": compliance, "RelatedRequirements": requirements},
            "Workflow": {"Status": workflow},
            "RecordState": "ACTIVE",
        }))
    }
}

impl Form for Asff {
    fn begin(&mut self, _: &mut dyn Write, _: &Head) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()> {
        let finding = self.maker.finding(&row)?;
        self.array.value(out, &finding)
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.array.close(out)
    }
}
