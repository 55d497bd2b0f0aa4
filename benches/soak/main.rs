//! What stays when scans never end: `make soak`, MINUTES=60 by default.
//!
//! The real daemon scans a simulated organization back to back on SQLite; its resident memory and its file descriptors are
//! read after each scan. Then it idles, and what that takes is measured.
#![allow(
    clippy::pedantic,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on says so by panicking, and it measures with the machine's own clock"
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

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use awssim::server::environment;
use awssim::{Scenario, Sim};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Runtime;

/// Accounts of the organization.
const ACCOUNTS: usize = 120;

/// Scans in which caches, pools and buckets find their size. SQLite's caches, 16 MB together, fill as the file grows beyond them: by about
/// 10 kB a scan of what is touched.
const WARM_UP: usize = 400;

/// For how long an idle process is watched.
const IDLE: Duration = Duration::from_secs(60);

/// What a process holds at one moment.
#[derive(Debug, Clone, Copy)]
struct Held {
    megabytes: f64,
    files: usize,
}

fn held(child: &Child) -> Held {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    let files = std::fs::read_dir(format!("/proc/{}/fd", child.id())).expect("its files").count();
    Held { megabytes: kilobytes / 1024.0, files }
}

/// Seconds of processor time so far.
fn cpu(child: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("the process is there");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("its fields").split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("a number")).sum();
    ticks / nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().expect("ticks a second") as f64
}

fn start(sim: &Sim, folder: &std::path::Path, cron: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trustwatch"))
        .arg("run")
        .current_dir(folder)
        .envs(environment(&sim.url(), &sim.world_caller()))
        // As everything under deploy/ has it.
        .env("MALLOC_ARENA_MAX", "2")
        .env("TRUSTWATCH_SCHEDULE__CRON", cron)
        .env("TRUSTWATCH_HTTP__LISTEN", "127.0.0.1:0")
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let log = BufReader::new(child.stderr.take().expect("its log"));
    (child, log.lines().map(|line| line.expect("a line")))
}

fn end(mut child: Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("a signal");
    assert!(child.wait().expect("it ends").success());
}

fn mean(held: &[Held]) -> f64 {
    held.iter().map(|held| held.megabytes).sum::<f64>() / held.len() as f64
}

fn main() {
    let minutes: f64 = std::env::var("MINUTES").map_or(60.0, |minutes| minutes.parse().expect("MINUTES is a number"));
    let runtime = Runtime::new().expect("a runtime");
    let scenario = Scenario { latency_ms: 2, accounts: ACCOUNTS - 2, verify_signatures: false, ..Scenario::default() };
    let sim = runtime.block_on(Sim::start(&scenario, 0)).expect("the simulation starts");
    let folder = tempfile::tempdir().expect("a folder");

    let (child, mut log) = start(&sim, folder.path(), "* * * * * *");
    let begun = Instant::now();
    let mut after: Vec<Held> = Vec::new();
    while begun.elapsed().as_secs_f64() < minutes * 60.0 {
        assert!(log.any(|line| line.contains("scan ended")), "the log ended");
        after.push(held(&child));
    }
    // The log has to be read, or the process would wait for it.
    let reader = std::thread::spawn(move || log.count());
    end(child);
    reader.join().expect("the log ends");
    assert!(after.len() > WARM_UP + 8, "{} scans are too few to tell", after.len());
    println!("{} scans of {ACCOUNTS} accounts in {minutes} minutes", after.len());
    let settled = &after[WARM_UP..];
    for (at, part) in settled.chunks(settled.len().div_ceil(8)).enumerate() {
        println!("eighth {}: {:6.2} MB resident, {} files open", at + 1, mean(part), part[part.len() - 1].files);
    }
    let quarter = settled.len() / 4;
    let (first, last) = (&settled[..quarter], &settled[settled.len() - quarter..]);
    let files = |part: &[Held]| part.iter().map(|held| held.files).max().unwrap_or(0) as f64;

    let (child, mut log) = start(&sim, folder.path(), "0 0 1 1 *");
    assert!(log.any(|line| line.contains("waiting for the schedule")), "the log ended");
    let reader = std::thread::spawn(move || log.count());
    let before = cpu(&child);
    std::thread::sleep(IDLE);
    println!(
        "idle: {:.1} MB resident, {:.0} ms of CPU a minute",
        held(&child).megabytes,
        (cpu(&child) - before) * 1000.0 * 60.0 / IDLE.as_secs_f64()
    );
    end(child);
    reader.join().expect("the log ends");

    let mut goals = goals::Goals::default();
    goals.at_most("resident memory, last quarter against the first", mean(last) / mean(first), 1.02, " ×");
    goals.at_most("files open, last quarter against the first", files(last) / files(first), 1.0, " ×");
    goals.print();
}
