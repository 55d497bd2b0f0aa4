//! Whether what was written in bulk is what the store writes, and whether what was moved is what was there.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::Command;
use std::time::Instant;

use trustwatch::config::Store as Settings;
use trustwatch::store::{self, Access, Cell, RowSink, Store};

use crate::year::{SCANS, World, scan_at};

#[derive(Default)]
struct Rows(Vec<String>);

impl RowSink for Rows {
    fn columns(&mut self, _: Vec<String>) {}
    fn row(&mut self, cells: Vec<Cell>) {
        self.0.push(format!("{cells:?}"));
    }
}

async fn rows(store: &dyn Store, sql: &str) -> Vec<String> {
    let mut rows = Rows::default();
    store.query(sql, &mut rows).await.expect("an answer");
    rows.0.sort();
    rows.0
}

/// Records a day of the year again, through the store, into a database of its own.
pub async fn day(engine: &str, year: &dyn Store, settings: &Settings, day: i64) {
    // The first scan of a UTC day: scan 1 began at 00:17.
    let first = day * 24 + 1;
    let folder = tempfile::tempdir().expect("a folder");
    let again = if settings.is_postgres() {
        Settings { schema: format!("day_{day}"), ..settings.clone() }
    } else {
        Settings::at(format!("sqlite://{}", folder.path().join("day.db").display()))
    };
    let store = store::open(&again, Access::Write { migrate: true }).await.expect("a schema");
    let mut world = World::new();
    (0..first - 2).for_each(|_| world.step());
    // What was known before the day began, and then the last scan before it as it was.
    world.failed.fill(false);
    crate::record(store.as_ref(), first - 2, &world).await;
    for number in first - 1..first + 24 {
        world.step();
        crate::record(store.as_ref(), number, &world).await;
    }
    let (from, to) =
        (scan_at(first).format("%Y-%m-%dT00:00:00.000000Z"), scan_at(first + 24).format("%Y-%m-%dT00:00:00.000000Z"));
    let within = |column: &str| format!("{column} >= '{from}' AND {column} < '{to}'");
    let counts =
        "covered, not_covered, not_applicable, unknown, coverage_ratio, coverage_ratio_last_known, measured_ratio";
    let mut compared = 0;
    for sql in [
        format!(
            "SELECT at, account_id, region, from_status, from_reason, to_status, to_reason, cause, analyzer_arn FROM coverage_transitions WHERE {}",
            within("at")
        ),
        format!(
            "SELECT at, account_id, region, from_status, from_reason, to_status, to_reason, cause FROM coverage_changes WHERE {}",
            within("at")
        ),
        format!(
            "SELECT account_id, region, status, reason, analyzer_arn, valid_from FROM coverage_history WHERE {}",
            within("valid_from")
        ),
        format!(
            "SELECT account_id, region, status, reason, analyzer_arn, last_known_status FROM coverage_history WHERE valid_from < '{to}' AND (valid_to IS NULL OR valid_to >= '{to}')"
        ),
        format!(
            "SELECT account_id, outcome, error_kind, error_message, started_at, finished_at, worker FROM account_visits WHERE {}",
            within("finished_at")
        ),
        format!(
            "SELECT state, started_at, finished_at, accounts, accounts_audited, accounts_unreachable, account_regions, {counts} FROM scan_summary WHERE {}",
            within("started_at")
        ),
        format!("SELECT at, region, {counts} FROM coverage_by_region WHERE {}", within("at")),
        format!("SELECT at, ou_path, {counts} FROM coverage_by_ou WHERE {}", within("at")),
        format!("SELECT at, account_id, {counts} FROM coverage_by_account WHERE {}", within("at")),
    ] {
        let (bulk, recorded) = (rows(year, &sql).await, rows(store.as_ref(), &sql).await);
        assert!(!recorded.is_empty(), "{sql}");
        let differ = bulk.iter().zip(&recorded).find(|(bulk, recorded)| bulk != recorded);
        assert!(
            differ.is_none() && bulk.len() == recorded.len(),
            "{sql}: {} and {} rows, {differ:?}",
            bulk.len(),
            recorded.len()
        );
        compared += recorded.len();
    }
    store.close().await;
    println!("{engine}: day {day}, recorded again through the store, is the same: {compared} rows");
}

/// Hashes of all rows, whatever their order, and how many there are.
#[derive(Default, PartialEq, Eq, Debug)]
struct Sum(u64, u64);

impl RowSink for Sum {
    fn columns(&mut self, _: Vec<String>) {}
    fn row(&mut self, cells: Vec<Cell>) {
        let mut hasher = DefaultHasher::new();
        format!("{cells:?}").hash(&mut hasher);
        self.0 = self.0.wrapping_add(hasher.finish());
        self.1 += 1;
    }
}

const VIEWS: &[&str] = &[
    "current_coverage",
    "coverage_history",
    "coverage_transitions",
    "coverage_changes",
    "scan_summary",
    "scan_calls",
    "coverage_by_region",
    "coverage_by_ou",
    "account_visits",
    "current_analyzers",
    "analyzer_history",
];

/// Moves the year from SQLite to Postgres with the command that a team would use, and compares every view.
pub async fn moved(from: &Settings, to: &Settings) {
    println!("\nmoved from SQLite to Postgres\n");
    let begin = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_trustwatch"))
        .args(["migrate", "--from", &from.url, "--to", &to.url])
        .status()
        .expect("the binary runs");
    assert!(status.success(), "{status}");
    println!("moved and every row compared in {:.0} s", begin.elapsed().as_secs_f64());
    let here = store::open(from, Access::Read).await.expect("the file opens");
    let there = store::open(to, Access::Read).await.expect("the schema opens");
    // By account everything is derived from what the others show: the last day will do.
    let derived = format!("coverage_by_account WHERE scan_id > {}", SCANS - 24);
    let mut differ = BTreeMap::new();
    for view in VIEWS.iter().copied().chain([derived.as_str()]) {
        let sql = format!("SELECT * FROM {view}");
        let (mut left, mut right) = (Sum::default(), Sum::default());
        here.query(&sql, &mut left).await.expect("an answer");
        there.query(&sql, &mut right).await.expect("an answer");
        println!("{view}: {} rows", left.1);
        if left != right {
            differ.insert(view, (left, right));
        }
    }
    here.close().await;
    there.close().await;
    let verdict = if differ.is_empty() { "met" } else { "short" };
    println!("goal moved views that differ: {} (= 0) {verdict}", differ.len());
    assert!(differ.is_empty(), "{differ:?}");
}
