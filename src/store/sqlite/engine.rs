//! What SQLite does in its own way.

use std::borrow::Cow;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, FromRow, Sqlite, Transaction};

use crate::store::StoreError;
use crate::store::table::{Column, Table};
use crate::store::timestamp::Timestamp;

pub type Connection = sqlx::SqliteConnection;
pub type Pool = sqlx::SqlitePool;

/// There is one writer, so nobody else is taking anything.
pub const SKIP_LOCKED: &str = "";

/// A SQLite file.
pub struct Engine {
    /// One connection: SQLite takes one writer. `None` where the store was opened to read.
    pub(super) writer: Option<Pool>,
    pub(super) reader: Pool,
    /// Held for as long as this process may write; the operating system lets go of it however the process ends.
    pub(super) lock: Option<File>,
    pub(super) path: PathBuf,
    /// For how long a scan of this process that says nothing keeps what it claimed.
    pub(super) lease: Duration,
}

impl Engine {
    pub fn reader(&self) -> &Pool {
        &self.reader
    }

    pub fn writer(&self) -> Result<&Pool, StoreError> {
        let read_only = || StoreError::Open { path: self.path.clone(), problem: "it was opened to read only".into() };
        self.writer.as_ref().ok_or_else(read_only)
    }

    /// Whether what it was opened for can be done with it now: who holds the file's lock holds it to its end.
    #[expect(clippy::unused_async, reason = "the other engine asks its server")]
    pub async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    pub fn lease(&self) -> Duration {
        self.lease
    }

    pub async fn close(&self) {
        self.reader.close().await;
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
        if let Some(lock) = &self.lock {
            // The file goes with the process in any case.
            let _ = lock.unlock();
        }
    }
}

/// Scans begin one after the other as it is: there is one writer.
pub async fn lock_scans(_: &mut Connection) -> Result<(), sqlx::Error> {
    Ok(())
}

/// Whether no other process prunes until this transaction ends: there is one writer.
pub async fn try_lock_prune(_: &mut Connection) -> Result<bool, sqlx::Error> {
    Ok(true)
}

/// Lets go of the pages that a scan has read and written. The next one touches others, so that the cache of a daemon would grow from
/// scan to scan until it is full, and between two scans it is of no use.
pub async fn release_memory(pool: &Pool) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA shrink_memory").execute(pool).await.map(|_| ())
}

/// The time as SQLite has it from the machine: all who share the file are one process.
pub async fn now(connection: &mut Connection) -> Result<Timestamp, sqlx::Error> {
    sqlx::query_scalar("SELECT strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')").fetch_one(connection).await
}

/// Begins a transaction that writes. At once: one that reads first is refused when it comes to write after another.
pub async fn begin(pool: &Pool) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    pool.begin_with("BEGIN IMMEDIATE").await
}

/// A statement over the rows of a table named `new`, which travels as one JSON array.
fn with(table: &Table, statement: &str) -> AssertSqlSafe<String> {
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_ref()).collect();
    let value = |(at, (_, column)): (usize, &(Cow<'static, str>, Column))| match column {
        Column::Real(_) => format!("CAST(value ->> {at} AS REAL)"),
        _ => format!("value ->> {at}"),
    };
    let values: Vec<String> = table.columns.iter().enumerate().map(value).collect();
    let (names, values) = (names.join(", "), values.join(", "));
    AssertSqlSafe(format!("WITH new({names}) AS (SELECT {values} FROM json_each($1)) {statement}"))
}

/// Runs a statement over the rows of `new`; says how many rows it changed.
pub async fn execute(connection: &mut Connection, table: &Table, statement: &str) -> Result<u64, sqlx::Error> {
    let result = sqlx::query(with(table, statement)).bind(table.json()).execute(connection).await?;
    Ok(result.rows_affected())
}

/// Runs a query over the rows of `new`.
pub async fn fetch<T>(connection: &mut Connection, table: &Table, statement: &str) -> Result<Vec<T>, sqlx::Error>
where
    T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
{
    sqlx::query_as(with(table, statement)).bind(table.json()).fetch_all(connection).await
}
