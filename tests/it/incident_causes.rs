//! What people are told of: the causes, when they are told, and when they are not.

use trustwatch::model::Requirement;

use crate::alerts::{
    REGION, add, mend, tell, titles, told, trouble, watched_by_its_administrator, webhook, with_an_analyzer_of_its_own,
};
use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::world::{Denial, Policy};
use crate::receivers::Receiver;
use crate::support::{Kept, Story, on_each_engine};

on_each_engine!(
    withdrawn_trusted_access_and_lost_analyzers_are_told_apart,
    what_cannot_be_seen_is_told_only_when_it_lasts,
    too_small_a_measured_share_is_told_once_and_closed_once,
    a_change_of_the_configuration_is_told_to_nobody,
    accounts_that_join_uncovered_are_told_of_and_those_of_the_first_scan_are_not,
    the_cause_is_the_organizations_analyzer_though_accounts_have_their_own,
    a_scan_that_fails_is_told_and_so_is_the_next_that_does_not,
    a_cause_of_long_ago_is_not_named_today,
    a_gap_is_of_one_incident_however_late_its_scans_are_looked_at,
);

async fn withdrawn_trusted_access_and_lost_analyzers_are_told_apart(kept: Kept) {
    let (story, administrator) = watched_by_its_administrator(kept, 4).await;
    let member = story.sim.members().remove(1);
    story.sim.change(&Change::EnableRegion { account: member.clone(), region: "eu-south-1".into() });
    story.sim.change(&add(&member, "eu-south-1", "ACCOUNT"));
    let receiver = Receiver::start().await;
    let elsewhere = Receiver::start().await;
    let critical = webhook("critical", &elsewhere, "min_severity = \"critical\"\nregions = [\"us-*\"]");
    let config = told(vec![webhook("soc", &receiver, ""), critical]);
    story.complete_scan().await;

    // An account's own analyzer, and one of the organization's, in one scan: two causes.
    let (account, region, name) = (member.clone(), "eu-south-1".to_owned(), "watch".to_owned());
    story.sim.change(&Change::DeleteAnalyzer { account, region, name: name.clone() });
    let (account, region) = (administrator.clone(), REGION.to_owned());
    story.sim.change(&Change::DeleteAnalyzer { account, region, name });
    story.complete_scan().await;
    tell(&story, &config).await;
    let expected = [
        format!(
            "main: analyzers of the organization in account {administrator} were lost: 6 account × regions in 6 accounts no longer covered"
        ),
        "main: coverage was lost: 1 account × region in 1 account no longer covered".to_owned(),
    ];
    assert_eq!(titles(&receiver.received()), expected);
    assert!(elsewhere.received().is_empty(), "it is for other regions");

    story.sim.change(&Change::DisableTrustedAccess {});
    story.complete_scan().await;
    tell(&story, &config).await;
    let lost = "trusted access for IAM Access Analyzer was withdrawn";
    let told = titles(&receiver.received());
    assert_eq!(told[2..], [format!("main: {lost}: 96 account × regions in 6 accounts no longer covered")]);
    assert_eq!(
        titles(&elsewhere.received()),
        [format!("main: {lost}: 24 account × regions in 6 accounts no longer covered")]
    );
    // What one channel was told is closed for that one alone.
    mend(&story);
    story.complete_scan().await;
    tell(&story, &config).await;
    assert_eq!(titles(&elsewhere.received()).len(), 2);
    let received = receiver.received();
    assert_eq!(received.len(), 4);
    assert_eq!(received[3].json()["data"]["incidents"].as_array().unwrap().len(), 1, "the other gaps are still open");
}

async fn what_cannot_be_seen_is_told_only_when_it_lasts(kept: Kept) {
    let (story, _) = watched_by_its_administrator(kept, 20).await;
    let [locked, shut] = [1, 2].map(|at| story.sim.members().remove(at));
    let receiver = Receiver::start().await;
    let mut config = told(vec![webhook("soc", &receiver, "")]);
    config.alerting.measured_below = 0.0;
    story.complete_scan().await;
    // The organization's analyzer covers them still: what cannot be seen is what nothing else answers for.
    for scan in 1..=5 {
        if scan == 1 {
            for account in [&locked, &shut] {
                story.sim.world().accounts.get_mut(account).unwrap().state = "ACTIVE".into();
                deny(&story, account);
            }
            deny_owners(&story);
        }
        story.complete_scan().await;
        tell(&story, &config).await;
        let told = titles(&receiver.received());
        match scan {
            1 | 2 => assert_eq!(told, Vec::<String>::new(), "scan {scan}"),
            _ => assert!(!told.is_empty() && told.len() <= 2, "scan {scan}: {told:?}"),
        }
        assert!(told.iter().all(|title| title.starts_with("main: accounts cannot be read (")), "{told:?}");
    }
    let before = receiver.received().len();
    let accounts = story.sim.world().accounts.keys().cloned().collect::<Vec<_>>();
    for account in accounts {
        story.sim.change(&Change::AllowAll { account });
    }
    story.complete_scan().await;
    tell(&story, &config).await;
    let told = titles(&receiver.received());
    assert_eq!(told.len(), before + 1);
    assert!(told[before].contains("recovered"), "{told:?}");
}

async fn too_small_a_measured_share_is_told_once_and_closed_once(kept: Kept) {
    let (story, _) = watched_by_its_administrator(kept, 4).await;
    let receiver = Receiver::start().await;
    let config = told(vec![webhook("soc", &receiver, "")]);
    story.complete_scan().await;
    deny_owners(&story);
    for _ in 0..2 {
        story.complete_scan().await;
        tell(&story, &config).await;
    }
    let told = titles(&receiver.received());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("main: only "), "{told:?}");
    let owners: Vec<String> = story.sim.world().analyzer_owners().into_iter().collect();
    for account in owners {
        story.sim.change(&Change::AllowAll { account });
    }
    story.complete_scan().await;
    tell(&story, &config).await;
    let told = titles(&receiver.received());
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].starts_with("main: recovered: only "), "{told:?}");
}

async fn a_change_of_the_configuration_is_told_to_nobody(kept: Kept) {
    let (mut story, _) = watched_by_its_administrator(kept, 4).await;
    let receiver = Receiver::start().await;
    let config = told(vec![webhook("soc", &receiver, "")]);
    story.complete_scan().await;
    story.organization.requirement = Requirement::Account;
    story.complete_scan().await;
    tell(&story, &config).await;
    assert_eq!(story.verdict(&story.sim.members()[1], REGION).await, "not_covered required_zone_of_trust_missing");
    assert!(receiver.received().is_empty());
    assert_eq!(story.rows("SELECT count(*) FROM alert_incidents").await, [["0"]]);
}

async fn accounts_that_join_uncovered_are_told_of_and_those_of_the_first_scan_are_not(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(3)).await;
    let receiver = Receiver::start().await;
    let config = told(vec![webhook("soc", &receiver, "")]);
    story.complete_scan().await;
    tell(&story, &config).await;
    assert!(receiver.received().is_empty(), "a first scan is no news");
    story.sim.change(&Change::AddAccount { account: "999999999999".into(), name: "new".into() });
    story.complete_scan().await;
    tell(&story, &config).await;
    assert_eq!(
        titles(&receiver.received()),
        ["main: accounts joined without coverage: 17 account × regions in 1 account not covered"]
    );
    // Whoever leaves has no gap any more.
    story.sim.change(&Change::RemoveAccount { account: "999999999999".into() });
    story.complete_scan().await;
    tell(&story, &config).await;
    assert!(titles(&receiver.received())[1].contains("recovered"));
}

async fn the_cause_is_the_organizations_analyzer_though_accounts_have_their_own(kept: Kept) {
    let (mut story, administrator) = watched_by_its_administrator(kept, 4).await;
    let accounts: Vec<String> = story.sim.world().accounts.keys().cloned().collect();
    for account in accounts {
        let (region, name, kind) = (REGION.to_owned(), "own".to_owned(), "ACCOUNT".to_owned());
        story.sim.change(&Change::AddAnalyzer { account, region, name, kind });
    }
    story.organization.requirement = Requirement::Both;
    let receiver = Receiver::start().await;
    let config = told(vec![webhook("soc", &receiver, "min_severity = \"critical\"")]);
    story.complete_scan().await;
    story.sim.change(&Change::DeregisterDelegatedAdministrator { account: administrator.clone() });
    story.complete_scan().await;
    tell(&story, &config).await;
    let cause = format!("the delegated administrator {administrator} was deregistered");
    let expected = format!("main: {cause}: 6 account × regions in 6 accounts no longer covered");
    assert_eq!(titles(&receiver.received()), [expected]);
}

async fn a_scan_that_fails_is_told_and_so_is_the_next_that_does_not(kept: Kept) {
    let (story, _) = watched_by_its_administrator(kept, 4).await;
    let receiver = Receiver::start().await;
    let config = told(vec![webhook("soc", &receiver, "regions = [\"eu-*\"]")]);
    story.complete_scan().await;
    story.sim.world().switches.hide_accounts = true;
    for _ in 0..2 {
        assert!(story.scan().await.error.is_some());
        tell(&story, &config).await;
    }
    let told = titles(&receiver.received());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("main: the scan failed: "), "{told:?}");
    story.sim.world().switches.hide_accounts = false;
    story.complete_scan().await;
    tell(&story, &config).await;
    let told = titles(&receiver.received());
    assert!(told.len() == 2 && told[1].starts_with("main: recovered: the scan failed: "), "{told:?}");
}

async fn a_cause_of_long_ago_is_not_named_today(kept: Kept) {
    let (story, administrator) = watched_by_its_administrator(kept, 4).await;
    let member = story.sim.members().remove(1);
    let receiver = Receiver::start().await;
    let config = told(vec![webhook("soc", &receiver, "")]);
    story.complete_scan().await;
    story.sim.change(&Change::DeregisterDelegatedAdministrator { account: administrator.clone() });
    story.complete_scan().await;
    story.sim.world().accounts.get_mut(&member).unwrap().state = "SUSPENDED".into();
    story.complete_scan().await;
    tell(&story, &config).await;
    let before = receiver.received().len();
    story.sim.world().accounts.get_mut(&member).unwrap().state = "ACTIVE".into();
    story.complete_scan().await;
    tell(&story, &config).await;
    let told = titles(&receiver.received());
    assert_eq!(told[before..], ["main: coverage was lost: 17 account × regions in 1 account no longer covered"]);
}

/// Who may own the organization's analyzers does not let us look, so that nothing is known of anybody.
async fn a_gap_is_of_one_incident_however_late_its_scans_are_looked_at(kept: Kept) {
    let story = with_an_analyzer_of_its_own(kept).await;
    let receiver = Receiver::start().await;
    let config = told(vec![webhook("soc", &receiver, "")]);
    // Lost, covered again, and lost again before anybody looks.
    trouble(&story, 0..3).await;
    tell(&story, &config).await;
    assert_eq!(receiver.received().len(), 1);
    trouble(&story, 3..4).await;
    tell(&story, &config).await;
    let kinds: Vec<_> = receiver.received().iter().map(|one| one.json()["type"].clone()).collect();
    assert_eq!(kinds, ["trustwatch.opened", "trustwatch.recovered"]);
    assert_eq!(story.rows("SELECT count(*), count(closed_at) FROM alert_incidents").await, [["1", "1"]]);
}

fn deny_owners(story: &Story) {
    let owners: Vec<String> = story.sim.world().analyzer_owners().into_iter().collect();
    for owner in owners {
        deny(story, &owner);
    }
}

fn deny(story: &Story, account: &str) {
    let denial = Denial { action: "access-analyzer:ListAnalyzers".into(), regions: vec![], by: Policy::Iam };
    story.sim.change(&Change::Deny { account: account.into(), denial });
}
