//! The review of findings: what is intended is archived, and what was archived by mistake is active again. Each call is recorded
//! before and after it is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::apply::explained;
use crate::aws::{AwsError, Operation, Session};
use crate::config::Remediation;
use crate::model::{AccountId, AnalyzerArn, Region};
use crate::scan::{DiscoverError, Engine, Limits, Sessions};
use crate::store::{ActionEnd, HeldFinding, NewAction, Store, StoreError};

/// Findings that are changed in one call.
const AT_ONCE: usize = 100;

/// What becomes of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They are intended.
    Archive,
    /// They are not, after all.
    Restore,
}

impl Change {
    /// The status that a finding has before.
    pub const fn from_status(self) -> &'static str {
        match self {
            Self::Archive => "ACTIVE",
            Self::Restore => "ARCHIVED",
        }
    }

    /// The status that it has afterwards.
    pub const fn to_status(self) -> &'static str {
        match self {
            Self::Archive => "ARCHIVED",
            Self::Restore => "ACTIVE",
        }
    }

    /// Whether a finding can be changed so. One that was archived is not listed where only active ones are.
    pub fn fits(self, finding: &HeldFinding) -> bool {
        finding.status == self.from_status() && (finding.is_listed || self == Self::Restore)
    }

    const fn action(self) -> &'static str {
        match self {
            Self::Archive => "archive_findings",
            Self::Restore => "restore_findings",
        }
    }
}

/// What came of the findings of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    /// Their analyzer.
    pub analyzer_arn: String,
    /// Their ids.
    pub finding_ids: Vec<String>,
    /// Why nothing was done, if nothing was.
    pub problem: Option<String>,
}

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// AWS does not say who we are.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds an account id that is none.
    #[error("the store holds an account id that is none: {0}")]
    Corrupt(String),
}

/// Archives findings of the engine's organization, or restores them, through the role that changes things. One analyzer that refuses
/// does not hold up the others.
///
/// # Errors
/// Where nothing can be begun, or the store fails.
pub async fn review(
    engine: &Engine,
    remediation: &Remediation,
    findings: &[HeldFinding],
    change: Change,
    reason: &str,
) -> Result<Vec<Reviewed>, ReviewError> {
    let limits = Limits::new(Arc::clone(&engine.process_limits));
    let sessions = Sessions::of(engine, &limits).await?;
    let mut by_analyzer: BTreeMap<(&str, &str), Vec<&HeldFinding>> = BTreeMap::new();
    for finding in findings {
        by_analyzer.entry((&finding.owner_account_id, &finding.analyzer_arn)).or_default().push(finding);
    }
    let mut reviewed = Vec::new();
    // Of the account whose turn it is, whose analyzers come one after another.
    let mut entered: Option<(AccountId, Result<Session, AwsError>)> = None;
    for ((_, arn), findings) in by_analyzer {
        let Some(first) = findings.first() else { continue };
        let account: AccountId =
            first.owner_account_id.parse().map_err(|error| ReviewError::Corrupt(format!("{error}")))?;
        let region = Region::new(&first.region);
        for some in findings.chunks(AT_ONCE) {
            let ids: Vec<String> = some.iter().map(|finding| finding.finding_id.clone()).collect();
            let new = NewAction {
                organization_id: &first.organization_id,
                action: change.action(),
                plan: None,
                account,
                region: &region,
                analyzer_arn: Some(arn),
                analyzer_name: AnalyzerArn::name_of(arn),
                finding_ids: Some(&ids),
                reason: Some(reason),
                actor: &sessions.caller().arn,
                at: engine.clock.now(),
            };
            let store: &dyn Store = engine.store.as_ref();
            let number = store.begin_action(&new).await?;
            let deadline = Instant::now() + engine.limits.visit_deadline.0;
            let session = match entered.take() {
                Some((of, session)) if of == account => session,
                _ => sessions.reviewing(account, &remediation.role, deadline).await,
            };
            let changed = match &session {
                Ok(session) => {
                    let update = || engine.aws.update_findings(session, &region, arn, &ids, change == Change::Archive);
                    limits.in_visit(deadline).call(Operation::UpdateFindings, update).await
                }
                Err(error) => Err(error.clone()),
            };
            entered = Some((account, session));
            let explain = |error: &AwsError| explained(account, error, &remediation.role);
            let problem = changed.as_ref().err().map(explain);
            let request_id = match &changed {
                Ok(changed) => changed.request_id.as_deref(),
                Err(error) => error.request_id.as_deref(),
            };
            let result = if problem.is_none() { "done" } else { "failed" };
            let at = engine.clock.now();
            let end = ActionEnd { result, analyzer_arn: None, request_id, error: problem.as_deref(), at };
            store.end_action(number, &end).await?;
            if problem.is_none() {
                let some: Vec<HeldFinding> = some.iter().map(|finding| (*finding).clone()).collect();
                store.set_status(&some, change.to_status(), at).await?;
            }
            reviewed.push(Reviewed { analyzer_arn: arn.to_owned(), finding_ids: ids, problem });
        }
    }
    Ok(reviewed)
}
