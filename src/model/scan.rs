//! A scan, and the visits that it is made of.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::closed_set::closed_set;
use super::{Account, AccountId, Analyzer, ByRequirement, Coverage, Failure, FindingsCount, Region};

/// The number of a scan in the store.
pub type ScanId = i64;

closed_set! {
    /// What started a scan.
    Trigger, "trigger" {
        /// The schedule came due.
        Schedule = "schedule",
        /// The daemon started and the newest results were stale.
        Startup = "startup",
        /// A person asked.
        Manual = "manual",
    }
}

closed_set! {
    /// How much of an organization a scan visits.
    Scope, "scope" {
        /// Every account.
        All = "all",
        /// Some accounts only: left out of trends.
        Partial = "partial",
    }
}

closed_set! {
    /// How far a scan has come.
    ScanState, "scan state" {
        /// At work.
        Running = "running",
        /// Every account was visited.
        Completed = "completed",
        /// It ended with accounts not reached.
        Incomplete = "incomplete",
        /// It could not begin, no account could be entered, or the account list was not believable.
        Failed = "failed",
    }
}

closed_set! {
    /// What became of one account in one scan.
    VisitOutcome, "outcome" {
        /// It was entered and at least one region was read.
        Audited = "audited",
        /// It could not be entered, or nothing in it could be read.
        Unreachable = "unreachable",
        /// Suspended, closed, or not yet activated.
        NotActive = "not_active",
        /// Left out by the configuration.
        Excluded = "excluded",
        /// Not reached before the scan ended.
        Pending = "pending",
    }
}

/// What a scan knows of its organization before it lists the accounts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Discovered {
    /// `o-…`, or `account:<id>` for a standalone account.
    pub organization_id: String,
    /// The management account; `None` for a standalone account.
    pub management: Option<AccountId>,
    /// The accounts that may own the organization's analyzers.
    pub owners: Vec<AccountId>,
    /// Whether `owners` is the whole list.
    pub owners_known: bool,
}

/// An account that a scan has still to visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The account, as the list describes it.
    pub account: Account,
    /// Whether it may own the organization's analyzers, so that the verdict on the others needs it.
    pub is_owner: bool,
}

/// One account in one scan, judged and ready to be stored.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The account as Organizations described it in this scan.
    pub account: Account,
    /// What became of it.
    pub outcome: VisitOutcome,
    /// Why it was unreachable, or what most of the regions that could not be read had in common.
    pub failure: Option<Failure>,
    /// When the visit began.
    pub started_at: DateTime<Utc>,
    /// When the last answer came in: the instant that the verdicts speak of.
    pub finished_at: DateTime<Utc>,
    /// Exactly one verdict for each region of the account.
    pub coverage: Vec<RegionCoverage>,
    /// The regions whose analyzers were listed to the end, or that the account has left: one that is missing there is gone.
    pub regions_read: Vec<Region>,
    /// The regions in which the organization's analyzers could not be seen.
    pub blind: Vec<Region>,
    /// Whether it was audited for want of knowledge: what says whether the configuration leaves it out could not be read.
    pub undecided: bool,
    /// Every analyzer that this visit is the authority on.
    pub analyzers: Vec<Analyzer>,
    /// How many findings each of its own analyzers has, where they were counted.
    pub findings: Vec<FindingsCount>,
    /// Whether the account's role could be assumed; `None` where it needs none, or was not tried.
    pub entered: Option<bool>,
}

/// The verdict on one region of a visit.
#[derive(Debug, Clone)]
pub struct RegionCoverage {
    /// Where.
    pub region: Region,
    /// What.
    pub coverage: Coverage,
    /// What it would be under each requirement.
    pub by_requirement: ByRequirement,
    /// The exemption that it is under, by its digest: the verdict is what it is all the same.
    pub exemption: Option<String>,
}

impl RegionCoverage {
    /// A verdict that hangs on no requirement and names no analyzer.
    pub const fn bare(region: Region, reason: super::Reason) -> Self {
        Self { region, coverage: Coverage::bare(reason), by_requirement: ByRequirement::same(reason), exemption: None }
    }
}

/// How a scan ended.
#[derive(Debug, Clone)]
pub struct ScanEnd {
    /// `completed`, `incomplete` or `failed`.
    pub state: ScanState,
    /// For a person: why it is not `completed`.
    pub error: Option<String>,
    /// Whether the account list was read to its end and believed, so that an account that is missing from it has left.
    pub list_complete: bool,
}

/// What one operation of AWS cost a scan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallCount {
    /// As in an IAM policy, such as `sts`.
    pub service: &'static str,
    /// Such as `AssumeRole`.
    pub operation: &'static str,
    /// Attempts.
    pub calls: u64,
    /// Of these, second and later ones.
    pub retries: u64,
    /// Of these, throttled.
    pub throttled: u64,
    /// Of these, failed.
    pub errors: u64,
    /// How long they took together; they overlap, so that this is more than the scan took.
    pub seconds: f64,
    /// Sent and received: heads and bodies, without TLS.
    pub bytes: u64,
    /// For how long at least one call waited for the operation's rate.
    pub rate_wait_seconds: f64,
}

/// For how long at least one account was in each stage. The stages overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StageSeconds {
    /// Accounts are listed; waiting until they can be visited is part of it.
    pub discover: f64,
    /// Roles are assumed.
    pub assume: f64,
    /// Regions are read.
    pub audit: f64,
    /// Verdicts are reached.
    pub evaluate: f64,
    /// Visits are stored.
    pub store: f64,
}

/// What a scan cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ScanCost {
    /// By operation.
    pub calls: Vec<CallCount>,
    /// By stage.
    pub stages: StageSeconds,
    /// The critical path, for a person: what was waited for during the greater part of the scan.
    pub bound_by: String,
}
