//! The review of findings, by the real binary: what is intended is archived, with a reason and on record.

use std::path::Path;

use crate::awssim::control::Change;
use crate::awssim::world::{Denial, Policy};
use crate::awssim::{Scenario, Sim};
use crate::binary::run_against as run;

const REGION: &str = "eu-west-1";

/// An organization with an analyzer of external access in one account, whose findings are read; and that account.
async fn begun(folder: &Path, detail: &str) -> (Sim, String) {
    let sim = Sim::start(&Scenario { findings_per_analyzer: Some(40), ..Scenario::calm(2) }, 0).await.unwrap();
    std::fs::write(folder.join("trustwatch.toml"), format!("[findings]\ndetail = \"{detail}\"\n")).unwrap();
    let account = sim.members().remove(0);
    let (owner, region) = (account.clone(), REGION.to_owned());
    sim.change(&Change::AddAnalyzer { account: owner, region, name: "watch".into(), kind: "ACCOUNT".into() });
    assert_eq!(run(&sim, folder, &["scan"]).await.code, 0);
    (sim, account)
}

async fn ids(sim: &Sim, folder: &Path, arguments: &[&str]) -> Vec<String> {
    let ran = run(sim, folder, &[&["findings", "list", "--format", "ids"], arguments].concat()).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout.lines().map(str::to_owned).collect()
}

async fn ask(sim: &Sim, folder: &Path, sql: &str) -> String {
    let ran = run(sim, folder, &["query", "--format", "csv", sql]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout.lines().skip(1).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn what_is_intended_is_archived_with_a_reason_and_can_be_restored() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (sim, account) = begun(folder, "all").await;
    let active = ids(&sim, folder, &[]).await;
    let [first, second, ..] = active.as_slice() else { panic!("{active:?}") };
    let ran = run(&sim, folder, &["findings", "archive", first, second, "--reason", "the partner's role"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("2 findings archived"), "{}", ran.stdout);
    assert_eq!(run(&sim, folder, &["scan"]).await.code, 0);
    assert_eq!(ids(&sim, folder, &[]).await.len(), active.len() - 2);
    let archived = ids(&sim, folder, &["--status", "archived"]).await;
    assert!(archived.contains(first) && archived.contains(second));

    let shown = run(&sim, folder, &["findings", "show", first]).await;
    for expected in ["ARCHIVED", "archive_findings", "the partner's role", "resource_type", "user/operator", "to now"] {
        assert!(shown.stdout.contains(expected), "{expected}: {}", shown.stdout);
    }
    let record = "SELECT action, account_id, region, result, reason, request_id IS NOT NULL, finding_ids FROM remediation_actions";
    let recorded = ask(&sim, folder, record).await;
    assert!(
        recorded.starts_with(&format!("archive_findings,{account},{REGION},done,the partner's role,1,")),
        "{recorded}"
    );
    assert!(recorded.contains(first.as_str()) && recorded.contains(second.as_str()), "{recorded}");

    let ran = run(&sim, folder, &["findings", "restore", first, "--reason", "they left"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(run(&sim, folder, &["scan"]).await.code, 0);
    assert_eq!(ids(&sim, folder, &[]).await.len(), active.len() - 1);
}

#[tokio::test]
async fn findings_are_listed_by_what_they_are_about() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (sim, account) = begun(folder, "all").await;
    let all = ids(&sim, folder, &["--status", "active,archived,resolved"]).await;
    assert_eq!(all.len(), 40);
    let public = ids(&sim, folder, &["--public", "--account", &account, "--region", REGION]).await;
    let counted = ask(&sim, folder, "SELECT public FROM current_findings_statistics").await;
    assert_eq!(public.len().to_string(), counted);
    let queues = ids(&sim, folder, &["--type", "AWS::SQS::Queue,AWS::SNS::Topic"]).await;
    let counted = "SELECT count(*) FROM current_findings WHERE status = 'ACTIVE' AND resource_type IN ('AWS::SQS::Queue', 'AWS::SNS::Topic')";
    assert_eq!(queues.len().to_string(), ask(&sim, folder, counted).await);
    // What is typed is text, whatever it looks like.
    for text in ["x' OR 'a' = 'a", "%", "_"] {
        assert_eq!(ids(&sim, folder, &["--resource", text]).await, Vec::<String>::new(), "{text}");
    }
    assert!(!ids(&sim, folder, &["--resource", "arn:aws:sim"]).await.is_empty());
    assert!(ids(&sim, folder, &["--region", "us-east-1"]).await.is_empty());
    let ran = run(&sim, folder, &["findings", "list", "--account", "12"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--account"), "{}", ran.stderr);
}

#[tokio::test]
async fn what_cannot_be_archived_is_said_and_nothing_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (sim, account) = begun(folder, "all").await;
    let active = ids(&sim, folder, &[]).await.remove(0);
    let resolved = ids(&sim, folder, &["--status", "resolved"]).await.remove(0);
    for (arguments, code, expected) in [
        (vec!["archive", active.as_str(), "no-such-id", "--reason", "x"], 1, "no such finding: no-such-id"),
        (
            vec!["archive", active.as_str(), resolved.as_str(), "--reason", "x"],
            1,
            "is RESOLVED, and only one that is ACTIVE can be",
        ),
        (vec!["restore", active.as_str(), "--reason", "x"], 1, "is ACTIVE, and only one that is ARCHIVED can be"),
        (vec!["archive", active.as_str(), "--reason", " "], 2, "--reason is empty"),
        (vec!["archive", active.as_str()], 2, "--reason"),
        (vec!["show", "no-such-id"], 1, "no such finding: no-such-id"),
    ] {
        let ran = run(&sim, folder, &[&["findings"], arguments.as_slice()].concat()).await;
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(sim.counters().calls("access-analyzer:UpdateFindings"), 0);
    assert_eq!(ask(&sim, folder, "SELECT count(*) FROM remediation_actions").await, "0");

    let denial = Denial { action: "access-analyzer:UpdateFindings".into(), regions: vec![], by: Policy::Iam };
    sim.change(&Change::Deny { account, denial });
    let ran = run(&sim, folder, &["findings", "archive", &active, "--reason", "x"]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.stdout.contains("`trustwatch policy` prints what `TrustwatchRemediate` (remediation.role) needs"),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.contains("1 of 1 findings are as they were"), "{}", ran.stderr);
    let recorded = ask(&sim, folder, "SELECT result, error LIKE '%UpdateFindings%' FROM remediation_actions").await;
    assert_eq!(recorded, "failed,1");
}

#[tokio::test]
async fn where_only_active_ones_are_read_a_mistake_can_be_taken_back_before_and_after_the_next_scan() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (sim, _) = begun(folder, "active").await;
    let active = ids(&sim, folder, &[]).await;
    let [first, second, ..] = active.as_slice() else { panic!("{active:?}") };
    let change = async |verb: &str, id: &str| run(&sim, folder, &["findings", verb, id, "--reason", "x"]).await;
    for id in [first, second] {
        assert_eq!(change("archive", id).await.code, 0);
    }
    // What AWS agreed to is known at once.
    assert_eq!(ids(&sim, folder, &[]).await.len(), active.len() - 2);
    let again = change("archive", first).await;
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("is ARCHIVED, and only one that is ACTIVE can be"), "{}", again.stderr);
    let ran = change("restore", first).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);

    assert_eq!(run(&sim, folder, &["scan"]).await.code, 0);
    let ran = change("restore", second).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ids(&sim, folder, &[]).await, active);
    assert_eq!(run(&sim, folder, &["scan"]).await.code, 0);
    assert_eq!(ids(&sim, folder, &[]).await, active);
    let intervals = format!("SELECT status FROM finding_history WHERE finding_id = '{second}' ORDER BY valid_from");
    assert_eq!(ask(&sim, folder, &intervals).await, "ACTIVE\nARCHIVED\nACTIVE");
}
