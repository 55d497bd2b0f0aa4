//! Findings, one by one: what is read, what is kept, and whose word counts.

use trustwatch::clock::{Clock, SystemClock};
use trustwatch::config::Detail;
use trustwatch::model::Finding;
use trustwatch::store::{ListedFindings, ReadingEnd, StoreError};

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::world::{Denial, Policy};
use crate::support::{Kept, Story, by_hand, on_each_engine};

const REGION: &str = "eu-west-1";

on_each_engine!(
    findings_are_kept_one_by_one_and_agree_with_their_counts,
    of_active_findings_one_that_is_archived_is_listed_no_more,
    where_findings_may_not_be_read_it_says_so_and_the_verdicts_stand,
    archive_rules_that_are_not_the_same_everywhere_are_named,
    whose_reading_it_is_decides_who_may_write,
);

async fn story(kept: Kept, detail: Detail) -> Story {
    let mut story = Story::begin_in(kept, &Scenario::calm(2)).await;
    story.findings.detail = detail;
    story
}

fn add(story: &Story, account: &str, region: &str, name: &str, kind: &str) -> String {
    let (account, region) = (account.to_owned(), region.to_owned());
    let arn = format!("arn:aws:access-analyzer:{region}:{account}:analyzer/{name}");
    story.sim.change(&Change::AddAnalyzer { account, region, name: name.into(), kind: kind.into() });
    arn
}

async fn findings_are_kept_one_by_one_and_agree_with_their_counts(kept: Kept) {
    let story = story(kept, Detail::All).await;
    story.sim.world().switches.findings_per_analyzer = Some(250);
    let member = story.sim.members().remove(0);
    let watch = add(&story, &member, REGION, "watch", "ACCOUNT");
    add(&story, &member, REGION, "unused", "ACCOUNT_UNUSED_ACCESS");
    story.complete_scan().await;
    let counted =
        "SELECT analyzer_arn, active, archived, resolved FROM current_findings_statistics ORDER BY analyzer_arn";
    let listed = "SELECT analyzer_arn, sum(CASE status WHEN 'ACTIVE' THEN 1 ELSE 0 END), sum(CASE status WHEN 'ARCHIVED' THEN 1 ELSE 0 END),
                         sum(CASE status WHEN 'RESOLVED' THEN 1 ELSE 0 END)
                  FROM current_findings GROUP BY analyzer_arn ORDER BY analyzer_arn";
    assert_eq!(story.rows(counted).await, story.rows(listed).await);
    assert_eq!(story.rows("SELECT count(*) FROM current_findings").await, [["500"]]);
    // An analyzer of external access says who; one of unused access knows no such thing.
    let who = "SELECT count(*) FROM current_findings WHERE analyzer_type = 'ACCOUNT'
               AND type = 'ExternalAccess' AND principal IS NOT NULL AND action IS NOT NULL AND is_public IS NOT NULL
               AND resource_account_id = owner_account_id AND resource_account_name IS NOT NULL AND read_at >= since";
    assert_eq!(story.rows(who).await, [["250"]]);
    let whose = "SELECT DISTINCT type, principal IS NULL, is_public IS NULL FROM current_findings WHERE analyzer_type = 'ACCOUNT_UNUSED_ACCESS'";
    assert_eq!(story.rows(whose).await, [["UnusedIAMRole", "1", "1"]]);
    let public = "SELECT sum(CASE WHEN is_public THEN 1 ELSE 0 END) FROM current_findings WHERE status = 'ACTIVE' AND analyzer_type = 'ACCOUNT'";
    let counted = "SELECT public FROM current_findings_statistics WHERE type = 'ACCOUNT'";
    assert_eq!(story.rows(public).await, story.rows(counted).await);

    // Nothing changed, nothing is written; one is archived, one interval ends and one begins.
    story.complete_scan().await;
    assert_eq!(story.rows("SELECT count(*) FROM finding_history").await, [["500"]]);
    story.sim.archive_one(&watch);
    story.complete_scan().await;
    assert_eq!(story.rows("SELECT count(*) FROM finding_history").await, [["501"]]);
    let moved = "SELECT before.status, after.status FROM finding_history AS before
                 JOIN finding_history AS after ON after.analyzer_arn = before.analyzer_arn AND after.finding_id = before.finding_id
                     AND after.valid_from = before.valid_to";
    assert_eq!(story.rows(moved).await, [["ACTIVE", "ARCHIVED"]]);

    // The analyzer goes, and with it what holds of its findings.
    let (account, region, name) = (member, REGION.to_owned(), "watch".to_owned());
    story.sim.change(&Change::DeleteAnalyzer { account, region, name });
    story.complete_scan().await;
    assert_eq!(story.rows("SELECT DISTINCT analyzer_type FROM current_findings").await, [["ACCOUNT_UNUSED_ACCESS"]]);
    assert_eq!(story.rows("SELECT count(*) FROM finding_history WHERE valid_to IS NULL").await, [["250"]]);
    assert_eq!(story.rows("SELECT count(*), count(problem) FROM findings_readings").await, [["1", "0"]]);
}

async fn of_active_findings_one_that_is_archived_is_listed_no_more(kept: Kept) {
    let story = story(kept, Detail::Active).await;
    story.sim.world().switches.findings_per_analyzer = Some(30);
    let watch = add(&story, &story.sim.members().remove(0), REGION, "watch", "ACCOUNT");
    story.complete_scan().await;
    assert_eq!(story.rows("SELECT DISTINCT status FROM finding_history").await, [["ACTIVE"]]);
    let now = "SELECT count(*) FROM current_findings";
    let before: u32 = story.rows(now).await[0][0].parse().unwrap();
    let counted = story.rows("SELECT active FROM current_findings_statistics").await;
    assert_eq!(counted, [[before.to_string()]]);
    story.sim.archive_one(&watch);
    story.complete_scan().await;
    assert_eq!(story.rows(now).await, [[(before - 1).to_string()]]);
    let ended = "SELECT count(*) FROM finding_history WHERE valid_to IS NOT NULL";
    assert_eq!(story.rows(ended).await, [["1"]]);
    assert_eq!(story.rows("SELECT detail FROM findings_readings").await, [["active"]]);
}

async fn where_findings_may_not_be_read_it_says_so_and_the_verdicts_stand(kept: Kept) {
    let story = story(kept, Detail::All).await;
    let member = story.sim.members().remove(0);
    add(&story, &member, REGION, "watch", "ACCOUNT");
    story.complete_scan().await;
    let held = story.rows("SELECT finding_id, status, since, read_at FROM current_findings ORDER BY finding_id").await;
    assert!(!held.is_empty());
    let denial = Denial { action: "access-analyzer:ListFindings".into(), regions: vec![], by: Policy::Iam };
    story.sim.change(&Change::Deny { account: member.clone(), denial });
    story.complete_scan().await;
    assert_eq!(story.verdict(&member, REGION).await, "covered account_analyzer");
    let how = "SELECT problem LIKE '%access-analyzer:ListFindings%', tried_at > read_at FROM findings_readings";
    assert_eq!(story.rows(how).await, [["1", "1"]]);
    let still = story.rows("SELECT finding_id, status, since, read_at FROM current_findings ORDER BY finding_id").await;
    assert_eq!(still, held, "what was last seen, and when");
    story.sim.change(&Change::AllowAll { account: member.clone() });
    // Of an account that cannot be entered nothing is read at all, and that is said too.
    story.sim.change(&Change::BreakRole { account: member.clone() });
    story.complete_scan().await;
    assert_eq!(story.rows("SELECT problem FROM findings_readings").await, [["its account could not be audited"]]);
    story.sim.change(&Change::MendRole { account: member });
    story.complete_scan().await;
    assert_eq!(story.rows("SELECT problem, tried_at > read_at FROM findings_readings").await, [["null", "0"]]);
}

async fn archive_rules_that_are_not_the_same_everywhere_are_named(kept: Kept) {
    let story = story(kept, Detail::Active).await;
    let member = story.sim.members().remove(0);
    let rule = |region: &str, name: &str, filter: serde_json::Value| {
        let mut world = story.sim.world();
        world.analyzers_mut(&member, region)[0].archive_rules.insert(name.into(), filter);
    };
    for region in [REGION, "us-east-1", "us-west-2"] {
        add(&story, &member, region, "watch", "ACCOUNT");
        rule(region, "same", serde_json::json!({"resourceType": {"eq": ["AWS::SQS::Queue", "AWS::S3::Bucket"]}}));
    }
    // The order of a criterion's values says nothing.
    rule("us-east-1", "same", serde_json::json!({"resourceType": {"eq": ["AWS::S3::Bucket", "AWS::SQS::Queue"]}}));
    rule(REGION, "partners", serde_json::json!({"principal.AWS": {"eq": ["888888888888"]}}));
    rule(REGION, "public", serde_json::json!({"isPublic": {"eq": ["true"]}}));
    for region in ["us-east-1", "us-west-2"] {
        rule(region, "public", serde_json::json!({"isPublic": {"eq": ["false"]}}));
    }
    let report = story.complete_scan().await;
    let reported: Vec<_> =
        report.rule_drift.iter().map(|rule| (rule.rule_name.as_str(), rule.missing, rule.different)).collect();
    assert_eq!(reported, [("partners", 2, 0), ("public", 0, 3)]);
    let drift = "SELECT rule_name, region, drift, analyzers FROM archive_rule_drift ORDER BY rule_name, region";
    let expected = [
        ["partners", "us-east-1", "missing", "1"],
        ["partners", "us-west-2", "missing", "1"],
        ["public", REGION, "different", "3"],
        ["public", "us-east-1", "different", "3"],
        ["public", "us-west-2", "different", "3"],
    ];
    assert_eq!(story.rows(drift).await, expected);
}

fn finding(id: &str, status: &str) -> Finding {
    Finding {
        id: id.into(),
        status: status.into(),
        finding_type: "ExternalAccess".into(),
        resource: None,
        resource_type: "AWS::S3::Bucket".into(),
        owner: "111111111111".into(),
        access: None,
        error: None,
        created_at: None,
        updated_at: None,
    }
}

async fn whose_reading_it_is_decides_who_may_write(kept: Kept) {
    let story = story(kept, Detail::Off).await;
    let arn = add(&story, &story.sim.members().remove(0), REGION, "watch", "ACCOUNT");
    let scan = story.complete_scan().await.scan.scan_id;
    let store = &story.store;
    // The scan as it is after its last visit, with a process that is dead.
    by_hand(&story.settings, &format!("UPDATE scan SET state = 'running', finished_at = NULL WHERE scan_id = {scan}"))
        .await;
    store.begin_readings(scan).await.unwrap();
    let ones = store.claim_readings(scan, "one", 9, &[]).await.unwrap();
    assert_eq!((ones.analyzers.len(), ones.any_left), (1, true));
    // Where the answer to a claim was lost, it is asked again; what it reads already it does not get once more.
    assert_eq!(store.claim_readings(scan, "one", 9, &[]).await.unwrap(), ones);
    assert_eq!(store.claim_readings(scan, "one", 9, std::slice::from_ref(&arn)).await.unwrap().analyzers, []);
    let now = || SystemClock.now();
    store.write_findings(scan, "one", &arn, &[finding("a", "ACTIVE")], now()).await.unwrap();
    let taken = store.claim_readings(scan, "two", 9, &[]).await.unwrap();
    assert_eq!(
        taken.analyzers,
        [],
        "after an outage all are silent: nobody takes over before it has been heard itself"
    );
    let heard = format!(
        "INSERT INTO participant (scan_id, worker_key, alive_until)
         SELECT {scan}, worker_key, '2100-01-01T00:00:00.000000Z' FROM worker WHERE name = 'two'"
    );
    by_hand(&story.settings, &heard).await;
    let taken = store.claim_readings(scan, "two", 9, &[]).await.unwrap();
    assert_eq!(taken, ones, "the dead one's are free");

    let late = store.write_findings(scan, "one", &arn, &[finding("a", "RESOLVED")], now()).await;
    assert!(matches!(late, Err(StoreError::ClaimLost(_))), "{late:?}");
    store.write_findings(scan, "two", &arn, &[finding("a", "ARCHIVED"), finding("b", "ACTIVE")], now()).await.unwrap();
    let mut listed = ListedFindings::default();
    listed.add(["a", "b"].into_iter());
    let listed = listed.done();
    let end = ReadingEnd { at: now(), listed: Ok((Detail::All, &listed)), rules: None };
    let late = store.end_reading(scan, "one", &arn, &end).await;
    assert!(matches!(late, Err(StoreError::ClaimLost(_))), "{late:?}");
    store.end_reading(scan, "two", &arn, &end).await.unwrap();
    let held = "SELECT finding_id, status FROM current_findings ORDER BY finding_id";
    assert_eq!(story.rows(held).await, [["a", "ARCHIVED"], ["b", "ACTIVE"]]);

    // It is read once in a scan, however often that is begun.
    store.begin_readings(scan).await.unwrap();
    let left = store.claim_readings(scan, "two", 9, &[]).await.unwrap();
    assert_eq!((left.analyzers.len(), left.any_left), (0, false));
}
