//! `cargo run --example awssim`: the simulated AWS as a server of its own.

#[path = "mod.rs"]
#[expect(dead_code, reason = "the integration tests use the rest of it")]
mod awssim;

use std::path::PathBuf;

use awssim::{Scenario, Sim};
use clap::{Parser, Subcommand};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A simulated AWS: STS, Organizations, Account Management and IAM Access Analyzer on one port.
///
/// Point any AWS client at it with AWS_ENDPOINT_URL. GET /_sim/truth, /_sim/world, /_sim/counters and /_sim/assumed say
/// what is so; POST /_sim/change changes it.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
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

#[derive(Subcommand)]
enum Command {
    /// Change the world of a simulation that runs.
    Change {
        /// Where it runs: http://127.0.0.1:4566
        url: String,
        /// A JSON list of changes: [{"suspend_account": {"account": "111111111111"}}]
        changes: String,
    },
}

#[tokio::main]
async fn main() -> Result<(), String> {
    let arguments = Arguments::parse();
    if let Some(Command::Change { url, changes }) = &arguments.command {
        return change(url, changes).await.map_err(|error| format!("{url}: {error}"));
    }
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
    let environment = awssim::server::environment(&sim.url(), &caller)
        .into_iter()
        .fold(String::new(), |text, (name, value)| text + &format!("export {name}={value}\n"));
    println!("awssim: {} accounts, seed {}, on {}", sim.world().accounts.len(), scenario.seed, sim.url());
    print!("{environment}");
    if let Some(path) = arguments.environment {
        std::fs::write(&path, environment).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    tokio::signal::ctrl_c().await.map_err(|error| error.to_string())
}

/// Posts changes to `/_sim/change`, as any HTTP client can.
async fn change(url: &str, changes: &str) -> std::io::Result<()> {
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = tokio::net::TcpStream::connect(host).await?;
    let length = changes.len();
    let head =
        format!("POST /_sim/change HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(changes.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(std::io::Error::other(body.trim().to_owned())) }
}
