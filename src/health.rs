//! Whether this process can do its work, each thing that it needs by name; and what a scrape of its metrics reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::aws::{Aws, Session};
use crate::clock::Clock;
use crate::metrics::{Newest, Organization, Scraped};
use crate::scan::Engine;
use crate::schedule::{Timetable, is_overdue};
use crate::store::query::ask;
use crate::store::{Overview, Store};

/// How long a check may take: whoever asks asks again.
const PATIENCE: Duration = Duration::from_secs(4);

/// For how long an answer of STS is believed.
const CREDENTIALS_HOLD: Duration = Duration::from_mins(1);

/// One thing that the process needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is needed.
    pub name: String,
    /// What is wrong with it, if anything.
    pub problem: Option<String>,
}

/// An organization, as far as its health is concerned.
pub struct Watched {
    name: String,
    aws: Arc<Aws>,
    timetable: Timetable,
    scan_deadline: TimeDelta,
    /// What STS said of the caller, and when.
    credentials: Mutex<Option<(Instant, Option<String>)>>,
}

impl Watched {
    /// Watches the organization of an engine.
    pub fn new(engine: &Engine, timetable: Timetable) -> Self {
        Self {
            name: engine.organization.name.clone(),
            aws: Arc::clone(&engine.aws),
            timetable,
            scan_deadline: TimeDelta::from_std(engine.limits.scan_deadline.0).unwrap_or(TimeDelta::MAX),
            credentials: Mutex::default(),
        }
    }

    /// What is wrong with the caller's credentials: asked once a minute, however often it is wanted.
    async fn credentials(&self) -> Option<String> {
        let mut known = self.credentials.lock().await;
        if let Some((at, problem)) = &*known
            && at.elapsed() < CREDENTIALS_HOLD
        {
            return problem.clone();
        }
        let problem = match timeout(PATIENCE, self.aws.caller_identity(&Session::Caller)).await {
            Ok(answer) => answer.err().map(|error| error.to_string()),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        *known = Some((Instant::now(), problem.clone()));
        problem
    }

    fn is_overdue(&self, overview: &Overview, up_since: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        // What a clock that was ahead has left in the future says nothing.
        let by_now = |at: &DateTime<Utc>| *at <= now;
        let completed = overview.completed.as_ref().map(|scan| scan.started_at.into()).filter(by_now);
        is_overdue(
            &self.timetable,
            self.scan_deadline,
            completed,
            overview.unfinished_since.filter(by_now),
            up_since,
            now,
        )
    }
}

/// The health of this process.
pub struct Health {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    up_since: AtomicI64,
    organizations: Vec<Watched>,
}

impl Health {
    /// Of a process that starts now.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, organizations: Vec<Watched>) -> Self {
        Self { store, up_since: AtomicI64::new(clock.now().timestamp_micros()), clock, organizations }
    }

    /// What time it is, and since when the process runs: not later, though the clock was ahead when it started.
    fn now_and_up_since(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        let now = self.clock.now();
        let before = self.up_since.fetch_min(now.timestamp_micros(), Ordering::Relaxed);
        (now, DateTime::from_timestamp_micros(before).map_or(now, |before| before.min(now)))
    }

    /// Everything that the process needs to do its work, and what is wrong with it.
    pub async fn checks(&self) -> Vec<Check> {
        let check = |name: String, problem: Option<String>| Check { name, problem };
        let slow = || format!("no answer within {} s", PATIENCE.as_secs());
        let schema = timeout(PATIENCE, self.store.schema_version()).await;
        let (database, schema) = match schema {
            Ok(Ok(version)) => (None, version.check().err().map(|error| error.to_string())),
            Ok(Err(error)) => (Some(error.to_string()), Some("the database does not answer".into())),
            Err(_) => (Some(slow()), Some("the database does not answer".into())),
        };
        let is_away = database.is_some();
        let mut checks = vec![check("database".into(), database), check("schema".into(), schema)];
        for organization in &self.organizations {
            let name = &organization.name;
            checks.push(check(format!("credentials of {name}"), organization.credentials().await));
            let overdue = if is_away {
                Some("the database does not answer".into())
            } else {
                match timeout(PATIENCE, self.store.overview(name)).await {
                    Ok(Ok(overview)) => self.overdue(organization, &overview),
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some(slow()),
                }
            };
            checks.push(check(format!("last scan of {name}"), overdue));
        }
        checks
    }

    fn overdue(&self, organization: &Watched, overview: &Overview) -> Option<String> {
        let (now, up_since) = self.now_and_up_since();
        organization.is_overdue(overview, up_since, now).then(|| match &overview.completed {
            Some(scan) => format!("overdue: the newest completed scan began at {}", scan.started_at),
            None => "overdue: no scan was completed yet".into(),
        })
    }

    /// Whether a scan of an organization that should have been completed by now was not, as far as the store answers.
    pub async fn is_overdue(&self, organization: &str) -> bool {
        let Some(watched) = self.organizations.iter().find(|watched| watched.name == organization) else {
            return false;
        };
        let overview = timeout(PATIENCE, self.store.overview(organization)).await;
        let overview = overview.ok().and_then(Result::ok);
        let (now, up_since) = self.now_and_up_since();
        overview.is_some_and(|overview| watched.is_overdue(&overview, up_since, now))
    }

    /// What the store says for a scrape; `None` where it does not answer, or lets nobody write.
    pub async fn scraped(&self) -> Option<Scraped> {
        timeout(PATIENCE, self.store.schema_version()).await.ok()?.ok()?;
        let mut scraped = Scraped::default();
        for watched in &self.organizations {
            let overview = timeout(PATIENCE, self.store.overview(&watched.name)).await.ok()?.ok()?;
            scraped.replicas = overview.replicas;
            let (now, up_since) = self.now_and_up_since();
            let is_overdue = watched.is_overdue(&overview, up_since, now);
            scraped.organizations.push(organization(&watched.name, is_overdue, &overview));
        }
        let sql = "SELECT channel, count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'dead')
                   FROM alert_deliveries GROUP BY channel ORDER BY channel";
        let messages = timeout(PATIENCE, ask(self.store.as_ref(), sql)).await.ok()?.ok()?;
        for row in &messages.rows {
            let [channel, pending, dead] = row.as_slice() else { continue };
            for (state, messages) in [("pending", pending), ("dead", dead)] {
                scraped.messages.push((channel.text().to_owned(), state, messages.real().unwrap_or_default()));
            }
        }
        Some(scraped)
    }
}

/// Seconds since 1970, as Prometheus has instants.
#[expect(clippy::cast_precision_loss, reason = "milliseconds are below 2^53 for a long time")]
fn seconds(instant: DateTime<Utc>) -> f64 {
    instant.timestamp_millis() as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "numbers of accounts and regions are far below 2^53")]
fn organization(name: &str, is_overdue: bool, overview: &Overview) -> Organization {
    let count = |count: Option<i64>| count.unwrap_or(0) as f64;
    let completed = overview.completed.as_ref();
    let newest = overview.whole.as_ref().map(|scan| Newest {
        accounts: vec![
            ("audited", count(scan.accounts_audited)),
            ("unreachable", count(scan.accounts_unreachable)),
            ("not_active", count(scan.accounts_not_active)),
            ("excluded", count(scan.accounts_excluded)),
        ],
        account_regions: vec![
            ("covered", count(scan.covered)),
            ("not_covered", count(scan.not_covered)),
            ("not_applicable", count(scan.not_applicable)),
            ("unknown", count(scan.unknown)),
        ],
        coverage: scan.coverage_ratio,
        last_known: scan.coverage_ratio_last_known,
        measured: scan.measured_ratio,
    });
    Organization {
        name: name.to_owned(),
        is_overdue,
        accounts_left: overview.accounts_left,
        started: overview.started.map(seconds),
        completed: completed.and_then(|scan| scan.finished_at).map(|at| seconds(at.into())),
        duration: completed.and_then(|scan| scan.duration_seconds),
        newest,
    }
}
