//! `[limits]`: how much at once, how long, and how often again.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::TimeSpan;

/// How much at once, how long, and how often again.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests to AWS under way at once, over all accounts and regions.
    #[schemars(range(min = 1, max = 4096))]
    pub in_flight: u32,
    /// Accounts of one organization visited at once. Each needs one session. A scan has no more calls than this under way in one
    /// region, so that one that hangs leaves the rest of `in_flight` to the others.
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
    /// How long one call may take with all its attempts and the pauses between them. Waiting for `in_flight` or for a rate
    /// before the first attempt does not count.
    pub call_deadline: TimeSpan,
    /// How long the visit of one account may take. What was not read by then is `unknown`, `timeout`.
    pub visit_deadline: TimeSpan,
    /// How long a scan may take. Accounts not reached by then are `unknown`, `not_reached`, and the scan is `incomplete`.
    pub scan_deadline: TimeSpan,
    /// How long visits under way may go on after `trustwatch run` was told to end. What is not done by then is handed back, for
    /// the next start or another process.
    pub shutdown_grace: TimeSpan,
    /// Calls per second, and at once after a rest, by operation: of the account that AWS charges for the call, in the region
    /// that it is made in. Only in the file, because of the colon in their names. What is named here replaces its default. On throttling a rate falls, then recovers.
    #[serde(deserialize_with = "over_defaults")]
    #[schemars(extend("propertyNames" = serde_json::json!({"enum": default_rates().into_keys().collect::<Vec<_>>()})))]
    pub rates: BTreeMap<String, Rate>,
}

/// How often one account may call one operation.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Calls per second, in the long run.
    #[schemars(range(min = 0.001, max = 1_000_000))]
    pub per_second: f64,
    /// Calls at once after a rest.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
}

/// The rates that AWS allows one account: AWS Organizations User Guide, "Quotas and service limits"; IAM User Guide, "IAM and AWS
/// STS quotas" (its 600 a second are for all of STS, by calling account and region); AWS Account Management Reference Guide,
/// "Quotas" (its burst is not published: we take none); AWS Security Hub API Reference, "Service Quotas" (`BatchImportFindings`). Access Analyzer publishes no rate at all: ours is an assumption.
const DEFAULT_RATES: &[(&str, f64, u32)] = &[
    ("access-analyzer:CreateAnalyzer", 5.0, 5),
    ("access-analyzer:DeleteAnalyzer", 5.0, 5),
    ("access-analyzer:GetAnalyzer", 10.0, 20),
    ("access-analyzer:GetFindingsStatistics", 10.0, 20),
    ("access-analyzer:ListAnalyzers", 10.0, 20),
    ("access-analyzer:ListArchiveRules", 10.0, 20),
    ("access-analyzer:ListFindings", 10.0, 20),
    ("access-analyzer:ListFindingsV2", 10.0, 20),
    ("access-analyzer:UpdateFindings", 5.0, 5),
    ("account:ListRegions", 5.0, 5),
    ("organizations:DescribeAccount", 20.0, 30),
    ("organizations:DescribeOrganization", 1.0, 2),
    ("organizations:ListAWSServiceAccessForOrganization", 1.0, 3),
    ("organizations:ListAccounts", 8.0, 12),
    ("organizations:ListAccountsForParent", 5.0, 8),
    ("organizations:ListDelegatedAdministrators", 5.0, 8),
    ("organizations:ListOrganizationalUnitsForParent", 5.0, 8),
    ("organizations:ListRoots", 1.0, 2),
    ("organizations:ListTagsForResource", 10.0, 15),
    ("securityhub:BatchImportFindings", 10.0, 30),
    ("sts:AssumeRole", 600.0, 600),
    ("sts:GetCallerIdentity", 600.0, 600),
];

/// The rates of every operation that is called.
fn default_rates() -> BTreeMap<String, Rate> {
    let rate = |(operation, per_second, burst): &(&str, f64, u32)| {
        ((*operation).to_owned(), Rate { per_second: *per_second, burst: *burst })
    };
    DEFAULT_RATES.iter().map(rate).collect()
}

fn over_defaults<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Rate>, D::Error> {
    let mut rates = default_rates();
    rates.extend(BTreeMap::<String, Rate>::deserialize(deserializer)?);
    Ok(rates)
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
            call_deadline: TimeSpan::seconds(60),
            visit_deadline: TimeSpan::seconds(5 * 60),
            scan_deadline: TimeSpan::seconds(6 * 3600),
            shutdown_grace: TimeSpan::seconds(20),
            rates: default_rates(),
        }
    }
}
