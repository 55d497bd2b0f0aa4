//! The beginning of a scan.

use super::super::engine::{Pool, begin as begin_transaction};
use super::finish::end_scan;
use crate::model::{AccountId, Region, ScanEnd, ScanId, ScanState};
use crate::store::error::Doing;
use crate::store::stamp::Stamp;
use crate::store::{NewScan, StoreError};

/// How a scan ends whose process is dead.
fn dead_end() -> ScanEnd {
    let error = Some("the process ended before the scan did".into());
    ScanEnd { state: ScanState::Incomplete, error, list_complete: false }
}

pub async fn begin(pool: &Pool, scan: &NewScan) -> Result<ScanId, StoreError> {
    const DOING: &str = "beginning a scan";
    let mut transaction = begin_transaction(pool).await.doing(DOING)?;
    // This process holds the right to scan the organization, so a scan that still runs belongs to one that is dead.
    let dead: Vec<ScanId> = sqlx::query_scalar(
        "SELECT scan_id FROM scan WHERE state = 'running' AND organization_name = $1 ORDER BY scan_id",
    )
    .bind(&scan.organization_name)
    .fetch_all(&mut *transaction)
    .await
    .doing(DOING)?;
    for dead in dead {
        end_scan(&mut transaction, dead, &dead_end(), scan.started_at).await?;
    }
    let scan_id = sqlx::query_scalar(
        "INSERT INTO scan (organization_name, trigger, scope, state, scheduled_for, started_at, requirement, configuration_hash, version)
         VALUES ($1, $2, $3, 'running', $4, $5, $6, $7, $8) RETURNING scan_id",
    )
    .bind(&scan.organization_name)
    .bind(scan.trigger.as_str())
    .bind(scan.scope.as_str())
    .bind(scan.scheduled_for.map(Stamp::from))
    .bind(Stamp::from(scan.started_at))
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
    pool: &Pool,
    scan: ScanId,
    organization_id: &str,
    others: &[String],
) -> Result<Option<String>, StoreError> {
    const DOING: &str = "recording the organization";
    let mut transaction = begin_transaction(pool).await.doing(DOING)?;
    let known: Option<String> = sqlx::query_scalar("SELECT name FROM organization WHERE organization_id = $1")
        .bind(organization_id)
        .fetch_optional(&mut *transaction)
        .await
        .doing(DOING)?;
    if let Some(name) = known.filter(|name| others.contains(name)) {
        return Ok(Some(name));
    }
    let key: i32 = sqlx::query_scalar(
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
    // The same organization under the name that it had before: nobody scans it any more, for we may.
    let dead: Vec<(ScanId, Stamp)> = sqlx::query_as(
        "SELECT scan_id, started_at FROM scan WHERE state = 'running' AND organization_key = $1 AND scan_id <> $2",
    )
    .bind(key)
    .bind(scan)
    .fetch_all(&mut *transaction)
    .await
    .doing(DOING)?;
    for (dead, started_at) in dead {
        end_scan(&mut transaction, dead, &dead_end(), started_at.into()).await?;
    }
    sqlx::query("UPDATE scan SET organization_key = $1 WHERE scan_id = $2")
        .bind(key)
        .bind(scan)
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
    transaction.commit().await.doing(DOING)?;
    Ok(None)
}

pub async fn known_accounts(pool: &Pool, scan: ScanId) -> Result<Vec<AccountId>, StoreError> {
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

/// The regions that hold now, or, of an account that had left, those that held until then.
pub async fn known_regions(pool: &Pool, scan: ScanId, account: AccountId) -> Result<Vec<Region>, StoreError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT coverage.region FROM coverage
         JOIN account USING (account_key)
         JOIN scan USING (organization_key)
         WHERE scan.scan_id = $1 AND account.account_id = $2
           AND (coverage.valid_to IS NULL
                OR (account.left_at IS NOT NULL AND coverage.valid_to = account.changed_at AND coverage.end_cause = 'membership'))
         ORDER BY coverage.region",
    )
    .bind(scan)
    .bind(account.as_str())
    .fetch_all(pool)
    .await
    .doing("reading the regions of an account")?;
    Ok(names.iter().map(|name| Region::new(name)).collect())
}
