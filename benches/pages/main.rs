//! How long pages take: of 3,000 accounts × 34 regions with a year of hourly scans, on either engine, from the real binary.
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on says so by panicking"
)]

#[path = "../scan/child.rs"]
#[expect(dead_code, reason = "other benchmarks use it")]
mod child;
#[path = "../history/engine.rs"]
#[expect(dead_code, reason = "the benchmark of history uses the rest of it")]
mod engine;
#[path = "../scan/goals.rs"]
#[expect(dead_code, reason = "the benchmark of a scan uses the rest of it")]
mod goals;
#[path = "../../tests/it/postgres.rs"]
#[expect(dead_code, reason = "the integration tests use the rest of it")]
mod postgres;
#[path = "../history/year.rs"]
#[expect(dead_code, reason = "the benchmark of history uses the rest of it")]
mod year;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use engine::{Cell, Db};
use trustwatch::config::Store as Settings;
use trustwatch::store::{self, Access};
use year::{Rng, SCANS, account_id};

const ACCOUNTS: usize = 3_000;
const REGIONS: usize = 34;
/// Those that are enabled by default; nothing happens in the others.
const ENABLED: usize = 17;
const OUS: usize = 60;
/// Of the account × regions, in each scan.
const CHANGES: f64 = 0.000_5;
/// Times that a page is asked for; the median counts.
const ASKED: usize = 15;
/// Milliseconds, at the server.
const BOUND: f64 = 100.0;

fn ou(account: usize) -> String {
    format!("o-bench/r-1/ou-{:02}", account % OUS)
}

/// Writes the year into an empty schema: what pages ask of it, and nothing else.
async fn build(db: &mut Db, end: DateTime<Utc>) {
    let at = |scan: i64| end - TimeDelta::hours(SCANS - scan);
    let text = |text: &str| Cell::Text(text.to_owned());
    let mut rng = Rng::new(7);
    db.insert(
        "organization",
        "organization_key, organization_id, name",
        vec![vec![Cell::Int(1), text("o-bench"), text("main")]],
    )
    .await;
    db.insert("worker", "worker_key, name", vec![vec![Cell::Int(1), text("bench:1")]]).await;
    // Of each account × region, the scans that saw it change.
    let mut changes = vec![BTreeSet::from([1_i64]); ACCOUNTS * ENABLED];
    for scan in 2..=SCANS {
        for _ in 0..(ACCOUNTS as f64 * ENABLED as f64 * CHANGES) as usize {
            changes[rng.below(ACCOUNTS * ENABLED)].insert(scan);
        }
    }
    let mut rows = Vec::new();
    let mut covered = 0;
    for account in 0..ACCOUNTS {
        for region in 0..REGIONS {
            let never = BTreeSet::from([1]);
            let scans = changes.get(account * ENABLED + region).filter(|_| region < ENABLED).unwrap_or(&never);
            let scans: Vec<i64> = scans.iter().copied().collect();
            let mut is_covered = rng.below(5) > 0;
            for (nth, scan) in scans.iter().enumerate() {
                let next = scans.get(nth + 1);
                let words = |is_covered| match (region < ENABLED, is_covered) {
                    (false, _) => ("not_applicable", "region_not_opted_in"),
                    (true, true) => ("covered", "account_analyzer"),
                    (true, false) => ("not_covered", "no_analyzer"),
                };
                let ((status, reason), (from_status, from_reason)) = (words(is_covered), words(!is_covered));
                let first = nth == 0;
                rows.push(vec![
                    Cell::Int(account as i64 + 1),
                    Cell::Text(format!("region-{region:02}")),
                    Cell::At(at(*scan)),
                    next.map_or(Cell::Null, |next| Cell::At(at(*next))),
                    text(status),
                    text(reason),
                    Cell::Int(*scan),
                    next.map_or(Cell::Null, |next| Cell::Int(next - 1)),
                    if first { Cell::Null } else { text(from_status) },
                    if first { Cell::Null } else { text(from_reason) },
                    text(if first { "membership" } else { "world" }),
                ]);
                covered += i64::from(next.is_none() && is_covered && region < ENABLED);
                is_covered = !is_covered;
            }
        }
    }
    let open = (ACCOUNTS * ENABLED) as i64;
    let scans = (1..=SCANS).map(|scan| {
        let whole = [ACCOUNTS as i64, ACCOUNTS as i64, 0, 0, 0, (ACCOUNTS * REGIONS) as i64, covered, open - covered];
        let begin = [
            Cell::Int(scan),
            Cell::Int(1),
            text("main"),
            text("schedule"),
            text("all"),
            text("completed"),
            Cell::At(at(scan)),
            Cell::At(at(scan)),
            Cell::At(at(scan) + TimeDelta::minutes(5)),
        ];
        let rest = [(ACCOUNTS * (REGIONS - ENABLED)) as i64, 0, covered, open - covered].map(Cell::Int);
        let end = [text("either"), text("hash"), text("0.1.0")];
        begin.into_iter().chain(whole.map(Cell::Int)).chain(rest).chain(end).collect()
    });
    db.insert(
        "scan",
        "scan_id, organization_key, organization_name, trigger, scope, state, scheduled_for, started_at, finished_at, accounts, \
         accounts_audited, accounts_unreachable, accounts_not_active, accounts_excluded, account_regions, covered, not_covered, \
         not_applicable, unknown, covered_last_known, not_covered_last_known, requirement, configuration_hash, version",
        scans.collect(),
    )
    .await;
    let accounts = (0..ACCOUNTS).map(|account| {
        let name = format!("account-{account}");
        vec![
            Cell::Int(account as i64 + 1),
            Cell::Int(1),
            Cell::Text(account_id(account)),
            Cell::Text(name),
            text("ACTIVE"),
            Cell::Text(ou(account)),
            Cell::At(at(SCANS)),
            Cell::At(at(SCANS)),
            Cell::Int(SCANS),
        ]
    });
    db.insert(
        "account",
        "account_key, organization_key, account_id, name, state, ou_path, checked_at, changed_at, scan_id",
        accounts.collect(),
    )
    .await;
    let columns = "account_key, region, valid_from, valid_to, status, reason, first_scan_id, last_scan_id, from_status, from_reason, cause";
    println!("{} intervals", rows.len());
    db.insert("coverage", columns, rows).await;
    db.gaps().await;
    // As many visits as a fortnight has; an account has no more of use on its page.
    let visits = (SCANS - 336..=SCANS).flat_map(|scan| (1..=ACCOUNTS as i64).map(move |account| (scan, account)));
    let visits = visits.map(|(scan, account)| {
        vec![Cell::Int(scan), Cell::Int(account), Cell::Int(1), Cell::At(at(scan)), Cell::At(at(scan)), text("audited")]
    });
    db.insert("visit", "scan_id, account_key, worker_key, started_at, finished_at, outcome", visits.collect()).await;
    let counts = [850, 200, 850, 0, 850, 200].map(Cell::Int);
    let count = |scan: i64, part: String| {
        [Cell::Int(scan), Cell::Text(part)].into_iter().chain(counts.clone()).collect::<Vec<_>>()
    };
    let names = "covered, not_covered, not_applicable, unknown, covered_last_known, not_covered_last_known";
    let by_ou =
        (1..=SCANS).flat_map(|scan| (0..OUS).map(move |part| (scan, ou(part)))).map(|(scan, part)| count(scan, part));
    db.insert("ou_count", &format!("scan_id, ou_path, {names}"), by_ou.collect()).await;
    let by_region = (1..=SCANS).flat_map(|scan| (0..ENABLED).map(move |part| (scan, format!("region-{part:02}"))));
    let by_region = by_region.map(|(scan, part)| count(scan, part));
    db.insert("region_count", &format!("scan_id, region, {names}"), by_region.collect()).await;
    if matches!(db, Db::Postgres(_)) {
        // As autovacuum has done in such a database; SQLite is asked as it is.
        db.run("VACUUM ANALYZE".into()).await;
    }
}

/// The daemon, and its port.
fn serve(folder: &Path, settings: &Settings) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trustwatch"))
        .arg("run")
        .current_dir(folder)
        .env("TRUSTWATCH_STORE__URL", &settings.url)
        .env("TRUSTWATCH_SCHEDULE__CRON", "0 0 1 1 *")
        .env("TRUSTWATCH_SCHEDULE__ON_START", "never")
        .env("TRUSTWATCH_SCHEDULE__MISSED", "skip")
        .env("TRUSTWATCH_HTTP__LISTEN", "127.0.0.1:0")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut log = BufReader::new(child.stderr.take().expect("a log"));
    let mut line = String::new();
    while !line.contains("the port for health checks and metrics is open") {
        line.clear();
        assert!(log.read_line(&mut line).expect("a log") > 0, "it ended");
    }
    let opened: serde_json::Value = serde_json::from_str(&line).expect("JSON where there is no terminal");
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    (child, opened["address"].as_str().expect("an address").to_owned())
}

/// The median time of a page, and its bytes.
fn ask(address: &str, path: &str) -> (Duration, usize) {
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..=ASKED {
        let begin = Instant::now();
        let mut stream = TcpStream::connect(address).expect("the port answers");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        times.push(begin.elapsed());
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{path}: {}",
            String::from_utf8_lossy(&answer[..400.min(answer.len())])
        );
        bytes = answer.len();
    }
    // The first one warms the cache.
    times.remove(0);
    times.sort();
    (times[ASKED / 2], bytes)
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let mut goals = goals::Goals::default();
    let end = Utc::now() - TimeDelta::minutes(10);
    let yesterday = (end - TimeDelta::days(1)).format("%Y-%m-%d");
    for name in ["SQLite", "Postgres"] {
        let settings = Settings::at(match name {
            "SQLite" => format!("sqlite://{}", folder.path().join("pages.db").display()),
            _ => runtime.block_on(postgres::database()),
        });
        runtime.block_on(async {
            store::open(&settings, Access::Write { migrate: true }).await.expect("the store opens").close().await;
            build(&mut Db::connect(&settings).await, end).await;
        });
        let (mut daemon, address) = serve(folder.path(), &settings);
        println!("\n{name}: {ACCOUNTS} accounts × {REGIONS} regions\n{:<44} {:>9} {:>9}", "page", "ms", "kB");
        for path in [
            "/".to_owned(),
            "/matrix".to_owned(),
            "/matrix?ou=o-bench%2Fr-1%2Fou-07".to_owned(),
            "/matrix?q=account-77".to_owned(),
            "/matrix?show=gaps".to_owned(),
            "/matrix?show=gaps&region=region-03".to_owned(),
            format!("/accounts/{}", account_id(77)),
            format!("/changes?day={yesterday}"),
            format!("/changes?day={yesterday}&show=all"),
            "/scans".to_owned(),
            "/findings".to_owned(),
        ] {
            let (took, bytes) = ask(&address, &path);
            let took = took.as_secs_f64() * 1e3;
            println!("{path:<44} {took:>9.1} {:>9.1}", bytes as f64 / 1e3);
            goals.at_most(&format!("{name} {path}"), took, BOUND, " ms");
        }
        daemon.kill().expect("it is there");
        daemon.wait().expect("it ends");
    }
    goals.print();
}
