//! How the process ends: the first signal asks, the second insists, and the end of the grace does too. And how its parts do: a
//! part that ends by itself, or panics, ends the whole.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::anyhow;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// The exit code of a process that was interrupted (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// What comes after the grace of visits under way: handing the rest back, and closing the store.
const CLOSING: Duration = Duration::from_secs(10);

/// Cancels `stop` at the first INT or TERM, and ends the process at the second, or where it has not ended by itself some time
/// after its grace: what was recorded stays recorded.
///
/// # Errors
/// Where the operating system does not let us listen.
pub fn listen(stop: CancellationToken, grace: Option<Duration>) -> std::io::Result<JoinHandle<()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    #[expect(clippy::disallowed_methods, reason = "the lifecycle spawns what the rest of the process is ended by")]
    let listener = tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        tokio::select! {
            () = next() => {
                info!("signal: ending in an orderly way");
                stop.cancel();
            }
            // A part has failed.
            () = stop.cancelled() => {}
        }
        let too_long = async {
            match grace {
                Some(grace) => tokio::time::sleep(grace + CLOSING).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = next() => {
                warn!("second signal: ending at once");
                std::process::exit(i32::from(INTERRUPTED));
            }
            () = too_long => {
                error!("the end takes too long (limits.shutdown_grace and {} s more): ending at once", CLOSING.as_secs());
                std::process::exit(1);
            }
        }
    });
    Ok(listener)
}

/// The parts of a process that run side by side.
#[derive(Default)]
pub struct Parts {
    running: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, String>,
}

impl Parts {
    /// Starts a part.
    pub fn start<F>(&mut self, name: impl Into<String>, part: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let id = self.running.spawn(part).id();
        self.names.insert(id, name.into());
    }

    /// Waits for all of them. One that ends before `stop`, or panics, ends the whole: never half alive.
    ///
    /// # Errors
    /// The first failure, by the name of its part.
    pub async fn wait(mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut result = Ok(());
        while let Some(ended) = self.running.join_next_with_id().await {
            let id = match &ended {
                Ok((id, _)) => *id,
                Err(error) => error.id(),
            };
            let name = self.names.remove(&id).unwrap_or_default();
            let problem = match ended {
                Ok((_, Ok(()))) if stop.is_cancelled() => continue,
                Ok((_, Ok(()))) => anyhow!("{name} ended by itself"),
                Ok((_, Err(error))) => error.context(name),
                Err(panic) => anyhow!("{name} panicked: {panic}"),
            };
            error!("a part of the process failed, which ends it: {problem:#}");
            stop.cancel();
            result = result.and(Err(problem));
        }
        result
    }
}

/// Tells the service manager that the process has started, or ends (`sd_notify(3)`). Without one, this does nothing.
pub fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("the service manager cannot be told: {error}");
    }
}

/// Tells the service manager's watchdog, as often as it asks for, that the process is alive, until `stop`.
pub async fn feed_watchdog(stop: &CancellationToken) {
    let Some(most) = sd_notify::watchdog_enabled() else { return stop.cancelled().await };
    let mut heartbeats = tokio::time::interval(most / 3);
    while stop.run_until_cancelled(heartbeats.tick()).await.is_some() {
        notify(sd_notify::NotifyState::Watchdog);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_ends_the_whole_by_its_name() {
        let stop = CancellationToken::new();
        let mut parts = Parts::default();
        let other = stop.clone();
        parts.start("the patient part", async move {
            other.cancelled().await;
            Ok(())
        });
        parts.start("the rash part", async { panic!("for a reason") });
        let error = parts.wait(&stop).await.unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("the rash part panicked") && said.contains("for a reason"), "{said}");
        assert!(stop.is_cancelled(), "the other part was told to end");
    }

    #[tokio::test]
    async fn a_part_that_ends_too_early_is_a_failure_and_one_that_was_told_to_is_none() {
        let stop = CancellationToken::new();
        let mut parts = Parts::default();
        parts.start("the idle part", async { Ok(()) });
        assert_eq!(parts.wait(&stop).await.unwrap_err().to_string(), "the idle part ended by itself");
        let mut parts = Parts::default();
        parts.start("the obedient part", async { Ok(()) });
        assert!(parts.wait(&stop).await.is_ok(), "it had been told");
    }
}
