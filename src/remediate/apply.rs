//! The application of a plan: held against AWS first, then step by step, each recorded before and after it is asked of AWS.

use std::collections::BTreeMap;
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
use crate::model::Analyzer;
use crate::scan::{Engine, Limits, Sessions, advise};
use crate::store::{ActionEnd, NewAction, Store, StoreError};

/// How often an analyzer that is being created is looked at: from here, doubling, to here.
const LOOKS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its name within the plan.
    pub step: String,
    /// What came of it.
    pub came: Came,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
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
pub enum Refused {
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
) -> Result<Vec<Applied>, Refused> {
    if engine.clock.now() >= plan.expires_at {
        let show = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        return Err(Refused::Expired { created_at: show(plan.created_at), expires_at: show(plan.expires_at) });
    }
    let limits = Limits::new(Arc::clone(&engine.allowance));
    let deadline = Instant::now() + engine.limits.visit_deadline.0;
    let sessions = Sessions::begin(&engine.aws, &limits, &engine.organization, deadline).await;
    let sessions = sessions.map_err(|error| advise(&error, "finding out who we are", None, None))?;
    let mut moved = Vec::new();
    if plan.requirement != engine.organization.requirement {
        let now = engine.organization.requirement;
        moved.push(format!("the rule asks for `{now}`, and did for `{}`", plan.requirement));
    }
    let now = access(engine, &sessions, deadline).await?;
    if now != plan.access {
        let show = |access: &super::Access| serde_json::json!(access).to_string();
        moved.push(format!("the organization is {}, and was {}", show(&now), show(&plan.access)));
    }
    let actor = sessions.caller().arn.clone();
    let applier = Applier { engine, remediation, plan, limits: &limits, sessions: &sessions, actor, stop };
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
        return Err(Refused::Moved(moved));
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

    /// Looks at the place of a step: what is there, or what is there that the plan did not expect.
    async fn look(&self, step: &Step) -> Result<Result<Found, String>, AwsError> {
        let session = self.enter(step).await?;
        let calls = self.limits.in_visit(self.deadline());
        let list = |token| self.engine.aws.list_analyzers(&session, &step.region, token);
        let analyzers = calls.all_pages(Operation::ListAnalyzers, list).await?;
        // What is listed of another account is not in this place.
        let here =
            analyzers.into_iter().filter(|one| one.zone_of_trust().is_some() && one.location.owner == step.account);
        let (mut ours, others): (Vec<_>, Vec<_>) = here.partition(|one| is_ours(step, one));
        let others: BTreeMap<&str, &str> = others
            .iter()
            .filter(|one| !step.replaces.contains(&one.name))
            .map(|one| (one.arn.as_str(), one.status.as_str()))
            .collect();
        let is_other = |arn: &str| {
            let name = arn.rsplit('/').next().unwrap_or_default();
            name != step.analyzer_name && !step.replaces.iter().any(|replaced| replaced == name)
        };
        let expected: BTreeMap<&str, &str> = step
            .expects
            .iter()
            .filter(|(arn, _)| is_other(arn))
            .map(|(arn, status)| (arn.as_str(), status.as_str()))
            .collect();
        // Another step of the same plan may have been done in the same place.
        let by_plan = |arn: &str| {
            let of = |other: &&Step| {
                (other.account, &other.region) == (step.account, &step.region)
                    && arn.ends_with(&format!("/{}", other.analyzer_name))
            };
            self.plan.steps.iter().find(of).is_some()
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
    async fn take(&self, step: &Step, found: Result<Found, AwsError>) -> Result<Came, StoreError> {
        if self.stop.is_cancelled() {
            return Ok(Came::Stopped);
        }
        let came = match found {
            Err(error) => Err(error),
            Ok(Found::Ours(analyzer)) => {
                let number = self.begin(step, "create_analyzer", &step.analyzer_name).await?;
                let came = self.wait(step, (*analyzer).clone(), true).await;
                self.end(number, "already", Some(&analyzer.arn), None, &came).await?;
                came
            }
            Ok(Found::AsExpected) => self.create(step).await?,
        };
        Ok(came.unwrap_or_else(|error| Came::Failed(explained(step, &error, &self.remediation.role))))
    }

    async fn create(&self, step: &Step) -> Result<Result<Came, AwsError>, StoreError> {
        let session = match self.enter(step).await {
            Ok(session) => session,
            Err(error) => return Ok(Err(error)),
        };
        let calls = self.limits.in_visit(self.deadline());
        for name in &step.replaces {
            let number = self.begin(step, "delete_analyzer", name).await?;
            let delete = || self.engine.aws.delete_analyzer(&session, &step.region, name);
            let deleted = calls.call(Operation::DeleteAnalyzer, delete).await;
            // Deleted by an earlier application that was stopped before it could create another.
            let is_gone = |error: &AwsError| error.code.as_deref() == Some("ResourceNotFoundException");
            let (result, request_id) = match &deleted {
                Ok(changed) => ("done", changed.request_id.clone()),
                Err(error) if is_gone(error) => ("already", error.request_id.clone()),
                Err(error) => ("failed", error.request_id.clone()),
            };
            let failed = deleted.err().filter(|error| !is_gone(error));
            let outcome = failed.map_or(Ok(Came::Already), Err);
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
        let get = || self.engine.aws.get_analyzer(&session, &step.region, &step.analyzer_name);
        let came = match calls.call(Operation::GetAnalyzer, get).await {
            Ok(analyzer) if is_ours(step, &analyzer) => {
                let arn = analyzer.arn.clone();
                let came = self.wait(step, analyzer, result == "already").await;
                self.end(number, result, Some(&arn), request_id.as_deref(), &came).await?;
                return Ok(came);
            }
            Ok(other) => Ok(Came::Failed(format!(
                "{} is there, and is of type {}: nothing was created beside it",
                other.arn, other.analyzer_type
            ))),
            Err(error) => Err(error),
        };
        let arn = created.ok().and_then(|created| created.arn);
        self.end(number, result, arn.as_deref(), request_id.as_deref(), &came).await?;
        Ok(came)
    }

    /// Waits until an analyzer is `ACTIVE`, or never will be.
    async fn wait(&self, step: &Step, mut analyzer: Analyzer, was_there: bool) -> Result<Came, AwsError> {
        let ends = Instant::now() + self.remediation.wait.0;
        let mut pause = LOOKS.0;
        loop {
            match analyzer.status.as_str() {
                "ACTIVE" => return Ok(if was_there { Came::Already } else { Came::Created }),
                "CREATING" => {}
                status => {
                    let reason = analyzer.status_reason.as_deref().unwrap_or("AWS gives no reason");
                    return Ok(Came::Failed(format!("{} is {status}: {reason}", analyzer.arn)));
                }
            }
            let next = Instant::now() + pause;
            if next > ends {
                return Ok(Came::NotYetActive);
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(Came::Stopped),
                () = sleep_until(next) => {}
            }
            pause = (pause * 2).min(LOOKS.1);
            // A wait may outlast a session.
            let session = self.enter(step).await?;
            let calls = self.limits.in_visit(self.deadline());
            let get = || self.engine.aws.get_analyzer(&session, &step.region, &step.analyzer_name);
            analyzer = calls.call(Operation::GetAnalyzer, get).await?;
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
        came: &Result<Came, AwsError>,
    ) -> Result<(), StoreError> {
        let (result, error) = match came {
            Ok(Came::Failed(problem)) => ("failed", Some(problem.clone())),
            Ok(Came::NotYetActive) => (result, Some("not ACTIVE in time".to_owned())),
            Ok(_) => (result, None),
            Err(error) => ("failed", Some(error.to_string())),
        };
        let at = self.engine.clock.now();
        let end = ActionEnd { result, analyzer_arn, request_id, error: error.as_deref(), at };
        self.store().end_action(number, &end).await
    }

    fn store(&self) -> &dyn Store {
        self.engine.store.as_ref()
    }
}

/// By name and type: a client token alone would not find what another application made.
fn is_ours(step: &Step, analyzer: &Analyzer) -> bool {
    analyzer.name == step.analyzer_name && analyzer.zone_of_trust() == Some(step.zone)
}

fn explained(step: &Step, error: &AwsError, role: &str) -> String {
    let advice = match (error.operation, error.code.as_deref()) {
        (Operation::AssumeRole, _) => {
            format!("; check that `{role}` (remediation.role) is in account {} and trusts the caller", step.account)
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
