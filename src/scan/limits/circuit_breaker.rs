//! Whether a region answers. A region that is sick is not allowed to slow the healthy ones: repeated calls to it come out of
//! a budget, and while it answers nothing at all it is asked now and then only.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::aws::AwsError;
use crate::model::{ErrorKind, Region};

/// Retries that a region has at first, and at most: enough to outlast a second of nothing but errors at full speed, and far
/// more than one account can take (a few retries for each page), so that no account takes another's.
const BUDGET: f64 = 1000.0;

/// What each call adds to the budget: in the long run one call in five may be repeated.
const EARNED: f64 = 0.2;

/// A region is out when this many attempts in a row had no answer for as long as one attempt may take.
const FAILURES_IN_A_ROW: u32 = 64;

/// How often a region that is out is asked whether it is back.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// A circuit breaker and a budget of retries for every region that was asked in one scan.
#[derive(Debug)]
pub struct CircuitBreaker {
    /// For how long a region has to be silent to be out: the time that one attempt may take.
    silence: Duration,
    regions: Mutex<HashMap<Region, State>>,
}

#[derive(Debug)]
struct State {
    budget: f64,
    failures_in_a_row: u32,
    /// When the first of those attempts began.
    silent_since: Option<Instant>,
    last: Option<AwsError>,
    next_probe: Instant,
}

impl CircuitBreaker {
    /// Every region is well until it shows otherwise.
    pub fn new(attempt_timeout: Duration) -> Self {
        Self { silence: attempt_timeout, regions: Mutex::default() }
    }

    fn regions(&self) -> MutexGuard<'_, HashMap<Region, State>> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, region: &Region, then: impl FnOnce(&mut State) -> T) -> T {
        let mut regions = self.regions();
        if let Some(state) = regions.get_mut(region) {
            return then(state);
        }
        let new =
            State { budget: BUDGET, failures_in_a_row: 0, silent_since: None, last: None, next_probe: Instant::now() };
        then(regions.entry(region.clone()).or_insert(new))
    }

    /// Whether a region may be asked: the first attempt of a call always, a later one if the budget allows; and where the region
    /// is out, whoever's turn it is to find out whether it is back.
    ///
    /// # Errors
    /// What the region's last attempt came to, where it is out and is not asked again; `None` where only the budget is spent.
    pub fn admit(&self, region: &Region, is_retry: bool) -> Result<(), Option<AwsError>> {
        self.with(region, |state| {
            let now = Instant::now();
            let is_silent =
                state.silent_since.is_some_and(|since| now.saturating_duration_since(since) >= self.silence);
            if is_silent && state.failures_in_a_row >= FAILURES_IN_A_ROW {
                if now < state.next_probe {
                    return Err(state.last.clone());
                }
                state.next_probe = now + PROBE_EVERY;
                return Ok(());
            }
            if !is_retry {
                state.budget = (state.budget + EARNED).min(BUDGET);
                return Ok(());
            }
            if state.budget < 1.0 {
                return Err(None);
            }
            state.budget -= 1.0;
            Ok(())
        })
    }

    /// Takes in what came of an attempt that began at `begun`. AWS's refusals are answers too, and so is throttling.
    pub fn note(&self, region: &Region, begun: Instant, error: Option<&AwsError>) {
        let silent = error.filter(|error| error.is_retryable() && error.kind != ErrorKind::Throttled);
        self.with(region, |state| match silent {
            None => {
                state.failures_in_a_row = 0;
                state.silent_since = None;
                state.last = None;
            }
            Some(error) => {
                state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
                state.silent_since.get_or_insert(begun);
                state.last = Some(error.clone());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::{Operation, Remedy};

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn error(kind: ErrorKind) -> AwsError {
        AwsError {
            operation: Operation::ListAnalyzers,
            kind,
            code: None,
            message: "503".into(),
            remedy: Remedy::Again,
            retry_after: None,
            request_id: None,
        }
    }

    fn region() -> Region {
        Region::new("eu-west-1")
    }

    /// A region that had no answer for anybody for as long as an attempt may take.
    async fn out() -> CircuitBreaker {
        let health = CircuitBreaker::new(TIMEOUT);
        for _ in 0..FAILURES_IN_A_ROW {
            health.note(&region(), Instant::now(), Some(&error(ErrorKind::ServiceError)));
        }
        assert_eq!(health.admit(&region(), false), Ok(()), "not yet: it may be a moment only");
        tokio::time::sleep(TIMEOUT).await;
        health
    }

    #[tokio::test(start_paused = true)]
    async fn a_region_that_is_out_is_asked_once_a_second_and_says_why_it_is_out() {
        let health = out().await;
        assert_eq!(health.admit(&region(), false), Ok(()), "the first finds out");
        let refused = health.admit(&region(), false).unwrap_err().unwrap();
        assert_eq!(refused.kind, ErrorKind::ServiceError);
        assert_eq!(health.admit(&Region::new("us-east-1"), false), Ok(()), "others are well");
        tokio::time::sleep(PROBE_EVERY).await;
        assert_eq!(health.admit(&region(), false), Ok(()));
        assert!(health.admit(&region(), true).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_answer_brings_a_region_back_and_a_denial_is_an_answer() {
        for answer in [None, Some(AwsError { remedy: Remedy::Nothing, ..error(ErrorKind::AccessDenied) })] {
            let health = out().await;
            health.note(&region(), Instant::now(), answer.as_ref());
            for _ in 0..10 {
                assert_eq!(health.admit(&region(), false), Ok(()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_is_an_answer() {
        let health = CircuitBreaker::new(TIMEOUT);
        for _ in 0..1000 {
            health.note(&region(), Instant::now(), Some(&error(ErrorKind::Throttled)));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(health.admit(&region(), false), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn retries_come_out_of_a_budget_that_calls_earn() {
        let health = CircuitBreaker::new(TIMEOUT);
        let retries = (0..5000).filter(|_| health.admit(&region(), true).is_ok()).count();
        assert_eq!(retries, 1000);
        for _ in 0..50 {
            assert_eq!(health.admit(&region(), false), Ok(()));
        }
        let retries = (0..5000).filter(|_| health.admit(&region(), true).is_ok()).count();
        assert!((9..=10).contains(&retries), "{retries}");
        assert_eq!(health.admit(&Region::new("us-east-1"), true), Ok(()), "each region has its own");
    }
}
