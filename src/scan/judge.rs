//! *evaluate*: from what was seen of an account to a visit that can be stored. Pure but for its inputs.

use std::collections::BTreeMap;

use super::account::{Audit, Facts, Seen};
use crate::config::{Exemption, Organization};
use crate::evaluate::{OrganizationView, judge};
use crate::model::{
    AccountState, Analyzer, ByRequirement, ErrorKind, Failure, Reason, Region, RegionCoverage, RegionFact, Visit,
    VisitOutcome,
};

/// Judges an account. `known` are the regions that it has rows for if it was not entered.
pub fn visit(audit: Audit, organization: &Organization, view: &OrganizationView, known: &[Region]) -> Visit {
    let Audit { account, started_at, finished_at, facts, findings } = audit;
    let everywhere = |reason: Reason| -> Vec<RegionCoverage> {
        known.iter().map(|region| RegionCoverage::bare(region.clone(), reason)).collect()
    };
    let mut visit = Visit {
        outcome: VisitOutcome::Audited,
        failure: None,
        started_at,
        finished_at,
        coverage: Vec::new(),
        regions_read: Vec::new(),
        blind: Vec::new(),
        undecided: false,
        analyzers: Vec::new(),
        findings,
        entered: None,
        account,
    };
    let is_excluded = organization.excludes(&visit.account);
    visit.undecided = !is_excluded && organization.is_undecided(&visit.account);
    match facts {
        // The list says so, and the configuration: nobody has to go there.
        _ if visit.account.state != AccountState::Active => {
            visit.outcome = VisitOutcome::NotActive;
            visit.coverage = everywhere(Reason::AccountNotActive);
        }
        Facts::NotReached if !is_excluded => {
            visit.outcome = VisitOutcome::Pending;
            visit.coverage = everywhere(Reason::NotReached);
        }
        Facts::Entered(regions, unlisted) => {
            judge_regions(&mut visit, regions, unlisted, organization, view);
            if is_excluded {
                // It was read for the others' sake.
                visit.outcome = VisitOutcome::Excluded;
                visit.failure = None;
                for row in &mut visit.coverage {
                    *row = RegionCoverage::bare(row.region.clone(), Reason::Excluded);
                }
            }
        }
        Facts::Unreachable(failure) if !is_excluded => {
            visit.outcome = VisitOutcome::Unreachable;
            visit.coverage = everywhere(failure.kind.reason());
            visit.failure = Some(failure);
        }
        Facts::NotTried | Facts::Unreachable(_) | Facts::NotReached => {
            visit.outcome = VisitOutcome::Excluded;
            visit.coverage = everywhere(Reason::Excluded);
        }
    }
    for row in &mut visit.coverage {
        let exemption = organization.exemption_of(&visit.account, &row.region, finished_at);
        row.exemption = exemption.map(Exemption::digest);
    }
    visit
}

fn judge_regions(
    visit: &mut Visit,
    regions: Vec<(Region, Seen)>,
    unlisted: Option<Failure>,
    organization: &Organization,
    view: &OrganizationView,
) {
    let account = visit.account.id;
    let mut failures: BTreeMap<ErrorKind, (usize, Failure)> = BTreeMap::new();
    let mut seen_analyzers: BTreeMap<String, Analyzer> = BTreeMap::new();
    let mut read = 0;
    for (region, seen) in regions {
        // The first of the reasons for "not applicable" wins, and "excluded" is the last.
        let row = match &seen {
            Seen::Fact(fact) if is_not_applicable(fact) || !organization.excludes_region(&visit.account, &region) => {
                let under = |requirement| judge(account, &region, fact, requirement, view);
                let by_requirement = ByRequirement::each(|requirement| under(requirement).reason);
                RegionCoverage {
                    coverage: under(organization.requirement),
                    by_requirement,
                    region: region.clone(),
                    exemption: None,
                }
            }
            Seen::Fact(_) | Seen::LeftOut => RegionCoverage::bare(region.clone(), Reason::Excluded),
        };
        match seen {
            Seen::Fact(RegionFact::Listed(analyzers)) => {
                read += 1;
                // An owner that could be asked speaks for itself; what others list of it is older.
                let speaks = |owner| owner == account || view.is_unread_owner(owner, &region);
                let heard = analyzers.into_iter().filter(|analyzer| speaks(analyzer.location.owner));
                // Pages may overlap when the list changes between them: each analyzer once, as it was last seen.
                seen_analyzers.extend(heard.map(|analyzer| (analyzer.arn.clone(), analyzer)));
                if view.is_blind_in(&region) {
                    visit.blind.push(region.clone());
                }
                visit.regions_read.push(region);
            }
            Seen::Fact(RegionFact::Failed(failure)) => {
                failures.entry(failure.kind).or_insert((0, failure)).0 += 1;
            }
            // None is at work there any more.
            Seen::Fact(RegionFact::NotOptedIn) => visit.regions_read.push(region),
            Seen::Fact(RegionFact::NotSupported) | Seen::LeftOut => {}
        }
        visit.coverage.push(row);
    }
    visit.analyzers = seen_analyzers.into_values().collect();
    // An account that was read in part keeps the message of what was not: it says which kind of policy denied.
    let failed: usize = failures.values().map(|(count, _)| count).sum();
    let most = failures.into_values().max_by_key(|(count, _)| *count);
    visit.failure = most.map(|(count, failure)| explained(failure, count, read + failed));
    if read == 0 && visit.failure.is_some() {
        visit.outcome = VisitOutcome::Unreachable;
    }
    // A region that nobody named has no row: that is the only trace of it.
    visit.failure = visit.failure.take().or(unlisted);
}

/// Credentials that are refused somewhere are another matter than credentials that are refused everywhere.
fn explained(mut failure: Failure, regions: usize, asked: usize) -> Failure {
    if failure.kind == ErrorKind::Credentials {
        let where_refused = if regions == asked {
            "in every region that was asked: the credentials themselves are refused".to_owned()
        } else {
            format!(
                "in {regions} of the {asked} regions that were asked: the account may not have opted in to them, or the session is \
                 of STS's global endpoint, whose sessions opt-in regions refuse"
            )
        };
        failure.message = format!("{} ({where_refused})", failure.message);
    }
    failure
}

fn is_not_applicable(fact: &RegionFact) -> bool {
    matches!(fact, RegionFact::NotOptedIn | RegionFact::NotSupported)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::config::Selector;
    use crate::model::Account;

    #[test]
    fn what_the_list_and_the_configuration_say_needs_no_visit() {
        let id = "111111111111".parse().unwrap();
        let exclude = Selector { accounts: vec![id], ..Selector::default() };
        let (all, but_one) = (Organization::named("main"), Organization { exclude, ..Organization::named("main") });
        for (organization, state, reason) in [
            (&all, AccountState::Active, Reason::NotReached),
            (&but_one, AccountState::Active, Reason::Excluded),
            (&all, AccountState::Suspended, Reason::AccountNotActive),
            (&but_one, AccountState::Suspended, Reason::AccountNotActive),
        ] {
            let account = Account { id, name: "x".into(), state, ou_path: None, tags: None, owned_by: None };
            let (at, findings) = (DateTime::UNIX_EPOCH, Vec::new());
            let audit = Audit { account, started_at: at, finished_at: at, facts: Facts::NotReached, findings };
            let visit = visit(audit, organization, &OrganizationView::default(), &[Region::new("eu-west-1")]);
            assert_eq!(visit.coverage[0].coverage.reason, reason);
        }
    }
}
