//! What there is to tell people: incidents, which are causes and not rows, and the events that open and close them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::closed_set::closed_set;
use super::{ScanId, counted};

closed_set! {
    /// How much something matters.
    #[derive(Default)]
    Severity, "severity" {
        /// Low.
        Low = "low",
        /// Medium.
        Medium = "medium",
        /// High.
        #[default]
        High = "high",
        /// Critical.
        Critical = "critical",
    }
}

closed_set! {
    /// A cause of gaps.
    IncidentKind, "incident" {
        /// Access Analyzer may not look into the organization any more, so that every analyzer of the organization is disabled
        /// (`AWS_SERVICE_ACCESS_DISABLED`).
        TrustedAccessWithdrawn = "trusted_access_withdrawn",
        /// The account that owns the organization's analyzers may do so no more (`DELEGATED_ADMINISTRATOR_DEREGISTERED`).
        DelegatedAdministratorDeregistered = "delegated_administrator_deregistered",
        /// Analyzers of the organization are gone, or active no more, for another reason.
        OrganizationAnalyzerLost = "organization_analyzer_lost",
        /// Accounts have lost an analyzer of their own, or use a region that nothing covers.
        CoverageLost = "coverage_lost",
        /// Accounts have joined that nothing covers.
        JoinedUncovered = "joined_uncovered",
        /// Accounts could not be read for several scans in a row.
        AccountsUnreadable = "accounts_unreadable",
        /// Too much of the organization could not be measured.
        MeasuredShareLow = "measured_share_low",
        /// A scan of all accounts could not begin, or no account could be entered.
        ScanFailed = "scan_failed",
    }
}

closed_set! {
    /// What changed, as a channel may choose it.
    Change, "kind of change" {
        /// AWS changed.
        World = "world",
        /// What can be seen changed.
        Visibility = "visibility",
        /// Accounts joined.
        Membership = "membership",
    }
}

closed_set! {
    /// What an event says.
    EventKind, "event" {
        /// Gaps have opened.
        Opened = "opened",
        /// Gaps are closed.
        Recovered = "recovered",
        /// How it stands.
        Digest = "digest",
        /// Nothing: a channel is tried.
        Test = "test",
    }
}

impl IncidentKind {
    /// How much it matters.
    pub const fn severity(self) -> Severity {
        match self {
            Self::TrustedAccessWithdrawn
            | Self::DelegatedAdministratorDeregistered
            | Self::OrganizationAnalyzerLost => Severity::Critical,
            Self::CoverageLost | Self::MeasuredShareLow | Self::ScanFailed => Severity::High,
            Self::JoinedUncovered | Self::AccountsUnreadable => Severity::Medium,
        }
    }

    /// What changed.
    pub const fn change(self) -> Change {
        match self {
            Self::AccountsUnreadable | Self::MeasuredShareLow | Self::ScanFailed => Change::Visibility,
            Self::JoinedUncovered => Change::Membership,
            _ => Change::World,
        }
    }

    /// Whether it is of single account × regions, which close it one by one; else it is of a scan as a whole.
    pub const fn has_gaps(self) -> bool {
        !matches!(self, Self::MeasuredShareLow | Self::ScanFailed)
    }

    /// What has happened.
    fn cause(self, subject: Option<&str>) -> String {
        let subject = subject.unwrap_or("?");
        match self {
            Self::TrustedAccessWithdrawn => "trusted access for IAM Access Analyzer was withdrawn".to_owned(),
            Self::DelegatedAdministratorDeregistered => {
                format!("the delegated administrator {subject} was deregistered")
            }
            Self::OrganizationAnalyzerLost => format!("analyzers of the organization in account {subject} were lost"),
            Self::CoverageLost => "coverage was lost".to_owned(),
            Self::JoinedUncovered => "accounts joined without coverage".to_owned(),
            Self::AccountsUnreadable => format!("accounts cannot be read ({subject})"),
            Self::MeasuredShareLow => format!("only {subject} could be measured"),
            Self::ScanFailed => format!("the scan failed: {subject}"),
        }
    }

    /// In one line, what has happened, and how much; the numbers are those of the gaps that it opened.
    pub fn title(self, subject: Option<&str>, account_regions: u64, accounts: u64) -> String {
        let cause = self.cause(subject);
        let so = match self {
            Self::ScanFailed => return cause,
            Self::AccountsUnreadable | Self::MeasuredShareLow => "unknown",
            Self::JoinedUncovered => "not covered",
            _ => "no longer covered",
        };
        format!("{cause}: {} {so}", reach(account_regions, accounts))
    }

    /// In one line, that it is over.
    pub fn recovery(self, subject: Option<&str>, account_regions: u64, accounts: u64) -> String {
        let cause = self.cause(subject);
        if self == Self::ScanFailed { cause } else { format!("{cause} ({})", reach(account_regions, accounts)) }
    }
}

fn reach(account_regions: u64, accounts: u64) -> String {
    format!("{} in {}", counted(account_regions, "account × region"), counted(accounts, "account"))
}

/// One account × region of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapSeen {
    /// The account.
    pub account_id: String,
    /// Its name.
    pub account_name: String,
    /// The region.
    pub region: String,
    /// The reason of its status.
    pub reason: String,
}

/// An incident, as far as one channel is concerned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number.
    pub id: i64,
    /// The cause.
    pub kind: IncidentKind,
    /// How much it matters.
    pub severity: Severity,
    /// What it is of: an account, or a reason.
    pub subject: Option<String>,
    /// In one line.
    pub title: String,
    /// When it was found.
    pub opened_at: DateTime<Utc>,
    /// When its last gap was found closed.
    pub closed_at: Option<DateTime<Utc>>,
    /// Account × regions that it opened.
    pub account_regions: u64,
    /// Accounts of these.
    pub accounts: u64,
    /// Regions of these.
    pub regions: Vec<String>,
    /// The analyzers that covered before, as far as they are the organization's: the first few.
    #[serde(default)]
    pub analyzers: Vec<String>,
    /// The first few of its account × regions.
    #[serde(default)]
    pub first: Vec<GapSeen>,
}

/// How one organization stands, as far as one channel is concerned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The configuration's name of it.
    pub organization_name: String,
    /// Account × regions covered.
    pub covered: u64,
    /// Not covered, the exempt among them.
    pub not_covered: u64,
    /// Of these, exempt.
    pub exempt: u64,
    /// Not known.
    pub unknown: u64,
    /// Account × regions that no longer covered since the last digest.
    pub lost: u64,
    /// Those that gained it.
    pub gained: u64,
    /// Incidents that the channel was told of and that are open.
    pub open_incidents: u64,
    /// The newest of these, in one line each.
    pub open: Vec<String>,
}

/// What a channel is told. Every field is there in every event, so that a template finds what it asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The same however often it is sent; no two events of a channel share one.
    pub id: String,
    /// What it says.
    pub kind: EventKind,
    /// How much it matters.
    pub severity: Severity,
    /// In one line.
    pub title: String,
    /// When there was something to say.
    pub at: DateTime<Utc>,
    /// The configuration's name of the organization; none for a digest.
    pub organization_name: Option<String>,
    /// AWS's id of it.
    pub organization_id: Option<String>,
    /// The scan that it follows from.
    pub scan_id: Option<ScanId>,
    /// The incidents that it opens or closes.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// How it stands, of a digest.
    #[serde(default)]
    pub standings: Vec<Standing>,
    /// Since when a digest counts.
    pub since: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_says_what_and_how_much() {
        let title = IncidentKind::DelegatedAdministratorDeregistered.title(Some("111111111111"), 17_000, 1_000);
        let expected = "the delegated administrator 111111111111 was deregistered: 17,000 account × regions in 1,000 accounts \
                        no longer covered";
        assert_eq!(title, expected);
        assert_eq!(
            IncidentKind::CoverageLost.title(None, 1, 1),
            "coverage was lost: 1 account × region in 1 account no longer covered"
        );
    }
}
