//! The rows of the benchmark.

use std::time::Duration;

use super::awssim::Scenario;
use super::awssim::weather::{Effect, Rule};
use super::goals::{Goals, Line, table};
use super::subject::Subject;

const IN_FLIGHT: u64 = 128;

/// The seventeen regions that an account must opt in to: with the others, all of the partition `aws`.
const OPT_IN: &[&str] = &[
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-south-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-west-1",
    "eu-central-2",
    "eu-south-1",
    "eu-south-2",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
];

/// An organization of this many accounts in seventeen regions; management and delegated administrator are among them.
fn plain(accounts: usize, latency_ms: u64) -> Scenario {
    Scenario { latency_ms, opt_in_regions: Vec::new(), verify_signatures: false, ..Scenario::calm(accounts - 2) }
}

/// The same, with accounts and regions of every awkward kind.
fn awkward(accounts: usize, latency_ms: u64) -> Scenario {
    Scenario { latency_ms, accounts: accounts - 2, verify_signatures: false, empty_pages: false, ..Scenario::default() }
}

fn rule(effect: Effect) -> Rule {
    Rule { service: None, operation: None, account: None, region: None, probability: 1.0, first: None, effect }
}

fn seconds(line: &Line) -> f64 {
    line.cost.wall.as_secs_f64()
}

/// The cheapest of three: what else the machine does only ever adds.
fn best_of_three(mut run: impl FnMut() -> Line) -> Line {
    let mut lines = [run(), run(), run()];
    lines.sort_by_key(|line| line.cost.wall);
    let [best, ..] = lines;
    best
}

pub fn floors(goals: &mut Goals) {
    let mut subject = Subject::begin(&plain(1000, 30));
    let scan = best_of_three(|| subject.scan("trustwatch", &[]));
    let wire = best_of_three(|| subject.floor("(a) bare HTTP", "wire", IN_FLIGHT));
    let sdk = best_of_three(|| subject.floor("(b) one SDK client", "sdk", IN_FLIGHT));
    let rival = subject.rival();
    goals.exactly("calls made", scan.made, subject.needed);
    goals.at_most("wall against the wire", seconds(&scan) / seconds(&wire), 1.3, " ×");
    goals.at_most("CPU against the SDK", scan.cost.cpu / sdk.cost.cpu, 2.0, " ×");
    if let Some(rival) = &rival {
        goals.at_least("wall against boto3", seconds(rival) / seconds(&scan), 20.0, " ×");
        goals.at_least("CPU against boto3", rival.cost.cpu / scan.cost.cpu, 40.0, " ×");
    }
    let lines: Vec<Line> = [scan, wire, sdk].into_iter().chain(rival).collect();
    table("1,000 accounts × 17 regions, 30 ms, 128 in flight, best of three", &lines);
}

pub fn rates(goals: &mut Goals) {
    let mut subject = Subject::begin(&Scenario { aws_rate_limits: true, ..plain(1000, 30) });
    let scan = subject.scan("trustwatch", &[]);
    let (listing, assuming) = (subject.sim.counters().calls("organizations:ListAccounts") as f64, 999.0);
    let bound = f64::max((listing - 12.0) / 8.0, (assuming - 600.0) / 600.0);
    goals.at_most("wall within AWS's rates", seconds(&scan), 1.05 * bound + 1.0, " s");
    goals.at_most("calls throttled", 100.0 * subject.throttled() as f64 / scan.made as f64, 1.0, " %");
    let unknown = subject.rows().values().filter(|(status, _)| status == "unknown").count();
    goals.exactly("rows unknown within AWS's rates", unknown as u64, 0);
    table("1,000 accounts × 17 regions, 30 ms, AWS's request rates enforced", &[scan]);
}

pub fn weather(goals: &mut Goals) {
    const OUT: &str = "eu-west-1";
    let settings = [("TRUSTWATCH_LIMITS__ATTEMPTS", "6"), ("TRUSTWATCH_LIMITS__ATTEMPT_TIMEOUT", "2s")];
    let mut subject = Subject::begin(&awkward(1000, 30));
    let calm = subject.scan("without faults", &settings);
    let sometimes = |probability, effect| Rule { probability, ..rule(effect) };
    let out = Rule { service: Some("access-analyzer".into()), region: Some(OUT.into()), ..rule(Effect::Error503) };
    subject.sim.weather(vec![
        out,
        sometimes(0.05, Effect::Error500),
        sometimes(0.02, Effect::Reset),
        sometimes(0.005, Effect::Hang),
    ]);
    let stormy = subject.scan("with faults", &settings);
    let (found, truth) = (subject.rows(), subject.truth());
    let is_wrong = |(key, expected): &(&(String, String), &(String, String))| {
        let was_asked = expected.0 == "covered" || expected.0 == "not_covered" || expected.1 == "access_denied";
        let is_out = key.1 == OUT && was_asked;
        let row = found.get(*key);
        if is_out {
            row.is_none_or(|row| row.0 != "unknown" || row.1 != "service_error")
        } else {
            row != Some(expected)
        }
    };
    let wrong = truth.iter().filter(is_wrong).count() + found.len().saturating_sub(truth.len());
    goals.exactly("rows that are not the truth under faults", wrong as u64, 0);
    let bound = 2.0 * seconds(&calm) + 2.0 * Duration::from_secs(2).as_secs_f64();
    goals.at_most("wall under faults", seconds(&stormy), bound, " s");

    // One account that always fails: what it takes is taken from nobody else.
    let sick = {
        let world = subject.sim.world();
        let owners = world.analyzer_owners();
        let is_plain = |id: &&String| !owners.contains(*id) && world.accounts[*id].state == "ACTIVE";
        world.accounts.keys().find(is_plain).expect("a plain member").clone()
    };
    let fails = Rule { service: Some("access-analyzer".into()), account: Some(sick.clone()), ..rule(Effect::Error500) };
    // A tenth of the first calls of all others fail as well, and need their retries.
    let first = Rule { service: Some("access-analyzer".into()), first: Some(1), ..rule(Effect::Error500) };
    subject.sim.weather(vec![fails, Rule { probability: 0.1, ..first }]);
    let one_sick = subject.scan("one account always fails", &settings);
    let (found, truth) = (subject.rows(), subject.truth());
    let wrong = truth.iter().filter(|(key, expected)| key.0 != sick && found.get(*key) != Some(expected)).count();
    goals.exactly("rows of others that one failing account cost", wrong as u64, 0);
    let title =
        "1,000 accounts × 17 regions, 30 ms; 5 % errors, 2 % resets, 0.5 % hangs, one region out; 6 attempts, 2 s each";
    // Accounts that cannot be entered need fewer calls than are counted for those that can.
    table(title, &[calm, stormy, one_sick].map(|line| Line { needed: None, ..line }));
}

pub fn single(goals: &mut Goals) {
    let mut subject = Subject::begin(&Scenario { organization: false, ..plain(2, 30) });
    let scan = best_of_three(|| subject.scan("trustwatch", &[]));
    goals.at_most("a single account, cold start to summary", seconds(&scan), 0.4, " s");
    table("a single account × 17 regions, 30 ms, no file", &[scan]);
}

pub fn large(goals: &mut Goals) {
    let regions = |scenario: Scenario| {
        let all = scenario.regions.iter().cloned().chain(OPT_IN.iter().map(|region| (*region).to_owned())).collect();
        Scenario { regions: all, ..scenario }
    };
    let mut peaks = Vec::new();
    for (accounts, name) in [(1000, "1,000 accounts"), (10_000, "10,000 accounts")] {
        let mut subject = Subject::begin(&regions(plain(accounts, 5)));
        let scan = subject.scan(name, &[]);
        peaks.push(scan.cost.peak_megabytes);
        let rows = subject.rows().len() as u64;
        goals.exactly(&format!("{name} × 34: rows"), rows, accounts as u64 * 34);
        goals.at_most(&format!("{name} × 34: connections"), scan.connections as f64, IN_FLIGHT as f64, "");
        table("34 regions, 5 ms", &[scan]);
    }
    goals.at_most("10,000 accounts × 34: peak memory", peaks[1], 120.0, " MB");
    goals.at_most("peak memory against 1,000 accounts", peaks[1] / peaks[0], 1.3, " ×");
}
