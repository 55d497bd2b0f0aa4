//! Every metric, in one list. The only user of the `metrics` crates.
//!
//! Counters are this process's own and exist, at 0, from its start. What a scan found is read from the store when it is
//! scraped, so that it is right after a restart and the same in every process. Labels are words of closed sets, and the
//! configuration's names of organizations: never an account.

use std::time::Duration;

use ::metrics::{Gauge, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::model::{ErrorKind, ScanState, StageSeconds, VisitOutcome};

/// What a metric says of itself.
type Described = (&'static str, &'static str);

const SCANS: &str = "trustwatch_scans_total";
const STAGES: &str = "trustwatch_scan_stage_seconds";
const VISITS: &str = "trustwatch_visits_total";
const VISITS_IN_FLIGHT: &str = "trustwatch_visits_in_flight";
const CALLS: &str = "trustwatch_aws_calls_total";
const CALLS_IN_FLIGHT: &str = "trustwatch_aws_calls_in_flight";
const CLAIMS_LOST: &str = "trustwatch_claims_lost_total";
const OUTAGES: &str = "trustwatch_database_outages_total";
const STORE: &str = "trustwatch_store_seconds";
const ALERTS: &str = "trustwatch_alert_attempts_total";

/// What this process counts.
const COUNTERS: &[Described] = &[
    (SCANS, "Scans that this process ended, by state."),
    (VISITS, "Visits that this process recorded, by outcome."),
    (CALLS, "Attempts of calls to AWS, by service, operation and outcome: ok, or the kind of the error."),
    (CLAIMS_LOST, "Visits that were not written, because another process had taken the account over."),
    (
        ALERTS,
        "Attempts to send a message, by channel and outcome: delivered, failed (it is tried again), or dead (given up).",
    ),
    (OUTAGES, "Times that the database was away in the middle of a scan."),
];

/// What this process is at.
const GAUGES: &[Described] = &[
    (VISITS_IN_FLIGHT, "Accounts that this process is visiting."),
    (CALLS_IN_FLIGHT, "Calls to AWS that this process has under way."),
];

const BUILD: &str = "trustwatch_build_info";
const UP: &str = "trustwatch_database_up";
const REPLICAS: &str = "trustwatch_replicas";
const LEFT: &str = "trustwatch_accounts_left";
const STARTED: &str = "trustwatch_last_scan_started_timestamp_seconds";
const COMPLETED: &str = "trustwatch_last_scan_completed_timestamp_seconds";
const DURATION: &str = "trustwatch_last_scan_duration_seconds";
const OVERDUE: &str = "trustwatch_scan_overdue";
const ACCOUNTS: &str = "trustwatch_accounts";
const ACCOUNT_REGIONS: &str = "trustwatch_account_regions";
const COVERAGE: &str = "trustwatch_coverage_ratio";
const LAST_KNOWN: &str = "trustwatch_coverage_last_known_ratio";
const MEASURED: &str = "trustwatch_measured_ratio";
const MESSAGES: &str = "trustwatch_alert_messages";

/// What is read from the store when it is scraped.
const READ: &[Described] = &[
    (BUILD, "1, with the version and the commit that this process was built from."),
    (UP, "Whether the database answered this scrape; without it, what is read from it is missing."),
    (REPLICAS, "Processes that are at work in a scan."),
    (LEFT, "Accounts that the scan at work has listed and not recorded; 0 where none is at work."),
    (STARTED, "When the newest scan of all accounts began."),
    (COMPLETED, "When the newest completed scan of all accounts ended."),
    (DURATION, "How long the newest completed scan of all accounts took."),
    (OVERDUE, "Whether a scan that should have been completed by now was not."),
    (ACCOUNTS, "Accounts of the newest scan of the whole organization, by outcome."),
    (ACCOUNT_REGIONS, "Account × regions of the newest scan of the whole organization, by status."),
    (COVERAGE, "covered / (covered + not_covered) of that scan."),
    (LAST_KNOWN, "The same, each unknown counted by its last known answer."),
    (MEASURED, "(covered + not_covered) / (covered + not_covered + unknown) of that scan."),
    (MESSAGES, "Messages that wait or were given up, by channel and state: pending or dead."),
];

/// What this process times, with the upper bounds of its buckets in seconds.
const TIMED: &[(&str, &str, &[f64])] = &[
    (STORE, "Seconds that a verb of the store took, by verb.", &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]),
    (
        STAGES,
        "Seconds of each scan in which this process had an account in a stage, by stage; the stages overlap.",
        &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0],
    ),
];

/// What a scrape reads.
#[derive(Debug, Clone, Default)]
pub struct Scraped {
    /// Processes that are at work in a scan.
    pub replicas: u32,
    /// Each organization.
    pub organizations: Vec<Organization>,
    /// Messages, by channel and state.
    pub messages: Vec<(String, &'static str, f64)>,
}

/// What a scrape reads of one organization.
#[derive(Debug, Clone, Default)]
pub struct Organization {
    /// The configuration's name of it.
    pub name: String,
    /// Whether a scan that should have been completed by now was not.
    pub is_overdue: bool,
    /// Accounts that the scan at work has still to record.
    pub accounts_left: u64,
    /// When the newest scan of all accounts began, in seconds since 1970.
    pub started: Option<f64>,
    /// When the newest completed scan of all accounts ended, in seconds since 1970.
    pub completed: Option<f64>,
    /// How long that took, in seconds.
    pub duration: Option<f64>,
    /// The newest scan of the whole organization: the same, or a later one that found every role gone.
    pub newest: Option<Newest>,
}

/// The newest scan of the whole of an organization.
#[derive(Debug, Clone, Default)]
pub struct Newest {
    /// Accounts by outcome.
    pub accounts: Vec<(&'static str, f64)>,
    /// Account × regions by status.
    pub account_regions: Vec<(&'static str, f64)>,
    /// covered / (covered + `not_covered`)
    pub coverage: Option<f64>,
    /// The same, each unknown counted by its last known answer.
    pub last_known: Option<f64>,
    /// (covered + `not_covered`) / (covered + `not_covered` + unknown)
    pub measured: Option<f64>,
}

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Begins to count, everything at 0.
    ///
    /// # Errors
    /// Where something counts already.
    pub fn start(operations: &[&'static str]) -> anyhow::Result<Self> {
        let mut builder = PrometheusBuilder::new();
        for (name, _, buckets) in TIMED {
            builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)?;
        }
        let handle = builder.install_recorder()?;
        for (name, help, _) in TIMED {
            describe_histogram!(*name, *help);
        }
        for (name, help) in COUNTERS {
            describe_counter!(*name, *help);
        }
        for (name, help) in GAUGES {
            describe_gauge!(*name, *help);
            gauge!(*name).set(0.0);
        }
        for state in ScanState::ALL.iter().filter(|state| **state != ScanState::Running) {
            counter!(SCANS, "state" => state.as_str()).absolute(0);
        }
        for outcome in VisitOutcome::ALL {
            counter!(VISITS, "outcome" => outcome.as_str()).absolute(0);
        }
        for action in operations {
            call_counter(action, None).absolute(0);
            call_counter(action, Some(ErrorKind::Throttled)).absolute(0);
        }
        counter!(CLAIMS_LOST).absolute(0);
        counter!(OUTAGES).absolute(0);
        Ok(Self(handle))
    }

    /// Adds up what was timed, which is kept one by one until then: to be done now and then, whether anybody scrapes or not.
    pub fn add_up(&self) {
        self.0.run_upkeep();
    }

    /// Everything in Prometheus's text format, with what the store says now; `None` where it does not answer.
    pub fn render(&self, scraped: Option<&Scraped>) -> String {
        // Read anew for each scrape, in a recorder of its own: what the store no longer says is no longer there.
        let recorder = PrometheusBuilder::new().build_recorder();
        ::metrics::with_local_recorder(&recorder, || {
            for (name, help) in READ {
                describe_gauge!(*name, *help);
            }
            gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION"), "commit" => env!("BUILD_COMMIT")).set(1.0);
            gauge!(UP).set(if scraped.is_some() { 1.0 } else { 0.0 });
            if let Some(scraped) = scraped {
                gauge!(REPLICAS).set(f64::from(scraped.replicas));
                scraped.organizations.iter().for_each(read);
                for (channel, state, messages) in &scraped.messages {
                    gauge!(MESSAGES, "channel" => channel.clone(), "state" => *state).set(*messages);
                }
            }
        });
        self.0.render() + &recorder.handle().render()
    }
}

fn read(organization: &Organization) {
    let name = &organization.name;
    let set = |metric: &'static str, value: Option<f64>| {
        if let Some(value) = value {
            gauge!(metric, "organization" => name.clone()).set(value);
        }
    };
    set(OVERDUE, Some(if organization.is_overdue { 1.0 } else { 0.0 }));
    #[expect(clippy::cast_precision_loss, reason = "numbers of accounts are far below 2^53")]
    set(LEFT, Some(organization.accounts_left as f64));
    set(STARTED, organization.started);
    set(COMPLETED, organization.completed);
    set(DURATION, organization.duration);
    let Some(newest) = &organization.newest else { return };
    for (outcome, accounts) in &newest.accounts {
        gauge!(ACCOUNTS, "organization" => name.clone(), "outcome" => *outcome).set(*accounts);
    }
    for (status, rows) in &newest.account_regions {
        gauge!(ACCOUNT_REGIONS, "organization" => name.clone(), "status" => *status).set(*rows);
    }
    set(COVERAGE, newest.coverage);
    set(LAST_KNOWN, newest.last_known);
    set(MEASURED, newest.measured);
}

/// A scan of this process ended.
pub fn scan_ended(state: ScanState) {
    counter!(SCANS, "state" => state.as_str()).increment(1);
}

/// A scan had accounts in its stages for so long.
pub fn stages(seconds: &StageSeconds) {
    let StageSeconds { discover, assume, audit, evaluate, store } = *seconds;
    let stages =
        [("discover", discover), ("assume", assume), ("audit", audit), ("evaluate", evaluate), ("store", store)];
    for (stage, seconds) in stages {
        histogram!(STAGES, "stage" => stage).record(seconds);
    }
}

/// A visit was recorded.
pub fn visit(outcome: VisitOutcome) {
    counter!(VISITS, "outcome" => outcome.as_str()).increment(1);
}

/// A visit was not written, because another process had taken the account over.
pub fn claim_lost() {
    counter!(CLAIMS_LOST).increment(1);
}

/// The database was found away in the middle of a scan.
pub fn database_outage() {
    counter!(OUTAGES).increment(1);
}

/// The outcomes of an attempt to send a message.
const ATTEMPTS: &[&str] = &["delivered", "failed", "dead"];

/// A channel is there, to which nothing was sent yet.
pub fn alert_channel(channel: &str) {
    for outcome in ATTEMPTS {
        counter!(ALERTS, "channel" => channel.to_owned(), "outcome" => *outcome).absolute(0);
    }
}

/// An attempt to send a message came to an end.
pub fn alert_attempt(channel: &str, outcome: &'static str) {
    counter!(ALERTS, "channel" => channel.to_owned(), "outcome" => outcome).increment(1);
}

/// An attempt of a call, by its IAM action, came to an end.
pub fn call(action: &'static str, error: Option<ErrorKind>) {
    call_counter(action, error).increment(1);
}

fn call_counter(action: &'static str, error: Option<ErrorKind>) -> ::metrics::Counter {
    let (service, operation) = action.split_once(':').unwrap_or(("", action));
    let outcome = error.map_or("ok", ErrorKind::as_str);
    counter!(CALLS, "service" => service, "operation" => operation, "outcome" => outcome)
}

/// A verb of the store took so long.
pub fn store_took(verb: &'static str, took: Duration) {
    histogram!(STORE, "verb" => verb).record(took);
}

/// Something is under way until this is dropped.
pub struct InFlight(Gauge);

impl InFlight {
    fn begin(metric: &'static str) -> Self {
        let gauge = gauge!(metric);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// A call to AWS is under way.
pub fn call_in_flight() -> InFlight {
    InFlight::begin(CALLS_IN_FLIGHT)
}

/// An account is visited.
pub fn visit_in_flight() -> InFlight {
    InFlight::begin(VISITS_IN_FLIGHT)
}
