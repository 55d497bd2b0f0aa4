//! What a scan costs: `make bench-scan`.
//!
//! The real binary scans a simulated organization over HTTP; the simulation runs in this process, so that a child's figures
//! are the scan's alone. Beside it, in the same run and against the same simulation: the wire's floor, the SDK's floor, and
//! the script that an engineer would write. Each row can be asked for by name: `cargo bench --bench scan -- floors weather`.
#![allow(
    clippy::pedantic,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on says so by panicking, and it measures with the machine's own clock"
)]

#[path = "../../tests/awssim/mod.rs"]
#[expect(dead_code, reason = "the integration tests use the rest of it")]
mod awssim;
mod child;
mod floors;
mod goals;
mod rows;
mod subject;

use goals::Goals;

/// A row of the benchmark: its name, and what runs it.
type Row = (&'static str, fn(&mut Goals));

const ROWS: &[Row] = &[
    ("floors", rows::floors),
    ("rates", rows::rates),
    ("weather", rows::weather),
    ("single", rows::single),
    ("large", rows::large),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if floors::asked_for(&arguments) {
        return;
    }
    if let Some(unknown) = arguments.iter().find(|name| ROWS.iter().all(|(row, _)| row != name)) {
        let known: Vec<&str> = ROWS.iter().map(|(row, _)| *row).collect();
        eprintln!("no row is named `{unknown}`; expected any of: {}", known.join(", "));
        std::process::exit(2);
    }
    let mut goals = Goals::default();
    for (_, row) in ROWS.iter().filter(|(name, _)| arguments.is_empty() || arguments.iter().any(|asked| asked == name))
    {
        row(&mut goals);
    }
    goals.print();
}
