//! The engine of a scan: `discover → assume → audit → evaluate → store`.
//!
//! Accounts stream in page by page and are audited many at once; only their evaluation waits for the owners of the
//! organization's analyzers. One account, one region or one page that fails is a row with its reason. Only "the accounts
//! cannot be listed or believed", "no account could be entered" and "the store is gone" end a scan early.

mod account;
mod costs;
mod discover;
mod judge;
mod limits;
mod pipeline;
mod progress;
mod selection;
mod sessions;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

use crate::aws::{Aws, Operation};
use crate::clock::Clock;
use crate::config::{Limits as Settings, Organization};
use crate::model::{CallCount, ScanCost, ScanEnd, ScanId, ScanState, StageSeconds, Trigger};
use crate::store::{NewScan, Store, StoreError};

use pipeline::Begun;

pub use account::fallback_regions;
pub use discover::{DiscoverError, Discovered, advise, organization};
pub use limits::{Allowance, Limits};
pub use progress::{Progress, Snapshot};
pub use selection::Selection;
pub use sessions::Sessions;

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
    /// What all scans of this process share.
    pub allowance: Arc<Allowance>,
    /// Where results go.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The name of this process in `account_visits`.
    pub worker: String,
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
}

impl Request {
    /// A scan of every account that a person asked for.
    pub fn manual() -> Self {
        Self { trigger: Trigger::Manual, scheduled_for: None, selection: Selection::default() }
    }
}

/// What came of a scan.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its number.
    pub scan_id: ScanId,
    /// How it ended.
    pub state: ScanState,
    /// Why it is not completed.
    pub error: Option<String>,
    /// What it cost.
    pub cost: ScanCost,
}

impl Engine {
    /// Scans the organization once. `stop` ends the scan early: what is not recorded by then is `not_reached`.
    ///
    /// # Errors
    /// Only where the store fails; every other failure is in the [`Outcome`].
    pub async fn scan(
        &self,
        request: Request,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<Outcome, StoreError> {
        let scan_id = self
            .store
            .begin_scan(&NewScan {
                organization_name: self.organization.name.clone(),
                trigger: request.trigger,
                scope: request.selection.scope(),
                scheduled_for: request.scheduled_for,
                started_at: self.clock.now(),
                requirement: self.organization.requirement,
                configuration_hash: configuration_hash(&self.organization),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            })
            .await?;
        info!(scan.id = scan_id, organization = %self.organization.name, trigger = %request.trigger, "scan begins");
        let bytes_before: HashMap<Operation, u64> =
            Operation::ALL.iter().map(|operation| (*operation, self.aws.bytes(*operation))).collect();
        let limits = Limits::new(Arc::clone(&self.allowance));
        let span = info_span!("scan", scan.id = scan_id);
        let end = self.run(scan_id, &limits, &request.selection, progress, stop).instrument(span).await?;
        // One scan of an organization runs at a time, so what was added meanwhile is its own.
        let moved = |operation| self.aws.bytes(operation) - bytes_before.get(&operation).copied().unwrap_or(0);
        let cost = limits.costs().sum(moved);
        log_cost(scan_id, &cost);
        self.store.finish_scan(scan_id, &end, &cost, self.clock.now()).await?;
        Ok(Outcome { scan_id, state: end.state, error: end.error, cost })
    }

    async fn run(
        &self,
        scan_id: ScanId,
        limits: &Limits,
        selection: &Selection,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<ScanEnd, StoreError> {
        let failed = |error: String| ScanEnd { state: ScanState::Failed, error: Some(error), list_complete: false };
        let interrupted = || failed("interrupted before the accounts were listed".into());
        // The organization itself gets as long as one visit.
        let deadline = Instant::now() + self.limits.visit_deadline.0;
        let begin = async {
            let _discovering = limits.costs().discovers.enter();
            let sessions = Sessions::begin(&self.aws, limits, &self.organization, deadline).await;
            let sessions = sessions.map_err(|error| advise(&error, "finding out who we are", None, None))?;
            let discovered = organization(&self.aws, &sessions, deadline).await?;
            Ok::<_, DiscoverError>((sessions, discovered))
        };
        let begun = tokio::select! {
            begun = begin => begun,
            () = stop.cancelled() => return Ok(interrupted()),
        };
        let (sessions, discovered) = match begun {
            Ok(begun) => begun,
            Err(error) => return Ok(failed(error.to_string())),
        };
        let id = &discovered.organization_id;
        if let Some(name) = self.store.identify_organization(scan_id, id, &self.others).await? {
            return Ok(failed(format!(
                "{id} is configured twice, as `{name}` and as `{}`: each would overwrite the other's results; remove one, or \
                 check their credentials",
                self.organization.name
            )));
        }
        let costs = limits.costs();
        let begun = Begun { scan_id, costs, selection, sessions: &sessions, discovered: &discovered };
        pipeline::run(self, &begun, &progress, &stop).await
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

/// A hash of everything in the configuration that can change a verdict.
fn configuration_hash(organization: &Organization) -> String {
    let Organization { regions, requirement, include, exclude, exclude_regions, .. } = organization;
    let text = serde_json::json!([regions, requirement, include, exclude, exclude_regions]).to_string();
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(String::new(), |hash, byte| hash + &format!("{byte:02x}"))
}
