//! The flow of one scan's accounts through this process: from the list to the store, where they wait to be claimed, and from
//! there through audits back to the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::account::{Audit, Auditor, Facts, Seen};
use super::costs::{Busy, Costs};
use super::ending::{self, Stop};
use super::list_writer::ListWriter;
use super::readings::{self, Read};
use super::record::{BATCH, Recorded, Recorder};
use super::{Engine, LONGEST_IDLE, Progress, Selection, Sessions, StoreRetry};
use crate::evaluate::{OrganizationView, OwnerView};
use crate::model::{Account, AccountId, Listed, ScanEnd, ScanId};
use crate::store::{Known, Store, StoreError, Work};

/// Accounts claimed ahead of those that are audited, at most: what one process has claimed, no other visits.
const CLAIMED_AHEAD: usize = 16;

/// Audits that wait for the store before no more accounts are entered: the store holds the scan back, not the memory.
const READY_AHEAD: usize = 256;

/// Audits that wait for the owners of the organization's analyzers before no more accounts are entered. An owner that hangs
/// holds the scan back for as long as its visit may take, and does not fill the memory meanwhile.
const WAITING_FOR_OWNERS: usize = 1024;

/// How often a process that has nothing to do looks whether there is something again.
pub const IDLE_LOOKS: std::time::Duration = std::time::Duration::from_millis(250);

/// A scan that this process takes part in: what its stages share.
pub struct Begun<'a> {
    pub scan_id: ScanId,
    pub started_at: DateTime<Utc>,
    /// When this process began to take part: what it knows of the owners it has read since.
    pub clock_at: DateTime<Utc>,
    pub costs: &'a Costs,
    pub selection: &'a Selection,
    pub sessions: &'a Sessions<'a>,
    pub retry: &'a StoreRetry<'a>,
    pub known: &'a Known,
    /// Whether a stop ends the scan; else what is not done is handed back.
    pub ends_on_stop: bool,
}

/// What this process leaves of a scan.
pub enum Left {
    /// Every account is recorded, or given up on: the scan ends so.
    End(ScanEnd),
    /// The scan is for others to go on with.
    HandedBack,
}

/// How often a process looks at the clock, whatever it waits for.
const LOOKS_AT_CLOCK: std::time::Duration = std::time::Duration::from_mins(1);

/// Runs the stages of one scan side by side.
pub async fn run(
    engine: &Engine,
    begun: &Begun<'_>,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Left, StoreError> {
    let recorder = Recorder {
        engine,
        costs: begun.costs,
        scan_id: begun.scan_id,
        sessions: begun.sessions,
        retry: begun.retry,
        view: OnceLock::new(),
    };
    let mut flow = Flow::new(engine, begun, progress, &recorder);
    let stopped = flow.work(stop).await?;
    match stopped {
        Some(Stop::Interrupted | Stop::ClockJumped(_)) if !begun.ends_on_stop => Ok(Left::HandedBack),
        None => {
            // What the scan is for is done: how it ends does not hang on the findings.
            let read = readings::read_all(engine, begun, flow.deadline, stop).await?;
            if read == Read::Stopped && stop.is_cancelled() && !begun.ends_on_stop {
                return Ok(Left::HandedBack);
            }
            ending::end(engine, begun, None).await.map(Left::End)
        }
        Some(stopped) => {
            if flow.give_up(stop).await? {
                ending::end(engine, begun, Some(stopped)).await.map(Left::End)
            } else {
                Ok(Left::HandedBack)
            }
        }
    }
}

/// What is under way in one scan.
struct Flow<'a> {
    engine: &'a Engine,
    begun: &'a Begun<'a>,
    progress: &'a Progress,
    recorder: &'a Recorder<'a>,
    deadline: Instant,
    /// Whether a peer, or the list, may have something to claim.
    may_claim: bool,
    /// Accounts claimed and not entered.
    claimed: VecDeque<Listed>,
    /// Audits that wait for the owners, or for the store.
    waiting: VecDeque<Audit>,
    /// What this process has claimed and not recorded.
    held: BTreeMap<AccountId, Account>,
    /// Whether a visit came too late to be written. The store may hold a claim in our name that `held` does not list: it is released
    /// before the next claim.
    was_late: bool,
    /// What the owners said so far.
    view: OrganizationView,
    /// Owners that have not said anything, here or elsewhere.
    owners_missing: BTreeSet<AccountId>,
    /// How the scan was getting on when it was last asked, and when that was.
    work: Work,
    asked_at: Instant,
    /// Whether something has changed since.
    is_stale: bool,
}

/// What a heartbeat brings.
struct Heartbeat {
    work: Work,
    takes_listing: bool,
    owners: Vec<(AccountId, OwnerView)>,
}

impl<'a> Flow<'a> {
    fn new(engine: &'a Engine, begun: &'a Begun<'a>, progress: &'a Progress, recorder: &'a Recorder<'a>) -> Self {
        let discovered = &begun.known.discovered;
        // Of a scan that is resumed, some of the time is over.
        let spent = (engine.clock.now() - begun.started_at).max(TimeDelta::zero()).to_std().unwrap_or_default();
        let mut flow = Self {
            engine,
            begun,
            progress,
            recorder,
            deadline: Instant::now() + engine.limits.scan_deadline.0.saturating_sub(spent),
            may_claim: true,
            claimed: VecDeque::new(),
            waiting: VecDeque::new(),
            held: BTreeMap::new(),
            was_late: false,
            view: OrganizationView::new(discovered.owners.iter().copied(), discovered.owners_known),
            owners_missing: discovered.owners.iter().copied().collect(),
            work: Work::default(),
            asked_at: Instant::now(),
            is_stale: true,
        };
        for (owner, view) in &begun.known.owners {
            flow.hear(*owner, view);
        }
        flow
    }

    /// Takes in what an owner said, here or elsewhere.
    fn hear(&mut self, owner: AccountId, view: &OwnerView) {
        if self.owners_missing.remove(&owner) {
            self.view.add(owner, view);
        }
    }

    /// Whether so many accounts wait for the owners that no other is entered before them.
    fn waits_for_owners(&self) -> bool {
        let is_owner_next = self.claimed.front().is_some_and(|next| next.is_owner);
        !self.owners_missing.is_empty() && self.waiting.len() >= WAITING_FOR_OWNERS && !is_owner_next
    }

    /// What keeps the next account from being entered while so many are, if anything does.
    fn holds(&self, audits: usize) -> Option<&'a Busy> {
        let costs = self.begun.costs;
        if audits >= self.engine.limits.accounts_in_flight as usize {
            Some(&costs.waits_for_visits)
        } else if self.owners_missing.is_empty() && self.waiting.len() >= READY_AHEAD {
            Some(&costs.waits_for_store)
        } else {
            self.waits_for_owners().then_some(&costs.waits_for_owners)
        }
    }

    /// Takes in accounts that were claimed, of up to `most` that were asked for: owners come first.
    fn queue(&mut self, most: u32, accounts: Vec<Listed>) {
        self.may_claim = accounts.len() >= most as usize;
        for listed in accounts {
            // What another took over and gave back is still under way here.
            if self.held.insert(listed.account.id, listed.account.clone()).is_some() {
                continue;
            }
            if listed.is_owner {
                self.claimed.push_front(listed);
            } else {
                self.claimed.push_back(listed);
            }
        }
    }

    /// Works until the scan is done, or has to stop.
    #[expect(clippy::too_many_lines, reason = "what may happen next is seen in one place")]
    async fn work(&mut self, stop: &CancellationToken) -> Result<Option<Stop>, StoreError> {
        let Begun { scan_id, costs, sessions, retry, .. } = *self.begun;
        let (engine, worker, recorder) = (self.engine, self.engine.worker.as_str(), self.recorder);
        let auditor = Auditor {
            aws: &engine.aws,
            costs,
            sessions,
            organization: &engine.organization,
            retry,
            clock: engine.clock.as_ref(),
            scan: scan_id,
            visit_deadline: engine.limits.visit_deadline.0,
            counts_findings: engine.findings.statistics,
            said_uncounted: AtomicBool::new(false),
        };
        let listed_more = Notify::new();
        let lister = ListWriter { engine, begun: self.begun, deadline: self.deadline, progress: self.progress };
        let in_flight = engine.limits.accounts_in_flight as usize;
        let claimed_ahead = CLAIMED_AHEAD.min(in_flight);
        let lease_third = engine.lease / 3;
        // Of each of these but the audits, at most one is under way.
        let mut listings = FuturesUnordered::new();
        let mut claimings = FuturesUnordered::new();
        let mut audits = FuturesUnordered::new();
        let mut keepings = FuturesUnordered::new();
        let mut recordings = FuturesUnordered::new();
        let mut heartbeats = FuturesUnordered::new();
        let mut stops_at: Option<Instant> = None;
        let mut clock_at = self.begun.clock_at;
        let stopped = loop {
            let now = engine.clock.now();
            let stood_still = now - std::mem::replace(&mut clock_at, now);
            if stood_still > LONGEST_IDLE {
                break Some(Stop::ClockJumped(stood_still));
            }
            let owners_in = self.owners_missing.is_empty();
            if owners_in {
                recorder.view.get_or_init(|| std::mem::take(&mut self.view));
                // An owner's own visit is recorded after what it said: others would wait for that in vain.
                if recordings.is_empty() && keepings.is_empty() && !self.waiting.is_empty() {
                    recordings.push(recorder.record(self.next_batch()));
                }
            }
            let records_nothing =
                recordings.is_empty() && keepings.is_empty() && (self.waiting.is_empty() || !owners_in);
            if stops_at.is_some() && audits.is_empty() && records_nothing {
                break Some(Stop::Interrupted);
            }
            let waits_for_owners = self.waits_for_owners();
            let holds = self.holds(audits.len());
            if holds.is_none()
                && stops_at.is_none()
                && let Some(Listed { account, is_owner }) = self.claimed.pop_front()
            {
                audits.push(auditor.visit(account, is_owner));
                continue;
            }
            // While everybody waits for owners, nobody else is claimed.
            let owners_only = waits_for_owners && audits.len() < in_flight;
            let has_room = self.claimed.len() * 2 <= claimed_ahead && (holds.is_none() || audits.len() >= in_flight);
            if self.may_claim && stops_at.is_none() && claimings.is_empty() && (has_room || owners_only) {
                let most = (in_flight + claimed_ahead).saturating_sub(audits.len() + self.claimed.len()).max(1);
                let most = u32::try_from(most).unwrap_or(u32::MAX);
                // Where an answer was lost, the store may count as ours what we do not know of.
                let is_unsure = retry.was_interrupted() | std::mem::take(&mut self.was_late);
                let held = is_unsure.then(|| self.held.keys().copied().collect::<Vec<_>>());
                claimings.push(async move {
                    if let Some(held) = held {
                        retry.run("release_claims", |store| store.release_claims(scan_id, worker, &held)).await?;
                    }
                    let claim = |store: &'a dyn Store| store.claim_accounts(scan_id, worker, most, owners_only);
                    let accounts = retry.run("claim_accounts", claim).await?;
                    Ok::<_, StoreError>((most, accounts))
                });
            }
            let is_idle = audits.is_empty() && claimings.is_empty() && self.claimed.is_empty() && records_nothing;
            if is_idle && !self.is_stale && self.work.listed && self.work.left == 0 {
                break None;
            }
            // An owner that another process visits is heard of there.
            let listens = !owners_in && !self.owners_missing.iter().any(|owner| self.held.contains_key(owner));
            let heartbeat_at = match (is_idle && self.is_stale, is_idle || listens) {
                (true, _) => Instant::now(),
                (false, true) => self.asked_at + IDLE_LOOKS.min(lease_third),
                (false, false) => self.asked_at + lease_third,
            };
            // Nobody is held up as long as nobody waits to be entered.
            let _held = holds.filter(|_| !self.claimed.is_empty()).map(Busy::enter);
            tokio::select! {
                biased;
                () = stop.cancelled(), if stops_at.is_none() => {
                    if self.begun.ends_on_stop {
                        break Some(Stop::Interrupted);
                    }
                    info!(scan.id = scan_id, visits = audits.len(), "the scan stops: visits under way have until the end of the grace");
                    listings.clear();
                    stops_at = Some(Instant::now() + engine.limits.shutdown_grace.0);
                }
                () = sleep_until(stops_at.unwrap_or(self.deadline)), if stops_at.is_some() => break Some(Stop::Interrupted),
                () = sleep_until(self.deadline) => break Some(Stop::Deadline),
                Some(kept) = keepings.next(), if !keepings.is_empty() => {
                    let (owner, view): (AccountId, OwnerView) = kept?;
                    self.hear(owner, &view);
                }
                Some(recorded) = recordings.next(), if !recordings.is_empty() => self.recorded(recorded?),
                Some(audit) = audits.next(), if !audits.is_empty() => {
                    if let Some((owner, view)) = self.take(audit?) {
                        keepings.push(async move {
                            // Of several who heard an owner, all go by the first.
                            let keep = |store: &'a dyn Store| store.keep_owner(scan_id, owner, &view);
                            let kept = retry.run("keep_owner", keep).await?;
                            Ok::<_, StoreError>((owner, kept))
                        });
                    }
                }
                Some(claim) = claimings.next(), if !claimings.is_empty() => {
                    let (most, accounts): (u32, Vec<Listed>) = claim?;
                    self.queue(most, accounts);
                }
                () = listed_more.notified() => self.may_claim = true,
                () = sleep(LOOKS_AT_CLOCK) => {}
                Some(ended) = listings.next(), if !listings.is_empty() => {
                    let () = ended?;
                    (self.is_stale, self.may_claim) = (true, true);
                }
                Some(heartbeat) = heartbeats.next(), if !heartbeats.is_empty() => {
                    let heartbeat: Heartbeat = heartbeat?;
                    if heartbeat.takes_listing && stops_at.is_none() {
                        listings.push(lister.list(&listed_more));
                    }
                    self.on_heartbeat(heartbeat);
                }
                () = sleep_until(heartbeat_at), if heartbeats.is_empty() => {
                    (self.asked_at, self.is_stale) = (Instant::now(), false);
                    heartbeats.push(self.heartbeat(listings.is_empty() && stops_at.is_none(), !owners_in));
                }
            }
        };
        // What is being written is not given up.
        while let Some(recorded) = recordings.next().await {
            self.recorded(recorded?);
        }
        Ok(stopped)
    }

    /// Renews the lease, asks how the scan is getting on, and takes on what nobody alive does.
    fn heartbeat(
        &self,
        may_list: bool,
        listens: bool,
    ) -> impl Future<Output = Result<Heartbeat, StoreError>> + use<'a> {
        let Begun { scan_id, retry, .. } = *self.begun;
        let worker = self.engine.worker.as_str();
        async move {
            let work = retry.run("heartbeat", |store| store.heartbeat(scan_id, worker)).await?;
            let takes_listing = may_list
                && !work.listed
                && retry.run("acquire_listing", |store| store.acquire_listing(scan_id, worker)).await?;
            let known = if listens { retry.run("known", |store| store.known(scan_id)).await? } else { None };
            Ok(Heartbeat { work, takes_listing, owners: known.map_or_else(Vec::new, |known| known.owners) })
        }
    }

    fn on_heartbeat(&mut self, heartbeat: Heartbeat) {
        let Heartbeat { work, owners, .. } = heartbeat;
        self.engine.process_limits.share_among(work.replicas);
        for (owner, view) in &owners {
            self.hear(*owner, view);
        }
        if work.listed && work.owners_left == 0 {
            // Owners that are not on the list stay unread, and what hangs on them is unknown.
            self.owners_missing.clear();
        }
        self.progress.left(work.left, work.listed);
        self.may_claim |= work.left > self.held.len() as u64;
        self.work = work;
    }

    fn next_batch(&mut self) -> Vec<Audit> {
        self.waiting.drain(..self.waiting.len().min(BATCH)).collect()
    }

    /// Takes in one audit; an owner's adds to the view that all others wait for.
    fn take(&mut self, audit: Audit) -> Option<(AccountId, OwnerView)> {
        let id = audit.account.id;
        let is_awaited = self.owners_missing.contains(&id);
        let said = is_awaited.then(|| {
            let regions = if let Facts::Entered(regions, _) = &audit.facts { regions.as_slice() } else { &[] };
            let facts = regions.iter().filter_map(|(region, seen)| match seen {
                Seen::Fact(fact) => Some((region, fact)),
                Seen::LeftOut => None,
            });
            (id, OwnerView::new(id, facts))
        });
        self.waiting.push_back(audit);
        said
    }

    fn recorded(&mut self, batch: Vec<Recorded>) {
        self.is_stale = true;
        for Recorded { account, is_ours, unreachable } in batch {
            self.held.remove(&account);
            self.was_late |= !is_ours;
            if is_ours {
                self.progress.visit_recorded(unreachable);
            }
        }
    }

    /// Records what was audited, and everything else as not reached. Peers do the same with what is theirs. Says whether that is
    /// done; a process that is told to end meanwhile leaves it to them.
    async fn give_up(&mut self, stop: &CancellationToken) -> Result<bool, StoreError> {
        let Begun { scan_id, retry, .. } = *self.begun;
        let worker = self.engine.worker.as_str();
        self.recorder.view.get_or_init(|| std::mem::take(&mut self.view));
        loop {
            while !self.waiting.is_empty() {
                let batch = self.next_batch();
                let recorded = self.recorder.record(batch).await?;
                self.recorded(recorded);
            }
            let left = std::mem::take(&mut self.held);
            self.give_up_on(left.into_values());
            if self.waiting.is_empty() {
                if stop.is_cancelled() && !self.begun.ends_on_stop {
                    return Ok(false);
                }
                if retry.run("heartbeat", |store| store.heartbeat(scan_id, worker)).await?.left == 0 {
                    return Ok(true);
                }
                // A claim that was under way when the scan stopped may count as ours, though we do not know of it.
                retry.run("release_claims", |store| store.release_claims(scan_id, worker, &[])).await?;
                let most = u32::try_from(BATCH).unwrap_or(u32::MAX);
                let claim = |store: &'a dyn Store| store.claim_accounts(scan_id, worker, most, false);
                let claimed = retry.run("claim_accounts", claim).await?;
                self.give_up_on(claimed.into_iter().map(|listed| listed.account));
            }
            if self.waiting.is_empty() {
                tokio::time::sleep(IDLE_LOOKS).await;
            }
        }
    }

    fn give_up_on(&mut self, accounts: impl Iterator<Item = Account>) {
        let now = self.engine.clock.now();
        let facts = |account| Audit {
            account,
            started_at: now,
            finished_at: now,
            facts: Facts::NotReached,
            findings: Vec::new(),
        };
        self.waiting.extend(accounts.map(facts));
    }
}
