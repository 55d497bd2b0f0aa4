//! The rule, case by case, and what must hold in every case.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{AnalyzerArn, ErrorKind, Failure, Status};

const REGION: &str = "eu-west-1";

fn id(text: &str) -> AccountId {
    text.parse().unwrap()
}

fn member() -> AccountId {
    id("000000000001")
}

fn management() -> AccountId {
    id("999999999999")
}

fn analyzer(owner: AccountId, analyzer_type: &str, status: &str) -> Analyzer {
    let arn = format!("arn:aws:access-analyzer:{REGION}:{owner}:analyzer/{analyzer_type}-{status}");
    Analyzer {
        location: AnalyzerArn::parse(&arn).unwrap(),
        arn,
        name: "x".into(),
        analyzer_type: analyzer_type.into(),
        status: status.into(),
        status_reason: None,
        managed_by: None,
        created_at: None,
        tags: BTreeMap::new(),
    }
}

fn service_linked(analyzer_type: &str) -> Analyzer {
    Analyzer { managed_by: Some("securityhubv2.amazonaws.com".into()), ..analyzer(member(), analyzer_type, "ACTIVE") }
}

fn own(analyzer_type: &str, status: &str) -> Analyzer {
    analyzer(member(), analyzer_type, status)
}

/// Takes in what the management account said in one region.
fn note(view: &mut OrganizationView, region: &str, fact: &RegionFact) {
    view.add(management(), &OwnerView::new(management(), [(&Region::new(region), fact)]));
}

/// The organization's view after its management account listed these.
fn view(listed: Vec<Analyzer>) -> OrganizationView {
    let mut view = OrganizationView::new([management()], true);
    note(&mut view, REGION, &RegionFact::Listed(listed));
    view
}

fn shared(status: &str) -> OrganizationView {
    view(vec![analyzer(management(), "ORGANIZATION", status)])
}

fn none() -> OrganizationView {
    view(vec![])
}

/// An owner exists and was not read.
fn blind() -> OrganizationView {
    OrganizationView::new([management()], true)
}

#[test]
fn who_was_read_or_may_own_none_has_none() {
    let (region, administrator) = (Region::new(REGION), id("222222222222"));
    let mut organization = OrganizationView::new([management(), administrator], true);
    note(&mut organization, REGION, &RegionFact::Listed(vec![analyzer(management(), "ORGANIZATION", "DISABLED")]));
    assert!(organization.is_blind_in(&region), "the administrator was not read");
    assert!(organization.has_none(management(), &region));
    assert!(organization.has_none(member(), &region), "it is no owner any more");
    assert!(!organization.has_none(administrator, &region));
    let unknown = OrganizationView::new([management()], false);
    assert!(!unknown.has_none(member(), &region), "it may be one");
    assert!(!shared("ACTIVE").has_none(management(), &region));
}

fn verdict(listed: Vec<Analyzer>, requirement: Requirement, organization: &OrganizationView) -> Reason {
    judge(member(), &Region::new(REGION), &RegionFact::Listed(listed), requirement, organization).reason
}

#[test]
fn the_rule_with_either() {
    let either = |listed, view: &OrganizationView| verdict(listed, Requirement::Either, view);
    for (listed, organization, expected) in [
        (vec![own("ACCOUNT", "ACTIVE")], none(), Reason::AccountAnalyzer),
        (vec![], shared("ACTIVE"), Reason::OrganizationAnalyzer),
        (vec![own("ACCOUNT", "ACTIVE")], shared("ACTIVE"), Reason::AccountAndOrganizationAnalyzers),
        (vec![], none(), Reason::NoAnalyzer),
        (vec![own("ACCOUNT", "DISABLED")], none(), Reason::AnalyzerNotActive),
        (vec![own("ACCOUNT", "CREATING")], none(), Reason::AnalyzerNotActive),
        (vec![own("ACCOUNT", "FAILED")], none(), Reason::AnalyzerNotActive),
        (vec![own("ACCOUNT", "A_STATUS_OF_TOMORROW")], none(), Reason::AnalyzerNotActive),
        (vec![], shared("DISABLED"), Reason::AnalyzerNotActive),
        (vec![own("ACCOUNT", "DISABLED")], shared("ACTIVE"), Reason::OrganizationAnalyzer),
        (vec![own("ACCOUNT", "ACTIVE")], shared("DISABLED"), Reason::AccountAnalyzer),
        (vec![own("ACCOUNT", "ACTIVE")], blind(), Reason::AccountAnalyzer),
        (vec![], blind(), Reason::OrganizationAnalyzersUnknown),
        (vec![own("ACCOUNT", "DISABLED")], blind(), Reason::OrganizationAnalyzersUnknown),
    ] {
        assert_eq!(either(listed.clone(), &organization), expected, "{listed:?} {organization:?}");
    }
}

#[test]
fn an_analyzer_of_another_type_never_counts() {
    for analyzer_type in [
        "ACCOUNT_UNUSED_ACCESS",
        "ORGANIZATION_UNUSED_ACCESS",
        "ACCOUNT_INTERNAL_ACCESS",
        "ORGANIZATION_INTERNAL_ACCESS",
        "A_TYPE_OF_TOMORROW",
    ] {
        for requirement in Requirement::ALL {
            let reason = verdict(vec![own(analyzer_type, "ACTIVE")], *requirement, &none());
            assert_eq!(reason, Reason::OnlyOtherAnalyzerTypes, "{analyzer_type} {requirement}");
            let owned = view(vec![analyzer(management(), analyzer_type, "ACTIVE")]);
            assert_eq!(verdict(vec![], *requirement, &owned), Reason::NoAnalyzer, "{analyzer_type} {requirement}");
        }
    }
}

#[test]
fn a_service_linked_analyzer_never_counts_whatever_its_type() {
    for analyzer_type in ["ACCOUNT", "ORGANIZATION", "ACCOUNT_UNUSED_ACCESS"] {
        let reason = verdict(vec![service_linked(analyzer_type)], Requirement::Either, &none());
        assert_eq!(reason, Reason::OnlyOtherAnalyzerTypes, "{analyzer_type}");
    }
}

#[test]
fn the_zone_of_trust_that_is_required() {
    use Requirement::{Account, Both, Organization};
    let active = || vec![own("ACCOUNT", "ACTIVE")];
    for (requirement, listed, organization, expected) in [
        (Account, active(), none(), Reason::AccountAnalyzer),
        (Account, active(), blind(), Reason::AccountAnalyzer),
        (Account, vec![], shared("ACTIVE"), Reason::RequiredZoneOfTrustMissing),
        (Account, vec![], shared("DISABLED"), Reason::NoAnalyzer),
        (Account, vec![], blind(), Reason::NoAnalyzer),
        (Account, vec![own("ACCOUNT", "FAILED")], shared("ACTIVE"), Reason::AnalyzerNotActive),
        (Organization, vec![], shared("ACTIVE"), Reason::OrganizationAnalyzer),
        (Organization, active(), none(), Reason::RequiredZoneOfTrustMissing),
        (Organization, active(), shared("DISABLED"), Reason::AnalyzerNotActive),
        (Organization, active(), blind(), Reason::OrganizationAnalyzersUnknown),
        (Both, active(), shared("ACTIVE"), Reason::AccountAndOrganizationAnalyzers),
        (Both, active(), none(), Reason::RequiredZoneOfTrustMissing),
        (Both, vec![], shared("ACTIVE"), Reason::RequiredZoneOfTrustMissing),
        (Both, active(), blind(), Reason::OrganizationAnalyzersUnknown),
        (Both, vec![], blind(), Reason::NoAnalyzer),
        (Both, vec![own("ACCOUNT", "DISABLED")], shared("ACTIVE"), Reason::AnalyzerNotActive),
    ] {
        let reason = verdict(listed.clone(), requirement, &organization);
        assert_eq!(reason, expected, "{requirement}: {listed:?} {organization:?}");
    }
}

#[test]
fn an_organization_analyzer_counts_only_if_a_possible_owner_has_it() {
    let stranger = id("555555555555");
    // Listed by the owner, but of somebody else: a leftover, or another organization's.
    let strange = view(vec![analyzer(stranger, "ORGANIZATION", "ACTIVE")]);
    assert_eq!(verdict(vec![], Requirement::Either, &strange), Reason::NoAnalyzer);
    // Listed by the member itself, of somebody who may not own any.
    let listed = vec![analyzer(stranger, "ORGANIZATION", "ACTIVE")];
    assert_eq!(verdict(listed.clone(), Requirement::Either, &none()), Reason::NoAnalyzer);
    assert_eq!(verdict(listed, Requirement::Either, &blind()), Reason::OrganizationAnalyzersUnknown);
}

#[test]
fn what_a_member_lists_of_an_owner_counts_only_where_the_owner_could_not_be_asked() {
    let listed = vec![analyzer(management(), "ORGANIZATION", "ACTIVE")];
    assert_eq!(verdict(listed.clone(), Requirement::Either, &blind()), Reason::OrganizationAnalyzer);
    assert_eq!(verdict(listed, Requirement::Either, &none()), Reason::NoAnalyzer);
}

#[test]
fn what_a_member_lists_of_an_owner_that_was_read_does_not_count_though_another_was_not() {
    let delegated = id("888888888888");
    let mut organization = OrganizationView::new([management(), delegated], true);
    note(&mut organization, REGION, &RegionFact::Listed(vec![]));
    let stale = vec![analyzer(management(), "ORGANIZATION", "ACTIVE")];
    assert_eq!(verdict(stale, Requirement::Either, &organization), Reason::OrganizationAnalyzersUnknown);
    let unread = vec![analyzer(delegated, "ORGANIZATION", "ACTIVE")];
    assert_eq!(verdict(unread, Requirement::Either, &organization), Reason::OrganizationAnalyzer);
}

#[test]
fn a_reason_is_kept_while_blind_only_if_the_status_does_not_hang_on_it() {
    use Reason::*;
    let kept = |previous, current, blind| keep_reason_while_blind(Some(previous), current, blind);
    assert_eq!(kept(AccountAndOrganizationAnalyzers, AccountAnalyzer, true), AccountAndOrganizationAnalyzers);
    assert_eq!(kept(AccountAndOrganizationAnalyzers, AccountAnalyzer, false), AccountAnalyzer);
    assert_eq!(kept(RequiredZoneOfTrustMissing, NoAnalyzer, true), RequiredZoneOfTrustMissing);
    assert_eq!(kept(RequiredZoneOfTrustMissing, NoAnalyzer, false), NoAnalyzer);
    assert_eq!(kept(OrganizationAnalyzer, NoAnalyzer, true), NoAnalyzer);
    assert_eq!(kept(OrganizationAnalyzer, OrganizationAnalyzersUnknown, true), OrganizationAnalyzersUnknown);
}

#[test]
fn a_list_of_owners_that_could_not_be_read_leaves_the_answer_open() {
    let mut partly = OrganizationView::new([management()], false);
    note(&mut partly, REGION, &RegionFact::Listed(vec![]));
    assert_eq!(verdict(vec![], Requirement::Either, &partly), Reason::OrganizationAnalyzersUnknown);
    note(&mut partly, REGION, &RegionFact::Listed(vec![analyzer(management(), "ORGANIZATION", "ACTIVE")]));
    assert_eq!(verdict(vec![], Requirement::Either, &partly), Reason::OrganizationAnalyzer);
}

#[test]
fn a_region_that_the_owner_has_not_opted_in_to_holds_no_analyzer_of_the_organization() {
    let mut organization = OrganizationView::new([management()], true);
    note(&mut organization, REGION, &RegionFact::NotOptedIn);
    assert_eq!(verdict(vec![], Requirement::Either, &organization), Reason::NoAnalyzer);
}

#[test]
fn an_owner_that_failed_in_one_region_leaves_only_that_region_open() {
    let other = Region::new("us-east-1");
    let mut organization = OrganizationView::new([management()], true);
    let failure = Failure { kind: ErrorKind::AccessDenied, message: String::new() };
    note(&mut organization, REGION, &RegionFact::Failed(failure));
    note(&mut organization, other.as_str(), &RegionFact::Listed(vec![]));
    assert_eq!(verdict(vec![], Requirement::Either, &organization), Reason::OrganizationAnalyzersUnknown);
    let listed = RegionFact::Listed(vec![]);
    let elsewhere = judge(member(), &other, &listed, Requirement::Either, &organization);
    assert_eq!(elsewhere.reason, Reason::NoAnalyzer);
}

#[test]
fn the_analyzer_that_is_named_covers_or_should() {
    let arn = |listed, view: &OrganizationView| {
        let fact = RegionFact::Listed(listed);
        judge(member(), &Region::new(REGION), &fact, Requirement::Either, view).analyzer_arn.unwrap_or_default()
    };
    assert!(arn(vec![own("ACCOUNT", "ACTIVE")], &shared("ACTIVE")).contains("000000000001"));
    assert!(arn(vec![], &shared("DISABLED")).contains("999999999999"));
    assert!(arn(vec![own("ACCOUNT_UNUSED_ACCESS", "ACTIVE")], &none()).is_empty());
}

#[test]
fn without_an_organization_only_an_analyzer_of_its_own_covers() {
    let alone = OrganizationView::new([], true);
    let leftover = vec![analyzer(member(), "ORGANIZATION", "ACTIVE")];
    assert_eq!(verdict(leftover, Requirement::Either, &alone), Reason::NoAnalyzer);
    assert_eq!(verdict(vec![own("ACCOUNT", "ACTIVE")], Requirement::Either, &alone), Reason::AccountAnalyzer);
}

fn any_analyzer() -> impl Strategy<Value = Analyzer> {
    let owners = prop_oneof![Just(member()), Just(management()), Just(id("555555555555"))];
    let types = proptest::sample::select(vec![
        "ACCOUNT",
        "ORGANIZATION",
        "ACCOUNT_UNUSED_ACCESS",
        "ORGANIZATION_INTERNAL_ACCESS",
        "NEW",
    ]);
    let statuses = proptest::sample::select(vec!["ACTIVE", "CREATING", "DISABLED", "FAILED"]);
    (owners, types, statuses, any::<bool>()).prop_map(|(owner, kind, status, managed)| Analyzer {
        managed_by: managed.then(|| "service".to_owned()),
        ..analyzer(owner, kind, status)
    })
}

fn any_fact() -> impl Strategy<Value = RegionFact> {
    let failed = proptest::sample::select(ErrorKind::ALL)
        .prop_map(|kind| RegionFact::Failed(Failure { kind, message: String::new() }));
    prop_oneof![
        6 => proptest::collection::vec(any_analyzer(), 0..5).prop_map(RegionFact::Listed),
        1 => Just(RegionFact::NotOptedIn),
        1 => Just(RegionFact::NotSupported),
        2 => failed,
    ]
}

proptest! {
    #[test]
    fn covered_means_that_an_active_external_analyzer_was_seen(
        fact in any_fact(),
        owners in any_fact(),
        owners_known in any::<bool>(),
        requirement in proptest::sample::select(Requirement::ALL),
    ) {
        let mut organization = OrganizationView::new([management()], owners_known);
        note(&mut organization, REGION, &owners);
        let verdict = judge(member(), &Region::new(REGION), &fact, requirement, &organization);
        let active = |fact: &RegionFact, owner: AccountId, kind: &str| matches!(fact, RegionFact::Listed(listed) if
            listed.iter().any(|one| one.analyzer_type == kind && one.status == "ACTIVE" && one.managed_by.is_none()
                && one.location.owner == owner));
        let own = active(&fact, member(), "ACCOUNT");
        let shared = active(&owners, management(), "ORGANIZATION") || active(&fact, management(), "ORGANIZATION");
        match verdict.status() {
            Status::Covered => {
                let listed = matches!(fact, RegionFact::Listed(_));
                prop_assert!(listed);
                let satisfied = match requirement {
                    Requirement::Account => own,
                    Requirement::Organization => shared,
                    Requirement::Either => own || shared,
                    Requirement::Both => own && shared,
                };
                prop_assert!(satisfied);
            }
            Status::NotCovered => {
                let listed = matches!(fact, RegionFact::Listed(_));
                prop_assert!(listed);
            }
            Status::Unknown => {
                let blind = verdict.reason == Reason::OrganizationAnalyzersUnknown;
                let failed = matches!(fact, RegionFact::Failed(_));
                prop_assert!(blind || failed);
                prop_assert!(!blind || organization.is_blind_in(&Region::new(REGION)));
            }
            Status::NotApplicable => {
                let nothing_to_watch = matches!(fact, RegionFact::NotOptedIn | RegionFact::NotSupported);
                prop_assert!(nothing_to_watch);
            }
        }
    }

    #[test]
    fn the_order_in_which_analyzers_are_listed_does_not_matter(
        listed in proptest::collection::vec(any_analyzer(), 0..6),
        requirement in proptest::sample::select(Requirement::ALL),
    ) {
        let mut reversed = listed.clone();
        reversed.reverse();
        let judge = |listed| judge(member(), &Region::new(REGION), &RegionFact::Listed(listed), requirement, &blind());
        prop_assert_eq!(judge(listed), judge(reversed));
    }
}
