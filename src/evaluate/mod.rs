//! The verdict: a pure function from what was seen to whether an account × region is watched for external access.
//!
//! Nothing here does I/O or knows what time it is, so every rule is a line in a table of tests below.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::model::{AccountId, Analyzer, Coverage, Reason, Region, RegionFact, Requirement, ZoneOfTrust};

/// What is known of the organization's analyzers: they live in the management account or in a delegated
/// administrator of Access Analyzer, and cover every member in their region.
#[derive(Debug, Default)]
pub struct OrganizationView {
    owners: BTreeSet<AccountId>,
    /// Whether `owners` is the whole list.
    owners_known: bool,
    /// By region, what the owners themselves said.
    regions: HashMap<Region, OwnedAnalyzers>,
    /// By region, the owners that were read there.
    read: HashMap<Region, BTreeSet<AccountId>>,
}

/// What one owner said of the organization's analyzers: every region of it that could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct OwnerView(BTreeMap<Region, OwnedAnalyzers>);

impl OwnerView {
    /// What an owner said in some of its regions. A region that the owner has not opted in to, or that has no Access
    /// Analyzer, holds none: that is an answer. A region that failed is not.
    pub fn new<'a>(owner: AccountId, facts: impl IntoIterator<Item = (&'a Region, &'a RegionFact)>) -> Self {
        let mut view = Self::default();
        for (region, fact) in facts {
            let listed = match fact {
                RegionFact::Failed(_) => continue,
                RegionFact::NotOptedIn | RegionFact::NotSupported => &[][..],
                RegionFact::Listed(analyzers) => analyzers,
            };
            let owned = view.0.entry(region.clone()).or_default();
            listed
                .iter()
                .filter(|analyzer| analyzer.location.owner == owner && analyzer.location.region == *region)
                .filter(|analyzer| analyzer.zone_of_trust() == Some(ZoneOfTrust::Organization))
                .for_each(|analyzer| owned.note(analyzer));
        }
        view
    }
}

/// The organization's analyzers in one region. The smallest ARN stands for all, so that the answer does not depend on
/// the order in which owners were read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
struct OwnedAnalyzers {
    active: Option<String>,
    inactive: Option<String>,
}

impl OwnedAnalyzers {
    fn note(&mut self, analyzer: &Analyzer) {
        self.note_arn(analyzer.is_active(), &analyzer.arn);
    }

    fn note_arn(&mut self, is_active: bool, arn: &str) {
        let slot = if is_active { &mut self.active } else { &mut self.inactive };
        if slot.as_deref().is_none_or(|smallest| arn < smallest) {
            *slot = Some(arn.to_owned());
        }
    }
}

impl OrganizationView {
    /// A view of an organization whose analyzers can be owned by `owners`. `owners_known` is false where the list of
    /// delegated administrators could not be read, so that there may be others.
    pub fn new(owners: impl IntoIterator<Item = AccountId>, owners_known: bool) -> Self {
        Self { owners: owners.into_iter().collect(), owners_known, ..Self::default() }
    }

    /// Takes in what an owner said.
    pub fn add(&mut self, owner: AccountId, view: &OwnerView) {
        for (region, owned) in &view.0 {
            self.read.entry(region.clone()).or_default().insert(owner);
            for (is_active, arn) in [(true, &owned.active), (false, &owned.inactive)] {
                if let Some(arn) = arn {
                    self.regions.entry(region.clone()).or_default().note_arn(is_active, arn);
                }
            }
        }
    }

    /// Whether some owner, or the list of owners, could not be read in this region.
    pub fn is_blind_in(&self, region: &Region) -> bool {
        !self.owners_known || self.read.get(region).map_or(0, BTreeSet::len) < self.owners.len()
    }

    /// Whether an owner said that an analyzer of the organization is at work in a region.
    pub fn is_active_in(&self, region: &Region) -> bool {
        self.regions.get(region).is_some_and(|owned| owned.active.is_some())
    }

    /// Whether an account is known to have no analyzer of this organization at work in a region: it was asked, or it may own none.
    pub fn has_none(&self, account: AccountId, region: &Region) -> bool {
        let may_own = !self.owners_known || self.owners.contains(&account);
        let was_read = self.read.get(region).is_some_and(|read| read.contains(&account));
        (was_read || !may_own) && !self.is_active_in(region)
    }

    /// Whether an account may own analyzers of this organization, and could not be asked in this region: then what others
    /// list of it is all there is.
    pub fn is_unread_owner(&self, account: AccountId, region: &Region) -> bool {
        self.owners.contains(&account) && !self.read.get(region).is_some_and(|read| read.contains(&account))
    }

    /// The organization's analyzers in a region, as far as anybody saw them. What a member lists counts only where the
    /// owner could not be asked, and only if the ARN names a possible owner: whether members list them at all is not
    /// documented, and an owner's own word is newer.
    fn seen_in(&self, region: &Region, listed: &[Analyzer]) -> OwnedAnalyzers {
        let mut seen = OwnedAnalyzers::default();
        if let Some(owned) = self.regions.get(region) {
            seen.active.clone_from(&owned.active);
            seen.inactive.clone_from(&owned.inactive);
        }
        listed
            .iter()
            .filter(|analyzer| analyzer.zone_of_trust() == Some(ZoneOfTrust::Organization))
            .filter(|analyzer| analyzer.location.region == *region)
            .filter(|analyzer| self.is_unread_owner(analyzer.location.owner, region))
            .for_each(|analyzer| seen.note(analyzer));
        seen
    }
}

/// Judges one region of one account.
///
/// `unknown` with `organization_analyzers_unknown` is given only where the requirement needs the organization's
/// analyzer for an answer, no ACTIVE one was seen, and some owner could not be read.
pub fn judge(
    account: AccountId,
    region: &Region,
    fact: &RegionFact,
    requirement: Requirement,
    organization: &OrganizationView,
) -> Coverage {
    let listed = match fact {
        RegionFact::NotSupported => return Coverage::bare(Reason::RegionNotSupported),
        RegionFact::NotOptedIn => return Coverage::bare(Reason::RegionNotOptedIn),
        RegionFact::Failed(failure) => return Coverage::bare(failure.kind.reason()),
        RegionFact::Listed(listed) => listed,
    };

    let mut own = OwnedAnalyzers::default();
    listed
        .iter()
        .filter(|analyzer| analyzer.zone_of_trust() == Some(ZoneOfTrust::Account))
        .filter(|analyzer| analyzer.location.owner == account && analyzer.location.region == *region)
        .for_each(|analyzer| own.note(analyzer));
    let shared = organization.seen_in(region, listed);

    let (needs_own, needs_shared) = (own.active.is_none(), shared.active.is_none());
    let satisfied = match requirement {
        Requirement::Account => !needs_own,
        Requirement::Organization => !needs_shared,
        Requirement::Either => !needs_own || !needs_shared,
        Requirement::Both => !needs_own && !needs_shared,
    };
    if satisfied {
        return match (own.active, shared.active) {
            (Some(own), Some(_)) => with_arn(Reason::AccountAndOrganizationAnalyzers, Some(own)),
            (Some(own), None) => with_arn(Reason::AccountAnalyzer, Some(own)),
            (None, shared) => with_arn(Reason::OrganizationAnalyzer, shared),
        };
    }

    let blind = needs_shared && organization.is_blind_in(region);
    let the_answer_hangs_on_it = match requirement {
        Requirement::Account => false,
        Requirement::Organization | Requirement::Either => true,
        // Without an ACTIVE analyzer of its own the answer is `not_covered`, whatever the organization has.
        Requirement::Both => !needs_own,
    };
    if blind && the_answer_hangs_on_it {
        return Coverage::bare(Reason::OrganizationAnalyzersUnknown);
    }

    // In the precedence of `docs/sql.md`: the first that applies.
    let not_active = match requirement {
        Requirement::Account => own.inactive,
        Requirement::Organization => shared.inactive,
        Requirement::Either => own.inactive.or(shared.inactive),
        Requirement::Both => own.inactive.filter(|_| needs_own).or(shared.inactive.filter(|_| needs_shared)),
    };
    if not_active.is_some() {
        return with_arn(Reason::AnalyzerNotActive, not_active);
    }
    if let Some(other_zone) = own.active.or(shared.active) {
        return with_arn(Reason::RequiredZoneOfTrustMissing, Some(other_zone));
    }
    let other_types = listed.iter().any(|analyzer| analyzer.zone_of_trust().is_none());
    Coverage::bare(if other_types { Reason::OnlyOtherAnalyzerTypes } else { Reason::NoAnalyzer })
}

fn with_arn(reason: Reason, analyzer_arn: Option<String>) -> Coverage {
    Coverage { reason, analyzer_arn }
}

/// Where the organization's analyzers are out of sight (`blind`), a region whose status does not hang on them keeps the
/// reason it had: one denial must not make thousands of changes that mean nothing.
pub fn keep_reason_while_blind(previous: Option<Reason>, current: Reason, blind: bool) -> Reason {
    use Reason::{
        AccountAnalyzer, AccountAndOrganizationAnalyzers, AnalyzerNotActive, NoAnalyzer, OnlyOtherAnalyzerTypes,
        RequiredZoneOfTrustMissing,
    };
    match (previous, current) {
        (Some(AccountAndOrganizationAnalyzers), AccountAnalyzer) if blind => AccountAndOrganizationAnalyzers,
        (Some(seen @ (RequiredZoneOfTrustMissing | AnalyzerNotActive)), NoAnalyzer | OnlyOtherAnalyzerTypes)
            if blind =>
        {
            seen
        }
        _ => current,
    }
}

#[cfg(test)]
mod tests;
