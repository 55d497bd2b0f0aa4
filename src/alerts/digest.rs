//! How it stands, told at a time of the day or the week.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::config::Alert;
use crate::model::{Account, CronLine, Event, EventKind, OwnedBy, Region, Severity, Standing, counted};
use crate::store::query::{ask, instant, literal};
use crate::store::{Cell, RowSink, Store, StoreError};

/// Incidents that are named of each organization.
const NAMED: usize = 10;

/// Keeps the digest of a channel whose time has come, unless it is kept. One that was missed is made up for, once.
pub async fn keep_if_due(store: &dyn Store, alert: &Alert, now: DateTime<Utc>) -> Result<(), StoreError> {
    let Some(digest) = &alert.digest else { return Ok(()) };
    // Both were checked with the configuration.
    let (Ok(cron), Ok(zone)) = (CronLine::parse(&digest.cron), digest.time_zone.parse::<Tz>()) else { return Ok(()) };
    let Some(due) = cron.newest_until(now, zone) else { return Ok(()) };
    let id = format!("digest/{}", due.timestamp());
    let last = ask(
        store,
        &format!(
            "SELECT max(created_at), count(*) FILTER (WHERE event_id = {}) FROM alert_deliveries WHERE channel = {} AND kind = 'digest'",
            literal(&id),
            literal(&alert.name)
        ),
    )
    .await?;
    let Some([last, kept]) = last.rows.first().map(Vec::as_slice) else { return Ok(()) };
    // A digest that the channel had later than that, by another cron, counts as well.
    if kept.whole() > 0 || last.instant().is_some_and(|last| last >= due) {
        return Ok(());
    }
    let since = last.instant().or_else(|| cron.newest_until(due - chrono::TimeDelta::seconds(1), zone)).unwrap_or(due);
    let standings = standings(store, alert, since).await?;
    let open: u64 = standings.iter().map(|standing| standing.open_incidents).sum();
    let event = Event {
        id,
        kind: EventKind::Digest,
        severity: Severity::Low,
        title: format!("digest: {} open, since {}", counted(open, "incident"), since.format("%Y-%m-%d %H:%M UTC")),
        at: due,
        organization_name: None,
        organization_id: None,
        scan_id: None,
        incidents: Vec::new(),
        standings,
        since: Some(since),
    };
    store.keep_digest(&alert.name, &event).await
}

/// How each organization stands, as far as a channel is concerned.
async fn standings(store: &dyn Store, alert: &Alert, since: DateTime<Utc>) -> Result<Vec<Standing>, StoreError> {
    let mut now = Now { alert, standings: BTreeMap::new(), accounts: BTreeSet::new() };
    let sql = "SELECT organization_name, account_id, account_name, ou_path, account_owner, team, region, status, exempt FROM current_coverage";
    store.query(sql, &mut now).await?;
    let mut changed = Changed { now };
    let sql = format!(
        "SELECT organization_name, account_id, region, from_status, to_status FROM coverage_changes
         WHERE at > {} AND (from_status = 'covered' AND to_status = 'not_covered' OR from_status = 'not_covered' AND to_status = 'covered')",
        instant(since)
    );
    store.query(&sql, &mut changed).await?;
    let mut standings = changed.now.standings;
    // In the numbers that the channel was told.
    let open = format!(
        "SELECT alert_deliveries.organization_name, alert_deliveries.event, alert_incidents.opened_at
         FROM alert_deliveries JOIN alert_incidents ON alert_incidents.incident_id = alert_deliveries.incident_id
         WHERE alert_deliveries.channel = {} AND alert_incidents.closed_at IS NULL
         ORDER BY alert_deliveries.delivery_id DESC",
        literal(&alert.name)
    );
    for row in ask(store, &open).await?.rows {
        let [name, event, opened] = row.as_slice() else { continue };
        let Some(standing) = standings.get_mut(name.text()) else { continue };
        standing.open_incidents += 1;
        let Ok(event) = serde_json::from_str::<Event>(event.text()) else { continue };
        for incident in event.incidents.iter().take(NAMED.saturating_sub(standing.open.len())) {
            let opened = opened.instant().map(|at| at.format("%Y-%m-%d").to_string()).unwrap_or_default();
            standing.open.push(format!("{}, since {opened}", incident.title));
        }
    }
    Ok(standings.into_values().collect())
}

/// Counts what holds now.
struct Now<'a> {
    alert: &'a Alert,
    standings: BTreeMap<String, Standing>,
    /// The accounts that the channel is for.
    accounts: BTreeSet<String>,
}

impl RowSink for Now<'_> {
    fn columns(&mut self, _: Vec<String>) {}

    fn row(&mut self, cells: Vec<Cell>) {
        let [name, id, account_name, ou, owner, team, region, status, exempt] = cells.as_slice() else { return };
        if !self.alert.is_for_organization(name.text()) {
            return;
        }
        let some = |cell: &Cell| Some(cell.text().to_owned()).filter(|text| !text.is_empty());
        let Ok(account_id) = id.text().parse() else { return };
        let owned_by = OwnedBy { owner: some(owner), team: some(team) };
        let account = Account::kept(account_id, account_name.text().to_owned(), some(ou), owned_by);
        if !self.alert.is_for(&account, &Region::new(region.text())) {
            return;
        }
        if !self.accounts.contains(id.text()) {
            self.accounts.insert(id.text().to_owned());
        }
        let standing = self
            .standings
            .entry(name.text().to_owned())
            .or_insert_with(|| Standing { organization_name: name.text().to_owned(), ..Standing::default() });
        match status.text() {
            "covered" => standing.covered += 1,
            "not_covered" => {
                standing.not_covered += 1;
                standing.exempt += u64::from(exempt.whole() == 1);
            }
            "unknown" => standing.unknown += 1,
            _ => {}
        }
    }
}

/// Counts what has changed.
struct Changed<'a> {
    now: Now<'a>,
}

impl RowSink for Changed<'_> {
    fn columns(&mut self, _: Vec<String>) {}

    fn row(&mut self, cells: Vec<Cell>) {
        let [name, id, region, from, _] = cells.as_slice() else { return };
        let is_for = self.now.accounts.contains(id.text()) && self.now.alert.is_for_region(region.text());
        let Some(standing) = self.now.standings.get_mut(name.text()).filter(|_| is_for) else { return };
        if from.text() == "covered" {
            standing.lost += 1;
        } else {
            standing.gained += 1;
        }
    }
}
