//! What changes, and why: one line for each rule.

use super::*;
use crate::model::ByRequirement;

fn at(seconds: i64) -> Timestamp {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap().into()
}

/// An account as of scan 1, under `either`.
fn account() -> Account {
    let id = "111111111111".parse().unwrap();
    Account { id, checked_at: Some(at(100)), scan_id: 1, requirement: Requirement::Either, same_configuration: true }
}

fn open(region: &str, reason: Reason) -> Open {
    Open {
        region: Region::new(region),
        reason,
        analyzer_arn: None,
        answer_arn: None,
        uncovered_since: None,
        last_known: None,
        same_configuration: true,
    }
}

fn seen(region: &str, reason: Reason) -> RegionCoverage {
    RegionCoverage::bare(Region::new(region), reason)
}

/// What one interval becomes: the cause of the next, and of the next known answer.
fn becomes(account: &Account, before: &Open, now: &RegionCoverage) -> Opening {
    let mut changes = changes(account, std::slice::from_ref(before), std::slice::from_ref(now), &[], false);
    assert_eq!(changes.close, [(before.region.clone(), None)]);
    changes.open.remove(0)
}

/// The same interval again, as it will be read back.
fn reopened(opening: &Opening) -> Open {
    let (region, reason, last_known) = (opening.region.clone(), opening.reason, opening.last_known);
    Open {
        region,
        reason,
        analyzer_arn: None,
        answer_arn: None,
        uncovered_since: None,
        last_known,
        same_configuration: true,
    }
}

#[test]
fn what_is_unchanged_writes_nothing() {
    let open = [open("a", Reason::NoAnalyzer), open("b", Reason::Throttled)];
    let seen = [seen("b", Reason::Throttled), seen("a", Reason::NoAnalyzer)];
    assert_eq!(changes(&account(), &open, &seen, &[], false), Changes::default());
}

#[test]
fn another_analyzer_that_covers_is_no_change_of_the_reason() {
    let mut now = seen("a", Reason::AccountAnalyzer);
    now.coverage.analyzer_arn = Some("arn".into());
    let changes = changes(&account(), &[open("a", Reason::AccountAnalyzer)], &[now], &[], false);
    assert_eq!(changes.rename, [(Region::new("a"), Some("arn".into()))]);
    assert!(changes.open.is_empty() && changes.close.is_empty());
}

#[test]
fn an_unknown_keeps_the_last_known_answer_through_any_number_of_unknowns() {
    let first = becomes(&account(), &open("a", Reason::AccountAnalyzer), &seen("a", Reason::Timeout));
    let expected =
        LastKnown { reason: Reason::AccountAnalyzer, at: at(100), scan_id: 1, requirement: Requirement::Either };
    assert_eq!((first.cause, first.last_known, first.known_cause), (Cause::Visibility, Some(expected), None));
    let later = Account { checked_at: Some(at(200)), scan_id: 2, ..account() };
    let second = becomes(&later, &reopened(&first), &seen("a", Reason::Throttled));
    assert_eq!((second.cause, second.last_known), (Cause::Visibility, Some(expected)));
    let same = becomes(&later, &reopened(&second), &seen("a", Reason::AccountAnalyzer));
    assert_eq!((same.cause, same.known_cause), (Cause::Visibility, None), "the known answer did not change");
    let other = becomes(&later, &reopened(&second), &seen("a", Reason::NoAnalyzer));
    assert_eq!((other.cause, other.known_cause), (Cause::Visibility, Some(Cause::World)));
    assert_eq!(other.last_known, Some(expected));
}

#[test]
fn what_was_never_known_has_no_last_known_answer() {
    let known = becomes(&account(), &open("a", Reason::Timeout), &seen("a", Reason::NoAnalyzer));
    assert_eq!((known.cause, known.last_known, known.known_cause), (Cause::Visibility, None, Some(Cause::Membership)));
}

#[test]
fn the_first_sight_of_an_account_is_its_joining_and_of_a_region_is_the_worlds_or_ours() {
    let joined = changes(&account(), &[], &[seen("a", Reason::NoAnalyzer)], &[], false);
    assert_eq!((joined.open[0].cause, joined.open[0].from), (Cause::Membership, None));
    let both = [seen("a", Reason::NoAnalyzer), seen("b", Reason::NoAnalyzer)];
    let new = changes(&account(), &[open("a", Reason::NoAnalyzer)], &both, &[], false);
    assert_eq!((new.open[0].cause, new.open[0].from), (Cause::World, None));
    let reconfigured = Account { same_configuration: false, ..account() };
    let listed = changes(&reconfigured, &[open("a", Reason::NoAnalyzer)], &both, &[], false);
    assert_eq!(listed.open[0].cause, Cause::Configuration);
}

#[test]
fn a_region_that_is_gone_ends_and_nothing_follows() {
    let before = [open("a", Reason::NoAnalyzer), open("b", Reason::NoAnalyzer)];
    let gone = changes(&account(), &before, &[seen("a", Reason::NoAnalyzer)], &[], false);
    assert_eq!(gone.close, [(Region::new("b"), Some(Cause::World))]);
    let reconfigured = Account { same_configuration: false, ..account() };
    let dropped = changes(&reconfigured, &before, &[seen("a", Reason::NoAnalyzer)], &[], false);
    assert_eq!(dropped.close, [(Region::new("b"), Some(Cause::Configuration))]);
}

#[test]
fn a_changed_requirement_is_told_from_a_changed_world() {
    // Under `either` the account's own analyzer covers; `both` wants the organization's too.
    let mut now = seen("a", Reason::RequiredZoneOfTrustMissing);
    now.by_requirement = ByRequirement::each(|requirement| match requirement {
        Requirement::Account | Requirement::Either => Reason::AccountAnalyzer,
        Requirement::Organization | Requirement::Both => Reason::RequiredZoneOfTrustMissing,
    });
    let ours = becomes(&account(), &open("a", Reason::AccountAnalyzer), &now);
    assert_eq!(ours.cause, Cause::Configuration);
    // Both changed at once: under the old requirement the answer would have changed too.
    let theirs = becomes(&account(), &open("a", Reason::NoAnalyzer), &now);
    assert_eq!(theirs.cause, Cause::World);
}

#[test]
fn a_changed_requirement_behind_an_unknown_is_no_change_of_the_world_either() {
    let hidden = becomes(&account(), &open("a", Reason::AccountAnalyzer), &seen("a", Reason::Timeout));
    let mut now = seen("a", Reason::RequiredZoneOfTrustMissing);
    now.by_requirement = ByRequirement::each(|requirement| match requirement {
        Requirement::Either => Reason::AccountAnalyzer,
        _ => Reason::RequiredZoneOfTrustMissing,
    });
    // The scan in which it could not be read had the new requirement already.
    let reconfigured = Account { scan_id: 2, requirement: Requirement::Both, ..account() };
    let shown = becomes(&reconfigured, &reopened(&hidden), &now);
    assert_eq!((shown.cause, shown.known_cause), (Cause::Visibility, Some(Cause::Configuration)));
}

#[test]
fn leaving_out_is_ours_if_we_changed_our_mind_and_the_worlds_if_it_moved() {
    let moved = becomes(&account(), &open("a", Reason::NoAnalyzer), &seen("a", Reason::Excluded));
    assert_eq!(moved.cause, Cause::World);
    let reconfigured = Account { same_configuration: false, ..account() };
    let out = becomes(&reconfigured, &open("a", Reason::Timeout), &seen("a", Reason::Excluded));
    assert_eq!((out.cause, out.known_cause), (Cause::Configuration, None));
    let back = becomes(&reconfigured, &open("a", Reason::Excluded), &seen("a", Reason::NoAnalyzer));
    assert_eq!(back.cause, Cause::Configuration);
    // So it is behind an unknown: what counts is the configuration of the scan that saw the last answer.
    let locked = becomes(&reconfigured, &open("a", Reason::Excluded), &seen("a", Reason::RoleNotAssumable));
    for (same_configuration, cause) in [(false, Cause::Configuration), (true, Cause::World)] {
        let hidden = Open { same_configuration, ..reopened(&locked) };
        let entered = becomes(&account(), &hidden, &seen("a", Reason::NoAnalyzer));
        assert_eq!((entered.cause, entered.known_cause), (Cause::Visibility, Some(cause)));
    }
}

#[test]
fn losing_sight_of_the_owner_does_not_change_a_region_that_its_own_analyzer_covers() {
    let both = [open("a", Reason::AccountAndOrganizationAnalyzers)];
    let own = [seen("a", Reason::AccountAnalyzer)];
    assert_eq!(changes(&account(), &both, &own, &[Region::new("a")], false), Changes::default());
    assert_eq!(changes(&account(), &both, &own, &[], false).open[0].reason, Reason::AccountAnalyzer);
}

#[test]
fn losing_sight_of_the_owner_changes_nothing_behind_an_unknown_either() {
    let hidden = becomes(&account(), &open("a", Reason::AccountAndOrganizationAnalyzers), &seen("a", Reason::Timeout));
    let own = [seen("a", Reason::AccountAnalyzer)];
    let back = changes(&account(), &[reopened(&hidden)], &own, &[Region::new("a")], false).open.remove(0);
    assert_eq!((back.reason, back.known_cause), (Reason::AccountAndOrganizationAnalyzers, None));
}

fn arn(owner: &str, name: &str) -> String {
    format!("arn:aws:access-analyzer:eu-west-1:{owner}:analyzer/{name}")
}

#[test]
fn while_owners_are_out_of_sight_an_accounts_own_list_still_counts() {
    let region = || Region::new("a");
    let blind = |before: &Open, now: RegionCoverage| {
        changes(&account(), std::slice::from_ref(before), &[now], &[region()], false)
    };
    for reason in [Reason::AnalyzerNotActive, Reason::RequiredZoneOfTrustMissing] {
        let named = |owner| Some(arn(owner, "watch"));
        let of = |owner| Open { analyzer_arn: named(owner), answer_arn: named(owner), ..open("a", reason) };
        let kept = blind(&of("999999999999"), seen("a", Reason::NoAnalyzer));
        assert_eq!(kept, Changes::default(), "nobody knows better of another's");
        let gone = blind(&of("111111111111"), seen("a", Reason::NoAnalyzer));
        assert_eq!((gone.close.len(), gone.open[0].reason, gone.open[0].cause), (1, Reason::NoAnalyzer, Cause::World));
        // So it is behind an unknown, which names no analyzer itself.
        let hidden = reopened(&becomes(&account(), &open("a", reason), &seen("a", Reason::Timeout)));
        let of = |owner| Open { answer_arn: Some(arn(owner, "watch")), ..hidden.clone() };
        let back = blind(&of("999999999999"), seen("a", Reason::NoAnalyzer)).open.remove(0);
        assert_eq!((back.reason, back.analyzer_arn), (reason, Some(arn("999999999999", "watch"))));
        let gone = blind(&of("111111111111"), seen("a", Reason::NoAnalyzer)).open.remove(0);
        assert_eq!((gone.reason, gone.known_cause), (Reason::NoAnalyzer, Some(Cause::World)));
    }
    let both = Reason::AccountAndOrganizationAnalyzers;
    let before = Open { analyzer_arn: Some(arn("111111111111", "old")), ..open("a", both) };
    let mut now = seen("a", Reason::AccountAnalyzer);
    now.coverage.analyzer_arn = Some(arn("111111111111", "new"));
    let renamed = blind(&before, now);
    assert_eq!(renamed, Changes { rename: vec![(region(), Some(arn("111111111111", "new")))], ..Changes::default() });
}

#[test]
fn a_configuration_that_changed_behind_an_unknown_is_no_change_of_the_world() {
    // The scan in which the account could not be read had the new configuration already.
    let hidden = becomes(&account(), &open("b", Reason::NoAnalyzer), &seen("b", Reason::RoleNotAssumable));
    let hidden = Open { same_configuration: false, ..reopened(&hidden) };
    let a = seen("a", Reason::NoAnalyzer);
    let dropped = changes(&account(), std::slice::from_ref(&hidden), std::slice::from_ref(&a), &[], false);
    assert_eq!(dropped.close, [(Region::new("b"), Some(Cause::Configuration))]);
    assert_eq!(dropped.open[0].cause, Cause::Configuration, "a region that was added is not the world's either");
    let out = becomes(&account(), &hidden, &seen("b", Reason::Excluded));
    assert_eq!(out.cause, Cause::Configuration);
}

#[test]
fn what_was_left_out_still_is_while_nobody_can_read_whether_it_is() {
    let audited = [seen("a", Reason::NoAnalyzer)];
    let undecided = |account: &Account, before: Open| changes(account, &[before], &audited, &[], true);
    assert_eq!(undecided(&account(), open("a", Reason::Excluded)), Changes::default());
    let reconfigured = Account { same_configuration: false, ..account() };
    assert_eq!(undecided(&reconfigured, open("a", Reason::Excluded)).open[0].reason, Reason::NoAnalyzer);
    assert_eq!(undecided(&account(), open("a", Reason::AccountAnalyzer)).open[0].reason, Reason::NoAnalyzer);
}
