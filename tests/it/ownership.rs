//! Who answers for accounts: by tags, by a list, in results, in choices and in exemptions.

use std::collections::BTreeMap;

use trustwatch::config::{Exemption, Ownership, Selector};
use trustwatch::model::OwnedBy;

use crate::awssim::world::{Denial, Policy};
use crate::awssim::{Scenario, Sim};
use crate::binary::run_against;
use crate::support::{Kept, Story, on_each_engine};

const WHO: &str = "SELECT DISTINCT account_id, account_owner, team FROM current_coverage ORDER BY account_id";

on_each_engine!(who_answers_for_an_account_is_beside_its_results_and_chooses_accounts);

fn tag(sim: &Sim, account: &str, key: &str, value: &str) {
    sim.world().accounts.get_mut(account).unwrap().tags.insert(key.to_owned(), value.to_owned());
}

async fn who_answers_for_an_account_is_beside_its_results_and_chooses_accounts(kept: Kept) {
    let mut story = Story::begin_in(kept, &Scenario::calm(3)).await;
    let [a, b, c] = <[String; 3]>::try_from(story.sim.members()).unwrap();
    for account in [&a, &b, &c] {
        tag(&story.sim, account, "team", "payments");
        tag(&story.sim, account, "owner", "ann");
    }
    story.organization.ownership = Ownership {
        owner_tag: Some("owner".into()),
        team_tag: Some("team".into()),
        listed: BTreeMap::from([(b.parse().unwrap(), OwnedBy { owner: Some("bob".into()), team: None })]),
        file: None,
    };
    let in_team = Selector { teams: vec!["pay*".into()], ..Selector::default() };
    story.organization.exemptions = vec![Exemption {
        owner: "platform".into(),
        reason: "moves".into(),
        ticket: None,
        expires: "2999-12-31".parse().unwrap(),
        accounts: in_team,
        regions: vec!["eu-west-1".into()],
    }];
    story.organization.exclude = Selector { owners: vec!["bob".into()], ..Selector::default() };
    story.complete_scan().await;
    let of_members = async || {
        let rows = story.rows(WHO).await.into_iter();
        rows.filter(|row| [&a, &b, &c].contains(&&row[0]))
            .map(|row| [row[1].clone(), row[2].clone()])
            .collect::<Vec<_>>()
    };
    assert_eq!(of_members().await, [["ann", "payments"], ["bob", "payments"], ["ann", "payments"]]);
    let exempt = "SELECT DISTINCT account_id FROM current_coverage WHERE exempt ORDER BY account_id";
    assert_eq!(story.rows(exempt).await, [[a.clone()], [b.clone()], [c.clone()]]);
    assert_eq!(story.verdict(&b, "eu-west-1").await, "not_applicable excluded");

    // What cannot be read this time is not forgotten; what is not said any more is.
    let reader = story.sim.world().caller.clone();
    let denial = Denial { action: "organizations:ListTagsForResource".into(), regions: vec![], by: Policy::Iam };
    story.sim.change(&crate::awssim::control::Change::Deny { account: reader.clone(), denial });
    story.complete_scan().await;
    assert_eq!(of_members().await, [["ann", "payments"], ["bob", "null"], ["ann", "payments"]]);
    story.sim.change(&crate::awssim::control::Change::AllowAll { account: reader });
    story.sim.world().accounts.get_mut(&c).unwrap().tags.clear();
    story.complete_scan().await;
    assert_eq!(of_members().await, [["ann", "payments"], ["bob", "payments"], ["null", "null"]]);

    // Whom the list gives an account to, decides whether it is audited: that is our doing.
    story.organization.ownership.listed = BTreeMap::new();
    story.complete_scan().await;
    let why = format!(
        "SELECT DISTINCT from_reason, to_reason, cause FROM coverage_transitions
         WHERE account_id = '{b}' AND region = 'eu-west-1' AND scan_id = (SELECT max(scan_id) FROM scan_summary)"
    );
    assert_eq!(story.rows(&why).await, [["excluded", "no_analyzer", "configuration"]]);
}

#[tokio::test]
async fn a_list_is_read_from_a_file_and_reports_can_be_of_a_team() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sim = Sim::start(&Scenario::calm(2), 0).await.unwrap();
    let [a, b] = <[String; 2]>::try_from(sim.members()).unwrap();
    let configuration = "[[organizations]]\nname = \"main\"\nownership.file = \"owners.csv\"\n";
    std::fs::write(folder.join("trustwatch.toml"), configuration).unwrap();
    std::fs::write(folder.join("owners.csv"), format!("account_id,team\n{a},shop\n{b},\n12,x\n")).unwrap();
    let ran = run_against(&sim, folder, &["config", "check"]).await;
    assert_eq!(ran.code, 2);
    let expected = "organizations.main.ownership.file = \"owners.csv\" (trustwatch.toml, line 3): what the file holds: line 4: `12`";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);

    std::fs::write(folder.join("owners.csv"), format!("account_id,team\n{a},shop\n{b},\n")).unwrap();
    assert_eq!(run_against(&sim, folder, &["scan"]).await.code, 0);
    let ran = run_against(&sim, folder, &["export", "--format", "csv", "--team", "shop"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 1 + 19);
    assert!(ran.stdout.lines().skip(1).all(|line| line.contains(&a)), "{}", ran.stdout);
    let ran = run_against(&sim, folder, &["export", "--format", "csv", "--owner", "shop' OR 1=1 --"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("nothing is like that: the newest results; only owners shop' OR 1=1 --; "),
        "{}",
        ran.stderr
    );
    std::fs::remove_file(folder.join("owners.csv")).unwrap();
    let ran = run_against(&sim, folder, &["config", "check"]).await;
    assert!(ran.stderr.contains("the file cannot be read"), "{}", ran.stderr);
}
