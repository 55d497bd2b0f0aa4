//! Whatever a person asks.

use futures_util::TryStreamExt;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Executor, Row, SqlSafeStr, Statement, TypeInfo, ValueRef};

use crate::model::hex;
use crate::store::error::Doing;
use crate::store::query::is_one_query;
use crate::store::{Cell, RowSink, StoreError};

pub async fn run(pool: &SqlitePool, sql: &str, sink: &mut dyn RowSink) -> Result<(), StoreError> {
    const DOING: &str = "running the query";
    if !is_one_query(sql) {
        return Err(StoreError::NotAQuery);
    }
    let mut connection = pool.acquire().await.doing(DOING)?;
    // The connection can only read, whatever the text says.
    let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
    let statement = (&mut *connection).prepare(sql).await.doing(DOING)?;
    sink.columns(statement.columns().iter().map(|column| column.name().to_owned()).collect());
    let mut rows = statement.query().fetch(&mut *connection);
    while let Some(row) = rows.try_next().await.doing(DOING)? {
        sink.row((0..row.len()).map(|index| cell(&row, index)).collect::<Result<_, _>>().doing(DOING)?);
    }
    Ok(())
}

fn cell(row: &SqliteRow, index: usize) -> Result<Cell, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    Ok(match value.type_info().name() {
        _ if value.is_null() => Cell::Null,
        "INTEGER" | "BOOLEAN" => Cell::Integer(row.try_get_unchecked(index)?),
        "REAL" => Cell::Real(row.try_get_unchecked(index)?),
        "BLOB" => {
            let bytes: Vec<u8> = row.try_get_unchecked(index)?;
            Cell::Text(format!("x'{}'", hex(&bytes)))
        }
        _ => Cell::Text(row.try_get_unchecked(index)?),
    })
}
