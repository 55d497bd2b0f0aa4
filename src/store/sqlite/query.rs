//! Reading: a scan's report, and whatever a person asks.

use futures_util::TryStreamExt;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Executor, Row, SqlSafeStr, Statement, TypeInfo, ValueRef};

use super::super::error::Doing;
use super::super::{Cell, RowSink, ScanReport, StoreError};
use crate::model::ScanId;

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

/// Whether a text begins as a query does, after comments, and holds no second statement. The connection can only read in
/// any case; this is for what reading allows too, such as attaching or making files, and for a message that can be read.
fn is_one_query(sql: &str) -> bool {
    let mut rest = sql.trim_start();
    loop {
        let comment = match (rest.strip_prefix("--"), rest.strip_prefix("/*")) {
            (Some(line), _) => line.split_once('\n').map(|(_, after)| after),
            (_, Some(block)) => block.split_once("*/").map(|(_, after)| after),
            (None, None) => break,
        };
        rest = comment.unwrap_or_default().trim_start();
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    let reads = ["SELECT", "WITH", "VALUES", "EXPLAIN"].iter().any(|known| word.eq_ignore_ascii_case(known));
    // A semicolon within a text is no end of a statement: quotes come in pairs before it.
    let ends_early = rest.trim_end().trim_end_matches(';').match_indices(';').any(|(at, _)| {
        let before = &rest[..at];
        before.matches('\'').count().is_multiple_of(2) && before.matches('"').count().is_multiple_of(2)
    });
    reads && !ends_early
}

fn cell(row: &SqliteRow, index: usize) -> Result<Cell, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    Ok(match value.type_info().name() {
        _ if value.is_null() => Cell::Null,
        "INTEGER" | "BOOLEAN" => Cell::Integer(row.try_get_unchecked(index)?),
        "REAL" => Cell::Real(row.try_get_unchecked(index)?),
        "BLOB" => {
            let bytes: Vec<u8> = row.try_get_unchecked(index)?;
            Cell::Text(bytes.iter().fold("x'".to_owned(), |text, byte| text + &format!("{byte:02x}")) + "'")
        }
        _ => Cell::Text(row.try_get_unchecked(index)?),
    })
}

pub async fn report(pool: &SqlitePool, scan: ScanId) -> Result<ScanReport, StoreError> {
    const DOING: &str = "reading the report of a scan";
    let totals = sqlx::query_as("SELECT * FROM scan_summary WHERE scan_id = $1")
        .bind(scan)
        .fetch_one(pool)
        .await
        .doing(DOING)?;
    let regions = sqlx::query_as(
        "SELECT coverage.region, sum(status = 'covered') AS covered, sum(status = 'not_covered') AS not_covered,
                sum(status = 'not_applicable') AS not_applicable, sum(status = 'unknown') AS unknown
         FROM visit JOIN coverage USING (account_key)
         WHERE visit.scan_id = $1 AND coverage.valid_to IS NULL
         GROUP BY coverage.region
         ORDER BY not_covered DESC, unknown DESC, coverage.region",
    )
    .bind(scan)
    .fetch_all(pool)
    .await
    .doing(DOING)?;
    let unreadable = sqlx::query_as(
        "SELECT coverage.reason, count(DISTINCT visit.account_key) AS accounts, count(*) AS account_regions,
                -- Of one row: SQLite takes bare columns from the row of the only min().
                account.account_id AS example_account_id, visit.error_message AS example_message,
                min(CASE visit.error_kind WHEN coverage.reason THEN '0' ELSE '1' END || account.account_id)
         FROM visit JOIN account USING (account_key) JOIN coverage USING (account_key)
         WHERE visit.scan_id = $1 AND coverage.valid_to IS NULL AND coverage.status = 'unknown'
         GROUP BY coverage.reason
         ORDER BY account_regions DESC, coverage.reason",
    )
    .bind(scan)
    .fetch_all(pool)
    .await
    .doing(DOING)?;
    Ok(ScanReport { scan: totals, regions, unreadable })
}
