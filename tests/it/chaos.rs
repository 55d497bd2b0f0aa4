//! Scans that are killed, again and again: nothing is lost, nothing is visited twice but what was under way, and nobody who
//! comes back late writes over anything.
//!
//! `TRUSTWATCH_CHAOS_KILLS` says how often, `TRUSTWATCH_CHAOS_OUTAGE` for how many seconds the database is away, and
//! `TRUSTWATCH_CHAOS_GOALS` names a file for the figures: `make chaos`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trustwatch::config;
use trustwatch::store::{self, Access, Store};

use crate::awssim::rng::Rng;
use crate::awssim::server::environment;
use crate::awssim::{Scenario, Sim};
use crate::binary::command;
use crate::daemon::Running;
use crate::support::{Kept, rows};
use crate::{invariants, postgres};

/// Accounts of the organization, the management account and the delegated administrator among them.
const ACCOUNTS: usize = 300;

/// Accounts that one process visits at once: so many visits a kill can cost.
const IN_FLIGHT: u64 = 4;

/// How often the store is asked for what only it knows.
const LOOKS: Duration = Duration::from_millis(20);

fn kills() -> u64 {
    std::env::var("TRUSTWATCH_CHAOS_KILLS").map_or(6, |kills| kills.parse().expect("a number of kills"))
}

/// Says what was held against what, and fails where it does not hold.
fn goal(name: &str, figure: &str, bound: &str, is_met: bool) {
    let line = format!("goal {name}: {figure} ({bound}) {}", if is_met { "met" } else { "short" });
    println!("{line}");
    if let Ok(file) = std::env::var("TRUSTWATCH_CHAOS_GOALS") {
        let mut file = File::options().create(true).append(true).open(file).expect("the file for the figures");
        writeln!(file, "{line}").expect("a line is written");
    }
    assert!(is_met, "{line}");
}

/// Once a year: a daemon scans at its start, and no more.
const ONCE: &str = "0 0 1 1 *";

/// Back to back: what comes due during a scan is made up when it has ended.
const ALL_THE_TIME: &str = "*/2 * * * * *";

/// An organization, and the processes that scan it.
struct Chaos {
    sim: Sim,
    folder: tempfile::TempDir,
    settings: config::Store,
    rng: Rng,
}

impl Chaos {
    async fn begin(kept: Kept, seed: u64) -> Self {
        let sim = Sim::start(&Scenario { latency_ms: 10, ..Scenario::calm(ACCOUNTS - 2) }, 0).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings = config::Store::at(match kept {
            Kept::Sqlite => format!("sqlite://{}", folder.path().join("chaos.db").display()),
            Kept::Postgres => postgres::database().await,
        });
        store::open(&settings, Access::Write { migrate: true }).await.unwrap().close().await;
        Self { sim, folder, settings, rng: Rng::new(seed) }
    }

    /// A daemon that scans at its start and by `cron`, and goes on with what it finds.
    fn start(&self, name: &str, cron: &str) -> Life {
        self.start_with(name, cron, &[])
    }

    fn start_with(&self, name: &str, cron: &str, settings: &[(&str, &str)]) -> Life {
        let log = self.log(name);
        let starts_before = starts(&log);
        let errors = File::options().create(true).append(true).open(&log).unwrap();
        let caller = self.sim.world_caller();
        let child = command(self.folder.path(), &["run"])
            .envs(environment(&self.sim.url(), &caller))
            .env("TRUSTWATCH_STORE__URL", &self.settings.url)
            .env("TRUSTWATCH_STORE__LEASE", "2s")
            .env("TRUSTWATCH_SCHEDULE__CRON", cron)
            .env("TRUSTWATCH_LIMITS__ACCOUNTS_IN_FLIGHT", IN_FLIGHT.to_string())
            .env("TRUSTWATCH_HTTP__ENABLED", "false")
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        Life { child: Running(child), log, starts_before }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    async fn open(&self) -> Arc<dyn Store> {
        store::open(&self.settings, Access::Read).await.unwrap()
    }

    /// Waits until so many more calls were made: a random instant in the life of a process.
    async fn some_calls(&mut self, most: u64) {
        let calls = self.sim.counters().total_calls() + 1 + self.rng.below(most);
        self.sim.counters().reach_in_all(calls).await;
    }

    /// Visits that a process has in flight: accounts that it has claimed and whose visit is not recorded.
    async fn in_flight(&self, store: &dyn Store, process: u32) -> u64 {
        let sql =
            format!("SELECT count(*) FROM claim JOIN worker USING (worker_key) WHERE worker.name LIKE '%:{process}:%'");
        rows(store, &sql).await[0][0].parse().unwrap()
    }

    /// Waits until the scan is over.
    async fn until_done(&self, store: &dyn Store) {
        while rows(store, "SELECT count(*) FROM scan_summary WHERE state = 'running'").await != [["0"]] {
            tokio::time::sleep(LOOKS).await;
        }
    }

    /// What must be true once all scans have ended.
    async fn check(&self, what: &str, in_flight: u64) {
        let store = self.open().await;
        let store = store.as_ref();
        invariants::hold(store, what).await;
        let scans: u64 = rows(store, "SELECT count(*) FROM scan_summary").await[0][0].parse().unwrap();
        let sql = format!("SELECT count(*) FROM scan_summary WHERE state <> 'completed' OR accounts <> {ACCOUNTS}");
        let unfinished: u64 = rows(store, &sql).await[0][0].parse().unwrap();
        goal(&format!("{what}: scans that were not completed"), &unfinished.to_string(), "= 0", unfinished == 0);
        let sql = "SELECT count(*), count(DISTINCT account_id) FROM account_visits GROUP BY scan_id ORDER BY scan_id";
        let results = rows(store, sql).await;
        let each = [ACCOUNTS.to_string(), ACCOUNTS.to_string()];
        let wrong = results.iter().filter(|row| **row != each).count();
        goal(&format!("{what}: scans without one result for each account"), &wrong.to_string(), "= 0", wrong == 0);
        let truth = self.sim.truth("either");
        let truth: BTreeMap<_, _> = truth
            .iter()
            .map(|row| ((row.account_id.clone(), row.region.clone()), row.seen_reason.to_owned()))
            .collect();
        let found = rows(store, "SELECT account_id, region, reason FROM current_coverage").await;
        let found: BTreeMap<_, _> =
            found.into_iter().map(|row| ((row[0].clone(), row[1].clone()), row[2].clone())).collect();
        let differ = found.iter().filter(|(key, reason)| truth.get(*key) != Some(*reason)).count();
        let wrong = differ + truth.len().abs_diff(found.len());
        goal(&format!("{what}: rows that are not the truth"), &wrong.to_string(), "= 0", wrong == 0);
        // The caller's own account needs no role.
        let entered = self.sim.counters().calls("sts:AssumeRole");
        let twice = entered.saturating_sub(scans * (ACCOUNTS as u64 - 1));
        let bound = format!("<= {in_flight}, in flight then");
        goal(&format!("{what}: visits made twice"), &twice.to_string(), &bound, twice <= in_flight);
    }
}

/// A daemon, from its start to its end.
struct Life {
    child: Running,
    log: PathBuf,
    /// How often a daemon had started by this log before this one did.
    starts_before: usize,
}

impl Life {
    fn id(&self) -> u32 {
        self.child.0.id()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id() as i32), signal).unwrap();
    }

    fn kill(&mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }

    /// Tells it to end once it hears signals, as a service manager would, and waits until it has.
    async fn end(mut self) {
        while starts(&self.log) <= self.starts_before {
            tokio::time::sleep(LOOKS).await;
        }
        self.signal(Signal::SIGTERM);
        assert_eq!(self.child.0.wait().unwrap().code(), Some(0));
    }
}

/// How often a daemon began to hear signals, by its log.
fn starts(log: &Path) -> usize {
    text(log).matches("trustwatch starts").count()
}

async fn killed_at_random_instants(kept: Kept) {
    let mut chaos = Chaos::begin(kept, 1).await;
    let store = chaos.open().await;
    let calls_of_a_scan = ACCOUNTS as u64 * 19;
    let mut in_flight = 0;
    for _ in 0..kills() {
        let mut life = chaos.start("one", ONCE);
        // Together these lives make about half the calls of a scan, so that every kill is in the middle of one.
        chaos.some_calls(calls_of_a_scan / kills()).await;
        life.kill();
        in_flight += chaos.in_flight(store.as_ref(), life.id()).await;
        invariants::hold(store.as_ref(), "after a kill").await;
    }
    let life = chaos.start("one", ONCE);
    while rows(store.as_ref(), "SELECT count(*) FROM scan_summary").await == [["0"]] {
        chaos.some_calls(10).await;
    }
    chaos.until_done(store.as_ref()).await;
    life.end().await;
    chaos.check(&format!("{} kills on {kept:?}", kills()), in_flight).await;
}

/// For how long the database is away.
fn outage() -> Duration {
    let seconds = std::env::var("TRUSTWATCH_CHAOS_OUTAGE").map_or(2, |seconds| seconds.parse().expect("seconds"));
    Duration::from_secs(seconds)
}

/// A scan on a server of its own, which is stopped in its middle.
async fn on_a_server_that_stops(max_outage: &str) -> (Chaos, postgres::Server, Life) {
    let server = postgres::start();
    let mut chaos = Chaos::begin(Kept::Postgres, 3).await;
    chaos.settings = config::Store::at(postgres::database_on(&server).await);
    store::open(&chaos.settings, Access::Write { migrate: true }).await.unwrap().close().await;
    let life = chaos.start_with("one", ONCE, &[("TRUSTWATCH_STORE__MAX_OUTAGE", max_outage)]);
    chaos.sim.counters().reach("access-analyzer:ListAnalyzers", ACCOUNTS as u64 * 4).await;
    server.own.as_ref().unwrap().stop();
    (chaos, server, life)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stops_in_the_middle_of_a_scan_and_comes_back_costs_nothing() {
    let (chaos, server, life) = on_a_server_that_stops("10m").await;
    tokio::time::sleep(outage()).await;
    server.own.as_ref().unwrap().start();
    let store = chaos.open().await;
    chaos.until_done(store.as_ref()).await;
    life.end().await;
    let log = text(&chaos.log("one"));
    assert!(log.contains("the database is away, the scan waits for it"), "{log}");
    assert!(log.contains("the database is back: the scan goes on"), "{log}");
    chaos.check(&format!("the database away for {} s", outage().as_secs()), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_too_long_ends_the_scan_as_incomplete() {
    let (chaos, server, life) = on_a_server_that_stops("100ms").await;
    while !text(&chaos.log("one")).contains("it was waited for 100ms (store.max_outage)") {
        tokio::time::sleep(LOOKS).await;
    }
    server.own.as_ref().unwrap().start();
    let store = chaos.open().await;
    chaos.until_done(store.as_ref()).await;
    life.end().await;
    // What it made since then, because the results were stale, comes after it.
    let scans = rows(store.as_ref(), "SELECT state, error FROM scan_summary ORDER BY scan_id").await;
    assert_eq!(scans[0][0], "incomplete");
    assert!(scans[0][1].ends_with("it was waited for 100ms (store.max_outage)"), "{scans:?}");
    invariants::hold(store.as_ref(), "after an outage").await;
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_of_which_one_is_killed_or_stopped_every_moment_complete_the_scan() {
    let mut chaos = Chaos::begin(Kept::Postgres, 2).await;
    let store = chaos.open().await;
    let start = |chaos: &Chaos, number: usize| chaos.start(&number.to_string(), ALL_THE_TIME);
    let mut replicas: Vec<Life> = (0..3).map(|number| start(&chaos, number)).collect();
    let mut in_flight = 0;
    for round in 0..kills() {
        chaos.some_calls(1000).await;
        let unlucky = chaos.rng.below(3) as usize;
        if round % 2 == 0 {
            replicas[unlucky].kill();
            in_flight += chaos.in_flight(store.as_ref(), replicas[unlucky].id()).await;
            replicas[unlucky] = start(&chaos, unlucky);
        } else {
            // Cut off until its lease has ended and others have taken over what it was at; then it comes back.
            replicas[unlucky].signal(Signal::SIGSTOP);
            in_flight += chaos.in_flight(store.as_ref(), replicas[unlucky].id()).await;
            let alive = format!(
                "SELECT count(*) FROM participant JOIN worker USING (worker_key)
                 WHERE worker.name LIKE '%:{}:%' AND alive_until > now()",
                replicas[unlucky].id()
            );
            while rows(store.as_ref(), &alive).await != [["0"]] {
                tokio::time::sleep(LOOKS).await;
            }
            chaos.some_calls(1000).await;
            replicas[unlucky].signal(Signal::SIGCONT);
        }
    }
    for replica in replicas {
        in_flight += chaos.in_flight(store.as_ref(), replica.id()).await;
        replica.end().await;
    }
    let last = chaos.start("last", ONCE);
    chaos.until_done(store.as_ref()).await;
    last.end().await;
    let late = (0..3).map(|number| text(&chaos.log(&number.to_string())).matches("ours is not written").count());
    println!("{} visits came late, and were not written", late.sum::<usize>());
    chaos.check(&format!("{} kills and stops among 3 replicas", kills()), in_flight).await;
    let workers = rows(store.as_ref(), "SELECT count(DISTINCT worker) FROM account_visits").await;
    assert!(workers[0][0].parse::<u64>().unwrap() >= 3, "all take part: {workers:?}");
}

mod killed {
    use super::Kept;

    #[tokio::test(flavor = "multi_thread")]
    async fn on_sqlite() {
        super::killed_at_random_instants(Kept::Sqlite).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn on_postgres() {
        super::killed_at_random_instants(Kept::Postgres).await;
    }
}
