//! What goes wrong: latency, rate limits and faults, by operation, account and region.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::rng;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Each is an exact name; absent means every.
    #[serde(default)]
    pub service: Option<String>,
    #[serde(default)]
    pub operation: Option<String>,
    #[serde(default)]
    pub account: Option<String>,
    #[serde(default)]
    pub region: Option<String>,
    /// How often it strikes.
    #[serde(default = "always")]
    pub probability: f64,
    /// Strikes only the first so many calls of each operation × account × region.
    #[serde(default)]
    pub first: Option<u64>,
    pub effect: Effect,
}

fn always() -> f64 {
    1.0
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// The answer takes so many milliseconds.
    Latency(u64),
    /// The answer takes `ms`, and with `share` `tail_ms`.
    Tail { ms: u64, tail_ms: u64, share: f64 },
    /// A token bucket for each operation, account and region that the rule matches.
    Rate { per_second: f64, burst: f64 },
    /// The service's own throttling error.
    Throttle,
    /// The service's own internal error.
    Error500,
    /// Service unavailable.
    Error503,
    /// The connection is reset.
    Reset,
    /// No answer, ever.
    Hang,
    /// Half of the body, then the end of the connection.
    Truncate,
    /// Half of the body, with a length that agrees.
    CutShort,
    /// A body that is not JSON or XML.
    Malformed,
    /// A body without its required members.
    EmptyObject,
    /// STS is not activated in the region.
    StsDisabled,
    /// The credentials are refused.
    BadCredentials,
    /// The session has ended.
    ExpiredToken,
    /// The account has not subscribed to the service.
    SubscriptionRequired,
    /// The session policy is too large once it is packed.
    PackedPolicyTooLarge,
}

/// Who calls what, where.
pub struct Call<'a> {
    pub service: &'a str,
    pub operation: &'a str,
    pub account: &'a str,
    pub region: &'a str,
}

/// What the weather does to one call.
#[derive(Debug, Default, PartialEq)]
pub struct Strike {
    pub latency: Duration,
    pub fault: Option<Effect>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, per_second: f64, burst: f64, now: Instant) -> bool {
        let refill = now.saturating_duration_since(self.at).as_secs_f64() * per_second;
        self.tokens = (self.tokens + refill).min(burst);
        self.at = now;
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

pub struct Weather {
    seed: u64,
    base: Duration,
    aws_rate_limits: bool,
    rules: Vec<Rule>,
    calls: HashMap<(usize, String), u64>,
    buckets: HashMap<String, Bucket>,
}

/// Published rates, calls per second and burst, for each account (AWS Organizations and Account Management quotas).
const AWS_RATES: &[(&str, f64, f64)] = &[
    ("organizations:ListAccounts", 8.0, 12.0),
    ("organizations:DescribeAccount", 20.0, 30.0),
    ("organizations:ListAccountsForParent", 5.0, 8.0),
    ("organizations:ListParents", 5.0, 8.0),
    ("organizations:ListOrganizationalUnitsForParent", 5.0, 8.0),
    ("organizations:ListTagsForResource", 10.0, 15.0),
    ("organizations:ListRoots", 1.0, 2.0),
    ("organizations:ListDelegatedAdministrators", 5.0, 8.0),
    ("organizations:ListAWSServiceAccessForOrganization", 1.0, 3.0),
    ("organizations:DescribeOrganization", 1.0, 2.0),
    ("sts:AssumeRole", 600.0, 600.0),
];

impl Weather {
    pub fn new(seed: u64, latency_ms: u64, aws_rate_limits: bool, rules: Vec<Rule>) -> Self {
        let base = Duration::from_millis(latency_ms);
        Self { seed, base, aws_rate_limits, rules, calls: HashMap::new(), buckets: HashMap::new() }
    }

    pub fn set_rules(&mut self, rules: Vec<Rule>) {
        self.rules = rules;
        self.calls.clear();
        self.buckets.clear();
    }

    /// Decides what happens to a call. Each rule keeps a count of its calls by operation × account × region, and chance
    /// depends on that count alone: the same calls meet the same weather in whatever order they come.
    pub fn strike(&mut self, call: &Call<'_>, now: Instant) -> Strike {
        let mut strike = Strike { latency: self.base, fault: None };
        let name = format!("{}:{}", call.service, call.operation);
        if self.aws_rate_limits
            && let Some((_, rate, burst)) = AWS_RATES.iter().find(|(operation, ..)| *operation == name)
        {
            let key = format!("aws|{name}|{}", call.account);
            if !take(&mut self.buckets, key, *rate, *burst, now) {
                strike.fault = Some(Effect::Throttle);
            }
        }
        let key = format!("{name}|{}|{}", call.account, call.region);
        for (index, rule) in self.rules.iter().enumerate() {
            let matches = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
            if !(matches(&rule.service, call.service)
                && matches(&rule.operation, call.operation)
                && matches(&rule.account, call.account)
                && matches(&rule.region, call.region))
            {
                continue;
            }
            let count = self.calls.entry((index, key.clone())).or_default();
            *count += 1;
            if rule.first.is_some_and(|first| *count > first) {
                continue;
            }
            let chance = rng::hash(self.seed, &[&index.to_string(), &key, &count.to_string()]);
            if rng::unit(chance) >= rule.probability {
                continue;
            }
            match rule.effect {
                Effect::Latency(ms) => strike.latency = Duration::from_millis(ms),
                Effect::Tail { ms, tail_ms, share } => {
                    let in_tail = rng::unit(rng::hash(chance, &["tail"])) < share;
                    strike.latency = Duration::from_millis(if in_tail { tail_ms } else { ms });
                }
                Effect::Rate { per_second, burst } => {
                    if !take(&mut self.buckets, format!("{index}|{key}"), per_second, burst, now) {
                        strike.fault = Some(Effect::Throttle);
                    }
                }
                fault => strike.fault = strike.fault.or(Some(fault)),
            }
        }
        strike
    }
}

fn take(buckets: &mut HashMap<String, Bucket>, key: String, per_second: f64, burst: f64, now: Instant) -> bool {
    buckets.entry(key).or_insert(Bucket { tokens: burst, at: now }).take(per_second, burst, now)
}
