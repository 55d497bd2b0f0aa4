//! *evaluate* and *store*: audits are judged and recorded, batch after batch.

use std::sync::OnceLock;

use tracing::{info, warn};

use super::account::{Audit, Facts, fallback_regions};
use super::costs::Costs;
use super::{Engine, Sessions, StoreRetry, judge};
use crate::evaluate::OrganizationView;
use crate::metrics;
use crate::model::{AccountId, Region, ScanId, Visit, VisitOutcome};
use crate::store::StoreError;

/// Visits that are stored together: what is ready when the store is, and no more.
pub const BATCH: usize = 100;

/// Judges audits and stores them, batch after batch.
pub struct Recorder<'a> {
    pub engine: &'a Engine,
    pub costs: &'a Costs,
    pub scan_id: ScanId,
    pub sessions: &'a Sessions<'a>,
    pub retry: &'a StoreRetry<'a>,
    /// Set once every owner of the organization's analyzers was read, or could not be.
    pub view: OnceLock<OrganizationView>,
}

/// What became of an audit in the store.
pub struct Recorded {
    pub account: AccountId,
    /// Whether it was recorded: another process may have taken the account over, for this one seemed dead.
    pub is_ours: bool,
    pub unreachable: bool,
}

impl Recorder<'_> {
    pub async fn record(&self, audits: Vec<Audit>) -> Result<Vec<Recorded>, StoreError> {
        let view = self.view.get_or_init(OrganizationView::default);
        let mut visits: Vec<Visit> = Vec::new();
        for audit in audits {
            let (was_entered, known) = match &audit.facts {
                Facts::Entered(..) => (true, Vec::new()),
                Facts::Unreachable(_) | Facts::NotTried | Facts::NotReached => {
                    (false, self.rows_of(audit.account.id).await?)
                }
            };
            let _evaluating = self.costs.evaluates.enter();
            let mut visit = judge::visit(audit, &self.engine.organization, view, &known);
            let is_own = [self.sessions.caller().account, self.sessions.reader_account()].contains(&visit.account.id);
            let was_refused = visit.outcome == VisitOutcome::Unreachable && !was_entered;
            visit.entered = (!is_own && (was_entered || was_refused)).then_some(was_entered);
            visits.push(visit);
        }
        let _storing = self.costs.stores.enter();
        let worker = &self.engine.worker;
        let recorded =
            self.retry.run("record_visits", |store| store.record_visits(self.scan_id, &visits, worker)).await?;
        Ok(visits.iter().map(|visit| self.say(visit, recorded.contains(&visit.account.id))).collect())
    }

    fn say(&self, visit: &Visit, is_ours: bool) -> Recorded {
        let account = visit.account.id;
        let unreachable = visit.outcome == VisitOutcome::Unreachable;
        if is_ours {
            metrics::visit(visit.outcome);
        } else {
            metrics::claim_lost();
        }
        if !is_ours {
            warn!(scan.id = self.scan_id, account.id = %account, "another process has taken its visit over: ours is not written");
        } else if let (true, Some(failure)) = (unreachable, &visit.failure) {
            info!(scan.id = self.scan_id, account.id = %account, error.kind = %failure.kind, "unreachable: {}", failure.message);
        }
        Recorded { account, is_ours, unreachable }
    }

    /// The regions that an account has rows for though it was not entered: those last seen, or else the configured or
    /// default-enabled ones.
    async fn rows_of(&self, account: AccountId) -> Result<Vec<Region>, StoreError> {
        let known = self.retry.run("known_regions", |store| store.known_regions(self.scan_id, account)).await?;
        if known.is_empty() {
            Ok(fallback_regions(&self.engine.organization, &self.sessions.partition()))
        } else {
            Ok(known)
        }
    }
}
