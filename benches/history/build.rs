//! The rows of a year, in bulk.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use trustwatch::model::{Reason, Status};

use crate::engine::{Cell, Db};
use crate::year::{ACCOUNTS, OUS, REGIONS, SCANS, THROTTLED, World, account_id, analyzer, arn, ou, scan_at, visit_at};

/// The visits that `[store.retention]` keeps by default: every one of the last 90 days, one of each day before.
const ALL_VISITS_DAYS: i64 = 90;

struct Open {
    from: DateTime<Utc>,
    reason: Reason,
    before: Option<Reason>,
    cause: &'static str,
    first_scan: i64,
    /// Of an unknown, and of what follows one: the answer before it, and when and in which scan it was last seen.
    last_known: Option<(Reason, DateTime<Utc>, i64)>,
    known_cause: Option<&'static str>,
}

fn word(reason: Option<Reason>) -> Cell {
    reason.map_or(Cell::Null, |reason| Cell::Text(reason.as_str().into()))
}

fn status(reason: Option<Reason>) -> Cell {
    reason.map_or(Cell::Null, |reason| Cell::Text(reason.status().as_str().into()))
}

fn is_unknown(reason: Reason) -> bool {
    reason.status() == Status::Unknown
}

impl Open {
    fn row(&self, account: usize, region: usize, end: Option<(DateTime<Utc>, i64)>) -> Vec<Cell> {
        let hidden = self.last_known.filter(|_| is_unknown(self.reason));
        vec![
            Cell::Int(account as i64 + 1),
            Cell::Text(REGIONS[region].into()),
            Cell::At(self.from),
            end.map_or(Cell::Null, |(at, _)| Cell::At(at)),
            status(Some(self.reason)),
            word(Some(self.reason)),
            arn(account, region, self.reason).map_or(Cell::Null, Cell::Text),
            Cell::Int(self.first_scan),
            end.map_or(Cell::Null, |(_, scan)| Cell::Int(scan)),
            status(self.before),
            word(self.before),
            Cell::Text(self.cause.into()),
            status(self.last_known.map(|known| known.0)),
            word(self.last_known.map(|known| known.0)),
            hidden.map_or(Cell::Null, |known| Cell::At(known.1)),
            hidden.map_or(Cell::Null, |known| Cell::Int(known.2)),
            self.known_cause.map_or(Cell::Null, |cause| Cell::Text(cause.into())),
        ]
    }
}

const COVERAGE: &str = "account_key, region, valid_from, valid_to, status, reason, analyzer_arn, first_scan_id, last_scan_id, \
                        from_status, from_reason, cause, last_known_status, last_known_reason, last_known_at, \
                        last_known_scan_id, known_cause";
const VISIT: &str = "scan_id, account_key, worker_key, started_at, finished_at, outcome, error_kind, error_message";
const COUNTS: &str = "covered, not_covered, not_applicable, unknown, covered_last_known, not_covered_last_known";

/// Covered, not covered, unknown, and the first two with each unknown counted by its last known answer.
#[derive(Default, Clone, Copy)]
struct Counts {
    covered: i64,
    not_covered: i64,
    unknown: i64,
    covered_last_known: i64,
    not_covered_last_known: i64,
}

impl Counts {
    fn add(&mut self, seen: Reason, last_known: Reason) {
        match seen.status() {
            Status::Covered => self.covered += 1,
            Status::NotCovered => self.not_covered += 1,
            _ => self.unknown += 1,
        }
        match last_known.status() {
            Status::Covered => self.covered_last_known += 1,
            Status::NotCovered => self.not_covered_last_known += 1,
            _ => {}
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let Self { covered, not_covered, unknown, covered_last_known, not_covered_last_known } = *self;
        [covered, not_covered, 0, unknown, covered_last_known, not_covered_last_known].map(Cell::Int).into()
    }
}

/// Writes a year into an empty schema.
pub async fn build(db: &mut Db) {
    let mut world = World::new();
    db.insert(
        "organization",
        "organization_key, organization_id, name",
        vec![vec![Cell::Int(1), Cell::Text("o-bench".into()), Cell::Text("main".into())]],
    )
    .await;
    db.insert("worker", "worker_key, name", vec![vec![Cell::Int(1), Cell::Text("bench:1".into())]]).await;
    let mut open: Vec<Vec<Open>> = (0..ACCOUNTS).map(|_| Vec::new()).collect();
    // Of each account, its newest answered visit before the one at hand, and its newest visit at all.
    let mut checked = vec![DateTime::<Utc>::MIN_UTC; ACCOUNTS];
    let mut changed = vec![DateTime::<Utc>::MIN_UTC; ACCOUNTS];
    let mut scans = Vec::new();
    let mut closed = Vec::new();
    let mut visits = Vec::new();
    let mut kept_of_day: Vec<Option<(bool, Vec<Cell>)>> = vec![None; ACCOUNTS];
    let mut day: Option<NaiveDate> = None;
    let (mut region_counts, mut ou_counts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    let all_visits_from = scan_at(SCANS).date_naive() - TimeDelta::days(ALL_VISITS_DAYS);

    for scan in 1..=SCANS {
        world.step();
        let today = scan_at(scan).date_naive();
        if day != Some(today) {
            visits.extend(kept_of_day.iter_mut().filter_map(Option::take).map(|(_, row)| row));
            day = Some(today);
        }
        let mut by_region = [Counts::default(); REGIONS.len()];
        let mut by_ou = [Counts::default(); OUS];
        let mut total = Counts::default();
        for account in 0..ACCOUNTS {
            let at = visit_at(scan, account);
            let failed = world.failed[account];
            for region in 0..REGIONS.len() {
                let seen = world.seen(account, region);
                if scan == 1 {
                    open[account].push(Open {
                        from: at,
                        reason: seen,
                        before: None,
                        cause: "membership",
                        first_scan: scan,
                        last_known: None,
                        known_cause: None,
                    });
                    changed[account] = at;
                } else if open[account][region].reason != seen {
                    let before = &open[account][region];
                    closed.push(before.row(account, region, Some((at, scan - 1))));
                    let (was_unknown, now_unknown) = (is_unknown(before.reason), is_unknown(seen));
                    let last_known =
                        if was_unknown { before.last_known } else { Some((before.reason, checked[account], scan - 1)) };
                    let last_known = last_known.filter(|_| was_unknown || now_unknown);
                    let known_cause = match last_known {
                        _ if !was_unknown || now_unknown => None,
                        None => Some("membership"),
                        Some((reason, ..)) => (reason != seen).then_some("world"),
                    };
                    open[account][region] = Open {
                        from: at,
                        reason: seen,
                        before: Some(before.reason),
                        cause: if was_unknown || now_unknown { "visibility" } else { "world" },
                        first_scan: scan,
                        last_known,
                        known_cause,
                    };
                    changed[account] = at;
                }
                let interval = &open[account][region];
                let last_known =
                    if is_unknown(seen) { interval.last_known.map_or(seen, |known| known.0) } else { seen };
                by_region[region].add(seen, last_known);
                by_ou[account % OUS].add(seen, last_known);
                total.add(seen, last_known);
            }
            checked[account] = at;
            let text = |word: &str| Cell::Text(word.into());
            let row = vec![
                Cell::Int(scan),
                Cell::Int(account as i64 + 1),
                Cell::Int(1),
                Cell::At(at - TimeDelta::milliseconds(900)),
                Cell::At(at),
                text(if failed { "unreachable" } else { "audited" }),
                if failed { text("throttled") } else { Cell::Null },
                if failed { text(THROTTLED) } else { Cell::Null },
            ];
            if today >= all_visits_from {
                visits.push(row);
            } else if !failed || kept_of_day[account].as_ref().is_none_or(|(kept_failed, _)| *kept_failed) {
                kept_of_day[account] = Some((failed, row));
            }
        }
        scans.push(scan_row(scan, &world, &total));
        for (region, counts) in by_region.iter().enumerate() {
            region_counts.push([vec![Cell::Int(scan), Cell::Text(REGIONS[region].into())], counts.cells()].concat());
        }
        for (account, counts) in by_ou.iter().enumerate() {
            ou_counts.push([vec![Cell::Int(scan), Cell::Text(ou(account))], counts.cells()].concat());
        }
        for (service, operation, made) in
            [("sts", "AssumeRole", 999), ("account", "ListRegions", 1000), ("access-analyzer", "ListAnalyzers", 17_000)]
        {
            let row = vec![Cell::Text(service.into()), Cell::Text(operation.into()), Cell::Int(made), Cell::Int(2)];
            calls.push([vec![Cell::Int(scan)], row, vec![Cell::Int(0), Cell::Int(2), Cell::Real(31.5)]].concat());
        }
        if scan == 1 {
            accounts(db, &mut scans).await;
        }
        if scan % 24 == 0 || scan == SCANS {
            db.insert("scan", SCAN, std::mem::take(&mut scans)).await;
            db.insert("coverage", COVERAGE, std::mem::take(&mut closed)).await;
            db.insert("visit", VISIT, std::mem::take(&mut visits)).await;
            db.insert("region_count", &format!("scan_id, region, {COUNTS}"), std::mem::take(&mut region_counts)).await;
            db.insert("ou_count", &format!("scan_id, ou_path, {COUNTS}"), std::mem::take(&mut ou_counts)).await;
            let columns = "scan_id, service, operation, calls, retries, throttled, errors, seconds";
            db.insert("scan_call", columns, std::mem::take(&mut calls)).await;
        }
    }
    let rows = open.iter().enumerate();
    let rows = rows
        .flat_map(|(account, regions)| regions.iter().enumerate().map(move |(at, open)| open.row(account, at, None)));
    db.insert("coverage", COVERAGE, rows.collect()).await;
    db.gaps().await;
    db.newest_visits(SCANS, &checked, &changed).await;
}

/// Every account, and its analyzer, after the scan that saw them first.
async fn accounts(db: &mut Db, scans: &mut Vec<Vec<Cell>>) {
    db.insert("scan", SCAN, std::mem::take(scans)).await;
    let text = |word: &str| Cell::Text(word.to_owned());
    let account = |account: usize| {
        let (id, name) = (Cell::Text(account_id(account)), Cell::Text(format!("account-{account}")));
        vec![
            Cell::Int(account as i64 + 1),
            Cell::Int(1),
            id,
            name,
            text("ACTIVE"),
            Cell::Text(ou(account)),
            Cell::Int(1),
        ]
    };
    let columns = "account_key, organization_key, account_id, name, state, ou_path, scan_id";
    db.insert("account", columns, (0..ACCOUNTS).map(account).collect()).await;
    let row = |account: usize| {
        let analyzer = analyzer(account);
        let created_at = analyzer.created_at.map_or(Cell::Null, Cell::At);
        vec![
            Cell::Int(1),
            Cell::Text(analyzer.arn),
            Cell::At(visit_at(1, account)),
            Cell::Text(account_id(account)),
            text("us-east-1"),
            Cell::Text(analyzer.name),
            Cell::Text(analyzer.analyzer_type),
            Cell::Text(analyzer.status),
            created_at,
            text(r#"{"team":"security"}"#),
        ]
    };
    let columns =
        "organization_key, analyzer_arn, valid_from, owner_account_id, region, name, type, status, created_at, tags";
    db.insert("analyzer", columns, (0..ACCOUNTS).map(row).collect()).await;
}

const SCAN: &str = "scan_id, organization_key, organization_name, trigger, scope, state, scheduled_for, started_at, \
                    finished_at, accounts, accounts_audited, accounts_unreachable, accounts_not_active, accounts_excluded, \
                    account_regions, covered, not_covered, not_applicable, unknown, covered_last_known, \
                    not_covered_last_known, requirement, configuration_hash, version";

fn scan_row(scan: i64, world: &World, total: &Counts) -> Vec<Cell> {
    let failed = world.failed.iter().filter(|failed| **failed).count() as i64;
    let text = |word: &str| Cell::Text(word.into());
    let at = scan_at(scan);
    let accounts = ACCOUNTS as i64;
    let head = vec![Cell::Int(scan), Cell::Int(1), text("main"), text("schedule"), text("all"), text("completed")];
    let times = vec![Cell::At(at), Cell::At(at), Cell::At(at + TimeDelta::seconds(30))];
    let outcomes = [accounts, accounts - failed, failed, 0, 0, accounts * REGIONS.len() as i64].map(Cell::Int).to_vec();
    let tail = vec![text("either"), text("0123456789abcdef"), text("0.1.0")];
    [head, times, outcomes, total.cells(), tail].concat()
}
