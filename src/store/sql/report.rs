//! What a person wants to know of one scan.

use sqlx::FromRow;

use super::super::engine::{Pool, now};
use super::exemptions;
use crate::model::ScanId;
use crate::store::error::Doing;
use crate::store::timestamp::Timestamp;
use crate::store::{Overview, ScanReport, StoreError};

pub async fn report(pool: &Pool, scan: ScanId) -> Result<ScanReport, StoreError> {
    const DOING: &str = "reading the report of a scan";
    // Prepared anew each time: a migration beside a replica that runs may give the view more columns.
    let totals = sqlx::query_as("SELECT * FROM scan_summary WHERE scan_id = $1")
        .persistent(false)
        .bind(scan)
        .fetch_one(pool)
        .await
        .doing(DOING)?;
    let regions = sqlx::query_as(
        "SELECT coverage.region,
                count(*) FILTER (WHERE coverage.status = 'covered') AS covered,
                count(*) FILTER (WHERE coverage.status = 'not_covered') AS not_covered,
                count(*) FILTER (WHERE coverage.status = 'not_applicable') AS not_applicable,
                count(*) FILTER (WHERE coverage.status = 'unknown') AS unknown
         FROM scan
         JOIN account ON account.organization_key = scan.organization_key AND account.scan_id = scan.scan_id
         JOIN coverage ON coverage.account_key = account.account_key AND coverage.valid_to IS NULL
         WHERE scan.scan_id = $1
         GROUP BY coverage.region
         ORDER BY not_covered DESC, unknown DESC, coverage.region",
    )
    .bind(scan)
    .fetch_all(pool)
    .await
    .doing(DOING)?;
    let unreadable = sqlx::query_as(
        "WITH unknown AS (
             SELECT coverage.reason, account.account_id, visit.error_message,
                    row_number() OVER (
                        PARTITION BY coverage.reason
                        ORDER BY CASE WHEN visit.error_kind = coverage.reason THEN 0 ELSE 1 END, account.account_id, coverage.region
                    ) AS rank
             FROM scan
             JOIN account ON account.organization_key = scan.organization_key AND account.scan_id = scan.scan_id
             JOIN visit ON visit.account_key = account.account_key AND visit.scan_id = scan.scan_id
             JOIN coverage ON coverage.account_key = account.account_key AND coverage.valid_to IS NULL
             WHERE scan.scan_id = $1 AND coverage.status = 'unknown'
         )
         SELECT reason, count(DISTINCT account_id) AS accounts, count(*) AS account_regions,
                max(CASE rank WHEN 1 THEN account_id END) AS example_account_id,
                max(CASE rank WHEN 1 THEN error_message END) AS example_message
         FROM unknown
         GROUP BY reason
         ORDER BY account_regions DESC, reason",
    )
    .bind(scan)
    .fetch_all(pool)
    .await
    .doing(DOING)?;
    let exemptions = exemptions::uses(pool, scan).await?;
    let redundant = sqlx::query_as(
        "SELECT why, count(*) AS analyzers, count(*) FILTER (WHERE billed) AS billed, min(analyzer_arn) AS example
         FROM redundant_analyzers
         WHERE organization_id = (SELECT organization_id FROM scan_summary WHERE scan_id = $1)
         GROUP BY why ORDER BY why",
    )
    .bind(scan)
    .fetch_all(pool)
    .await
    .doing(DOING)?;
    let billed_analyzers = sqlx::query_scalar(
        "SELECT count(*) FROM current_analyzers
         WHERE organization_id = (SELECT organization_id FROM scan_summary WHERE scan_id = $1)
           AND type IN ('ACCOUNT_UNUSED_ACCESS', 'ORGANIZATION_UNUSED_ACCESS') AND managed_by IS NULL",
    )
    .bind(scan)
    .fetch_one(pool)
    .await
    .doing(DOING)?;
    let rule_drift = sqlx::query_as(
        "SELECT owner_account_id, rule_name, count(*) FILTER (WHERE drift = 'missing') AS missing,
                count(*) FILTER (WHERE drift = 'different') AS different, min(region) AS example
         FROM archive_rule_drift
         WHERE organization_id = (SELECT organization_id FROM scan_summary WHERE scan_id = $1)
         GROUP BY owner_account_id, analyzer_type, rule_name ORDER BY owner_account_id, analyzer_type, rule_name",
    )
    .bind(scan)
    .fetch_all(pool)
    .await
    .doing(DOING)?;
    Ok(ScanReport { scan: totals, regions, unreadable, exemptions, redundant, billed_analyzers, rule_drift })
}

pub async fn overview(pool: &Pool, organization_name: &str) -> Result<Overview, StoreError> {
    #[derive(FromRow)]
    struct Row {
        replicas: i64,
        started: Option<Timestamp>,
        unfinished_since: Option<Timestamp>,
        accounts_left: i64,
    }
    const DOING: &str = "reading how the scans are getting on";
    let mut connection = pool.acquire().await.doing(DOING)?;
    let now = now(&mut connection).await.doing(DOING)?;
    let row: Row = sqlx::query_as(
        "SELECT (SELECT count(DISTINCT worker_key) FROM participant WHERE alive_until > $2) AS replicas,
                (SELECT started_at FROM scan WHERE organization_name = $1 AND scope = 'all' ORDER BY scan_id DESC LIMIT 1) AS started,
                (SELECT started_at FROM scan WHERE organization_name = $1 AND scope = 'all' AND scan_id > coalesce((
                     SELECT scan_id FROM scan WHERE organization_name = $1 AND scope = 'all' AND state = 'completed'
                     ORDER BY scan_id DESC LIMIT 1), 0) ORDER BY scan_id LIMIT 1) AS unfinished_since,
                (SELECT count(*) FROM claim JOIN scan USING (scan_id) WHERE organization_name = $1) AS accounts_left",
    )
    .bind(organization_name)
    .bind(now)
    .fetch_one(&mut *connection)
    .await
    .doing(DOING)?;
    let completed = sqlx::query_as(
        "SELECT * FROM scan_summary WHERE scan_id = (
             SELECT max(scan_id) FROM scan WHERE organization_name = $1 AND scope = 'all' AND state = 'completed')",
    )
    .persistent(false)
    .bind(organization_name)
    .fetch_optional(&mut *connection)
    .await
    .doing(DOING)?;
    let whole = sqlx::query_as(
        "SELECT * FROM scan_summary WHERE organization_name = $1 AND whole ORDER BY scan_id DESC LIMIT 1",
    )
    .persistent(false)
    .bind(organization_name)
    .fetch_optional(&mut *connection)
    .await
    .doing(DOING)?;
    Ok(Overview {
        replicas: u32::try_from(row.replicas).unwrap_or(u32::MAX),
        started: row.started.map(Into::into),
        unfinished_since: row.unfinished_since.map(Into::into),
        accounts_left: row.accounts_left.unsigned_abs(),
        completed,
        whole,
    })
}
