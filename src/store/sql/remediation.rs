//! What remediation goes by, and what it leaves behind.

use sqlx::FromRow;

use super::super::engine::{Pool, fetch};
use crate::model::{AccountId, ScanId};
use crate::store::StoreError;
use crate::store::error::{Doing, word};
use crate::store::remediation::{ActionEnd, Ground, NewAction};
use crate::store::table::Table;
use crate::store::timestamp::Timestamp;

/// What the newest results say of an organization's gaps; `None` before its first completed scan.
pub async fn ground(
    pool: &Pool,
    organization_name: &str,
    owners: [Option<AccountId>; 2],
) -> Result<Option<Ground>, StoreError> {
    const DOING: &str = "reading the gaps";
    #[derive(FromRow)]
    struct Newest {
        scan_id: ScanId,
        finished_at: Timestamp,
        organization_id: String,
        requirement: String,
    }
    let newest: Option<Newest> = sqlx::query_as(
        "SELECT scan_id, finished_at, organization_id, requirement FROM scan_summary
         WHERE scan_id = (SELECT max(scan_id) FROM scan WHERE organization_name = $1 AND scope = 'all' AND state = 'completed')",
    )
    .bind(organization_name)
    .fetch_optional(pool)
    .await
    .doing(DOING)?;
    let Some(newest) = newest else { return Ok(None) };
    let id = newest.organization_id.as_str();
    let gaps = sqlx::query_as(
        "SELECT account_id, account_name, region FROM current_coverage
         WHERE organization_id = $1 AND status = 'not_covered' AND NOT exempt ORDER BY region, account_id",
    );
    let standing = sqlx::query_as(
        "SELECT owner_account_id, region, analyzer_arn, name, type, status, status_reason FROM current_analyzers
         WHERE organization_id = $1 AND type IN ('ACCOUNT', 'ORGANIZATION') AND managed_by IS NULL ORDER BY analyzer_arn",
    );
    let left = sqlx::query_as(
        "SELECT why, count(DISTINCT account_id) AS accounts, count(*) AS account_regions, min(account_id) AS example_account_id
         FROM (
             SELECT account_id, CASE WHEN exempt AND status = 'not_covered' THEN 'exempt' ELSE reason END AS why
             FROM current_coverage
             WHERE organization_id = $1
               AND (status = 'unknown' OR (exempt AND status = 'not_covered') OR reason IN ('account_not_active', 'excluded'))
         ) AS untouched
         GROUP BY why ORDER BY why",
    );
    let closed = sqlx::query_as(
        "SELECT account_id, region, status, reason FROM current_coverage
         WHERE organization_id = $1 AND account_id IN ($2, $3)
           AND (status = 'unknown' OR reason IN ('region_not_opted_in', 'region_not_supported', 'account_not_active'))
         ORDER BY account_id, region",
    );
    Ok(Some(Ground {
        scan_id: newest.scan_id,
        scanned_at: newest.finished_at.into(),
        requirement: word(DOING, &newest.requirement)?,
        gaps: gaps.bind(id).fetch_all(pool).await.doing(DOING)?,
        standing: standing.bind(id).fetch_all(pool).await.doing(DOING)?,
        left: left.bind(id).fetch_all(pool).await.doing(DOING)?,
        closed: closed
            .bind(id)
            .bind(owners[0].as_ref().map(AccountId::as_str))
            .bind(owners[1].as_ref().map(AccountId::as_str))
            .fetch_all(pool)
            .await
            .doing(DOING)?,
        organization_id: newest.organization_id,
    }))
}

/// Says that something is about to be changed; returns its number.
pub async fn begin_action(pool: &Pool, action: &NewAction<'_>) -> Result<i64, StoreError> {
    const DOING: &str = "recording what is changed";
    let (plan_id, step) = action.plan.unzip();
    let one = [()];
    let table = Table::of(&one)
        .text("organization_id", |()| action.organization_id)
        .text("action", |()| action.action)
        .text("plan_id", move |()| plan_id)
        .text("step", move |()| step)
        .text("account_id", |()| action.account.as_str())
        .text("region", |()| action.region.as_str())
        .text("analyzer_arn", |()| action.analyzer_arn)
        .text("analyzer_name", |()| action.analyzer_name)
        .documents("finding_ids", |()| action.finding_ids.map(|ids| serde_json::json!(ids).to_string()))
        .text("reason", |()| action.reason)
        .text("actor", |()| action.actor)
        .stamp("started_at", |()| Timestamp::from(action.at))
        .done();
    let mut connection = pool.acquire().await.doing(DOING)?;
    let insert = "INSERT INTO remediation_action (organization_key, action, plan_id, step, account_id, region, analyzer_arn, analyzer_name,
                                                  finding_ids, reason, actor, started_at, result)
                  SELECT organization.organization_key, new.action, new.plan_id, new.step, new.account_id, new.region, new.analyzer_arn,
                         new.analyzer_name, new.finding_ids, new.reason, new.actor, new.started_at, 'started'
                  FROM new JOIN organization ON organization.organization_id = new.organization_id
                  RETURNING action_id";
    let numbers: Vec<(i64,)> = fetch(&mut connection, &table, insert).await.doing(DOING)?;
    let none = || StoreError::Corrupt { doing: DOING, problem: format!("no organization {}", action.organization_id) };
    numbers.first().map(|(number,)| *number).ok_or_else(none)
}

/// Says what came of it.
pub async fn end_action(pool: &Pool, number: i64, end: &ActionEnd<'_>) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE remediation_action SET result = $2, analyzer_arn = coalesce($3, analyzer_arn), request_id = coalesce($4, request_id),
                                       error = $5, finished_at = $6
         WHERE action_id = $1",
    )
    .bind(number)
    .bind(end.result)
    .bind(end.analyzer_arn)
    .bind(end.request_id)
    .bind(end.error)
    .bind(Timestamp::from(end.at))
    .execute(pool)
    .await
    .doing("recording what was changed")
    .map(|_| ())
}
