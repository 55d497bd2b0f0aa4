//! What more processes bring: `make bench-replicas`.
//!
//! The real binary scans a simulated organization whose every answer takes 200 ms, each process with the same few visits at
//! once: first one alone, then four on the same Postgres.
#![allow(
    clippy::pedantic,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on says so by panicking"
)]

#[path = "../../tests/awssim/mod.rs"]
#[expect(dead_code, reason = "the integration tests use the rest of it")]
mod awssim;
#[path = "../scan/child.rs"]
#[expect(dead_code, reason = "the benchmark of a scan uses it")]
mod child;
#[path = "../scan/goals.rs"]
#[expect(dead_code, reason = "the benchmark of a scan uses the rest of it")]
mod goals;
#[path = "../../tests/it/postgres.rs"]
#[expect(dead_code, reason = "the integration tests use the rest of it")]
mod postgres;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use awssim::server::environment;
use awssim::{Scenario, Sim};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};

/// Accounts of the organization, two of them the owners of its analyzers.
const ACCOUNTS: usize = 800;

/// Visits at once in each process.
const IN_FLIGHT: &str = "8";

const LATENCY_MS: u64 = 200;

/// How often it is looked whether the scan has ended.
const LOOKS: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() {
    let scenario = Scenario { latency_ms: LATENCY_MS, verify_signatures: false, ..Scenario::calm(ACCOUNTS - 2) };
    println!("{ACCOUNTS} accounts, {LATENCY_MS} ms an answer, {IN_FLIGHT} visits at once in each process\n");
    let mut rates = Vec::new();
    for replicas in [1, 4] {
        let rate = visits_per_second(&scenario, replicas).await;
        println!("{replicas} × trustwatch run: {rate:.1} visits a second");
        rates.push(rate);
    }
    let mut goals = goals::Goals::default();
    goals.at_least("visits a second, 4 replicas against 1", rates[1] / rates[0], 3.5, " ×");
    goals.print();
}

/// The visits of one scan by the time from its beginning to its end.
async fn visits_per_second(scenario: &Scenario, replicas: usize) -> f64 {
    let sim = Sim::start(scenario, 0).await.expect("the simulation starts");
    let folder = tempfile::tempdir().expect("a folder");
    let url = postgres::database().await;
    let binary = env!("CARGO_BIN_EXE_trustwatch");
    let migrated = Command::new(binary).args(["migrate", "--store", &url]).current_dir(folder.path()).output();
    assert!(migrated.expect("the binary runs").status.success());
    let start = |_| {
        Command::new(binary)
            .args(["run", "--store", &url])
            .current_dir(folder.path())
            .envs(environment(&sim.url(), &sim.world_caller()))
            .env("TRUSTWATCH_SCHEDULE__CRON", "0 0 1 1 *")
            .env("TRUSTWATCH_LIMITS__ACCOUNTS_IN_FLIGHT", IN_FLIGHT)
            .env("TRUSTWATCH_HTTP__ENABLED", "false")
            .env("TRUSTWATCH_LOG__LEVEL", "warn")
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary runs")
    };
    let children: Vec<Child> = (0..replicas).map(start).collect();
    let mut connection = PgConnection::connect(&url).await.expect("the server answers");
    let ended = "SELECT accounts::float8 / duration_seconds, state,
                        (SELECT count(DISTINCT worker) FROM trustwatch.account_visits)
                 FROM trustwatch.scan_summary WHERE state <> 'running'";
    let (rate, state, workers): (f64, String, i64) = loop {
        if let Some(row) = sqlx::query_as(ended).fetch_optional(&mut connection).await.expect("an answer") {
            break row;
        }
        tokio::time::sleep(LOOKS).await;
    };
    assert_eq!((state.as_str(), workers), ("completed", replicas as i64));
    for mut child in children {
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("a signal");
        assert!(child.wait().expect("it ends").success());
    }
    rate
}
