//! How an organization stands, at a glance: what the terminal and the page show alike.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::counted;
use crate::store::query::{ask, instant, literal};
use crate::store::{Cell, Store, StoreError};

/// Points of a trend.
const TREND: usize = 40;

/// How an organization stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Glance {
    /// The newest scan that looked at all accounts.
    pub newest: Option<Newest>,
    /// What changed within a day: only what did.
    pub changes: Vec<Changed>,
    /// What is wrong with the service itself, if anything is.
    pub problems: Vec<String>,
}

/// The newest scan that looked at all accounts: it went through the whole list, though it may have found every role gone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Newest {
    /// Its number.
    pub scan_id: i64,
    /// AWS's id of the organization.
    pub organization_id: String,
    /// When it ended.
    pub at: Option<DateTime<Utc>>,
    /// Whether that was within a day: else nobody knows what changed since.
    pub is_fresh: bool,
    /// Account × regions not covered.
    pub not_covered: i64,
    /// Not known.
    pub unknown: i64,
    /// Exempt.
    pub exempt: i64,
    /// covered / (covered + not covered)
    pub coverage: Figure,
    /// (covered + not covered) / (covered + not covered + unknown)
    pub measured: Figure,
}

/// A share, and how it came about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figure {
    /// Now.
    pub now: Option<f64>,
    /// A day ago; `None` where nobody has looked since.
    pub before: Option<f64>,
    /// In the newest scans, the oldest of these first.
    pub trend: Vec<Option<f64>>,
}

impl Figure {
    /// By how much it moved, in points of a per cent.
    pub fn moved(&self) -> String {
        match (self.now, self.before) {
            (Some(now), Some(before)) if (now - before).abs() < 0.0005 => "as yesterday".to_owned(),
            (Some(now), Some(before)) => format!("{:+.1} since yesterday", (now - before) * 100.0),
            _ => String::new(),
        }
    }
}

/// A kind of change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What became of it.
    pub what: &'static str,
    /// Whether that is bad.
    pub is_bad: bool,
    /// Account × regions in each region, the most first.
    pub by_region: Vec<(String, i64)>,
}

impl Changed {
    /// Account × regions in all regions.
    pub fn sum(&self) -> i64 {
        self.by_region.iter().map(|(_, number)| number).sum()
    }
}

/// How an organization stands, by its name in the configuration.
///
/// # Errors
/// Where the store does not answer.
pub async fn of(store: &dyn Store, name: &str, now: DateTime<Utc>) -> Result<Glance, StoreError> {
    let of = literal(name);
    let yesterday = now - TimeDelta::days(1);
    let newest = newest(store, &of, yesterday).await?;
    let is_fresh = newest.as_ref().is_some_and(|newest| newest.is_fresh);
    let changes = if is_fresh { changes(store, &of, yesterday).await? } else { Vec::new() };
    Ok(Glance { newest, changes, problems: problems(store, &of, now).await? })
}

async fn newest(store: &dyn Store, of: &str, yesterday: DateTime<Utc>) -> Result<Option<Newest>, StoreError> {
    let trend = format!(
        "SELECT finished_at, coverage_ratio, measured_ratio, not_covered, unknown, exempt, scan_id, organization_id
         FROM scan_summary WHERE organization_name = {of} AND whole
         ORDER BY scan_id DESC LIMIT {TREND}"
    );
    let trend = ask(store, &trend).await?.rows;
    let Some(newest) = trend.first() else { return Ok(None) };
    let before = format!(
        "SELECT coverage_ratio, measured_ratio FROM scan_summary
         WHERE organization_name = {of} AND whole AND finished_at <= {}
         ORDER BY scan_id DESC LIMIT 1",
        instant(yesterday)
    );
    let is_fresh = newest[0].instant().is_some_and(|at| at > yesterday);
    let before = if is_fresh { ask(store, &before).await?.rows } else { Vec::new() };
    let figure = |column: usize| Figure {
        now: newest[column].real(),
        before: before.first().and_then(|row| row[column - 1].real()),
        trend: trend.iter().rev().map(|row| row[column].real()).collect(),
    };
    Ok(Some(Newest {
        scan_id: newest[6].whole(),
        organization_id: newest[7].text().to_owned(),
        at: newest[0].instant(),
        is_fresh,
        not_covered: newest[3].whole(),
        unknown: newest[4].whole(),
        exempt: newest[5].whole(),
        coverage: figure(1),
        measured: figure(2),
    }))
}

/// What changed in coverage: what became of it, and whether that is bad, by the statuses before and after.
fn became(from: &str, to: &str) -> Option<(&'static str, bool)> {
    match (from, to) {
        ("covered", "not_covered") => Some(("lost coverage", true)),
        ("not_covered", "covered") => Some(("gained coverage", false)),
        (_, "not_covered") => Some(("new gaps", true)),
        ("covered" | "not_covered", "" | "not_applicable") => Some(("gone, or left out", false)),
        _ => None,
    }
}

async fn changes(store: &dyn Store, of: &str, since: DateTime<Utc>) -> Result<Vec<Changed>, StoreError> {
    // What the first scan of all sees changes nothing. By the instant alone: SQLite would go by the number of the scan, and read all.
    let first = format!(
        "SELECT finished_at FROM scan_summary WHERE organization_name = {of} AND scope = 'all' AND state = 'completed'
         ORDER BY scan_id LIMIT 1"
    );
    let first = ask(store, &first).await?.rows.first().and_then(|row| row[0].instant());
    let answers = format!(
        "SELECT coalesce(from_status, ''), coalesce(to_status, ''), region, count(*) FROM coverage_changes
         WHERE organization_name = {of} AND at > {} GROUP BY from_status, to_status, region",
        instant(first.map_or(since, |first| first.max(since)))
    );
    let unread = format!(
        "SELECT region, count(*) FROM coverage_transitions
         WHERE organization_name = {of} AND at > {} AND to_status = 'unknown' AND cause = 'visibility' GROUP BY region",
        instant(since)
    );
    let mut by_kind: BTreeMap<&str, (bool, BTreeMap<String, i64>)> = BTreeMap::new();
    let mut add = |what, is_bad, region: &Cell, number: &Cell| {
        let (_, regions) = by_kind.entry(what).or_insert((is_bad, BTreeMap::new()));
        *regions.entry(region.text().to_owned()).or_default() += number.whole();
    };
    for row in ask(store, &answers).await?.rows {
        if let Some((what, is_bad)) = became(row[0].text(), row[1].text()) {
            add(what, is_bad, &row[2], &row[3]);
        }
    }
    for row in ask(store, &unread).await?.rows {
        add("became unreadable", true, &row[0], &row[1]);
    }
    let shown = ["lost coverage", "new gaps", "gained coverage", "gone, or left out", "became unreadable"];
    let changed = |what| {
        let (is_bad, regions) = by_kind.remove(what)?;
        let mut by_region: Vec<(String, i64)> = regions.into_iter().collect();
        by_region.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
        Some(Changed { what, is_bad, by_region })
    };
    Ok(shown.into_iter().filter_map(changed).collect())
}

async fn problems(store: &dyn Store, of: &str, now: DateTime<Utc>) -> Result<Vec<String>, StoreError> {
    let mut problems = Vec::new();
    let newest = format!(
        "SELECT scan_id, state, error, started_at FROM scan_summary WHERE organization_name = {of} AND scope = 'all'
         ORDER BY scan_id DESC LIMIT 1"
    );
    for row in ask(store, &newest).await?.rows {
        let (scan, state) = (row[0].whole(), row[1].text());
        match state {
            "completed" => {}
            "running" => {
                let since = row[3].instant().map_or_else(String::new, |at| format!(", begun {}", ago(now - at)));
                problems.push(format!("scan {scan} is running{since}"));
            }
            state => problems.push(format!("scan {scan} is {state}: {}", row[2].text())),
        }
    }
    let unread = format!(
        "SELECT count(*), min(problem) FROM findings_readings WHERE organization_name = {of} AND problem IS NOT NULL"
    );
    for row in ask(store, &unread).await?.rows.iter().filter(|row| row[0].whole() > 0) {
        let analyzers = counted(row[0].whole(), "analyzer");
        problems.push(format!("the findings of {analyzers} could not be read, for example: {}", row[1].text()));
    }
    let untold = format!(
        "SELECT channel, state, count(*), min(error) FROM alert_deliveries
         WHERE (state = 'dead' AND created_at > {}) OR (state = 'pending' AND attempts > 0)
         GROUP BY channel, state ORDER BY channel, state",
        instant(now - TimeDelta::days(7))
    );
    for row in ask(store, &untold).await?.rows {
        let what = if row[1].text() == "dead" { "given up in the last week" } else { "tried again" };
        let messages = counted(row[2].whole(), "message");
        problems.push(format!("channel {}: {messages} {what}: {}", row[0].text(), row[3].text()));
    }
    Ok(problems)
}

/// How long ago.
pub fn ago(span: TimeDelta) -> String {
    let minutes = span.num_minutes().max(0);
    match minutes {
        0 => "just now".to_owned(),
        1..120 => format!("{minutes} min ago"),
        120..2880 => format!("{} h ago", minutes / 60),
        _ => format!("{} days ago", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_move_is_as_yesterday() {
        let moved = |now, before| Figure { now: Some(now), before, trend: Vec::new() }.moved();
        assert_eq!(moved(0.9, Some(0.9001)), "as yesterday");
        assert_eq!(moved(0.9, Some(0.95)), "-5.0 since yesterday");
        assert_eq!(moved(0.9, None), "");
        assert_eq!(
            [ago(TimeDelta::seconds(59)), ago(TimeDelta::hours(3)), ago(TimeDelta::days(3))],
            ["just now", "3 h ago", "3 days ago"]
        );
    }
}
