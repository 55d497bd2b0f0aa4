//! `trustwatch run`: the daemon.

use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Context, Failure};
use crate::lifecycle::Parts;
use crate::telemetry::{self, Audience, Telemetry};
use crate::{config, daemon, lifecycle};

/// Run as a daemon: scan on the configured schedule until INT or TERM. HUP reads the level of the log anew.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trustwatch run --config /etc/trustwatch/trustwatch.toml\n  \
    TRUSTWATCH_SCHEDULE__CRON='*/30 * * * *' trustwatch run")]
pub struct Run {}

impl Run {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let config::Loaded { config, .. } = context.load()?;
        // Kept to the end: what the end of a scan has to tell is sent, too.
        let telemetry = Arc::new(telemetry::start_with_traces(&config.log, Audience::Collector, &config.tracing)?);
        let level = Arc::clone(&telemetry);
        let stop = CancellationToken::new();
        lifecycle::listen(stop.clone(), Some(config.limits.shutdown_grace.0))?;
        let mut parts = Parts::default();
        let mut hangups = signal(SignalKind::hangup())?;
        let (context, until) = (context.clone(), stop.clone());
        parts.start("the level of the log", async move {
            while until.run_until_cancelled(hangups.recv()).await.flatten().is_some() {
                reload(&context, &level);
            }
            Ok(())
        });
        tracing::info!(version = env!("CARGO_PKG_VERSION"), commit = env!("BUILD_COMMIT"), "trustwatch starts");
        let result = daemon::run(&config, &stop, parts).await;
        if let Err(error) = &result {
            tracing::error!("trustwatch ends: {error:#}");
            return Err(Failure::Reported);
        }
        tracing::info!("trustwatch ends");
        Ok(())
    }
}

/// Takes the level of the log, and nothing else, from the configuration as it is now.
fn reload(context: &Context, telemetry: &Telemetry) {
    let read = context.load().map_err(anyhow::Error::from);
    match read.and_then(|loaded| telemetry.set_level(&loaded.config.log)) {
        Ok(level) => {
            tracing::info!(level, "the level of the log was read anew; everything else holds until the next start");
        }
        Err(problem) => tracing::error!("the level of the log stays as it was: {problem:#}"),
    }
}
