//! `[limits]`: how much at once, how long, and how often again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TimeSpan;

/// How much at once, how long, and how often again.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests to AWS under way at once, over all accounts and regions.
    #[schemars(range(min = 1, max = 4096))]
    pub in_flight: u32,
    /// Accounts visited at once. Each needs one session.
    #[schemars(range(min = 1, max = 1024))]
    pub accounts_in_flight: u32,
    /// Connections kept to one host. A region has the same host for all accounts.
    #[schemars(range(min = 1, max = 1024))]
    pub connections_per_host: u32,
    /// How often a call is tried before its failure is recorded. Throttling, timeouts, broken connections and AWS's own
    /// faults are tried again, with full jitter.
    #[schemars(range(min = 1, max = 20))]
    pub attempts: u32,
    /// How long a connection may take to open.
    pub connect_timeout: TimeSpan,
    /// How long one attempt of a call may take.
    pub attempt_timeout: TimeSpan,
    /// How long the visit of one account may take. What was not read by then is `unknown`, `timeout`.
    pub visit_deadline: TimeSpan,
    /// How long a scan may take. Accounts not reached by then are `unknown`, `not_reached`, and the scan is `incomplete`.
    pub scan_deadline: TimeSpan,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 128,
            accounts_in_flight: 64,
            connections_per_host: 128,
            attempts: 6,
            connect_timeout: TimeSpan::seconds(3),
            attempt_timeout: TimeSpan::seconds(10),
            visit_deadline: TimeSpan::seconds(5 * 60),
            scan_deadline: TimeSpan::seconds(6 * 3600),
        }
    }
}
