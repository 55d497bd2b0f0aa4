//! A whole history from SQLite to Postgres, for a team that outgrew a file.

use std::borrow::Cow;
use std::collections::HashMap;

use futures_util::TryStreamExt;
use serde_json::Value as Json;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, PgConnection, Row, SqliteConnection};

use super::error::Doing;
use super::table::{Column, Table};
use super::timestamp::Timestamp;
use super::{Access, Store, StoreError, postgres, sqlite};
use crate::config;

const DOING: &str = "moving the history";

/// Every table, each after those that it refers to.
const TABLES: &[&str] = &[
    "organization",
    "scan",
    "worker",
    "account",
    "visit",
    "coverage",
    "analyzer",
    "region_count",
    "ou_count",
    "scan_call",
    "scan_cost",
    "scan_work",
    "participant",
    "claim",
    "owner_view",
    "exemption",
    "exempted",
    "scan_exempt",
    "remediation_action",
    "findings_count",
    "findings_scan_count",
    "reading",
    "finding",
    "archive_rule",
    "hub_finding",
    "account_owner",
    "alert_due",
    "incident",
    "incident_gap",
    "alert_channel",
    "alert_message",
];

/// Rows that travel together.
const CHUNK: usize = 5_000;

/// What was moved of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The table.
    pub table: &'static str,
    /// Its rows, every one of them compared after it was moved.
    pub rows: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Real,
    Text,
    Timestamp,
    Document,
}

#[derive(Debug, PartialEq)]
enum Value {
    Integer(Option<i64>),
    Real(f64),
    Text(Option<String>),
    Timestamp(Option<Timestamp>),
    Document(Option<Json>),
}

/// A table's columns, and which of them are its key.
struct Shape {
    table: &'static str,
    columns: Vec<(String, Kind)>,
    key: Vec<usize>,
}

/// Copies every row, compares every row, and only then keeps what was written: all of it or nothing.
///
/// # Errors
/// Where either database cannot be opened or is of another version, where the destination holds a history already, or
/// where what was written is not what was read.
pub async fn transfer(from: &config::Store, to: &config::Store) -> Result<Vec<Moved>, StoreError> {
    if from.is_postgres() || !to.is_postgres() {
        let problem = "expected --from sqlite://FILE and --to postgres://…: the other ways are not offered";
        return Err(StoreError::Transfer(problem.into()));
    }
    let file = sqlite::file_of(&from.url);
    if !file.exists() {
        return Err(StoreError::Missing(file));
    }
    // Opened to write, so that nobody else does meanwhile.
    let source = sqlite::open(from, Access::Write { migrate: false }).await?;
    let target = match postgres::open(to, Access::Write { migrate: true }).await {
        Ok(target) => target,
        Err(error) => {
            Store::close(&source).await;
            return Err(error);
        }
    };
    let moved = async {
        let mut reading = source.reader().begin().await.doing(DOING)?;
        let mut writing = target.reader().begin().await.doing(DOING)?;
        let moved = move_all(&mut reading, &mut writing).await?;
        writing.commit().await.doing(DOING)?;
        Ok(moved)
    };
    let moved = moved.await;
    Store::close(&source).await;
    Store::close(&target).await;
    moved
}

async fn move_all(source: &mut SqliteConnection, target: &mut PgConnection) -> Result<Vec<Moved>, StoreError> {
    let occupied: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM scan)").fetch_one(&mut *target).await.doing(DOING)?;
    if occupied {
        let problem =
            "the destination holds a history already; name an empty database, or another schema with --to-schema";
        return Err(StoreError::Transfer(problem.into()));
    }
    let mut moved = Vec::new();
    for table in TABLES {
        let shape = shape(source, target, table).await?;
        let rows = copy(source, target, &shape).await?;
        compare(source, target, &shape).await?;
        number_on(target, &shape).await?;
        moved.push(Moved { table, rows });
    }
    Ok(moved)
}

async fn shape(
    source: &mut SqliteConnection,
    target: &mut PgConnection,
    table: &'static str,
) -> Result<Shape, StoreError> {
    let here: Vec<(String, i64)> = sqlx::query_as("SELECT name, pk FROM pragma_table_info($1) ORDER BY cid")
        .bind(table)
        .fetch_all(source)
        .await
        .doing(DOING)?;
    let there: Vec<(String, String)> = sqlx::query_as(
        "SELECT column_name::text, data_type::text FROM information_schema.columns
         WHERE table_schema = current_schema() AND table_name = $1",
    )
    .bind(table)
    .fetch_all(target)
    .await
    .doing(DOING)?;
    let there: HashMap<String, String> = there.into_iter().collect();
    let mut key: Vec<(i64, usize)> =
        here.iter().enumerate().filter(|(_, (_, pk))| *pk > 0).map(|(at, (_, pk))| (*pk, at)).collect();
    key.sort_unstable();
    let kind = |name: &String| match there.get(name).map(String::as_str) {
        Some("bigint" | "integer") => Ok(Kind::Integer),
        Some("double precision") => Ok(Kind::Real),
        Some("timestamp with time zone") => Ok(Kind::Timestamp),
        Some("jsonb") => Ok(Kind::Document),
        Some("text") => Ok(Kind::Text),
        Some(other) => Err(StoreError::Transfer(format!(
            "the column {table}.{name} of the Postgres database has the type {other}, which this version does not know; use a newer trustwatch"
        ))),
        None => Err(StoreError::Transfer(format!(
            "the Postgres database has no column {table}.{name}; run `trustwatch migrate` there"
        ))),
    };
    let columns = here.iter().map(|(name, _)| Ok((name.clone(), kind(name)?))).collect::<Result<_, StoreError>>()?;
    Ok(Shape { table, columns, key: key.into_iter().map(|(_, at)| at).collect() })
}

impl Shape {
    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Every row of SQLite, in the order of its key.
    fn read_here(&self) -> AssertSqlSafe<String> {
        let key: Vec<&str> = self.key.iter().map(|at| self.columns[*at].0.as_str()).collect();
        AssertSqlSafe(format!("SELECT {} FROM {} ORDER BY {}", self.names(), self.table, key.join(", ")))
    }

    /// The same of Postgres, in the same order: byte by byte.
    fn read_there(&self) -> AssertSqlSafe<String> {
        let cast = |(name, kind): &(String, Kind)| match kind {
            Kind::Integer => format!("{name}::bigint"),
            _ => name.clone(),
        };
        let order = |at: &usize| match &self.columns[*at] {
            (name, Kind::Text) => format!("{name} COLLATE \"C\""),
            (name, _) => name.clone(),
        };
        let names: Vec<String> = self.columns.iter().map(cast).collect();
        let key: Vec<String> = self.key.iter().map(order).collect();
        AssertSqlSafe(format!("SELECT {} FROM {} ORDER BY {}", names.join(", "), self.table, key.join(", ")))
    }
}

macro_rules! values {
    ($row:expr, $shape:expr) => {
        $shape
            .columns
            .iter()
            .enumerate()
            .map(|(at, (_, kind))| {
                Ok(match kind {
                    Kind::Integer => Value::Integer($row.try_get(at)?),
                    Kind::Real => Value::Real($row.try_get(at)?),
                    Kind::Text => Value::Text($row.try_get(at)?),
                    Kind::Timestamp => Value::Timestamp($row.try_get(at)?),
                    Kind::Document => {
                        Value::Document($row.try_get::<Option<sqlx::types::Json<Json>>, _>(at)?.map(|json| json.0))
                    }
                })
            })
            .collect::<Result<Vec<Value>, sqlx::Error>>()
            .doing(DOING)
    };
}

fn here(row: &SqliteRow, shape: &Shape) -> Result<Vec<Value>, StoreError> {
    values!(row, shape)
}

fn there(row: &PgRow, shape: &Shape) -> Result<Vec<Value>, StoreError> {
    values!(row, shape)
}

async fn copy(source: &mut SqliteConnection, target: &mut PgConnection, shape: &Shape) -> Result<u64, StoreError> {
    let names = shape.names();
    let insert = format!("INSERT INTO {} ({names}) SELECT {names} FROM new", shape.table);
    let mut rows = sqlx::query(shape.read_here()).fetch(source);
    let mut chunk: Vec<Vec<Value>> = Vec::new();
    let mut copied = 0;
    loop {
        let row = rows.try_next().await.doing(DOING)?;
        let at_end = row.is_none();
        if let Some(row) = row {
            chunk.push(here(&row, shape)?);
        }
        if chunk.len() == CHUNK || (at_end && !chunk.is_empty()) {
            copied +=
                postgres::execute(target, &table(shape, std::mem::take(&mut chunk)), &insert).await.doing(DOING)?;
        }
        if at_end {
            return Ok(copied);
        }
    }
}

fn table(shape: &Shape, chunk: Vec<Vec<Value>>) -> Table {
    let rows = chunk.len();
    let empty = |(name, kind): &(String, Kind)| {
        let column = match kind {
            Kind::Integer => Column::Integer(Vec::new()),
            Kind::Real => Column::Real(Vec::new()),
            Kind::Text => Column::Text(Vec::new()),
            Kind::Timestamp => Column::Timestamp(Vec::new()),
            Kind::Document => Column::Document(Vec::new()),
        };
        (Cow::Owned(name.clone()), column)
    };
    let mut columns: Vec<(Cow<'static, str>, Column)> = shape.columns.iter().map(empty).collect();
    for (at, value) in chunk.into_iter().flat_map(|row| row.into_iter().enumerate()) {
        match (value, &mut columns[at].1) {
            (Value::Integer(value), Column::Integer(values)) => values.push(value),
            (Value::Real(value), Column::Real(values)) => values.push(value),
            (Value::Text(value), Column::Text(values)) => values.push(value),
            (Value::Timestamp(value), Column::Timestamp(values)) => values.push(value),
            (Value::Document(value), Column::Document(values)) => values.push(value.map(|value| value.to_string())),
            // A value is read as the kind of its column.
            _ => {}
        }
    }
    Table { rows, columns }
}

async fn compare(source: &mut SqliteConnection, target: &mut PgConnection, shape: &Shape) -> Result<(), StoreError> {
    let mut read = sqlx::query(shape.read_here()).fetch(source);
    let mut written = sqlx::query(shape.read_there()).fetch(target);
    loop {
        let expected = read.try_next().await.doing(DOING)?.map(|row| here(&row, shape)).transpose()?;
        let found = written.try_next().await.doing(DOING)?.map(|row| there(&row, shape)).transpose()?;
        if expected != found {
            let problem = format!("{}: {expected:?} arrived as {found:?}; nothing was kept", shape.table);
            return Err(StoreError::Transfer(problem));
        }
        if expected.is_none() {
            return Ok(());
        }
    }
}

/// Lets a table that numbers its own rows go on after the last.
async fn number_on(target: &mut PgConnection, shape: &Shape) -> Result<(), StoreError> {
    let [at] = shape.key[..] else { return Ok(()) };
    let (name, table) = (&shape.columns[at].0, shape.table);
    let set = format!(
        "SELECT setval(pg_get_serial_sequence('{table}', '{name}'), max({name})) FROM {table} HAVING max({name}) > 0"
    );
    sqlx::query(AssertSqlSafe(set)).execute(target).await.doing(DOING).map(|_| ())
}
