//! What a scan at work has still to do, and who does it. A claim is a row with the key of the process that has it; it is free
//! again when that process's lease has ended.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow};
use std::time::Duration;

use super::super::engine::{Connection, Pool, SKIP_LOCKED, begin, execute, now};
use super::readings;
use crate::evaluate::OwnerView;
use crate::model::{Account, AccountId, Discovered, Listed, ScanId};
use crate::store::error::Doing;
use crate::store::table::Table;
use crate::store::timestamp::Timestamp;
use crate::store::{Known, StoreError, Tally, Work};

/// Our number for a process; it gets one at its first scan.
pub async fn worker_key(connection: &mut Connection, worker: &str) -> Result<i32, sqlx::Error> {
    let find = sqlx::query_scalar("SELECT worker_key FROM worker WHERE name = $1").bind(worker);
    if let Some(key) = find.fetch_optional(&mut *connection).await? {
        return Ok(key);
    }
    sqlx::query_scalar(
        "INSERT INTO worker (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING worker_key",
    )
    .bind(worker)
    .fetch_one(connection)
    .await
}

/// When a lease that begins now ends.
fn lease_end(now: Timestamp, lease: Duration) -> Timestamp {
    let lease = TimeDelta::from_std(lease).unwrap_or(TimeDelta::MAX);
    let now = DateTime::<Utc>::from(now);
    now.checked_add_signed(lease).unwrap_or(now).into()
}

/// Lets a process take part.
pub async fn join(
    connection: &mut Connection,
    scan: ScanId,
    worker_key: i32,
    now: Timestamp,
    lease: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO participant (scan_id, worker_key, alive_until) VALUES ($1, $2, $3)
         ON CONFLICT (scan_id, worker_key) DO UPDATE SET alive_until = excluded.alive_until",
    )
    .bind(scan)
    .bind(worker_key)
    .bind(lease_end(now, lease))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Forgets what only a scan at work needs. `scan_work` comes first, as everywhere: whoever lists the accounts holds it, and adds
/// none afterwards. Processes that still take part leave by themselves, and add what they cost.
pub async fn forget(connection: &mut Connection, scan: ScanId, now: Timestamp) -> Result<(), sqlx::Error> {
    for statement in [
        "DELETE FROM scan_work WHERE scan_id = $1",
        "DELETE FROM claim WHERE scan_id = $1",
        "DELETE FROM owner_view WHERE scan_id = $1",
        "UPDATE reading SET is_due = 0, worker_key = NULL, problem = 'the scan ended before it was read' WHERE scan_id = $1 AND is_due = 1",
    ] {
        sqlx::query(statement).bind(scan).execute(&mut *connection).await?;
    }
    let dead = "DELETE FROM participant WHERE alive_until <= $1 AND scan_id IN (
                    SELECT scan_id FROM scan WHERE state <> 'running')";
    sqlx::query(dead).bind(now).execute(connection).await.map(|_| ())
}

pub async fn keep_discovered(pool: &Pool, scan: ScanId, discovered: &Discovered) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE scan_work SET discovered = $2, known_accounts = (
             SELECT count(*) FROM account JOIN scan USING (organization_key) WHERE scan.scan_id = $1 AND left_at IS NULL)
         WHERE scan_id = $1 AND discovered IS NULL",
    )
    .bind(scan)
    .bind(Json(discovered))
    .execute(pool)
    .await
    .doing("recording the organization")
    .map(|_| ())
}

pub async fn known_to(pool: &Pool, scan: ScanId) -> Result<Option<Known>, StoreError> {
    let mut connection = pool.acquire().await.doing("reading what is known of the organization")?;
    known(&mut connection, scan).await
}

pub async fn known(connection: &mut Connection, scan: ScanId) -> Result<Option<Known>, StoreError> {
    const DOING: &str = "reading what is known of the organization";
    let discovered: Option<Json<Discovered>> =
        sqlx::query_scalar("SELECT discovered FROM scan_work WHERE scan_id = $1 AND discovered IS NOT NULL")
            .bind(scan)
            .fetch_optional(&mut *connection)
            .await
            .doing(DOING)?;
    let Some(Json(discovered)) = discovered else { return Ok(None) };
    let rows: Vec<(String, Json<OwnerView>)> =
        sqlx::query_as("SELECT account_id, regions FROM owner_view WHERE scan_id = $1 ORDER BY account_id")
            .bind(scan)
            .fetch_all(connection)
            .await
            .doing(DOING)?;
    let corrupt = |problem: String| StoreError::Corrupt { doing: DOING, problem };
    let owners = rows.into_iter().map(|(id, Json(view))| {
        let id = id.parse().map_err(|error| corrupt(format!("an account id that is none: {error}")))?;
        Ok((id, view))
    });
    Ok(Some(Known { discovered, owners: owners.collect::<Result<_, StoreError>>()? }))
}

pub async fn acquire_listing(pool: &Pool, scan: ScanId, worker: &str) -> Result<bool, StoreError> {
    const DOING: &str = "taking on the list of accounts";
    let mut transaction = begin(pool).await.doing(DOING)?;
    let now = now(&mut transaction).await.doing(DOING)?;
    let me = worker_key(&mut transaction, worker).await.doing(DOING)?;
    let taken = sqlx::query(
        "UPDATE scan_work SET lister_key = $2
         WHERE scan_id = $1 AND listed_at IS NULL AND discovered IS NOT NULL AND (lister_key IS NULL OR lister_key = $2 OR NOT EXISTS (
             SELECT 1 FROM participant
             WHERE participant.scan_id = $1 AND participant.worker_key = scan_work.lister_key AND alive_until > $3))",
    )
    .bind(scan)
    .bind(me)
    .bind(now)
    .execute(&mut *transaction)
    .await
    .doing(DOING)?;
    transaction.commit().await.doing(DOING)?;
    Ok(taken.rows_affected() > 0)
}

/// Makes sure that this process lists the accounts, and goes on to until this transaction ends.
async fn listing(connection: &mut Connection, scan: ScanId, worker: &str) -> Result<(), StoreError> {
    const DOING: &str = "listing the accounts";
    let still = sqlx::query(
        "UPDATE scan_work SET lister_key = lister_key
         WHERE scan_id = $1 AND listed_at IS NULL AND lister_key = (SELECT worker_key FROM worker WHERE name = $2)",
    )
    .bind(scan)
    .bind(worker)
    .execute(connection)
    .await
    .doing(DOING)?;
    if still.rows_affected() > 0 { Ok(()) } else { Err(StoreError::ClaimLost(scan)) }
}

pub async fn add_accounts(pool: &Pool, scan: ScanId, worker: &str, accounts: &[Listed]) -> Result<(), StoreError> {
    const DOING: &str = "recording the list of accounts";
    let mut transaction = begin(pool).await.doing(DOING)?;
    listing(&mut transaction, scan, worker).await?;
    let table = Table::of(accounts)
        .integer("scan_id", |_| scan)
        .text("account_id", |listed| listed.account.id.as_str())
        .integer("rank", |listed| i64::from(!listed.is_owner))
        .document("account", |listed| serde_json::json!(listed.account).to_string())
        .done();
    let insert = "INSERT INTO claim (scan_id, account_id, rank, account)
                  SELECT new.scan_id, new.account_id, new.rank, new.account FROM new
                  WHERE NOT EXISTS (
                      SELECT 1 FROM scan
                      JOIN account ON account.organization_key = scan.organization_key AND account.account_id = new.account_id
                      JOIN visit ON visit.account_key = account.account_key AND visit.scan_id = scan.scan_id
                      WHERE scan.scan_id = new.scan_id)
                  ON CONFLICT DO NOTHING";
    execute(&mut transaction, &table, insert).await.doing(DOING)?;
    transaction.commit().await.doing(DOING)
}

pub async fn end_listing(
    pool: &Pool,
    scan: ScanId,
    worker: &str,
    problem: Option<&str>,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    const DOING: &str = "recording the end of the list of accounts";
    let mut transaction = begin(pool).await.doing(DOING)?;
    listing(&mut transaction, scan, worker).await?;
    sqlx::query("UPDATE scan_work SET listed_at = $2, list_error = $3 WHERE scan_id = $1")
        .bind(scan)
        .bind(Timestamp::from(at))
        .bind(problem)
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
    transaction.commit().await.doing(DOING)
}

pub async fn claim(
    pool: &Pool,
    scan: ScanId,
    worker: &str,
    most: u32,
    owners_only: bool,
) -> Result<Vec<Listed>, StoreError> {
    const DOING: &str = "claiming accounts";
    let mut transaction = begin(pool).await.doing(DOING)?;
    let now = now(&mut transaction).await.doing(DOING)?;
    let me = worker_key(&mut transaction, worker).await.doing(DOING)?;
    // What this process has claimed is never free for it: it is at work on that. And what another has is not while this one's own
    // lease has ended: after an outage all have, and each would take from the others what they are about to bring.
    let statement = format!(
        "WITH next AS (
             SELECT claim.scan_id, claim.account_id FROM claim
             WHERE claim.scan_id = $1 AND claim.rank <= $5 AND (claim.worker_key IS NULL OR (claim.worker_key <> $2 AND NOT EXISTS (
                 SELECT 1 FROM participant
                 WHERE participant.scan_id = $1 AND participant.worker_key = claim.worker_key
                   AND participant.alive_until > $3) AND EXISTS (
                 SELECT 1 FROM participant
                 WHERE participant.scan_id = $1 AND participant.worker_key = $2 AND participant.alive_until > $3)))
             ORDER BY claim.rank, claim.account_id
             LIMIT $4 {SKIP_LOCKED}
         )
         UPDATE claim SET worker_key = $2 FROM next
         WHERE claim.scan_id = next.scan_id AND claim.account_id = next.account_id
         RETURNING claim.rank, claim.account"
    );
    let rows: Vec<(i32, Json<Account>)> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(scan)
        .bind(me)
        .bind(now)
        .bind(i64::from(most))
        .bind(i32::from(!owners_only))
        .fetch_all(&mut *transaction)
        .await
        .doing(DOING)?;
    transaction.commit().await.doing(DOING)?;
    let mut listed: Vec<Listed> =
        rows.into_iter().map(|(rank, Json(account))| Listed { account, is_owner: rank == 0 }).collect();
    listed.sort_by_key(|listed| (!listed.is_owner, listed.account.id));
    Ok(listed)
}

pub async fn release_claims(pool: &Pool, scan: ScanId, worker: &str, held: &[AccountId]) -> Result<(), StoreError> {
    const DOING: &str = "giving back accounts";
    let mut transaction = begin(pool).await.doing(DOING)?;
    let me = worker_key(&mut transaction, worker).await.doing(DOING)?;
    give_back(&mut transaction, scan, me, held).await.doing(DOING)?;
    transaction.commit().await.doing(DOING)
}

async fn give_back(
    connection: &mut Connection,
    scan: ScanId,
    worker_key: i32,
    held: &[AccountId],
) -> Result<(), sqlx::Error> {
    // One row at least, so that the table has its columns; an empty id is no account's.
    let ids: Vec<&str> = held.iter().map(AccountId::as_str).chain([""]).collect();
    let table = Table::of(&ids)
        .integer("scan_id", |_| scan)
        .integer("worker_key", |_| i64::from(worker_key))
        .text("account_id", |id| *id)
        .done();
    let update = "UPDATE claim SET worker_key = NULL
                  WHERE (claim.scan_id, claim.worker_key) IN (SELECT scan_id, worker_key FROM new)
                    AND claim.account_id NOT IN (SELECT account_id FROM new)";
    execute(connection, &table, update).await.map(|_| ())
}

/// Takes a process out of a scan; says whether it was in it.
pub async fn leave(connection: &mut Connection, scan: ScanId, worker: &str) -> Result<bool, sqlx::Error> {
    let me = worker_key(connection, worker).await?;
    give_back(connection, scan, me, &[]).await?;
    readings::give_back(connection, scan, me, &[]).await?;
    let unlist = "UPDATE scan_work SET lister_key = NULL WHERE scan_id = $1 AND lister_key = $2 AND listed_at IS NULL";
    sqlx::query(unlist).bind(scan).bind(me).execute(&mut *connection).await?;
    let leave = sqlx::query("DELETE FROM participant WHERE scan_id = $1 AND worker_key = $2").bind(scan).bind(me);
    Ok(leave.execute(connection).await?.rows_affected() > 0)
}

pub async fn keep_owner(
    pool: &Pool,
    scan: ScanId,
    owner: AccountId,
    view: &OwnerView,
) -> Result<OwnerView, StoreError> {
    const DOING: &str = "recording what an owner said";
    let mut transaction = begin(pool).await.doing(DOING)?;
    // Of a scan that has ended nothing is kept.
    sqlx::query(
        "INSERT INTO owner_view (scan_id, account_id, regions) SELECT scan_id, $2, $3 FROM scan_work WHERE scan_id = $1
         ON CONFLICT (scan_id, account_id) DO NOTHING",
    )
    .bind(scan)
    .bind(owner.as_str())
    .bind(Json(view))
    .execute(&mut *transaction)
    .await
    .doing(DOING)?;
    let kept: Option<Json<OwnerView>> =
        sqlx::query_scalar("SELECT regions FROM owner_view WHERE scan_id = $1 AND account_id = $2")
            .bind(scan)
            .bind(owner.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .doing(DOING)?;
    transaction.commit().await.doing(DOING)?;
    kept.map(|Json(kept)| kept).ok_or(StoreError::ScanEnded(scan))
}

pub async fn heartbeat(pool: &Pool, scan: ScanId, worker: &str, lease: Duration) -> Result<Work, StoreError> {
    #[derive(FromRow)]
    struct Row {
        listed: bool,
        accounts: i64,
        owners: i64,
        participants: i64,
        replicas: i64,
    }
    const DOING: &str = "renewing a lease";
    let mut transaction = begin(pool).await.doing(DOING)?;
    let now = now(&mut transaction).await.doing(DOING)?;
    let renewed = sqlx::query(
        "UPDATE participant SET alive_until = $3
         WHERE scan_id = $1 AND worker_key = (SELECT worker_key FROM worker WHERE name = $2)",
    )
    .bind(scan)
    .bind(worker)
    .bind(lease_end(now, lease))
    .execute(&mut *transaction)
    .await
    .doing(DOING)?;
    if renewed.rows_affected() == 0 {
        return Err(StoreError::ScanEnded(scan));
    }
    let row: Option<Row> = sqlx::query_as(
        "SELECT scan_work.listed_at IS NOT NULL AS listed,
                (SELECT count(*) FROM claim WHERE claim.scan_id = $1) AS accounts,
                (SELECT count(*) FROM claim WHERE claim.scan_id = $1 AND claim.rank = 0 AND NOT EXISTS (
                    SELECT 1 FROM owner_view WHERE owner_view.scan_id = $1 AND owner_view.account_id = claim.account_id)
                ) AS owners,
                (SELECT count(*) FROM participant WHERE participant.scan_id = $1 AND alive_until > $2) AS participants,
                (SELECT count(DISTINCT worker_key) FROM participant WHERE alive_until > $2) AS replicas
         FROM scan_work WHERE scan_work.scan_id = $1",
    )
    .bind(scan)
    .bind(now)
    .fetch_optional(&mut *transaction)
    .await
    .doing(DOING)?;
    let row = row.ok_or(StoreError::ScanEnded(scan))?;
    transaction.commit().await.doing(DOING)?;
    Ok(Work {
        listed: row.listed,
        left: row.accounts.unsigned_abs(),
        owners_left: row.owners.unsigned_abs(),
        peers: u32::try_from(row.participants - 1).unwrap_or(0),
        replicas: u32::try_from(row.replicas).unwrap_or(u32::MAX).max(1),
    })
}

pub async fn tally(pool: &Pool, scan: ScanId) -> Result<Tally, StoreError> {
    #[derive(FromRow)]
    struct Row {
        known_accounts: Option<i32>,
        missing: i64,
        pending: i64,
        listed: bool,
        list_error: Option<String>,
        entered: i32,
        locked: i32,
        example: Option<String>,
    }
    let row: Option<Row> = sqlx::query_as(
        "SELECT scan_work.known_accounts, scan_work.listed_at IS NOT NULL AS listed, scan_work.list_error,
                scan_work.entered, scan_work.locked, scan_work.example,
                (SELECT count(*) FROM account WHERE account.organization_key = scan.organization_key
                    AND account.left_at IS NULL AND NOT EXISTS (
                    SELECT 1 FROM visit WHERE visit.account_key = account.account_key AND visit.scan_id = scan.scan_id)
                ) AS missing,
                (SELECT count(*) FROM account
                 JOIN visit ON visit.account_key = account.account_key AND visit.scan_id = account.scan_id
                 WHERE account.organization_key = scan.organization_key AND account.scan_id = scan.scan_id
                    AND visit.outcome = 'pending') AS pending
         FROM scan_work JOIN scan USING (scan_id) WHERE scan_work.scan_id = $1 AND scan.state = 'running'",
    )
    .bind(scan)
    .fetch_optional(pool)
    .await
    .doing("adding up a scan")?;
    let Row { known_accounts, missing, pending, listed, list_error, entered, locked, example } =
        row.ok_or(StoreError::ScanEnded(scan))?;
    let whole = |number: i32| u64::from(number.unsigned_abs());
    Ok(Tally {
        known: known_accounts.map_or(0, whole),
        missing: missing.unsigned_abs(),
        pending: pending.unsigned_abs(),
        listed,
        list_error,
        entered: whole(entered),
        locked: whole(locked),
        example,
    })
}
