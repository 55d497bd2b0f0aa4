//! The end of an organization that is scanned no more.

use chrono::{DateTime, Utc};

use super::super::engine::{Pool, begin, lock_scans, now};
use super::finish::{close_organization, end_scan};
use super::incidents;
use super::scans::dead_end;
use crate::model::ScanId;
use crate::store::StoreError;
use crate::store::error::Doing;
use crate::store::timestamp::Timestamp;

pub async fn retire(pool: &Pool, organization_name: &str, at: DateTime<Utc>) -> Result<Option<u64>, StoreError> {
    const DOING: &str = "retiring an organization";
    let mut transaction = begin(pool).await.doing(DOING)?;
    lock_scans(&mut transaction).await.doing(DOING)?;
    let now = now(&mut transaction).await.doing(DOING)?;
    let at_work: Vec<(ScanId, bool)> = sqlx::query_as(
        "SELECT scan_id, EXISTS (
             SELECT 1 FROM participant WHERE participant.scan_id = scan.scan_id AND alive_until > $2)
         FROM scan WHERE state = 'running' AND organization_name = $1",
    )
    .bind(organization_name)
    .bind(now)
    .fetch_all(&mut *transaction)
    .await
    .doing(DOING)?;
    for (scan, is_alive) in at_work {
        if is_alive {
            return Err(StoreError::ScanRunning(organization_name.to_owned()));
        }
        end_scan(&mut transaction, scan, &dead_end(), at).await?;
    }
    // One name may have had several: a standalone account, and the organization that it joined.
    let known: Vec<(i32, ScanId)> = sqlx::query_as(
        "SELECT organization.organization_key, max(scan.scan_id) FROM organization JOIN scan USING (organization_key)
         WHERE organization.name = $1 GROUP BY organization.organization_key",
    )
    .bind(organization_name)
    .fetch_all(&mut *transaction)
    .await
    .doing(DOING)?;
    if known.is_empty() {
        return Ok(None);
    }
    let mut accounts = 0;
    for (organization_key, newest) in known {
        accounts += close_organization(&mut transaction, newest, organization_key, at.into()).await?;
        incidents::close_all_of(&mut transaction, organization_key, newest, Timestamp::from(at)).await?;
    }
    transaction.commit().await.doing(DOING)?;
    Ok(Some(accounts))
}
