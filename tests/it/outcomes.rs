//! Every way in which AWS can refuse, break or fall silent, and the one word that it becomes.

use std::collections::BTreeSet;

use trustwatch::config::{RegionSelection, TimeSpan};
use trustwatch::model::ScanState;

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::weather::{Effect, Rule};
use crate::awssim::world::{Denial, Policy};
use crate::support::Story;

const REGION: &str = "eu-west-1";

/// A calm organization, and a member that is neither management nor delegated administrator.
async fn calm() -> (Story, String) {
    let story = Story::begin(&Scenario::calm(3)).await;
    let member = story.sim.members().remove(0);
    (story, member)
}

fn of(operation: &str, account: &str, effect: Effect) -> Rule {
    let (service, operation) = operation.split_once(':').unwrap();
    Rule {
        service: Some(service.into()),
        operation: Some(operation.into()),
        account: Some(account.into()),
        region: None,
        probability: 1.0,
        first: None,
        effect,
    }
}

async fn visit(story: &Story, account: &str) -> [String; 3] {
    let sql = format!("SELECT outcome, error_kind, error_message FROM account_visits WHERE account_id = '{account}'");
    <[String; 3]>::try_from(story.rows(&sql).await.remove(0)).unwrap()
}

#[tokio::test]
async fn what_a_region_answers_becomes_one_word() {
    for (effect, reason) in [
        (Effect::Throttle, "throttled"),
        (Effect::Error500, "service_error"),
        (Effect::Error503, "service_error"),
        (Effect::Reset, "network"),
        (Effect::Hang, "timeout"),
        (Effect::Truncate, "network"),
        (Effect::CutShort, "malformed_response"),
        (Effect::Malformed, "malformed_response"),
        (Effect::EmptyObject, "malformed_response"),
        (Effect::BadCredentials, "credentials"),
        (Effect::ExpiredToken, "credentials"),
        (Effect::SubscriptionRequired, "service_error"),
    ] {
        let (mut story, member) = calm().await;
        story.limits.attempts = 2;
        let rule = of("access-analyzer:ListAnalyzers", &member, effect);
        story.sim.weather(vec![Rule { region: Some(REGION.into()), ..rule }]);
        story.complete_scan().await;
        assert_eq!(story.verdict(&member, REGION).await, format!("unknown {reason}"), "{effect:?}");
        assert_eq!(story.verdict(&member, "us-east-1").await, "not_covered no_analyzer", "{effect:?}");
        let [outcome, kind, _] = visit(&story, &member).await;
        assert_eq!((outcome.as_str(), kind.as_str()), ("audited", reason), "{effect:?}");
    }
}

#[tokio::test]
async fn what_sts_answers_becomes_one_word_for_the_whole_account() {
    for (effect, reason) in [
        (Effect::Throttle, "throttled"),
        (Effect::Error503, "service_error"),
        (Effect::StsDisabled, "sts_disabled_in_region"),
        (Effect::BadCredentials, "credentials"),
        (Effect::PackedPolicyTooLarge, "service_error"),
    ] {
        let (mut story, _) = calm().await;
        story.limits.attempts = 2;
        let caller = story.sim.world_caller();
        story.sim.weather(vec![of("sts:AssumeRole", &caller, effect)]);
        assert_eq!(story.scan().await.state, ScanState::Failed, "no account could be entered");
        let kinds = story.rows("SELECT DISTINCT reason FROM current_coverage WHERE status = 'unknown'").await;
        let kinds: BTreeSet<String> = kinds.into_iter().flatten().collect();
        let expected = BTreeSet::from([reason.to_owned(), "organization_analyzers_unknown".to_owned()]);
        assert_eq!(kinds, expected, "{effect:?}");
    }
}

#[tokio::test]
async fn credentials_that_one_region_refuses_are_told_apart_from_those_that_all_refuse() {
    for (region, outcome, words) in [
        (Some(REGION.to_owned()), "audited", "in 1 of the 17 regions that were asked"),
        (None, "unreachable", "in every region that was asked"),
    ] {
        let (story, member) = calm().await;
        let rule = of("access-analyzer:ListAnalyzers", &member, Effect::BadCredentials);
        story.sim.weather(vec![Rule { region, ..rule }]);
        story.complete_scan().await;
        let [found, kind, message] = visit(&story, &member).await;
        assert_eq!((found.as_str(), kind.as_str()), (outcome, "credentials"));
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn the_opt_in_status_is_believed_over_the_code_of_an_error() {
    for (status, effect, verdict) in [
        ("DISABLED", None, "not_applicable region_not_opted_in"),
        ("ENABLED", Some(Effect::BadCredentials), "unknown credentials"),
        ("ENABLING", Some(Effect::BadCredentials), "not_applicable region_not_opted_in"),
        ("DISABLING", Some(Effect::BadCredentials), "not_applicable region_not_opted_in"),
        ("DISABLING", None, "not_covered no_analyzer"),
    ] {
        let (story, member) = calm().await;
        let regions = &mut story.sim.world().accounts.get_mut(&member).unwrap().regions.clone();
        regions.insert("af-south-1".into(), status.into());
        story.sim.world().accounts.get_mut(&member).unwrap().regions.clone_from(regions);
        let rule = |effect| of("access-analyzer:ListAnalyzers", &member, effect);
        story.sim.weather(
            effect.map(|effect| Rule { region: Some("af-south-1".into()), ..rule(effect) }).into_iter().collect(),
        );
        story.complete_scan().await;
        assert_eq!(story.verdict(&member, "af-south-1").await, verdict, "{status}");
    }
}

#[tokio::test]
async fn a_region_that_an_account_without_a_list_was_not_known_to_have_is_refused_credentials() {
    let (story, member) = calm().await;
    story.sim.change(&Change::DisableRegion { account: member.clone(), region: REGION.into() });
    let denial = Denial { action: "account:ListRegions".into(), regions: vec![], by: Policy::Iam };
    story.sim.change(&Change::Deny { account: member.clone(), denial });
    story.complete_scan().await;
    assert_eq!(story.verdict(&member, REGION).await, "unknown credentials");
    assert_eq!(story.verdict(&member, "us-east-1").await, "not_covered no_analyzer");
}

#[tokio::test]
async fn an_account_that_does_not_list_its_regions_says_so_though_all_that_were_asked_answered() {
    let (story, member) = calm().await;
    let denial = Denial { action: "account:ListRegions".into(), regions: vec![], by: Policy::Iam };
    story.sim.change(&Change::Deny { account: member.clone(), denial });
    story.complete_scan().await;
    let visit = format!("SELECT outcome, error_kind, error_message FROM account_visits WHERE account_id = '{member}'");
    let visit = story.rows(&visit).await.remove(0);
    assert_eq!(visit[..2], ["audited", "access_denied"]);
    let expected = "its regions cannot be listed, so that it may have others than were asked: account:ListRegions: ";
    assert!(visit[2].starts_with(expected), "{visit:?}");
}

#[tokio::test]
async fn a_denial_by_an_scp_is_told_apart_from_all_others_and_our_own_is_owned() {
    for (policy, reason, words) in [
        (Policy::Scp, "scp_denied", "explicit deny in a service control policy"),
        (Policy::ScpWithoutAllow, "scp_denied", "no service control policy allows"),
        (Policy::Iam, "access_denied", "no identity-based policy allows"),
        (Policy::Boundary, "access_denied", "permissions boundary"),
        (Policy::ResourceControl, "access_denied", "resource control policy"),
        (Policy::VpcEndpoint, "access_denied", "VPC endpoint policy"),
        (Policy::Session, "access_denied", "`session_policy = false`"),
    ] {
        let (story, member) = calm().await;
        let denial =
            Denial { action: "access-analyzer:ListAnalyzers".into(), regions: vec![REGION.into()], by: policy };
        story.sim.change(&Change::Deny { account: member.clone(), denial });
        story.complete_scan().await;
        assert_eq!(story.verdict(&member, REGION).await, format!("unknown {reason}"));
        let [_, kind, message] = visit(&story, &member).await;
        assert_eq!(kind, reason);
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn an_account_in_any_state_but_active_is_not_entered() {
    for state in ["SUSPENDED", "PENDING_CLOSURE", "CLOSED", "PENDING_ACTIVATION"] {
        let (story, member) = calm().await;
        story.sim.change(&Change::SetAccountState { account: member.clone(), state: state.into() });
        story.complete_scan().await;
        assert_eq!(story.verdict(&member, REGION).await, "not_applicable account_not_active", "{state}");
        let entered = story.sim.assumed().iter().any(|one| one["role_arn"].as_str().unwrap().contains(&member));
        assert!(!entered, "{state}");
    }
}

#[tokio::test]
async fn a_region_that_is_named_twice_is_one_for_accounts_that_are_not_entered_too() {
    let mut story = Story::begin(&Scenario::calm(2)).await;
    story.organization.regions = RegionSelection::List(vec!["eu-west-1".into(), "eu-west-1".into()]);
    let [suspended, locked] = [0, 1].map(|at| story.sim.members().remove(at));
    story.sim.change(&Change::SuspendAccount { account: suspended });
    story.sim.change(&Change::BreakRole { account: locked });
    let report = story.complete_scan().await;
    assert_eq!(report.scan.account_regions, Some(4));
}

#[tokio::test]
async fn a_session_that_ends_in_the_middle_of_a_visit_is_renewed_once_for_all_its_regions() {
    let (story, member) = calm().await;
    let rule = of("access-analyzer:ListAnalyzers", &member, Effect::ExpiredToken);
    story.sim.weather(vec![Rule { first: Some(1), ..rule }]);
    story.complete_scan().await;
    let rows = format!("SELECT DISTINCT reason FROM current_coverage WHERE account_id = '{member}' ORDER BY 1");
    assert_eq!(story.rows(&rows).await, [["no_analyzer"], ["region_not_opted_in"]]);
    let sessions = story.sim.assumed().iter().filter(|one| one["role_arn"].as_str().unwrap().contains(&member)).count();
    assert_eq!(sessions, 2, "one to begin with, and one more for seventeen regions");
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_corrected_and_the_call_made_once_more() {
    for ahead in [-1800, 1800] {
        let (story, member) = calm().await;
        story.sim.change(&Change::StepClock { ahead });
        let report = story.complete_scan().await;
        assert_eq!(report.scan.unknown, Some(0), "{ahead} s");
        assert_eq!(story.verdict(&member, REGION).await, "not_covered no_analyzer");
    }
}

/// Two regions of another partition, in which everything has another name.
async fn the_truth_is_found_in(partition: &str, regions: [&str; 2]) {
    for seed in 1..=3 {
        let scenario = Scenario {
            seed,
            partition: partition.into(),
            regions: regions.map(str::to_owned).to_vec(),
            opt_in_regions: Vec::new(),
            ..Scenario::default()
        };
        let story = Story::begin(&scenario).await;
        story.complete_scan().await;
        let coverage = story.coverage().await;
        let truth = story.sim.truth("either");
        assert_eq!(coverage.len(), truth.len(), "seed {seed}");
        for row in truth {
            let found = &coverage[&(row.account_id.clone(), row.region.clone())];
            assert_eq!(
                (found.0.as_str(), found.1.as_str()),
                (row.seen_status, row.seen_reason),
                "seed {seed}: {row:?}"
            );
        }
        let prefix = format!("arn:{partition}:iam::");
        assert!(story.sim.assumed().iter().all(|one| one["role_arn"].as_str().unwrap().starts_with(&prefix)));
    }
}

#[tokio::test]
async fn china_is_a_partition_of_its_own() {
    the_truth_is_found_in("aws-cn", ["cn-north-1", "cn-northwest-1"]).await;
}

#[tokio::test]
async fn govcloud_is_a_partition_of_its_own() {
    the_truth_is_found_in("aws-us-gov", ["us-gov-east-1", "us-gov-west-1"]).await;
}

#[tokio::test]
async fn a_region_without_access_analyzer_is_not_asked() {
    let scenario = Scenario {
        partition: "aws-iso".into(),
        regions: vec!["us-iso-east-1".into(), "us-iso-west-1".into()],
        opt_in_regions: Vec::new(),
        ..Scenario::calm(3)
    };
    let story = Story::begin(&scenario).await;
    story.complete_scan().await;
    let rows = story.rows("SELECT status, reason, count(*) FROM current_coverage GROUP BY status, reason").await;
    assert_eq!(rows, [["not_applicable", "region_not_supported", "10"]]);
    assert_eq!(story.sim.counters().calls("access-analyzer:ListAnalyzers"), 0);
}

#[tokio::test]
async fn what_a_scan_cost_is_in_the_database() {
    let (mut story, _) = calm().await;
    // A busy machine answers late; a call that is given up for that is rightly made again, and not what is counted here.
    story.limits.attempt_timeout = TimeSpan::seconds(60);
    story.complete_scan().await;
    let calls = story
        .rows("SELECT operation, calls, retries, throttled, errors, bytes > 500 * calls, seconds > 0 FROM scan_calls ORDER BY 1")
        .await;
    assert_eq!(
        calls,
        [
            ["AssumeRole", "4", "0", "0", "0", "1", "1"],
            ["DescribeAccount", "2", "0", "0", "0", "1", "1"],
            ["DescribeOrganization", "1", "0", "0", "0", "1", "1"],
            ["GetCallerIdentity", "1", "0", "0", "0", "1", "1"],
            ["ListAccounts", "1", "0", "0", "0", "1", "1"],
            ["ListAnalyzers", "85", "0", "0", "0", "1", "1"],
            ["ListDelegatedAdministrators", "1", "0", "0", "0", "1", "1"],
            ["ListRegions", "5", "0", "0", "0", "1", "1"],
        ]
    );
    let stages =
        "SELECT count(*) FROM scan_summary WHERE discover_seconds > 0 AND assume_seconds > 0 AND audit_seconds > 0
                  AND evaluate_seconds > 0 AND store_seconds > 0 AND bound_by <> ''";
    assert_eq!(story.rows(stages).await, [["1"]]);
}

#[tokio::test]
async fn a_scan_that_waits_for_a_rate_says_which() {
    let (mut story, _) = calm().await;
    let slow = trustwatch::config::Rate { per_second: 0.5, burst: 1 };
    story.limits.rates.insert("sts:AssumeRole".into(), slow);
    let outcome = story.scan().await;
    assert_eq!(outcome.cost.bound_by, "the rate of AssumeRole");
    let assumed = outcome.cost.calls.iter().find(|count| count.operation == "AssumeRole").unwrap();
    assert!(assumed.rate_wait_seconds >= 5.9, "{assumed:?}: four calls, one every two seconds");
    assert_eq!(assumed.throttled, 0);
}

#[tokio::test]
async fn throttling_slows_a_scan_down_and_leaves_nothing_unknown() {
    let (mut story, _) = calm().await;
    let caller = story.sim.world_caller();
    let rate = Effect::Rate { per_second: 20.0, burst: 1.0 };
    story.sim.weather(vec![of("sts:AssumeRole", &caller, rate)]);
    story.limits.attempts = 6;
    let report = story.complete_scan().await;
    assert_eq!(report.scan.unknown, Some(0));
    let throttled = story.rows("SELECT throttled > 0 FROM scan_calls WHERE operation = 'AssumeRole'").await;
    assert_eq!(throttled, [["1"]]);
}
