//! What a report of a large organization costs: every format, of 340,000 rows and of a hundredth of them.
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

use awssim::server::environment;
use awssim::{Scenario, Sim};

const FORMATS: &[&str] = &["csv", "json", "ndjson", "ocsf", "asff", "junit", "html", "prowler-csv"];

/// As many as AWS names for an account.
const REGIONS: usize = 34;

/// Megabytes, whatever the number of rows.
const MEMORY: f64 = 60.0;

/// A database with this many accounts × 34 regions, made as it is always made.
async fn scanned(accounts: usize, folder: &Path) {
    let plain = Scenario { opt_in_regions: Vec::new(), verify_signatures: false, ..Scenario::calm(accounts - 2) };
    let more = (plain.regions.len()..REGIONS).map(|number| format!("eu-more-{number}"));
    let regions = plain.regions.iter().cloned().chain(more).collect();
    let sim = Sim::start(&Scenario { regions, ..plain }, 0).await.expect("the simulation starts");
    let mut scan = command(folder, &["scan"]);
    scan.envs(environment(&sim.url(), &sim.world_caller()));
    let status = tokio::task::spawn_blocking(move || scan.status().expect("the binary runs")).await.expect("it ends");
    assert!(status.success());
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trustwatch"));
    command.args(arguments).current_dir(folder).stdout(Stdio::null());
    command
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut goals = goals::Goals::default();
    for accounts in [100, 10_000] {
        let folder = tempfile::tempdir().expect("a folder");
        runtime.block_on(scanned(accounts, folder.path()));
        println!(
            "\n{accounts} accounts × 34 regions\n{:<12} {:>9} {:>9} {:>9}",
            "format", "wall s", "CPU s", "peak MB"
        );
        for format in FORMATS {
            let cost = child::run(&mut command(folder.path(), &["export", "--format", format, "--out", "report"]));
            let wall = cost.wall.as_secs_f64();
            println!("{format:<12} {wall:>9.2} {:>9.2} {:>9.1}", cost.cpu, cost.peak_megabytes);
            if accounts == 10_000 {
                goals.at_most(&format!("{format} of 340,000 rows: peak memory"), cost.peak_megabytes, MEMORY, " MB");
            }
        }
    }
    goals.print();
}
