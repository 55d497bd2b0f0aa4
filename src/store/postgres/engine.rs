//! What Postgres does in its own way.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, FromRow, Postgres, Transaction};

use crate::store::StoreError;
use crate::store::error::Doing;
use crate::store::table::{Column, Table};
use crate::store::timestamp::Timestamp;

pub type Connection = sqlx::PgConnection;
pub type Pool = sqlx::PgPool;

/// Takes only what no other transaction is taking.
pub const SKIP_LOCKED: &str = "FOR UPDATE SKIP LOCKED";

/// A schema of a Postgres database.
pub struct Engine {
    pub(super) pool: Pool,
    /// Whether it was opened to write.
    pub(super) writes: bool,
    /// For how long a process that says nothing keeps what it claimed.
    pub(super) lease: Duration,
}

impl Engine {
    pub fn reader(&self) -> &Pool {
        &self.pool
    }

    #[expect(clippy::unnecessary_wraps, reason = "the other engine may have been opened to read only")]
    pub fn writer(&self) -> Result<&Pool, StoreError> {
        Ok(&self.pool)
    }

    /// Whether what it was opened for can be done with it now.
    pub async fn check(&self) -> Result<(), StoreError> {
        if !self.writes {
            return Ok(());
        }
        let mut connection = self.pool.acquire().await.doing("asking the database whether it lets us write")?;
        if super::may_write(&mut connection).await.doing("asking the database whether it lets us write")? {
            Ok(())
        } else {
            Err(StoreError::Standby)
        }
    }

    pub fn lease(&self) -> Duration {
        self.lease
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Lets scans begin one after the other: whether one is at work decides what the next may do.
pub async fn lock_scans(connection: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('trustwatch scans ' || current_schema(), 0))")
        .execute(connection)
        .await
        .map(|_| ())
}

/// Whether no other process prunes until this transaction ends.
pub async fn try_lock_prune(connection: &mut Connection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended('trustwatch prune ' || current_schema(), 0))")
        .fetch_one(connection)
        .await
}

/// What is held between two scans is the server's business.
pub async fn release_memory(_: &Pool) -> Result<(), sqlx::Error> {
    Ok(())
}

/// The server's time: what all who share it go by, however wrong their own clocks are.
pub async fn now(connection: &mut Connection) -> Result<Timestamp, sqlx::Error> {
    sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(connection).await
}

/// Begins a transaction.
pub async fn begin(pool: &Pool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    pool.begin().await
}

/// A statement over the rows of a table named `new`, which travels as one array for each column.
fn with(table: &Table, statement: &str) -> AssertSqlSafe<String> {
    let (mut names, mut values, mut arrays) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (name, column)) in table.columns.iter().enumerate() {
        let (element, cast) = match column {
            Column::Integer(_) => ("bigint", ""),
            Column::Real(_) => ("double precision", ""),
            Column::Text(_) => ("text", ""),
            Column::Timestamp(_) => ("timestamptz", ""),
            Column::Document(_) => ("text", "::jsonb"),
        };
        names.push(name.as_ref());
        values.push(format!("{name}{cast}"));
        arrays.push(format!("${}::{element}[]", at + 1));
    }
    let (names, values, arrays) = (names.join(", "), values.join(", "), arrays.join(", "));
    AssertSqlSafe(format!("WITH new({names}) AS (SELECT {values} FROM unnest({arrays}) AS row({names})) {statement}"))
}

macro_rules! bound {
    ($query:expr, $table:expr) => {
        $table.columns.iter().fold($query, |query, (_, column)| match column {
            Column::Integer(values) => query.bind(values),
            Column::Real(values) => query.bind(values),
            Column::Text(values) => query.bind(values),
            Column::Timestamp(values) => query.bind(values),
            Column::Document(values) => query.bind(values),
        })
    };
}

/// Runs a statement over the rows of `new`; says how many rows it changed.
pub async fn execute(connection: &mut Connection, table: &Table, statement: &str) -> Result<u64, sqlx::Error> {
    let result = bound!(sqlx::query(with(table, statement)), table).execute(connection).await?;
    Ok(result.rows_affected())
}

/// Runs a query over the rows of `new`.
pub async fn fetch<T>(connection: &mut Connection, table: &Table, statement: &str) -> Result<Vec<T>, sqlx::Error>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    bound!(sqlx::query_as(with(table, statement)), table).fetch_all(connection).await
}
