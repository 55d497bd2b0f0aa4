//! Findings, one by one, as intervals; and who reads which analyzer's. A reading is claimed as an account is: see `work`.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow};

use super::super::engine::{Connection, Pool, SKIP_LOCKED, begin, execute, fetch, now};
use super::work::worker_key;
use crate::model::{Finding, ReadRule, Region, ScanId};
use crate::store::StoreError;
use crate::store::error::Doing;
use crate::store::readings::{Claimed, HeldFinding, Listed, ReadingEnd, ToRead};
use crate::store::table::Table;
use crate::store::timestamp::Timestamp;

const DOING: &str = "recording findings";

/// Intervals that are looked through at once.
const CHUNK: usize = 1_000;

pub async fn begin_all(pool: &Pool, scan: ScanId) -> Result<(), StoreError> {
    let mut transaction = begin(pool).await.doing(DOING)?;
    sqlx::query(
        "INSERT INTO reading (organization_key, analyzer_arn, account_id, region, type, scan_id, is_due)
         SELECT analyzer.organization_key, analyzer.analyzer_arn, analyzer.owner_account_id, analyzer.region, analyzer.type,
                scan.scan_id, 1
         FROM scan
         JOIN account ON account.organization_key = scan.organization_key AND account.scan_id = scan.scan_id
         JOIN visit ON visit.account_key = account.account_key AND visit.scan_id = scan.scan_id AND visit.outcome = 'audited'
         JOIN analyzer ON analyzer.organization_key = scan.organization_key AND analyzer.owner_account_id = account.account_id
                      AND analyzer.valid_to IS NULL
         WHERE scan.scan_id = $1 AND scan.state = 'running'
         ON CONFLICT (organization_key, analyzer_arn) DO UPDATE
         SET scan_id = excluded.scan_id, is_due = 1, worker_key = NULL, type = excluded.type
         WHERE reading.scan_id < excluded.scan_id",
    )
    .bind(scan)
    .execute(&mut *transaction)
    .await
    .doing(DOING)?;
    // Of an account that could not be audited, what was last seen is old, and that is said.
    sqlx::query(
        "UPDATE reading SET problem = 'its account could not be audited'
         WHERE scan_id < $1 AND (organization_key, account_id) IN (
             SELECT account.organization_key, account.account_id
             FROM scan
             JOIN account ON account.organization_key = scan.organization_key AND account.scan_id = scan.scan_id
             JOIN visit ON visit.account_key = account.account_key AND visit.scan_id = scan.scan_id AND visit.outcome <> 'audited'
             WHERE scan.scan_id = $1 AND scan.state = 'running')",
    )
    .bind(scan)
    .execute(&mut *transaction)
    .await
    .doing(DOING)?;
    transaction.commit().await.doing(DOING)
}

pub async fn claim(pool: &Pool, scan: ScanId, worker: &str, most: u32, held: &[String]) -> Result<Claimed, StoreError> {
    const DOING: &str = "claiming analyzers";
    #[derive(FromRow)]
    struct Row {
        account_id: String,
        region: String,
        analyzer_arn: String,
        #[sqlx(rename = "type")]
        analyzer_type: String,
    }
    let mut transaction = begin(pool).await.doing(DOING)?;
    let now = now(&mut transaction).await.doing(DOING)?;
    let me = worker_key(&mut transaction, worker).await.doing(DOING)?;
    let any_left: Option<bool> = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM reading WHERE reading.scan_id = $1 AND reading.is_due = 1)
         FROM scan WHERE scan.scan_id = $1 AND scan.state = 'running'",
    )
    .bind(scan)
    .fetch_optional(&mut *transaction)
    .await
    .doing(DOING)?;
    let any_left = any_left.ok_or(StoreError::ScanEnded(scan))?;
    give_back(&mut transaction, scan, me, held).await.doing(DOING)?;
    let statement = format!(
        "WITH next AS (
             SELECT reading.reading_key FROM reading
             WHERE reading.scan_id = $1 AND reading.is_due = 1 AND (reading.worker_key IS NULL OR (reading.worker_key <> $2 AND NOT EXISTS (
                 SELECT 1 FROM participant
                 WHERE participant.scan_id = $1 AND participant.worker_key = reading.worker_key
                   AND participant.alive_until > $3) AND EXISTS (
                 SELECT 1 FROM participant
                 WHERE participant.scan_id = $1 AND participant.worker_key = $2 AND participant.alive_until > $3)))
             ORDER BY reading.tried_at NULLS FIRST, reading.account_id, reading.region, reading.analyzer_arn
             LIMIT $4 {SKIP_LOCKED}
         )
         UPDATE reading SET worker_key = $2 FROM next WHERE reading.reading_key = next.reading_key
         RETURNING reading.account_id, reading.region, reading.analyzer_arn, reading.type"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(scan)
        .bind(me)
        .bind(now)
        .bind(i64::from(most))
        .fetch_all(&mut *transaction)
        .await
        .doing(DOING)?;
    transaction.commit().await.doing(DOING)?;
    let corrupt = |error| StoreError::Corrupt { doing: DOING, problem: format!("an account id that is none: {error}") };
    let to_read = |row: Row| {
        let account = row.account_id.parse().map_err(corrupt)?;
        Ok(ToRead {
            account,
            region: Region::new(&row.region),
            analyzer_arn: row.analyzer_arn,
            analyzer_type: row.analyzer_type,
        })
    };
    let mut analyzers = rows.into_iter().map(to_read).collect::<Result<Vec<_>, StoreError>>()?;
    analyzers.sort_by(|a, b| (a.account, &a.region, &a.analyzer_arn).cmp(&(b.account, &b.region, &b.analyzer_arn)));
    Ok(Claimed { analyzers, any_left })
}

/// The reading of an analyzer that is this process's own, until this transaction ends.
async fn own(connection: &mut Connection, scan: ScanId, worker: &str, arn: &str) -> Result<i32, StoreError> {
    let key = sqlx::query_scalar(
        "UPDATE reading SET worker_key = worker_key
         WHERE organization_key = (SELECT organization_key FROM scan WHERE scan_id = $1 AND state = 'running') AND analyzer_arn = $2
           AND scan_id = $1 AND is_due = 1 AND worker_key = (SELECT worker_key FROM worker WHERE name = $3)
         RETURNING reading_key",
    );
    let key: Option<i32> = key.bind(scan).bind(arn).bind(worker).fetch_optional(connection).await.doing(DOING)?;
    key.ok_or(StoreError::ClaimLost(scan))
}

/// An interval that holds.
#[derive(FromRow)]
struct Open {
    finding_id: String,
    valid_from: Timestamp,
    status: String,
    #[sqlx(rename = "type")]
    finding_type: String,
    resource: Option<String>,
    resource_type: String,
    owner_id: String,
    is_public: Option<i32>,
    principal: Option<Json<std::collections::BTreeMap<String, String>>>,
    action: Option<Json<Vec<String>>>,
    condition: Option<Json<std::collections::BTreeMap<String, String>>>,
    error: Option<String>,
}

impl Open {
    fn is(&self, finding: &Finding) -> bool {
        let access = finding.access.as_ref();
        self.status == finding.status
            && self.finding_type == finding.finding_type
            && self.resource == finding.resource
            && self.resource_type == finding.resource_type
            && self.owner_id == finding.owner
            && self.error == finding.error
            && self.is_public == access.and_then(|access| access.is_public.map(i32::from))
            && self.principal.as_ref().map(|json| &json.0) == access.map(|access| &access.principal)
            && self.action.as_ref().map(|json| &json.0) == access.map(|access| &access.action)
            && self.condition.as_ref().map(|json| &json.0) == access.map(|access| &access.condition)
    }
}

pub async fn write(
    pool: &Pool,
    scan: ScanId,
    worker: &str,
    analyzer_arn: &str,
    findings: &[Finding],
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mut transaction = begin(pool).await.doing(DOING)?;
    let key = own(&mut transaction, scan, worker, analyzer_arn).await?;
    // Of one that is on the page twice, the last word counts.
    let by_id: HashMap<&str, &Finding> = findings.iter().map(|finding| (finding.id.as_str(), finding)).collect();
    let ids: Vec<&str> = by_id.keys().copied().collect();
    let table = Table::of(&ids).integer("reading_key", |_| i64::from(key)).text("finding_id", |id| *id).done();
    let statement = "SELECT finding.finding_id, finding.valid_from, finding.status, finding.type, finding.resource, finding.resource_type,
                            finding.owner_id, finding.is_public, finding.principal, finding.action, finding.condition, finding.error
                     FROM new
                     JOIN finding ON finding.reading_key = new.reading_key AND finding.finding_id = new.finding_id
                                 AND finding.valid_to IS NULL";
    let open: Vec<Open> = fetch(&mut transaction, &table, statement).await.doing(DOING)?;
    let open: HashMap<&str, &Open> = open.iter().map(|open| (open.finding_id.as_str(), open)).collect();
    let changed: Vec<(&Finding, Timestamp)> = by_id
        .into_values()
        .filter(|finding| !open.get(finding.id.as_str()).is_some_and(|open| open.is(finding)))
        .map(|finding| {
            let before = open.get(finding.id.as_str()).map(|open| open.valid_from);
            (finding, Timestamp::from(at).no_earlier_than(before))
        })
        .collect();
    if !changed.is_empty() {
        let closings: Vec<(&str, Timestamp)> = changed.iter().map(|(finding, at)| (finding.id.as_str(), *at)).collect();
        close(&mut transaction, key, &closings).await?;
        insert(&mut transaction, key, &changed).await?;
    }
    transaction.commit().await.doing(DOING)
}

async fn insert(connection: &mut Connection, key: i32, rows: &[(&Finding, Timestamp)]) -> Result<(), StoreError> {
    let access = |row: &(&Finding, Timestamp)| row.0.access.clone();
    let table = Table::of(rows)
        .integer("reading_key", |_| i64::from(key))
        .text("finding_id", |row| row.0.id.as_str())
        .stamp("at", |row| row.1)
        .text("status", |row| row.0.status.as_str())
        .text("type", |row| row.0.finding_type.as_str())
        .text("resource", |row| row.0.resource.as_deref())
        .text("resource_type", |row| row.0.resource_type.as_str())
        .text("owner_id", |row| row.0.owner.as_str())
        .integer("is_public", |row| access(row)?.is_public.map(i64::from))
        .documents("principal", |row| Some(serde_json::json!(access(row)?.principal).to_string()))
        .documents("action", |row| Some(serde_json::json!(access(row)?.action).to_string()))
        .documents("condition", |row| Some(serde_json::json!(access(row)?.condition).to_string()))
        .text("error", |row| row.0.error.as_deref())
        .stamp("created_at", |row| row.0.created_at.map(Timestamp::from))
        .stamp("updated_at", |row| row.0.updated_at.map(Timestamp::from))
        .done();
    // One that was listed no more comes back after that.
    let insert = "INSERT INTO finding (reading_key, finding_id, valid_from, status, type, resource, resource_type, owner_id, is_public,
                                       principal, action, condition, error, created_at, updated_at)
                  SELECT new.reading_key, new.finding_id,
                         coalesce((SELECT max(before.valid_to) FROM finding AS before
                                   WHERE before.reading_key = new.reading_key AND before.finding_id = new.finding_id
                                     AND before.valid_to > new.at), new.at),
                         new.status, new.type, new.resource, new.resource_type, new.owner_id,
                         new.is_public, new.principal, new.action, new.condition, new.error, new.created_at, new.updated_at
                  FROM new";
    execute(connection, &table, insert).await.doing(DOING).map(|_| ())
}

/// Ends what holds of findings of one analyzer.
async fn close(connection: &mut Connection, key: i32, ids: &[(&str, Timestamp)]) -> Result<(), StoreError> {
    let table = Table::of(ids)
        .integer("reading_key", |_| i64::from(key))
        .text("finding_id", |row| row.0)
        .stamp("at", |row| row.1)
        .done();
    let update = "UPDATE finding SET valid_to = new.at FROM new
                  WHERE finding.reading_key = new.reading_key AND finding.finding_id = new.finding_id AND finding.valid_to IS NULL";
    execute(connection, &table, update).await.doing(DOING).map(|_| ())
}

/// Ends what holds of every finding of analyzers that are gone. One that began after its analyzer was last seen, by a clock that went
/// back, is in no view of what holds.
pub async fn close_all_of(
    connection: &mut Connection,
    organization_key: i32,
    gone: &[(String, Timestamp)],
) -> Result<(), StoreError> {
    if gone.is_empty() {
        return Ok(());
    }
    let table = Table::of(gone)
        .integer("organization_key", |_| i64::from(organization_key))
        .text("analyzer_arn", |row| row.0.as_str())
        .stamp("at", |row| row.1)
        .done();
    let update = "UPDATE finding SET valid_to = gone.at
                  FROM (SELECT reading.reading_key, new.at
                        FROM new
                        JOIN reading ON reading.organization_key = new.organization_key
                                    AND reading.analyzer_arn = new.analyzer_arn) AS gone
                  WHERE finding.reading_key = gone.reading_key AND finding.valid_to IS NULL AND finding.valid_from < gone.at";
    execute(connection, &table, update).await.doing(DOING).map(|_| ())
}

pub async fn end(
    pool: &Pool,
    scan: ScanId,
    worker: &str,
    analyzer_arn: &str,
    end: &ReadingEnd<'_>,
) -> Result<(), StoreError> {
    let mut transaction = begin(pool).await.doing(DOING)?;
    let key = own(&mut transaction, scan, worker, analyzer_arn).await?;
    let at = Timestamp::from(end.at);
    if let Ok((_, listed)) = end.listed {
        close_unlisted(&mut transaction, key, listed, at).await?;
    }
    if let Some(rules) = end.rules {
        write_rules(&mut transaction, key, rules).await?;
    }
    sqlx::query(
        "UPDATE reading SET is_due = 0, worker_key = NULL, tried_at = $2, problem = $3,
                            detail = coalesce($4, detail), read_at = coalesce($5, read_at), rules_read_at = coalesce($6, rules_read_at)
         WHERE reading_key = $1",
    )
    .bind(key)
    .bind(at)
    .bind(end.listed.err())
    .bind(end.listed.ok().map(|(detail, _)| detail.as_str()))
    .bind(end.listed.ok().map(|_| at))
    .bind(end.rules.map(|_| at))
    .execute(&mut *transaction)
    .await
    .doing(DOING)?;
    transaction.commit().await.doing(DOING)
}

/// Ends what holds of findings that were not listed. All that were hold by now, so mostly counting is enough.
async fn close_unlisted(
    connection: &mut Connection,
    key: i32,
    listed: &Listed,
    at: Timestamp,
) -> Result<(), StoreError> {
    let holding = "SELECT count(*) FROM finding WHERE reading_key = $1 AND valid_to IS NULL";
    let holding: i64 = sqlx::query_scalar(holding).bind(key).fetch_one(&mut *connection).await.doing(DOING)?;
    if usize::try_from(holding).is_ok_and(|holding| holding <= listed.len()) {
        return Ok(());
    }
    let mut after = String::new();
    loop {
        let some: Vec<(String, Timestamp)> = sqlx::query_as(
            "SELECT finding_id, valid_from FROM finding WHERE reading_key = $1 AND valid_to IS NULL AND finding_id > $2
             ORDER BY finding_id LIMIT $3",
        )
        .bind(key)
        .bind(&after)
        .bind(i64::try_from(CHUNK).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await
        .doing(DOING)?;
        let Some((last, _)) = some.last() else { return Ok(()) };
        after.clone_from(last);
        let gone: Vec<(&str, Timestamp)> = some
            .iter()
            .filter(|(id, _)| !listed.has(id))
            .map(|(id, valid_from)| (id.as_str(), at.no_earlier_than(Some(*valid_from))))
            .collect();
        if !gone.is_empty() {
            close(connection, key, &gone).await?;
        }
    }
}

async fn write_rules(connection: &mut Connection, key: i32, rules: &[ReadRule]) -> Result<(), StoreError> {
    let before: Vec<(String, String)> =
        sqlx::query_as("SELECT rule_name, filter FROM archive_rule WHERE reading_key = $1 ORDER BY rule_name")
            .bind(key)
            .fetch_all(&mut *connection)
            .await
            .doing(DOING)?;
    let mut now: Vec<(String, String)> = rules.iter().map(|rule| (rule.name.clone(), rule.filter.clone())).collect();
    now.sort();
    now.dedup_by(|a, b| a.0 == b.0);
    if now == before {
        return Ok(());
    }
    sqlx::query("DELETE FROM archive_rule WHERE reading_key = $1")
        .bind(key)
        .execute(&mut *connection)
        .await
        .doing(DOING)?;
    if now.is_empty() {
        return Ok(());
    }
    let table = Table::of(&now)
        .integer("reading_key", |_| i64::from(key))
        .text("rule_name", |rule| rule.0.as_str())
        .text("filter", |rule| rule.1.as_str())
        .done();
    let insert =
        "INSERT INTO archive_rule (reading_key, rule_name, filter) SELECT reading_key, rule_name, filter FROM new";
    execute(connection, &table, insert).await.doing(DOING).map(|_| ())
}

/// Gives back what a process has claimed and not read to its end, but for `held`.
pub async fn give_back(
    connection: &mut Connection,
    scan: ScanId,
    worker_key: i32,
    held: &[String],
) -> Result<(), sqlx::Error> {
    // One row at least, so that the table has its columns; an empty ARN is no analyzer's.
    let arns: Vec<&str> = held.iter().map(String::as_str).chain([""]).collect();
    let table = Table::of(&arns)
        .integer("scan_id", |_| scan)
        .integer("worker_key", |_| i64::from(worker_key))
        .text("analyzer_arn", |arn| *arn)
        .done();
    let update = "UPDATE reading SET worker_key = NULL
                  WHERE reading.is_due = 1 AND (reading.scan_id, reading.worker_key) IN (SELECT scan_id, worker_key FROM new)
                    AND reading.analyzer_arn NOT IN (SELECT analyzer_arn FROM new)";
    execute(connection, &table, update).await.map(|_| ())
}

/// The findings of these ids, as they were last seen.
pub async fn held(pool: &Pool, ids: &[String]) -> Result<Vec<HeldFinding>, StoreError> {
    const DOING: &str = "looking findings up";
    let mut connection = pool.acquire().await.doing(DOING)?;
    let table = Table::of(ids).text("finding_id", String::as_str).done();
    let statement = "SELECT finding.reading_key, finding.finding_id, finding.status, finding.valid_to IS NULL AS is_listed,
                            organization.organization_id, organization.name AS organization_name,
                            reading.account_id AS owner_account_id, reading.region, reading.analyzer_arn
                     FROM finding
                     JOIN reading ON reading.reading_key = finding.reading_key
                     JOIN organization ON organization.organization_key = reading.organization_key
                     WHERE finding.finding_id IN (SELECT finding_id FROM new)
                       AND NOT EXISTS (SELECT 1 FROM finding AS later
                                       WHERE later.reading_key = finding.reading_key AND later.finding_id = finding.finding_id
                                         AND later.valid_from > finding.valid_from)
                     ORDER BY reading.analyzer_arn, finding.finding_id";
    fetch(&mut connection, &table, statement).await.doing(DOING)
}

/// Gives findings another status from an instant on.
pub async fn set_status(
    pool: &Pool,
    findings: &[HeldFinding],
    status: &str,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    if findings.is_empty() {
        return Ok(());
    }
    let mut transaction = begin(pool).await.doing(DOING)?;
    let table = Table::of(findings)
        .integer("reading_key", |finding| i64::from(finding.reading_key))
        .text("finding_id", |finding| finding.finding_id.as_str())
        .text("status", |_| status)
        .stamp("at", |_| Timestamp::from(at))
        .done();
    // Asked again, it changes nothing; what a scan has seen since counts for more.
    let insert = "INSERT INTO finding (reading_key, finding_id, valid_from, status, type, resource, resource_type, owner_id, is_public,
                                       principal, action, condition, error, created_at, updated_at)
                  SELECT new.reading_key, new.finding_id, new.at, new.status, finding.type, finding.resource, finding.resource_type,
                         finding.owner_id, finding.is_public, finding.principal, finding.action, finding.condition, finding.error,
                         finding.created_at, new.at
                  FROM new
                  JOIN finding ON finding.reading_key = new.reading_key AND finding.finding_id = new.finding_id
                  WHERE finding.status <> new.status AND finding.valid_from < new.at
                    AND (finding.valid_to IS NULL OR finding.valid_to <= new.at)
                    AND NOT EXISTS (SELECT 1 FROM finding AS later
                                    WHERE later.reading_key = finding.reading_key AND later.finding_id = finding.finding_id
                                      AND later.valid_from > finding.valid_from)";
    let close = "UPDATE finding SET valid_to = new.at FROM new
                 WHERE finding.reading_key = new.reading_key AND finding.finding_id = new.finding_id AND finding.valid_to IS NULL
                   AND finding.status <> new.status AND finding.valid_from < new.at";
    execute(&mut transaction, &table, close).await.doing(DOING)?;
    execute(&mut transaction, &table, insert).await.doing(DOING)?;
    transaction.commit().await.doing(DOING)
}
