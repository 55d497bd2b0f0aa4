//! What a store answers with.

use std::fmt;

use serde::Serialize;

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use super::timestamp::Timestamp;
use crate::config::Expiry;
use crate::model::{ScanId, ScanState};

/// One value of a query's row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// SQL's null.
    Null,
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
    /// A text, an instant or a JSON document.
    Text(String),
}

/// As it is; nothing for null.
impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Integer(number) => number.fmt(formatter),
            Self::Real(number) => number.fmt(formatter),
            Self::Text(text) => text.fmt(formatter),
        }
    }
}

impl Cell {
    /// A whole number; 0 where it is none.
    pub const fn whole(&self) -> i64 {
        if let Self::Integer(number) = self { *number } else { 0 }
    }

    /// A number.
    #[expect(clippy::cast_precision_loss, reason = "shares, of which SQLite may answer 0 and 1 as whole numbers")]
    pub const fn real(&self) -> Option<f64> {
        match self {
            Self::Real(number) => Some(*number),
            Self::Integer(number) => Some(*number as f64),
            Self::Null | Self::Text(_) => None,
        }
    }

    /// A text; empty where it is none.
    pub fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }

    /// An instant.
    pub fn instant(&self) -> Option<DateTime<Utc>> {
        DateTime::parse_from_rfc3339(self.text()).ok().map(|at| at.with_timezone(&Utc))
    }
}

/// One scan, added up.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct ScanTotals {
    /// Its number.
    pub scan_id: ScanId,
    /// AWS's id of the organization; `None` where the scan failed before it was known.
    pub organization_id: Option<String>,
    /// The configuration's name of it.
    pub organization_name: String,
    /// `all`, or `partial`: some accounts only.
    pub scope: String,
    /// How it ended.
    #[sqlx(try_from = "String")]
    pub state: State,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How long it took.
    pub duration_seconds: Option<f64>,
    /// Accounts with a visit.
    pub accounts: Option<i64>,
    /// Of these, audited.
    pub accounts_audited: Option<i64>,
    /// Of these, unreachable.
    pub accounts_unreachable: Option<i64>,
    /// Of these, not active.
    pub accounts_not_active: Option<i64>,
    /// Of these, excluded.
    pub accounts_excluded: Option<i64>,
    /// Rows.
    pub account_regions: Option<i64>,
    /// Of these, covered.
    pub covered: Option<i64>,
    /// Of these, not covered.
    pub not_covered: Option<i64>,
    /// Of these, not applicable.
    pub not_applicable: Option<i64>,
    /// Of these, unknown.
    pub unknown: Option<i64>,
    /// covered / (covered + not covered)
    pub coverage_ratio: Option<f64>,
    /// The same, each unknown counted by its last known answer.
    pub coverage_ratio_last_known: Option<f64>,
    /// (covered + not covered) / (covered + not covered + unknown)
    pub measured_ratio: Option<f64>,
    /// Of all rows, those that are exempt: counted as what they are all the same.
    pub exempt: Option<i64>,
    /// Of those not covered, those that are exempt.
    pub not_covered_exempt: Option<i64>,
    /// Of those unknown, those that are exempt.
    pub unknown_exempt: Option<i64>,
    /// What satisfies the rule.
    pub requirement: String,
    /// Why it is not completed.
    pub error: Option<String>,
}

/// A scan's state, as a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct State(pub ScanState);

impl TryFrom<String> for State {
    type Error = crate::model::UnknownWord;

    fn try_from(word: String) -> Result<Self, Self::Error> {
        word.parse().map(Self)
    }
}

/// One region of a scan, counted.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct RegionCounts {
    /// The region.
    pub region: String,
    /// Accounts covered in it.
    pub covered: i64,
    /// Accounts not covered in it.
    pub not_covered: i64,
    /// Accounts in which there is nothing to cover.
    pub not_applicable: i64,
    /// Accounts that could not be looked at there.
    pub unknown: i64,
}

/// One cause of `unknown` in a scan.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Unreadable {
    /// The reason.
    pub reason: String,
    /// How many accounts it strikes.
    pub accounts: i64,
    /// How many account × regions.
    pub account_regions: i64,
    /// One of the accounts.
    pub example_account_id: String,
    /// What AWS said there, where the whole account was unreachable.
    pub example_message: Option<String>,
}

/// What a person wants to know of one scan.
#[derive(Debug, Clone, Serialize)]
pub struct ScanReport {
    /// The scan as a whole.
    pub scan: ScanTotals,
    /// Each region.
    pub regions: Vec<RegionCounts>,
    /// What could not be read, and why.
    pub unreadable: Vec<Unreadable>,
    /// The exemptions that the configuration holds.
    pub exemptions: Vec<ExemptionUse>,
    /// Analyzers that could go.
    pub redundant: Vec<Redundant>,
    /// Analyzers of unused access, which AWS bills.
    pub billed_analyzers: i64,
    /// Archive rules that are not the same everywhere; empty where they are not read.
    pub rule_drift: Vec<RuleDrift>,
}

/// An archive rule that an owner's analyzers of one type do not all have alike.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct RuleDrift {
    /// The account that owns the analyzers.
    pub owner_account_id: String,
    /// The rule.
    pub rule_name: String,
    /// Analyzers that lack it.
    pub missing: i64,
    /// Analyzers that have it, where it is not the same in all.
    pub different: i64,
    /// One of the regions.
    pub example: String,
}

/// Analyzers that could go for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct Redundant {
    /// As in `redundant_analyzers`.
    pub why: String,
    /// How many.
    pub analyzers: i64,
    /// Of these, billed.
    pub billed: i64,
    /// One of them.
    pub example: String,
}

/// An exemption, and what it is for.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct ExemptionUse {
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Where that was decided.
    pub ticket: Option<String>,
    /// What it is for, as the configuration says.
    pub scope: Json<serde_json::Value>,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Account × regions that are exempt by it.
    pub account_regions: i64,
    /// Of these, not covered.
    pub not_covered: i64,
    /// Of these, unknown.
    pub unknown: i64,
}

impl ExemptionUse {
    /// What somebody has to be told of it; `None` where all is well.
    pub fn warning(&self, now: DateTime<Utc>) -> Option<String> {
        let expiry = Expiry(self.expires_at.into());
        let what = if expiry.is_over(now) {
            format!("ended on {expiry}: what it was for is exempt no longer; extend or remove it")
        } else if self.account_regions == 0 {
            "is for no account and region that is known; correct or remove it".to_owned()
        } else if expiry.is_near(now) {
            format!("ends on {expiry}, and is for {} account × regions", self.account_regions)
        } else {
            return None;
        };
        Some(format!("the exemption of {} ({}) {what}", self.owner, self.reason))
    }
}
