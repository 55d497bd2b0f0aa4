//! `trustwatch run`: builds the concrete parts, runs them side by side, and waits for the end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::aws::{Aws, ConnectSettings};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Organization};
use crate::http;
use crate::model::{ScanState, Trigger};
use crate::scan::{Allowance, Engine, Progress, Request, Selection};
use crate::schedule::{Timetable, WATCHDOG, Wakeups, due};
use crate::store::{self, Access, Retention, Store, StoreError};

/// How often it is asked whether a new day has begun for `[store.retention]`.
const RETENTION_LOOKS: Duration = Duration::from_mins(10);

/// The engine of one organization: its caller's AWS, the common store.
///
/// # Errors
/// Where no HTTP client can be built.
pub async fn engine(
    config: &Config,
    organization: &Organization,
    allowance: Arc<Allowance>,
    store: Arc<dyn Store>,
) -> anyhow::Result<Engine> {
    Ok(Engine {
        aws: Arc::new(connect(config, organization).await?),
        organization: organization.clone(),
        others: config
            .organizations
            .iter()
            .map(|one| one.name.clone())
            .filter(|name| *name != organization.name)
            .collect(),
        limits: config.limits.clone(),
        allowance,
        store,
        clock: Arc::new(SystemClock),
        worker: worker(),
    })
}

/// AWS, as the caller of an organization sees it.
///
/// # Errors
/// Where no HTTP client can be built.
pub async fn connect(config: &Config, organization: &Organization) -> anyhow::Result<Aws> {
    let limits = &config.limits;
    let settings = ConnectSettings {
        profile: organization.profile.clone(),
        sts_region: organization.sts_region.clone(),
        connect_timeout: limits.connect_timeout.0,
        attempt_timeout: limits.attempt_timeout.0,
        connections_per_host: limits.connections_per_host as usize,
    };
    Ok(Aws::connect(&settings).await?)
}

/// The name of this process in `account_visits`: the host and the process's number.
fn worker() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}:{}", if host.is_empty() { "localhost" } else { host }, std::process::id())
}

/// Opens the store to write, as the configuration says.
///
/// # Errors
/// As [`store::open`].
pub async fn open_store(config: &Config) -> Result<Arc<dyn Store>, store::StoreError> {
    store::open(&config.store, Access::Write { migrate: config.store.migrate_on_start }).await
}

/// Runs until `stop`. A part that ends before that, or panics, ends the whole: never half alive.
///
/// # Errors
/// Where a part cannot be started, or fails.
pub async fn run(config: &Config, stop: &CancellationToken) -> anyhow::Result<()> {
    let store = open_store(config).await?;
    let allowance = Arc::new(Allowance::new(&config.limits));
    let wakeups = Wakeups::start().await.context("starting the scheduler")?;
    let mut parts: JoinSet<(String, anyhow::Result<()>)> = JoinSet::new();
    for organization in &config.organizations {
        let timetable = Timetable::read(config.schedule_of(organization))?;
        let wake = Arc::new(Notify::new());
        wakeups.add(&timetable, Arc::clone(&wake)).await.context("scheduling the scans")?;
        let engine = engine(config, organization, Arc::clone(&allowance), Arc::clone(&store)).await?;
        let name = format!("the schedule of organization `{}`", organization.name);
        let stop = stop.clone();
        parts.spawn(async move { (name, follow(&engine, &timetable, &wake, &stop).await) });
    }
    {
        let (store, retention, stop) = (Arc::clone(&store), config.store.retention.clone(), stop.clone());
        parts.spawn(async move { ("the retention".to_owned(), keep(store.as_ref(), &retention, &stop).await) });
    }
    if config.http.enabled {
        let server = http::Server::bind(config.http.listen).await;
        let server = server.with_context(|| format!("opening the port {} (http.listen)", config.http.listen))?;
        info!(address = %server.address(), "the port for health checks is open");
        let (store, stop) = (Arc::clone(&store), stop.clone());
        let name = "the port for health checks".to_owned();
        parts.spawn(async move { (name, server.run(store, stop).await.map_err(Into::into)) });
    }

    let mut result = Ok(());
    while let Some(ended) = parts.join_next().await {
        let problem = match ended {
            Ok((_, Ok(()))) if stop.is_cancelled() => continue,
            Ok((name, Ok(()))) => anyhow!("{name} ended by itself"),
            Ok((name, Err(error))) => error.context(name),
            Err(panic) => anyhow!("a part of the daemon panicked: {panic}"),
        };
        stop.cancel();
        result = result.and(Err(problem));
    }
    wakeups.stop().await;
    store.close().await;
    result
}

/// Lets go of what is older than it is kept, once a day and after the start. What fails is tried again.
async fn keep(store: &dyn Store, retention: &config::Retention, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut done = None;
    let mut looks = tokio::time::interval(RETENTION_LOOKS);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = looks.tick() => {}
        }
        let now = Retention::at(SystemClock.now(), retention);
        if done == Some(now) {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            pruned = store.prune(&now, false) => match pruned {
                Ok(pruned) => {
                    done = Some(now);
                    info!(visits = pruned.visits, intervals = pruned.intervals, "let go of what is older than it is kept");
                }
                Err(error) => warn!("what is older than it is kept stays for now: {error}"),
            },
        }
    }
}

/// Scans whenever it is due.
async fn follow(engine: &Engine, timetable: &Timetable, wake: &Notify, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut last = engine.clock.now();
    if let Some(next) = timetable.next_after(last) {
        info!(organization = %engine.organization.name, next = %next, "waiting for the schedule");
    }
    let mut watchdog = tokio::time::interval(WATCHDOG);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = wake.notified() => {}
            _ = watchdog.tick() => {}
        }
        // The scheduler may wake us a moment early; the watchdog asks again.
        let now = engine.clock.now();
        // A clock that was ahead and stepped back must not leave us waiting for the time that it showed.
        last = last.min(now);
        let Some(scheduled) = due(timetable, last, now) else { continue };
        last = scheduled;
        let request =
            Request { trigger: Trigger::Schedule, scheduled_for: Some(scheduled), selection: Selection::default() };
        let scanned = async {
            let outcome = engine.scan(request, Arc::new(Progress::default()), stop.clone()).await?;
            let totals = engine.store.report(outcome.scan_id).await?.scan;
            Ok::<_, StoreError>((outcome, totals))
        };
        let (outcome, totals) = match scanned.await {
            Ok(scanned) => scanned,
            Err(problem) if problem.is_passing() => {
                error!(organization = %engine.organization.name, "the scan was missed, the next one may do: {problem}");
                continue;
            }
            Err(problem) => return Err(problem.into()),
        };
        let next = timetable.next_after(engine.clock.now()).map(|next| next.to_rfc3339());
        match (outcome.state, &outcome.error) {
            (ScanState::Failed, Some(problem)) => error!(scan.id = outcome.scan_id, next, "scan failed: {problem}"),
            (state, problem) => info!(
                scan.id = outcome.scan_id,
                %state,
                problem,
                accounts = totals.accounts,
                covered = totals.covered,
                not_covered = totals.not_covered,
                unknown = totals.unknown,
                next,
                "scan ended"
            ),
        }
    }
}
