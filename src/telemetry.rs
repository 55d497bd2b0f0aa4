//! Logs: to standard error, for people on a terminal and as JSON elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// What is too loud to be heard by default: `debug` of the SDK and of the HTTP client doubles the CPU of a scan.
const QUIET: &str = "aws_config=error,aws_smithy_http_client=warn,aws_smithy_runtime=warn,aws_runtime=warn,hyper=warn,\
                     hyper_util=warn,sqlx=warn,tokio_cron_scheduler=warn";

/// For whom the log is written where the configuration does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// A person who waits for a command: warnings, as text.
    Person,
    /// Whoever collects the daemon's log: `info`, as JSON unless it is a terminal.
    Collector,
}

/// Starts the log.
///
/// # Errors
/// Where the level cannot be read, which validation has refused before, or a log was started already.
pub fn start(log: &Log, audience: Audience) -> anyhow::Result<()> {
    let default_level = if audience == Audience::Collector { "info" } else { "warn" };
    let level = log.level.as_deref().unwrap_or(default_level);
    let filter = EnvFilter::try_new(format!("{QUIET},{level}"))?;
    let is_terminal = std::io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => audience == Audience::Collector && !is_terminal,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Where nobody listens any more, saying so to nobody would be a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let started = if json {
        subscriber.json().flatten_event(true).try_init()
    } else {
        subscriber.with_ansi(is_terminal).with_target(false).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("starting the log: {error}"))
}
