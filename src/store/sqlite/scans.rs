//! The beginning and the end of a scan.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqlitePool;

use super::super::error::Doing;
use super::super::{NewScan, StoreError};
use super::instant;
use crate::model::{AccountId, Region, ScanEnd, ScanId, ScanState};

pub async fn begin(pool: &SqlitePool, scan: &NewScan) -> Result<ScanId, StoreError> {
    const DOING: &str = "beginning a scan";
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.doing(DOING)?;
    // This process holds the right to write, so a scan that still runs belongs to a process that is dead.
    let dead: Vec<ScanId> = sqlx::query_scalar(
        "SELECT scan_id FROM scan WHERE state = 'running' AND organization_name = $1 ORDER BY scan_id",
    )
    .bind(&scan.organization_name)
    .fetch_all(&mut *transaction)
    .await
    .doing(DOING)?;
    for dead in dead {
        let end = ScanEnd {
            state: ScanState::Incomplete,
            error: Some("the process ended before the scan did".into()),
            list_complete: false,
        };
        end_scan(&mut transaction, dead, &end, scan.started_at).await?;
    }
    let scan_id = sqlx::query_scalar(
        "INSERT INTO scan (organization_name, trigger, scope, state, scheduled_for, started_at, requirement, configuration_hash, version)
         VALUES ($1, $2, 'all', 'running', $3, $4, $5, $6, $7) RETURNING scan_id",
    )
    .bind(&scan.organization_name)
    .bind(scan.trigger.as_str())
    .bind(scan.scheduled_for.map(instant::text))
    .bind(instant::text(scan.started_at))
    .bind(scan.requirement.as_str())
    .bind(&scan.configuration_hash)
    .bind(&scan.version)
    .fetch_one(&mut *transaction)
    .await
    .doing(DOING)?;
    transaction.commit().await.doing(DOING)?;
    Ok(scan_id)
}

pub async fn identify(
    pool: &SqlitePool,
    scan: ScanId,
    organization_id: &str,
    others: &[String],
) -> Result<Option<String>, StoreError> {
    const DOING: &str = "recording the organization";
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.doing(DOING)?;
    let known: Option<String> = sqlx::query_scalar("SELECT name FROM organization WHERE organization_id = $1")
        .bind(organization_id)
        .fetch_optional(&mut *transaction)
        .await
        .doing(DOING)?;
    if let Some(name) = known.filter(|name| others.contains(name)) {
        return Ok(Some(name));
    }
    let key: i64 = sqlx::query_scalar(
        "INSERT INTO organization (organization_id, name)
         SELECT $1, organization_name FROM scan WHERE scan_id = $2
         ON CONFLICT (organization_id) DO UPDATE SET name = excluded.name
         RETURNING organization_key",
    )
    .bind(organization_id)
    .bind(scan)
    .fetch_one(&mut *transaction)
    .await
    .doing(DOING)?;
    sqlx::query("UPDATE scan SET organization_key = $1 WHERE scan_id = $2")
        .bind(key)
        .bind(scan)
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
    transaction.commit().await.doing(DOING)?;
    Ok(None)
}

pub async fn known_accounts(pool: &SqlitePool, scan: ScanId) -> Result<Vec<AccountId>, StoreError> {
    const DOING: &str = "reading the accounts";
    let ids: Vec<String> = sqlx::query_scalar(
        "SELECT account_id FROM account JOIN scan USING (organization_key) WHERE scan.scan_id = $1 AND left_at IS NULL",
    )
    .bind(scan)
    .fetch_all(pool)
    .await
    .doing(DOING)?;
    let corrupt = |problem: String| StoreError::Corrupt { doing: DOING, problem };
    ids.iter().map(|id| id.parse().map_err(|error| corrupt(format!("an account id that is none: {error}")))).collect()
}

pub async fn known_regions(pool: &SqlitePool, scan: ScanId, account: AccountId) -> Result<Vec<Region>, StoreError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT coverage.region FROM coverage
         JOIN account USING (account_key)
         JOIN scan USING (organization_key)
         WHERE scan.scan_id = $1 AND account.account_id = $2 AND coverage.valid_to IS NULL
         ORDER BY coverage.region",
    )
    .bind(scan)
    .bind(account.as_str())
    .fetch_all(pool)
    .await
    .doing("reading the regions of an account")?;
    Ok(names.iter().map(|name| Region::new(name)).collect())
}

pub async fn finish(pool: &SqlitePool, scan: ScanId, end: &ScanEnd, at: DateTime<Utc>) -> Result<(), StoreError> {
    const DOING: &str = "finishing a scan";
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.doing(DOING)?;
    end_scan(&mut transaction, scan, end, at).await?;
    transaction.commit().await.doing(DOING)
}

async fn end_scan(
    connection: &mut SqliteConnection,
    scan: ScanId,
    end: &ScanEnd,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    const DOING: &str = "finishing a scan";
    let at = instant::text(at);
    if end.list_complete {
        close_accounts_that_left(connection, scan, &at).await?;
    }
    sqlx::query(
        "WITH visits AS (
             SELECT outcome, count(*) AS n FROM visit WHERE scan_id = $1 GROUP BY outcome
         ), rows AS (
             SELECT coverage.status AS status,
                    CASE coverage.status WHEN 'unknown' THEN coverage.last_known_status ELSE coverage.status END AS last_known
             FROM visit JOIN coverage USING (account_key)
             WHERE visit.scan_id = $1 AND coverage.valid_to IS NULL
         )
         UPDATE scan SET
             state = $2, error = $3, finished_at = max($4, started_at),
             accounts = (SELECT coalesce(sum(n), 0) FROM visits),
             accounts_audited = (SELECT coalesce(sum(n), 0) FROM visits WHERE outcome = 'audited'),
             accounts_unreachable = (SELECT coalesce(sum(n), 0) FROM visits WHERE outcome = 'unreachable'),
             accounts_not_active = (SELECT coalesce(sum(n), 0) FROM visits WHERE outcome = 'not_active'),
             accounts_excluded = (SELECT coalesce(sum(n), 0) FROM visits WHERE outcome = 'excluded'),
             (account_regions, covered, not_covered, not_applicable, unknown, covered_last_known, not_covered_last_known) = (
                 SELECT count(*), coalesce(sum(status = 'covered'), 0), coalesce(sum(status = 'not_covered'), 0),
                        coalesce(sum(status = 'not_applicable'), 0), coalesce(sum(status = 'unknown'), 0),
                        coalesce(sum(last_known = 'covered'), 0), coalesce(sum(last_known = 'not_covered'), 0)
                 FROM rows
             )
         WHERE scan_id = $1",
    )
    .bind(scan)
    .bind(end.state.as_str())
    .bind(&end.error)
    .bind(&at)
    .execute(connection)
    .await
    .doing(DOING)?;
    Ok(())
}

/// Every account on the list has a visit, so a member without one has left: what held for it ends.
async fn close_accounts_that_left(connection: &mut SqliteConnection, scan: ScanId, at: &str) -> Result<(), StoreError> {
    const DOING: &str = "closing the accounts that left";
    let left: Vec<(i64, String, i64)> = sqlx::query_as(
        "SELECT account_key, account_id, organization_key FROM account
         WHERE organization_key = (SELECT organization_key FROM scan WHERE scan_id = $1) AND left_at IS NULL
           AND NOT EXISTS (SELECT 1 FROM visit WHERE visit.scan_id = $1 AND visit.account_key = account.account_key)",
    )
    .bind(scan)
    .fetch_all(&mut *connection)
    .await
    .doing(DOING)?;
    for (account_key, account_id, organization_key) in left {
        let coverage_at = instant::after_coverage(&mut *connection, account_key, at).await?;
        let analyzers_at = instant::after_analyzers(&mut *connection, organization_key, &account_id, at).await?;
        sqlx::query(
            "UPDATE coverage SET valid_to = $1, last_scan_id = (SELECT scan_id FROM account WHERE account_key = $2)
             WHERE account_key = $2 AND valid_to IS NULL",
        )
        .bind(coverage_at)
        .bind(account_key)
        .execute(&mut *connection)
        .await
        .doing(DOING)?;
        sqlx::query(
            "UPDATE analyzer SET valid_to = $1
             WHERE organization_key = $2 AND owner_account_id = $3 AND valid_to IS NULL",
        )
        .bind(analyzers_at)
        .bind(organization_key)
        .bind(account_id)
        .execute(&mut *connection)
        .await
        .doing(DOING)?;
        sqlx::query("UPDATE account SET left_at = $1 WHERE account_key = $2")
            .bind(at)
            .bind(account_key)
            .execute(&mut *connection)
            .await
            .doing(DOING)?;
    }
    Ok(())
}
