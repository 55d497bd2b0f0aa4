//! The results. One object-safe trait in the words of the domain; the only user of sqlx.
//!
//! What changes is decided in `intervals`, apart from any engine; the statements are in `sql`, once for both engines.

mod alerts;
mod error;
mod hub;
mod intervals;
mod postgres;
pub mod query;
mod readings;
mod remediation;
mod rows;
mod sqlite;
mod table;
mod timestamp;
mod transfer;
mod work;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::config;
use crate::evaluate::OwnerView;
use crate::model::{AccountId, Discovered, Event, Finding, Listed, Region, ScanCost, ScanEnd, ScanId, Visit};

pub use alerts::{Attempt, Outgoing, Settled};
pub use error::{StoreError, bounded};
pub use hub::{HubFinding, HubGround};
pub use readings::{Claimed, HeldFinding, Listed as ListedFindings, ReadingEnd, ToRead};
pub use remediation::{ActionEnd, Closed, Gap, Ground, Id, Left, NewAction, Standing};
pub use rows::{Cell, ExemptionUse, Redundant, RegionCounts, RuleDrift, ScanReport, ScanTotals, Unreadable};
pub use sqlite::{check_writable, file_of};
pub use timestamp::Timestamp;
pub use transfer::{Moved, transfer};
pub use work::{IdentityConflict, JoinMode, Joined, Known, NewScan, Overview, Past, Tally, Work};

/// What a database says of its own schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersion {
    /// The newest migration in the database; 0 for none.
    pub found: i64,
    /// The newest migration in this program.
    pub known: i64,
}

impl SchemaVersion {
    /// Whether this program and the database go together.
    ///
    /// # Errors
    /// Where the database is newer, or older.
    pub fn check(self) -> Result<(), StoreError> {
        let Self { found, known } = self;
        match found.cmp(&known) {
            std::cmp::Ordering::Greater => Err(StoreError::NewerSchema { found, known }),
            std::cmp::Ordering::Less => Err(StoreError::OutdatedSchema { found, known }),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }
}

/// From when on what is kept. What is older goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The midnight by which this goes.
    pub day: DateTime<Utc>,
    /// Every visit from here on; of each day before, one of each account.
    pub all_visits_from: DateTime<Utc>,
    /// No visit from before this, but each account's newest.
    pub visits_from: DateTime<Utc>,
    /// No interval that ended before this; `None` keeps all.
    pub history_from: Option<DateTime<Utc>>,
}

impl Retention {
    /// What a configuration keeps at an instant: whole days, so that what goes changes once a day.
    pub fn at(now: DateTime<Utc>, retention: &config::Retention) -> Self {
        let midnight = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
        let before = |span: config::TimeSpan| {
            let span = chrono::TimeDelta::from_std(span.0).unwrap_or(chrono::TimeDelta::MAX);
            midnight.checked_sub_signed(span).unwrap_or(DateTime::<Utc>::MIN_UTC)
        };
        Self {
            day: midnight,
            all_visits_from: before(retention.visits),
            visits_from: before(retention.daily_visits),
            history_from: retention.history.map(before),
        }
    }

    /// The same as of an earlier instant, if it is one.
    fn no_later_than(self, instant: DateTime<Utc>) -> Self {
        let midnight = instant.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
        let sooner = (self.day - midnight).max(chrono::TimeDelta::zero());
        let before = |from: DateTime<Utc>| from.checked_sub_signed(sooner).unwrap_or(DateTime::<Utc>::MIN_UTC);
        Self {
            day: before(self.day),
            all_visits_from: before(self.all_visits_from),
            visits_from: before(self.visits_from),
            history_from: self.history_from.map(before),
        }
    }
}

/// What was deleted, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Visits.
    pub visits: u64,
    /// Intervals: of coverage, exemptions, analyzers, and findings and their counts.
    pub intervals: u64,
    /// By what: never by a later day than that of the newest scan that went through. `None` where there is no such scan, and nothing
    /// goes.
    pub by: Option<Retention>,
}

/// Receives the rows of a query, one by one.
pub trait RowSink: Send {
    /// The names of the columns; called once, before any row.
    fn columns(&mut self, names: Vec<String>);
    /// One row.
    fn row(&mut self, cells: Vec<Cell>);
}

/// Where results are kept. The caller says what time it is, but for leases: those go by the database's clock, which all
/// who share it see. Every verb is one transaction.
///
/// A scan's accounts are rows to be claimed by the processes that take part in it, each under the name of its `worker`. What
/// a process claimed is its own until its lease ends; whatever it brings after another has taken it over is not written.
#[async_trait]
pub trait Store: Send + Sync {
    /// Begins a scan; or joins the one that is at work for the organization, or goes on with one that a dead process left
    /// behind, where it is the same in kind and configuration. One that cannot be resumed is closed as `incomplete`; so is one
    /// of any other name that nobody can go on with any more.
    async fn begin_scan(&self, scan: &NewScan, worker: &str) -> Result<Joined, StoreError>;

    /// Says which organization a scan is of, once AWS has told; of a clash nothing is changed. `others` are the names of the other
    /// configured organizations. A standalone account that is in an organization by now is closed as what it was.
    async fn identify_organization(
        &self,
        scan: ScanId,
        organization_id: &str,
        others: &[String],
    ) -> Result<Option<IdentityConflict>, StoreError>;

    /// Keeps what was discovered, for all who take part; the first word counts.
    async fn keep_discovered(&self, scan: ScanId, discovered: &Discovered) -> Result<(), StoreError>;

    /// Says which exemptions a scan is made with; asked of every process that takes part, before it records any visit.
    async fn keep_exemptions(&self, scan: ScanId, exemptions: &[config::Exemption]) -> Result<(), StoreError>;

    /// What is known to all who take part; `None` while nothing was discovered.
    async fn known(&self, scan: ScanId) -> Result<Option<Known>, StoreError>;

    /// Whether this process is the one that lists the accounts: where nobody does, it is from now on.
    async fn acquire_listing(&self, scan: ScanId, worker: &str) -> Result<bool, StoreError>;

    /// Adds accounts that are to be visited; those that are there already, or recorded, stay as they are. [`StoreError::ClaimLost`] where
    /// this process is not the one that lists them any more.
    async fn add_accounts(&self, scan: ScanId, worker: &str, accounts: &[Listed]) -> Result<(), StoreError>;

    /// Says that the list has ended, and why if not well.
    async fn end_listing(
        &self,
        scan: ScanId,
        worker: &str,
        problem: Option<&str>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Claims up to `most` accounts that nobody alive has claimed: owners of the organization's analyzers first, or only them.
    async fn claim_accounts(
        &self,
        scan: ScanId,
        worker: &str,
        most: u32,
        owners_only: bool,
    ) -> Result<Vec<Listed>, StoreError>;

    /// Gives back what this process has claimed, but for `held`.
    async fn release_claims(&self, scan: ScanId, worker: &str, held: &[AccountId]) -> Result<(), StoreError>;

    /// Keeps what an owner said, for all who take part; the first word counts, and is returned.
    async fn keep_owner(&self, scan: ScanId, owner: AccountId, view: &OwnerView) -> Result<OwnerView, StoreError>;

    /// Renews this process's lease, and says how the scan is getting on.
    async fn heartbeat(&self, scan: ScanId, worker: &str) -> Result<Work, StoreError>;

    /// The regions last seen for an account.
    async fn known_regions(&self, scan: ScanId, account: AccountId) -> Result<Vec<Region>, StoreError>;

    /// Records visits, in one transaction: the visits themselves, what changed in the accounts' coverage and why, and their
    /// analyzers. Returns which are recorded, now or when it was asked before: those of accounts that this process has lost to
    /// another are not.
    async fn record_visits(&self, scan: ScanId, visits: &[Visit], worker: &str) -> Result<Vec<AccountId>, StoreError>;

    /// Says that the findings of every analyzer whose owner was audited in this scan are to be read. Asked again, it changes nothing.
    async fn begin_readings(&self, scan: ScanId) -> Result<(), StoreError>;

    /// Claims up to `most` analyzers whose findings nobody alive reads, those first that were tried longest ago. `held` are those that
    /// this process reads now: whatever else is its own was claimed for an answer that was lost, and is free again.
    async fn claim_readings(
        &self,
        scan: ScanId,
        worker: &str,
        most: u32,
        held: &[String],
    ) -> Result<Claimed, StoreError>;

    /// Writes what has changed of a page of an analyzer's findings. [`StoreError::ClaimLost`] where another process has taken the
    /// analyzer over.
    async fn write_findings(
        &self,
        scan: ScanId,
        worker: &str,
        analyzer_arn: &str,
        findings: &[Finding],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Ends the reading of an analyzer: where it was read to its end, what was not listed holds no more.
    async fn end_reading(
        &self,
        scan: ScanId,
        worker: &str,
        analyzer_arn: &str,
        end: &ReadingEnd<'_>,
    ) -> Result<(), StoreError>;

    /// The findings of these ids, as they were last seen; one that is not known is left out.
    async fn held_findings(&self, ids: &[String]) -> Result<Vec<HeldFinding>, StoreError>;

    /// Says that findings have another status from an instant on, because AWS was told so and agreed.
    async fn set_status(&self, findings: &[HeldFinding], status: &str, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// How the scan has gone, over all who took part.
    async fn tally(&self, scan: ScanId) -> Result<Tally, StoreError>;

    /// Leaves a scan that goes on without this process: gives back what it claimed, and adds what it cost.
    async fn leave_scan(&self, scan: ScanId, worker: &str, cost: &ScanCost) -> Result<(), StoreError>;

    /// Ends a scan: closes accounts that have left, closes in other organizations those that it found in its own, and writes the totals.
    /// Others who take part find it ended, and leave.
    async fn finish_scan(
        &self,
        scan: ScanId,
        worker: &str,
        end: &ScanEnd,
        cost: &ScanCost,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Ends, as `incomplete`, the scans of an organization that this process has given up and that nobody else takes part in.
    async fn abandon_scans(
        &self,
        organization_name: &str,
        worker: &str,
        problem: &str,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// The scans of an organization, by its name in the configuration, up to an instant.
    async fn past(
        &self,
        organization_name: &str,
        configuration_hash: &str,
        now: DateTime<Utc>,
    ) -> Result<Past, StoreError>;

    /// What there is to say of an organization's scans, by its name in the configuration.
    async fn overview(&self, organization_name: &str) -> Result<Overview, StoreError>;

    /// What the newest results say of an organization's gaps, by its name in the configuration, and where its delegated
    /// administrator cannot own analyzers; `None` before its first completed scan.
    async fn ground(
        &self,
        organization_name: &str,
        owners: [Option<AccountId>; 2],
    ) -> Result<Option<Ground>, StoreError>;

    /// Says that something is about to be changed in AWS; returns its number.
    async fn begin_action(&self, action: &NewAction<'_>) -> Result<i64, StoreError>;

    /// Says what came of it.
    async fn end_action(&self, number: i64, end: &ActionEnd<'_>) -> Result<(), StoreError>;

    /// What there is to import into Security Hub of an organization, by its name in the configuration; `None` before its first scan.
    async fn hub_ground(&self, organization_name: &str) -> Result<Option<HubGround>, StoreError>;

    /// What was imported of some accounts.
    async fn hub_findings(&self, organization_id: &str, accounts: &[AccountId]) -> Result<Vec<HubFinding>, StoreError>;

    /// Keeps what was imported.
    async fn keep_hub_findings(&self, organization_id: &str, findings: &[HubFinding]) -> Result<(), StoreError>;

    /// Looks for the incidents of the oldest scan that has ended and was not looked at, as the rules say, and keeps them together with
    /// what each channel is told; `None` where every scan was looked at.
    async fn update_incidents(
        &self,
        rules: &config::Alerting,
        channels: &[config::Alert],
    ) -> Result<Option<Settled>, StoreError>;

    /// Keeps a digest for a channel; one that is kept already stays as it is.
    async fn keep_digest(&self, channel: &str, event: &Event) -> Result<(), StoreError>;

    /// Registers channels that people are told on; says whether any is registered.
    async fn keep_channels(&self, names: &[&str]) -> Result<bool, StoreError>;

    /// Whether a message waits for a channel, whether or not its time has come.
    async fn has_messages(&self, channel: &str) -> Result<bool, StoreError>;

    /// The oldest message of a channel that waits, if its time has come and no other process sends for that channel; for so long none does.
    async fn take_message(&self, channel: &str, worker: &str, lease: Duration) -> Result<Option<Outgoing>, StoreError>;

    /// Says what became of an attempt to send it.
    async fn end_attempt(&self, number: i64, worker: &str, attempt: &Attempt) -> Result<(), StoreError>;

    /// Lets other processes send for the channels that this one has sent for.
    async fn leave_channels(&self, worker: &str) -> Result<(), StoreError>;

    /// Closes what is known of an organization that is scanned no more, by its last name in the configuration: its members as if they had
    /// left, and its incidents. Says how many members there were; `None` where nothing is known of it.
    async fn retire(&self, organization_name: &str, at: DateTime<Utc>) -> Result<Option<u64>, StoreError>;

    /// Lets go of what is older than it is kept, in small steps that no scan waits for; or says what would go. A clock that is ahead
    /// lets nothing go that the newest scan that went through would keep; and where another process is at it, the rest is that one's.
    async fn prune(&self, retention: &Retention, dry_run: bool) -> Result<Pruned, StoreError>;

    /// What a person wants to know of one scan.
    async fn report(&self, scan: ScanId) -> Result<ScanReport, StoreError>;

    /// Runs a query that can only read.
    async fn query(&self, sql: &str, sink: &mut dyn RowSink) -> Result<(), StoreError>;

    /// Whether the database answers, and what it says of its schema.
    async fn schema_version(&self) -> Result<SchemaVersion, StoreError>;

    /// Lets go of the database in an orderly way.
    async fn close(&self);
}

/// How a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read only; the file must exist.
    Read,
    /// The same, from one end to the other, with little memory: for whoever reads everything.
    Stream,
    /// To write. One process at a time.
    Write {
        /// Whether an outdated schema is brought up to date; else it is refused.
        migrate: bool,
    },
}

/// Opens the store that a configuration names.
///
/// # Errors
/// Where it cannot be reached or is in use, or its schema is newer than this program or, without `migrate`, older.
pub async fn open(settings: &config::Store, access: Access) -> Result<Arc<dyn Store>, StoreError> {
    Ok(if settings.is_postgres() {
        Arc::new(postgres::open(settings, access).await?)
    } else {
        Arc::new(sqlite::open(settings, access).await?)
    })
}

/// What the database that a configuration names says of its schema, without changing anything.
///
/// # Errors
/// Where it cannot be reached.
pub async fn schema_version(settings: &config::Store) -> Result<SchemaVersion, StoreError> {
    if settings.is_postgres() {
        postgres::schema_version(settings).await
    } else {
        sqlite::schema_version(&settings.url).await
    }
}
