//! Findings, counted, as intervals: written where a count changes.

use std::collections::HashMap;

use sqlx::FromRow;
use sqlx::types::Json;

use super::super::engine::{Connection, execute, fetch};
use super::visits::DOING;
use crate::model::{FindingsCount, ScanId, TypeCount, Visit};
use crate::store::StoreError;
use crate::store::error::Doing;
use crate::store::table::Table;
use crate::store::timestamp::Timestamp;

/// A count that holds.
#[derive(FromRow)]
struct Open {
    analyzer_arn: String,
    valid_from: Timestamp,
    active: i64,
    archived: i64,
    resolved: i64,
    by_type: Json<std::collections::BTreeMap<String, TypeCount>>,
}

impl Open {
    fn is(&self, count: &FindingsCount) -> bool {
        (self.active, self.archived, self.resolved) == (count.active, count.archived, count.resolved)
            && self.by_type.0 == count.by_type
    }
}

/// Writes what a batch of visits counted, where it is not what was counted before.
pub async fn write(connection: &mut Connection, organization_key: i32, visits: &[&Visit]) -> Result<(), StoreError> {
    let mut counted: Vec<(&FindingsCount, Timestamp)> = Vec::new();
    // Of analyzers that a visit is the authority on and did not count, nobody knows how many there are now.
    let mut authority: HashMap<&str, Timestamp> = HashMap::new();
    for visit in visits {
        let at = Timestamp::from(visit.finished_at);
        counted.extend(visit.findings.iter().map(|count| (count, at)));
        let own = visit.analyzers.iter().filter(|analyzer| analyzer.location.owner == visit.account.id);
        authority.extend(own.map(|analyzer| (analyzer.arn.as_str(), at)));
    }
    let asked: Vec<&str> = authority.keys().copied().collect();
    if asked.is_empty() {
        return Ok(());
    }
    let arns = Table::of(&asked)
        .integer("organization_key", |_| i64::from(organization_key))
        .text("analyzer_arn", |arn| *arn)
        .done();
    let statement = "SELECT findings_count.analyzer_arn, findings_count.valid_from, findings_count.active, findings_count.archived,
                            findings_count.resolved, findings_count.by_type
                     FROM new
                     JOIN findings_count ON findings_count.organization_key = new.organization_key
                                        AND findings_count.analyzer_arn = new.analyzer_arn AND findings_count.valid_to IS NULL";
    let open: Vec<Open> = fetch(connection, &arns, statement).await.doing(DOING)?;
    let open: HashMap<&str, &Open> = open.iter().map(|open| (open.analyzer_arn.as_str(), open)).collect();
    let is_counted = |arn: &str| counted.iter().any(|(count, _)| count.analyzer_arn == arn);
    let uncounted = open.values().filter(|open| !is_counted(&open.analyzer_arn)).filter_map(|open| {
        let at = authority.get(open.analyzer_arn.as_str())?.no_earlier_than(Some(open.valid_from));
        Some((open.analyzer_arn.clone(), at))
    });
    close(connection, organization_key, &uncounted.collect::<Vec<_>>()).await?;
    let changed: Vec<(&FindingsCount, Timestamp)> = counted
        .iter()
        .copied()
        .filter(|(count, _)| !open.get(count.analyzer_arn.as_str()).is_some_and(|open| open.is(count)))
        .map(|(count, at)| {
            let before = open.get(count.analyzer_arn.as_str()).map(|open| open.valid_from);
            (count, at.no_earlier_than(before))
        })
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let table = Table::of(&changed)
        .integer("organization_key", |_| i64::from(organization_key))
        .text("analyzer_arn", |row| row.0.analyzer_arn.as_str())
        .stamp("at", |row| row.1)
        .integer("active", |row| row.0.active)
        .integer("archived", |row| row.0.archived)
        .integer("resolved", |row| row.0.resolved)
        .integer("public", |row| row.0.public())
        .integer("cross_account", |row| row.0.cross_account())
        .document("by_type", |row| serde_json::json!(row.0.by_type).to_string())
        .done();
    execute(connection, &table, CLOSE).await.doing(DOING)?;
    // An analyzer that was gone comes back after it had gone.
    let insert = "INSERT INTO findings_count (organization_key, analyzer_arn, valid_from, active, archived, resolved, public, cross_account, by_type)
                  SELECT new.organization_key, new.analyzer_arn,
                         coalesce((SELECT max(before.valid_to) FROM findings_count AS before
                                   WHERE before.organization_key = new.organization_key AND before.analyzer_arn = new.analyzer_arn
                                     AND before.valid_to > new.at), new.at),
                         new.active, new.archived, new.resolved, new.public, new.cross_account, new.by_type
                  FROM new";
    execute(connection, &table, insert).await.doing(DOING).map(|_| ())
}

/// Ends the counts of the analyzers in `new`.
const CLOSE: &str = "UPDATE findings_count SET valid_to = new.at FROM new
                     WHERE findings_count.organization_key = new.organization_key AND findings_count.analyzer_arn = new.analyzer_arn
                       AND findings_count.valid_to IS NULL AND findings_count.valid_from < new.at";

/// Ends the counts of analyzers that are gone.
pub async fn close(
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
    execute(connection, &table, CLOSE).await.doing(DOING).map(|_| ())
}

/// Adds up what a scan of all accounts leaves.
pub async fn roll_up(connection: &mut Connection, scan: ScanId) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO findings_scan_count (scan_id, region, type, analyzers, active, archived, resolved, public, cross_account)
         SELECT scan.scan_id, analyzer.region, analyzer.type, count(*), CAST(sum(findings_count.active) AS BIGINT),
                CAST(sum(findings_count.archived) AS BIGINT), CAST(sum(findings_count.resolved) AS BIGINT),
                CAST(sum(findings_count.public) AS BIGINT), CAST(sum(findings_count.cross_account) AS BIGINT)
         FROM scan
         JOIN analyzer ON analyzer.organization_key = scan.organization_key AND analyzer.valid_to IS NULL
         JOIN account ON account.organization_key = scan.organization_key AND account.account_id = analyzer.owner_account_id
                     AND account.scan_id = scan.scan_id
         JOIN visit ON visit.account_key = account.account_key AND visit.scan_id = scan.scan_id AND visit.outcome = 'audited'
         JOIN findings_count ON findings_count.organization_key = analyzer.organization_key
                            AND findings_count.analyzer_arn = analyzer.analyzer_arn AND findings_count.valid_to IS NULL
         WHERE scan.scan_id = $1 AND scan.scope = 'all'
         GROUP BY scan.scan_id, analyzer.region, analyzer.type",
    )
    .bind(scan)
    .execute(connection)
    .await
    .doing("finishing a scan")
    .map(|_| ())
}
