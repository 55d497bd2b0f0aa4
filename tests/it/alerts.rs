//! People are told: causes and not rows, once, in order, whatever dies meanwhile.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, Mac};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use trustwatch::alerts::Alerts;
use trustwatch::clock::SystemClock;
use trustwatch::config::{Alert, Config, Exemption, Selector, TimeSpan};
use trustwatch::store::{self, Access, Store};

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::receivers::{Received, Receiver};
use crate::support::{Kept, Story, by_hand, on_each_engine};

pub const REGION: &str = "eu-west-1";
const SECRET: &str = "a key that both sides know";

on_each_engine!(
    a_lost_administrator_is_one_message_and_so_is_its_recovery,
    a_receiver_that_is_down_loses_nothing_and_is_told_in_order,
    what_nobody_takes_is_given_up_and_others_follow,
    what_waits_for_a_channel_that_is_gone_is_given_up,
    a_digest_says_how_it_stands_once,
    what_is_exempted_or_cannot_be_said_holds_nobody_up,
);

/// A channel to a receiver, with more keys if need be.
pub fn webhook(name: &str, receiver: &Receiver, more: &str) -> Alert {
    let text = format!(
        "name = \"{name}\"\nchannel = \"webhook\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\nallow_private_addresses = true\n{more}",
        receiver.url
    );
    toml_edit::de::from_str(&text).unwrap()
}

pub async fn alerts_as(worker: &str, store: &Arc<dyn Store>, config: &Config) -> Alerts {
    // As the binary does first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Alerts::open(config, Arc::clone(store), Arc::new(SystemClock), worker.to_owned()).await.unwrap()
}

pub async fn tell(story: &Story, config: &Config) {
    alerts_as("test", &story.store, config).await.once(Duration::ZERO).await;
}

pub fn told(alerts: Vec<Alert>) -> Config {
    Config { alerts, ..Config::default() }
}

/// The titles of what was received.
pub fn titles(received: &[Received]) -> Vec<String> {
    received.iter().map(|one| one.json()["data"]["title"].as_str().unwrap().to_owned()).collect()
}

/// An organization whose delegated administrator has an analyzer in every region that is enabled by default.
pub async fn watched_by_its_administrator(kept: Kept, accounts: usize) -> (Story, String) {
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

pub fn add(account: &str, region: &str, kind: &str) -> Change {
    Change::AddAnalyzer { account: account.into(), region: region.into(), name: "watch".into(), kind: kind.into() }
}

/// The organization's analyzers work again.
pub fn mend(story: &Story) {
    for analyzer in story.sim.world().analyzers.values_mut().flat_map(|regions| regions.values_mut().flatten()) {
        (analyzer.status, analyzer.status_reason) = ("ACTIVE".into(), None);
    }
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
    let (rows, accounts_said) = if accounts == "1000" { ("17,000", "1,000") } else { ("1,700", "100") };
    let cause = format!("the delegated administrator {administrator} was deregistered");
    let reach = format!("{rows} account × regions in {accounts_said} accounts");
    assert_eq!(titles(&received)[1..], [format!("main: recovered: {cause} ({reach})")]);
    let closed = received[1].json();
    assert_eq!(closed["data"]["incidents"][0]["id"], incident["id"]);
    let left = "SELECT count(*) FROM alert_incidents WHERE closed_at IS NULL OR open_account_regions > 0";
    assert_eq!(story.rows(left).await, [["0"]]);
    let states = "SELECT channel, kind, state, attempts FROM alert_deliveries ORDER BY delivery_id";
    assert_eq!(story.rows(states).await, [["soc", "opened", "delivered", "1"], ["soc", "recovered", "delivered", "1"]]);
}

/// Opens and closes one gap, scan by scan, so that there is something to tell.
pub async fn trouble(story: &Story, scans: std::ops::Range<usize>) {
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

pub async fn with_an_analyzer_of_its_own(kept: Kept) -> Story {
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

async fn what_waits_for_a_channel_that_is_gone_is_given_up(kept: Kept) {
    let story = with_an_analyzer_of_its_own(kept).await;
    let (gone, stays) = (Receiver::start().await, Receiver::start().await);
    let mut config = told(vec![webhook("gone", &gone, ""), webhook("stays", &stays, "")]);
    config.alerting.give_up_after = TimeSpan(Duration::ZERO);
    trouble(&story, 0..1).await;
    while story.store.update_incidents(&config.alerting, &config.alerts).await.unwrap().is_some() {}
    config.alerts.remove(0);
    trouble(&story, 1..2).await;
    tell(&story, &config).await;
    let states = "SELECT channel, kind, state, coalesce(error, '') FROM alert_deliveries ORDER BY delivery_id";
    let why = "the channel is not configured any more";
    let rows = story.rows(states).await;
    assert!(rows.contains(&["gone", "opened", "dead", why].map(str::to_owned).to_vec()), "{rows:?}");
    assert!(rows.iter().all(|row| row[0] != "stays" || row[2] == "delivered"), "{rows:?}");
    assert_eq!((gone.received().len(), stays.received().len()), (0, 2));
}

async fn a_digest_says_how_it_stands_once(kept: Kept) {
    let story = with_an_analyzer_of_its_own(kept).await;
    let receiver = Receiver::start().await;
    let config = told(vec![webhook("lead", &receiver, "digest.cron = \"0 0 1 1 *\"")]);
    trouble(&story, 0..1).await;
    tell(&story, &config).await;
    let alerts = alerts_as("test", &story.store, &config).await;
    let stop = CancellationToken::new();
    let received = tokio::select! {
        () = alerts.run(&stop) => panic!("it goes on"),
        received = receiver.reaches(2) => received,
    };
    let event = received[1].json();
    assert_eq!(event["type"], "trustwatch.digest");
    let standing = &event["data"]["standings"][0];
    assert_eq!((&standing["organization_name"], &standing["covered"]), (&"main".into(), &0.into()));
    assert_eq!((&standing["not_covered"], &standing["lost"]), (&85.into(), &1.into()));
    assert!(
        standing["open"][0]
            .as_str()
            .unwrap()
            .starts_with("coverage was lost: 1 account × region in 1 account no longer covered, since ")
    );
    assert!(event["data"]["text"].as_str().unwrap().contains("coverage 0.0 % · measured 100.0 %"), "{event}");
    // Another process finds it kept.
    let again = alerts_as("other", &story.store, &config).await;
    again.once(Duration::ZERO).await;
    let kept = story.rows("SELECT kind, channel FROM alert_deliveries ORDER BY delivery_id").await;
    assert_eq!(kept, [["opened", "lead"], ["digest", "lead"]]);
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

async fn what_is_exempted_or_cannot_be_said_holds_nobody_up(kept: Kept) {
    let mut story = with_an_analyzer_of_its_own(kept).await;
    let receiver = Receiver::start().await;
    // A recovery names no account, and a digest no incident.
    let template = "template = \"{{ event.incidents[0].first[0].account_name }} {{ event.organization_name }}\"";
    let config = told(vec![webhook("soc", &receiver, template)]);
    trouble(&story, 0..1).await;
    tell(&story, &config).await;
    story.organization.exemptions = vec![Exemption {
        owner: "platform".into(),
        reason: "moves".into(),
        ticket: None,
        expires: "2999-12-31".parse().unwrap(),
        accounts: Selector::default(),
        regions: vec![REGION.into()],
    }];
    story.complete_scan().await;
    tell(&story, &config).await;
    let texts: Vec<Value> = receiver.received().iter().map(|one| one.json()["data"]["text"].clone()).collect();
    let member = story.sim.members().remove(1);
    let name = story.sim.world().accounts[&member].name.clone();
    assert_eq!(texts, [format!("{name} main"), " main".to_owned()]);
    assert_eq!(story.rows("SELECT count(*) FROM alert_incidents WHERE closed_at IS NULL").await, [["0"]]);
}
