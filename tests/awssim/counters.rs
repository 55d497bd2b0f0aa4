//! What was asked of the simulator: calls, throttles, faults, and how much at once.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

#[derive(Debug, Default)]
pub struct Counters {
    counted: tokio::sync::Notify,
    operations: Mutex<BTreeMap<String, Operation>>,
    /// Successful `ListAnalyzers` first pages by account and region, to show that no work is done twice.
    listed: Mutex<BTreeMap<(String, String), u64>>,
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
    connections: AtomicU64,
    open_connections: AtomicU64,
    most_open_connections: AtomicU64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Operation {
    calls: u64,
    throttled: u64,
    faults: u64,
    errors: u64,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Ok,
    Error,
    Throttled,
    Fault,
}

impl Counters {
    pub fn begin(&self) {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_in_flight.fetch_max(now, Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let now = self.open_connections.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_open_connections.fetch_max(now, Ordering::Relaxed);
    }

    pub fn disconnected(&self) {
        self.open_connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn count(&self, service: &str, operation: &str, answer: Answer) {
        let mut operations = self.operations.lock().unwrap();
        let entry = operations.entry(format!("{service}:{operation}")).or_default();
        entry.calls += 1;
        match answer {
            Answer::Ok => {}
            Answer::Error => entry.errors += 1,
            Answer::Throttled => entry.throttled += 1,
            Answer::Fault => entry.faults += 1,
        }
        drop(operations);
        self.counted.notify_waiters();
    }

    /// Waits until an operation was called so often, such as `sts:AssumeRole`.
    pub async fn reach(&self, operation: &str, calls: u64) {
        self.until(|| self.calls(operation) >= calls).await;
    }

    /// Waits until so many calls were made in all.
    pub async fn reach_in_all(&self, calls: u64) {
        self.until(|| self.total_calls() >= calls).await;
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            let mut counted = std::pin::pin!(self.counted.notified());
            counted.as_mut().enable();
            if is_so() {
                return;
            }
            counted.await;
        }
    }

    pub fn listed(&self, account: &str, region: &str) {
        *self.listed.lock().unwrap().entry((account.to_owned(), region.to_owned())).or_default() += 1;
    }

    /// The most often that one account × region was listed.
    pub fn most_listed(&self) -> u64 {
        self.listed.lock().unwrap().values().copied().max().unwrap_or(0)
    }

    pub fn calls(&self, operation: &str) -> u64 {
        self.operations.lock().unwrap().get(operation).map_or(0, |entry| entry.calls)
    }

    pub fn total_calls(&self) -> u64 {
        self.operations.lock().unwrap().values().map(|entry| entry.calls).sum()
    }

    pub fn reset(&self) {
        self.operations.lock().unwrap().clear();
        self.listed.lock().unwrap().clear();
        self.most_in_flight.store(0, Ordering::Relaxed);
        self.connections.store(0, Ordering::Relaxed);
        self.most_open_connections.store(self.open_connections.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub fn json(&self) -> Value {
        let operations: BTreeMap<String, Value> = self
            .operations
            .lock()
            .unwrap()
            .iter()
            .map(|(name, entry)| {
                let value = json!({
                    "calls": entry.calls, "errors": entry.errors, "throttled": entry.throttled, "faults": entry.faults,
                });
                (name.clone(), value)
            })
            .collect();
        json!({
            "operations": operations,
            "calls": self.total_calls(),
            "most_in_flight": self.most_in_flight.load(Ordering::Relaxed),
            "connections": self.connections.load(Ordering::Relaxed),
            "most_open_connections": self.most_open_connections.load(Ordering::Relaxed),
            "most_listed": self.most_listed(),
        })
    }
}
