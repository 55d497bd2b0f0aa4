//! What a scan costs: calls, and where its time goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::aws::{AwsError, Operation};
use crate::model::{CallCount, ErrorKind, ScanCost, StageSeconds};

/// What holds a scan up for less than this share of it does not bind it.
const BINDS_FROM: f64 = 0.5;

/// For how long something was going on, however many took part at once.
#[derive(Debug, Default)]
pub struct Busy(Mutex<BusyState>);

#[derive(Debug, Default)]
struct BusyState {
    active: u32,
    since: Option<Instant>,
    total: Duration,
}

impl Busy {
    /// One more takes part, until the guard is dropped.
    pub fn enter(&self) -> BusyGuard<'_> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.active += 1;
        state.since.get_or_insert_with(Instant::now);
        BusyGuard(self)
    }

    /// How long so far.
    pub fn total(&self) -> Duration {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.total + state.since.map(|since| since.elapsed()).unwrap_or_default()
    }
}

/// Somebody takes part.
#[derive(Debug)]
pub struct BusyGuard<'a>(&'a Busy);

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.active = state.active.saturating_sub(1);
        if state.active == 0
            && let Some(since) = state.since.take()
        {
            state.total += since.elapsed();
        }
    }
}

/// What one operation cost so far.
#[derive(Debug, Default)]
pub struct Tally {
    calls: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    errors: AtomicU64,
    microseconds: AtomicU64,
    /// Calls wait for the operation's rate.
    pub waits_for_rate: Busy,
}

impl Tally {
    /// Counts one attempt, the `number`th of its call.
    pub fn count(&self, number: u32, took: Duration, error: Option<&AwsError>) {
        let add = |counter: &AtomicU64, number: u64| counter.fetch_add(number, Ordering::Relaxed);
        add(&self.calls, 1);
        add(&self.retries, u64::from(number > 1));
        add(&self.errors, u64::from(error.is_some()));
        add(&self.throttled, u64::from(error.is_some_and(|error| error.kind == ErrorKind::Throttled)));
        add(&self.microseconds, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

/// What one scan cost so far.
#[derive(Debug)]
pub struct Costs {
    begun: Instant,
    tallies: HashMap<Operation, Tally>,
    /// Accounts are listed.
    pub discovers: Busy,
    /// Roles are assumed.
    pub assumes: Busy,
    /// Regions are read.
    pub audits: Busy,
    /// Verdicts are reached.
    pub evaluates: Busy,
    /// Visits are stored.
    pub stores: Busy,
    /// Calls wait for `limits.in_flight`.
    pub waits_in_flight: Busy,
    /// Accounts wait for `limits.accounts_in_flight`.
    pub waits_for_visits: Busy,
    /// Accounts wait because the store has enough to do.
    pub waits_for_store: Busy,
    /// Audited accounts wait for the owners of the organization's analyzers.
    pub waits_for_owners: Busy,
    /// Calls that failed wait to be made again.
    pub waits_to_retry: Busy,
}

impl Costs {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            tallies: Operation::ALL.iter().map(|operation| (*operation, Tally::default())).collect(),
            discovers: Busy::default(),
            assumes: Busy::default(),
            audits: Busy::default(),
            evaluates: Busy::default(),
            stores: Busy::default(),
            waits_in_flight: Busy::default(),
            waits_for_visits: Busy::default(),
            waits_for_store: Busy::default(),
            waits_for_owners: Busy::default(),
            waits_to_retry: Busy::default(),
        }
    }

    /// The tally of an operation.
    pub fn of(&self, operation: Operation) -> Option<&Tally> {
        self.tallies.get(&operation)
    }

    /// The sum, with the bytes that each operation moved.
    pub fn sum(&self, bytes: impl Fn(Operation) -> u64) -> ScanCost {
        let seconds = |busy: &Busy| busy.total().as_secs_f64();
        let count = |operation: &Operation| {
            let tally = self.tallies.get(operation)?;
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let (service, name) = operation.action().split_once(':')?;
            (read(&tally.calls) > 0).then(|| CallCount {
                service,
                operation: name,
                calls: read(&tally.calls),
                retries: read(&tally.retries),
                throttled: read(&tally.throttled),
                errors: read(&tally.errors),
                seconds: Duration::from_micros(read(&tally.microseconds)).as_secs_f64(),
                bytes: bytes(*operation),
                rate_wait_seconds: seconds(&tally.waits_for_rate),
            })
        };
        ScanCost {
            calls: Operation::ALL.iter().filter_map(count).collect(),
            stages: StageSeconds {
                discover: seconds(&self.discovers),
                assume: seconds(&self.assumes),
                audit: seconds(&self.audits),
                evaluate: seconds(&self.evaluates),
                store: seconds(&self.stores),
            },
            bound_by: self.bound_by(),
        }
    }

    /// The critical path: what was waited for during the greater part of the scan.
    fn bound_by(&self) -> String {
        let rates = Operation::ALL.iter().filter_map(|operation| {
            let waited = self.tallies.get(operation)?.waits_for_rate.total();
            let name = operation.action().split_once(':')?.1;
            Some((waited, format!("the rate of {name}")))
        });
        let others = [
            (&self.waits_in_flight, "limits.in_flight"),
            (&self.waits_for_visits, "limits.accounts_in_flight"),
            (&self.waits_for_store, "the store"),
            (&self.waits_for_owners, "the visits of the analyzers' owners"),
            (&self.waits_to_retry, "calls that failed and were made again"),
        ];
        let others = others.into_iter().map(|(busy, name)| (busy.total(), name.to_owned()));
        let longest = rates.chain(others).max_by_key(|(waited, _)| *waited);
        let binds = |waited: &Duration| waited.as_secs_f64() >= BINDS_FROM * self.begun.elapsed().as_secs_f64();
        match longest {
            Some((waited, name)) if !waited.is_zero() && binds(&waited) => name,
            _ => "the latency of AWS".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_that_overlaps_is_counted_once() {
        let busy = Busy::default();
        let first = busy.enter();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = busy.enter();
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(first);
        drop(second);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let _third = busy.enter();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(busy.total(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_scan_is_bound_by_what_it_waited_for_longest() {
        let costs = Costs::new();
        let rate = &costs.of(Operation::ListAccounts).unwrap().waits_for_rate;
        {
            let (_rate, _visits) = (rate.enter(), costs.waits_for_visits.enter());
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        {
            let _rate = rate.enter();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(costs.sum(|_| 0).bound_by, "the rate of ListAccounts");
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert_eq!(costs.sum(|_| 0).bound_by, "the latency of AWS");
    }
}
