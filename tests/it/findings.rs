//! Findings of Access Analyzer as a trend, and analyzers that could go.

use trustwatch::model::Requirement;

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::world::{Denial, Policy};
use crate::support::{Kept, Story, on_each_engine};

const REGION: &str = "eu-west-1";
const COUNTS: &str = "SELECT active, archived, resolved, public, cross_account, by_type FROM current_findings_statistics ORDER BY analyzer_arn";

on_each_engine!(
    findings_are_counted_and_kept_where_they_change,
    where_findings_may_not_be_counted_the_rest_goes_on,
    analyzers_that_could_go_are_named_with_the_reason,
);

fn add(story: &Story, account: &str, region: &str, name: &str, kind: &str) {
    let (account, region) = (account.to_owned(), region.to_owned());
    story.sim.change(&Change::AddAnalyzer { account, region, name: name.into(), kind: kind.into() });
}

/// What Access Analyzer says of an analyzer, asked as anybody asks.
async fn truth(story: &Story, account: &str, arn: &str) -> (i64, i64, i64) {
    let session = trustwatch::aws::Session::Caller;
    let engine = story.engine_as(account);
    let region = trustwatch::model::Region::new(REGION);
    let count = engine.aws.count_findings(&session, &region, arn).await.unwrap();
    (count.active, count.archived, count.resolved)
}

async fn findings_are_counted_and_kept_where_they_change(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(3)).await;
    let member = story.sim.members().remove(0);
    add(&story, &member, REGION, "watch", "ACCOUNT");
    add(&story, &member, REGION, "unused", "ACCOUNT_UNUSED_ACCESS");
    story.complete_scan().await;
    let arn = |name: &str| format!("arn:aws:access-analyzer:{REGION}:{member}:analyzer/{name}");
    let rows = story.rows(COUNTS).await;
    assert_eq!(rows.len(), 2);
    for (row, name) in rows.iter().zip(["unused", "watch"]) {
        let (active, archived, resolved) = truth(&story, &member, &arn(name)).await;
        assert_eq!(row[..3], [active.to_string(), archived.to_string(), resolved.to_string()], "{name}");
    }
    // Unused access knows no public access; external access adds up to what is active.
    assert_eq!(rows[0][3], "null");
    let [active, public, cross] = [0, 3, 4].map(|at| rows[1][at].parse::<i64>().unwrap());
    assert_eq!(public + cross, active);
    let by_scan =
        "SELECT region, type, analyzers, active FROM findings_by_scan WHERE type = 'ACCOUNT' ORDER BY scan_id";
    let expected = [REGION.to_owned(), "ACCOUNT".into(), "1".into(), active.to_string()];
    assert_eq!(story.rows(by_scan).await, std::slice::from_ref(&expected));

    // Nothing changed: nothing is added but the scan's own counts.
    story.complete_scan().await;
    assert_eq!(story.rows("SELECT count(*) FROM findings_statistics_history").await, [["2"]]);
    assert_eq!(story.rows(by_scan).await, [expected.clone(), expected]);

    // One is archived, by hand: it is not active any more, and never counted as such.
    assert!(active > 0, "the seed gives it active findings");
    story.sim.archive_one(&arn("watch"));
    story.complete_scan().await;
    let rows = story.rows(COUNTS).await;
    assert_eq!(rows[1][0], (active - 1).to_string());
    let history = "SELECT active, valid_to IS NULL FROM findings_statistics_history WHERE analyzer_arn LIKE '%/watch' ORDER BY valid_from";
    assert_eq!(story.rows(history).await, [[active.to_string(), "0".into()], [(active - 1).to_string(), "1".into()]]);

    // The analyzer goes, and its counts with it.
    let (account, region, name) = (member.clone(), REGION.to_owned(), "watch".to_owned());
    story.sim.change(&Change::DeleteAnalyzer { account, region, name });
    story.complete_scan().await;
    assert_eq!(story.rows(COUNTS).await.len(), 1);
    assert_eq!(story.rows("SELECT count(*) FROM findings_statistics_history WHERE valid_to IS NULL").await, [["1"]]);
}

async fn where_findings_may_not_be_counted_the_rest_goes_on(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(2)).await;
    let [denied, other] = <[String; 2]>::try_from(story.sim.members()).unwrap();
    for account in [&denied, &other] {
        add(&story, account, REGION, "watch", "ACCOUNT");
        add(&story, account, "us-east-1", "watch", "ACCOUNT");
    }
    let denial = Denial { action: "access-analyzer:GetFindingsStatistics".into(), regions: vec![], by: Policy::Iam };
    story.sim.change(&Change::Deny { account: denied.clone(), denial });
    let report = story.complete_scan().await;
    assert_eq!(report.scan.unknown, Some(0));
    assert_eq!(story.verdict(&denied, REGION).await, "covered account_analyzer");
    let counted = "SELECT DISTINCT owner_account_id FROM current_findings_statistics";
    assert_eq!(story.rows(counted).await, [[other]]);

    let mut quiet = story;
    quiet.findings.statistics = false;
    let before = quiet.sim.counters().calls("access-analyzer:GetFindingsStatistics");
    quiet.complete_scan().await;
    assert_eq!(quiet.sim.counters().calls("access-analyzer:GetFindingsStatistics"), before);
}

async fn analyzers_that_could_go_are_named_with_the_reason(kept: Kept) {
    let mut story = Story::begin_in(kept, &Scenario::calm(3)).await;
    let [a, b, c] = <[String; 3]>::try_from(story.sim.members()).unwrap();
    let owner = story.sim.world().caller.clone();
    add(&story, &owner, REGION, "org-1", "ORGANIZATION");
    add(&story, &owner, REGION, "org-2", "ORGANIZATION");
    add(&story, &a, REGION, "own", "ACCOUNT");
    add(&story, &a, "us-east-1", "own", "ACCOUNT");
    add(&story, &b, REGION, "paid", "ACCOUNT_UNUSED_ACCESS");
    add(&story, &b, "us-east-1", "paid", "ACCOUNT_UNUSED_ACCESS");
    add(&story, &c, "us-east-1", "_AccessAnalyzerForSecurityHub", "ACCOUNT_UNUSED_ACCESS");
    story.sim.world().analyzers_mut(&c, "us-east-1")[0].managed_by = Some("securityhubv2.amazonaws.com".into());
    let report = story.complete_scan().await;
    let found = "SELECT why, owner_account_id, region, type, billed FROM redundant_analyzers ORDER BY why, region";
    let row = |why: &str, account: &str, region: &str, kind: &str, billed: &str| {
        [why, account, region, kind, billed].map(str::to_owned).to_vec()
    };
    let expected = vec![
        row("organization_covers", &a, REGION, "ACCOUNT", "0"),
        row("paid_in_several_regions", &b, "us-east-1", "ACCOUNT_UNUSED_ACCESS", "1"),
        row("several_of_one_zone", &owner, REGION, "ORGANIZATION", "0"),
    ];
    assert_eq!(story.rows(found).await, expected);
    assert_eq!((report.billed_analyzers, report.redundant.len()), (2, 3));

    // With one of the organization, every account's own is paid for twice.
    add(&story, &owner, "us-east-1", "paid", "ORGANIZATION_UNUSED_ACCESS");
    story.complete_scan().await;
    let beside = "SELECT count(*) FROM redundant_analyzers WHERE why = 'paid_beside_organization'";
    assert_eq!(story.rows(beside).await, [["2"]]);

    // Where the rule asks for both, an account's own is needed.
    story.organization.requirement = Requirement::Both;
    story.complete_scan().await;
    let covered = "SELECT count(*) FROM redundant_analyzers WHERE why = 'organization_covers'";
    assert_eq!(story.rows(covered).await, [["0"]]);
}
