//! How much at once, how fast, and how often again. Every call to AWS goes through here, but for those that nobody waits for: messages
//! to Amazon SNS, and what a health check asks of STS.

mod circuit_breaker;
mod rate;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, debug_span};

use super::costs::Costs;
use crate::aws::{AwsError, Operation, Page, Remedy};
use crate::config::{self, Rate};
use crate::metrics;
use crate::model::{AccountId, ErrorKind, Region};

use circuit_breaker::CircuitBreaker;
use rate::{Bucket, LONGEST_WAIT};

/// The first pause after a failure is up to this; it doubles with each, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// More pages than any listing has: an answer that never ends is not an answer.
pub const MOST_PAGES: usize = 100_000;

/// What all scans of this process share: the calls that may be under way at once, and the rates of the accounts that calls
/// are made *from*, because AWS counts those whichever organization is scanned.
#[derive(Debug)]
pub struct ProcessLimits {
    in_flight: Semaphore,
    attempts: u32,
    attempt_timeout: Duration,
    call_deadline: Duration,
    rates: BTreeMap<Operation, Rate>,
    callers: Mutex<HashMap<AccountId, Arc<Buckets>>>,
    /// The processes that make calls from the same accounts: each dares its part of their rates.
    among: Arc<AtomicU32>,
}

impl ProcessLimits {
    /// What a configuration allows.
    pub fn new(limits: &config::Limits) -> Self {
        let rate = |operation: &Operation| Some((*operation, *limits.rates.get(operation.action())?));
        Self {
            in_flight: Semaphore::new(limits.in_flight as usize),
            attempts: limits.attempts,
            attempt_timeout: limits.attempt_timeout.0,
            call_deadline: limits.call_deadline.0,
            rates: Operation::ALL.iter().filter_map(rate).collect(),
            callers: Mutex::default(),
            among: Arc::new(AtomicU32::new(1)),
        }
    }

    /// Shares the rates of the accounts that calls are made from among so many processes. Not shared: what only one process at a
    /// time calls, which are the organization's list and an account that is visited; and what may be under way at once, which
    /// is each process's own.
    pub fn share_among(&self, processes: u32) {
        self.among.store(processes.max(1), Ordering::Relaxed);
    }
}

/// The token buckets of one account that is charged for calls: one for each operation and, where the operation has one in each
/// region, region.
#[derive(Debug)]
pub struct Buckets {
    by_charge: Mutex<HashMap<Charged, Arc<Bucket>>>,
    among: Arc<AtomicU32>,
}

/// What AWS counts apart.
type Charged = (Operation, Option<Region>);

impl Buckets {
    fn new(among: Arc<AtomicU32>) -> Self {
        Self { by_charge: Mutex::default(), among }
    }

    fn bucket(&self, shared: &ProcessLimits, operation: Operation, region: Option<&Region>) -> Option<Arc<Bucket>> {
        let rate = *shared.rates.get(&operation)?;
        let mut buckets = self.by_charge.lock().unwrap_or_else(PoisonError::into_inner);
        let is_listing = operation.action().starts_with("organizations:");
        let among = || if is_listing { Arc::new(AtomicU32::new(1)) } else { Arc::clone(&self.among) };
        let new = || Arc::new(Bucket::new(rate, among()));
        let bucket = buckets.entry((operation, region.cloned())).or_insert_with(new);
        Some(Arc::clone(bucket))
    }
}

/// The governor of all calls of one scan.
#[derive(Debug)]
pub struct Limits {
    shared: Arc<ProcessLimits>,
    health: CircuitBreaker,
    costs: Costs,
    /// What is shared with nobody.
    alone: Arc<AtomicU32>,
}

impl Limits {
    /// Governs one scan within what all may do.
    pub fn new(shared: Arc<ProcessLimits>) -> Self {
        let health = CircuitBreaker::new(shared.attempt_timeout);
        Self { shared, health, costs: Costs::new(), alone: Arc::new(AtomicU32::new(1)) }
    }

    /// What was called so far, and what was waited for.
    pub fn costs(&self) -> &Costs {
        &self.costs
    }

    /// Calls that are charged to an account that calls are made from, again and again: its buckets outlive the scan.
    pub fn from_caller(&self, caller: AccountId, deadline: Instant) -> Calls<'_> {
        let mut callers = self.shared.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Buckets::new(Arc::clone(&self.shared.among)));
        let buckets = Arc::clone(callers.entry(caller).or_insert_with(new));
        Calls { limits: self, buckets, region: None, deadline }
    }

    /// Calls that are charged to an account that is visited: its buckets live as long as the visit.
    pub fn in_visit(&self, deadline: Instant) -> Calls<'_> {
        let buckets = Arc::new(Buckets::new(Arc::clone(&self.alone)));
        Calls { limits: self, buckets, region: None, deadline }
    }
}

/// Calls that one account is charged for, until a deadline.
#[derive(Debug, Clone)]
pub struct Calls<'a> {
    limits: &'a Limits,
    buckets: Arc<Buckets>,
    region: Option<&'a Region>,
    deadline: Instant,
}

/// An attempt that may be made now.
struct Admitted<'a> {
    bucket: Option<Arc<Bucket>>,
    _permit: Option<SemaphorePermit<'a>>,
}

impl<'a> Calls<'a> {
    /// The same, in one of the regions that are audited: one that is sick is not asked as often as a healthy one.
    pub fn in_region(&self, region: &'a Region) -> Self {
        Self { region: Some(region), ..self.clone() }
    }

    /// Makes a call, and makes it again while that can help.
    ///
    /// # Errors
    /// The failure of the last attempt that came to an end; `timeout` where none did before a deadline.
    pub async fn call<T, F, Fut>(&self, operation: Operation, mut attempt: F) -> Result<T, AwsError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, AwsError>>,
    {
        let mut last: Option<AwsError> = None;
        let mut ends = self.deadline;
        let mut corrected = false;
        for number in 1.. {
            let gave_up = |last: Option<AwsError>| last.unwrap_or_else(|| deadline_passed(operation));
            let Ok(admitted) = timeout_at(ends, self.admit(operation, number, last.as_ref())).await else {
                return Err(gave_up(last));
            };
            let admitted = admitted?;
            let begun = Instant::now();
            if begun >= ends {
                // A timeout lets through what is ready at once.
                return Err(gave_up(last));
            }
            if number == 1 {
                // Waiting for our own limits is no failure of the call: its time begins with the first attempt.
                ends = ends.min(begun + self.limits.shared.call_deadline);
            }
            let _in_flight = metrics::call_in_flight();
            let span = debug_span!("aws", otel.name = operation.action(), attempt = number);
            // Boxed, so that calls that wait to be admitted are small: the SDK's futures are not.
            let Ok(result) = timeout_at(ends, Box::pin(attempt().instrument(span))).await else {
                // It says nothing of the region: we did not wait for as long as an attempt may take.
                self.count(operation, number, begun, Some(&deadline_passed(operation)));
                return Err(gave_up(last));
            };
            self.note(operation, number, begun, &admitted, result.as_ref().err());
            drop(admitted);
            let error = match result {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error.remedy {
                // The SDK has read AWS's time from the answer.
                Remedy::CorrectedTime if !corrected => corrected = true,
                Remedy::Again if number < self.limits.shared.attempts => {
                    let _waiting = self.limits.costs.waits_to_retry.enter();
                    // The time that AWS asks for is no time that the call took.
                    ends = (ends + error.retry_after.unwrap_or_default().min(LONGEST_WAIT)).min(self.deadline);
                    let pause = tokio::time::sleep(pause(number, error.retry_after));
                    if timeout_at(ends, pause).await.is_err() {
                        return Err(error);
                    }
                }
                _ => return Err(error),
            }
            last = Some(error);
        }
        Err(deadline_passed(operation))
    }

    /// Waits until an attempt may be made.
    async fn admit(
        &self,
        operation: Operation,
        number: u32,
        last: Option<&AwsError>,
    ) -> Result<Admitted<'a>, AwsError> {
        let Limits { shared, health, costs, .. } = self.limits;
        let bucket = self.buckets.bucket(shared, operation, self.region);
        if let (Some(bucket), Some(tally)) = (&bucket, costs.of(operation)) {
            bucket.take(&tally.waits_for_rate).await;
        }
        let permit = match shared.in_flight.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => {
                let _waiting = costs.waits_in_flight.enter();
                // The semaphore is never closed, so there is always a permit to come.
                shared.in_flight.acquire().await.ok()
            }
        };
        if let Some(region) = self.region {
            health.admit(region, number > 1).map_err(|why| spared(operation, region, why.as_ref().or(last)))?;
        }
        Ok(Admitted { bucket, _permit: permit })
    }

    fn count(&self, operation: Operation, number: u32, begun: Instant, error: Option<&AwsError>) {
        metrics::call(operation.action(), error.map(|error| error.kind));
        if let Some(tally) = self.limits.costs.of(operation) {
            tally.count(number, begun.elapsed(), error);
        }
    }

    fn note(
        &self,
        operation: Operation,
        number: u32,
        begun: Instant,
        admitted: &Admitted<'_>,
        error: Option<&AwsError>,
    ) {
        self.count(operation, number, begun, error);
        if let Some(region) = self.region {
            self.limits.health.note(region, begun, error);
        }
        if let (Some(bucket), Some(error)) = (&admitted.bucket, error)
            && error.kind == ErrorKind::Throttled
        {
            bucket.throttled(error.retry_after);
        }
    }

    /// Reads a listing to its end, page by page.
    ///
    /// # Errors
    /// As [`Calls::call`], for the first page that fails.
    pub async fn all_pages<T, F, Fut>(&self, operation: Operation, page: F) -> Result<Vec<T>, AwsError>
    where
        F: Fn(Option<String>) -> Fut,
        Fut: Future<Output = Result<Page<T>, AwsError>>,
    {
        let mut items = Vec::new();
        let mut next_token: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let answer = self.call(operation, || page(next_token.clone())).await?;
            items.extend(answer.items);
            match answer.next_token {
                None => return Ok(items),
                same if same == next_token => break,
                next => next_token = next,
            }
        }
        Err(endless(operation))
    }
}

/// A listing whose token does not move on, or that has too many pages.
pub fn endless(operation: Operation) -> AwsError {
    given_up(operation, ErrorKind::MalformedResponse, "the listing does not end".into())
}

fn deadline_passed(operation: Operation) -> AwsError {
    given_up(operation, ErrorKind::Timeout, "no answer before the deadline".into())
}

/// A call that is not made (again), because its region is sick.
fn spared(operation: Operation, region: &Region, last: Option<&AwsError>) -> AwsError {
    let (kind, said) = last.map_or((ErrorKind::ServiceError, "no answer"), |last| (last.kind, &last.message));
    given_up(operation, kind, format!("{said} ({region} answers too few calls: it is asked less often)"))
}

fn given_up(operation: Operation, kind: ErrorKind, message: String) -> AwsError {
    AwsError { operation, kind, code: None, message, remedy: Remedy::Nothing, retry_after: None, request_id: None }
}

/// Full jitter: anything from nothing to the doubled pause, after the time that AWS asked for.
fn pause(failures: u32, retry_after: Option<Duration>) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(fastrand::f64()) + retry_after.unwrap_or_default().min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests;
