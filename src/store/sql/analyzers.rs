//! Analyzers as intervals: what a batch of visits says of them, against what holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::FromRow;
use sqlx::types::Json;

use super::super::engine::{Connection, execute, fetch};
use super::visits::DOING;
use super::{findings, readings};
use crate::model::{AccountId, Analyzer, Visit};
use crate::store::StoreError;
use crate::store::error::Doing;
use crate::store::table::Table;
use crate::store::timestamp::Timestamp;

/// An analyzer as a table's row: what it analyzed last is not part of it, so that it opens no interval.
#[derive(Debug, Clone, FromRow, PartialEq)]
struct AnalyzerRow {
    analyzer_arn: String,
    owner_account_id: String,
    region: String,
    name: String,
    #[sqlx(rename = "type")]
    analyzer_type: String,
    status: String,
    status_reason: Option<String>,
    managed_by: Option<String>,
    created_at: Option<Timestamp>,
    tags: Json<BTreeMap<String, String>>,
}

impl AnalyzerRow {
    fn of(analyzer: &Analyzer) -> Self {
        Self {
            analyzer_arn: analyzer.arn.clone(),
            owner_account_id: analyzer.location.owner.to_string(),
            region: analyzer.location.region.to_string(),
            name: analyzer.name.clone(),
            analyzer_type: analyzer.analyzer_type.clone(),
            status: analyzer.status.clone(),
            status_reason: analyzer.status_reason.clone(),
            managed_by: analyzer.managed_by.clone(),
            created_at: analyzer.created_at.map(Timestamp::from),
            tags: Json(analyzer.tags.clone()),
        }
    }
}

/// An interval that holds, and since when.
#[derive(FromRow)]
struct Open {
    #[sqlx(flatten)]
    row: AnalyzerRow,
    valid_from: Timestamp,
}

/// What a batch of visits says of an analyzer: the last word counts.
struct Seen {
    row: AnalyzerRow,
    at: Timestamp,
}

pub async fn write(connection: &mut Connection, organization_key: i32, visits: &[&Visit]) -> Result<(), StoreError> {
    let mut owners: BTreeSet<AccountId> = visits.iter().map(|visit| visit.account.id).collect();
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    // Where the owner's own list was read to its end, an analyzer that is not on it is gone.
    let mut read: HashMap<(String, String), Timestamp> = HashMap::new();
    for visit in visits {
        let at = Timestamp::from(visit.finished_at);
        for analyzer in &visit.analyzers {
            owners.insert(analyzer.location.owner);
            seen.insert(analyzer.arn.clone(), Seen { row: AnalyzerRow::of(analyzer), at });
        }
        let own = |region: &crate::model::Region| ((visit.account.id.to_string(), region.to_string()), at);
        read.extend(visit.regions_read.iter().map(own));
    }
    let owners: Vec<&str> = owners.iter().map(AccountId::as_str).collect();
    let open = open(connection, organization_key, &owners).await?;
    let mut closings: Vec<(String, Timestamp)> = Vec::new();
    for interval in &open {
        let row = &interval.row;
        let ended = match seen.get(&row.analyzer_arn) {
            Some(now) if now.row == *row => None,
            Some(now) => Some(now.at),
            None => read.get(&(row.owner_account_id.clone(), row.region.clone())).copied(),
        };
        let ended = ended.map(|at| at.no_earlier_than(Some(interval.valid_from)));
        closings.extend(ended.map(|at| (row.analyzer_arn.clone(), at)));
    }
    close(connection, organization_key, &closings).await?;
    let gone: Vec<(String, Timestamp)> = closings.iter().filter(|(arn, _)| !seen.contains_key(arn)).cloned().collect();
    findings::close(connection, organization_key, &gone).await?;
    readings::close_all_of(connection, organization_key, &gone).await?;
    let unchanged: BTreeSet<&str> = open
        .iter()
        .map(|interval| interval.row.analyzer_arn.as_str())
        .filter(|arn| !closings.iter().any(|(closed, _)| closed == arn))
        .collect();
    let openings: Vec<Seen> =
        seen.into_iter().filter(|(arn, _)| !unchanged.contains(arn.as_str())).map(|(_, seen)| seen).collect();
    insert(connection, organization_key, openings).await
}

/// Ends what holds of every analyzer of owners that have left.
pub async fn close_all_of(
    connection: &mut Connection,
    organization_key: i32,
    owners: &[&str],
    at: Timestamp,
) -> Result<(), StoreError> {
    let open = open(connection, organization_key, owners).await?;
    let end = |open: Open| (open.row.analyzer_arn, at.no_earlier_than(Some(open.valid_from)));
    let closings: Vec<(String, Timestamp)> = open.into_iter().map(end).collect();
    findings::close(connection, organization_key, &closings).await?;
    readings::close_all_of(connection, organization_key, &closings).await?;
    close(connection, organization_key, &closings).await
}

async fn open(connection: &mut Connection, organization_key: i32, owners: &[&str]) -> Result<Vec<Open>, StoreError> {
    let table = Table::of(owners)
        .integer("organization_key", |_| i64::from(organization_key))
        .text("owner_account_id", |owner| *owner)
        .done();
    let statement = "SELECT analyzer.analyzer_arn, analyzer.owner_account_id, analyzer.region, analyzer.name, analyzer.type,
                            analyzer.status, analyzer.status_reason, analyzer.managed_by, analyzer.created_at, analyzer.tags,
                            analyzer.valid_from
                     FROM new
                     JOIN analyzer ON analyzer.organization_key = new.organization_key
                                  AND analyzer.owner_account_id = new.owner_account_id AND analyzer.valid_to IS NULL";
    fetch(connection, &table, statement).await.doing(DOING)
}

async fn close(
    connection: &mut Connection,
    organization_key: i32,
    closings: &[(String, Timestamp)],
) -> Result<(), StoreError> {
    if closings.is_empty() {
        return Ok(());
    }
    let table = Table::of(closings)
        .integer("organization_key", |_| i64::from(organization_key))
        .text("analyzer_arn", |row| row.0.as_str())
        .stamp("at", |row| row.1)
        .done();
    let update = "UPDATE analyzer SET valid_to = new.at FROM new
                  WHERE analyzer.organization_key = new.organization_key AND analyzer.analyzer_arn = new.analyzer_arn
                    AND analyzer.valid_to IS NULL";
    execute(connection, &table, update).await.doing(DOING).map(|_| ())
}

async fn insert(connection: &mut Connection, organization_key: i32, mut rows: Vec<Seen>) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let arns = Table::of(&rows)
        .integer("organization_key", |_| i64::from(organization_key))
        .text("analyzer_arn", |seen| seen.row.analyzer_arn.as_str())
        .done();
    let newest = "SELECT analyzer.analyzer_arn, max(analyzer.valid_to) FROM new
                  JOIN analyzer ON analyzer.organization_key = new.organization_key AND analyzer.analyzer_arn = new.analyzer_arn
                  GROUP BY analyzer.analyzer_arn";
    let newest: Vec<(String, Option<Timestamp>)> = fetch(connection, &arns, newest).await.doing(DOING)?;
    let newest: HashMap<String, Timestamp> = newest.into_iter().filter_map(|(arn, at)| Some((arn, at?))).collect();
    for seen in &mut rows {
        // What closed just now ends where this begins.
        let ended = newest.get(&seen.row.analyzer_arn).copied();
        seen.at = ended.map_or(seen.at, |ended| seen.at.max(ended));
    }
    let table = Table::of(&rows)
        .integer("organization_key", |_| i64::from(organization_key))
        .text("analyzer_arn", |seen| seen.row.analyzer_arn.as_str())
        .stamp("valid_from", |seen| seen.at)
        .text("owner_account_id", |seen| seen.row.owner_account_id.as_str())
        .text("region", |seen| seen.row.region.as_str())
        .text("name", |seen| seen.row.name.as_str())
        .text("type", |seen| seen.row.analyzer_type.as_str())
        .text("status", |seen| seen.row.status.as_str())
        .text("status_reason", |seen| seen.row.status_reason.as_deref())
        .text("managed_by", |seen| seen.row.managed_by.as_deref())
        .stamp("created_at", |seen| seen.row.created_at)
        .document("tags", |seen| serde_json::json!(seen.row.tags.0).to_string())
        .done();
    let insert =
        "INSERT INTO analyzer (organization_key, analyzer_arn, valid_from, owner_account_id, region, name, type,
                                        status, status_reason, managed_by, created_at, tags)
                  SELECT organization_key, analyzer_arn, valid_from, owner_account_id, region, name, type,
                         status, status_reason, managed_by, created_at, tags
                  FROM new";
    execute(connection, &table, insert).await.doing(DOING).map(|_| ())
}
