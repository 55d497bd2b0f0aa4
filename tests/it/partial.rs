//! A part of an organization, scanned again now: the history is written, and trends are left alone.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trustwatch::model::ScanState;
use trustwatch::scan::{Outcome, Request, Selection};

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::weather::{Effect, Rule};
use crate::invariants;
use crate::support::{Kept, Story, on_each_engine};

async fn scan(story: &Story, selection: Selection) -> Outcome {
    let request = Request { selection, ..Request::manual() };
    story.engine().scan(request, Arc::default(), CancellationToken::new()).await.unwrap()
}

fn only(account: &str) -> Selection {
    Selection { accounts: vec![account.parse().unwrap()], ous: Vec::new() }
}

async fn one_account_is_audited_again_and_the_others_stay_as_they_were(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(12)).await;
    let before = story.complete_scan().await.scan;
    let all = story.sim.members();
    let (changed, other, gone) = (&all[0], &all[1], &all[2]);
    for account in [changed, other] {
        let (account, region, name) = (account.clone(), "eu-west-1".to_owned(), "own".to_owned());
        story.sim.change(&Change::AddAnalyzer { account, region, name, kind: "ACCOUNT".into() });
    }
    story.sim.change(&Change::RemoveAccount { account: gone.clone() });
    story.sim.counters().reset();

    let outcome = scan(&story, only(changed)).await;
    assert_eq!((outcome.state, outcome.error), (ScanState::Completed, None));
    assert_eq!(story.sim.counters().calls("organizations:ListAccounts"), 0, "one account needs no list");
    // The owners of the organization's analyzers come along.
    let owners = story.sim.world().analyzer_owners().len() as u64;
    assert_eq!(story.sim.counters().calls("account:ListRegions"), owners + 1);
    assert_eq!(story.verdict(changed, "eu-west-1").await, "covered account_analyzer");
    assert_eq!(story.verdict(other, "eu-west-1").await, "not_covered no_analyzer", "nobody looked");
    assert_eq!(story.verdict(gone, "eu-west-1").await, "not_covered no_analyzer", "nobody closed it");
    let scopes = story.rows("SELECT scope, accounts FROM scan_summary ORDER BY scan_id").await;
    let (all, part) = (before.accounts.unwrap().to_string(), (owners + 1).to_string());
    assert_eq!(scopes, [["all", &all], ["partial", &part]]);
    for trend in ["coverage_by_region", "coverage_by_ou", "coverage_by_account"] {
        assert_eq!(story.rows(&format!("SELECT DISTINCT scan_id FROM {trend}")).await, [["1"]], "{trend}");
    }
    let transition =
        "SELECT scan_id, from_reason, to_reason, cause FROM coverage_transitions WHERE from_reason IS NOT NULL";
    assert_eq!(story.rows(transition).await, [["2", "no_analyzer", "account_analyzer", "world"]]);
    invariants::hold(story.store.as_ref(), "after a partial scan").await;

    // The next whole scan sees the rest, and closes who left.
    story.complete_scan().await;
    assert_eq!(story.verdict(other, "eu-west-1").await, "covered account_analyzer");
    assert_eq!(story.verdict(gone, "eu-west-1").await, "no row");
    let left =
        format!("SELECT DISTINCT cause FROM coverage_transitions WHERE account_id = '{gone}' AND to_status IS NULL");
    assert_eq!(story.rows(&left).await, [["membership"]]);
    invariants::hold(story.store.as_ref(), "after the next whole scan").await;
}

async fn nobody_stays_covered_by_an_organization_analyzer_that_was_found_gone(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(5)).await;
    let owner = story.sim.world().caller.clone();
    let all = story.sim.members();
    let (region, name) = (|| "eu-west-1".to_owned(), || "organization".to_owned());
    let kind = || "ORGANIZATION".to_owned();
    story.sim.change(&Change::AddAnalyzer { account: owner.clone(), region: region(), name: name(), kind: kind() });
    story.complete_scan().await;
    story.sim.change(&Change::DeleteAnalyzer { account: owner, region: region(), name: name() });
    let outcome = scan(&story, only(&all[0])).await;
    assert_eq!(outcome.error, None);
    assert_eq!(story.verdict(&all[0], "eu-west-1").await, "not_covered no_analyzer");
    assert_eq!(
        story.verdict(&all[1], "eu-west-1").await,
        "unknown organization_analyzers_unknown",
        "nobody looked again"
    );
    assert_eq!(story.rows("SELECT count(*) FROM current_coverage WHERE status = 'covered'").await, [["0"]]);
    let known = format!(
        "SELECT last_known_status FROM current_coverage WHERE account_id = '{}' AND region = 'eu-west-1'",
        all[1]
    );
    assert_eq!(story.rows(&known).await, [["covered"]]);
    invariants::hold(story.store.as_ref(), "after a partial scan").await;
    story.complete_scan().await;
    assert_eq!(story.verdict(&all[1], "eu-west-1").await, "not_covered no_analyzer");
    let changes = format!(
        "SELECT from_reason, to_reason, cause FROM coverage_changes
         WHERE account_id = '{}' AND region = 'eu-west-1' AND from_status IS NOT NULL",
        all[1]
    );
    assert_eq!(story.rows(&changes).await, [["organization_analyzer", "no_analyzer", "world"]]);
    invariants::hold(story.store.as_ref(), "after the next whole scan").await;
}

async fn everything_below_an_ou_is_audited_and_nothing_beside_it(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(12)).await;
    story.complete_scan().await;
    let account = story.sim.members().remove(0);
    let ou = story.sim.world().accounts[&account].parent.clone();
    let outcome = scan(&story, Selection { accounts: Vec::new(), ous: vec![ou.clone()] }).await;
    assert_eq!(outcome.error, None);
    let visited: Vec<String> = story
        .rows("SELECT account_id FROM account_visits WHERE scan_id = 2 ORDER BY account_id")
        .await
        .into_iter()
        .map(|mut row| row.remove(0))
        .collect();
    let world = story.sim.world();
    let expected: Vec<String> = world
        .accounts
        .iter()
        .filter(|(id, account)| {
            world.ou_path(&account.parent).split('/').any(|step| step == ou) || world.analyzer_owners().contains(*id)
        })
        .map(|(id, _)| id.clone())
        .collect();
    assert!(visited.len() < world.accounts.len());
    assert_eq!(visited, expected);
}

async fn an_owner_that_cannot_be_described_is_missed_or_comes_with_the_list(kept: Kept) {
    let mut story = Story::begin_in(kept, &Scenario::calm(12)).await;
    story.limits.attempts = 1;
    let owner = story.sim.world_caller();
    let (region, name, kind) = ("eu-west-1".to_owned(), "organization".to_owned(), "ORGANIZATION".to_owned());
    story.sim.change(&Change::AddAnalyzer { account: owner.clone(), region, name, kind });
    story.complete_scan().await;
    let member = story.sim.members().remove(0);
    let ou = story.sim.world().accounts[&member].parent.clone();
    let fails_once = || {
        vec![Rule {
            service: Some("organizations".into()),
            operation: Some("DescribeAccount".into()),
            account: None,
            region: None,
            probability: 1.0,
            first: Some(1),
            effect: Effect::Error500,
        }]
    };
    story.sim.weather(fails_once());
    let alone = scan(&story, only(&member)).await;
    assert_eq!(alone.state, ScanState::Failed);
    assert!(alone.error.unwrap().contains("DescribeAccount"), "nobody would know why the rest is unknown");
    assert_eq!(story.verdict(&member, "eu-west-1").await, "covered organization_analyzer");
    story.sim.weather(fails_once());
    let below = scan(&story, Selection { accounts: Vec::new(), ous: vec![ou] }).await;
    assert_eq!((below.state, below.error), (ScanState::Completed, None));
    let visit = format!("SELECT outcome FROM account_visits WHERE scan_id = 3 AND account_id = '{owner}'");
    assert_eq!(story.rows(&visit).await, [["audited"]]);
    assert_eq!(story.verdict(&member, "eu-west-1").await, "covered organization_analyzer");
}

async fn what_is_not_there_is_refused_and_nothing_is_closed(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(3)).await;
    story.complete_scan().await;
    let organization = story.rows("SELECT DISTINCT organization_id FROM scan_summary").await.remove(0).remove(0);
    let stranger = scan(&story, only("123456789012")).await;
    assert_eq!(stranger.state, ScanState::Failed);
    assert_eq!(stranger.error.unwrap(), format!("account 123456789012 is not in organization {organization}"));
    let nowhere = scan(&story, Selection { accounts: Vec::new(), ous: vec!["ou-none-12345678".into()] }).await;
    assert_eq!(nowhere.error.unwrap(), "no account is below ou-none-12345678; expected the id of an OU or a root");
    assert_eq!(story.rows("SELECT count(*) FROM coverage_transitions WHERE to_status IS NULL").await, [["0"]]);
    invariants::hold(story.store.as_ref(), "after what was refused").await;
}

async fn a_changed_requirement_is_not_a_change_of_the_world(kept: Kept) {
    let mut story = Story::begin_in(kept, &Scenario::calm(4)).await;
    let owner = story.sim.world().caller.clone();
    let member = story.sim.members().remove(0);
    let add = |account: &str, name: &str, kind: &str| Change::AddAnalyzer {
        account: account.into(),
        region: "eu-west-1".into(),
        name: name.into(),
        kind: kind.into(),
    };
    story.sim.change(&add(&owner, "organization", "ORGANIZATION"));
    story.complete_scan().await;
    story.organization.requirement = trustwatch::model::Requirement::Both;
    // Another member gets an analyzer of its own at the same time: that is the world's doing.
    story.sim.change(&add(&member, "own", "ACCOUNT"));
    story.complete_scan().await;
    let causes = "SELECT to_reason, cause, count(*) FROM coverage_transitions
                  WHERE scan_id = 2 GROUP BY to_reason, cause ORDER BY to_reason, cause";
    let members = story.sim.world().accounts.len() - 1;
    assert_eq!(
        story.rows(causes).await,
        [
            vec!["account_and_organization_analyzers".to_owned(), "world".into(), "1".into()],
            vec!["required_zone_of_trust_missing".to_owned(), "configuration".into(), members.to_string()],
        ]
    );
    let requirements = story.rows("SELECT requirement, configuration_hash FROM scan_summary ORDER BY scan_id").await;
    assert_eq!((requirements[0][0].as_str(), requirements[1][0].as_str()), ("either", "both"));
    assert_ne!(requirements[0][1], requirements[1][1]);
    invariants::hold(story.store.as_ref(), "after a changed requirement").await;
}

on_each_engine!(
    an_owner_that_cannot_be_described_is_missed_or_comes_with_the_list,
    one_account_is_audited_again_and_the_others_stay_as_they_were,
    nobody_stays_covered_by_an_organization_analyzer_that_was_found_gone,
    everything_below_an_ou_is_audited_and_nothing_beside_it,
    what_is_not_there_is_refused_and_nothing_is_closed,
    a_changed_requirement_is_not_a_change_of_the_world,
);
