//! What it costs to read 200,000 findings one by one, and to read them again when one in a thousand has changed.
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
mod child;
#[path = "../scan/goals.rs"]
#[expect(dead_code, reason = "the benchmark of a scan uses the rest of it")]
mod goals;

use std::path::Path;
use std::process::{Command, Stdio};

use awssim::control::Change;
use awssim::server::environment;
use awssim::{Scenario, Sim};

const REGION: &str = "eu-west-1";

/// Of each analyzer.
const FINDINGS: u64 = 200;

/// Megabytes, at most.
const MEMORY: f64 = 200.0;

/// An organization in which each account has an analyzer; and their ARNs.
async fn organization(accounts: usize, findings: u64) -> (Sim, Vec<String>) {
    let scenario = Scenario {
        opt_in_regions: Vec::new(),
        verify_signatures: false,
        findings_per_analyzer: Some(findings),
        ..Scenario::calm(accounts - 2)
    };
    let sim = Sim::start(&scenario, 0).await.expect("the simulation starts");
    let ids: Vec<String> = sim.world().accounts.keys().cloned().collect();
    for account in &ids {
        let (account, region) = (account.clone(), REGION.to_owned());
        sim.change(&Change::AddAnalyzer { account, region, name: "watch".into(), kind: "ACCOUNT".into() });
    }
    let arn = |id: &String| format!("arn:aws:access-analyzer:{REGION}:{id}:analyzer/watch");
    let arns = ids.iter().map(arn).collect();
    (sim, arns)
}

async fn scan(sim: &Sim, folder: &Path) -> child::Cost {
    let mut scan = command(folder, &["scan"]);
    scan.envs(environment(&sim.url(), &sim.world_caller())).env("TRUSTWATCH_FINDINGS__DETAIL", "all");
    scan.stdout(Stdio::null()).stderr(Stdio::null());
    tokio::task::spawn_blocking(move || child::run(&mut scan)).await.expect("it ends")
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trustwatch"));
    command.args(arguments).current_dir(folder);
    command
}

/// The intervals of findings that there are.
fn intervals(folder: &Path) -> u64 {
    let output = command(folder, &["query", "--format", "csv", "SELECT count(*) AS n FROM finding_history"]).output();
    let text = String::from_utf8(output.expect("the binary runs").stdout).expect("text");
    text.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("a number")
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut goals = goals::Goals::default();
    println!("{:<44} {:>9} {:>9} {:>9} {:>10}", "", "wall s", "CPU s", "peak MB", "written");
    for (accounts, findings) in [(100, FINDINGS), (1_000, FINDINGS), (3, 20_000)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (sim, analyzers) = runtime.block_on(organization(accounts, findings));
        let mut before = 0;
        for round in ["first scan", "nothing changed", "0.1 % changed"] {
            if round == "0.1 % changed" {
                analyzers.iter().step_by(5).for_each(|arn| sim.archive_one(arn));
            }
            let cost = runtime.block_on(scan(&sim, folder.path()));
            let written = intervals(folder.path()) - before;
            before += written;
            let what = format!("{accounts} analyzers × {findings} findings, {round}");
            println!(
                "{what:<44} {:>9.2} {:>9.2} {:>9.1} {written:>10}",
                cost.wall.as_secs_f64(),
                cost.cpu,
                cost.peak_megabytes
            );
            if accounts == 1_000 {
                goals.at_most(&format!("200,000 findings, {round}: peak memory"), cost.peak_megabytes, MEMORY, " MB");
                let most = match round {
                    "first scan" => 200_000.0,
                    "nothing changed" => 0.0,
                    _ => 200.0,
                };
                goals.at_most(&format!("200,000 findings, {round}: intervals written"), written as f64, most, "");
            }
        }
    }
    goals.print();
}
