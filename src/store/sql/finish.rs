//! The end of a scan: who has left, and how it all adds up.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use super::super::engine::{Connection, Pool, begin, execute, now, release_memory};
use super::visits::close_coverage;
use super::{analyzers, exemptions, findings, incidents, stale, work};
use crate::model::{CallCount, Cause, ScanCost, ScanEnd, ScanId};
use crate::store::StoreError;
use crate::store::error::Doing;
use crate::store::table::Table;
use crate::store::timestamp::Timestamp;

const DOING: &str = "finishing a scan";

/// What is counted, of the scan as a whole and of each of its parts.
macro_rules! counts {
    () => {
        "count(*) FILTER (WHERE coverage.status = 'covered') AS covered,
         count(*) FILTER (WHERE coverage.status = 'not_covered') AS not_covered,
         count(*) FILTER (WHERE coverage.status = 'not_applicable') AS not_applicable,
         count(*) FILTER (WHERE coverage.status = 'unknown') AS unknown,
         count(*) FILTER (WHERE coverage.status = 'covered' OR (coverage.status = 'unknown' AND coverage.last_known_status = 'covered')) AS covered_last_known,
         count(*) FILTER (WHERE coverage.status = 'not_covered' OR (coverage.status = 'unknown' AND coverage.last_known_status = 'not_covered')) AS not_covered_last_known"
    };
}

/// Writes the counts of each part of a scan of all accounts.
macro_rules! roll_up {
    ($table:literal, $column:literal, $part:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (scan_id, ",
            $column,
            ", covered, not_covered, not_applicable, unknown, covered_last_known, not_covered_last_known)
             SELECT scan.scan_id, ",
            $part,
            ", ",
            counts!(),
            "
             FROM scan
             JOIN account ON account.organization_key = scan.organization_key AND account.scan_id = scan.scan_id
             JOIN coverage ON coverage.account_key = account.account_key AND coverage.valid_to IS NULL
             WHERE scan.scan_id = $1 AND scan.scope = 'all'
             GROUP BY scan.scan_id, ",
            $part
        )
    };
}

pub async fn finish(
    pool: &Pool,
    scan: ScanId,
    worker: &str,
    end: &ScanEnd,
    cost: &ScanCost,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mut transaction = begin(pool).await.doing(DOING)?;
    end_scan(&mut transaction, scan, end, at).await?;
    work::leave(&mut transaction, scan, worker).await.doing(DOING)?;
    write_calls(&mut transaction, scan, &cost.calls).await?;
    write_stages(&mut transaction, scan, cost).await?;
    transaction.commit().await.doing(DOING)?;
    // The scan has ended whether or not this is done.
    let _ = release_memory(pool).await;
    Ok(())
}

/// Takes a process out of a scan that may go on without it.
pub async fn leave(pool: &Pool, scan: ScanId, worker: &str, cost: &ScanCost) -> Result<(), StoreError> {
    const DOING: &str = "leaving a scan";
    let mut transaction = begin(pool).await.doing(DOING)?;
    // Asked again because an answer was lost, it has left already, and what it cost is added.
    if work::leave(&mut transaction, scan, worker).await.doing(DOING)? {
        write_calls(&mut transaction, scan, &cost.calls).await?;
        write_stages(&mut transaction, scan, cost).await?;
    }
    transaction.commit().await.doing(DOING)
}

/// Ends a scan that still runs.
pub async fn end_scan(
    connection: &mut Connection,
    scan: ScanId,
    end: &ScanEnd,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let started: Option<Timestamp> = sqlx::query_scalar(
        "UPDATE scan SET state = state WHERE scan_id = $1 AND state = 'running' RETURNING started_at",
    )
    .bind(scan)
    .fetch_optional(&mut *connection)
    .await
    .doing(DOING)?;
    let at = Timestamp::from(at).max(started.ok_or(StoreError::ScanEnded(scan))?);
    if end.list_complete {
        close_accounts_that_left(connection, scan, at).await?;
        close_accounts_elsewhere(connection, scan, at).await?;
    }
    stale::mark(connection, scan, at).await?;
    count(connection, scan, end, at).await?;
    exemptions::count(connection, scan, at).await?;
    incidents::mark_due(connection, scan).await?;
    let now = now(connection).await.doing(DOING)?;
    work::forget(connection, scan, now).await.doing(DOING)?;
    if !end.list_complete {
        // Of a list that broke off the rest is missing: no trend begins with that.
        return Ok(());
    }
    for statement in [
        roll_up!("region_count", "region", "coverage.region"),
        roll_up!("ou_count", "ou_path", "coalesce(account.ou_path, '')"),
    ] {
        sqlx::query(statement).bind(scan).execute(&mut *connection).await.doing(DOING)?;
    }
    findings::roll_up(connection, scan).await
}

async fn count(connection: &mut Connection, scan: ScanId, end: &ScanEnd, at: Timestamp) -> Result<(), StoreError> {
    sqlx::query(concat!(
        "WITH visited AS (
             SELECT account.account_key, visit.outcome
             FROM scan
             JOIN account ON account.organization_key = scan.organization_key AND account.scan_id = scan.scan_id
             JOIN visit ON visit.account_key = account.account_key AND visit.scan_id = scan.scan_id
             WHERE scan.scan_id = $1
         ), outcomes AS (
             SELECT count(*) AS accounts,
                    count(*) FILTER (WHERE outcome = 'audited') AS audited,
                    count(*) FILTER (WHERE outcome = 'unreachable') AS unreachable,
                    count(*) FILTER (WHERE outcome = 'not_active') AS not_active,
                    count(*) FILTER (WHERE outcome = 'excluded') AS excluded
             FROM visited
         ), verdicts AS (
             SELECT count(*) AS account_regions,",
        counts!(),
        "
             FROM visited
             JOIN coverage ON coverage.account_key = visited.account_key AND coverage.valid_to IS NULL
         )
         UPDATE scan SET
             state = $2, error = $3, finished_at = $4,
             accounts = outcomes.accounts, accounts_audited = outcomes.audited,
             accounts_unreachable = outcomes.unreachable, accounts_not_active = outcomes.not_active,
             accounts_excluded = outcomes.excluded,
             account_regions = verdicts.account_regions, covered = verdicts.covered,
             not_covered = verdicts.not_covered, not_applicable = verdicts.not_applicable, unknown = verdicts.unknown,
             covered_last_known = verdicts.covered_last_known, not_covered_last_known = verdicts.not_covered_last_known
         FROM outcomes, verdicts
         WHERE scan.scan_id = $1",
    ))
    .bind(scan)
    .bind(end.state.as_str())
    .bind(&end.error)
    .bind(at)
    .execute(connection)
    .await
    .doing(DOING)
    .map(|_| ())
}

/// Adds what one process cost: of several, and of one that began again, it adds up.
async fn write_calls(connection: &mut Connection, scan: ScanId, calls: &[CallCount]) -> Result<(), StoreError> {
    if calls.is_empty() {
        return Ok(());
    }
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let table = Table::of(calls)
        .integer("scan_id", |_| scan)
        .text("service", |count| count.service)
        .text("operation", |count| count.operation)
        .integer("calls", |count| whole(count.calls))
        .integer("retries", |count| whole(count.retries))
        .integer("throttled", |count| whole(count.throttled))
        .integer("errors", |count| whole(count.errors))
        .real("seconds", |count| count.seconds)
        .integer("bytes", |count| whole(count.bytes))
        .real("rate_wait_seconds", |count| count.rate_wait_seconds)
        .done();
    let insert = "INSERT INTO scan_call (scan_id, service, operation, calls, retries, throttled, errors, seconds, bytes, rate_wait_seconds)
                  SELECT scan_id, service, operation, calls, retries, throttled, errors, seconds, bytes, rate_wait_seconds FROM new
                  WHERE true
                  ON CONFLICT (scan_id, service, operation) DO UPDATE SET
                      calls = scan_call.calls + excluded.calls, retries = scan_call.retries + excluded.retries,
                      throttled = scan_call.throttled + excluded.throttled, errors = scan_call.errors + excluded.errors,
                      seconds = scan_call.seconds + excluded.seconds, bytes = scan_call.bytes + excluded.bytes,
                      rate_wait_seconds = scan_call.rate_wait_seconds + excluded.rate_wait_seconds";
    execute(connection, &table, insert).await.doing(DOING).map(|_| ())
}

async fn write_stages(connection: &mut Connection, scan: ScanId, cost: &ScanCost) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO scan_cost (scan_id, discover_seconds, assume_seconds, audit_seconds, evaluate_seconds, store_seconds, bound_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (scan_id) DO UPDATE SET
             discover_seconds = scan_cost.discover_seconds + excluded.discover_seconds,
             assume_seconds = scan_cost.assume_seconds + excluded.assume_seconds,
             audit_seconds = scan_cost.audit_seconds + excluded.audit_seconds,
             evaluate_seconds = scan_cost.evaluate_seconds + excluded.evaluate_seconds,
             store_seconds = scan_cost.store_seconds + excluded.store_seconds,
             bound_by = excluded.bound_by",
    )
    .bind(scan)
    .bind(cost.stages.discover)
    .bind(cost.stages.assume)
    .bind(cost.stages.audit)
    .bind(cost.stages.evaluate)
    .bind(cost.stages.store)
    .bind(&cost.bound_by)
    .execute(connection)
    .await
    .doing(DOING)
    .map(|_| ())
}

/// A member that left.
#[derive(FromRow)]
struct Left {
    account_key: i32,
    account_id: String,
    organization_key: i32,
    scan_id: ScanId,
    changed_at: Option<Timestamp>,
}

/// Every account on the list has a visit, so a member without one has left: what held for it ends.
async fn close_accounts_that_left(connection: &mut Connection, scan: ScanId, at: Timestamp) -> Result<(), StoreError> {
    let left: Vec<Left> = sqlx::query_as(
        "SELECT account.account_key, account.account_id, account.organization_key, account.scan_id, account.changed_at
         FROM scan JOIN account USING (organization_key)
         WHERE scan.scan_id = $1 AND account.left_at IS NULL AND NOT EXISTS (
             SELECT 1 FROM visit WHERE visit.account_key = account.account_key AND visit.scan_id = scan.scan_id)
           AND NOT EXISTS (SELECT 1 FROM claim WHERE claim.scan_id = scan.scan_id AND claim.account_id = account.account_id)",
    )
    .bind(scan)
    .fetch_all(&mut *connection)
    .await
    .doing(DOING)?;
    close_members(connection, scan, &left, at).await
}

/// An account is in one organization: what holds for it in another, where nobody may look any more, ends. While that one is scanned,
/// it is left to the next scan.
async fn close_accounts_elsewhere(connection: &mut Connection, scan: ScanId, at: Timestamp) -> Result<(), StoreError> {
    let mut left: Vec<Left> = sqlx::query_as(
        "SELECT account.account_key, account.account_id, account.organization_key, account.scan_id, account.changed_at
         FROM scan
         JOIN organization ON organization.organization_key <> scan.organization_key
         JOIN account AS here ON here.organization_key = scan.organization_key AND here.scan_id = scan.scan_id
         JOIN account ON account.organization_key = organization.organization_key AND account.account_id = here.account_id
         WHERE scan.scan_id = $1 AND account.left_at IS NULL AND account.scan_id < scan.scan_id AND NOT EXISTS (
             SELECT 1 FROM scan AS other WHERE other.organization_key = organization.organization_key AND other.state = 'running')
         ORDER BY account.organization_key",
    )
    .bind(scan)
    .fetch_all(&mut *connection)
    .await
    .doing(DOING)?;
    while let Some(first) = left.first() {
        let of_one = left.partition_point(|left| left.organization_key == first.organization_key);
        let others = left.split_off(of_one);
        close_members(connection, scan, &left, at).await?;
        left = others;
    }
    Ok(())
}

/// Ends what holds for the members of an organization, as if all had left; says how many there were.
pub async fn close_organization(
    connection: &mut Connection,
    scan: ScanId,
    key: i32,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let left: Vec<Left> = sqlx::query_as(
        "SELECT account_key, account_id, organization_key, scan_id, changed_at FROM account
         WHERE organization_key = $1 AND left_at IS NULL",
    )
    .bind(key)
    .fetch_all(&mut *connection)
    .await
    .doing(DOING)?;
    close_members(connection, scan, &left, at).await?;
    Ok(left.len() as u64)
}

async fn close_members(
    connection: &mut Connection,
    scan: ScanId,
    left: &[Left],
    at: Timestamp,
) -> Result<(), StoreError> {
    let Some(organization_key) = left.first().map(|left| left.organization_key) else { return Ok(()) };
    let table = Table::of(left)
        .integer("account_key", |left| i64::from(left.account_key))
        .stamp("at", |left| at.no_earlier_than(left.changed_at))
        .integer("last_scan_id", |left| left.scan_id)
        .text("end_cause", |_| Cause::Membership.as_str())
        .integer("end_scan_id", |_| scan)
        .done();
    for statement in [
        close_coverage!("coverage.account_key = new.account_key"),
        "UPDATE account SET left_at = new.at, changed_at = new.at FROM new WHERE account.account_key = new.account_key",
    ] {
        execute(&mut *connection, &table, statement).await.doing(DOING)?;
    }
    let ended: Vec<(i32, Timestamp)> =
        left.iter().map(|left| (left.account_key, at.no_earlier_than(left.changed_at))).collect();
    exemptions::close_all_of(connection, &ended).await?;
    let owners: Vec<&str> = left.iter().map(|left| left.account_id.as_str()).collect();
    analyzers::close_all_of(connection, organization_key, &owners, at).await
}
