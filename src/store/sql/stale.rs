//! What a scan learns about accounts that it did not visit, because it was of others or broke off: that the organization's
//! analyzer which covered them is gone.

use sqlx::FromRow;

use super::super::engine::{Connection, execute, fetch};
use super::visits::{Batch, Closing, write_coverage};
use super::work;
use crate::evaluate::OrganizationView;
use crate::model::{AccountId, AnalyzerArn, Cause, Reason, Region, Requirement, ScanId};
use crate::store::StoreError;
use crate::store::error::{Doing, word};
use crate::store::intervals::{LastKnown, Opening};
use crate::store::table::Table;
use crate::store::timestamp::Timestamp;

const DOING: &str = "finishing a scan";

/// What holds of accounts that a scan did not visit, because of an analyzer of the organization.
macro_rules! covered_by_the_organizations {
    () => {
        "
         JOIN account ON account.organization_key = scan.organization_key AND account.scan_id <> scan.scan_id
         JOIN scan AS before ON before.scan_id = account.scan_id
         JOIN coverage ON coverage.account_key = account.account_key AND coverage.valid_to IS NULL AND (
              coverage.reason = 'organization_analyzer'
              OR (coverage.reason = 'account_and_organization_analyzers' AND before.requirement IN ('organization', 'both')))"
    };
}

/// The organization's analyzer that is named: of an account that has one of its own as well, that is the one.
macro_rules! named {
    () => {
        "CASE WHEN coverage.reason = 'organization_analyzer' THEN coverage.analyzer_arn END"
    };
}

/// An analyzer of the organization by which accounts are covered that a scan did not visit.
#[derive(FromRow)]
struct Covering {
    region: String,
    /// Its ARN, where it is named.
    named: Option<String>,
}

/// Those of them that are gone, by what the owners said in this scan.
async fn gone(connection: &mut Connection, scan: ScanId) -> Result<Vec<Covering>, StoreError> {
    let mut covering: Vec<Covering> = sqlx::query_as(concat!(
        "SELECT DISTINCT coverage.region, ",
        named!(),
        " AS named FROM scan",
        covered_by_the_organizations!(),
        " WHERE scan.scan_id = $1"
    ))
    .bind(scan)
    .fetch_all(&mut *connection)
    .await
    .doing(DOING)?;
    if covering.is_empty() {
        return Ok(covering);
    }
    let recorded: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT analyzer.region, analyzer.owner_account_id FROM scan JOIN analyzer USING (organization_key)
         WHERE scan.scan_id = $1 AND analyzer.type = 'ORGANIZATION' AND analyzer.status = 'ACTIVE'
           AND analyzer.managed_by IS NULL AND analyzer.valid_to IS NULL",
    )
    .bind(scan)
    .fetch_all(&mut *connection)
    .await
    .doing(DOING)?;
    let mut view = OrganizationView::default();
    if let Some(known) = work::known(connection, scan).await? {
        view = OrganizationView::new(known.discovered.owners.iter().copied(), known.discovered.owners_known);
        for (owner, said) in &known.owners {
            view.add(*owner, said);
        }
    }
    covering.retain(|covering| {
        let region = Region::new(&covering.region);
        let named = covering.named.as_deref().and_then(AnalyzerArn::parse).map(|arn| arn.owner);
        let has_none = |owner: AccountId| view.has_none(owner, &region);
        if view.is_blind_in(&region) {
            // Whoever is recorded to have one there may have been deregistered since, and has none then.
            let mut owners = recorded.iter().filter(|(there, _)| *there == covering.region);
            named.is_some_and(has_none) || owners.all(|(_, owner)| owner.parse().is_ok_and(has_none))
        } else {
            !view.is_active_in(&region)
        }
    });
    Ok(covering)
}

/// Lets no account stay covered by an organization analyzer that this scan found gone, though nobody looked at the account:
/// it is `unknown`, `organization_analyzers_unknown`, until it is judged again. What the owners said in this scan decides; what
/// is recorded of an owner that was not asked may be of before it was deregistered.
pub async fn mark(connection: &mut Connection, scan: ScanId, at: Timestamp) -> Result<(), StoreError> {
    #[derive(FromRow)]
    struct Row {
        account_key: i32,
        scan_id: ScanId,
        checked_at: Option<Timestamp>,
        changed_at: Option<Timestamp>,
        region: String,
        reason: String,
        requirement: String,
    }
    let gone = gone(connection, scan).await?;
    if gone.is_empty() {
        return Ok(());
    }
    let table = Table::of(&gone)
        .integer("scan_id", |_| scan)
        .text("region", |covering| covering.region.as_str())
        .text("named", |covering| covering.named.as_deref())
        .done();
    let select = concat!(
        "SELECT account.account_key, account.scan_id, account.checked_at, account.changed_at, coverage.region, coverage.reason,
                before.requirement
         FROM new JOIN scan ON scan.scan_id = new.scan_id",
        covered_by_the_organizations!(),
        " AND coverage.region = new.region AND coalesce(",
        named!(),
        ", '') = coalesce(new.named, '')"
    );
    let rows: Vec<Row> = fetch(connection, &table, select).await.doing(DOING)?;
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
            uncovered_since: None,
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
