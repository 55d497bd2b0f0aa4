//! What a year costs to keep and to ask: `make bench-history`.
//!
//! 1,000 accounts × 17 regions, scanned every hour; 0.05 % of the account × regions change in each scan, 0.2 % of the visits
//! fail. The year is written with bulk statements, worked out apart from the store; then two of its days are recorded again,
//! visit by visit, through the store, and must come out the same.
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on says so by panicking"
)]

mod build;
mod compare;
mod engine;
#[path = "../../tests/it/postgres.rs"]
#[expect(dead_code, reason = "the integration tests use the rest of it")]
mod postgres;
mod year;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use engine::Db;
use trustwatch::config::Store as Settings;
use trustwatch::model::{
    Discovered, Listed, Reason, Requirement, ScanCost, ScanEnd, ScanId, ScanState, Scope, Trigger, Visit,
};
use trustwatch::store::{self, Access, NewScan, RowSink, Store};
use year::{ACCOUNTS, REGIONS, SCANS, World, scan_at};

const MB: f64 = 1e6;
/// Visits that are recorded together, as the engine does.
const BATCH: usize = 100;
/// Times that a query is asked; the median counts.
const ASKED: usize = 9;
/// Unchanged scans; the average counts.
const UNCHANGED: i64 = 10;

/// One line for each goal.
fn goal(name: &str, figure: f64, unit: &str, bound: f64) {
    let verdict = if figure <= bound { "met" } else { "short" };
    println!("goal {name}: {figure:.1} {unit} (<= {bound} {unit}) {verdict}");
}

/// Counts rows, and lets go of them.
#[derive(Default)]
struct Count(usize);

impl RowSink for Count {
    fn columns(&mut self, _: Vec<String>) {}
    fn row(&mut self, _: Vec<store::Cell>) {
        self.0 += 1;
    }
}

/// The median time of a query, and its rows.
async fn ask(store: &dyn Store, sql: &str) -> (Duration, usize) {
    let mut times = Vec::new();
    let mut rows = 0;
    for _ in 0..=ASKED {
        let begin = Instant::now();
        let mut count = Count::default();
        store.query(sql, &mut count).await.expect("an answer");
        times.push(begin.elapsed());
        rows = count.0;
    }
    // The first one warms the cache.
    times.remove(0);
    times.sort();
    (times[ASKED / 2], rows)
}

/// Records one scan through the store; says how long that took.
pub async fn record(store: &dyn Store, number: i64, world: &World) -> (ScanId, Duration) {
    let at = scan_at(number);
    let visits: Vec<Visit> = (0..ACCOUNTS).map(|account| world.visit(number, account)).collect();
    let begin = Instant::now();
    let scan = NewScan {
        organization_name: "main".into(),
        trigger: Trigger::Schedule,
        scope: Scope::All,
        scheduled_for: Some(at),
        started_at: at,
        requirement: Requirement::Either,
        configuration_hash: "0123456789abcdef".into(),
        version: "0.1.0".into(),
        resumes_from: at,
        alive_from: at,
        begins: true,
    };
    let worker = "bench:1";
    let scan = store.begin_scan(&scan, worker).await.expect("a scan begins").scan_id;
    assert_eq!(store.identify_organization(scan, "o-bench", &[]).await.expect("an organization"), None);
    let discovered =
        Discovered { organization_id: "o-bench".into(), management: None, owners: Vec::new(), owners_known: true };
    store.keep_discovered(scan, &discovered).await.expect("an organization");
    assert!(store.acquire_listing(scan, worker).await.expect("nobody else lists"));
    for batch in visits.chunks(BATCH) {
        let listed: Vec<Listed> =
            batch.iter().map(|visit| Listed { account: visit.account.clone(), is_owner: false }).collect();
        store.add_accounts(scan, worker, &listed).await.expect("accounts are listed");
        store.claim_accounts(scan, worker, u32::MAX, false).await.expect("accounts are claimed");
        let recorded = store.record_visits(scan, batch, worker).await.expect("visits are recorded");
        assert_eq!(recorded.len(), batch.len());
    }
    let end = ScanEnd { state: ScanState::Completed, error: None, list_complete: true };
    store
        .finish_scan(scan, worker, &end, &ScanCost::default(), at + TimeDelta::seconds(30))
        .await
        .expect("a scan ends");
    (scan, begin.elapsed())
}

async fn measure(engine: &str, settings: &Settings) {
    println!("\n{engine}\n");
    store::open(settings, Access::Write { migrate: true }).await.expect("a schema").close().await;
    let mut db = Db::connect(settings).await;
    let begin = Instant::now();
    build::build(&mut db).await;
    println!("a year of {SCANS} scans was written in {:.0} s", begin.elapsed().as_secs_f64());
    let size = db.size().await as f64;
    let appended = db.appended().await * SCANS as f64;
    println!("appending every row would weigh {:.0} MB", appended / MB);
    goal(&format!("{engine} year"), size / MB, "MB", 700.0);
    goal(&format!("{engine} year against appending"), size / appended * 100.0, "%", 5.0);

    // As `trustwatch query` asks: a process that scans has less memory for it.
    let asked = store::open(settings, Access::Read).await.expect("the store opens");
    for (name, bound, sql) in [
        ("current_coverage in full", 150.0, "SELECT * FROM current_coverage".to_owned()),
        (
            "daily trend of a year",
            100.0,
            "SELECT substr(CAST(finished_at AS TEXT), 1, 10) AS day, max(coverage_ratio_last_known), min(measured_ratio)
             FROM scan_summary WHERE scope = 'all' AND state = 'completed' GROUP BY substr(CAST(finished_at AS TEXT), 1, 10)
             ORDER BY day"
                .to_owned(),
        ),
        (
            "state at an instant",
            200.0,
            "SELECT account_id, region, status, reason, analyzer_arn FROM coverage_history
             WHERE valid_from <= '2026-06-01T12:00:00.000000Z' AND (valid_to IS NULL OR valid_to > '2026-06-01T12:00:00.000000Z')"
                .to_owned(),
        ),
        (
            "history of one account",
            10.0,
            format!("SELECT * FROM coverage_history WHERE account_id = '{}' ORDER BY valid_from", year::account_id(500)),
        ),
    ] {
        let (time, rows) = ask(asked.as_ref(), &sql).await;
        println!("{name}: {rows} rows");
        goal(&format!("{engine} {name}"), time.as_secs_f64() * 1e3, "ms", bound);
    }

    asked.close().await;

    let store = store::open(settings, Access::Write { migrate: false }).await.expect("the store opens");
    let store: &Arc<dyn Store> = &store;
    let mut world = World::new();
    (0..SCANS).for_each(|_| world.step());
    // Everything can be read, and one region hangs on the organization's analyzer alone.
    world.failed.fill(false);
    world.known.iter_mut().for_each(|regions| regions[0] = Reason::OrganizationAnalyzer);
    record(store.as_ref(), SCANS + 1, &world).await;
    let before = db.size().await;
    let mut times = Duration::ZERO;
    for number in 2..2 + UNCHANGED {
        times += record(store.as_ref(), SCANS + number, &world).await.1;
    }
    let grown = (db.size().await - before) as f64 / UNCHANGED as f64;
    goal(&format!("{engine} unchanged scan adds"), grown / 1e3, "kB", 150.0);
    goal(&format!("{engine} unchanged scan takes"), times.as_secs_f64() / UNCHANGED as f64, "s", 1.0);
    world.known.iter_mut().for_each(|regions| regions[0] = Reason::NoAnalyzer);
    let (scan, time) = record(store.as_ref(), SCANS + 2 + UNCHANGED, &world).await;
    let mut changed = Count::default();
    let changes = format!("SELECT * FROM coverage_transitions WHERE scan_id = {scan}");
    store.query(&changes, &mut changed).await.expect("an answer");
    println!(
        "a scan in which an organization analyzer is lost changes {} rows and takes {:.2} s",
        changed.0,
        time.as_secs_f64()
    );

    let mut rng = year::Rng::new(11);
    for _ in 0..2 {
        let day = 364 - rng.below(88) as i64;
        compare::day(engine, store.as_ref(), settings, day).await;
    }
    store.close().await;
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    println!("{ACCOUNTS} accounts × {} regions, every hour for a year", REGIONS.len());
    let sqlite = Settings::at(format!("sqlite://{}", folder.path().join("year.db").display()));
    measure("sqlite", &sqlite).await;
    let server = postgres::start();
    let postgres = Settings::at(postgres::database_on(&server).await);
    measure("postgres", &postgres).await;
    let moved = Settings::at(postgres::database_on(&server).await);
    compare::moved(&sqlite, &moved).await;
}
