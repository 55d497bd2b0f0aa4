//! Remediation: a plan that a person can read, and its application.
//!
//! `propose` is pure: from the newest results and what the organization allows to the fewest safe steps. A [`Plan`] is a file; `apply`
//! holds it against AWS before it changes anything, and finds what an earlier application made by its fixed name and type.

mod apply;
mod plan;
mod propose;
mod render;
mod review;

use std::path::Path;

use tokio::time::Instant;

use crate::aws::{ACCESS_ANALYZER, AwsError, Operation};
use crate::config::Remediation;
use crate::model::Requirement;
use crate::scan::{DiscoverError, Engine, Limits, Sessions, advise, organization};
use crate::store::{Store, StoreError};

pub use apply::{Applied, ApplyError, StepOutcome, apply};
pub use plan::{Access, Plan, PlanError, Refusal, Step, Verb, Why};
pub use propose::{Choices, propose};
pub use render::{Form, render};
pub use review::{Change, ReviewError, Reviewed, review};

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanningError {
    /// Nothing has been scanned to its end.
    #[error("there is no completed scan of `{0}` to go by; run `trustwatch scan`")]
    NoScan(String),
    /// The rule is another since the newest scan.
    #[error(
        "the newest completed scan of `{name}` asked for `{scanned}`, and the configuration asks for `{configured}` now; run `trustwatch scan`"
    )]
    OtherRule {
        /// The configuration's name of the organization.
        name: String,
        /// What it asked for.
        scanned: Requirement,
        /// What it asks for.
        configured: Requirement,
    },
    /// The organization cannot be read.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads what the organization allows.
///
/// # Errors
/// Where AWS does not say which organization this is.
pub async fn access(engine: &Engine, sessions: &Sessions<'_>, deadline: Instant) -> Result<Access, DiscoverError> {
    let discovered = organization(&engine.aws, sessions, deadline).await?;
    if discovered.management.is_some() && !discovered.owners_known {
        let problem = "reading the organization: its delegated administrators cannot be listed, so that what it allows is not known; check \
                       organizations:ListDelegatedAdministrators, and try again";
        return Err(DiscoverError(problem.to_owned()));
    }
    let mut access = Access {
        organization_id: discovered.organization_id.clone(),
        management: discovered.management,
        delegated_administrator: discovered.owners.iter().copied().find(|id| Some(*id) != discovered.management),
        trusted: None,
    };
    if access.management.is_some() {
        let failed = |error: AwsError| advise(&error, "reading the organization", None, access.management);
        let reader = sessions.reader(deadline).await.map_err(failed)?;
        let list = |token| engine.aws.list_trusted_services(&reader, token);
        // Where it may not be read, it is not known: AWS says so when an analyzer is created.
        let services = sessions.reading(deadline).all_pages(Operation::ListAwsServiceAccess, list).await;
        access.trusted = services.ok().map(|services| services.iter().any(|service| service == ACCESS_ANALYZER));
    }
    Ok(access)
}

/// Writes a plan, whole or not at all: whoever reads the file meanwhile finds the one before.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(plan: &Plan, file: &Path) -> std::io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let text = plan.to_json().map_err(std::io::Error::other)?;
    std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, file)).inspect_err(|_| {
        // What is in the way is what is reported.
        let _ = std::fs::remove_file(&beside);
    })
}

/// Makes a plan from the newest results.
///
/// # Errors
/// Where there are none, or they or the organization cannot be read.
pub async fn plan(engine: &Engine, remediation: &Remediation, choices: Choices) -> Result<Plan, PlanningError> {
    let limits = Limits::new(std::sync::Arc::clone(&engine.process_limits));
    let sessions = Sessions::of(engine, &limits).await?;
    let deadline = Instant::now() + engine.limits.visit_deadline.0;
    let access = access(engine, &sessions, deadline).await?;
    let name = &engine.organization.name;
    let store: &dyn Store = engine.store.as_ref();
    let ground = store.ground(name, [access.management, access.delegated_administrator]).await?;
    let ground = ground.ok_or_else(|| PlanningError::NoScan(name.clone()))?;
    let configured = engine.organization.requirement;
    if ground.requirement != configured {
        return Err(PlanningError::OtherRule { name: name.clone(), scanned: ground.requirement, configured });
    }
    Ok(propose(name, &ground, access, remediation, choices, engine.clock.now()))
}
