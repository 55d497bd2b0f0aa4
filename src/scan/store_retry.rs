//! The store, for as long as it may be away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{Instrument, debug_span, info, warn};

use crate::config::TimeSpan;
use crate::metrics;
use crate::store::{Store, StoreError, bounded};

/// The first pause before a database that is away is asked again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Asks the store again while it is away, until that has lasted too long. Every verb may be asked twice: what was done, though
/// the answer was lost, is not done again.
pub struct StoreRetry<'a> {
    store: &'a dyn Store,
    max_outage: Duration,
    away_since: Mutex<Option<Instant>>,
    interrupted: AtomicBool,
}

impl<'a> StoreRetry<'a> {
    pub fn new(store: &'a dyn Store, max_outage: Duration) -> Self {
        Self { store, max_outage, away_since: Mutex::default(), interrupted: AtomicBool::new(false) }
    }

    /// Does something with the store, a verb of it by its name.
    ///
    /// # Errors
    /// [`StoreError::Away`] where it was away for too long; any other as it comes.
    pub async fn run<T, F, Fut>(&self, name: &'static str, verb: F) -> Result<T, StoreError>
    where
        F: Fn(&'a dyn Store) -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            let result = bounded(verb(self.store).instrument(debug_span!("store", verb = name))).await;
            metrics::store_took(name, begun.elapsed());
            let error = match result {
                Err(error) if error.is_away() => error,
                result => {
                    if self.away_since().take().is_some() {
                        info!("the database is back: the scan goes on");
                    }
                    return result;
                }
            };
            self.interrupted.store(true, Ordering::Relaxed);
            let now = Instant::now();
            let since = {
                let mut since = self.away_since();
                if since.is_none() {
                    warn!("the database is away, the scan waits for it: {error}");
                    metrics::database_outage();
                }
                *since.get_or_insert(now)
            };
            if now.saturating_duration_since(since) >= self.max_outage {
                return Err(StoreError::Away { problem: Box::new(error), waited: TimeSpan(self.max_outage) });
            }
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether it was away since this was last asked: an answer may have been lost.
    pub fn was_interrupted(&self) -> bool {
        self.interrupted.swap(false, Ordering::Relaxed)
    }

    fn away_since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.away_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
