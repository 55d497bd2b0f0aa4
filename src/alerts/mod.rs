//! Telling people: incidents are looked for once a scan has ended, and messages are sent, channel by channel.
//!
//! The outbox is in the store. The end of a scan and the word that it is to be looked at are one transaction; so are the incidents
//! of that scan and what each channel is told. A process that dies anywhere leaves nothing untold, and what was sent and not
//! marked is sent again under the same id: at least once. For each channel one process sends at a time, in order.

mod channel;
mod digest;
mod email;
mod guard;
#[cfg(feature = "sns")]
mod sns;
mod text;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use channel::{Channel, SendError, sample};
pub use text::Text;

use crate::clock::Clock;
use crate::config::{Alert, Alerting, Config};
use crate::metrics;
use crate::store::{Attempt, Outgoing, Store, StoreError, bounded};

/// How often it is looked whether there is something to tell.
const LOOKS: Duration = Duration::from_secs(2);

/// How long an attempt may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// For how long a process that says nothing keeps a channel. More than any attempt may take.
const LEASE: Duration = Duration::from_secs(30);

/// After what a message is tried again first. The pause doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause between two attempts to send a message.
const LONGEST_PAUSE: Duration = Duration::from_mins(2);

/// Why there can be no alerts.
#[derive(Debug, thiserror::Error)]
#[error("alerts `{channel}`: {problem}")]
pub struct ChannelError {
    /// The channel.
    pub channel: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What tells people.
pub struct Alerts {
    rules: Alerting,
    told: Vec<Alert>,
    channels: Vec<Channel>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    worker: String,
}

impl Alerts {
    /// Prepares every channel of a configuration. Nothing is sent.
    ///
    /// # Errors
    /// Where a client cannot be built.
    pub async fn open(
        config: &Config,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        worker: String,
    ) -> Result<Self, ChannelError> {
        let mut channels = Vec::new();
        for alert in &config.alerts {
            metrics::alert_channel(&alert.name);
            channels.push(Channel::open(alert, &config.limits).await?);
        }
        Ok(Self { rules: config.alerting.clone(), told: config.alerts.clone(), channels, store, clock, worker })
    }

    /// Tells people until `stop`: side by side, one channel waits for no other.
    pub async fn run(&self, stop: &CancellationToken) {
        self.register().await;
        let channels = self.channels.iter().map(|channel| self.follow(channel, stop));
        futures_util::future::join(self.look(stop), futures_util::future::join_all(channels)).await;
        self.leave().await;
    }

    /// Looks at the scans that have ended, and tells what there is to tell. What is not taken is tried again for so long.
    pub async fn once(&self, patience: Duration) {
        let until = Instant::now() + patience;
        if self.told.is_empty() && bounded(self.store.keep_channels(&[])).await.unwrap_or(true) {
            // Looked for here, they would be told to nobody, and to nobody later.
            warn!("this configuration has no [[alerts]], and another has: incidents are left to whoever tells people");
        } else {
            self.settle_all().await;
        }
        let channels = self.channels.iter().map(|channel| async move {
            loop {
                while self.send_next(channel).await {}
                let has_more = bounded(self.store.has_messages(channel.name())).await.unwrap_or(false);
                if Instant::now() >= until || !has_more {
                    return;
                }
                tokio::time::sleep(LOOKS.min(until - Instant::now())).await;
            }
        });
        futures_util::future::join_all(channels).await;
        self.leave().await;
    }

    /// Registers the channels, so that a process without channels leaves incidents to us.
    async fn register(&self) {
        let names: Vec<&str> = self.told.iter().map(|alert| alert.name.as_str()).collect();
        if let Err(error) = bounded(self.store.keep_channels(&names)).await {
            warn!("the channels are registered with their first message: {error}");
        }
    }

    /// Lets others send. Where that cannot be said, they wait for the end of the lease.
    async fn leave(&self) {
        let _ = bounded(self.store.leave_channels(&self.worker)).await;
    }

    async fn look(&self, stop: &CancellationToken) {
        let mut looks = tokio::time::interval(LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            self.settle_all().await;
            for alert in self.told.iter().filter(|alert| alert.digest.is_some()) {
                if let Err(error) = bounded(digest::keep_if_due(self.store.as_ref(), alert, self.clock.now())).await {
                    // A database that is away is said where scans are made.
                    warn!(alert.channel = alert.name, "the digest waits: {error}");
                }
            }
        }
    }

    async fn settle_all(&self) {
        loop {
            match bounded(self.store.update_incidents(&self.rules, &self.told)).await {
                Ok(None) => return,
                Ok(Some(settled)) if settled.opened + settled.closed > 0 => {
                    info!(scan.id = settled.scan_id, opened = settled.opened, closed = settled.closed, "incidents");
                }
                Ok(Some(_)) => {}
                Err(error) => {
                    warn!("incidents are looked for again: {error}");
                    return;
                }
            }
        }
    }

    async fn follow(&self, channel: &Channel, stop: &CancellationToken) {
        let mut looks = tokio::time::interval(LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            while !stop.is_cancelled() && self.send_next(channel).await {}
        }
    }

    /// Sends the channel's next message; whether another may follow at once.
    async fn send_next(&self, channel: &Channel) -> bool {
        bounded(self.try_next(channel)).await.unwrap_or_else(|error| {
            warn!(alert.channel = channel.name(), "the messages of this channel wait: {error}");
            false
        })
    }

    async fn try_next(&self, channel: &Channel) -> Result<bool, StoreError> {
        if !self.store.has_messages(channel.name()).await? {
            return Ok(false);
        }
        match self.store.take_message(channel.name(), &self.worker, LEASE).await? {
            Some(message) => self.send(channel, &message).await,
            None => Ok(false),
        }
    }

    async fn send(&self, channel: &Channel, message: &Outgoing) -> Result<bool, StoreError> {
        let sent = tokio::time::timeout(PATIENCE, channel.send(&message.event, self.clock.now())).await;
        let sent = sent.unwrap_or_else(|_| Err(SendError(format!("no answer within {} s", PATIENCE.as_secs()))));
        let attempt = match sent {
            Ok(()) => Attempt::Delivered,
            Err(SendError(error)) => {
                let tried_for = message.tried_since.map_or(TimeDelta::zero(), |since| message.now - since);
                if tried_for.to_std().unwrap_or_default() >= self.rules.give_up_after.0 {
                    error!(
                        alert.channel = channel.name(),
                        alert.id = message.event.id,
                        "a message is given up: {error}"
                    );
                    Attempt::GivenUp { error }
                } else {
                    let again_in = pause(message.attempts);
                    if message.attempts == 0 {
                        warn!(
                            alert.channel = channel.name(),
                            alert.id = message.event.id,
                            "a message is tried again: {error}"
                        );
                    }
                    Attempt::Failed { error, again_in }
                }
            }
        };
        let outcome = match attempt {
            Attempt::Delivered => "delivered",
            Attempt::Failed { .. } => "failed",
            Attempt::GivenUp { .. } => "dead",
        };
        metrics::alert_attempt(channel.name(), outcome);
        self.store.end_attempt(message.number, &self.worker, &attempt).await?;
        Ok(!matches!(attempt, Attempt::Failed { .. }))
    }
}

fn pause(attempts: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempts)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let pauses: Vec<u64> = [0, 1, 2, 5, 6, 1_000].iter().map(|attempts| pause(*attempts).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 64, 120, 120]);
    }
}
