//! `cargo run --example awssim`: the simulated AWS as a server of its own.

#[path = "mod.rs"]
#[expect(dead_code, reason = "the integration tests use the rest of it")]
mod awssim;

use std::path::PathBuf;

use awssim::{Scenario, Sim};
use clap::Parser;

/// A simulated AWS: STS, Organizations, Account Management and IAM Access Analyzer on one port.
///
/// Point any AWS client at it with AWS_ENDPOINT_URL. GET /_sim/truth, /_sim/world, /_sim/counters and /_sim/assumed say
/// what is so; POST /_sim/change changes it.
#[derive(Parser)]
struct Arguments {
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 4566)]
    port: u16,
    /// A TOML file that says what the world is like.
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// Overrides the scenario's seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Overrides the scenario's number of member accounts.
    #[arg(long)]
    accounts: Option<usize>,
    /// Overrides the scenario's latency of every answer.
    #[arg(long)]
    latency_ms: Option<u64>,
    /// Write the environment of a caller to this file once the port is open.
    #[arg(long)]
    environment: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<(), String> {
    let arguments = Arguments::parse();
    let mut scenario = match &arguments.scenario {
        None => Scenario::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Scenario::from_toml(&text).map_err(|error| format!("{}: {error}", path.display()))?
        }
    };
    scenario.seed = arguments.seed.unwrap_or(scenario.seed);
    scenario.accounts = arguments.accounts.unwrap_or(scenario.accounts);
    scenario.latency_ms = arguments.latency_ms.unwrap_or(scenario.latency_ms);

    let sim = Sim::start(&scenario, arguments.port).await.map_err(|error| error.to_string())?;
    let caller = sim.world().caller.clone();
    let environment: String = awssim::server::environment(&sim.url(), &caller)
        .into_iter()
        .map(|(name, value)| format!("export {name}={value}\n"))
        .collect();
    println!("awssim: {} accounts, seed {}, on {}", sim.world().accounts.len(), scenario.seed, sim.url());
    print!("{environment}");
    if let Some(path) = arguments.environment {
        std::fs::write(&path, environment).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    tokio::signal::ctrl_c().await.map_err(|error| error.to_string())
}
