//! `trustwatch run`: builds the concrete parts, runs them side by side, and waits for the end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::alerts::{Alerts, ChannelError};
use crate::aws::{Aws, ConnectSettings, Operation};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Organization};
use crate::health::{Health, Watched};
use crate::http;
use crate::lifecycle::{self, Parts};
use crate::metrics::Metrics;
use crate::scan::{Engine, ProcessLimits};
use crate::schedule::{Follower, Timetable, Wakeups};
use crate::store::{self, Access, Retention, Store, StoreError};

/// How often it is asked whether a new day has begun for `[store.retention]`.
const RETENTION_LOOKS: Duration = Duration::from_mins(10);

/// What the engines of one process share.
pub struct Shared {
    /// What they may do together.
    pub process_limits: Arc<ProcessLimits>,
    /// Where they keep results.
    pub store: Arc<dyn Store>,
    /// The name of the process: the host, the process's number, and what tells it from an earlier process with both, as a
    /// container has that was started again.
    worker: String,
}

impl Shared {
    /// Opens the store to write, as the configuration says.
    ///
    /// # Errors
    /// As [`store::open`].
    pub async fn open(config: &Config) -> Result<Self, StoreError> {
        Self::open_as(config, Access::Write { migrate: config.store.migrate_on_start }).await
    }

    /// Opens the store.
    ///
    /// # Errors
    /// As [`store::open`].
    pub async fn open_as(config: &Config, access: Access) -> Result<Self, StoreError> {
        let store = store::open(&config.store, access).await?;
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let worker = format!("{host}:{}:{:06x}", std::process::id(), fastrand::u32(..0x0100_0000));
        Ok(Self { process_limits: Arc::new(ProcessLimits::new(&config.limits)), store, worker })
    }

    /// What tells people of incidents.
    ///
    /// # Errors
    /// Where a channel cannot be prepared.
    pub async fn alerts(&self, config: &Config) -> Result<Alerts, ChannelError> {
        Alerts::open(config, Arc::clone(&self.store), Arc::new(SystemClock), self.worker.clone()).await
    }

    /// The engine of one organization: its caller's AWS, and what is shared.
    ///
    /// # Errors
    /// Where no HTTP client can be built.
    pub async fn engine(&self, config: &Config, organization: &Organization) -> anyhow::Result<Engine> {
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
            findings: config.findings,
            process_limits: Arc::clone(&self.process_limits),
            store: Arc::clone(&self.store),
            clock: Arc::new(SystemClock),
            worker: self.worker.clone(),
            lease: config.store.lease.0,
            max_outage: config.store.max_outage.0,
        })
    }
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

/// Runs until `stop`. A part that ends before that, or panics, ends the whole: never half alive.
///
/// # Errors
/// Where a part cannot be started, or fails.
pub async fn run(config: &Config, stop: &CancellationToken, mut parts: Parts) -> anyhow::Result<()> {
    let metrics = Metrics::start(&Operation::ALL.iter().map(|operation| operation.action()).collect::<Vec<_>>())?;
    let shared = Shared::open(config).await?;
    let store = Arc::clone(&shared.store);
    let wakeups = Wakeups::start().await.context("starting the scheduler")?;
    let mut watched = Vec::new();
    for organization in &config.organizations {
        let name = &organization.name;
        let timetable = Timetable::read(config.schedule_of(organization), name)
            .with_context(|| format!("reading the schedule of organization `{name}`"))?;
        let wake = Arc::new(Notify::new());
        let added = wakeups.add(&timetable, Arc::clone(&wake)).await;
        added.with_context(|| format!("scheduling the scans of organization `{name}`"))?;
        let engine = shared.engine(config, organization).await?;
        watched.push(Watched::new(&engine, timetable.clone()));
        let follower = Follower::new(engine, timetable, config.remediation.clone());
        let stop = stop.clone();
        parts.start(format!("the schedule of organization `{}`", organization.name), async move {
            follower.follow(&wake, &stop).await.map_err(Into::into)
        });
    }
    let alerts = shared.alerts(config).await?;
    let until = stop.clone();
    parts.start("the alerts", async move {
        alerts.run(&until).await;
        Ok(())
    });
    let (kept, retention, until) = (Arc::clone(&store), config.store.retention.clone(), stop.clone());
    parts.start("the retention", async move { keep(kept.as_ref(), &retention, &until).await });
    let (timed, until) = (metrics.clone(), stop.clone());
    parts.start("the adding up of metrics", async move {
        let mut minutes = tokio::time::interval(Duration::from_mins(1));
        while until.run_until_cancelled(minutes.tick()).await.is_some() {
            timed.add_up();
        }
        Ok(())
    });
    if config.http.enabled {
        let config::Http { listen, token, without_token, .. } = &config.http;
        let server = http::Server::bind(*listen).await;
        let server = server.with_context(|| format!("opening the port {listen} (http.listen)"))?;
        info!(address = %server.address(), "the port for health checks and metrics is open");
        let health = Health::new(Arc::clone(&store), Arc::new(SystemClock), watched);
        let served = http::Served {
            health,
            metrics,
            token: token.clone(),
            is_open: *without_token,
            store: Arc::clone(&store),
            organizations: config.organizations.iter().map(|organization| organization.name.clone()).collect(),
            clock: Arc::new(SystemClock),
        };
        let stop = stop.clone();
        parts.start("the port for health checks and metrics", async move {
            server.run(served, stop).await;
            Ok(())
        });
    }
    let until = stop.clone();
    parts.start("the watchdog's feeder", async move {
        lifecycle::feed_watchdog(&until).await;
        Ok(())
    });
    lifecycle::notify(NotifyState::Ready);
    let result = parts.wait(stop).await;
    lifecycle::notify(NotifyState::Stopping);
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
                    info!(visits = pruned.visits, intervals = pruned.intervals, "deleted what is older than it is kept");
                }
                Err(error) => warn!("what is older than it is kept stays for now: {error}"),
            },
        }
    }
}
