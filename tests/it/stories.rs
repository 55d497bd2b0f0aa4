//! Small organizations in which one thing is so, and what the results must say of it.

use std::collections::BTreeMap;
use std::time::Duration;

use trustwatch::config::{ExcludeRegions, RegionSelection, Selector, TimeSpan};
use trustwatch::model::ScanState;

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::weather::{Effect, Rule};
use crate::awssim::world::{Denial, Policy};
use crate::support::Story;

const REGION: &str = "eu-west-1";

/// A calm organization, and one of its plain members.
async fn calm() -> (Story, String) {
    let story = Story::begin(&Scenario::calm(4)).await;
    let member = story.sim.members().remove(0);
    (story, member)
}

/// The members that are neither management nor delegated administrator.
fn add(account: &str, name: &str, kind: &str) -> Change {
    Change::AddAnalyzer { account: account.into(), region: REGION.into(), name: name.into(), kind: kind.into() }
}

fn deny(account: &str, action: &str, by: Policy) -> Change {
    let denial = Denial { action: action.into(), regions: vec![], by };
    Change::Deny { account: account.into(), denial }
}

#[tokio::test]
async fn an_unused_access_analyzer_does_not_cover() {
    let (story, member) = calm().await;
    story.sim.change(&add(&member, "unused", "ACCOUNT_UNUSED_ACCESS"));
    story.complete_scan().await;
    assert_eq!(story.verdict(&member, REGION).await, "not_covered only_other_analyzer_types");
}

#[tokio::test]
async fn a_service_linked_analyzer_does_not_cover() {
    let (story, member) = calm().await;
    story.sim.change(&add(&member, "_AccessAnalyzerForSecurityHub", "ACCOUNT_UNUSED_ACCESS"));
    story.sim.world().analyzers_mut(&member, REGION)[0].managed_by = Some("securityhubv2.amazonaws.com".into());
    story.complete_scan().await;
    assert_eq!(story.verdict(&member, REGION).await, "not_covered only_other_analyzer_types");
    let rows = story.rows("SELECT name, managed_by FROM current_analyzers").await;
    assert_eq!(rows, [["_AccessAnalyzerForSecurityHub", "securityhubv2.amazonaws.com"]]);
}

#[tokio::test]
async fn a_disabled_analyzer_does_not_cover() {
    let (story, member) = calm().await;
    story.sim.change(&add(&member, "watch", "ACCOUNT"));
    let (account, region, name) = (member.clone(), REGION.to_owned(), "watch".to_owned());
    story.sim.change(&Change::DisableAnalyzer { account, region, name, reason: None });
    story.complete_scan().await;
    assert_eq!(story.verdict(&member, REGION).await, "not_covered analyzer_not_active");
}

#[tokio::test]
async fn the_organizations_analyzer_covers_every_member_in_its_region_and_nowhere_else() {
    let (story, member) = calm().await;
    let owner = story.sim.world().caller.clone();
    story.sim.change(&add(&owner, "org", "ORGANIZATION"));
    story.complete_scan().await;
    for account in [&member, &owner] {
        assert_eq!(story.verdict(account, REGION).await, "covered organization_analyzer");
        assert_eq!(story.verdict(account, "us-east-1").await, "not_covered no_analyzer");
    }
    let arn =
        story.rows(&format!("SELECT DISTINCT analyzer_arn FROM current_coverage WHERE region = '{REGION}'")).await;
    assert_eq!(arn, [[format!("arn:aws:access-analyzer:{REGION}:{owner}:analyzer/org")]]);
}

#[tokio::test]
async fn with_an_owner_unreadable_members_are_unknown_unless_their_own_analyzer_covers_them() {
    let (story, member) = calm().await;
    let management = story.sim.world().management().unwrap().to_owned();
    let other = story.sim.members().remove(1);
    story.sim.change(&add(&other, "watch", "ACCOUNT"));
    story.sim.change(&Change::BreakRole { account: management.clone() });
    story.complete_scan().await;
    assert_eq!(story.verdict(&member, REGION).await, "unknown organization_analyzers_unknown");
    assert_eq!(story.verdict(&other, REGION).await, "covered account_analyzer");
    assert_eq!(story.verdict(&management, REGION).await, "unknown role_not_assumable");
}

#[tokio::test]
async fn losing_sight_of_the_owner_changes_nothing_where_the_accounts_own_analyzer_covers() {
    let (story, member) = calm().await;
    let owner = story.sim.world().caller.clone();
    story.sim.change(&add(&owner, "org", "ORGANIZATION"));
    story.sim.change(&add(&member, "watch", "ACCOUNT"));
    story.complete_scan().await;
    let before = story.rows("SELECT count(*) FROM coverage").await;
    assert_eq!(story.verdict(&member, REGION).await, "covered account_and_organization_analyzers");

    let denial =
        Denial { action: "access-analyzer:ListAnalyzers".into(), regions: vec![REGION.into()], by: Policy::Iam };
    story.sim.change(&Change::Deny { account: owner.clone(), denial });
    story.complete_scan().await;
    assert_eq!(story.verdict(&member, REGION).await, "covered account_and_organization_analyzers");
    // The others in the region lost what covered them, and the owner itself cannot be read there: one row each.
    let changed = story.rows("SELECT count(*) FROM coverage").await;
    let others = story.sim.world().accounts.len() - 1;
    assert_eq!(changed[0][0].parse::<usize>().unwrap() - before[0][0].parse::<usize>().unwrap(), others);
}

#[tokio::test]
async fn every_account_has_its_outcome_and_its_reason() {
    let (story, _) = calm().await;
    let [a, b, c, d] = <[String; 4]>::try_from(story.sim.members()).unwrap();
    story.sim.change(&Change::SuspendAccount { account: a.clone() });
    story.sim.change(&Change::BreakRole { account: b.clone() });
    story.sim.change(&deny(&c, "access-analyzer:ListAnalyzers", Policy::Iam));
    story.sim.change(&deny(&d, "access-analyzer:ListAnalyzers", Policy::ScpWithoutAllow));
    let report = story.complete_scan().await;
    for (account, verdict, outcome, kind) in [
        (&a, "not_applicable account_not_active", "not_active", "null"),
        (&b, "unknown role_not_assumable", "unreachable", "role_not_assumable"),
        (&c, "unknown access_denied", "unreachable", "access_denied"),
        (&d, "unknown scp_denied", "unreachable", "scp_denied"),
    ] {
        assert_eq!(story.verdict(account, REGION).await, verdict);
        let visit = format!("SELECT outcome, error_kind FROM account_visits WHERE account_id = '{account}'");
        assert_eq!(story.rows(&visit).await, [[outcome, kind]]);
    }
    let scan = &report.scan;
    assert_eq!((scan.accounts, scan.accounts_audited, scan.accounts_unreachable), (Some(6), Some(2), Some(3)));
    assert_eq!(report.unreadable.len(), 3);
}

#[tokio::test]
async fn a_policy_that_is_no_scp_is_access_denied_and_the_message_names_its_kind() {
    for (policy, words) in [
        (Policy::Boundary, "permissions boundary"),
        (Policy::ResourceControl, "resource control policy"),
        (Policy::VpcEndpoint, "VPC endpoint policy"),
        (Policy::Session, "session policy"),
    ] {
        let (story, member) = calm().await;
        story.sim.change(&deny(&member, "access-analyzer:ListAnalyzers", policy));
        story.complete_scan().await;
        assert_eq!(story.verdict(&member, REGION).await, "unknown access_denied");
        let visit = format!("SELECT error_message FROM account_visits WHERE account_id = '{member}'");
        let message = story.rows(&visit).await.remove(0).remove(0);
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn sts_that_is_not_activated_says_so() {
    let (story, member) = calm().await;
    story.sim.weather(vec![Rule {
        service: Some("sts".into()),
        operation: Some("AssumeRole".into()),
        account: None,
        region: None,
        probability: 1.0,
        first: None,
        effect: Effect::StsDisabled,
    }]);
    assert_eq!(story.scan().await.state, ScanState::Failed);
    assert_eq!(story.verdict(&member, REGION).await, "unknown sts_disabled_in_region");
}

#[tokio::test]
async fn a_session_is_narrowed_named_and_recorded() {
    let scenario = Scenario { external_id: Some("an-external-id".into()), ..Scenario::calm(2) };
    let mut story = Story::begin(&scenario).await;
    story.organization.external_id = Some(trustwatch::config::Secret::new("an-external-id".into()));
    story.organization.source_identity = Some("audit-team".into());
    story.complete_scan().await;
    let assumed = story.sim.assumed();
    assert_eq!(assumed.len(), 3, "one session for each account but the caller's own");
    for session in assumed {
        assert_eq!(session["session_name"], "trustwatch");
        assert_eq!(session["source_identity"], "audit-team");
        assert_eq!(session["duration_seconds"], 3600);
        let policy: serde_json::Value = serde_json::from_str(session["policy"].as_str().unwrap()).unwrap();
        assert_eq!(
            policy["Statement"][0]["Action"],
            serde_json::json!([
                "access-analyzer:GetFindingsStatistics",
                "access-analyzer:ListAnalyzers",
                "account:ListRegions"
            ])
        );
    }
}

#[tokio::test]
async fn a_wrong_external_id_enters_nothing() {
    let scenario = Scenario { external_id: Some("an-external-id".into()), ..Scenario::calm(2) };
    let story = Story::begin(&scenario).await;
    let outcome = story.scan().await;
    assert_eq!(outcome.state, ScanState::Failed, "though our own account was audited");
    assert!(outcome.error.unwrap().starts_with("no account could be entered (3 tried), for example "));
    let unreachable = story.rows("SELECT count(*) FROM account_visits WHERE error_kind = 'role_not_assumable'").await;
    assert_eq!(unreachable, [["3"]]);
}

#[tokio::test]
async fn an_excluded_account_is_not_entered_and_has_its_rows() {
    let (mut story, member) = calm().await;
    story.organization.exclude = Selector { accounts: vec![member.parse().unwrap()], ..Selector::default() };
    let report = story.complete_scan().await;
    assert_eq!(story.verdict(&member, REGION).await, "not_applicable excluded");
    assert_eq!(report.scan.accounts_excluded, Some(1));
    assert!(story.sim.assumed().iter().all(|session| !session["role_arn"].as_str().unwrap().contains(&member)));
}

#[tokio::test]
async fn an_excluded_owner_is_read_all_the_same() {
    let (mut story, member) = calm().await;
    let owner = story.sim.world().caller.clone();
    story.sim.change(&add(&owner, "org", "ORGANIZATION"));
    story.organization.exclude = Selector { accounts: vec![owner.parse().unwrap()], ..Selector::default() };
    story.complete_scan().await;
    assert_eq!(story.verdict(&member, REGION).await, "covered organization_analyzer");
    assert_eq!(story.verdict(&owner, REGION).await, "not_applicable excluded");
}

#[tokio::test]
async fn accounts_are_excluded_by_tag() {
    let (mut story, member) = calm().await;
    story.sim.world().accounts.get_mut(&member).unwrap().tags.insert("audit".into(), "off".into());
    let tags = BTreeMap::from([("audit".to_owned(), "off".to_owned())]);
    story.organization.exclude = Selector { tags, ..Selector::default() };
    let report = story.complete_scan().await;
    assert_eq!(story.verdict(&member, REGION).await, "not_applicable excluded");
    assert_eq!(report.scan.accounts_excluded, Some(1));
}

#[tokio::test]
async fn an_excluded_region_is_a_decision_and_is_not_asked() {
    let (mut story, member) = calm().await;
    story.organization.exclude_regions =
        vec![ExcludeRegions { ou_paths: vec!["*".into()], regions: vec!["ap-*".into(), REGION.into()] }];
    story.complete_scan().await;
    assert_eq!(story.verdict(&member, REGION).await, "not_applicable excluded");
    assert_eq!(story.verdict(&member, "ap-south-1").await, "not_applicable excluded");
    assert_eq!(story.verdict(&member, "us-east-1").await, "not_covered no_analyzer");
}

#[tokio::test]
async fn a_list_of_regions_means_these_only() {
    let (mut story, member) = calm().await;
    let wanted = vec!["us-east-1".to_owned(), "af-south-1".to_owned()];
    story.organization.regions = RegionSelection::List(wanted);
    story.complete_scan().await;
    let regions = format!("SELECT region, reason FROM current_coverage WHERE account_id = '{member}' ORDER BY region");
    assert_eq!(story.rows(&regions).await, [["af-south-1", "region_not_opted_in"], ["us-east-1", "no_analyzer"]]);
}

#[tokio::test]
async fn a_region_is_read_to_its_last_page() {
    let scenario = Scenario { analyzer_page_size: 1, empty_pages: true, ..Scenario::calm(2) };
    let story = Story::begin(&scenario).await;
    let member = story.sim.members().remove(0);
    for (name, kind) in [("a", "ACCOUNT_UNUSED_ACCESS"), ("b", "ACCOUNT_INTERNAL_ACCESS"), ("c", "ACCOUNT")] {
        story.sim.change(&add(&member, name, kind));
    }
    story.complete_scan().await;
    assert_eq!(story.verdict(&member, REGION).await, "covered account_analyzer");
}

#[tokio::test]
async fn if_no_account_can_be_entered_the_scan_fails_and_says_what_to_check() {
    let (mut story, _) = calm().await;
    story.organization.member_role = "NoSuchRole".into();
    let owner = story.sim.world().caller.clone();
    story.sim.change(&deny(&owner, "access-analyzer:ListAnalyzers", Policy::Iam));
    let outcome = story.scan().await;
    assert_eq!(outcome.state, ScanState::Failed);
    let error = outcome.error.unwrap();
    assert!(error.starts_with("no account could be entered (5 tried), for example "), "{error}");
    assert!(error.ends_with("check `member_role`, its trust policy and the external id with `trustwatch doctor`"));
    let rows = story.rows("SELECT DISTINCT status FROM current_coverage WHERE status <> 'not_applicable'").await;
    assert_eq!(rows, [["unknown"]], "each account still has its rows");
}

#[tokio::test]
async fn an_empty_list_of_regions_is_not_believed() {
    let (story, member) = calm().await;
    story.sim.world().accounts.get_mut(&member).unwrap().regions.clear();
    story.complete_scan().await;
    let rows = format!("SELECT DISTINCT reason, count(*) FROM current_coverage WHERE account_id = '{member}'");
    assert_eq!(story.rows(&rows).await, [["credentials", "17"]], "the default regions were asked, and are unknown");
}

#[tokio::test]
async fn no_work_is_done_twice() {
    let mut story = Story::begin(&Scenario { seed: 3, ..Scenario::default() }).await;
    // A busy machine answers late; a call that is given up for that is rightly made again, and not what is counted here.
    story.limits.attempt_timeout = TimeSpan(Duration::from_mins(1));
    story.complete_scan().await;
    let counters = story.sim.counters();
    assert_eq!(counters.most_listed(), 1);
    let world = story.sim.world();
    let active = world.accounts.values().filter(|account| account.state == "ACTIVE").count() as u64;
    assert_eq!(counters.calls("sts:AssumeRole"), active - 1);
    assert_eq!(counters.calls("sts:GetCallerIdentity"), 1);
    assert_eq!(counters.calls("organizations:DescribeOrganization"), 1);
    assert_eq!(counters.calls("organizations:DescribeAccount"), 2);
}
