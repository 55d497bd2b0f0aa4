//! What remediation goes by, and what it leaves behind.

use chrono::{DateTime, Utc};

use crate::model::{AccountId, Region, Requirement, ScanId};

/// What the newest results say of an organization's gaps.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The newest completed scan of all accounts.
    pub scan_id: ScanId,
    /// When it ended.
    pub scanned_at: DateTime<Utc>,
    /// AWS's id of the organization.
    pub organization_id: String,
    /// What satisfied the rule in that scan.
    pub requirement: Requirement,
    /// Every account × region that is not covered and not exempt.
    pub gaps: Vec<Gap>,
    /// Every analyzer of external access that is the customer's own.
    pub standing: Vec<Standing>,
    /// What is not to be touched.
    pub left: Vec<Left>,
    /// Where the accounts that may own analyzers of the organization cannot own one, or could not be read.
    pub closed: Vec<Closed>,
}

/// An account × region that is not covered.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Gap {
    /// The account.
    #[sqlx(try_from = "String")]
    pub account_id: Id,
    /// Its name.
    pub account_name: String,
    /// The region.
    pub region: String,
}

/// An account id, as a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub AccountId);

impl TryFrom<String> for Id {
    type Error = crate::model::InvalidAccountId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// An analyzer of external access.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Standing {
    /// Whose it is.
    #[sqlx(try_from = "String")]
    pub owner_account_id: Id,
    /// Where.
    pub region: String,
    /// Its ARN.
    pub analyzer_arn: String,
    /// Its name.
    pub name: String,
    /// `ACCOUNT` or `ORGANIZATION`.
    #[sqlx(rename = "type")]
    pub analyzer_type: String,
    /// As AWS spells it.
    pub status: String,
    /// AWS's code, where it gives one.
    pub status_reason: Option<String>,
}

/// Account × regions that are left alone for one reason.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Left {
    /// `exempt`, or the reason of the verdict.
    pub why: String,
    /// How many accounts.
    pub accounts: i64,
    /// How many account × regions.
    pub account_regions: i64,
    /// One of the accounts.
    pub example_account_id: String,
}

/// A region in which an account cannot own an analyzer, or could not be read.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Closed {
    /// The account.
    #[sqlx(try_from = "String")]
    pub account_id: Id,
    /// The region.
    pub region: String,
    /// The status of its verdict.
    pub status: String,
    /// The reason of its verdict.
    pub reason: String,
}

/// Something that is changed in AWS.
#[derive(Debug, Clone)]
pub struct NewAction<'a> {
    /// AWS's id of the organization.
    pub organization_id: &'a str,
    /// `create_analyzer`, `delete_analyzer`, `archive_findings`, `restore_findings`.
    pub action: &'static str,
    /// By which plan, and which of its steps.
    pub plan: Option<(&'a str, &'a str)>,
    /// In which account.
    pub account: AccountId,
    /// In which region.
    pub region: &'a Region,
    /// The analyzer, where it is known.
    pub analyzer_arn: Option<&'a str>,
    /// Its name.
    pub analyzer_name: &'a str,
    /// The findings, where it is about findings.
    pub finding_ids: Option<&'a [String]>,
    /// Why, in the words of who did it.
    pub reason: Option<&'a str>,
    /// Who.
    pub actor: &'a str,
    /// When.
    pub at: DateTime<Utc>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct ActionEnd<'a> {
    /// `done`, `already` or `failed`.
    pub result: &'static str,
    /// The analyzer, where it is known now.
    pub analyzer_arn: Option<&'a str>,
    /// AWS's id of the request.
    pub request_id: Option<&'a str>,
    /// Why it failed.
    pub error: Option<&'a str>,
    /// When that was known.
    pub at: DateTime<Utc>,
}
