//! What a scan costs: `make bench-scan`.
//!
//! The real binary scans a simulated organization over HTTP; the simulation runs in this process, so that the figures of
//! the child are the scan's alone. Calls made are held against calls needed, counted from the world.
#![allow(clippy::pedantic, clippy::expect_used, reason = "a benchmark that cannot go on says so by panicking")]

#[path = "../tests/awssim/mod.rs"]
#[expect(dead_code, reason = "the integration tests use the rest of it")]
mod awssim;

use std::process::Command;
use std::time::{Duration, Instant};

use awssim::server::environment;
use awssim::world::World;
use awssim::{Scenario, Sim};
use nix::sys::resource::{UsageWho, getrusage};

const ACCOUNTS: usize = 200;
const LATENCY_MS: u64 = 30;
const RUNS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut walls = Vec::new();
    let (mut needed, mut made, mut most_in_flight, mut connections) = (0, 0, 0, 0);
    for _ in 0..RUNS {
        let scenario = Scenario {
            latency_ms: LATENCY_MS,
            opt_in_regions: Vec::new(),
            verify_signatures: false,
            ..Scenario::calm(ACCOUNTS - 2)
        };
        let sim = runtime.block_on(Sim::start(&scenario, 0)).expect("the simulation starts");
        let folder = tempfile::tempdir().expect("a folder");
        let caller = sim.world_caller();
        let begin = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_trustwatch"))
            .args(["scan", "--format", "json", "--store"])
            .arg(format!("sqlite://{}", folder.path().join("bench.db").display()))
            .envs(environment(&sim.url(), &caller))
            .current_dir(folder.path())
            .stdout(std::process::Stdio::null())
            .status()
            .expect("the binary runs");
        assert!(status.success(), "the scan ended with {status}");
        walls.push(begin.elapsed());
        needed = calls_needed(&sim.world());
        let counters = sim.counters().json();
        made = counters["calls"].as_u64().unwrap_or(0);
        most_in_flight = counters["most_in_flight"].as_u64().unwrap_or(0);
        connections = counters["most_open_connections"].as_u64().unwrap_or(0);
    }
    walls.sort();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel's accounting");
    let cpu = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let cpu = (cpu(usage.user_time()) + cpu(usage.system_time())) / RUNS as f64;
    let regions = Scenario::default().regions.len();
    let rows = (ACCOUNTS * regions) as f64;
    let floor = Duration::from_millis(LATENCY_MS).mul_f64(needed as f64 / 128.0);
    println!("{ACCOUNTS} accounts × {regions} regions, {LATENCY_MS} ms for each answer, 128 in flight, {RUNS} runs\n");
    println!("calls needed           {needed:>8}");
    println!("calls made             {made:>8}");
    println!("wall, median           {:>8.2} s", walls[RUNS / 2].as_secs_f64());
    println!("wall, fastest          {:>8.2} s", walls[0].as_secs_f64());
    println!("latency's own floor    {:>8.2} s   (calls needed × latency ÷ 128)", floor.as_secs_f64());
    println!("CPU                    {cpu:>8.2} s   ({:.0} µs for each account × region)", cpu / rows * 1e6);
    println!("peak memory            {:>8.1} MB", usage.max_rss() as f64 / 1024.0);
    println!("most in flight         {most_in_flight:>8}");
    println!("most connections       {connections:>8}");
    let verdict = if made == needed { "met" } else { "short" };
    println!("\ngoal calls_made: {made} (= {needed}) {verdict}");
}

/// The calls that a scan cannot do without.
fn calls_needed(world: &World) -> u64 {
    let accounts = world.accounts.len() as u64;
    let owners = world.analyzer_owners().len() as u64;
    let regions: u64 = world
        .accounts
        .values()
        .map(|account| account.regions.values().filter(|status| status.as_str() != "DISABLED").count() as u64)
        .sum();
    let who_and_which = 2 + 1 + owners;
    let listing = accounts.div_ceil(20);
    let entering = (accounts - 1) + accounts;
    who_and_which + listing + entering + regions
}
