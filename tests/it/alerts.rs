//! People are told: causes and not rows, once, in order, whatever dies meanwhile.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, Mac};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use trustwatch::alerts::Alerts;
use trustwatch::clock::SystemClock;
use trustwatch::config::{Alert, Config, TimeSpan};
use trustwatch::model::Requirement;
use trustwatch::store::{self, Access, Store};

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::world::{Denial, Policy};
use crate::receivers::{Received, Receiver};
use crate::support::{Kept, Story, by_hand, on_each_engine};

const REGION: &str = "eu-west-1";
const SECRET: &str = "a key that both sides know";

on_each_engine!(
    a_lost_administrator_is_one_message_and_so_is_its_recovery,
    withdrawn_trusted_access_and_lost_analyzers_are_told_apart,
    what_cannot_be_seen_is_told_only_when_it_lasts,
    too_small_a_measured_share_is_told_once_and_closed_once,
    a_change_of_the_configuration_is_told_to_nobody,
    accounts_that_join_uncovered_are_told_of_and_those_of_the_first_scan_are_not,
    a_receiver_that_is_down_loses_nothing_and_is_told_in_order,
    what_nobody_takes_is_given_up_and_others_follow,
    a_digest_says_how_it_stands_once,
);

/// A channel to a receiver, with more keys if need be.
pub fn webhook(name: &str, receiver: &Receiver, more: &str) -> Alert {
    let text = format!(
        "name = \"{name}\"\nchannel = \"webhook\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\nallow_private_addresses = true\n{more}",
        receiver.url
    );
    toml_edit::de::from_str(&text).unwrap()
}

async fn alerts_as(worker: &str, store: &Arc<dyn Store>, config: &Config) -> Alerts {
    // As the binary does first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Alerts::open(config, Arc::clone(store), Arc::new(SystemClock), worker.to_owned()).await.unwrap()
}

async fn tell(story: &Story, config: &Config) {
    alerts_as("test", &story.store, config).await.once(Duration::from_secs(60)).await;
}

fn told(alerts: Vec<Alert>) -> Config {
    Config { alerts, ..Config::default() }
}

/// The titles of what was received.
fn titles(received: &[Received]) -> Vec<String> {
    received.iter().map(|one| one.json()["data"]["title"].as_str().unwrap().to_owned()).collect()
}

/// An organization whose delegated administrator has an analyzer in every region that is enabled by default.
async fn watched_by_its_administrator(kept: Kept, accounts: usize) -> (Story, String) {
    let story = Story::begin_in(kept, &Scenario::calm(accounts)).await;
    let administrator = story.sim.members().remove(0);
    story.sim.change(&Change::RegisterDelegatedAdministrator { account: administrator.clone() });
    let regions: Vec<String> = story.sim.world().accounts[&administrator]
        .regions
        .iter()
        .filter(|(_, status)| *status == "ENABLED_BY_DEFAULT")
        .map(|(region, _)| region.clone())
        .collect();
    for region in regions {
        story.sim.change(&add(&administrator, &region, "ORGANIZATION"));
    }
    (story, administrator)
}

fn add(account: &str, region: &str, kind: &str) -> Change {
    Change::AddAnalyzer { account: account.into(), region: region.into(), name: "watch".into(), kind: kind.into() }
}

/// The organization's analyzers work again.
fn mend(story: &Story) {
    for analyzer in story.sim.world().analyzers.values_mut().flat_map(|regions| regions.values_mut().flatten()) {
        (analyzer.status, analyzer.status_reason) = ("ACTIVE".into(), None);
    }
}

fn deny(story: &Story, account: &str) {
    let denial = Denial { action: "access-analyzer:ListAnalyzers".into(), regions: vec![], by: Policy::Iam };
    story.sim.change(&Change::Deny { account: account.into(), denial });
}

async fn a_lost_administrator_is_one_message_and_so_is_its_recovery(kept: Kept) {
    // A thousand where such an organization is kept; the other engine does the same with less.
    let accounts: usize = if kept == Kept::Postgres { 1_000 } else { 100 };
    let (story, administrator) = watched_by_its_administrator(kept, accounts - 2).await;
    let receiver = Receiver::start().await;
    let config = told(vec![webhook("soc", &receiver, "")]);
    story.complete_scan().await;
    tell(&story, &config).await;
    assert!(receiver.received().is_empty(), "what is well is told to nobody");

    story.sim.change(&Change::DeregisterDelegatedAdministrator { account: administrator.clone() });
    story.complete_scan().await;
    tell(&story, &config).await;
    tell(&story, &config).await;
    let [one] = <[Received; 1]>::try_from(receiver.received()).unwrap();
    let event = one.json();
    assert_eq!((&event["specversion"], &event["type"]), (&"1.0".into(), &"trustwatch.opened".into()));
    let expected = format!(
        "main: the delegated administrator {administrator} was deregistered: {} account × regions in {} accounts no longer covered",
        if accounts == 1_000 { "17,000" } else { "1,700" },
        if accounts == 1_000 { "1,000" } else { "100" },
    );
    assert_eq!(event["data"]["title"], expected);
    assert_eq!(event["data"]["severity"], "critical");
    let incident = &event["data"]["incidents"][0];
    let rows = accounts * 17;
    assert_eq!((&incident["account_regions"], &incident["accounts"]), (&rows.into(), &accounts.into()));
    assert_eq!(incident["regions"].as_array().unwrap().len(), 17);
    assert_eq!((incident["first"].as_array().unwrap().len(), incident["analyzers"].as_array().unwrap().len()), (5, 5));
    assert_eq!(incident["first"][0]["reason"], "no_analyzer");
    // The receiver can tell that it is ours.
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    let signed = format!("{}.{}.{}", one.header("webhook-id"), one.header("webhook-timestamp"), one.body);
    mac.update(signed.as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(one.header("webhook-signature"), format!("v1,{signature}"));
    let open = "SELECT kind, subject, account_regions, accounts, regions, open_account_regions, closed_at IS NULL FROM alert_incidents";
    let kind = "delegated_administrator_deregistered";
    let (rows, accounts) = (rows.to_string(), accounts.to_string());
    assert_eq!(story.rows(open).await, [[kind, &administrator, &rows, &accounts, "17", &rows, "1"]]);

    mend(&story);
    story.sim.change(&Change::RegisterDelegatedAdministrator { account: administrator.clone() });
    story.complete_scan().await;
    tell(&story, &config).await;
    tell(&story, &config).await;
    let received = receiver.received();
    assert_eq!(titles(&received)[1..], [format!("main: recovered: {}", expected.trim_start_matches("main: "))]);
    let closed = received[1].json();
    assert_eq!(closed["data"]["incidents"][0]["id"], incident["id"]);
    let left = "SELECT count(*) FROM alert_incidents WHERE closed_at IS NULL OR open_account_regions > 0";
    assert_eq!(story.rows(left).await, [["0"]]);
    let states = "SELECT channel, kind, state, attempts FROM alert_deliveries ORDER BY delivery_id";
    assert_eq!(story.rows(states).await, [["soc", "opened", "delivered", "1"], ["soc", "recovered", "delivered", "1"]]);
}

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
        "main: no longer covered: 1 account × region in 1 account".to_owned(),
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
        assert!(told.iter().all(|title| title.starts_with("main: cannot be read (")), "{told:?}");
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

/// Who may own the organization's analyzers does not let us look, so that nothing is known of anybody.
fn deny_owners(story: &Story) {
    let owners: Vec<String> = story.sim.world().analyzer_owners().into_iter().collect();
    for owner in owners {
        deny(story, &owner);
    }
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
    assert!(told[0].starts_with("main: too little could be measured: "), "{told:?}");
    let owners: Vec<String> = story.sim.world().analyzer_owners().into_iter().collect();
    for account in owners {
        story.sim.change(&Change::AllowAll { account });
    }
    story.complete_scan().await;
    tell(&story, &config).await;
    let told = titles(&receiver.received());
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].starts_with("main: recovered: too little"), "{told:?}");
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
    assert_eq!(titles(&receiver.received()), ["main: joined without coverage: 1 account, 17 account × regions"]);
    // Whoever leaves has no gap any more.
    story.sim.change(&Change::RemoveAccount { account: "999999999999".into() });
    story.complete_scan().await;
    tell(&story, &config).await;
    assert!(titles(&receiver.received())[1].contains("recovered"));
}

/// Opens and closes one gap, scan by scan, so that there is something to tell.
async fn trouble(story: &Story, scans: std::ops::Range<usize>) {
    let member = story.sim.members().remove(1);
    for scan in scans {
        let (account, region, name) = (member.clone(), REGION.to_owned(), "watch".to_owned());
        if scan % 2 == 0 {
            story.sim.change(&Change::DeleteAnalyzer { account, region, name });
        } else {
            story.sim.change(&add(&account, &region, "ACCOUNT"));
        }
        story.complete_scan().await;
    }
}

async fn with_an_analyzer_of_its_own(kept: Kept) -> Story {
    let story = Story::begin_in(kept, &Scenario::calm(3)).await;
    story.sim.change(&add(&story.sim.members().remove(1), REGION, "ACCOUNT"));
    story.complete_scan().await;
    story
}

async fn a_receiver_that_is_down_loses_nothing_and_is_told_in_order(kept: Kept) {
    let story = with_an_analyzer_of_its_own(kept).await;
    let receiver = Receiver::start().await;
    let config = told(vec![webhook("soc", &receiver, "")]);
    receiver.answers(503);
    trouble(&story, 0..4).await;
    tell(&story, &config).await;
    assert_eq!(receiver.received().len(), 1, "the second waits for the first");
    let problem = "SELECT state, attempts, error FROM alert_deliveries ORDER BY delivery_id LIMIT 1";
    let error = "the receiver answered 503 Service Unavailable";
    assert_eq!(story.rows(problem).await, [["pending", "1", error]]);

    // Ten minutes later, in which it was tried now and then.
    let ago = match kept {
        Kept::Sqlite => "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '-10 minutes')",
        Kept::Postgres => "now() - interval '10 minutes'",
    };
    by_hand(
        &story.settings,
        &format!("UPDATE alert_message SET tried_since = {ago}, next_attempt_at = {ago} WHERE attempts > 0"),
    )
    .await;
    receiver.answers(200);
    tell(&story, &config).await;
    tell(&story, &config).await;
    let received = receiver.received();
    let ids: Vec<&str> = received.iter().map(|one| one.header("webhook-id")).collect();
    assert_eq!((ids.len(), ids[0]), (5, ids[1]), "what was not taken comes again under its own id");
    let kinds: Vec<Value> = received[1..].iter().map(|one| one.json()["type"].clone()).collect();
    assert_eq!(kinds, ["trustwatch.opened", "trustwatch.recovered", "trustwatch.opened", "trustwatch.recovered"]);
    assert_eq!(story.rows("SELECT count(*) FROM alert_deliveries WHERE state <> 'delivered'").await, [["0"]]);
}

async fn what_nobody_takes_is_given_up_and_others_follow(kept: Kept) {
    let story = with_an_analyzer_of_its_own(kept).await;
    let receiver = Receiver::start().await;
    let other = Receiver::start().await;
    let mut config = told(vec![webhook("soc", &receiver, ""), webhook("team", &other, "")]);
    config.alerting.give_up_after = TimeSpan(Duration::ZERO);
    receiver.answers(404);
    trouble(&story, 0..1).await;
    tell(&story, &config).await;
    receiver.answers(200);
    trouble(&story, 1..3).await;
    tell(&story, &config).await;
    let states = "SELECT channel, state, error FROM alert_deliveries ORDER BY channel, delivery_id";
    let rows = story.rows(states).await;
    assert_eq!(rows[0], ["soc", "dead", "the receiver answered 404 Not Found"]);
    assert!(rows[1..].iter().all(|row| row[1..] == ["delivered", "null"]), "{rows:?}");
    assert_eq!(other.received().len(), rows.iter().filter(|row| row[0] == "team").count());
}

async fn a_digest_says_how_it_stands_once(kept: Kept) {
    let story = with_an_analyzer_of_its_own(kept).await;
    trouble(&story, 0..1).await;
    let receiver = Receiver::start().await;
    let config = told(vec![webhook("lead", &receiver, "digest.cron = \"0 0 1 1 *\"\nmin_severity = \"critical\"")]);
    let alerts = alerts_as("test", &story.store, &config).await;
    let stop = CancellationToken::new();
    let received = tokio::select! {
        () = alerts.run(&stop) => panic!("it goes on"),
        received = receiver.reaches(1) => received,
    };
    let event = received[0].json();
    assert_eq!(event["type"], "trustwatch.digest");
    let standing = &event["data"]["standings"][0];
    assert_eq!((&standing["organization_name"], &standing["covered"]), (&"main".into(), &0.into()));
    assert_eq!((&standing["not_covered"], &standing["lost"]), (&85.into(), &1.into()));
    assert!(
        standing["open"][0].as_str().unwrap().starts_with("no longer covered: 1 account × region in 1 account, since ")
    );
    assert!(event["data"]["text"].as_str().unwrap().contains("coverage 0.0 % · measured 100.0 %"), "{event}");
    // Another process finds it kept.
    let again = alerts_as("other", &story.store, &config).await;
    again.once(Duration::from_secs(1)).await;
    assert_eq!(story.rows("SELECT kind, channel FROM alert_deliveries").await, [["digest", "lead"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_send_each_message_once() {
    let story = with_an_analyzer_of_its_own(Kept::Postgres).await;
    let receiver = Receiver::start().await;
    let config = told(vec![webhook("soc", &receiver, "")]);
    let other = store::open(&story.settings, Access::Write { migrate: false }).await.unwrap();
    let (one, two) = (alerts_as("one", &story.store, &config).await, alerts_as("two", &other, &config).await);
    let stop = CancellationToken::new();
    let (running, stopping) = (async { tokio::join!(one.run(&stop), two.run(&stop)) }, async {
        for scan in 0..12 {
            trouble(&story, scan..scan + 1).await;
            receiver.reaches(scan + 1).await;
        }
        // Whoever of the two has something left to send says so by then.
        while story.rows("SELECT count(*) FROM alert_deliveries WHERE state <> 'delivered'").await != [["0"]] {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    });
    tokio::join!(running, stopping);
    let ids: Vec<String> = receiver.received().iter().map(|one| one.header("webhook-id").to_owned()).collect();
    let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (12, 12), "{ids:?}");
}
