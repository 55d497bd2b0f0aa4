//! What a scan of some accounts learns about the others: that the organization's analyzer which covered them is gone.

use sqlx::FromRow;

use super::super::engine::{Connection, execute};
use super::visits::{Batch, Closing, write_coverage};
use crate::model::{Cause, Reason, Region, Requirement, ScanId};
use crate::store::StoreError;
use crate::store::error::{Doing, word};
use crate::store::intervals::{LastKnown, Opening};
use crate::store::stamp::Stamp;
use crate::store::table::Table;

const DOING: &str = "finishing a scan";

/// Lets no account stay covered by an organization analyzer that this scan found gone, though nobody looked at the account:
/// it is `unknown`, `organization_analyzers_unknown`, until it is judged again.
pub async fn mark(connection: &mut Connection, scan: ScanId, at: Stamp) -> Result<(), StoreError> {
    #[derive(FromRow)]
    struct Row {
        account_key: i32,
        scan_id: ScanId,
        checked_at: Option<Stamp>,
        changed_at: Option<Stamp>,
        region: String,
        reason: String,
        requirement: String,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT account.account_key, account.scan_id, account.checked_at, account.changed_at, coverage.region, coverage.reason,
                before.requirement
         FROM scan
         JOIN account ON account.organization_key = scan.organization_key AND account.scan_id <> scan.scan_id
         JOIN scan AS before ON before.scan_id = account.scan_id
         JOIN coverage ON coverage.account_key = account.account_key AND coverage.valid_to IS NULL
         WHERE scan.scan_id = $1 AND scan.scope = 'partial' AND (
               coverage.reason = 'organization_analyzer'
               OR (coverage.reason = 'account_and_organization_analyzers' AND before.requirement IN ('organization', 'both')))
           AND NOT EXISTS (
               SELECT 1 FROM analyzer
               WHERE analyzer.organization_key = scan.organization_key AND analyzer.region = coverage.region
                 AND analyzer.type = 'ORGANIZATION' AND analyzer.status = 'ACTIVE' AND analyzer.managed_by IS NULL
                 AND analyzer.valid_to IS NULL)",
    )
    .bind(scan)
    .fetch_all(&mut *connection)
    .await
    .doing(DOING)?;
    let mut batch = Batch::default();
    for row in rows {
        let at = at.no_earlier_than(row.changed_at);
        let (account_key, region) = (row.account_key, Region::new(&row.region));
        let (reason, requirement): (Reason, Requirement) = (word(DOING, &row.reason)?, word(DOING, &row.requirement)?);
        let last_known = row.checked_at.map(|at| LastKnown { reason, at, scan_id: row.scan_id, requirement });
        batch.closings.push(Closing {
            account_key,
            region: region.clone(),
            at,
            last_scan_id: row.scan_id,
            end_cause: None,
        });
        let opening = Opening {
            region,
            reason: Reason::OrganizationAnalyzersUnknown,
            analyzer_arn: None,
            from: Some(reason),
            cause: Cause::Visibility,
            last_known,
            known_cause: None,
        };
        batch.openings.push((account_key, at, opening));
    }
    if batch.openings.is_empty() {
        return Ok(());
    }
    write_coverage(connection, scan, &batch).await?;
    let table = Table::of(&batch.openings)
        .integer("account_key", |row| i64::from(row.0))
        .stamp("changed_at", |row| row.1)
        .done();
    let update = "UPDATE account SET changed_at = new.changed_at FROM new WHERE account.account_key = new.account_key";
    execute(connection, &table, update).await.doing(DOING).map(|_| ())
}
