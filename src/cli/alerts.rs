//! `trustwatch alerts`: the channels that people are told through.

use clap::{Args, Subcommand};

use super::{Context, Failure, load_quietly, say};
use crate::alerts::{Channel, sample};
use crate::clock::{Clock, SystemClock};

/// Try the channels that people are told through.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trustwatch alerts test soc\n  \
    trustwatch query \"SELECT channel, state, count(*) FROM alert_deliveries GROUP BY channel, state\"\n  \
    trustwatch query \"SELECT title, opened_at FROM alert_incidents WHERE closed_at IS NULL\"")]
pub struct Alerts {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send a message that says it is a test, now. It is not kept in the store.
    Test {
        /// The channel's name in the configuration.
        channel: String,
    },
}

impl Alerts {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let Command::Test { channel } = self.command;
        let loaded = load_quietly(context)?;
        let alerts = &loaded.config.alerts;
        let Some(alert) = alerts.iter().find(|alert| alert.name == channel) else {
            let names: Vec<&str> = alerts.iter().map(|alert| alert.name.as_str()).collect();
            let configured = if names.is_empty() { "none; see [[alerts]]".to_owned() } else { names.join(", ") };
            return Err(Failure::Usage(format!("{channel}: no such channel; configured: {configured}")));
        };
        let now = SystemClock.now();
        let opened = Channel::open(alert, &loaded.config.limits).await.map_err(anyhow::Error::from)?;
        let sent = opened.send(&sample(now), now).await;
        sent.map_err(|error| anyhow::anyhow!("alerts `{channel}`: the test was not taken: {error}"))?;
        say(&format!("{channel}: the test was taken"))
    }
}
