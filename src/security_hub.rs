//! AWS Security Hub, told of the results: each account × region by a finding, from within that account and region, because Security
//! Hub takes no other.
//!
//! What was told is remembered, so that only what has changed is told again, and what holds no more is archived.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::aws::{AwsError, MOST_AT_ONCE, Operation, Session};
use crate::config::Export;
use crate::export::{ExportError, Hub, for_security_hub};
use crate::model::{AccountId, ErrorKind, Region, hex};
use crate::scan::{DiscoverError, Engine, Limits, Sessions};
use crate::store::{HubFinding, Store, StoreError};

/// Accounts that are read from the store together: memory does not grow with the organization.
const READ_AT_ONCE: usize = 100;

/// Accounts that are told of at once.
const TOLD_AT_ONCE: usize = 16;

/// A finding that holds is told again after this long: Security Hub deletes what was not updated for 90 days (AWS Security Hub User
/// Guide, "Security Hub quotas").
const TOLD_AGAIN_AFTER: TimeDelta = TimeDelta::days(30);

/// What Security Hub has forgotten by itself is not archived.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(90);

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Findings that were imported, new or changed or told again.
    pub imported: u64,
    /// Findings that were archived, because they hold no more.
    pub archived: u64,
    /// Findings that hold no more, and whose account or region can be told of nothing any more: Security Hub forgets them by itself.
    pub let_go: u64,
    /// Findings that were as they had been told.
    pub unchanged: u64,
    /// Account × regions in which Security Hub is not enabled: how many, and one of them.
    pub not_enabled: (u64, String),
    /// What failed, by why: how many findings, and where one of them was to be.
    pub failed: BTreeMap<String, (u64, String)>,
    /// Whether it was stopped before it was done.
    pub stopped: bool,
}

/// Why nothing was told.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// AWS does not say who we are.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The results cannot be read.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// Tells Security Hub of the newest results of the engine's organization.
///
/// # Errors
/// Where nothing can be begun, or the store fails. What fails in an account or a region is in [`Told`].
pub async fn tell(engine: &Engine, settings: &Export, stop: &CancellationToken) -> Result<Told, ImportError> {
    let store: &dyn Store = engine.store.as_ref();
    let name = &engine.organization.name;
    let ground = store.hub_ground(name).await?.ok_or(ExportError::Nothing)?;
    let limits = Limits::new(Arc::clone(&engine.process_limits));
    let sessions = Sessions::of(engine, &limits).await?;
    let teller =
        Teller { engine, settings, limits: &limits, sessions: &sessions, organization: &ground.organization_id };
    let mut told = Told::default();
    for accounts in ground.accounts.chunks(READ_AT_ONCE) {
        let now = engine.clock.now();
        let rows = for_security_hub(store, name, accounts, settings.severity, now).await?;
        let held = store.hub_findings(&ground.organization_id, accounts).await?;
        let mut work = decide(rows.iter().filter(|row| row.organization_id == ground.organization_id), &held, now);
        told.unchanged += work.unchanged;
        let open: BTreeSet<&str> = rows.iter().filter(|row| row.is_active).map(|row| row.account.as_str()).collect();
        if let Err(error) = store.keep_hub_findings(&ground.organization_id, &work.forgotten).await {
            told.fail(format!("recording what was told: {error}"), work.forgotten.len(), String::new());
        }
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < TOLD_AT_ONCE
                && !stop.is_cancelled()
                && let Some((account, findings)) = work.by_account.pop_first()
            {
                let is_closed = !open.contains(account.as_str());
                under_way.push(teller.account(account, findings, is_closed));
            }
            let Some(done) = under_way.next().await else { break };
            told.add(done);
        }
        if stop.is_cancelled() {
            told.stopped = true;
            break;
        }
    }
    Ok(told)
}

impl Told {
    fn add(&mut self, other: Self) {
        self.imported += other.imported;
        self.archived += other.archived;
        self.let_go += other.let_go;
        if self.not_enabled.0 == 0 {
            self.not_enabled.1 = other.not_enabled.1;
        }
        self.not_enabled.0 += other.not_enabled.0;
        for (why, (count, example)) in other.failed {
            self.failed.entry(why).or_insert((0, example)).0 += count;
        }
    }

    fn fail(&mut self, why: String, count: usize, place: String) {
        self.failed.entry(why).or_insert((0, place)).0 += count as u64;
    }
}

/// What is to be told of some accounts.
#[derive(Debug, Default)]
struct Work {
    /// By account, and region within: as it is to be remembered once it was told.
    by_account: BTreeMap<String, Vec<HubFinding>>,
    /// What Security Hub has forgotten by itself: archived without a word.
    forgotten: Vec<HubFinding>,
    unchanged: u64,
}

/// What is to be told, given what holds and what was told: a pure function.
fn decide<'a>(rows: impl Iterator<Item = &'a Hub>, held: &[HubFinding], now: DateTime<Utc>) -> Work {
    let mut work = Work::default();
    let mut held: BTreeMap<(&str, &str), &HubFinding> =
        held.iter().map(|held| ((held.account.as_str(), held.region.as_str()), held)).collect();
    for row in rows.filter(|row| row.applies) {
        let digest = digest(&row.finding);
        let before = held.remove(&(row.account.as_str(), row.region.as_str()));
        let is_known =
            |held: &HubFinding| held.digest == digest && !held.is_archived && now - held.imported_at < TOLD_AGAIN_AFTER;
        if before.is_some_and(is_known) {
            work.unchanged += 1;
            continue;
        }
        work.by_account.entry(row.account.clone()).or_default().push(HubFinding {
            account: row.account.clone(),
            region: row.region.clone(),
            digest,
            imported_at: now,
            is_archived: false,
            finding: row.finding.clone(),
        });
    }
    for held in held.values().filter(|held| !held.is_archived) {
        if now - held.imported_at >= FORGOTTEN_AFTER {
            work.forgotten.push(HubFinding { is_archived: true, ..(**held).clone() });
            continue;
        }
        let mut finding = held.finding.clone();
        finding["RecordState"] = json!("ARCHIVED");
        // Security Hub takes an update only where it is newer.
        finding["UpdatedAt"] = json!(now.to_rfc3339_opts(SecondsFormat::Millis, true));
        let archived = HubFinding { imported_at: now, is_archived: true, finding, ..(**held).clone() };
        work.by_account.entry(held.account.clone()).or_default().push(archived);
    }
    work
}

/// A hash of what a finding says, but for when it was looked at and told.
fn digest(finding: &Value) -> String {
    let mut said = finding.clone();
    if let Some(members) = said.as_object_mut() {
        members.remove("UpdatedAt");
        members.remove("LastObservedAt");
    }
    hex(&Sha256::digest(said.to_string().as_bytes())[..16])
}

struct Teller<'a> {
    engine: &'a Engine,
    settings: &'a Export,
    limits: &'a Limits,
    sessions: &'a Sessions<'a>,
    organization: &'a str,
}

impl Teller<'_> {
    /// Tells of one account, region after region, and remembers what was told.
    async fn account(&self, account: String, findings: Vec<HubFinding>, is_closed: bool) -> Told {
        let mut told = Told::default();
        let mut kept = Vec::new();
        let deadline = Instant::now() + self.engine.limits.visit_deadline.0;
        let role = &self.settings.security_hub_role;
        let session = match account.parse::<AccountId>() {
            Ok(id) => self.sessions.importing(id, role, deadline).await,
            Err(error) => {
                told.fail(format!("`{account}` is no account id: {error}"), findings.len(), account.clone());
                return told;
            }
        };
        match session {
            Ok(session) => {
                let mut by_region: BTreeMap<String, Vec<HubFinding>> = BTreeMap::new();
                for finding in findings {
                    by_region.entry(finding.region.clone()).or_default().push(finding);
                }
                for (region, findings) in by_region {
                    for some in findings.chunks(MOST_AT_ONCE) {
                        let place = Place { account: &account, region: &region, session: &session, deadline };
                        self.region(&place, some, &mut told, &mut kept).await;
                    }
                }
            }
            // Of an account that is closed or has left, everything is to be archived: whom it does not let in today it will not
            // tomorrow. Where it could not be asked, it is asked again.
            Err(error) if is_closed && error.kind == ErrorKind::RoleNotAssumable => {
                told.let_go += findings.len() as u64;
                kept = findings;
            }
            Err(error) => {
                let why = format!(
                    "{}: {}; check that `{role}` (export.security_hub_role) is there and trusts the caller",
                    error.operation.action(),
                    error.kind,
                );
                told.fail(why, findings.len(), account.clone());
            }
        }
        if let Err(error) = self.engine.store.keep_hub_findings(self.organization, &kept).await {
            told.fail(format!("told, and not recorded, so that it is told again: {error}"), kept.len(), account);
        }
        told
    }

    async fn region(&self, place: &Place<'_>, findings: &[HubFinding], told: &mut Told, kept: &mut Vec<HubFinding>) {
        let named = || format!("{} {}", place.account, place.region);
        let said: Vec<Value> = findings.iter().map(|finding| finding.finding.clone()).collect();
        let region = Region::new(place.region);
        let import = || self.engine.aws.import_findings(place.session, &region, &said);
        match self.limits.in_visit(place.deadline).call(Operation::BatchImportFindings, import).await {
            Ok(import) => {
                let why: BTreeMap<&str, &str> =
                    import.refused.iter().map(|(id, why)| (id.as_str(), why.as_str())).collect();
                for finding in findings {
                    let id = finding.finding["Id"].as_str().unwrap_or_default();
                    match why.get(id) {
                        Some(why) => told.fail(format!("Security Hub refused it: {why}"), 1, named()),
                        None => {
                            told.imported += u64::from(!finding.is_archived);
                            told.archived += u64::from(finding.is_archived);
                            kept.push(finding.clone());
                        }
                    }
                }
            }
            // The account has opted out of the region since.
            Err(error) if error.is_unrecognized_client() && findings.iter().all(|finding| finding.is_archived) => {
                told.let_go += findings.len() as u64;
                kept.extend_from_slice(findings);
            }
            // "Account … is not subscribed to AWS Security Hub."
            Err(AwsError { code: Some(code), message, .. }) if code == "InvalidAccessException" => {
                told.not_enabled.1 = format!("{}: {message}", named());
                told.not_enabled.0 += findings.len() as u64;
            }
            Err(error) => {
                let why = format!("{}: {}", error.operation.action(), error.kind);
                told.fail(why, findings.len(), format!("{}: {}", named(), error.message));
            }
        }
    }
}

/// Where something is told.
struct Place<'a> {
    account: &'a str,
    region: &'a str,
    session: &'a Session,
    deadline: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(account: &str, applies: bool, said: &str) -> Hub {
        Hub {
            organization_id: "o-1".into(),
            account: account.into(),
            region: "eu-west-1".into(),
            applies,
            is_active: true,
            finding: json!({"Id": account, "Said": said, "RecordState": "ACTIVE", "UpdatedAt": "now", "LastObservedAt": "now"}),
        }
    }

    fn at(days: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + days)
    }

    fn told(rows: &[Hub], days: i64) -> Vec<HubFinding> {
        decide(rows.iter(), &[], at(days)).by_account.into_values().flatten().collect()
    }

    #[test]
    fn only_what_changed_is_told_and_what_holds_no_more_is_archived() {
        let rows = [hub("1", true, "gap"), hub("2", true, "gap"), hub("3", false, "closed"), hub("4", true, "gap")];
        let held = told(&rows, 0);
        let accounts: Vec<&str> = held.iter().map(|held| held.account.as_str()).collect();
        assert_eq!(accounts, ["1", "2", "4"], "where the rule does not apply, there is nothing to tell");

        // One is closed, one says the same, one left; when it was looked at makes no difference.
        let mut same = hub("2", true, "gap");
        same.finding["UpdatedAt"] = json!("later");
        let now = [hub("1", true, "closed"), same];
        let work = decide(now.iter(), &held, at(1));
        assert_eq!(work.unchanged, 1);
        assert_eq!(work.by_account["1"][0].finding["Said"], "closed");
        assert!(work.by_account["4"][0].is_archived);
        assert_eq!(work.by_account["4"][0].finding["RecordState"], "ARCHIVED");
        assert_eq!(work.by_account.len(), 2);
    }

    #[test]
    fn what_security_hub_would_forget_is_told_again_and_what_it_forgot_is_let_be() {
        let rows = [hub("1", true, "gap")];
        let held = told(&rows, 0);
        assert_eq!(decide(rows.iter(), &held, at(29)).unchanged, 1);
        assert_eq!(decide(rows.iter(), &held, at(30)).by_account.len(), 1);
        assert_eq!(decide([].iter(), &held, at(89)).by_account.len(), 1);
        let forgotten = decide([].iter(), &held, at(90));
        assert_eq!((forgotten.by_account.len(), forgotten.forgotten.len()), (0, 1));
        // One that was archived and applies again is told, though it says what it said.
        let archived: Vec<HubFinding> = held.into_iter().map(|held| HubFinding { is_archived: true, ..held }).collect();
        assert_eq!(decide(rows.iter(), &archived, at(1)).by_account.len(), 1);
        assert_eq!(decide([].iter(), &archived, at(1)).by_account.len(), 0);
    }
}
