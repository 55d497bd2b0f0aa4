//! How far a scan has come, for whoever watches.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters of one scan; written by the scan, read by a progress bar.
#[derive(Debug, Default)]
pub struct Progress {
    listed: AtomicU64,
    listing_done: AtomicBool,
    recorded: AtomicU64,
    unreachable: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Accounts listed so far.
    pub listed: u64,
    /// Whether that is all of them.
    pub listing_done: bool,
    /// Accounts whose visit is in the store.
    pub recorded: u64,
    /// Of these, unreachable.
    pub unreachable: u64,
}

impl Progress {
    pub(super) fn accounts_listed(&self, accounts: u64) {
        self.listed.fetch_add(accounts, Ordering::Relaxed);
    }

    /// What the store says is left, of a scan that others began or take part in.
    pub(super) fn left(&self, left: u64, listing_done: bool) {
        self.listed.fetch_max(self.recorded.load(Ordering::Relaxed) + left, Ordering::Relaxed);
        self.listing_done.store(listing_done, Ordering::Relaxed);
    }

    pub(super) fn visit_recorded(&self, unreachable: bool) {
        self.recorded.fetch_add(1, Ordering::Relaxed);
        self.unreachable.fetch_add(u64::from(unreachable), Ordering::Relaxed);
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            listed: self.listed.load(Ordering::Relaxed),
            listing_done: self.listing_done.load(Ordering::Relaxed),
            recorded: self.recorded.load(Ordering::Relaxed),
            unreachable: self.unreachable.load(Ordering::Relaxed),
        }
    }
}
