//! Results in a SQLite file: one writer, any number of readers that never wait for it.

mod instant;
mod intervals;
mod query;
mod scans;
mod visits;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use super::error::Doing;
use super::{Access, NewScan, RowSink, ScanReport, SchemaVersion, Store, StoreError};
use crate::model::{AccountId, Region, ScanEnd, ScanId, Visit};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Readers at once.
const READERS: u32 = 4;

/// A SQLite file.
pub struct SqliteStore {
    /// One connection: SQLite takes one writer. `None` where the store was opened to read.
    writer: Option<SqlitePool>,
    reader: SqlitePool,
    /// Held for as long as this process may write; the operating system lets go of it however the process ends.
    _lock: Option<File>,
    path: PathBuf,
}

/// The file that a store's URL names: `sqlite://relative`, `sqlite:///absolute` or `sqlite:relative`.
pub fn file_of(url: &str) -> PathBuf {
    let rest = url.strip_prefix("sqlite:").unwrap_or(url);
    PathBuf::from(rest.strip_prefix("//").unwrap_or(rest))
}

impl SqliteStore {
    /// Opens a file; creates it where `access` allows.
    ///
    /// # Errors
    /// As [`super::open`].
    pub async fn open(url: &str, access: Access) -> Result<Self, StoreError> {
        let path = file_of(url);
        if access == Access::Read && !path.exists() {
            return Err(StoreError::Missing(path));
        }
        let lock = match access {
            Access::Read => None,
            Access::Write { .. } => Some(lock(&path)?),
        };
        let mut writer = None;
        if let Access::Write { migrate } = access {
            let pool = SqlitePoolOptions::new()
                .max_connections(1)
                .connect_with(options(&path).create_if_missing(true).journal_mode(SqliteJournalMode::Wal))
                .await
                .map_err(|error| open_error(&path, &error))?;
            bring_up_to_date(&pool, migrate).await?;
            writer = Some(pool);
        }
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options(&path).read_only(true).pragma("query_only", "on"))
            .await
            .map_err(|error| open_error(&path, &error))?;
        if writer.is_none() {
            check(version(&reader).await?)?;
        }
        Ok(Self { writer, reader, _lock: lock, path })
    }

    fn writer(&self) -> Result<&SqlitePool, StoreError> {
        let read_only = || StoreError::Open { path: self.path.clone(), problem: "it was opened to read only".into() };
        self.writer.as_ref().ok_or_else(read_only)
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(30))
        .optimize_on_close(true, None)
}

/// Takes the right to write, or says that another process has it.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |error: &std::io::Error| StoreError::Open {
        path: path.to_owned(),
        problem: format!(
            "{error}; its folder must be there and writable: make it so, or name another with store.url or --store"
        ),
    };
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(&error)),
    }
}

fn open_error(path: &Path, error: &sqlx::Error) -> StoreError {
    let problem = match error {
        sqlx::Error::Database(error) if error.message().contains("unable to open") => {
            "the file cannot be opened; is its folder there, and may this user read and write it?".to_owned()
        }
        sqlx::Error::Database(error) if error.message().contains("not a database") => {
            "the file is not a SQLite database".to_owned()
        }
        sqlx::Error::Database(error) if error.message().contains("readonly") => {
            "this user may not write the file or its folder, which SQLite needs even to read; give it that right, or copy \
             the file elsewhere"
                .to_owned()
        }
        other => format!("{other}; is its disk full, or a network file system?"),
    };
    StoreError::Open { path: path.to_owned(), problem }
}

async fn version(pool: &SqlitePool) -> Result<SchemaVersion, StoreError> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let has_table: bool =
        sqlx::query_scalar("SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'")
            .fetch_one(pool)
            .await
            .doing("reading the schema's version")?;
    let found = if has_table {
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success")
            .fetch_one(pool)
            .await
            .doing("reading the schema's version")?
    } else {
        0
    };
    Ok(SchemaVersion { found, known })
}

fn check(version: SchemaVersion) -> Result<(), StoreError> {
    let SchemaVersion { found, known } = version;
    match found.cmp(&known) {
        std::cmp::Ordering::Greater => Err(StoreError::NewerSchema { found, known }),
        std::cmp::Ordering::Less => Err(StoreError::OutdatedSchema { found, known }),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

async fn bring_up_to_date(pool: &SqlitePool, migrate: bool) -> Result<(), StoreError> {
    match check(version(pool).await?) {
        Err(StoreError::OutdatedSchema { .. }) if migrate => {
            let mut connection = pool.acquire().await.doing("migrating the database")?;
            MIGRATIONS.run_direct(None, &mut *connection, false).await.map_err(StoreError::Migrate)
        }
        other => other,
    }
}

/// Whether this process could make or write the database: what a scan finds out, without one.
pub fn check_writable(url: &str) -> Result<(), StoreError> {
    lock(&file_of(url)).map(|_| ())
}

/// What a database says of its schema.
pub async fn schema_version(url: &str) -> Result<SchemaVersion, StoreError> {
    let path = file_of(url);
    if !path.exists() {
        return Err(StoreError::Missing(path));
    }
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options(&path).read_only(true))
        .await
        .map_err(|error| open_error(&path, &error))?;
    let version = version(&pool).await;
    pool.close().await;
    version
}

#[async_trait]
impl Store for SqliteStore {
    async fn begin_scan(&self, scan: &NewScan) -> Result<ScanId, StoreError> {
        scans::begin(self.writer()?, scan).await
    }

    async fn identify_organization(
        &self,
        scan: ScanId,
        organization_id: &str,
        others: &[String],
    ) -> Result<Option<String>, StoreError> {
        scans::identify(self.writer()?, scan, organization_id, others).await
    }

    async fn known_accounts(&self, scan: ScanId) -> Result<Vec<AccountId>, StoreError> {
        scans::known_accounts(&self.reader, scan).await
    }

    async fn known_regions(&self, scan: ScanId, account: AccountId) -> Result<Vec<Region>, StoreError> {
        scans::known_regions(&self.reader, scan, account).await
    }

    async fn record_visit(
        &self,
        scan: ScanId,
        visit: &Visit,
        blind: &[Region],
        worker: &str,
    ) -> Result<(), StoreError> {
        visits::record(self.writer()?, scan, visit, blind, worker).await
    }

    async fn finish_scan(&self, scan: ScanId, end: &ScanEnd, at: DateTime<Utc>) -> Result<(), StoreError> {
        scans::finish(self.writer()?, scan, end, at).await
    }

    async fn report(&self, scan: ScanId) -> Result<ScanReport, StoreError> {
        query::report(&self.reader, scan).await
    }

    async fn query(&self, sql: &str, sink: &mut dyn RowSink) -> Result<(), StoreError> {
        query::run(&self.reader, sql, sink).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.reader).await.doing("asking the database for an answer").map(|_| ())
    }

    async fn close(&self) {
        self.reader.close().await;
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }
}
