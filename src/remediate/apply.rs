//! The application of a plan: held against AWS first, then step by step, each recorded before and after it is asked of AWS.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::access;
use super::plan::{Plan, Step};
use crate::aws::{AwsError, NewAnalyzer, Operation, Session};
use crate::config::Remediation;
use crate::model::{AccountId, Analyzer, AnalyzerArn, ErrorKind, Region, Requirement, ZoneOfTrust};
use crate::scan::{Engine, Limits, Sessions};
use crate::store::{ActionEnd, NewAction, Store, StoreError};

/// How often an analyzer that is being created is looked at: from here, doubling, to here.
const LOOKS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its name within the plan.
    pub step: String,
    /// What came of it.
    pub came: StepOutcome,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// The analyzer was created and is `ACTIVE`.
    Created,
    /// It was there, and is `ACTIVE`.
    Already,
    /// It is there, and was not `ACTIVE` in time.
    NotYetActive,
    /// It could not be done.
    Failed(String),
    /// It was stopped before that.
    Stopped,
}

/// Why a plan was not applied; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Its time is over.
    #[error(
        "the plan is from {created_at} and could be applied until {expires_at}; make another with `trustwatch remediate plan`"
    )]
    Expired {
        /// When it was made.
        created_at: String,
        /// When it ended.
        expires_at: String,
    },
    /// The world is not what it was.
    #[error("the world has moved away from the plan; nothing was changed. Scan again, and make another plan:\n  {}", .0.join("\n  "))]
    Moved(Vec<String>),
    /// The organization cannot be read.
    #[error(transparent)]
    Discover(#[from] crate::scan::DiscoverError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was found where a step is to be done.
enum Found {
    /// Nothing that the plan did not expect.
    AsExpected,
    /// What the step is to make.
    Ours(Box<Analyzer>),
}

struct Applier<'a> {
    engine: &'a Engine,
    remediation: &'a Remediation,
    plan: &'a Plan,
    limits: &'a Limits,
    sessions: &'a Sessions<'a>,
    actor: String,
    stop: &'a CancellationToken,
}

/// Applies a plan, or goes on with one that was applied in part. A step that fails does not hold up the others.
///
/// # Errors
/// Where the plan is not to be applied: then nothing was changed. And where the store fails.
pub async fn apply(
    engine: &Engine,
    remediation: &Remediation,
    plan: &Plan,
    stop: &CancellationToken,
) -> Result<Vec<Applied>, ApplyError> {
    if engine.clock.now() >= plan.expires_at {
        let show = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        return Err(ApplyError::Expired { created_at: show(plan.created_at), expires_at: show(plan.expires_at) });
    }
    let limits = Limits::new(Arc::clone(&engine.process_limits));
    let sessions = Sessions::of(engine, &limits).await?;
    let deadline = Instant::now() + engine.limits.visit_deadline.0;
    let mut moved = Vec::new();
    if plan.requirement != engine.organization.requirement {
        let now = engine.organization.requirement;
        moved.push(format!("the rule asks for `{now}`, and did for `{}`", plan.requirement));
    }
    let mut now = access(engine, &sessions, deadline).await?;
    if now.trusted.is_none() || plan.access.trusted.is_none() {
        // Not everybody may read it: AWS says so when an analyzer is created.
        now.trusted = plan.access.trusted;
    }
    if now != plan.access {
        let show = |access: &super::Access| serde_json::json!(access).to_string();
        moved.push(format!("the organization is {}, and was {}", show(&now), show(&plan.access)));
    }
    let actor = sessions.caller().arn.clone();
    let applier = Applier { engine, remediation, plan, limits: &limits, sessions: &sessions, actor, stop };
    moved.extend(applier.covered_meanwhile().await);
    let at_once = remediation.in_flight as usize;
    let applier = &applier;
    let looks = stream::iter(&plan.steps).map(|step| async move { (step, applier.look(step).await) }).buffered(at_once);
    let mut looks = std::pin::pin!(looks);
    let mut seen = Vec::new();
    while let Some((step, found)) = looks.next().await {
        match found {
            Ok(Err(problem)) => moved.push(problem),
            Ok(Ok(found)) => seen.push((step, Ok(found))),
            Err(error) => seen.push((step, Err(error))),
        }
    }
    if !moved.is_empty() {
        return Err(ApplyError::Moved(moved));
    }
    let work = stream::iter(seen).map(|(step, found)| async move { (step, applier.take(step, found).await) });
    let mut work = std::pin::pin!(work.buffer_unordered(at_once));
    let mut applied = BTreeMap::new();
    while let Some((step, came)) = work.next().await {
        let came = came?;
        info!(step = step.id, ?came, "a step of the plan has ended");
        applied.insert(step.id.as_str(), came);
    }
    let in_order = plan.steps.iter().filter_map(|step| Some((step, applied.remove(step.id.as_str())?)));
    Ok(in_order.map(|(step, came)| Applied { step: step.id.clone(), came }).collect())
}

impl Applier<'_> {
    fn deadline(&self) -> Instant {
        Instant::now() + self.engine.limits.visit_deadline.0
    }

    async fn enter(&self, step: &Step) -> Result<Session, AwsError> {
        self.sessions.changing(step.account, &self.remediation.role, self.deadline()).await
    }

    /// Where an analyzer of the organization is at work that the plan knows nothing of, and where nobody can say so, though one
    /// would make steps of the plan needless.
    async fn covered_meanwhile(&self) -> Vec<String> {
        let instead_of_own = self.plan.requirement == Requirement::Either;
        let concerns = |step: &&Step| instead_of_own || step.zone == ZoneOfTrust::Organization;
        let regions: BTreeSet<&Region> = self.plan.steps.iter().filter(concerns).map(|step| &step.region).collect();
        let mut covered = Vec::new();
        if regions.is_empty() {
            return covered;
        }
        for owner in [self.plan.access.management, self.plan.access.delegated_administrator].into_iter().flatten() {
            let entered = match self.sessions.enter(owner, self.deadline()).await {
                Ok(entered) => entered,
                // Who applies a plan need not be let in where the audit is: then what the scan saw has to do.
                Err(error) if error.kind == ErrorKind::RoleNotAssumable => continue,
                Err(error) => {
                    covered.push(format!("what account {owner} has now cannot be read: {error}"));
                    continue;
                }
            };
            for region in &regions {
                let list =
                    |session, token| async move { self.engine.aws.list_analyzers(&session, region, token).await };
                let listed = match entered.all_pages_in(region, Operation::ListAnalyzers, list).await {
                    Ok(listed) => listed,
                    Err(error) => {
                        covered.push(format!("{region}: what account {owner} has now cannot be read: {error}"));
                        continue;
                    }
                };
                let is_at_work =
                    |one: &&Analyzer| one.zone_of_trust() == Some(ZoneOfTrust::Organization) && one.is_active();
                let is_ours = |one: &Analyzer| {
                    let of_plan = |step: &Step| step.account == owner && step.region == **region && is_ours(step, one);
                    self.plan.steps.iter().any(of_plan)
                };
                let found = listed.iter().find(|one| is_at_work(one) && one.location.owner == owner && !is_ours(one));
                covered
                    .extend(found.map(|one| format!("{region}: {} is ACTIVE now, and covers every account", one.arn)));
            }
        }
        covered
    }

    /// Looks at the place of a step: what is there, or what is there that the plan did not expect.
    async fn look(&self, step: &Step) -> Result<Result<Found, String>, AwsError> {
        let session = self.enter(step).await?;
        let calls = self.limits.in_visit(self.deadline()).in_region(&step.region);
        let list = |token| self.engine.aws.list_analyzers(&session, &step.region, token);
        let analyzers = calls.all_pages(Operation::ListAnalyzers, list).await?;
        // What is listed of another account is not in this place.
        let here =
            analyzers.into_iter().filter(|one| one.zone_of_trust().is_some() && one.location.owner == step.account);
        let (mut ours, others): (Vec<_>, Vec<_>) = here.partition(|one| is_ours(step, one));
        let others: BTreeMap<&str, &str> = others
            .iter()
            .filter(|one| !is_replaced(step, one))
            .map(|one| (one.arn.as_str(), one.status.as_str()))
            .collect();
        let is_other = |arn: &str| {
            let name = AnalyzerArn::name_of(arn);
            // One that is to be deleted, or is deleted already.
            let is_gone_or_failed = !others.contains_key(arn);
            name != step.analyzer_name && !(is_gone_or_failed && step.replaces.iter().any(|replaced| replaced == name))
        };
        let expected: BTreeMap<&str, &str> = step
            .expects
            .iter()
            .filter(|(arn, _)| is_other(arn))
            .map(|(arn, status)| (arn.as_str(), status.as_str()))
            .collect();
        // Another step of the same plan may have been done in the same place.
        let by_plan = |arn: &str| {
            let name = AnalyzerArn::name_of(arn);
            self.plan.steps.iter().any(|other| {
                other.id != step.id
                    && (other.account, &other.region) == (step.account, &step.region)
                    && (name == other.analyzer_name || other.replaces.iter().any(|one| one == name))
            })
        };
        let others: BTreeMap<&str, &str> = others.into_iter().filter(|(arn, _)| !by_plan(arn)).collect();
        let expected: BTreeMap<&str, &str> = expected.into_iter().filter(|(arn, _)| !by_plan(arn)).collect();
        if others != expected {
            return Ok(Err(format!(
                "{} {}: there are analyzers {others:?} now, and there were {expected:?}",
                step.account, step.region
            )));
        }
        Ok(Ok(ours
            .pop()
            .filter(|one| !step.replaces.contains(&one.name) || one.status != "FAILED")
            .map_or(Found::AsExpected, |one| Found::Ours(Box::new(one)))))
    }

    /// Does a step, unless it was stopped or cannot be begun.
    async fn take(&self, step: &Step, found: Result<Found, AwsError>) -> Result<StepOutcome, StoreError> {
        if self.stop.is_cancelled() {
            return Ok(StepOutcome::Stopped);
        }
        let came = match found {
            Err(error) => {
                let number = self.begin(step, "create_analyzer", &step.analyzer_name).await?;
                let request_id = error.request_id.clone();
                let came = Err(error);
                self.end(number, "failed", None, request_id.as_deref(), &came).await?;
                came
            }
            Ok(Found::Ours(analyzer)) => {
                let number = self.begin(step, "create_analyzer", &step.analyzer_name).await?;
                let came = self.wait(step, Some((*analyzer).clone()), true).await;
                self.end(number, "already", Some(&analyzer.arn), None, &came).await?;
                came
            }
            Ok(Found::AsExpected) => self.create(step).await?,
        };
        Ok(came.unwrap_or_else(|error| StepOutcome::Failed(explained(step.account, &error, &self.remediation.role))))
    }

    async fn create(&self, step: &Step) -> Result<Result<StepOutcome, AwsError>, StoreError> {
        let session = match self.enter(step).await {
            Ok(session) => session,
            Err(error) => return Ok(Err(error)),
        };
        let calls = self.limits.in_visit(self.deadline());
        let is_gone = |error: &AwsError| error.code.as_deref() == Some("ResourceNotFoundException");
        for name in &step.replaces {
            let get = || self.engine.aws.get_analyzer(&session, &step.region, name);
            match calls.call(Operation::GetAnalyzer, get).await {
                Ok(analyzer) if analyzer.status != "FAILED" => {
                    let problem =
                        format!("{} is {} by now: it is not deleted; scan again", analyzer.arn, analyzer.status);
                    return Ok(Ok(StepOutcome::Failed(problem)));
                }
                Ok(_) => {}
                // Deleted by an earlier application that was stopped before it could create another.
                Err(error) if is_gone(&error) => {}
                // What nobody can say has failed is not deleted.
                Err(error) => return Ok(Err(error)),
            }
            let number = self.begin(step, "delete_analyzer", name).await?;
            let delete = || self.engine.aws.delete_analyzer(&session, &step.region, name);
            let deleted = calls.call(Operation::DeleteAnalyzer, delete).await;
            let (result, request_id) = match &deleted {
                Ok(changed) => ("done", changed.request_id.clone()),
                Err(error) if is_gone(error) => ("already", error.request_id.clone()),
                Err(error) => ("failed", error.request_id.clone()),
            };
            let failed = deleted.err().filter(|error| !is_gone(error));
            let outcome = failed.map_or(Ok(StepOutcome::Already), Err);
            self.end(number, result, None, request_id.as_deref(), &outcome).await?;
            if outcome.is_err() {
                return Ok(outcome);
            }
        }
        let token = self.plan.client_token(step);
        let new = NewAnalyzer {
            name: &step.analyzer_name,
            zone: step.zone,
            tags: &self.plan.tags,
            archive_rules: &self.plan.archive_rules,
            client_token: &token,
        };
        let number = self.begin(step, "create_analyzer", &step.analyzer_name).await?;
        let create = || self.engine.aws.create_analyzer(&session, &step.region, &new);
        let created = calls.call(Operation::CreateAnalyzer, create).await;
        let (result, request_id) = match &created {
            Ok(created) => ("done", created.request_id.clone()),
            // An attempt whose answer was lost, or another application of the same plan.
            Err(error) if error.code.as_deref() == Some("ConflictException") => ("already", error.request_id.clone()),
            Err(error) => {
                let request_id = error.request_id.clone();
                let outcome = Err(error.clone());
                self.end(number, "failed", None, request_id.as_deref(), &outcome).await?;
                return Ok(outcome);
            }
        };
        let arn = created.ok().and_then(|created| created.arn);
        let came = self.wait(step, None, result == "already").await;
        self.end(number, result, arn.as_deref(), request_id.as_deref(), &came).await?;
        Ok(came)
    }

    /// Waits until an analyzer is `ACTIVE`, or never will be. One that was created just now may not be found yet.
    async fn wait(&self, step: &Step, found: Option<Analyzer>, was_there: bool) -> Result<StepOutcome, AwsError> {
        let ends = Instant::now() + self.remediation.wait.0;
        let (mut analyzer, mut pause) = (found, Duration::ZERO);
        loop {
            match analyzer.as_ref().map(|one| (one, one.status.as_str())) {
                Some((one, _)) if !is_ours(step, one) => {
                    let problem = format!(
                        "{} is there, and is of type {}: nothing is made beside it",
                        one.arn, one.analyzer_type
                    );
                    return Ok(StepOutcome::Failed(problem));
                }
                Some((_, "ACTIVE")) => return Ok(if was_there { StepOutcome::Already } else { StepOutcome::Created }),
                None | Some((_, "CREATING")) => {}
                Some((one, status)) => {
                    let reason = one.status_reason.as_deref().unwrap_or("AWS gives no reason");
                    return Ok(StepOutcome::Failed(format!("{} is {status}: {reason}", one.arn)));
                }
            }
            let next = Instant::now() + pause;
            if next > ends {
                return Ok(StepOutcome::NotYetActive);
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(StepOutcome::Stopped),
                () = sleep_until(next) => {}
            }
            pause = (pause * 2).clamp(LOOKS.0, LOOKS.1);
            // A wait may outlast a session.
            let session = self.enter(step).await?;
            let calls = self.limits.in_visit(self.deadline());
            let get = || self.engine.aws.get_analyzer(&session, &step.region, &step.analyzer_name);
            analyzer = match calls.call(Operation::GetAnalyzer, get).await {
                Err(error) if error.code.as_deref() == Some("ResourceNotFoundException") => None,
                got => Some(got?),
            };
        }
    }

    async fn begin(&self, step: &Step, action: &'static str, analyzer_name: &str) -> Result<i64, StoreError> {
        let new = NewAction {
            organization_id: &self.plan.access.organization_id,
            action,
            plan: Some((&self.plan.id, &step.id)),
            account: step.account,
            region: &step.region,
            analyzer_arn: None,
            analyzer_name,
            finding_ids: None,
            reason: None,
            actor: &self.actor,
            at: self.engine.clock.now(),
        };
        self.store().begin_action(&new).await
    }

    async fn end(
        &self,
        number: i64,
        result: &'static str,
        analyzer_arn: Option<&str>,
        request_id: Option<&str>,
        came: &Result<StepOutcome, AwsError>,
    ) -> Result<(), StoreError> {
        // The result is the call's own: what AWS made is on record as made, whatever became of it.
        let error = match came {
            Ok(StepOutcome::Failed(problem)) => Some(problem.clone()),
            Ok(StepOutcome::NotYetActive) => Some("not ACTIVE in time".to_owned()),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        let at = self.engine.clock.now();
        let end = ActionEnd { result, analyzer_arn, request_id, error: error.as_deref(), at };
        self.store().end_action(number, &end).await
    }

    fn store(&self) -> &dyn Store {
        self.engine.store.as_ref()
    }
}

/// One that has failed, and that the plan deletes. One that is at work by now is not to be deleted.
fn is_replaced(step: &Step, analyzer: &Analyzer) -> bool {
    step.replaces.contains(&analyzer.name) && analyzer.status == "FAILED"
}

/// By name and type: a client token alone would not find what another application made.
fn is_ours(step: &Step, analyzer: &Analyzer) -> bool {
    analyzer.name == step.analyzer_name && analyzer.zone_of_trust() == Some(step.zone)
}

/// What a person can do about a call that failed.
pub fn explained(account: AccountId, error: &AwsError, role: &str) -> String {
    let advice = match (error.operation, error.code.as_deref()) {
        (Operation::AssumeRole, _) => {
            format!("; check that `{role}` (remediation.role) is in account {account} and trusts the caller")
        }
        (_, Some("AccessDeniedException")) => {
            format!("; `trustwatch policy` prints what `{role}` (remediation.role) needs")
        }
        (_, Some("ServiceQuotaExceededException")) => {
            "; delete an analyzer that is not needed, or have the quota raised".to_owned()
        }
        _ => String::new(),
    };
    format!("{error}{advice}")
}
