//! The real binary tells people: over HTTP, over SMTP, through SNS; and is killed between the store and the sending.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use trustwatch::config;
use trustwatch::store::{self, Access};

use crate::alerts;
use crate::awssim::control::Change;
use crate::awssim::server::environment;
use crate::awssim::{Scenario, Sim};
use crate::binary::{Ran, command, run, run_against};
use crate::postgres;
use crate::receivers::{Receiver, mail_sink, mails, moto};
use crate::support::{Kept, by_hand, rows};

const REGION: &str = "eu-west-1";

/// A channel in the configuration of a folder, for an organization with one analyzer that is about to be lost.
async fn place(channel: &str) -> (tempfile::TempDir, Sim, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("trustwatch.toml"), format!("[[alerts]]\nname = \"soc\"\n{channel}")).unwrap();
    let sim = Sim::start(&Scenario::calm(3), 0).await.unwrap();
    let member = sim.members().remove(0);
    let (account, region) = (member.clone(), REGION.to_owned());
    sim.change(&Change::AddAnalyzer { account, region, name: "watch".into(), kind: "ACCOUNT".into() });
    (folder, sim, member)
}

fn lose(sim: &Sim, member: &str) {
    let (account, region) = (member.to_owned(), REGION.to_owned());
    sim.change(&Change::DeleteAnalyzer { account, region, name: "watch".into() });
}

async fn scan(sim: &Sim, folder: &Path) -> Ran {
    let ran = run_against(sim, folder, &["scan"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran
}

fn http(kind: &str, receiver: &Receiver) -> String {
    format!("channel = \"{kind}\"\nurl = \"{}\"\nallow_private_addresses = true\n", receiver.url)
}

/// Whoever has stored that there is something to tell is killed while the receiver has it and has not said so.
async fn killed_between_the_store_and_the_sending(kept: Kept) {
    let receiver = Receiver::start().await;
    let (folder, sim, member) = place(&http("webhook", &receiver)).await;
    let url = match kept {
        Kept::Sqlite => "sqlite://trustwatch.db".to_owned(),
        Kept::Postgres => postgres::database().await,
    };
    let caller = sim.world_caller();
    let begin = |cron: &str| {
        command(folder.path(), &["run"])
            .envs(environment(&sim.url(), &caller))
            .env("TRUSTWATCH_STORE__URL", &url)
            .env("TRUSTWATCH_SCHEDULE__CRON", cron)
            .env("TRUSTWATCH_HTTP__ENABLED", "false")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    // It scans every second.
    let mut life = begin("* * * * * *");
    sim.counters().reach("access-analyzer:ListAnalyzers", 6 * 17).await;
    receiver.answers(0);
    lose(&sim, &member);
    let before = receiver.reaches(1).await;
    life.kill().unwrap();
    life.wait().unwrap();
    // What it left is told by the next, that scans only once.
    receiver.answers(200);
    let mut life = begin("0 0 1 1 *");
    let after = receiver.reaches(2).await;
    assert_eq!(after[1].header("content-type"), "application/cloudevents+json; charset=utf-8");
    assert_eq!(after[1].json()["id"], before[0].json()["id"]);
    let settings = config::Store::at(if kept == Kept::Postgres {
        url.clone()
    } else {
        format!("sqlite://{}", folder.path().join("trustwatch.db").display())
    });
    let store = store::open(&settings, Access::Read).await.unwrap();
    while rows(store.as_ref(), "SELECT state FROM alert_deliveries").await != [["delivered"]] {
        tokio::task::yield_now().await;
    }
    life.kill().unwrap();
    life.wait().unwrap();
    assert_eq!(receiver.received().len(), 2);
}

mod killed {
    use super::Kept;

    #[tokio::test]
    async fn on_sqlite() {
        super::killed_between_the_store_and_the_sending(Kept::Sqlite).await;
    }

    #[tokio::test]
    async fn on_postgres() {
        super::killed_between_the_store_and_the_sending(Kept::Postgres).await;
    }
}

#[tokio::test]
async fn a_scan_by_hand_tells_people_and_a_test_says_what_is_wrong() {
    let receiver = Receiver::start().await;
    let (folder, sim, member) = place(&http("slack", &receiver)).await;
    let folder = folder.path();
    let ran = run_against(&sim, folder, &["alerts", "test", "soc"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "soc: the test was taken\n"), "{}", ran.stderr);
    assert!(receiver.received()[0].body.contains("nothing has happened"));
    receiver.answers(410);
    let ran = run_against(&sim, folder, &["alerts", "test", "soc"]).await;
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "trustwatch: alerts `soc`: the test was not taken: the receiver answered 410 Gone\n")
    );
    assert!(!ran.stderr.contains("127.0.0.1"), "the URL is a secret");
    let ran = run_against(&sim, folder, &["alerts", "test", "sock"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (2, "trustwatch: sock: no such channel; configured: soc\n"));
    receiver.answers(200);

    scan(&sim, folder).await;
    lose(&sim, &member);
    sim.world().accounts.get_mut(&member).unwrap().name = "<!channel> & co".into();
    scan(&sim, folder).await;
    let received = receiver.received();
    let message: Value = serde_json::from_str(&received.last().unwrap().body).unwrap();
    assert_eq!(message["text"], "main: coverage was lost: 1 account × region in 1 account no longer covered");
    let text = message["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(text.contains("&lt;!channel&gt; &amp; co") && text.contains(&member), "{text}");
    let ran = run(folder, &["query", "--format", "csv", "SELECT state, attempts FROM alert_deliveries"], &[]);
    assert_eq!(ran.stdout, "state,attempts\ndelivered,1\n");
}

#[tokio::test]
async fn mail_arrives_as_mail_does() {
    let inbox = tempfile::tempdir().unwrap();
    let inbox = inbox.path().join("inbox");
    let (_server, port) = mail_sink(&inbox).await;
    let smtp = format!(
        "channel = \"email\"\ntemplate = \"{{{{ event.severity }}}}: {{{{ event.incidents[0].first[0].account_name }}}}\\n{{{{ text }}}}\"\n\
         smtp = {{ host = \"127.0.0.1\", port = {port}, security = \"none\", from = \"trustwatch <tw@example.com>\", \
         to = [\"Security <security@example.com>\", \"soc@example.com\"] }}\n"
    );
    let (folder, sim, member) = place(&smtp).await;
    scan(&sim, folder.path()).await;
    sim.world().accounts.get_mut(&member).unwrap().name = "Zahlungen ä\r\nBcc: all@example.com".into();
    lose(&sim, &member);
    scan(&sim, folder.path()).await;
    // One for each address, the same.
    let [mail, other] = <[String; 2]>::try_from(mails(&inbox)).unwrap();
    assert!(
        mail.contains("X-RcptTo: security@example.com\n") && other.contains("X-RcptTo: soc@example.com\n"),
        "{other}"
    );
    for line in [
        "From: trustwatch <tw@example.com>",
        "To: Security <security@example.com>, soc@example.com",
        "Message-ID: <",
        "@trustwatch>",
    ] {
        assert!(mail.contains(line), "{line}: {mail}");
    }
    let header = mail.split("\n\n").next().unwrap();
    assert!(header.contains("Subject: ") && !header.contains("all@example.com"), "{mail}");
}

#[tokio::test]
async fn an_address_that_is_held_off_keeps_the_message_from_nobody_and_nobody_has_it_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (inbox, held) = (folder.path().join("inbox"), folder.path().join("held"));
    let (_server, port) = mail_sink(&inbox).await;
    let alert = format!(
        "name = \"soc\"\nchannel = \"email\"\nsmtp = {{ host = \"127.0.0.1\", port = {port}, security = \"none\", \
         from = \"tw@example.com\", to = [\"a@example.com\", \"b@example.com\", \"c@example.com\"] }}\n"
    );
    let config = alerts::told(vec![toml_edit::de::from_str(&alert).unwrap()]);
    let story = alerts::with_an_analyzer_of_its_own(Kept::Sqlite).await;
    let alerts = alerts::alerts_as("test", &story.store, &config).await;
    crate::alerts::trouble(&story, 0..1).await;
    let receivers = || -> Vec<String> {
        let to = |mail: String| mail.lines().find_map(|line| line.strip_prefix("X-RcptTo: ").map(str::to_owned));
        let mut to: Vec<String> = mails(&inbox).into_iter().filter_map(to).collect();
        to.sort();
        to
    };
    std::fs::write(&held, "b@example.com").unwrap();
    alerts.once(std::time::Duration::ZERO).await;
    assert_eq!(receivers(), ["a@example.com", "c@example.com"]);
    let waits = "SELECT state, attempts, error FROM alert_deliveries";
    assert_eq!(story.rows(waits).await, [["pending", "1", "the mail server answered 452"]]);
    std::fs::remove_file(&held).unwrap();
    by_hand(&story.settings, "UPDATE alert_message SET next_attempt_at = NULL").await;
    alerts.once(std::time::Duration::ZERO).await;
    assert_eq!(receivers(), ["a@example.com", "b@example.com", "c@example.com"]);
    assert_eq!(story.rows("SELECT state FROM alert_deliveries").await, [["delivered"]]);
}

#[tokio::test]
async fn a_scan_that_tells_nobody_leaves_incidents_to_who_does() {
    let receiver = Receiver::start().await;
    let (folder, sim, member) = place(&http("webhook", &receiver)).await;
    let folder = folder.path();
    scan(&sim, folder).await;
    lose(&sim, &member);
    scan(&sim, folder).await;
    assert_eq!(receiver.received().len(), 1);
    let (account, region) = (member.clone(), REGION.to_owned());
    sim.change(&Change::AddAnalyzer { account, region, name: "watch".into(), kind: "ACCOUNT".into() });
    // Somebody scans with a configuration of their own.
    let with_channel = std::fs::read_to_string(folder.join("trustwatch.toml")).unwrap();
    std::fs::write(folder.join("trustwatch.toml"), "").unwrap();
    let ran = scan(&sim, folder).await;
    assert!(ran.stderr.contains("incidents are left to whoever tells people"), "{}", ran.stderr);
    std::fs::write(folder.join("trustwatch.toml"), with_channel).unwrap();
    scan(&sim, folder).await;
    let kinds: Vec<Value> = receiver.received().iter().map(|one| one.json()["type"].clone()).collect();
    assert_eq!(kinds, ["trustwatch.opened", "trustwatch.recovered"]);
}

#[tokio::test]
async fn sns_takes_the_event_for_machines_and_the_text_for_people() {
    let (_server, url) = moto().await;
    let (folder, sim, member) =
        place("channel = \"sns\"\ntopic_arn = \"arn:aws:sns:eu-west-1:123456789012:trustwatch\"\n").await;
    let folder = folder.path();
    let aws = |arguments: &[&str]| -> Value {
        let mut aws = std::process::Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/aws-cli/bin/aws"));
        aws.args(["--endpoint-url", &url, "--region", REGION, "--output", "json"]).args(arguments);
        aws.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        let output = aws.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    aws(&["sns", "create-topic", "--name", "trustwatch"]);
    let queue = aws(&["sqs", "create-queue", "--queue-name", "inbox"])["QueueUrl"].as_str().unwrap().to_owned();
    aws(&[
        "sns",
        "subscribe",
        "--topic-arn",
        "arn:aws:sns:eu-west-1:123456789012:trustwatch",
        "--protocol",
        "sqs",
        "--notification-endpoint",
        "arn:aws:sqs:eu-west-1:123456789012:inbox",
    ]);
    let scan = async || {
        let mut environment = environment(&sim.url(), &sim.world().caller.clone());
        environment.push(("AWS_ENDPOINT_URL_SNS", url.clone()));
        let folder = folder.to_owned();
        let ran = tokio::task::spawn_blocking(move || run(&folder, &["scan"], &environment)).await.unwrap();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    };
    scan().await;
    lose(&sim, &member);
    scan().await;
    let messages = aws(&["sqs", "receive-message", "--queue-url", &queue]);
    let envelope: Value = serde_json::from_str(messages["Messages"][0]["Body"].as_str().unwrap()).unwrap();
    assert_eq!(envelope["Subject"], "main: coverage was lost: 1 account x region in 1 account no longer covered");
    let event: Value = serde_json::from_str(envelope["Message"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&event["type"], &event["data"]["incidents"][0]["first"][0]["account_id"]),
        (&"trustwatch.opened".into(), &member.into())
    );
    let ran = run(folder, &["query", "--format", "csv", "SELECT state FROM alert_deliveries"], &[]);
    assert_eq!(ran.stdout, "state\ndelivered\n");
}

#[tokio::test]
async fn a_channel_that_cannot_be_is_refused_with_the_key_and_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let secret = "https://hooks.slack.com/services/T000/B000/XXXX";
    for (channel, said) in [
        (
            "channel = \"slack\"\nurl = \"http://hooks.example.com/x\"",
            "alerts[0].url (trustwatch.toml, line 4): others could read along: expected https://",
        ),
        (
            "channel = \"slack\"\nurl = \"https://169.254.169.254/x\"",
            "alerts[0].url (trustwatch.toml, line 4): it leads to a private, loopback or link-local address",
        ),
        (
            "channel = \"webhook\"\nurl = \"https://[::ffff:10.0.0.1]/x\"",
            "it leads to a private, loopback or link-local address",
        ),
        (
            "channel = \"webhook\"\nurl = \"https://localhost/x\"",
            "it leads to a private, loopback or link-local address",
        ),
        (
            "channel = \"webhook\"",
            "alerts[0].channel (trustwatch.toml, line 3): this kind of channel needs `url` or `url_file`",
        ),
        (
            "channel = \"pager\"",
            "alerts[0].channel = \"pager\" (trustwatch.toml, line 3): expected one of \"webhook\", \"slack\", \"sns\", \"email\"",
        ),
        ("channel = \"email\"", "this kind of channel needs `smtp`"),
        (
            "channel = \"slack\"\nurl_file = \"none\"",
            "alerts[0].url_file = \"none\" (trustwatch.toml, line 4): the file cannot be read",
        ),
        (
            "channel = \"slack\"\nurl_file = \"url\"\ntopic_arn = \"arn:aws:sns:eu-west-1:111111111111:x\"",
            "alerts[0].topic_arn (trustwatch.toml, line 5): this kind of channel has no such key",
        ),
        (
            "channel = \"sns\"\ntopic_arn = \"x\"",
            "alerts[0].topic_arn = \"x\" (trustwatch.toml, line 4): expected one like \"arn:aws:sns:",
        ),
        (
            "channel = \"slack\"\nurl_file = \"url\"\ntemplate = \"{{ event.\"",
            "alerts[0].template (trustwatch.toml, line 5): not a template",
        ),
        ("channel = \"slack\"\nurl_file = \"url\"\naccounts.tags = { a = \"b\" }", "tags are not kept with results"),
        (
            "channel = \"slack\"\nurl_file = \"url\"\ndigest = { cron = \"9\" }",
            "alerts[0].digest.cron = \"9\" (trustwatch.toml, line 5)",
        ),
        (
            "channel = \"slack\"\nurl_file = \"url\"\ndigest = { cron = \"0 9 * * *\", time_zone = \"Berlin\" }",
            "not an IANA time zone",
        ),
        (
            "channel = \"slack\"\nurl_file = \"url\"\ndigest = { cron = \"0 9 30 2 *\" }",
            "alerts[0].digest.cron = \"0 9 30 2 *\" (trustwatch.toml, line 5): it never comes",
        ),
        (
            "channel = \"email\"\nsmtp = { host = \"h\", from = \"me\", to = [] }",
            "alerts[0].smtp.from = \"me\" (trustwatch.toml, line 4): expected an address",
        ),
        (
            "channel = \"slack\"\nurl_file = \"url\"\nmin_severity = \"urgent\"",
            "expected one of \"low\", \"medium\", \"high\", \"critical\"",
        ),
        (
            "channel = \"slack\"\nurl_file = \"url\"\n[[alerts]]\nname = \"soc\"\nchannel = \"slack\"\nurl_file = \"url\"",
            "alerts[1].name = \"soc\" (trustwatch.toml, line 6): a second channel of this name",
        ),
    ] {
        std::fs::write(folder.join("url"), secret).unwrap();
        std::fs::write(folder.join("trustwatch.toml"), format!("[[alerts]]\nname = \"soc\"\n{channel}\n")).unwrap();
        let ran = run(folder, &["config", "check"], &[]);
        assert_eq!(ran.code, 2, "{channel}: {}", ran.stdout);
        assert!(ran.stderr.contains(said), "{channel}: {}", ran.stderr);
        assert!(!ran.stderr.contains("services/T000"), "{}", ran.stderr);
    }
    // A template that asks for what is not there is found before anything happens.
    std::fs::write(folder.join("url"), secret).unwrap();
    let text =
        "[[alerts]]\nname = \"soc\"\nchannel = \"slack\"\nurl_file = \"url\"\ntemplate = \"{{ event.titel }}\"\n";
    std::fs::write(folder.join("trustwatch.toml"), text).unwrap();
    let ran = run(folder, &["alerts", "test", "soc"], &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("alerts `soc`: `template`: undefined value"), "{}", ran.stderr);
    let ran = run(folder, &["config", "check"], &[]);
    assert!(
        ran.code == 2 && ran.stderr.contains("alerts[0].template of `soc`: `template`: undefined value"),
        "{}",
        ran.stderr
    );
    // And what is a secret stays one.
    std::fs::write(
        folder.join("trustwatch.toml"),
        format!("[[alerts]]\nname = \"soc\"\nchannel = \"slack\"\nurl = \"{secret}\"\n"),
    )
    .unwrap();
    let ran = run(folder, &["config", "show"], &[]);
    assert!(ran.code == 0 && ran.stdout.contains("[redacted]") && !ran.stdout.contains("T000"), "{}", ran.stdout);
}
