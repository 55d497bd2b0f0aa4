//! The engine of a scan: `discover → assume → audit → evaluate → store`.
//!
//! Accounts stream in page by page and are audited many at once; only their evaluation waits for the owners of the
//! organization's analyzers. One account, one region or one page that fails is a row with its reason. A scan ends early only where the
//! accounts cannot be listed or believed, no account could be entered, the store is gone, its time is over, or it is told to.

mod account;
mod costs;
mod discover;
mod ending;
mod judge;
mod limits;
mod list_writer;
mod pipeline;
mod progress;
mod readings;
mod record;
mod selection;
mod sessions;
mod store_retry;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, info_span};

use crate::aws::{Aws, Operation};
use crate::clock::Clock;
use crate::config::{Findings, Limits as Settings, Organization};
use crate::metrics;
use crate::model::{CallCount, ScanCost, ScanEnd, ScanId, ScanState, StageSeconds, Trigger, hex};
use crate::store::{IdentityConflict, JoinMode, Joined, Known, NewScan, Store, StoreError};

use discover::which;
use pipeline::{Begun, Left};
use store_retry::StoreRetry;

pub use account::fallback_regions;
pub use discover::{DiscoverError, advise, organization};
pub use limits::{Limits, ProcessLimits};
pub use progress::{Progress, Snapshot};
pub use selection::Selection;
pub use sessions::Sessions;

/// For how long a scan may have been left alone and still be resumed. The accounts that are left are judged by what the owners of
/// the organization's analyzers said before that.
const LONGEST_IDLE: TimeDelta = TimeDelta::minutes(30);

/// What a scan works with.
#[derive(Clone)]
pub struct Engine {
    /// AWS, as the caller of this organization.
    pub aws: Arc<Aws>,
    /// The organization.
    pub organization: Organization,
    /// The names of the other configured organizations.
    pub others: Vec<String>,
    /// How much at once, and how long.
    pub limits: Settings,
    /// What is read of Access Analyzer's own findings.
    pub findings: Findings,
    /// What all scans of this process share.
    pub process_limits: Arc<ProcessLimits>,
    /// Where results go.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The name of this process in `account_visits`, which no other process ever has.
    pub worker: String,
    /// For how long what it claimed stays its own though it says nothing (`store.lease`).
    pub lease: Duration,
    /// For how long the database is waited for (`store.max_outage`).
    pub max_outage: Duration,
}

/// Why and for when a scan is made.
#[derive(Debug, Clone)]
pub struct Request {
    /// What started it.
    pub trigger: Trigger,
    /// The instant of the schedule that it answers.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// Which accounts are visited.
    pub selection: Selection,
    /// Whether a scan is begun where there is none to take part in.
    pub begins: bool,
}

impl Request {
    /// A scan of every account that a person asked for.
    pub fn manual() -> Self {
        Self { trigger: Trigger::Manual, scheduled_for: None, selection: Selection::default(), begins: true }
    }

    /// Taking part in a scan that is at work, or was left behind, and no other.
    pub fn to_take_part() -> Self {
        Self { begins: false, ..Self::due(Trigger::Schedule, None) }
    }

    /// A scan that is due.
    pub fn due(trigger: Trigger, scheduled_for: Option<DateTime<Utc>>) -> Self {
        Self { trigger, scheduled_for, ..Self::manual() }
    }
}

/// What came of a scan, as far as this process took part.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its number.
    pub scan_id: ScanId,
    /// How it ended; `running` where it is left for others to go on with.
    pub state: ScanState,
    /// Why it is not completed.
    pub error: Option<String>,
    /// What it cost here.
    pub cost: ScanCost,
}

impl Engine {
    /// Scans the organization once, or takes part in the scan that is at work. `stop` ends a manual scan early: what is not
    /// recorded by then is `not_reached`. Of any other, it hands the rest back, for another process or the next start.
    ///
    /// # Errors
    /// Only where the store fails; every other failure is in the [`Outcome`].
    pub async fn scan(
        &self,
        request: Request,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<Outcome, StoreError> {
        let retry = StoreRetry::new(self.store.as_ref(), self.max_outage);
        let worker = self.worker.as_str();
        let started_at = self.clock.now();
        let scan_deadline = TimeDelta::from_std(self.limits.scan_deadline.0).unwrap_or(TimeDelta::MAX);
        let new = NewScan {
            organization_name: self.organization.name.clone(),
            trigger: request.trigger,
            scope: request.selection.scope(),
            scheduled_for: request.scheduled_for,
            started_at,
            requirement: self.organization.requirement,
            configuration_hash: self.configuration_hash(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            alive_from: started_at - LONGEST_IDLE,
            resumes_from: started_at.checked_sub_signed(scan_deadline).unwrap_or(DateTime::UNIX_EPOCH),
            begins: request.begins,
        };
        let joined = retry.run("begin_scan", |store| store.begin_scan(&new, worker)).await?;
        let scan_id = joined.scan_id;
        let what = match joined.how {
            JoinMode::Began => "scan begins",
            JoinMode::Joined => "scan begins here: others are at it",
            JoinMode::Resumed => "scan is resumed where another process left it",
        };
        info!(scan.id = scan_id, organization = %self.organization.name, trigger = %request.trigger, "{what}");
        let bytes_before: HashMap<Operation, u64> =
            Operation::ALL.iter().map(|operation| (*operation, self.aws.bytes(*operation))).collect();
        let limits = Limits::new(Arc::clone(&self.process_limits));
        let span = info_span!("scan", scan.id = scan_id);
        let left = self.take_part(&joined, &retry, &limits, &request, progress, stop).instrument(span).await;
        // One scan of an organization runs at a time in a process, so what was added meanwhile is its own.
        let moved = |operation| self.aws.bytes(operation) - bytes_before.get(&operation).copied().unwrap_or(0);
        let cost = limits.costs().sum(moved);
        log_cost(scan_id, &cost);
        metrics::stages(&cost.stages);
        let finished = match left {
            Ok(Left::End(end)) => {
                let finish =
                    retry.run("finish_scan", |store| store.finish_scan(scan_id, worker, &end, &cost, self.clock.now()));
                finish.await.map(|()| {
                    metrics::scan_ended(end.state);
                    (end.state, end.error)
                })
            }
            Ok(Left::HandedBack) => {
                retry.run("leave_scan", |store| store.leave_scan(scan_id, worker, &cost)).await?;
                Ok((ScanState::Running, None))
            }
            Err(error) => Err(error),
        };
        let (state, error) = match finished {
            // Another process that took part was the last, and ended it for all.
            Err(StoreError::ScanEnded(ended)) if ended == scan_id => {
                retry.run("leave_scan", |store| store.leave_scan(scan_id, worker, &cost)).await?;
                let ended = retry.run("report", |store| store.report(scan_id)).await?.scan;
                (ended.state.0, ended.error)
            }
            other => other?,
        };
        Ok(Outcome { scan_id, state, error, cost })
    }

    /// A hash of everything in the configuration that can change a verdict. Who answers for an account can where accounts are chosen
    /// by that.
    pub fn configuration_hash(&self) -> String {
        let organization = &self.organization;
        let Organization { regions, requirement, include, exclude, exclude_regions, ownership, .. } = organization;
        let mut parts = vec![json!([regions, requirement, include, exclude, exclude_regions])];
        if organization.chooses_by_owner() {
            parts.push(json!([ownership.owner_tag, ownership.team_tag, ownership.listed]));
        }
        let text = parts.iter().map(Value::to_string).collect::<String>();
        hex(&Sha256::digest(text.as_bytes())[..8])
    }

    async fn take_part(
        &self,
        joined: &Joined,
        retry: &StoreRetry<'_>,
        limits: &Limits,
        request: &Request,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<Left, StoreError> {
        let Joined { scan_id, started_at, .. } = *joined;
        let clock_at = self.clock.now();
        let ends_on_stop = request.trigger == Trigger::Manual;
        let failed = |error: String| {
            Ok(Left::End(ScanEnd { state: ScanState::Failed, error: Some(error), list_complete: false }))
        };
        // Several share what AWS allows one account from the first call on.
        let work = retry.run("heartbeat", |store| store.heartbeat(scan_id, &self.worker)).await?;
        self.process_limits.share_among(work.replicas);
        // The organization itself gets as long as one visit.
        let deadline = Instant::now() + self.limits.visit_deadline.0;
        let begin = async {
            let _discovering = limits.costs().discovers.enter();
            let sessions = Sessions::begin(&self.aws, limits, &self.organization, deadline).await;
            let sessions = match sessions {
                Ok(sessions) => sessions,
                Err(error) => return Ok(Err(advise(&error, "finding out who we are", None, None).to_string())),
            };
            let known = self.find_out(scan_id, retry, &sessions, deadline).await?;
            Ok::<_, StoreError>(known.map(|known| (sessions, known)))
        };
        let begun = tokio::select! {
            begun = begin => begun?,
            failed = self.keep_lease(scan_id, retry) => return Err(failed),
            () = stop.cancelled() => {
                return if ends_on_stop { failed("interrupted before the accounts were listed".into()) } else { Ok(Left::HandedBack) };
            }
        };
        let (sessions, known) = match begun {
            Ok(begun) => begun,
            Err(problem) => {
                // Others who can do it do it.
                let peers = retry.run("heartbeat", |store| store.heartbeat(scan_id, &self.worker)).await?.peers;
                if peers == 0 {
                    return failed(problem);
                }
                error!(scan.id = scan_id, peers, "this process cannot take part, others go on: {problem}");
                return Ok(Left::HandedBack);
            }
        };
        let exemptions = &self.organization.exemptions;
        retry.run("keep_exemptions", |store| store.keep_exemptions(scan_id, exemptions)).await?;
        let (costs, selection, sessions, known) = (limits.costs(), &request.selection, &sessions, &known);
        let begun = Begun { scan_id, started_at, clock_at, costs, selection, sessions, retry, known, ends_on_stop };
        pipeline::run(self, &begun, &progress, &stop).await
    }

    /// Renews the lease for as long as this is polled; returns only where that fails.
    async fn keep_lease(&self, scan_id: ScanId, retry: &StoreRetry<'_>) -> StoreError {
        loop {
            tokio::time::sleep(self.lease / 3).await;
            if let Err(error) = retry.run("heartbeat", |store| store.heartbeat(scan_id, &self.worker)).await {
                return error;
            }
        }
    }

    /// What is known of the organization: what another process has found out for this scan already, or what AWS says.
    async fn find_out(
        &self,
        scan_id: ScanId,
        retry: &StoreRetry<'_>,
        sessions: &Sessions<'_>,
        deadline: Instant,
    ) -> Result<Result<Known, String>, StoreError> {
        if let Some(known) = retry.run("known", |store| store.known(scan_id)).await? {
            let here = match which(&self.aws, sessions, deadline).await {
                Ok(here) => here.id,
                Err(error) => return Ok(Err(error.to_string())),
            };
            if here != known.discovered.organization_id {
                return Ok(Err(self.is_another(&known.discovered.organization_id, &here)));
            }
            return Ok(Ok(known));
        }
        let discovered = match organization(&self.aws, sessions, deadline).await {
            Ok(discovered) => discovered,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let id = &discovered.organization_id;
        let clash =
            retry.run("identify_organization", |store| store.identify_organization(scan_id, id, &self.others)).await?;
        let here = &self.organization.name;
        match clash {
            None => {}
            Some(IdentityConflict::NamedToo(name)) => {
                return Ok(Err(format!(
                    "{id} is configured twice, as `{name}` and as `{here}`: each would overwrite the other's results; remove one, \
                     or check their credentials"
                )));
            }
            Some(IdentityConflict::OfAnother(other)) => return Ok(Err(self.is_another(&other, id))),
        }
        retry.run("keep_discovered", |store| store.keep_discovered(scan_id, &discovered)).await?;
        // Of several who found out at once, all go by the first.
        let known = retry.run("known", |store| store.known(scan_id)).await?;
        known.map(Ok).ok_or(StoreError::ScanEnded(scan_id))
    }

    fn is_another(&self, before: &str, now: &str) -> String {
        let here = &self.organization.name;
        format!(
            "`{here}` has been {before} so far, and is {now} now: check `profile` and `reader_role_arn`; if {now} is meant, give \
             it another name, so that the results of the two are not taken for one"
        )
    }
}

/// What a scan cost, as `scan_calls` and `scan_summary` will say too.
fn log_cost(scan_id: ScanId, cost: &ScanCost) {
    let sum = |of: fn(&CallCount) -> u64| cost.calls.iter().map(of).sum::<u64>();
    let StageSeconds { discover, assume, audit, evaluate, store } = cost.stages;
    info!(
        scan.id = scan_id,
        calls = sum(|count| count.calls),
        retries = sum(|count| count.retries),
        throttled = sum(|count| count.throttled),
        errors = sum(|count| count.errors),
        bytes = sum(|count| count.bytes),
        discover_seconds = discover,
        assume_seconds = assume,
        audit_seconds = audit,
        evaluate_seconds = evaluate,
        store_seconds = store,
        bound_by = cost.bound_by,
        "what the scan cost"
    );
}
