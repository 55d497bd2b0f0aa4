//! Analyzers of IAM Access Analyzer, as `ListAnalyzers` describes them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{AccountId, Region};

/// The zone of trust of an *external access* analyzer: sharing inside it is not reported.
///
/// Only these two types watch external access; unused and internal access analyzers have a zone too,
/// but answer another question and never satisfy the rule (IAM Access Analyzer API, `CreateAnalyzer`, `type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ZoneOfTrust {
    /// Type `ACCOUNT`.
    Account,
    /// Type `ORGANIZATION`: it watches every member account in its region.
    Organization,
}

impl ZoneOfTrust {
    /// The type of an analyzer of external access with this zone, as AWS spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "ACCOUNT",
            Self::Organization => "ORGANIZATION",
        }
    }
}

/// The parts of an analyzer's ARN that say where it lives and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalyzerArn {
    /// The region in which the analyzer lives.
    pub region: Region,
    /// The account that owns it: for an organization analyzer not the account that listed it.
    pub owner: AccountId,
}

impl AnalyzerArn {
    /// The name of an analyzer, by its ARN: unique in its account and region.
    pub fn name_of(arn: &str) -> &str {
        arn.rsplit('/').next().unwrap_or_default()
    }

    /// Reads `arn:<partition>:access-analyzer:<region>:<account>:analyzer/<name>`.
    /// `None` where the text is no such ARN.
    pub fn parse(arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (scheme, _partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, owner, resource) = (parts.next()?, parts.next()?, parts.next()?);
        if scheme != "arn" || service != "access-analyzer" || region.is_empty() {
            return None;
        }
        resource.strip_prefix("analyzer/").filter(|name| !name.is_empty())?;
        Some(Self { region: Region::new(region), owner: owner.parse().ok()? })
    }
}

/// One analyzer of any type. Type and status are kept as AWS spells them, so that a value invented
/// tomorrow is stored as it is and satisfies nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analyzer {
    /// The full ARN.
    pub arn: String,
    /// Whose and where, read from `arn`.
    pub location: AnalyzerArn,
    /// The name; AWS's own begin with an underscore.
    pub name: String,
    /// `ACCOUNT`, `ORGANIZATION`, `ACCOUNT_UNUSED_ACCESS`, …
    pub analyzer_type: String,
    /// `ACTIVE`, `CREATING`, `DISABLED`, `FAILED`.
    pub status: String,
    /// `statusReason.code`, where there is one.
    pub status_reason: Option<String>,
    /// The AWS service that manages a service-linked analyzer.
    pub managed_by: Option<String>,
    /// When it was created.
    pub created_at: Option<DateTime<Utc>>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Analyzer {
    /// The zone of trust, if this analyzer watches *external access* and is the customer's own.
    /// Unused-access, internal-access, unknown and service-linked analyzers have none.
    pub fn zone_of_trust(&self) -> Option<ZoneOfTrust> {
        match (self.analyzer_type.as_str(), &self.managed_by) {
            ("ACCOUNT", None) => Some(ZoneOfTrust::Account),
            ("ORGANIZATION", None) => Some(ZoneOfTrust::Organization),
            _ => None,
        }
    }

    /// Whether it is at work. `CREATING`, `DISABLED`, `FAILED` and any status unknown to us are not.
    pub fn is_active(&self) -> bool {
        self.status == "ACTIVE"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_read_from_the_arn() {
        let arn =
            AnalyzerArn::parse("arn:aws-us-gov:access-analyzer:us-gov-west-1:001122334455:analyzer/_x:y").unwrap();
        assert_eq!(arn.owner.as_str(), "001122334455");
        assert_eq!(arn.region.as_str(), "us-gov-west-1");
    }

    #[test]
    fn what_is_no_analyzer_arn_is_refused() {
        for text in [
            "",
            "arn:aws:iam::001122334455:role/x",
            "arn:aws:access-analyzer:us-east-1:00112233445:analyzer/x",
            "arn:aws:access-analyzer::001122334455:analyzer/x",
            "arn:aws:access-analyzer:us-east-1:001122334455:analyzer/",
        ] {
            assert_eq!(AnalyzerArn::parse(text), None, "{text}");
        }
    }
}
