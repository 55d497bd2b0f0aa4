//! Recording visits: a batch of them in one transaction, each with what it changes.

use std::collections::{HashMap, HashSet};

use sqlx::FromRow;

use super::super::engine::{Connection, Pool, begin, execute, fetch};
use super::work::worker_key;
use super::{analyzers, exemptions, findings};
use crate::model::{AccountId, Cause, OwnedBy, Reason, Region, ScanId, Status, Visit, VisitOutcome};
use crate::store::StoreError;
use crate::store::error::{Doing, word};
use crate::store::intervals::{Account, LastKnown, Open, Opening, changes};
use crate::store::table::Table;
use crate::store::timestamp::Timestamp;

pub(super) const DOING: &str = "recording visits";

/// Ends intervals that hold, as the rows of `new` say. One that a scan of other accounts opened was seen by that scan, if by
/// none since.
macro_rules! close_coverage {
    ($which:literal) => {
        concat!(
            "UPDATE coverage SET valid_to = new.at, end_cause = new.end_cause, end_scan_id = new.end_scan_id,
                                 last_scan_id = CASE WHEN new.last_scan_id < coverage.first_scan_id
                                                     THEN coverage.first_scan_id ELSE new.last_scan_id END
             FROM new WHERE coverage.valid_to IS NULL AND ",
            $which
        )
    };
}
pub(super) use close_coverage;

/// What this scan is.
#[derive(FromRow)]
struct ScanRow {
    organization_key: i32,
    configuration_hash: String,
}

/// An account as it was before its visit.
struct Before {
    account_key: i32,
    changed_at: Option<Timestamp>,
    account: Account,
}

/// An interval that ends.
pub(super) struct Closing {
    pub account_key: i32,
    pub region: Region,
    pub at: Timestamp,
    pub last_scan_id: ScanId,
    pub end_cause: Option<Cause>,
}

/// Everything that a batch writes, gathered, so that each table is written once.
#[derive(Default)]
pub(super) struct Batch {
    pub closings: Vec<Closing>,
    pub openings: Vec<(i32, Timestamp, Opening)>,
    renames: Vec<(i32, Region, Option<String>)>,
}

pub async fn record(pool: &Pool, scan: ScanId, visits: &[Visit], worker: &str) -> Result<Vec<AccountId>, StoreError> {
    let mut transaction = begin(pool).await.doing(DOING)?;
    let connection = &mut *transaction;
    let this = running(connection, scan).await?;
    let worker_key = worker_key(connection, worker).await.doing(DOING)?;
    let claimed = take_claims(connection, scan, worker_key, visits).await?;
    let mut recorded = claimed.clone();
    if claimed.len() < visits.len() {
        recorded.extend(recorded_before(connection, scan, worker_key).await?);
    }
    let recorded = visits.iter().map(|visit| visit.account.id).filter(|id| recorded.contains(id.as_str())).collect();
    let visits: Vec<&Visit> = visits.iter().filter(|visit| claimed.contains(visit.account.id.as_str())).collect();
    let visits = visits.as_slice();
    if visits.is_empty() {
        return Ok(recorded);
    }
    let before = accounts(connection, scan, &this, visits).await?;
    let mut open = open_intervals(connection, &before, &this.configuration_hash).await?;
    let mut batch = Batch::default();
    let mut changed = Vec::new();
    for (visit, before) in visits.iter().zip(&before) {
        let open = open.remove(&before.account_key).unwrap_or_default();
        let changes = changes(&before.account, &open, &visit.coverage, &visit.blind, visit.undecided);
        let at = Timestamp::from(visit.finished_at).no_earlier_than(before.changed_at);
        changed.push((!changes.close.is_empty() || !changes.open.is_empty()).then_some(at));
        let account_key = before.account_key;
        let last_scan_id = before.account.scan_id;
        batch.closings.extend(changes.close.into_iter().map(|(region, end_cause)| Closing {
            account_key,
            region,
            at,
            last_scan_id,
            end_cause,
        }));
        batch.openings.extend(changes.open.into_iter().map(|opening| (account_key, at, opening)));
        batch.renames.extend(changes.rename.into_iter().map(|(region, arn)| (account_key, region, arn)));
    }
    write_coverage(connection, scan, &batch).await?;
    analyzers::write(connection, this.organization_key, visits).await?;
    findings::write(connection, this.organization_key, visits).await?;
    let keyed: Vec<(i32, &Visit)> =
        before.iter().map(|before| before.account_key).zip(visits.iter().copied()).collect();
    exemptions::write(connection, this.organization_key, &keyed).await?;
    write_visits(connection, scan, visits, &before, worker_key).await?;
    write_accounts(connection, scan, visits, &before, &changed).await?;
    write_owners(connection, visits, &before).await?;
    count_entered(connection, scan, visits).await?;
    transaction.commit().await.doing(DOING)?;
    Ok(recorded)
}

/// Ends the claims of this process on the accounts of its visits. What another has taken over meanwhile is that one's to
/// record: a process that comes back late writes over nothing.
async fn take_claims(
    connection: &mut Connection,
    scan: ScanId,
    worker_key: i32,
    visits: &[Visit],
) -> Result<HashSet<String>, StoreError> {
    let table = Table::of(visits)
        .integer("scan_id", |_| scan)
        .text("account_id", |visit| visit.account.id.as_str())
        .integer("worker_key", |_| i64::from(worker_key))
        .done();
    let delete = "DELETE FROM claim WHERE (claim.scan_id, claim.account_id, claim.worker_key) IN (
                      SELECT scan_id, account_id, worker_key FROM new) RETURNING claim.account_id";
    let rows: Vec<(String,)> = fetch(connection, &table, delete).await.doing(DOING)?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// The accounts whose visit in this scan is this process's already: where the answer to that was lost, it is asked again.
async fn recorded_before(
    connection: &mut Connection,
    scan: ScanId,
    worker_key: i32,
) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT account.account_id FROM scan
         JOIN account ON account.organization_key = scan.organization_key AND account.scan_id = scan.scan_id
         JOIN visit ON visit.account_key = account.account_key AND visit.scan_id = scan.scan_id
         WHERE scan.scan_id = $1 AND visit.worker_key = $2",
    )
    .bind(scan)
    .bind(worker_key)
    .fetch_all(connection)
    .await
    .doing(DOING)
}

/// Counts who could be entered: that nobody could is known at the end of the scan, whoever made the visits.
async fn count_entered(connection: &mut Connection, scan: ScanId, visits: &[&Visit]) -> Result<(), StoreError> {
    let count = |wanted: bool| visits.iter().map(|visit| i64::from(visit.entered == Some(wanted))).sum::<i64>();
    let mut locked = visits.iter().filter(|visit| visit.entered == Some(false));
    let example = locked.find_map(|visit| Some((visit.account.id, visit.failure.as_ref()?)));
    sqlx::query(
        "UPDATE scan_work SET entered = entered + $2, locked = locked + $3, example = coalesce(example, $4) WHERE scan_id = $1",
    )
    .bind(scan)
    .bind(count(true))
    .bind(count(false))
    .bind(example.map(|(account, failure)| format!("{account}: {}", failure.message)))
    .execute(connection)
    .await
    .doing(DOING)
    .map(|_| ())
}

/// Makes sure that the scan still runs, and that nobody ends it until this transaction does: what a process that was cut
/// off brings late is not written over newer results.
async fn running(connection: &mut Connection, scan: ScanId) -> Result<ScanRow, StoreError> {
    let row = sqlx::query_as(
        "UPDATE scan SET state = state WHERE scan_id = $1 AND state = 'running' AND organization_key IS NOT NULL
         RETURNING organization_key, configuration_hash",
    )
    .bind(scan)
    .fetch_optional(&mut *connection)
    .await
    .doing(DOING)?;
    let row = row.ok_or(StoreError::ScanEnded(scan))?;
    // Before any claim, as whoever lists the accounts does: two who wait for each other would both lose.
    let lock = sqlx::query("UPDATE scan_work SET entered = entered WHERE scan_id = $1").bind(scan);
    lock.execute(connection).await.doing(DOING)?;
    Ok(row)
}

/// Finds or adds the accounts of the visits, in their order.
async fn accounts(
    connection: &mut Connection,
    scan: ScanId,
    this: &ScanRow,
    visits: &[&Visit],
) -> Result<Vec<Before>, StoreError> {
    #[derive(FromRow)]
    struct Known {
        account_id: String,
        account_key: i32,
        scan_id: ScanId,
        checked_at: Option<Timestamp>,
        changed_at: Option<Timestamp>,
        requirement: String,
        configuration_hash: String,
    }
    let find = |ids: &[AccountId]| {
        Table::of(ids)
            .integer("organization_key", |_| i64::from(this.organization_key))
            .text("account_id", AccountId::as_str)
            .done()
    };
    let statement = "SELECT account.account_id, account.account_key, account.scan_id, account.checked_at, account.changed_at,
                            scan.requirement, scan.configuration_hash
                     FROM new
                     JOIN account ON account.organization_key = new.organization_key AND account.account_id = new.account_id
                     JOIN scan ON scan.scan_id = account.scan_id";
    let ids: Vec<AccountId> = visits.iter().map(|visit| visit.account.id).collect();
    let mut known: Vec<Known> = fetch(connection, &find(&ids), statement).await.doing(DOING)?;
    let is_known = |known: &[Known], id: &AccountId| known.iter().any(|row| row.account_id == id.as_str());
    if known.len() < visits.len() {
        let new: Vec<&Visit> = visits.iter().copied().filter(|visit| !is_known(&known, &visit.account.id)).collect();
        let table = Table::of(&new)
            .integer("organization_key", |_| i64::from(this.organization_key))
            .text("account_id", |visit| visit.account.id.as_str())
            .text("name", |visit| visit.account.name.as_str())
            .text("state", |visit| visit.account.state.as_str())
            .integer("scan_id", |_| scan)
            .done();
        let insert = "INSERT INTO account (organization_key, account_id, name, state, scan_id)
                      SELECT organization_key, account_id, name, state, scan_id FROM new";
        execute(connection, &table, insert).await.doing(DOING)?;
        known = fetch(connection, &find(&ids), statement).await.doing(DOING)?;
    }
    let mut by_id: HashMap<String, Known> = known.into_iter().map(|row| (row.account_id.clone(), row)).collect();
    let before = |visit: &Visit| {
        let id = visit.account.id.as_str();
        let twice = || StoreError::Corrupt { doing: DOING, problem: format!("no row, or two visits, of account {id}") };
        let row = by_id.remove(id).ok_or_else(twice)?;
        Ok(Before {
            account_key: row.account_key,
            changed_at: row.changed_at,
            account: Account {
                id: visit.account.id,
                checked_at: row.checked_at,
                scan_id: row.scan_id,
                requirement: word(DOING, &row.requirement)?,
                same_configuration: row.configuration_hash == this.configuration_hash,
            },
        })
    };
    visits.iter().copied().map(before).collect()
}

async fn open_intervals(
    connection: &mut Connection,
    before: &[Before],
    configuration_hash: &str,
) -> Result<HashMap<i32, Vec<Open>>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        account_key: i32,
        region: String,
        reason: String,
        analyzer_arn: Option<String>,
        answer_arn: Option<String>,
        uncovered_since: Option<Timestamp>,
        last_known_reason: Option<String>,
        last_known_at: Option<Timestamp>,
        last_known_scan_id: Option<ScanId>,
        last_known_requirement: Option<String>,
        last_known_hash: Option<String>,
    }
    let keys = Table::of(before).integer("account_key", |before| i64::from(before.account_key)).done();
    let statement = "SELECT coverage.account_key, coverage.region, coverage.reason, coverage.analyzer_arn,
                            CASE coverage.status WHEN 'unknown' THEN (
                                SELECT known.analyzer_arn FROM coverage AS known
                                WHERE known.account_key = coverage.account_key AND known.region = coverage.region
                                  AND known.valid_from < coverage.valid_from AND known.status <> 'unknown'
                                ORDER BY known.valid_from DESC LIMIT 1
                            ) ELSE coverage.analyzer_arn END AS answer_arn, coverage.uncovered_since,
                            coverage.last_known_reason, coverage.last_known_at, coverage.last_known_scan_id,
                            scan.requirement AS last_known_requirement, scan.configuration_hash AS last_known_hash
                     FROM new
                     JOIN coverage ON coverage.account_key = new.account_key AND coverage.valid_to IS NULL
                     LEFT JOIN scan ON scan.scan_id = coverage.last_known_scan_id";
    let rows: Vec<Row> = fetch(connection, &keys, statement).await.doing(DOING)?;
    let mut open: HashMap<i32, Vec<Open>> = HashMap::new();
    for row in rows {
        let last_known =
            match (row.last_known_reason, row.last_known_at, row.last_known_scan_id, row.last_known_requirement) {
                (Some(reason), Some(at), Some(scan_id), Some(requirement)) => Some(LastKnown {
                    reason: word(DOING, &reason)?,
                    at,
                    scan_id,
                    requirement: word(DOING, &requirement)?,
                }),
                _ => None,
            };
        let reason: Reason = word(DOING, &row.reason)?;
        let same_configuration = row.last_known_hash.is_none_or(|hash| hash == configuration_hash);
        let region = Region::new(&row.region);
        let Row { analyzer_arn, answer_arn, uncovered_since, .. } = row;
        let interval =
            Open { region, reason, analyzer_arn, answer_arn, uncovered_since, last_known, same_configuration };
        open.entry(row.account_key).or_default().push(interval);
    }
    Ok(open)
}

/// Writes what changes.
pub(super) async fn write_coverage(connection: &mut Connection, scan: ScanId, batch: &Batch) -> Result<(), StoreError> {
    if !batch.closings.is_empty() {
        let table = Table::of(&batch.closings)
            .integer("account_key", |row| i64::from(row.account_key))
            .text("region", |row| row.region.as_str())
            .stamp("at", |row| row.at)
            .integer("last_scan_id", |row| row.last_scan_id)
            .text("end_cause", |row| row.end_cause.map(Cause::as_str))
            .integer("end_scan_id", |row| row.end_cause.map(|_| scan))
            .done();
        let update = close_coverage!("coverage.account_key = new.account_key AND coverage.region = new.region");
        execute(connection, &table, update).await.doing(DOING)?;
    }
    if !batch.renames.is_empty() {
        let table = Table::of(&batch.renames)
            .integer("account_key", |row| i64::from(row.0))
            .text("region", |row| row.1.as_str())
            .text("analyzer_arn", |row| row.2.as_deref())
            .done();
        let update = "UPDATE coverage SET analyzer_arn = new.analyzer_arn FROM new
                      WHERE coverage.account_key = new.account_key AND coverage.region = new.region
                        AND coverage.valid_to IS NULL";
        execute(connection, &table, update).await.doing(DOING)?;
    }
    if batch.openings.is_empty() {
        return Ok(());
    }
    let status = |reason: Option<Reason>| reason.map(|reason| reason.status().as_str());
    let is_unknown = |opening: &Opening| opening.reason.status() == Status::Unknown;
    // Of an answer that follows an unknown, only what the last known answer was is kept: not when.
    let hidden = |opening: &Opening| opening.last_known.filter(|_| is_unknown(opening));
    let known = |opening: &Opening| opening.last_known.map(|known| known.reason);
    let answer = move |opening: &Opening| if is_unknown(opening) { known(opening) } else { Some(opening.reason) };
    let is_gap = move |opening: &Opening| answer(opening).is_some_and(|answer| answer.status() == Status::NotCovered);
    let table = Table::of(&batch.openings)
        .integer("account_key", |row| i64::from(row.0))
        .text("region", |row| row.2.region.as_str())
        .stamp("valid_from", |row| row.1)
        .text("status", |row| row.2.reason.status().as_str())
        .text("reason", |row| row.2.reason.as_str())
        .text("analyzer_arn", |row| row.2.analyzer_arn.as_deref())
        .integer("first_scan_id", |_| scan)
        .text("from_status", move |row| status(row.2.from))
        .text("from_reason", |row| row.2.from.map(Reason::as_str))
        .text("cause", |row| row.2.cause.as_str())
        .text("last_known_status", move |row| status(known(&row.2)))
        .text("last_known_reason", move |row| known(&row.2).map(Reason::as_str))
        .stamp("last_known_at", |row| hidden(&row.2).map(|known| known.at))
        .integer("last_known_scan_id", |row| hidden(&row.2).map(|known| known.scan_id))
        .text("known_cause", |row| row.2.known_cause.map(Cause::as_str))
        .stamp("uncovered_since", move |row| is_gap(&row.2).then(|| row.2.uncovered_since.unwrap_or(row.1)))
        .done();
    let insert = "INSERT INTO coverage (account_key, region, valid_from, status, reason, analyzer_arn, first_scan_id,
                                        from_status, from_reason, cause, last_known_status, last_known_reason,
                                        last_known_at, last_known_scan_id, known_cause, uncovered_since)
                  SELECT account_key, region, valid_from, status, reason, analyzer_arn, first_scan_id,
                         from_status, from_reason, cause, last_known_status, last_known_reason,
                         last_known_at, last_known_scan_id, known_cause, uncovered_since
                  FROM new";
    execute(connection, &table, insert).await.doing(DOING).map(|_| ())
}

async fn write_visits(
    connection: &mut Connection,
    scan: ScanId,
    visits: &[&Visit],
    before: &[Before],
    worker_key: i32,
) -> Result<(), StoreError> {
    let rows: Vec<(&Visit, &Before)> = visits.iter().copied().zip(before).collect();
    let table = Table::of(&rows)
        .integer("scan_id", |_| scan)
        .integer("account_key", |row| i64::from(row.1.account_key))
        .integer("worker_key", |_| i64::from(worker_key))
        .stamp("started_at", |row| Timestamp::from(row.0.started_at))
        .stamp("finished_at", |row| Timestamp::from(row.0.finished_at))
        .text("outcome", |row| row.0.outcome.as_str())
        .text("error_kind", |row| row.0.failure.as_ref().map(|failure| failure.kind.as_str()))
        .text("error_message", |row| row.0.failure.as_ref().map(|failure| failure.message.as_str()))
        .done();
    let insert = "INSERT INTO visit (scan_id, account_key, worker_key, started_at, finished_at, outcome, error_kind, error_message)
                  SELECT scan_id, account_key, worker_key, started_at, finished_at, outcome, error_kind, error_message FROM new";
    execute(connection, &table, insert).await.doing(DOING).map(|_| ())
}

/// Leaves the accounts as this scan describes them. An OU that could not be read this time is not forgotten.
async fn write_accounts(
    connection: &mut Connection,
    scan: ScanId,
    visits: &[&Visit],
    before: &[Before],
    changed: &[Option<Timestamp>],
) -> Result<(), StoreError> {
    let rows: Vec<(&Visit, &Before, Option<Timestamp>)> = visits
        .iter()
        .copied()
        .zip(before)
        .zip(changed)
        .map(|((visit, before), changed)| (visit, before, *changed))
        .collect();
    // A visit that did not take place does not say that anybody looked.
    let looked = |visit: &Visit| (visit.outcome != VisitOutcome::Pending).then(|| Timestamp::from(visit.finished_at));
    let table = Table::of(&rows)
        .integer("account_key", |row| i64::from(row.1.account_key))
        .text("name", |row| row.0.account.name.as_str())
        .text("state", |row| row.0.account.state.as_str())
        .text("ou_path", |row| row.0.account.ou_path.as_deref())
        .stamp("checked_at", |row| looked(row.0))
        .stamp("changed_at", |row| row.2)
        .integer("scan_id", |_| scan)
        .done();
    let update = "UPDATE account SET name = new.name, state = new.state, ou_path = coalesce(new.ou_path, account.ou_path), scan_id = new.scan_id,
                                     checked_at = coalesce(new.checked_at, account.checked_at),
                                     changed_at = coalesce(new.changed_at, account.changed_at), left_at = NULL
                  FROM new WHERE account.account_key = new.account_key";
    execute(connection, &table, update).await.doing(DOING).map(|_| ())
}

/// Leaves who answers for the accounts as this scan was told; where it could not be found out this time, as it was.
async fn write_owners(connection: &mut Connection, visits: &[&Visit], before: &[Before]) -> Result<(), StoreError> {
    let known = visits.iter().zip(before).filter_map(|(visit, before)| {
        let owned_by = visit.account.owned_by.as_ref()?;
        Some((before.account_key, owned_by))
    });
    let known: Vec<(i32, &OwnedBy)> = known.collect();
    if known.is_empty() {
        return Ok(());
    }
    let table = Table::of(&known)
        .integer("account_key", |row| i64::from(row.0))
        .text("owner", |row| row.1.owner.as_deref())
        .text("team", |row| row.1.team.as_deref())
        .done();
    let delete = "DELETE FROM account_owner WHERE account_key IN (
                      SELECT new.account_key FROM new WHERE new.owner IS NULL AND new.team IS NULL)";
    execute(connection, &table, delete).await.doing(DOING)?;
    if known.iter().all(|(_, owned_by)| **owned_by == OwnedBy::default()) {
        return Ok(());
    }
    let insert = "INSERT INTO account_owner (account_key, owner, team)
                  SELECT new.account_key, new.owner, new.team FROM new WHERE new.owner IS NOT NULL OR new.team IS NOT NULL
                  ON CONFLICT (account_key) DO UPDATE SET owner = excluded.owner, team = excluded.team
                  WHERE account_owner.owner IS DISTINCT FROM excluded.owner OR account_owner.team IS DISTINCT FROM excluded.team";
    execute(connection, &table, insert).await.doing(DOING).map(|_| ())
}
