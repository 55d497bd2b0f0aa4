//! Gaps that somebody answers for: beside the verdict, never instead of it, and never for ever.

use chrono::TimeDelta;
use trustwatch::clock::{Clock, SystemClock};
use trustwatch::config::{Exemption, Expiry, Selector};

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::bad_input::faults_of;
use crate::support::{Kept, Story, by_hand, on_each_engine};

const REGION: &str = "eu-west-1";

on_each_engine!(
    an_exemption_stands_beside_the_verdict_and_is_counted_apart,
    an_exemption_ends_by_itself_and_by_the_configuration,
    an_account_that_leaves_is_exempt_no_longer,
    what_has_ended_matches_nothing_or_ends_soon_is_said,
);

fn exemption(owner: &str, days: i64, accounts: &[&String], regions: &[&str]) -> Exemption {
    Exemption {
        owner: owner.into(),
        reason: "moves to the new landing zone".into(),
        ticket: Some("SEC-1234".into()),
        expires: Expiry(SystemClock.now() + TimeDelta::days(days)),
        accounts: Selector { accounts: accounts.iter().map(|id| id.parse().unwrap()).collect(), ..Selector::default() },
        regions: regions.iter().map(|region| (*region).to_owned()).collect(),
    }
}

async fn calm(kept: Kept) -> (Story, String) {
    let story = Story::begin_in(kept, &Scenario::calm(3)).await;
    let member = story.sim.members().remove(0);
    (story, member)
}

async fn an_exemption_stands_beside_the_verdict_and_is_counted_apart(kept: Kept) {
    let (mut story, member) = calm(kept).await;
    let add = |name: &str| Change::AddAnalyzer {
        account: member.clone(),
        region: "us-east-1".into(),
        name: name.into(),
        kind: "ACCOUNT".into(),
    };
    story.sim.change(&add("watch"));
    story.organization.exemptions = vec![exemption("payments", 90, &[&member], &["eu-west-*", "us-east-1"])];
    let scan = story.complete_scan().await.scan;
    assert_eq!((scan.exempt, scan.not_covered_exempt, scan.unknown_exempt), (Some(4), Some(3), Some(0)));
    assert_eq!(story.verdict(&member, REGION).await, "not_covered no_analyzer");
    let exempt =
        "SELECT account_id, region, status, exemption_reason FROM current_coverage WHERE exempt ORDER BY region";
    let reason = "moves to the new landing zone";
    let row = |region: &str, status: &str| [member.clone(), region.into(), status.into(), reason.into()];
    let expected = [
        row("eu-west-1", "not_covered"),
        row("eu-west-2", "not_covered"),
        row("eu-west-3", "not_covered"),
        row("us-east-1", "covered"),
    ];
    assert_eq!(story.rows(exempt).await, expected);
    let summary = "SELECT exempt, not_covered_exempt, unknown_exempt, not_covered >= 3 FROM scan_summary";
    assert_eq!(story.rows(summary).await, [["4", "3", "0", "1"]]);
    let kept =
        "SELECT owner, reason, ticket, scope, expired, account_regions, covered, not_covered FROM current_exemptions";
    let scope = format!(r#"{{"accounts":["{member}"],"regions":["eu-west-*","us-east-1"]}}"#);
    assert_eq!(story.rows(kept).await, [["payments", reason, "SEC-1234", &scope, "0", "4", "1", "3"]]);

    // Nothing changed, so nothing is added.
    let before = story.rows("SELECT * FROM exemption_history ORDER BY region").await;
    assert_eq!(before.len(), 4);
    story.complete_scan().await;
    assert_eq!(story.rows("SELECT * FROM exemption_history ORDER BY region").await, before);
}

async fn an_exemption_ends_by_itself_and_by_the_configuration(kept: Kept) {
    let (mut story, member) = calm(kept).await;
    story.organization.exemptions = vec![exemption("payments", 90, &[&member], &[REGION])];
    story.complete_scan().await;
    let now = "SELECT owner, valid_to IS NULL FROM exemption_history ORDER BY valid_from";
    assert_eq!(story.rows(now).await, [["payments", "1"]]);

    // Another answers for it: the first has ended where the second begins.
    story.organization.exemptions = vec![exemption("platform", 90, &[&member], &[REGION])];
    story.complete_scan().await;
    assert_eq!(story.rows(now).await, [["payments", "0"], ["platform", "1"]]);
    let joined = "SELECT count(*) FROM exemption_history AS a JOIN exemption_history AS b ON a.valid_to = b.valid_from";
    assert_eq!(story.rows(joined).await, [["1"]]);
    assert_eq!(story.rows("SELECT owner FROM current_exemptions").await, [["platform"]]);

    // Its time runs out: at once, before any scan sees it, and it ended then.
    let long_ago = "UPDATE exemption SET expires_at = '2020-01-01T00:00:00.000000Z' WHERE owner = 'platform'";
    by_hand(&story.settings, long_ago).await;
    let exempt = "SELECT count(*) FROM current_coverage WHERE exempt";
    assert_eq!(story.rows(exempt).await, [["0"]]);
    assert_eq!(story.rows("SELECT count(*) FROM exemption_history WHERE valid_to IS NULL").await, [["0"]]);
    assert_eq!(story.rows("SELECT expired, account_regions FROM current_exemptions").await, [["1", "0"]]);

    // And the configuration may end it.
    story.organization.exemptions.clear();
    let scan = story.complete_scan().await.scan;
    assert_eq!(scan.exempt, Some(0));
    assert_eq!(story.rows("SELECT count(*) FROM exempted WHERE valid_to IS NULL").await, [["0"]]);
    assert_eq!(story.rows("SELECT count(*) FROM current_exemptions").await, [["0"]]);
    assert_eq!(story.verdict(&member, REGION).await, "not_covered no_analyzer");
}

async fn an_account_that_leaves_is_exempt_no_longer(kept: Kept) {
    let (mut story, member) = calm(kept).await;
    story.organization.exemptions = vec![exemption("payments", 90, &[&member], &["*"])];
    story.organization.max_account_loss = 1.0;
    story.complete_scan().await;
    story.sim.change(&Change::RemoveAccount { account: member.clone() });
    story.complete_scan().await;
    assert_eq!(story.rows("SELECT count(*) FROM exemption_history WHERE valid_to IS NULL").await, [["0"]]);
    assert_eq!(story.rows("SELECT account_regions FROM current_exemptions").await, [["0"]]);
}

async fn what_has_ended_matches_nothing_or_ends_soon_is_said(kept: Kept) {
    let (mut story, member) = calm(kept).await;
    let nobody = "000000000000".to_owned();
    story.organization.exemptions = vec![
        exemption("ended", -1, &[&member], &["*"]),
        exemption("soon", 13, &[&member], &[REGION]),
        exemption("nothing", 90, &[&nobody], &["*"]),
        exemption("well", 90, &[&member], &["us-east-1"]),
    ];
    let report = story.complete_scan().await;
    let warnings: Vec<String> =
        report.exemptions.iter().filter_map(|exemption| exemption.warning(SystemClock.now())).collect();
    let [ended, soon, nothing] = <[String; 3]>::try_from(warnings).unwrap();
    assert!(ended.contains("the exemption of ended") && ended.contains("is exempt no longer"), "{ended}");
    assert!(soon.contains("the exemption of soon") && soon.contains("and is for 1 account × regions"), "{soon}");
    assert!(nothing.contains("the exemption of nothing") && nothing.contains("no account and region"), "{nothing}");
}

#[test]
fn an_exemption_without_an_end_or_a_reason_is_refused() {
    let table = |rest: &str| format!("[[organizations]]\nname = \"main\"\n[[organizations.exemptions]]\n{rest}");
    let endless = faults_of(&table("owner = \"a\"\nreason = \"b\"\n"));
    assert!(endless.contains("organizations.main.exemptions[0]"), "{endless}");
    assert!(endless.contains("the key `expires` is missing"), "{endless}");
    let unreadable = faults_of(&table("owner = \"a\"\nreason = \" \"\nexpires = \"31.3.2027\"\nregion = [\"x\"]\n"));
    assert!(unreadable.contains("exemptions[0].expires = \"31.3.2027\""), "{unreadable}");
    assert!(unreadable.contains("expected a day such as \"2027-03-31\""), "{unreadable}");
    assert!(unreadable.contains("exemptions[0].reason = \" \""), "{unreadable}");
    assert!(unreadable.contains("did you mean `regions`?"), "{unreadable}");
    let nowhere = faults_of(&table("owner = \"a\"\nreason = \"b\"\nexpires = \"2027-03-31\"\nregions = []\n"));
    let expected = "exemptions[0].regions = [] ";
    assert!(nowhere.contains(expected) && nowhere.contains("an exemption for no region"), "{nowhere}");
    let all =
        faults_of(&table("owner = \"a\"\nreason = \"b\"\nexpires = \"2027-03-31\"\naccounts = { accounts = [] }\n"));
    assert!(all.contains("exemptions[0].accounts"), "{all}");
    assert!(all.contains("an exemption for no account; leave `accounts` out for every account"), "{all}");
    let date = faults_of(&table("owner = \"a\"\nreason = \"b\"\nexpires = 2027-03-31\n"));
    assert!(date.contains("expires = 2027-03-31 ("), "{date}");
    assert!(date.contains("expected a day in quotes") && date.contains("found a date without quotes"), "{date}");
}

#[test]
fn what_is_no_fault_and_will_surprise_is_said_when_the_configuration_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let soon = (SystemClock.now() + TimeDelta::days(9)).format("%Y-%m-%d");
    let exemption = |expires: &str| {
        format!("[[organizations.exemptions]]\nowner = \"a\"\nreason = \"b\"\nexpires = \"{expires}\"\n")
    };
    let text = format!(
        "[remediation]\nmode = \"plan\"\nplan_folder = \"no/such\"\n[[organizations]]\nname = \"main\"\n{}{}{}",
        exemption("2020-01-01"),
        exemption(&soon.to_string()),
        exemption("2999-12-31")
    );
    std::fs::write(folder.path().join("trustwatch.toml"), text).unwrap();
    let ran = crate::binary::run(folder.path(), &["config", "check"], &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let said: Vec<&str> = ran.stderr.lines().collect();
    let [over, near, plan] = said.as_slice() else { panic!("{said:?}") };
    assert!(over.contains("exemptions[0].expires = \"2020-01-01\": that is over"), "{over}");
    assert!(near.contains("exemptions[1]") && near.ends_with("that is soon"), "{near}");
    assert!(plan.contains("remediation.plan_folder = \"no/such\": there is no such folder"), "{plan}");
}
