//! Whatever a person asks.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, Column, Executor, Row, SqlSafeStr, Statement, TypeInfo, ValueRef};

use crate::store::error::Doing;
use crate::store::query::is_one_query;
use crate::store::{Cell, RowSink, StoreError, Timestamp};

pub async fn run(pool: &PgPool, sql: &str, sink: &mut dyn RowSink) -> Result<(), StoreError> {
    const DOING: &str = "running the query";
    if !is_one_query(sql) {
        return Err(StoreError::NotAQuery);
    }
    let mut transaction = pool.begin_with("BEGIN READ ONLY").await.doing(DOING)?;
    // The server prepares one statement and no more: so what is sent as text below is one, and it can only read.
    let prepared = (&mut *transaction).prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await.doing(DOING)?;
    sink.columns(prepared.columns().iter().map(|column| column.name().to_owned()).collect());
    // As text, every type that the server knows can be shown.
    let mut rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await.doing(DOING)? {
        sink.row((0..row.len()).map(|index| cell(&row, index)).collect::<Result<_, _>>().doing(DOING)?);
    }
    Ok(())
}

/// A value as SQLite would show it: flags as 0 and 1, instants in the fixed width of `docs/sql.md`.
fn cell(row: &PgRow, index: usize) -> Result<Cell, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    let text = value.as_str().map_err(sqlx::Error::Decode)?;
    let plain = || Cell::Text(text.to_owned());
    let number = || text.parse().map_or_else(|_| plain(), Cell::Real);
    Ok(match value.type_info().name() {
        "INT2" | "INT4" | "INT8" | "NUMERIC" => text.parse().map_or_else(|_| number(), Cell::Integer),
        "FLOAT4" | "FLOAT8" => number(),
        "BOOL" => Cell::Integer(i64::from(text == "t")),
        "TIMESTAMPTZ" => DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z")
            .map_or_else(|_| plain(), |instant| Cell::Text(Timestamp::from(instant.with_timezone(&Utc)).to_string())),
        "JSON" | "JSONB" => serde_json::from_str::<BTreeMap<String, Value>>(text)
            .map_or_else(|_| plain(), |object| Cell::Text(serde_json::json!(object).to_string())),
        _ => plain(),
    })
}
