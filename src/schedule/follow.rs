//! One organization, scanned whenever it is due.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Before, Due, Timetable, WATCHDOG, due};
use crate::config::{Mode, Remediation};
use crate::model::{ScanState, Trigger};
use crate::remediate::{self, Choices};
use crate::scan::{Engine, Outcome, Progress, Request};
use crate::store::{Past, StoreError, bounded};

/// Follows the schedule of one organization.
pub struct Follower {
    engine: Engine,
    timetable: Timetable,
    up_since: DateTime<Utc>,
    /// Whether a plan is made after each completed scan, and where it is written.
    remediation: Remediation,
    /// Until it has been decided once what is due.
    is_starting: bool,
    /// Why a scan was given up that the store does not know of yet.
    given_up: Option<String>,
    /// What was said last of why nothing can be done, so that it is said once.
    said: Option<String>,
}

impl Follower {
    /// Follows a schedule from now on.
    pub fn new(engine: Engine, timetable: Timetable, remediation: Remediation) -> Self {
        let up_since = engine.clock.now();
        Self { engine, timetable, up_since, remediation, is_starting: true, given_up: None, said: None }
    }

    /// Scans whenever it is due, until `stop`.
    ///
    /// # Errors
    /// Where the store fails in a way that does not pass.
    pub async fn follow(mut self, wake: &Notify, stop: &CancellationToken) -> Result<(), StoreError> {
        loop {
            // What came due during a scan is made up when that has ended. One that goes on without us is no reason to hurry.
            let has_ended =
                |outcome: Option<Outcome>| outcome.is_some_and(|outcome| outcome.state != ScanState::Running);
            while !stop.is_cancelled() && has_ended(self.tick(stop).await?) {}
            let now = self.engine.clock.now();
            let until_next = self.timetable.next_after(now).and_then(|next| (next - now).to_std().ok());
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // The scheduler may wake us a moment early; this asks again.
                () = tokio::time::sleep(until_next.unwrap_or(WATCHDOG).min(WATCHDOG)) => {}
                () = wake.notified() => {}
            }
        }
    }

    /// Decides what is due now, and does it; `None` where nothing is, or can be.
    ///
    /// # Errors
    /// Where the store fails in a way that does not pass.
    pub async fn tick(&mut self, stop: &CancellationToken) -> Result<Option<Outcome>, StoreError> {
        match self.try_tick(stop).await {
            Ok(outcome) => {
                self.said = None;
                Ok(outcome)
            }
            Err(problem) if problem.is_passing() => {
                if let StoreError::Away { .. } = &problem {
                    self.given_up = Some(problem.to_string());
                }
                let problem = problem.to_string();
                if self.said.as_ref() != Some(&problem) {
                    warn!(organization = %self.engine.organization.name, "no scan for now, it is tried again: {problem}");
                }
                self.said = Some(problem);
                Ok(None)
            }
            Err(problem) => Err(problem),
        }
    }

    async fn try_tick(&mut self, stop: &CancellationToken) -> Result<Option<Outcome>, StoreError> {
        let Engine { store, clock, organization, worker, .. } = &self.engine;
        let now = clock.now();
        if let Some(problem) = &self.given_up {
            bounded(store.abandon_scans(&organization.name, worker, problem, now)).await?;
            self.given_up = None;
        }
        // A clock that was ahead when we started must not make everything since look missed.
        self.up_since = self.up_since.min(now);
        let Past { scheduled, completed, at_work } =
            bounded(store.past(&organization.name, &self.engine.configuration_hash(), now)).await?;
        // After the machine slept in the middle of one it is as at a start: what is stale by now is scanned anew.
        let is_left = |scanned: &Result<Outcome, StoreError>| {
            !stop.is_cancelled() && scanned.as_ref().is_ok_and(|outcome| outcome.state == ScanState::Running)
        };
        if at_work {
            match self.scan(Request::to_take_part(), stop).await {
                // It has ended meanwhile, or could not be resumed and is closed.
                Err(StoreError::NothingAtWork(_)) => return Box::pin(self.try_tick(stop)).await,
                scanned => {
                    self.is_starting |= is_left(&scanned);
                    return scanned.map(Some);
                }
            }
        }
        let before = Before { scheduled, completed };
        let request = match due(&self.timetable, before, self.up_since, self.is_starting, now) {
            Some(Due::Scheduled(instant)) => Request::due(Trigger::Schedule, Some(instant)),
            Some(Due::Stale(instant)) => Request::due(Trigger::Startup, instant),
            None => {
                self.wait(now);
                return Ok(None);
            }
        };
        let scanned = self.scan(request, stop).await;
        if !matches!(&scanned, Err(problem) if problem.is_passing()) {
            self.is_starting = is_left(&scanned);
        }
        scanned.map(Some)
    }

    fn wait(&mut self, now: DateTime<Utc>) {
        if std::mem::take(&mut self.is_starting)
            && let Some(next) = self.timetable.next_after(now)
        {
            info!(organization = %self.engine.organization.name, %next, "waiting for the schedule");
        }
    }

    async fn scan(&self, request: Request, stop: &CancellationToken) -> Result<Outcome, StoreError> {
        let outcome = self.engine.scan(request, Arc::new(Progress::default()), stop.clone()).await?;
        let report = bounded(self.engine.store.report(outcome.scan_id)).await?;
        let totals = &report.scan;
        let next = self.timetable.next_after(self.engine.clock.now()).map(|next| next.to_rfc3339());
        match (outcome.state, &outcome.error) {
            (ScanState::Failed, Some(problem)) => {
                error!(scan.id = outcome.scan_id, next, "scan failed: {problem}");
            }
            (ScanState::Running, _) => {
                info!(
                    scan.id = outcome.scan_id,
                    "what is left of the scan is handed back, for others or the next start"
                );
            }
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
        if outcome.state == ScanState::Completed {
            let now = self.engine.clock.now();
            for warning in report.exemptions.iter().filter_map(|exemption| exemption.warning(now)) {
                warn!(scan.id = outcome.scan_id, organization = %self.engine.organization.name, "{warning}");
            }
        }
        if outcome.state == ScanState::Completed && self.remediation.mode == Mode::Plan {
            self.plan().await;
        }
        Ok(outcome)
    }

    /// Writes a plan. That it cannot be made or written is no reason not to scan.
    async fn plan(&self) {
        let name = &self.engine.organization.name;
        let is_plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        let file = self.remediation.plan_folder.join(format!("trustwatch-plan-{plain}.json"));
        let plan = match remediate::plan(&self.engine, &self.remediation, Choices::default()).await {
            Ok(plan) => plan,
            Err(problem) => return warn!(organization = %name, "no plan could be made: {problem}"),
        };
        match remediate::write(&plan, &file) {
            Ok(()) => info!(organization = %name, plan = plan.id, steps = plan.steps.len(), "wrote {}", file.display()),
            Err(problem) => warn!(organization = %name, "{} cannot be written: {problem}", file.display()),
        }
    }
}
