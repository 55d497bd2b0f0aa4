//! *audit*: one account, all its regions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, info, info_span, warn};

use super::StoreRetry;
use super::costs::Costs;
use super::sessions::{Entered, Sessions};
use crate::aws::{Aws, AwsError, Operation, OptStatus};
use crate::clock::Clock;
use crate::config::{Organization, RegionSelection};
use crate::metrics;
use crate::model::{
    Account, AccountId, AccountState, ErrorKind, Failure, FindingsCount, Partition, Region, RegionFact,
};
use crate::store::StoreError;

/// For so long the findings of one account are counted.
const COUNTING: Duration = Duration::from_secs(30);

/// What was seen of one account.
#[derive(Debug)]
pub struct Audit {
    /// The account.
    pub account: Account,
    /// When the visit began.
    pub started_at: DateTime<Utc>,
    /// When the last answer came in.
    pub finished_at: DateTime<Utc>,
    /// What was seen.
    pub facts: Facts,
    /// How many findings its own analyzers have, where they were counted.
    pub findings: Vec<FindingsCount>,
}

/// What was seen of one account.
#[derive(Debug)]
pub enum Facts {
    /// It was entered. Each region once, whether it was asked or is left out.
    /// And why it did not say which regions it has, if it did not.
    Entered(Vec<(Region, Seen)>, Option<Failure>),
    /// It could not be entered.
    Unreachable(Failure),
    /// It was not tried: it is not active, or the configuration leaves it out.
    NotTried,
    /// The scan ended first.
    NotReached,
}

/// What was seen of one region.
#[derive(Debug)]
pub enum Seen {
    /// A fact.
    Fact(RegionFact),
    /// The configuration leaves it out, so nobody asked.
    LeftOut,
}

/// Audits accounts of one scan.
pub struct Auditor<'a> {
    pub aws: &'a Aws,
    pub costs: &'a Costs,
    pub sessions: &'a Sessions<'a>,
    pub organization: &'a Organization,
    pub retry: &'a StoreRetry<'a>,
    pub clock: &'a dyn Clock,
    pub scan: crate::model::ScanId,
    pub visit_deadline: Duration,
    /// Whether findings are counted (`findings.statistics`).
    pub counts_findings: bool,
    /// Whether it was said that they cannot be counted everywhere.
    pub said_uncounted: AtomicBool,
}

impl Auditor<'_> {
    /// Visits one account. What fails is a fact; only the store can end it.
    ///
    /// An owner of the organization's analyzers is read even where it, or a region, is left out: the verdict on the others
    /// needs it.
    ///
    /// # Errors
    /// Where the regions last seen have to be read from the store and cannot be.
    pub async fn visit(&self, account: Account, is_owner: bool) -> Result<Audit, StoreError> {
        let span = info_span!("scan.account", account.id = %account.id);
        async {
            let _in_flight = metrics::visit_in_flight();
            let started_at = self.clock.now();
            let is_left_out = self.organization.excludes(&account) && !is_owner;
            let mut findings = Vec::new();
            let facts = if account.state != AccountState::Active || is_left_out {
                Facts::NotTried
            } else {
                self.enter(&account, is_owner, &mut findings).await?
            };
            Ok(Audit { account, started_at, finished_at: self.clock.now(), facts, findings })
        }
        .instrument(span)
        .await
    }

    async fn enter(
        &self,
        account: &Account,
        is_owner: bool,
        findings: &mut Vec<FindingsCount>,
    ) -> Result<Facts, StoreError> {
        let deadline = Instant::now() + self.visit_deadline;
        let entering = {
            let _assuming = self.costs.assumes.enter();
            self.sessions.enter(account.id, deadline).await
        };
        let entered = match entering {
            Ok(entered) => entered,
            Err(error) => return Ok(Facts::Unreachable(error.into_failure())),
        };
        let _auditing = self.costs.audits.enter();
        let list = |session, token| async move { self.aws.list_regions(&session, token).await };
        let listing = entered.all_pages(Operation::ListRegions, list).await;
        let mut unlisted = None;
        let mut regions: Vec<(Region, OptStatus)> = match listing {
            Ok(listing) if !listing.is_empty() => {
                let named = listing.into_iter().map(|listing| (listing.region, listing.opt_status));
                match &self.organization.regions {
                    RegionSelection::AllEnabled => named.collect(),
                    RegionSelection::List(wanted) => {
                        let named: Vec<_> = named.collect();
                        let status = |code: &String| {
                            let status = named.iter().find(|(region, _)| region.as_str() == code);
                            // A region that AWS does not name to the account is asked all the same.
                            (Region::new(code), status.map_or(OptStatus::Enabled, |(_, status)| *status))
                        };
                        wanted.iter().map(status).collect()
                    }
                }
            }
            // The account does not say which regions it has (an empty list is no answer): those that are configured or
            // enabled by default are asked, and those last seen, so that none disappears.
            other => {
                if let Err(error) = other {
                    info!(account.id = %account.id, error.kind = %error.kind, "its regions cannot be listed: {error}");
                    let Failure { kind, message } = error.into_failure();
                    let message =
                        format!("its regions cannot be listed, so that it may have others than were asked: {message}");
                    unlisted = Some(Failure { kind, message });
                }
                let mut regions = fallback_regions(self.organization, &self.sessions.partition());
                if self.organization.regions == RegionSelection::AllEnabled {
                    let known = self.retry.run("known_regions", |store| store.known_regions(self.scan, account.id));
                    regions.extend(known.await?);
                }
                regions.into_iter().map(|region| (region, OptStatus::Enabled)).collect()
            }
        };
        regions.sort_by(|(a, _), (b, _)| a.cmp(b));
        regions.dedup_by(|(a, _), (b, _)| a == b);
        // Accounts begin at different regions, so that no region's host is asked by all at once.
        if let Some(start) = account.id.as_str().bytes().map(usize::from).sum::<usize>().checked_rem(regions.len()) {
            regions.rotate_left(start);
        }
        let audits = regions.into_iter().map(|(region, opt_status)| {
            let entered = &entered;
            async move {
                let left_out = self.organization.excludes_region(account, &region) && !is_owner;
                let seen = match opt_status {
                    OptStatus::Disabled => Seen::Fact(RegionFact::NotOptedIn),
                    _ if !region.has_access_analyzer() => Seen::Fact(RegionFact::NotSupported),
                    _ if left_out => Seen::LeftOut,
                    opt_status => Seen::Fact(self.audit_region(entered, &region, opt_status).await),
                };
                (region, seen)
            }
        });
        // Each is polled only when it has something to do, and there are up to 34 of them.
        let seen: Vec<(Region, Seen)> = audits.collect::<FuturesUnordered<_>>().collect().await;
        if self.counts_findings {
            *findings = self.count_findings(&entered, account.id, &seen).await;
        }
        Ok(Facts::Entered(seen, unlisted))
    }

    /// Counts the findings of the account's own analyzers. Nothing of the verdict hangs on it: it begins when every region was
    /// listed, costs no region a retry, and has an end of its own. Once an account has denied it, it is not asked again in
    /// this visit.
    async fn count_findings(
        &self,
        entered: &Entered<'_>,
        account: AccountId,
        seen: &[(Region, Seen)],
    ) -> Vec<FindingsCount> {
        // Pages may overlap: each analyzer once.
        let mut analyzers: BTreeMap<&str, &Region> = BTreeMap::new();
        for (region, seen) in seen {
            if let Seen::Fact(RegionFact::Listed(listed)) = seen {
                let own = listed.iter().filter(|analyzer| analyzer.location.owner == account);
                analyzers.extend(own.map(|analyzer| (analyzer.arn.as_str(), region)));
            }
        }
        let denied = AtomicBool::new(false);
        let counts = analyzers.into_iter().map(|(arn, region)| {
            let denied = &denied;
            async move {
                if denied.load(Ordering::Relaxed) {
                    return None;
                }
                let count = |session| async move { self.aws.count_findings(&session, region, arn).await };
                match entered.call(Operation::GetFindingsStatistics, count).await {
                    Ok(count) => Some(count),
                    Err(error) => {
                        if matches!(error.kind, ErrorKind::AccessDenied | ErrorKind::ScpDenied) {
                            denied.store(true, Ordering::Relaxed);
                        }
                        self.say_uncounted(account, &error);
                        None
                    }
                }
            }
        });
        let mut counts: FuturesUnordered<_> = counts.collect();
        let mut counted = Vec::new();
        let ends = Instant::now() + COUNTING;
        // What was not counted by then is not counted this time.
        while let Ok(Some(count)) = timeout_at(ends, counts.next()).await {
            counted.extend(count);
        }
        counted
    }

    fn say_uncounted(&self, account: AccountId, error: &AwsError) {
        if !self.said_uncounted.swap(true, Ordering::Relaxed) {
            warn!(
                account.id = %account,
                error.kind = %error.kind,
                "findings are not counted everywhere, which is said once: {error}; `trustwatch policy` prints what the member role needs, \
                 `findings.statistics = false` does without"
            );
        }
    }

    async fn audit_region(&self, entered: &Entered<'_>, region: &Region, opt_status: OptStatus) -> RegionFact {
        let list = |session, token| async move { self.aws.list_analyzers(&session, region, token).await };
        match entered.all_pages_in(region, Operation::ListAnalyzers, list).await {
            Ok(analyzers) => RegionFact::Listed(analyzers),
            Err(error) => failed_region(error, opt_status),
        }
    }
}

/// The opt-in status is believed over the error's code: only where it is changing does a refusal of the credentials mean
/// that the account is not in the region.
fn failed_region(error: AwsError, opt_status: OptStatus) -> RegionFact {
    if opt_status == OptStatus::Changing && error.is_unrecognized_client() {
        RegionFact::NotOptedIn
    } else {
        RegionFact::Failed(error.into_failure())
    }
}

/// The regions of an account that says nothing of its own: the configured ones, or the partition's default-enabled ones.
pub fn fallback_regions(organization: &Organization, partition: &Partition) -> Vec<Region> {
    match &organization.regions {
        // One that is named twice is one.
        RegionSelection::List(codes) => {
            codes.iter().map(|code| Region::new(code)).collect::<BTreeSet<_>>().into_iter().collect()
        }
        RegionSelection::AllEnabled => partition.default_regions(),
    }
}
