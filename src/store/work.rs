//! Scans at work: who takes part in them, what is still to be visited, and which were made before.

use chrono::{DateTime, Utc};

use super::rows::ScanTotals;
use crate::evaluate::OwnerView;
use crate::model::{AccountId, Discovered, Requirement, ScanId, Scope, Trigger};

/// What is known of a scan when it begins.
#[derive(Debug, Clone)]
pub struct NewScan {
    /// The configuration's name of the organization.
    pub organization_name: String,
    /// What started it.
    pub trigger: Trigger,
    /// Whether every account is visited.
    pub scope: Scope,
    /// The instant of the schedule that it answers, if one.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// What satisfies the rule.
    pub requirement: Requirement,
    /// A hash of what can change a verdict.
    pub configuration_hash: String,
    /// The program's version.
    pub version: String,
    /// A scan that a dead process left behind is resumed if it began no earlier than this. One of another name that was last heard
    /// of before this is ended.
    pub resumes_from: DateTime<Utc>,
    /// And if something was recorded in it, or somebody alive in it, no earlier than this.
    pub alive_from: DateTime<Utc>,
    /// Whether one is begun where there is none to take part in.
    pub begins: bool,
}

/// A scan that this process takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// Its number.
    pub scan_id: ScanId,
    /// When it began, here or elsewhere.
    pub started_at: DateTime<Utc>,
    /// Whether it was at work before.
    pub how: JoinMode,
}

/// How a process came to a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinMode {
    /// It began it.
    Began,
    /// Others are at it.
    Joined,
    /// A process that is dead left it behind.
    Resumed,
}

/// Why a scan cannot be of the organization that AWS names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityConflict {
    /// It is configured under this name too: each would overwrite the other's results.
    NamedToo(String),
    /// The scan, or its name in the configuration, is of this other organization, by AWS's id, which has members already.
    OfAnother(String),
}

/// How a scan is getting on, over all who take part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Whether the list of accounts has ended.
    pub listed: bool,
    /// Accounts that are listed and not recorded.
    pub left: u64,
    /// Of these, owners of the organization's analyzers that have not said anything yet.
    pub owners_left: u64,
    /// Other processes that take part in it.
    pub peers: u32,
    /// Processes that are at work in any scan, this one included.
    pub replicas: u32,
}

/// How a scan has gone, once every account is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Members when it began.
    pub known: u64,
    /// Of these, accounts that were not listed.
    pub missing: u64,
    /// Accounts that were recorded as not reached.
    pub pending: u64,
    /// Whether the list of accounts has ended.
    pub listed: bool,
    /// Why it did not end well.
    pub list_error: Option<String>,
    /// Accounts that were entered with their role.
    pub entered: u64,
    /// Accounts whose role could not be assumed.
    pub locked: u64,
    /// One of these, and why.
    pub example: Option<String>,
}

/// What all who take part in a scan know of its organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The organization and the owners of its analyzers.
    pub discovered: Discovered,
    /// What owners said so far.
    pub owners: Vec<(AccountId, OwnerView)>,
}

/// The scans of an organization that were made before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    /// The newest instant of the schedule, up to now, that has a scan.
    pub scheduled: Option<DateTime<Utc>>,
    /// When the newest scan of all accounts began that was completed, and by the configuration that was asked about.
    pub completed: Option<DateTime<Utc>>,
    /// Whether there is a scheduled one, or one of a start, that has not ended.
    pub at_work: bool,
}

/// What there is to say of an organization's scans, for whoever watches the service.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Processes that are at work in any scan of this database.
    pub replicas: u32,
    /// When the newest scan of all accounts began.
    pub started: Option<DateTime<Utc>>,
    /// When the oldest scan of all accounts since the newest completed one began.
    pub unfinished_since: Option<DateTime<Utc>>,
    /// Accounts that the scan at work has listed and not recorded.
    pub accounts_left: u64,
    /// The newest completed scan of all accounts.
    pub completed: Option<ScanTotals>,
    /// The newest scan of the whole organization: the same, or a later one that found every role gone.
    pub whole: Option<ScanTotals>,
}
