//! The results. One object-safe trait in the words of the domain; the only user of sqlx.

mod error;
mod rows;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::model::{AccountId, Region, Requirement, ScanEnd, ScanId, Trigger, Visit};

pub use error::StoreError;
pub use rows::{Cell, RegionCounts, ScanReport, ScanTotals, Unreadable};
pub use sqlite::{SqliteStore, file_of};

/// What is known of a scan when it begins.
#[derive(Debug, Clone)]
pub struct NewScan {
    /// The configuration's name of the organization.
    pub organization_name: String,
    /// What started it.
    pub trigger: Trigger,
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
}

/// What a database says of its own schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersion {
    /// The newest migration in the database; 0 for none.
    pub found: i64,
    /// The newest migration in this program.
    pub known: i64,
}

/// Receives the rows of a query, one by one.
pub trait RowSink: Send {
    /// The names of the columns; called once, before any row.
    fn columns(&mut self, names: Vec<String>);
    /// One row.
    fn row(&mut self, cells: Vec<Cell>);
}

/// Where results are kept. The caller says what time it is. Every verb is one transaction.
#[async_trait]
pub trait Store: Send + Sync {
    /// Begins a scan. Scans of the same organization that a dead process left `running` are closed as `incomplete`.
    async fn begin_scan(&self, scan: &NewScan) -> Result<ScanId, StoreError>;

    /// Says which organization a scan is of, once AWS has told. Where it is known by a name of `others`, that name is
    /// returned and nothing is changed: two names for one organization would overwrite each other's results.
    async fn identify_organization(
        &self,
        scan: ScanId,
        organization_id: &str,
        others: &[String],
    ) -> Result<Option<String>, StoreError>;

    /// The accounts that were members of the scan's organization when it began.
    async fn known_accounts(&self, scan: ScanId) -> Result<Vec<AccountId>, StoreError>;

    /// The regions last seen for an account.
    async fn known_regions(&self, scan: ScanId, account: AccountId) -> Result<Vec<Region>, StoreError>;

    /// Records one visit: the visit itself, what changed in the account's coverage, and its analyzers. `blind` holds the
    /// regions in which the organization's analyzers could not be seen.
    async fn record_visit(&self, scan: ScanId, visit: &Visit, blind: &[Region], worker: &str)
    -> Result<(), StoreError>;

    /// Ends a scan: closes accounts that have left, and adds up.
    async fn finish_scan(&self, scan: ScanId, end: &ScanEnd, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// What a person wants to know of one scan.
    async fn report(&self, scan: ScanId) -> Result<ScanReport, StoreError>;

    /// Runs a query that can only read.
    async fn query(&self, sql: &str, sink: &mut dyn RowSink) -> Result<(), StoreError>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Lets go of the database in an orderly way.
    async fn close(&self);
}

/// How a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read only; the file must exist.
    Read,
    /// To write. One process at a time.
    Write {
        /// Whether an outdated schema is brought up to date; else it is refused.
        migrate: bool,
    },
}

/// Opens the store that a URL names.
///
/// # Errors
/// Where the file cannot be opened or is in use, or its schema is newer than this program or, without `migrate`, older.
pub async fn open(url: &str, access: Access) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(SqliteStore::open(url, access).await?))
}

/// Whether the database that a URL names can be made or written.
///
/// # Errors
/// Where it cannot: its folder is missing, may not be written, or another process writes.
pub fn check_writable(url: &str) -> Result<(), StoreError> {
    sqlite::check_writable(url)
}

/// What the database that a URL names says of its schema, without changing anything.
///
/// # Errors
/// Where the file cannot be opened.
pub async fn schema_version(url: &str) -> Result<SchemaVersion, StoreError> {
    sqlite::schema_version(url).await
}
