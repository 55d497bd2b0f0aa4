//! `trustwatch run`: the daemon.

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{Context, Failure};
use crate::telemetry::{self, Audience};
use crate::{daemon, lifecycle};

/// Run as a daemon: scan on the configured schedule until INT or TERM.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trustwatch run --config /etc/trustwatch/trustwatch.toml\n  \
    TRUSTWATCH_SCHEDULE__CRON='*/30 * * * *' trustwatch run")]
pub struct Run {}

impl Run {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = context.load()?;
        telemetry::start(&loaded.config.log, Audience::Collector)?;
        let stop = CancellationToken::new();
        lifecycle::listen(stop.clone())?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), commit = env!("BUILD_COMMIT"), "trustwatch starts");
        let result = daemon::run(&loaded.config, &stop).await;
        if let Err(error) = &result {
            tracing::error!("trustwatch ends: {error:#}");
            return Err(Failure::Reported);
        }
        tracing::info!("trustwatch ends");
        Ok(())
    }
}
