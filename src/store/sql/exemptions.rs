//! Exemptions: what the configuration holds, and what was exempt by it from when to when.

use std::collections::HashMap;

use sqlx::FromRow;

use super::super::engine::{Connection, Pool, execute, fetch};
use super::visits::DOING;
use crate::config::Exemption;
use crate::model::{RegionCoverage, ScanId, Visit};
use crate::store::error::Doing;
use crate::store::table::Table;
use crate::store::timestamp::Timestamp;
use crate::store::{ExemptionUse, StoreError};

/// Says which exemptions a scan is made with.
pub async fn keep(pool: &Pool, scan: ScanId, exemptions: &[Exemption]) -> Result<(), StoreError> {
    const DOING: &str = "keeping the exemptions";
    if exemptions.is_empty() {
        return Ok(());
    }
    // One that stands there twice is one.
    let once: HashMap<String, &Exemption> = exemptions.iter().map(|one| (one.digest(), one)).collect();
    let rows: Vec<(String, &Exemption)> = once.into_iter().collect();
    let table = Table::of(&rows)
        .integer("scan_id", |_| scan)
        .text("digest", |row| row.0.as_str())
        .text("owner", |row| row.1.owner.as_str())
        .text("reason", |row| row.1.reason.as_str())
        .text("ticket", |row| row.1.ticket.as_deref())
        .document("scope", |row| row.1.scope().to_string())
        .stamp("expires_at", |row| Timestamp::from(row.1.expires.0))
        .done();
    let insert = "INSERT INTO exemption (organization_key, digest, owner, reason, ticket, scope, expires_at, scan_id)
                  SELECT scan.organization_key, new.digest, new.owner, new.reason, new.ticket, new.scope, new.expires_at, scan.scan_id
                  FROM new JOIN scan ON scan.scan_id = new.scan_id
                  WHERE scan.organization_key IS NOT NULL
                  ON CONFLICT (organization_key, digest) DO UPDATE SET scan_id = excluded.scan_id";
    let mut connection = pool.acquire().await.doing(DOING)?;
    execute(&mut connection, &table, insert).await.doing(DOING).map(|_| ())
}

/// An exemption that holds.
#[derive(FromRow)]
struct Open {
    account_key: i32,
    region: String,
    valid_from: Timestamp,
    digest: String,
    expires_at: Timestamp,
}

impl Open {
    /// When it ended, seen at an instant: where its time ran out, then and not when that was seen.
    fn ended(&self, at: Timestamp) -> Timestamp {
        let by_itself = self.expires_at.min(at);
        if by_itself > self.valid_from { by_itself } else { at.no_earlier_than(Some(self.valid_from)) }
    }
}

/// Writes what changes with visits, each of the account of its key.
pub async fn write<'v>(
    connection: &mut Connection,
    organization_key: i32,
    visits: &[(i32, &'v Visit)],
) -> Result<(), StoreError> {
    let open = open(connection, visits).await?;
    let seen_at: HashMap<i32, Timestamp> =
        visits.iter().map(|(key, visit)| (*key, Timestamp::from(visit.finished_at))).collect();
    let mut wanted: HashMap<(i32, &str), &str> = HashMap::new();
    for (key, visit) in visits {
        let exempt = |row: &'v RegionCoverage| Some(((*key, row.region.as_str()), row.exemption.as_deref()?));
        wanted.extend(visit.coverage.iter().filter_map(exempt));
    }
    let mut closings: Vec<(i32, String, Timestamp)> = Vec::new();
    for one in &open {
        let place = (one.account_key, one.region.as_str());
        if wanted.get(&place) == Some(&one.digest.as_str()) {
            wanted.remove(&place);
        } else if let Some(at) = seen_at.get(&one.account_key) {
            closings.push((one.account_key, one.region.clone(), one.ended(*at)));
        }
    }
    close(connection, &closings).await?;
    let openings: Vec<((i32, &str), &str)> = wanted.into_iter().collect();
    if openings.is_empty() {
        return Ok(());
    }
    let places =
        Table::of(&openings).integer("account_key", |row| i64::from(row.0.0)).text("region", |row| row.0.1).done();
    let newest = "SELECT exempted.account_key, exempted.region, max(exempted.valid_to)
                  FROM new JOIN exempted ON exempted.account_key = new.account_key AND exempted.region = new.region
                  GROUP BY exempted.account_key, exempted.region";
    let newest: Vec<(i32, String, Option<Timestamp>)> = fetch(connection, &places, newest).await.doing(DOING)?;
    let newest: HashMap<(i32, &str), Timestamp> =
        newest.iter().filter_map(|(key, region, at)| Some(((*key, region.as_str()), (*at)?))).collect();
    // What closed just now ends where this begins.
    let begins = |place: &(i32, &str)| {
        let at = seen_at.get(&place.0).copied();
        at.map(|at| newest.get(place).map_or(at, |ended| at.max(*ended)))
    };
    let table = Table::of(&openings)
        .integer("organization_key", |_| i64::from(organization_key))
        .integer("account_key", |row| i64::from(row.0.0))
        .text("region", |row| row.0.1)
        .stamp("valid_from", |row| begins(&row.0))
        .text("digest", |row| row.1)
        .done();
    let insert = "INSERT INTO exempted (account_key, region, valid_from, exemption_key)
                  SELECT new.account_key, new.region, new.valid_from, exemption.exemption_key
                  FROM new
                  JOIN exemption ON exemption.organization_key = new.organization_key AND exemption.digest = new.digest";
    execute(connection, &table, insert).await.doing(DOING).map(|_| ())
}

/// Ends what is exempt of accounts that have left: `left` has their key, and when.
pub async fn close_all_of(connection: &mut Connection, left: &[(i32, Timestamp)]) -> Result<(), StoreError> {
    let open = open(connection, left).await?;
    let at: HashMap<i32, Timestamp> = left.iter().copied().collect();
    let end = |one: &'_ Open| Some((one.account_key, one.region.clone(), one.ended(*at.get(&one.account_key)?)));
    close(connection, &open.iter().filter_map(end).collect::<Vec<_>>()).await
}

/// What is exempt of accounts.
async fn open<T>(connection: &mut Connection, accounts: &[(i32, T)]) -> Result<Vec<Open>, StoreError> {
    let keys = Table::of(accounts).integer("account_key", |account| i64::from(account.0)).done();
    let statement =
        "SELECT exempted.account_key, exempted.region, exempted.valid_from, exemption.digest, exemption.expires_at
                     FROM new
                     JOIN exempted ON exempted.account_key = new.account_key AND exempted.valid_to IS NULL
                     JOIN exemption ON exemption.exemption_key = exempted.exemption_key";
    fetch(connection, &keys, statement).await.doing(DOING)
}

async fn close(connection: &mut Connection, closings: &[(i32, String, Timestamp)]) -> Result<(), StoreError> {
    if closings.is_empty() {
        return Ok(());
    }
    let table = Table::of(closings)
        .integer("account_key", |row| i64::from(row.0))
        .text("region", |row| row.1.as_str())
        .stamp("at", |row| row.2)
        .done();
    let update = "UPDATE exempted SET valid_to = new.at FROM new
                  WHERE exempted.account_key = new.account_key AND exempted.region = new.region AND exempted.valid_to IS NULL";
    execute(connection, &table, update).await.doing(DOING).map(|_| ())
}

/// Counts what was exempt of a scan that ends.
pub async fn count(connection: &mut Connection, scan: ScanId, at: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO scan_exempt (scan_id, account_regions, not_covered, unknown)
         SELECT scan.scan_id, count(*), count(*) FILTER (WHERE coverage.status = 'not_covered'),
                count(*) FILTER (WHERE coverage.status = 'unknown')
         FROM scan
         JOIN account ON account.organization_key = scan.organization_key AND account.scan_id = scan.scan_id
         JOIN exempted ON exempted.account_key = account.account_key AND exempted.valid_to IS NULL
         JOIN exemption ON exemption.exemption_key = exempted.exemption_key AND exemption.expires_at > $2
         JOIN coverage ON coverage.account_key = exempted.account_key AND coverage.region = exempted.region
                      AND coverage.valid_to IS NULL
         WHERE scan.scan_id = $1
         GROUP BY scan.scan_id",
    )
    .bind(scan)
    .bind(at)
    .execute(connection)
    .await
    .doing(DOING)
    .map(|_| ())
}

/// The exemptions of a scan's organization, the first to end first.
pub async fn uses(pool: &Pool, scan: ScanId) -> Result<Vec<ExemptionUse>, StoreError> {
    sqlx::query_as(
        "SELECT current_exemptions.owner, current_exemptions.reason, current_exemptions.ticket, current_exemptions.scope,
                current_exemptions.expires_at, current_exemptions.account_regions, current_exemptions.not_covered,
                current_exemptions.unknown
         FROM scan
         JOIN organization ON organization.organization_key = scan.organization_key
         JOIN current_exemptions ON current_exemptions.organization_id = organization.organization_id
         WHERE scan.scan_id = $1
         ORDER BY current_exemptions.expires_at, current_exemptions.owner, current_exemptions.reason",
    )
    .bind(scan)
    .fetch_all(pool)
    .await
    .doing("reading the exemptions")
}
