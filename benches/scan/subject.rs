//! What is measured: a simulated organization, and the programs that are let loose on it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tokio::runtime::Runtime;

use super::awssim::server::environment;
use super::awssim::world::World;
use super::awssim::{Scenario, Sim};
use super::child::{self, Cost};
use super::goals::Line;

/// The python of the environment that `make bench-scan` prepares, with boto3 in it.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/boto3/bin/python3");
const RIVAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/scan/rival.py");

/// A simulated organization.
pub struct Subject {
    pub sim: Sim,
    pub needed: u64,
    pub account_regions: u64,
    folder: tempfile::TempDir,
    scans: u32,
    runtime: Runtime,
}

impl Subject {
    pub fn begin(scenario: &Scenario) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let sim = runtime.block_on(Sim::start(scenario, 0)).expect("the simulation starts");
        let needed = calls_needed(&sim.world());
        let account_regions = account_regions(&sim.world());
        Self { sim, needed, account_regions, folder: tempfile::tempdir().expect("a folder"), scans: 0, runtime }
    }

    /// Scans into a new database, in a folder without any file, with `settings` as variables of the environment. The calls
    /// needed are known only where every account can be entered.
    pub fn scan(&mut self, name: &'static str, settings: &[(&str, &str)]) -> Line {
        self.scans += 1;
        let mut command = self.command(env!("CARGO_BIN_EXE_trustwatch").as_ref());
        command.args(["scan", "--store"]).arg(self.store()).envs(settings.iter().copied());
        let line = self.measure(name, &mut command);
        Line { needed: Some(self.needed), ..line }
    }

    /// Makes as many calls as a scan needs, without one.
    pub fn floor(&self, name: &'static str, kind: &str, in_flight: u64) -> Line {
        let program = std::env::current_exe().expect("this program");
        let mut command = self.command(program.as_os_str());
        let numbers = [self.needed, in_flight].map(|number| number.to_string());
        command.args([kind, &self.sim.url(), &self.sim.world_caller()]).args(numbers);
        self.measure(name, &mut command)
    }

    /// The script that an engineer would write; `None` where there is no Python to run it.
    pub fn rival(&self) -> Option<Line> {
        if !PathBuf::from(PYTHON).exists() {
            return None;
        }
        let mut command = self.command(PYTHON.as_ref());
        command.arg(RIVAL);
        Some(self.measure("boto3, 64 threads", &mut command))
    }

    /// `(status, reason)` of every account × region of the newest scan's database.
    pub fn rows(&self) -> BTreeMap<(String, String), (String, String)> {
        let mut command = self.command(env!("CARGO_BIN_EXE_trustwatch").as_ref());
        let sql = "SELECT account_id, region, status, reason FROM current_coverage";
        command.args(["query", "--format", "csv", sql, "--store"]).arg(self.store());
        let output = command.stdout(Stdio::piped()).output().expect("the query runs");
        assert!(output.status.success(), "the query ended with {}", output.status);
        let mut reader = csv::Reader::from_reader(output.stdout.as_slice());
        let rows = reader.records().map(|record| record.expect("a row"));
        rows.map(|row| ((row[0].into(), row[1].into()), (row[2].into(), row[3].into()))).collect()
    }

    /// What a perfect observer would have found.
    pub fn truth(&self) -> BTreeMap<(String, String), (String, String)> {
        let truth = self.sim.truth("either").into_iter();
        truth.map(|row| ((row.account_id, row.region), (row.seen_status.into(), row.seen_reason.into()))).collect()
    }

    /// Of the calls since the last program began, those that were throttled.
    pub fn throttled(&self) -> u64 {
        let counters = self.sim.counters().json();
        let operations = counters["operations"].as_object().expect("operations");
        operations.values().filter_map(|operation| operation["throttled"].as_u64()).sum()
    }

    fn store(&self) -> String {
        format!("sqlite://{}", self.folder.path().join(format!("scan-{}.db", self.scans)).display())
    }

    fn command(&self, program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new(program);
        command.envs(environment(&self.sim.url(), &self.sim.world_caller()));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn measure(&self, name: &'static str, command: &mut Command) -> Line {
        self.sim.counters().reset();
        // The simulation lives on while its runtime does, in other threads.
        let _guard = self.runtime.enter();
        let cost: Cost = child::run(command);
        let counters = self.sim.counters().json();
        let count = |name: &str| counters[name].as_u64().unwrap_or(0);
        Line {
            name,
            cost,
            needed: None,
            made: count("calls"),
            account_regions: self.account_regions,
            most_in_flight: count("most_in_flight"),
            connections: count("most_open_connections"),
        }
    }
}

/// Regions that have to be asked, over all accounts.
fn account_regions(world: &World) -> u64 {
    let enabled = |status: &&String| status.as_str() != "DISABLED";
    world.accounts.values().map(|account| account.regions.values().filter(enabled).count() as u64).sum()
}

/// The calls that a scan cannot do without, where every account can be entered: who we are, which organization and who owns its
/// analyzers; the pages of the list; a session for each account but our own; the regions of each, and each region.
pub fn calls_needed(world: &World) -> u64 {
    let accounts = world.accounts.len() as u64;
    if world.organization.is_none() {
        return 2 + 1 + account_regions(world);
    }
    let owners = world.analyzer_owners().len() as u64;
    let who_and_which = 2 + 1 + owners;
    let listing = accounts.div_ceil(20);
    let entering = (accounts - 1) + accounts;
    who_and_which + listing + entering + account_regions(world)
}
