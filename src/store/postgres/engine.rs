//! What Postgres does in its own way.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, FromRow, Postgres, Transaction};

use tokio::time::timeout;

use super::PATIENCE;
use crate::model::ScanId;
use crate::store::StoreError;
use crate::store::error::Doing;
use crate::store::table::{Column, Table};

pub type Connection = sqlx::PgConnection;
pub type Pool = sqlx::PgPool;

/// A schema of a Postgres database.
pub struct Engine {
    pub(super) pool: Pool,
    pub(super) options: PgConnectOptions,
    pub(super) schema: String,
    /// By organization: the connection that holds the right to scan it, and the scan.
    pub(super) held: Mutex<HashMap<String, (ScanId, Connection)>>,
}

/// The right to scan an organization: a lock of a connection's own, which the server lets go of when the process dies.
pub struct Hold {
    organization: String,
    connection: Connection,
}

impl Engine {
    pub fn reader(&self) -> &Pool {
        &self.pool
    }

    #[expect(clippy::unnecessary_wraps, reason = "the other engine may have been opened to read only")]
    pub fn writer(&self) -> Result<&Pool, StoreError> {
        Ok(&self.pool)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, (ScanId, Connection)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn hold(&self, organization: &str) -> Result<Hold, StoreError> {
        const DOING: &str = "taking the right to scan";
        // A scan of this process that failed has kept it; an organization is scanned once at a time.
        let kept = self.held().remove(organization);
        if let Some((_, mut connection)) = kept
            && matches!(timeout(PATIENCE, sqlx::Connection::ping(&mut connection)).await, Ok(Ok(())))
        {
            return Ok(Hold { organization: organization.to_owned(), connection });
        }
        let mut connection = self.options.connect().await.doing(DOING)?;
        let taken = self.try_lock(&mut connection, organization).await.doing(DOING)?;
        let organization = organization.to_owned();
        if taken { Ok(Hold { organization, connection }) } else { Err(StoreError::ScanRunning(organization)) }
    }

    /// Takes the right to scan the organization that AWS names, by whatever name another configuration knows it.
    pub async fn hold_organization(&self, scan: ScanId, organization_id: &str) -> Result<(), StoreError> {
        const DOING: &str = "taking the right to scan";
        let kept = self.held().extract_if(|_, (kept, _)| *kept == scan).next();
        let Some((organization, (_, mut connection))) = kept else { return Err(StoreError::ScanEnded(scan)) };
        let taken = self.try_lock(&mut connection, organization_id).await.doing(DOING)?;
        self.keep(scan, Hold { organization, connection });
        if taken { Ok(()) } else { Err(StoreError::ScanRunning(organization_id.to_owned())) }
    }

    async fn try_lock(&self, connection: &mut Connection, what: &str) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
            .bind(format!("trustwatch scan {} {what}", self.schema))
            .fetch_one(connection)
            .await
    }

    pub fn keep(&self, scan: ScanId, hold: Hold) {
        self.held().insert(hold.organization, (scan, hold.connection));
    }

    pub async fn let_go(&self, scan: ScanId) {
        let kept = self.held().extract_if(|_, (kept, _)| *kept == scan).next();
        if let Some((_, (_, mut connection))) = kept {
            // The server answers, so the next scan finds it free. A connection that is gone already holds nothing.
            let _ = timeout(PATIENCE, async {
                sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut connection).await?;
                sqlx::Connection::close(connection).await
            })
            .await;
        }
    }

    pub async fn close(&self) {
        let held = std::mem::take(&mut *self.held());
        for (_, connection) in held.into_values() {
            let _ = sqlx::Connection::close(connection).await;
        }
        self.pool.close().await;
    }
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
            Column::Stamp(_) => ("timestamptz", ""),
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
            Column::Stamp(values) => query.bind(values),
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
