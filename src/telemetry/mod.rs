//! Logs, to standard error, for people on a terminal and as JSON elsewhere; and traces, where the configuration asks for them.

#[cfg(feature = "otlp")]
mod otlp;

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{Log, LogFormat, Tracing};

/// What is too loud to be heard by default: `debug` of the SDK and of the HTTP client doubles the CPU of a scan.
const QUIET: &str = "aws_config=error,aws_smithy_http_client=warn,aws_smithy_runtime=warn,aws_runtime=warn,hyper=warn,\
                     hyper_util=warn,sqlx=warn,tokio_cron_scheduler=warn,opentelemetry=warn,opentelemetry_sdk=warn,\
                     opentelemetry_otlp=warn,opentelemetry-otlp=warn,reqwest=warn";

/// For whom the log is written where the configuration does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// A person who waits for a command: warnings, as text.
    Person,
    /// Whoever collects the daemon's log: `info`, as JSON unless it is a terminal.
    Collector,
}

/// The log of this process, whose level can be changed while it runs; and its traces, which are sent to the end when this is
/// dropped.
pub struct Telemetry {
    audience: Audience,
    filter: reload::Handle<EnvFilter, Registry>,
    #[cfg(feature = "otlp")]
    _traces: Option<otlp::Traces>,
}

impl Telemetry {
    /// Sets the level anew, as a configuration says.
    ///
    /// # Errors
    /// Where the level cannot be read, which validation has refused before.
    pub fn set_level(&self, log: &Log) -> anyhow::Result<String> {
        let level = level(log, self.audience);
        self.filter.reload(filter(level)?).context("changing the level of the log")?;
        Ok(level.to_owned())
    }
}

fn level(log: &Log, audience: Audience) -> &str {
    log.level.as_deref().unwrap_or(if audience == Audience::Collector { "info" } else { "warn" })
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    Ok(EnvFilter::try_new(format!("{QUIET},{level}"))?)
}

/// Starts the log, and no traces: of a command that a person waits for.
///
/// # Errors
/// As [`start_with_traces`].
pub fn start(log: &Log, audience: Audience) -> anyhow::Result<Telemetry> {
    start_with_traces(log, audience, &Tracing::default())
}

/// Starts the log, and traces where they are asked for.
///
/// # Errors
/// Where the level cannot be read, which validation has refused before, a log was started already, or traces are asked for
/// that this binary cannot send.
pub fn start_with_traces(log: &Log, audience: Audience, tracing: &Tracing) -> anyhow::Result<Telemetry> {
    let (filter, handle) = reload::Layer::new(filter(level(log, audience))?);
    let is_terminal = std::io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => audience == Audience::Collector && !is_terminal,
    };
    // Where nobody listens any more, saying so to nobody would be a panic.
    let lines = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_ansi(is_terminal).with_target(false).boxed()
    };
    #[cfg(feature = "otlp")]
    let traces = otlp::Traces::start(tracing)?;
    #[cfg(not(feature = "otlp"))]
    anyhow::ensure!(
        tracing.otlp_endpoint.is_none(),
        "tracing.otlp_endpoint: this trustwatch was built without OTLP; build it with `--features otlp`, or leave the key out"
    );
    let subscriber = Registry::default().with(filter).with(lines);
    #[cfg(feature = "otlp")]
    let subscriber = subscriber.with(traces.as_ref().map(otlp::Traces::layer));
    subscriber.try_init().map_err(|error| anyhow::anyhow!("starting the log: {error}"))?;
    Ok(Telemetry {
        audience,
        filter: handle,
        #[cfg(feature = "otlp")]
        _traces: traces,
    })
}
