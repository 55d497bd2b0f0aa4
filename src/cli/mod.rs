//! The command line. The only user of clap.

mod alerts;
mod config;
mod doctor;
mod export;
mod findings;
mod migrate;
mod policy;
mod prune;
mod query;
mod remediate;
mod retire;
mod run;
mod scan;
mod status;
mod style;
mod summary;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{Faults, Loaded, Organization, Sources, load};
use crate::lifecycle::INTERRUPTED;
use crate::store::{self, Access, Store, StoreError};
use crate::telemetry::{self, Audience};

/// Is every account of an AWS organization watched for external access, in every region?
///
/// trustwatch lists the accounts of an organization, assumes a role into each, looks for IAM Access Analyzer analyzers in
/// every region, judges each account and region, and keeps the answers with their history in a database that you query
/// with SQL.
#[derive(Debug, Parser)]
#[command(
    name = "trustwatch",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILD_COMMIT"), ")"),
    max_term_width = 100,
    after_help = "Examples:\n  \
        trustwatch doctor                     who am I, and what am I allowed to do?\n  \
        trustwatch scan                       audit the organization once, now\n  \
        trustwatch query \"SELECT status, count(*) FROM current_coverage GROUP BY status\"\n  \
        trustwatch run --config trustwatch.toml\n\n\
        Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 --fail-on matched, 130 interrupted"
)]
struct Arguments {
    /// The configuration file. Without one: trustwatch.toml in the working directory, if it is there.
    #[arg(long, global = true, value_name = "FILE", env = crate::config::FILE_VARIABLE)]
    config: Option<PathBuf>,
    /// The store, instead of the configuration's: sqlite://FILE or postgres://USER@HOST/DATABASE
    #[arg(long, global = true, value_name = "URL")]
    store: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Audit every organization once, now.
    Scan(scan::Scan),
    /// Run as a daemon: scan on the configured schedule until INT or TERM.
    Run(run::Run),
    /// Show how it stands: coverage, its trend, and what changed since yesterday.
    Status(status::Status),
    /// Look at the configuration.
    Config(config::Config),
    /// Bring the database's schema up to date, or move a history from SQLite to Postgres.
    Migrate(migrate::Migrate),
    /// Delete old visits.
    Prune(prune::Prune),
    /// Close an organization that was taken out of the configuration.
    Retire(retire::Retire),
    /// Ask the store a question in SQL. Nothing can be changed.
    Query(query::Query),
    /// Write a report of the results: CSV, JSON, OCSF, Security Hub, JUnit, HTML, Prowler's CSV.
    Export(export::Export),
    /// Propose what closes the gaps, and do it.
    Remediate(remediate::Remediate),
    /// Try the channels that people are told through.
    Alerts(alerts::Alerts),
    /// Review findings: list them, archive what is intended, restore what is not.
    Findings(findings::Findings),
    /// Check credentials, permissions and the database; each line says what to do.
    Doctor(doctor::Doctor),
    /// Print the least-privilege policies of the roles.
    Policy(policy::Policy),
    /// Print a shell's completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Why a command did not do what was asked.
#[derive(Debug)]
enum Failure {
    /// Exit code 2.
    Configuration(Faults),
    /// Exit code 2: what is wrong with the command line.
    Usage(String),
    /// Exit code 1.
    Failed(anyhow::Error),
    /// Exit code 1, and everything was said already.
    Reported,
    /// Exit code 3: `--fail-on` matched.
    Matched(String),
    /// Exit code 130.
    Interrupted,
    /// Exit code 141 (128 + SIGPIPE): whoever read standard output closed it.
    ClosedPipe,
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::Configuration(faults)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure
where
    E: NotFaults,
{
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Every error but [`Faults`], which has an exit code of its own.
trait NotFaults {}
impl NotFaults for anyhow::Error {}
impl NotFaults for std::io::Error {}
impl NotFaults for serde_json::Error {}
impl NotFaults for toml_edit::ser::Error {}
impl NotFaults for crate::store::StoreError {}
impl NotFaults for crate::export::ExportError {}
impl NotFaults for crate::alerts::ChannelError {}
impl NotFaults for crate::remediate::PlanError {}
impl NotFaults for crate::remediate::PlanningError {}
impl NotFaults for crate::remediate::ApplyError {}
impl NotFaults for crate::remediate::ReviewError {}
#[cfg(feature = "security-hub")]
impl NotFaults for crate::security_hub::ImportError {}

/// What every command can ask for.
#[derive(Debug, Clone)]
struct Context {
    file: Option<PathBuf>,
    store: Option<String>,
}

impl Context {
    fn load(&self) -> Result<Loaded, Faults> {
        let flags = self.store.iter().map(|url| ("--store".to_owned(), "store.url".to_owned(), url.clone()));
        load(&Sources { file: self.file.clone(), environment: crate::config::environment(), flags: flags.collect() })
    }
}

/// Parses the command line, runs the command and turns its result into an exit code.
pub fn main() -> ExitCode {
    let Arguments { config: file, store, command } = Arguments::parse();
    let context = Context { file, store };
    match run(&context, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (code, message) = match failure {
                Failure::Configuration(faults) => (2, Some(faults.to_string())),
                Failure::Usage(problem) => (2, Some(problem)),
                Failure::Failed(error) => (1, Some(format!("{error:#}"))),
                Failure::Reported => (1, None),
                Failure::Matched(what) => (3, Some(what)),
                Failure::Interrupted => (INTERRUPTED, None),
                Failure::ClosedPipe => (141, None),
            };
            if let Some(message) = message {
                // Nobody may be listening any more.
                let _ = writeln!(std::io::stderr(), "trustwatch: {message}");
            }
            ExitCode::from(code)
        }
    }
}

fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "trustwatch", &mut text);
            say(String::from_utf8_lossy(&text).trim_end())
        }
        Command::Config(command) => command.run(context),
        Command::Policy(command) => command.run(context),
        Command::Scan(command) => block_on(command.run(context)),
        Command::Run(command) => block_on(command.run(context)),
        Command::Migrate(command) => block_on(command.run(context)),
        Command::Prune(command) => block_on(command.run(context)),
        Command::Retire(command) => block_on(command.run(context)),
        Command::Query(command) => block_on(command.run(context)),
        Command::Remediate(command) => block_on(command.run(context)),
        Command::Export(command) => block_on(command.run(context)),
        Command::Status(command) => block_on(command.run(context)),
        Command::Alerts(command) => block_on(command.run(context)),
        Command::Findings(command) => block_on(command.run(context)),
        Command::Doctor(command) => block_on(command.run(context)),
    }
}

fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    // One TLS provider in the whole process. A second installation is refused, and the first serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}

/// Writes to standard output. Whoever reads it may have read enough, as `head` does: that is an end, not an error.
fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).map_err(closed)
}

/// What the failure of writing to standard output means.
fn closed(error: std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::BrokenPipe { Failure::ClosedPipe } else { Failure::Failed(error.into()) }
}

/// Opens the store that is there. One that is not is a mistake, and not made here.
async fn open_existing(settings: &crate::config::Store, writes: bool) -> Result<Arc<dyn Store>, StoreError> {
    store::schema_version(settings).await?;
    let access = if writes { Access::Write { migrate: settings.migrate_on_start } } else { Access::Read };
    store::open(settings, access).await
}

/// The OUs that `--ou` names, by their ids. A path, as `ou_path` shows it, names the last of its steps.
fn ou_ids(asked: &[String]) -> Result<Vec<String>, Failure> {
    let read = |ou: &String| {
        let id = ou.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let is_id = (id.starts_with("ou-") || id.starts_with("r-"))
            && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        is_id.then(|| id.to_owned()).ok_or_else(|| {
            Failure::Usage(format!("--ou {ou}: expected the id of an OU (ou-…) or of a root (r-…), or its path"))
        })
    };
    asked.iter().map(read).collect()
}

/// Loads the configuration for a command that a person waits for.
fn load_quietly(context: &Context) -> Result<Loaded, Failure> {
    let loaded = context.load()?;
    telemetry::start(&loaded.config.log, Audience::Person)?;
    Ok(loaded)
}

/// The organizations that a command is for: the one that was named, or all.
fn chosen<'a>(loaded: &'a Loaded, name: Option<&str>) -> Result<Vec<&'a Organization>, Failure> {
    let all = &loaded.config.organizations;
    let Some(name) = name else { return Ok(all.iter().collect()) };
    let found: Vec<_> = all.iter().filter(|organization| organization.name == name).collect();
    if found.is_empty() {
        let names: Vec<_> = all.iter().map(|organization| organization.name.as_str()).collect();
        let configured = names.join(", ");
        return Err(Failure::Usage(format!("--organization {name}: no such organization; configured: {configured}")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
