//! How much at once, how fast, and how often again. Every call to AWS goes through here.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::aws::{AwsError, Operation, Page};
use crate::config;
use crate::model::{CallCount, ErrorKind};

/// AWS's published request rates of one account: calls per second, and burst (AWS Organizations User Guide, "Quotas and
/// service limits"; AWS STS, "AssumeRole": per calling account and region). Access Analyzer publishes none.
const PUBLISHED_RATES: &[(Operation, u32, u32)] = &[
    (Operation::DescribeOrganization, 1, 2),
    (Operation::ListAccounts, 8, 12),
    (Operation::DescribeAccount, 20, 30),
    (Operation::ListDelegatedAdministrators, 5, 8),
    (Operation::ListRoots, 1, 2),
    (Operation::ListOrganizationalUnitsForParent, 5, 8),
    (Operation::ListAccountsForParent, 5, 8),
    (Operation::ListTagsForResource, 10, 15),
    (Operation::AssumeRole, 600, 600),
];

/// The first pause after a failure is up to this; it doubles with each, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The longest that AWS's own `Retry-After` is followed.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// More pages than any listing has: an answer that never ends is not an answer.
pub const MOST_PAGES: usize = 100_000;

/// The governor of all calls of one scan.
#[derive(Debug)]
pub struct Limits {
    in_flight: Semaphore,
    attempts: u32,
    rates: HashMap<Operation, DefaultDirectRateLimiter>,
    tallies: HashMap<Operation, Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    calls: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    errors: AtomicU64,
    microseconds: AtomicU64,
}

impl Limits {
    /// The limits that a configuration asks for.
    pub fn new(limits: &config::Limits) -> Self {
        let rates = PUBLISHED_RATES.iter().filter_map(|(operation, rate, burst)| {
            let quota = Quota::per_second(NonZeroU32::new(*rate)?).allow_burst(NonZeroU32::new(*burst)?);
            Some((*operation, RateLimiter::direct(quota)))
        });
        Self {
            in_flight: Semaphore::new(limits.in_flight as usize),
            attempts: limits.attempts,
            rates: rates.collect(),
            tallies: Operation::ALL.iter().map(|operation| (*operation, Tally::default())).collect(),
        }
    }

    /// Makes a call, and makes it again while that can help, until `deadline`.
    ///
    /// # Errors
    /// The last attempt's failure; `timeout` where the deadline came first.
    pub async fn call<T, F, Fut>(&self, operation: Operation, deadline: Instant, mut attempt: F) -> Result<T, AwsError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, AwsError>>,
    {
        let mut last = None;
        let attempts = async {
            for number in 1..=self.attempts {
                let error = match self.attempt(operation, number, &mut attempt).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                if !error.retryable || number == self.attempts {
                    return Err(error);
                }
                let pause = pause(number, error.retry_after);
                last = Some(error);
                tokio::time::sleep(pause).await;
            }
            // Only a configuration of no attempts comes here, and validation refuses that.
            Err(deadline_passed(operation))
        };
        let result = tokio::time::timeout_at(deadline, attempts).await;
        result.unwrap_or_else(|_| Err(last.unwrap_or_else(|| deadline_passed(operation))))
    }

    async fn attempt<T, F, Fut>(&self, operation: Operation, number: u32, attempt: &mut F) -> Result<T, AwsError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, AwsError>>,
    {
        if let Some(rate) = self.rates.get(&operation) {
            rate.until_ready().await;
        }
        // The semaphore is never closed, so there is always a permit to come.
        let _permit = self.in_flight.acquire().await;
        let begun = Instant::now();
        let result = attempt().await;
        if let Some(tally) = self.tallies.get(&operation) {
            tally.calls.fetch_add(1, Ordering::Relaxed);
            let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            tally.microseconds.fetch_add(took, Ordering::Relaxed);
            tally.retries.fetch_add(u64::from(number > 1), Ordering::Relaxed);
            if let Err(error) = &result {
                tally.errors.fetch_add(1, Ordering::Relaxed);
                tally.throttled.fetch_add(u64::from(error.kind == ErrorKind::Throttled), Ordering::Relaxed);
            }
        }
        result
    }

    /// Reads a listing to its end, page by page.
    ///
    /// # Errors
    /// As [`Limits::call`], for the first page that fails.
    pub async fn all_pages<T, F, Fut>(
        &self,
        operation: Operation,
        deadline: Instant,
        page: F,
    ) -> Result<Vec<T>, AwsError>
    where
        F: Fn(Option<String>) -> Fut,
        Fut: Future<Output = Result<Page<T>, AwsError>>,
    {
        let mut items = Vec::new();
        let mut next_token: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let answer = self.call(operation, deadline, || page(next_token.clone())).await?;
            items.extend(answer.items);
            match answer.next_token {
                None => return Ok(items),
                same if same == next_token => break,
                next => next_token = next,
            }
        }
        Err(endless(operation))
    }

    /// What was called so far, the operations that were not left out.
    pub fn counts(&self) -> Vec<CallCount> {
        let count = |operation: &Operation| {
            let tally = self.tallies.get(operation)?;
            let calls = tally.calls.load(Ordering::Relaxed);
            let (service, name) = operation.action().split_once(':')?;
            (calls > 0).then(|| CallCount {
                service,
                operation: name,
                calls,
                retries: tally.retries.load(Ordering::Relaxed),
                throttled: tally.throttled.load(Ordering::Relaxed),
                errors: tally.errors.load(Ordering::Relaxed),
                seconds: Duration::from_micros(tally.microseconds.load(Ordering::Relaxed)).as_secs_f64(),
            })
        };
        Operation::ALL.iter().filter_map(count).collect()
    }
}

/// A listing whose token does not move on, or that has too many pages.
pub fn endless(operation: Operation) -> AwsError {
    AwsError {
        operation,
        kind: ErrorKind::MalformedResponse,
        code: None,
        message: "the listing does not end".into(),
        retryable: false,
        retry_after: None,
    }
}

fn deadline_passed(operation: Operation) -> AwsError {
    AwsError {
        operation,
        kind: ErrorKind::Timeout,
        code: None,
        message: "no answer before the deadline".into(),
        retryable: false,
        retry_after: None,
    }
}

/// Full jitter: anything from nothing to the doubled pause, after the time that AWS asked for.
fn pause(failures: u32, retry_after: Option<Duration>) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(fastrand::f64()) + retry_after.unwrap_or_default().min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(retryable: bool) -> AwsError {
        AwsError { retryable, ..deadline_passed(Operation::ListAnalyzers) }
    }

    fn limits() -> Limits {
        Limits::new(&config::Limits { attempts: 3, ..config::Limits::default() })
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_hours(1)
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_retry_can_mend_is_tried_again_and_no_more_than_asked() {
        let limits = limits();
        let mut made = 0;
        let result: Result<(), _> = limits
            .call(Operation::ListAnalyzers, soon(), || {
                made += 1;
                async { Err(error(true)) }
            })
            .await;
        assert!(result.is_err());
        assert_eq!(made, 3);
        let counts = limits.counts();
        assert_eq!((counts[0].calls, counts[0].retries, counts[0].errors), (3, 2, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_retry_cannot_mend_is_tried_once() {
        let mut made = 0;
        let _: Result<(), _> = limits()
            .call(Operation::ListAnalyzers, soon(), || {
                made += 1;
                async { Err(error(false)) }
            })
            .await;
        assert_eq!(made, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_a_call_that_hangs() {
        let deadline = Instant::now() + Duration::from_secs(1);
        let result: Result<(), _> =
            limits().call(Operation::ListAnalyzers, deadline, std::future::pending::<Result<(), AwsError>>).await;
        assert_eq!(result.unwrap_err().kind, ErrorKind::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_that_never_ends_is_an_error() {
        let result = limits()
            .all_pages(Operation::ListAccounts, soon(), |_| async {
                Ok(Page { items: vec![1], next_token: Some("same".to_owned()) })
            })
            .await;
        assert_eq!(result.unwrap_err().kind, ErrorKind::MalformedResponse);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_page_with_a_token_is_not_the_end() {
        let pages = limits()
            .all_pages(Operation::ListAccounts, soon(), |token| async move {
                Ok(match token.as_deref() {
                    None => Page { items: vec![], next_token: Some("a".to_owned()) },
                    Some("a") => Page { items: vec![1], next_token: Some("b".to_owned()) },
                    _ => Page { items: vec![2], next_token: None },
                })
            })
            .await;
        assert_eq!(pages.unwrap(), [1, 2]);
    }
}
