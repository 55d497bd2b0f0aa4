//! The flow of one scan's accounts: from the list, through audits, to the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::account::{Audit, Auditor, Facts, Seen, fallback_regions};
use super::costs::{Busy, Costs};
use super::discover::{DiscoverError, Discovered, Lister};
use super::{Engine, Progress, Selection, Sessions, judge};
use crate::evaluate::OrganizationView;
use crate::model::{Account, AccountId, Failure, Region, ScanEnd, ScanId, ScanState, Scope, Visit, VisitOutcome};
use crate::store::StoreError;

/// Accounts listed ahead of those that are audited.
const LISTED_AHEAD: usize = 64;

/// Why a scan ends before its list does.
enum Stop {
    Interrupted,
    Deadline,
}

/// Audits that wait for the store before no more accounts are entered: the store holds the scan back, not the memory.
const READY_AHEAD: usize = 256;

/// Audits that wait for the owners of the organization's analyzers before no more accounts are entered. An owner that hangs
/// holds the scan back for as long as its visit may take, and does not fill the memory meanwhile.
const WAITING_FOR_OWNERS: usize = 1024;

/// Visits that are stored together: what is ready when the store is, and no more.
const BATCH: usize = 100;

/// Judges audits and stores them, batch after batch.
struct Recorder<'a> {
    engine: &'a Engine,
    costs: &'a Costs,
    scan_id: ScanId,
    sessions: &'a Sessions<'a>,
    /// Set once every owner of the organization's analyzers was read, or could not be.
    view: OnceLock<OrganizationView>,
}

/// What became of an audit in the store.
struct Recorded {
    account: AccountId,
    outcome: VisitOutcome,
    failure: Option<Failure>,
    /// Whether the account was entered.
    entered: bool,
}

impl Recorder<'_> {
    async fn record(&self, audits: Vec<Audit>) -> Result<Vec<Recorded>, StoreError> {
        let view = self.view.get_or_init(OrganizationView::default);
        let (mut visits, mut entered): (Vec<Visit>, Vec<bool>) = (Vec::new(), Vec::new());
        for audit in audits {
            let known = match &audit.facts {
                Facts::Entered(_) => Vec::new(),
                Facts::Unreachable(_) | Facts::NotTried | Facts::NotReached => self.rows_of(audit.account.id).await?,
            };
            entered.push(matches!(audit.facts, Facts::Entered(_)));
            let _evaluating = self.costs.evaluates.enter();
            visits.push(judge::visit(audit, &self.engine.organization, view, &known));
        }
        let _storing = self.costs.stores.enter();
        self.engine.store.record_visits(self.scan_id, &visits, &self.engine.worker).await?;
        let recorded = visits.into_iter().zip(entered).map(|(visit, entered)| Recorded {
            account: visit.account.id,
            outcome: visit.outcome,
            failure: visit.failure,
            entered,
        });
        Ok(recorded.collect())
    }

    /// The regions that an account has rows for though it was not entered: those last seen, or else the configured or
    /// default-enabled ones.
    async fn rows_of(&self, account: AccountId) -> Result<Vec<Region>, StoreError> {
        let known = self.engine.store.known_regions(self.scan_id, account).await?;
        if known.is_empty() {
            Ok(fallback_regions(&self.engine.organization, &self.sessions.partition()))
        } else {
            Ok(known)
        }
    }
}

/// What is under way in one scan.
struct Flow<'a> {
    engine: &'a Engine,
    scan_id: ScanId,
    scope: Scope,
    progress: &'a Progress,
    /// What the owners said so far.
    view: OrganizationView,
    /// Owners whose audit is not in yet.
    owners_missing: BTreeSet<AccountId>,
    /// Audits that wait for the owners, or for the store.
    waiting: VecDeque<Audit>,
    /// Accounts that were listed and are not recorded.
    unrecorded: BTreeMap<AccountId, Account>,
    listed: BTreeSet<AccountId>,
    /// The accounts that need no role: the caller's and the reader's own.
    own: [AccountId; 2],
    /// Of the accounts that need one, those that were entered, and those that could not be.
    entered: u64,
    locked: u64,
    example: Option<String>,
}

/// A scan that has begun: what its stages share.
pub struct Begun<'a> {
    pub scan_id: ScanId,
    pub costs: &'a Costs,
    pub selection: &'a Selection,
    pub sessions: &'a Sessions<'a>,
    pub discovered: &'a Discovered,
}

/// Runs the stages of one scan side by side.
pub async fn run(
    engine: &Engine,
    begun: &Begun<'_>,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<ScanEnd, StoreError> {
    let Begun { scan_id, costs, selection, sessions, discovered } = *begun;
    let known = engine.store.known_accounts(scan_id).await?;
    let deadline = Instant::now() + engine.limits.scan_deadline.0;
    let auditor = Auditor {
        aws: &engine.aws,
        costs,
        sessions,
        organization: &engine.organization,
        store: engine.store.as_ref(),
        clock: engine.clock.as_ref(),
        scan: scan_id,
        visit_deadline: engine.limits.visit_deadline.0,
    };
    let lister =
        Lister { aws: &engine.aws, sessions, organization: &engine.organization, discovered, selection, deadline };
    let recorder = Recorder { engine, costs, scan_id, sessions, view: OnceLock::new() };
    let mut flow = Flow::new(engine, begun, progress);

    let (sender, mut accounts) = mpsc::channel(LISTED_AHEAD);
    let listing = async {
        let _discovering = costs.discovers.enter();
        let result = lister.run(&sender).await;
        drop(sender);
        result
    };
    tokio::pin!(listing);
    let mut list_result: Option<Result<(), DiscoverError>> = None;
    let mut audits = FuturesUnordered::new();
    // At most one: while it is written, the next batch gathers.
    let mut recordings = FuturesUnordered::new();
    let mut channel_open = true;
    let stopped = loop {
        let owners_in = flow.owners_missing.is_empty();
        if owners_in {
            recorder.view.get_or_init(|| std::mem::take(&mut flow.view));
            if recordings.is_empty() {
                let ready: Vec<Audit> = flow.next_batch();
                recordings.extend((!ready.is_empty()).then(|| recorder.record(ready)));
            }
        }
        let nothing_waits = flow.waiting.is_empty() || !owners_in;
        if list_result.is_some() && !channel_open && audits.is_empty() && recordings.is_empty() && nothing_waits {
            break None;
        }
        let holds = if !channel_open {
            None
        } else if audits.len() >= engine.limits.accounts_in_flight as usize {
            Some(&costs.waits_for_visits)
        } else if owners_in && flow.waiting.len() >= READY_AHEAD {
            Some(&costs.waits_for_store)
        } else if flow.waiting.len() >= WAITING_FOR_OWNERS && flow.owners_are_under_way() {
            Some(&costs.waits_for_owners)
        } else {
            None
        };
        let may_enter = channel_open && holds.is_none();
        // Nobody is held up as long as nobody waits to be entered.
        let _held = holds.filter(|_| !accounts.is_empty()).map(Busy::enter);
        tokio::select! {
            biased;
            () = stop.cancelled() => break Some(Stop::Interrupted),
            () = tokio::time::sleep_until(deadline) => break Some(Stop::Deadline),
            Some(recorded) = recordings.next(), if !recordings.is_empty() => flow.recorded(recorded?),
            Some(audit) = audits.next(), if !audits.is_empty() => flow.take(audit?),
            account = accounts.recv(), if may_enter => match account {
                None => channel_open = false,
                Some(account) => {
                    flow.list(&account);
                    let is_owner = discovered.owners.contains(&account.id);
                    audits.push(auditor.visit(account, is_owner));
                }
            },
            result = &mut listing, if list_result.is_none() => {
                list_result = Some(result);
                progress.listing_done();
            }
        }
    };
    drop(audits);
    // What the list had sent when the scan was stopped was listed, if not reached.
    while let Ok(account) = accounts.try_recv() {
        flow.list(&account);
    }
    // Owners that never came stay unread, and what hangs on them is unknown.
    recorder.view.get_or_init(|| std::mem::take(&mut flow.view));
    while let Some(recorded) = recordings.next().await {
        flow.recorded(recorded?);
    }
    flow.give_up_on_the_rest();
    while !flow.waiting.is_empty() {
        let batch = flow.next_batch();
        flow.recorded(recorder.record(batch).await?);
    }
    Ok(flow.end(stopped.as_ref(), list_result, &known))
}

impl<'a> Flow<'a> {
    fn new(engine: &'a Engine, begun: &Begun<'a>, progress: &'a Progress) -> Self {
        let Begun { scan_id, selection, sessions, discovered, .. } = *begun;
        Self {
            engine,
            scan_id,
            scope: selection.scope(),
            progress,
            view: OrganizationView::new(discovered.owners.iter().copied(), discovered.owners_known),
            owners_missing: discovered.owners.iter().copied().collect(),
            waiting: VecDeque::new(),
            unrecorded: BTreeMap::new(),
            listed: BTreeSet::new(),
            own: [sessions.caller().account, sessions.reader_account()],
            entered: 0,
            locked: 0,
            example: None,
        }
    }

    /// Whether every owner that is not in was entered: one that the list has not come to yet is not waited for.
    fn owners_are_under_way(&self) -> bool {
        self.owners_missing.is_subset(&self.listed)
    }

    /// Lets every account that was listed and is not audited wait to be recorded as not reached.
    fn give_up_on_the_rest(&mut self) {
        let now = self.engine.clock.now();
        let audited: BTreeSet<AccountId> = self.waiting.iter().map(|audit| audit.account.id).collect();
        let left = self.unrecorded.values().filter(|account| !audited.contains(&account.id)).cloned();
        let facts = |account| Audit { account, started_at: now, finished_at: now, facts: Facts::NotReached };
        self.waiting.extend(left.map(facts));
    }

    fn list(&mut self, account: &Account) {
        self.listed.insert(account.id);
        self.unrecorded.insert(account.id, account.clone());
        self.progress.account_listed();
    }

    fn next_batch(&mut self) -> Vec<Audit> {
        self.waiting.drain(..self.waiting.len().min(BATCH)).collect()
    }

    /// Takes in one audit; an owner's adds to the view that all others wait for.
    fn take(&mut self, audit: Audit) {
        let id = audit.account.id;
        if self.owners_missing.remove(&id)
            && let Facts::Entered(regions) = &audit.facts
        {
            for (region, seen) in regions {
                if let Seen::Fact(fact) = seen {
                    self.view.note(id, region, fact);
                }
            }
        }
        self.waiting.push_back(audit);
    }

    fn recorded(&mut self, batch: Vec<Recorded>) {
        for recorded in batch {
            self.recorded_one(recorded);
        }
    }

    fn recorded_one(&mut self, recorded: Recorded) {
        let Recorded { account, outcome, failure, entered } = recorded;
        self.unrecorded.remove(&account);
        let unreachable = outcome == VisitOutcome::Unreachable;
        self.progress.visit_recorded(unreachable);
        if !self.own.contains(&account) {
            self.entered += u64::from(entered);
            self.locked += u64::from(unreachable && !entered);
        }
        if let (true, Some(failure)) = (unreachable, failure) {
            info!(scan.id = self.scan_id, account.id = %account, error.kind = %failure.kind, "unreachable: {}", failure.message);
            self.example.get_or_insert_with(|| format!("{account}: {}", failure.message));
        }
    }

    /// Says how the scan ended.
    fn end(
        self,
        stopped: Option<&Stop>,
        list_result: Option<Result<(), DiscoverError>>,
        known: &[AccountId],
    ) -> ScanEnd {
        let end = |state, error, list_complete| ScanEnd { state, error, list_complete };
        let list_complete = match list_result {
            Some(Err(error)) => return end(ScanState::Failed, Some(error.to_string()), false),
            Some(Ok(())) if self.scope == Scope::Partial => false,
            Some(Ok(())) => {
                if let Some(problem) = self.unbelievable(known) {
                    return end(ScanState::Failed, Some(problem), false);
                }
                true
            }
            None => false,
        };
        match stopped {
            Some(Stop::Interrupted) => {
                let error = "interrupted before every account was visited";
                end(ScanState::Incomplete, Some(error.into()), list_complete)
            }
            Some(Stop::Deadline) => {
                let deadline = self.engine.limits.scan_deadline;
                let error = format!("the scan's deadline passed ({deadline}, limits.scan_deadline)");
                end(ScanState::Incomplete, Some(error), list_complete)
            }
            None if self.scope == Scope::All && self.entered == 0 && self.locked > 0 => {
                let example = self.example.unwrap_or_default();
                let error = format!(
                    "no account could be entered ({} tried), for example {example}; check `member_role`, its trust policy \
                     and the external id with `trustwatch doctor`",
                    self.locked
                );
                end(ScanState::Failed, Some(error), list_complete)
            }
            None => end(ScanState::Completed, None, list_complete),
        }
    }

    /// Why the account list is not believed, if it is not: it is much shorter than what is known.
    fn unbelievable(&self, known: &[AccountId]) -> Option<String> {
        let missing = known.iter().filter(|id| !self.listed.contains(id)).count();
        let most = self.engine.organization.max_account_loss;
        #[expect(clippy::cast_precision_loss, reason = "numbers of accounts are far below 2^53")]
        let share = missing as f64 / known.len().max(1) as f64;
        (share > most).then(|| {
            format!(
                "listing the accounts: {missing} of {} known accounts are missing from the list, more than \
                 `max_account_loss` ({most}) allows, which is not believed; no account was closed. If they did leave, raise \
                 `max_account_loss` of organization `{}` for one scan",
                known.len(),
                self.engine.organization.name
            )
        })
    }
}
