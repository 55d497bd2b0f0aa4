//! The beginning of a scan, or of taking part in one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use super::super::engine::{Connection, Pool, begin as begin_transaction, lock_scans, now};
use super::finish::{close_organization, end_scan};
use super::work::{join, worker_key};
use crate::model::{AccountId, Region, ScanEnd, ScanId, ScanState, Scope, Trigger};
use crate::store::error::Doing;
use crate::store::timestamp::Timestamp;
use crate::store::{IdentityConflict, JoinMode, Joined, NewScan, Past, StoreError};

/// How a scan ends whose process is dead.
pub fn dead_end() -> ScanEnd {
    let error = Some("the process ended, or stood still, before the scan did".into());
    ScanEnd { state: ScanState::Incomplete, error, list_complete: false }
}

/// A scan that has not ended.
#[derive(FromRow)]
struct AtWork {
    scan_id: ScanId,
    /// Whether it is of the same organization.
    is_here: bool,
    trigger: String,
    scope: String,
    started_at: Timestamp,
    /// When something was last recorded in it.
    recorded_at: Option<Timestamp>,
    /// When the first of those owners of the organization's analyzers was asked whose word the rest would be judged by.
    asked_at: Option<Timestamp>,
    /// Until when the last of those who took part was alive, of those who did not leave.
    alive_until: Option<Timestamp>,
    requirement: String,
    configuration_hash: String,
    /// Whether another process than ours takes part in it.
    is_shared: bool,
}

impl AtWork {
    /// When anything was last heard of it.
    fn last_heard(&self) -> DateTime<Utc> {
        [self.recorded_at, self.alive_until].into_iter().flatten().fold(self.started_at, Timestamp::max).into()
    }

    /// Whether it is young enough, and was heard of lately enough, to be resumed; and its owners were asked lately enough: one that
    /// is resumed again and again is heard of all the time. What a clock that was ahead has left in the future is as old as that
    /// clock was ahead.
    fn can_be_resumed(&self, scan: &NewScan) -> bool {
        let latest = scan.started_at + (scan.started_at - scan.alive_from);
        let is_past = |at: Timestamp| DateTime::<Utc>::from(at) <= latest;
        DateTime::<Utc>::from(self.started_at) >= scan.resumes_from
            && is_past(self.started_at)
            && self.recorded_at.is_none_or(is_past)
            && self.last_heard() >= scan.alive_from
            && self.asked_at.is_none_or(|at| DateTime::<Utc>::from(at) >= scan.alive_from)
    }

    /// Whether it asks what the new one asks, so that one answers both.
    fn is_like(&self, scan: &NewScan) -> bool {
        let is_manual = |trigger: &str| trigger == Trigger::Manual.as_str();
        let all = Scope::All.as_str();
        self.scope == all
            && scan.scope.as_str() == all
            && self.requirement == scan.requirement.as_str()
            && self.configuration_hash == scan.configuration_hash
            && is_manual(&self.trigger) == is_manual(scan.trigger.as_str())
    }
}

pub async fn begin(pool: &Pool, scan: &NewScan, worker: &str, lease: Duration) -> Result<Joined, StoreError> {
    const DOING: &str = "beginning a scan";
    let mut transaction = begin_transaction(pool).await.doing(DOING)?;
    lock_scans(&mut transaction).await.doing(DOING)?;
    let now = now(&mut transaction).await.doing(DOING)?;
    let me = worker_key(&mut transaction, worker).await.doing(DOING)?;
    let at_work: Vec<AtWork> = sqlx::query_as(
        "SELECT scan_id, organization_name = $1 AS is_here, trigger, scope, started_at, requirement, configuration_hash,
                (SELECT max(checked_at) FROM account WHERE account.scan_id = scan.scan_id) AS recorded_at,
                (SELECT min(account.checked_at) FROM owner_view JOIN account USING (scan_id, account_id)
                 WHERE owner_view.scan_id = scan.scan_id) AS asked_at,
                (SELECT max(alive_until) FROM participant WHERE participant.scan_id = scan.scan_id) AS alive_until, EXISTS (
             SELECT 1 FROM participant
             WHERE participant.scan_id = scan.scan_id AND worker_key <> $2 AND alive_until > $3) AS is_shared
         FROM scan WHERE state = 'running' AND (organization_name = $1 OR NOT EXISTS (
             SELECT 1 FROM participant WHERE participant.scan_id = scan.scan_id AND alive_until > $3))
         ORDER BY scan_id DESC",
    )
    .bind(&scan.organization_name)
    .bind(me)
    .bind(now)
    .fetch_all(&mut *transaction)
    .await
    .doing(DOING)?;
    let mut joined = None;
    for other in at_work {
        let started_at = other.started_at.into();
        let scan_id = other.scan_id;
        if !other.is_here {
            // Of an organization that has another name by now, or is configured no more, nobody else would end it. One that waits
            // for a database that was away is left to who is at it.
            if other.last_heard() < scan.resumes_from {
                end_scan(&mut transaction, scan_id, &dead_end(), scan.started_at).await?;
            }
        } else if other.is_shared {
            // A person waits for an answer of their own.
            if !other.is_like(scan) || scan.trigger == Trigger::Manual {
                return Err(StoreError::ScanRunning(scan.organization_name.clone()));
            }
            joined.get_or_insert(Joined { scan_id, started_at, how: JoinMode::Joined });
        } else if joined.is_none() && other.is_like(scan) && other.can_be_resumed(scan) {
            joined = Some(Joined { scan_id, started_at, how: JoinMode::Resumed });
        } else {
            end_scan(&mut transaction, scan_id, &dead_end(), scan.started_at).await?;
        }
    }
    let joined = match joined {
        Some(joined) => joined,
        None if !scan.begins => {
            // What could not be resumed is closed all the same.
            transaction.commit().await.doing(DOING)?;
            return Err(StoreError::NothingAtWork(scan.organization_name.clone()));
        }
        None => {
            Joined { scan_id: insert(&mut transaction, scan).await?, started_at: scan.started_at, how: JoinMode::Began }
        }
    };
    if joined.how != JoinMode::Began {
        // What this process held when it was in the scan before, it knows nothing of.
        let release = "UPDATE claim SET worker_key = NULL WHERE scan_id = $1 AND worker_key = $2";
        sqlx::query(release).bind(joined.scan_id).bind(me).execute(&mut *transaction).await.doing(DOING)?;
    }
    if joined.how == JoinMode::Resumed {
        // Who is visited again is heard again: what they said before may hold no more.
        let unhear = "DELETE FROM owner_view WHERE scan_id = $1 AND account_id IN (SELECT account_id FROM claim WHERE scan_id = $1)";
        sqlx::query(unhear).bind(joined.scan_id).execute(&mut *transaction).await.doing(DOING)?;
    }
    join(&mut transaction, joined.scan_id, me, now, lease).await.doing(DOING)?;
    transaction.commit().await.doing(DOING)?;
    Ok(joined)
}

/// Ends the scans of an organization that nobody else takes part in.
pub async fn abandon(
    pool: &Pool,
    organization_name: &str,
    worker: &str,
    problem: &str,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    const DOING: &str = "ending a scan that was given up";
    let mut transaction = begin_transaction(pool).await.doing(DOING)?;
    lock_scans(&mut transaction).await.doing(DOING)?;
    let now = now(&mut transaction).await.doing(DOING)?;
    let me = worker_key(&mut transaction, worker).await.doing(DOING)?;
    let alone: Vec<ScanId> = sqlx::query_scalar(
        "SELECT scan_id FROM scan WHERE state = 'running' AND organization_name = $1 AND NOT EXISTS (
             SELECT 1 FROM participant
             WHERE participant.scan_id = scan.scan_id AND worker_key <> $2 AND alive_until > $3)",
    )
    .bind(organization_name)
    .bind(me)
    .bind(now)
    .fetch_all(&mut *transaction)
    .await
    .doing(DOING)?;
    let end = ScanEnd { state: ScanState::Incomplete, error: Some(problem.to_owned()), list_complete: false };
    for scan in alone {
        end_scan(&mut transaction, scan, &end, at).await?;
    }
    transaction.commit().await.doing(DOING)
}

async fn insert(connection: &mut Connection, scan: &NewScan) -> Result<ScanId, StoreError> {
    const DOING: &str = "beginning a scan";
    let scan_id: Option<ScanId> = sqlx::query_scalar(
        "INSERT INTO scan (organization_name, trigger, scope, state, scheduled_for, started_at, requirement, configuration_hash, version)
         VALUES ($1, $2, $3, 'running', $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING scan_id",
    )
    .bind(&scan.organization_name)
    .bind(scan.trigger.as_str())
    .bind(scan.scope.as_str())
    .bind(scan.scheduled_for.map(Timestamp::from))
    .bind(Timestamp::from(scan.started_at))
    .bind(scan.requirement.as_str())
    .bind(&scan.configuration_hash)
    .bind(&scan.version)
    .fetch_optional(&mut *connection)
    .await
    .doing(DOING)?;
    let made = || StoreError::AlreadyMade {
        organization: scan.organization_name.clone(),
        instant: scan.scheduled_for.unwrap_or(scan.started_at),
    };
    let scan_id = scan_id.ok_or_else(made)?;
    sqlx::query("INSERT INTO scan_work (scan_id, entered, locked) VALUES ($1, 0, 0)")
        .bind(scan_id)
        .execute(connection)
        .await
        .doing(DOING)?;
    Ok(scan_id)
}

pub async fn past(
    pool: &Pool,
    organization_name: &str,
    configuration_hash: &str,
    now: DateTime<Utc>,
) -> Result<Past, StoreError> {
    #[derive(FromRow)]
    struct Row {
        scheduled: Option<Timestamp>,
        completed: Option<Timestamp>,
        at_work: bool,
    }
    // What a clock that was ahead has left in the future says nothing of the time until then.
    let row: Row = sqlx::query_as(
        "SELECT (SELECT max(scheduled_for) FROM scan WHERE organization_name = $1 AND scheduled_for <= $2) AS scheduled,
                -- By number, newest first: the others are not read.
                (SELECT started_at FROM scan
                 WHERE organization_name = $1 AND state = 'completed' AND scope = 'all' AND started_at <= $2
                   AND configuration_hash = $3
                 ORDER BY scan_id DESC LIMIT 1) AS completed,
                EXISTS (SELECT 1 FROM scan
                        WHERE organization_name = $1 AND state = 'running' AND scope = 'all' AND trigger <> 'manual') AS at_work",
    )
    .bind(organization_name)
    .bind(Timestamp::from(now))
    .bind(configuration_hash)
    .fetch_one(pool)
    .await
    .doing("reading which scans were made")?;
    Ok(Past {
        scheduled: row.scheduled.map(Into::into),
        completed: row.completed.map(Into::into),
        at_work: row.at_work,
    })
}

pub async fn identify(
    pool: &Pool,
    scan: ScanId,
    organization_id: &str,
    others: &[String],
) -> Result<Option<IdentityConflict>, StoreError> {
    const DOING: &str = "recording the organization";
    let mut transaction = begin_transaction(pool).await.doing(DOING)?;
    lock_scans(&mut transaction).await.doing(DOING)?;
    let known: Option<String> = sqlx::query_scalar("SELECT name FROM organization WHERE organization_id = $1")
        .bind(organization_id)
        .fetch_optional(&mut *transaction)
        .await
        .doing(DOING)?;
    if let Some(name) = known.filter(|name| others.contains(name)) {
        return Ok(Some(IdentityConflict::NamedToo(name)));
    }
    let before: Vec<(i32, String)> = sqlx::query_as(
        "SELECT organization.organization_key, organization.organization_id
         FROM organization JOIN scan ON scan.organization_name = organization.name
         WHERE scan.scan_id = $1 AND organization.organization_id <> $2 AND EXISTS (
             SELECT 1 FROM account WHERE account.organization_key = organization.organization_key AND account.left_at IS NULL)
         ORDER BY organization.organization_key",
    )
    .bind(scan)
    .bind(organization_id)
    .fetch_all(&mut *transaction)
    .await
    .doing(DOING)?;
    let is_standalone = |id: &str| id.starts_with("account:");
    if let Some((_, other)) = before.iter().find(|(_, id)| !is_standalone(id) || is_standalone(organization_id)) {
        return Ok(Some(IdentityConflict::OfAnother(other.clone())));
    }
    if !before.is_empty() {
        let started: Timestamp = sqlx::query_scalar("SELECT started_at FROM scan WHERE scan_id = $1")
            .bind(scan)
            .fetch_one(&mut *transaction)
            .await
            .doing(DOING)?;
        // A standalone account that is in an organization by now: what held for it as such ends.
        for (key, _) in before {
            close_organization(&mut transaction, scan, key, started).await?;
        }
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
    // The same organization under another name, which it had before or has in another configuration.
    let now = now(&mut transaction).await.doing(DOING)?;
    let others: Vec<(ScanId, Timestamp, bool)> = sqlx::query_as(
        "SELECT scan_id, started_at, EXISTS (
             SELECT 1 FROM participant WHERE participant.scan_id = scan.scan_id AND alive_until > $3)
         FROM scan WHERE state = 'running' AND organization_key = $1 AND scan_id <> $2",
    )
    .bind(key)
    .bind(scan)
    .bind(now)
    .fetch_all(&mut *transaction)
    .await
    .doing(DOING)?;
    for (dead, started_at, is_alive) in others {
        if is_alive {
            return Err(StoreError::ScanRunning(organization_id.to_owned()));
        }
        end_scan(&mut transaction, dead, &dead_end(), started_at.into()).await?;
    }
    let identified = sqlx::query(
        "UPDATE scan SET organization_key = $1 WHERE scan_id = $2 AND (organization_key IS NULL OR organization_key = $1)",
    )
    .bind(key)
    .bind(scan)
    .execute(&mut *transaction)
    .await
    .doing(DOING)?;
    if identified.rows_affected() == 0 {
        let other: String = sqlx::query_scalar(
            "SELECT organization_id FROM scan JOIN organization USING (organization_key) WHERE scan_id = $1",
        )
        .bind(scan)
        .fetch_one(&mut *transaction)
        .await
        .doing(DOING)?;
        return Ok(Some(IdentityConflict::OfAnother(other)));
    }
    transaction.commit().await.doing(DOING)?;
    Ok(None)
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
