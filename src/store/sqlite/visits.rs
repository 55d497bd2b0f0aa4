//! Recording one visit, in one transaction.

use std::collections::BTreeSet;

use sqlx::sqlite::SqlitePool;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::super::StoreError;
use super::super::error::Doing;
use super::instant;
use super::intervals::{Changes, Open, changes};
use crate::model::{Analyzer, Reason, Region, ScanId, Status, UnknownWord, Visit, VisitOutcome};

const DOING: &str = "recording a visit";

/// The account as it was before this visit.
#[derive(sqlx::FromRow)]
struct Before {
    account_key: i64,
    organization_key: i64,
    scan_id: ScanId,
    checked_at: Option<String>,
}

pub async fn record(
    pool: &SqlitePool,
    scan: ScanId,
    visit: &Visit,
    blind: &[Region],
    worker: &str,
) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.doing(DOING)?;
    let before = account(&mut transaction, scan, visit).await?;
    let open = open_intervals(&mut transaction, before.account_key).await?;
    let changes = changes(&open, &visit.coverage, blind, before.checked_at.as_deref());
    let at = instant::text(visit.finished_at);
    let coverage_at = instant::after_coverage(&mut transaction, before.account_key, &at).await?;
    write_coverage(&mut transaction, scan, &before, &changes, &coverage_at).await?;
    write_analyzers(&mut transaction, before.organization_key, visit, &at).await?;
    write_visit(&mut transaction, scan, before.account_key, visit, worker).await?;
    transaction.commit().await.doing(DOING)
}

/// Finds or adds the account, and leaves its description as this scan has it.
async fn account(connection: &mut SqliteConnection, scan: ScanId, visit: &Visit) -> Result<Before, StoreError> {
    let account = &visit.account;
    sqlx::query(
        "INSERT INTO account (organization_key, account_id, name, state, ou_path, scan_id)
         SELECT organization_key, $2, $3, $4, $5, scan_id FROM scan WHERE scan_id = $1
         ON CONFLICT (organization_key, account_id) DO UPDATE
         SET name = excluded.name, state = excluded.state, ou_path = excluded.ou_path, left_at = NULL",
    )
    .bind(scan)
    .bind(account.id.as_str())
    .bind(&account.name)
    .bind(account.state.as_str())
    .bind(&account.ou_path)
    .execute(&mut *connection)
    .await
    .doing(DOING)?;
    let before: Before = sqlx::query_as(
        "SELECT account_key, organization_key, account.scan_id, checked_at FROM account
         WHERE organization_key = (SELECT organization_key FROM scan WHERE scan_id = $1) AND account_id = $2",
    )
    .bind(scan)
    .bind(account.id.as_str())
    .fetch_one(&mut *connection)
    .await
    .doing(DOING)?;
    // A visit that did not take place does not say that anybody looked.
    let looked = (visit.outcome != VisitOutcome::Pending).then(|| instant::text(visit.finished_at));
    sqlx::query("UPDATE account SET scan_id = $1, checked_at = coalesce($2, checked_at) WHERE account_key = $3")
        .bind(scan)
        .bind(looked)
        .bind(before.account_key)
        .execute(connection)
        .await
        .doing(DOING)?;
    Ok(before)
}

async fn open_intervals(connection: &mut SqliteConnection, account_key: i64) -> Result<Vec<Open>, StoreError> {
    type Row = (String, String, Option<String>, Option<String>, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT region, reason, analyzer_arn, last_known_status, last_known_at FROM coverage
         WHERE account_key = $1 AND valid_to IS NULL",
    )
    .bind(account_key)
    .fetch_all(connection)
    .await
    .doing(DOING)?;
    let corrupt = |error: UnknownWord| StoreError::Corrupt { doing: DOING, problem: error.to_string() };
    rows.into_iter()
        .map(|(region, reason, analyzer_arn, status, at)| {
            let reason: Reason = reason.parse().map_err(corrupt)?;
            let status: Option<Status> = status.map(|word| word.parse()).transpose().map_err(corrupt)?;
            Ok(Open { region: Region::new(&region), reason, analyzer_arn, last_known: status.zip(at) })
        })
        .collect()
}

async fn write_coverage(
    connection: &mut SqliteConnection,
    scan: ScanId,
    before: &Before,
    changes: &Changes,
    at: &str,
) -> Result<(), StoreError> {
    for region in &changes.close {
        sqlx::query(
            "UPDATE coverage SET valid_to = $1, last_scan_id = $2
             WHERE account_key = $3 AND region = $4 AND valid_to IS NULL",
        )
        .bind(at)
        .bind(before.scan_id)
        .bind(before.account_key)
        .bind(region.as_str())
        .execute(&mut *connection)
        .await
        .doing(DOING)?;
    }
    for (region, analyzer_arn) in &changes.rename {
        sqlx::query(
            "UPDATE coverage SET analyzer_arn = $1 WHERE account_key = $2 AND region = $3 AND valid_to IS NULL",
        )
        .bind(analyzer_arn)
        .bind(before.account_key)
        .bind(region.as_str())
        .execute(&mut *connection)
        .await
        .doing(DOING)?;
    }
    if changes.open.is_empty() {
        return Ok(());
    }
    let mut insert = QueryBuilder::<Sqlite>::new(
        "INSERT INTO coverage (account_key, region, valid_from, status, reason, analyzer_arn, first_scan_id, last_known_status, last_known_at) ",
    );
    insert.push_values(&changes.open, |mut row, interval| {
        let (last_known_status, last_known_at) = interval.last_known.clone().unzip();
        row.push_bind(before.account_key)
            .push_bind(interval.region.as_str())
            .push_bind(at)
            .push_bind(interval.reason.status().as_str())
            .push_bind(interval.reason.as_str())
            .push_bind(interval.analyzer_arn.as_deref())
            .push_bind(scan)
            .push_bind(last_known_status.map(Status::as_str))
            .push_bind(last_known_at);
    });
    insert.build().persistent(false).execute(connection).await.doing(DOING)?;
    Ok(())
}

#[derive(sqlx::FromRow, PartialEq)]
struct AnalyzerRow {
    analyzer_arn: String,
    owner_account_id: String,
    region: String,
    name: String,
    #[sqlx(rename = "type")]
    analyzer_type: String,
    status: String,
    status_reason: Option<String>,
    managed_by: Option<String>,
    created_at: Option<String>,
    tags: String,
}

impl AnalyzerRow {
    fn of(analyzer: &Analyzer) -> Self {
        Self {
            analyzer_arn: analyzer.arn.clone(),
            owner_account_id: analyzer.location.owner.to_string(),
            region: analyzer.location.region.to_string(),
            name: analyzer.name.clone(),
            analyzer_type: analyzer.analyzer_type.clone(),
            status: analyzer.status.clone(),
            status_reason: analyzer.status_reason.clone(),
            managed_by: analyzer.managed_by.clone(),
            created_at: analyzer.created_at.map(instant::text),
            tags: serde_json::to_string(&analyzer.tags).unwrap_or_else(|_| "{}".to_owned()),
        }
    }
}

async fn write_analyzers(
    connection: &mut SqliteConnection,
    organization_key: i64,
    visit: &Visit,
    at: &str,
) -> Result<(), StoreError> {
    let owners: BTreeSet<_> =
        visit.analyzers.iter().map(|analyzer| analyzer.location.owner).chain([visit.account.id]).collect();
    for owner in owners {
        let at = instant::after_analyzers(&mut *connection, organization_key, owner.as_str(), at).await?;
        let open: Vec<AnalyzerRow> = sqlx::query_as(
            "SELECT analyzer_arn, owner_account_id, region, name, type, status, status_reason, managed_by, created_at, tags
             FROM analyzer WHERE organization_key = $1 AND owner_account_id = $2 AND valid_to IS NULL",
        )
        .bind(organization_key)
        .bind(owner.as_str())
        .fetch_all(&mut *connection)
        .await
        .doing(DOING)?;
        let seen = visit.analyzers.iter().filter(|analyzer| analyzer.location.owner == owner).map(AnalyzerRow::of);
        let seen: Vec<AnalyzerRow> = seen.collect();
        // Only the owner's own list, read to its end, says that an analyzer is gone.
        let is_gone = |row: &AnalyzerRow| {
            owner == visit.account.id
                && visit.regions_read.iter().any(|region| region.as_str() == row.region)
                && !seen.iter().any(|now| now.analyzer_arn == row.analyzer_arn)
        };
        let is_changed = |row: &AnalyzerRow| seen.iter().any(|now| now.analyzer_arn == row.analyzer_arn && now != row);
        for row in open.iter().filter(|row| is_gone(row) || is_changed(row)) {
            sqlx::query(
                "UPDATE analyzer SET valid_to = $1
                 WHERE organization_key = $2 AND analyzer_arn = $3 AND valid_to IS NULL",
            )
            .bind(&at)
            .bind(organization_key)
            .bind(&row.analyzer_arn)
            .execute(&mut *connection)
            .await
            .doing(DOING)?;
        }
        for row in seen.iter().filter(|row| !open.contains(row)) {
            sqlx::query(
                "INSERT INTO analyzer (organization_key, analyzer_arn, valid_from, owner_account_id, region, name, type,
                                       status, status_reason, managed_by, created_at, tags)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            )
            .bind(organization_key)
            .bind(&row.analyzer_arn)
            .bind(&at)
            .bind(&row.owner_account_id)
            .bind(&row.region)
            .bind(&row.name)
            .bind(&row.analyzer_type)
            .bind(&row.status)
            .bind(&row.status_reason)
            .bind(&row.managed_by)
            .bind(&row.created_at)
            .bind(&row.tags)
            .execute(&mut *connection)
            .await
            .doing(DOING)?;
        }
    }
    Ok(())
}

async fn write_visit(
    connection: &mut SqliteConnection,
    scan: ScanId,
    account_key: i64,
    visit: &Visit,
    worker: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO visit (scan_id, account_key, outcome, error_kind, error_message, started_at, finished_at, worker)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(scan)
    .bind(account_key)
    .bind(visit.outcome.as_str())
    .bind(visit.failure.as_ref().map(|failure| failure.kind.as_str()))
    .bind(visit.failure.as_ref().map(|failure| failure.message.as_str()))
    .bind(instant::text(visit.started_at))
    .bind(instant::text(visit.finished_at))
    .bind(worker)
    .execute(connection)
    .await
    .doing(DOING)?;
    Ok(())
}
