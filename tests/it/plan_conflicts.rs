//! What happens between a plan and its application, and between two counts.

use tokio_util::sync::CancellationToken;
use trustwatch::config::Remediation;
use trustwatch::model::{Requirement, ZoneOfTrust};
use trustwatch::remediate::{self, ApplyError, Choices, Plan, StepOutcome, Why};

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::world::{Analyzer, Denial, Policy};
use crate::support::Story;

const REGION: &str = "eu-west-1";

async fn plan(story: &Story, choices: Choices) -> Plan {
    remediate::plan(&story.engine(), &Remediation::default(), choices).await.expect("a plan")
}

async fn refused(story: &Story, plan: &Plan) -> String {
    let applied = remediate::apply(&story.engine(), &Remediation::default(), plan, &CancellationToken::new()).await;
    match applied {
        Err(ApplyError::Moved(moved)) => moved.join("; "),
        other => panic!("{other:?}"),
    }
}

fn add(story: &Story, account: &str, kind: &str) {
    let (account, region) = (account.to_owned(), REGION.to_owned());
    story.sim.change(&Change::AddAnalyzer { account, region, name: "old".into(), kind: kind.into() });
}

fn set_status(story: &Story, account: &str, status: &str) {
    let mut world = story.sim.world();
    let analyzer: &mut Analyzer = &mut world.analyzers_mut(account, REGION)[0];
    analyzer.status = status.into();
}

fn deny(story: &Story, account: &str, action: &str) {
    let denial = Denial { action: action.into(), regions: vec![], by: Policy::Iam };
    story.sim.change(&Change::Deny { account: account.to_owned(), denial });
}

/// An organization, the owner of an analyzer that has failed, and a plan to replace it.
async fn about_to_replace() -> (Story, String, Plan) {
    let story = Story::begin(&Scenario::calm(2)).await;
    let owner = story.sim.world().caller.clone();
    add(&story, &owner, "ORGANIZATION");
    set_status(&story, &owner, "FAILED");
    story.complete_scan().await;
    let made = plan(&story, Choices { replace_failed: true }).await;
    assert!(made.steps.iter().any(|step| step.replaces == ["old"]));
    (story, owner, made)
}

#[tokio::test]
async fn an_analyzer_that_recovered_is_not_deleted_in_the_name_of_an_older_plan() {
    let (story, owner, made) = about_to_replace().await;
    set_status(&story, &owner, "ACTIVE");
    let moved = refused(&story, &made).await;
    assert!(moved.contains("analyzer/old") && moved.contains("ACTIVE"), "{moved}");
    let world = story.sim.world();
    assert_eq!(world.analyzers_in(&owner, REGION).len(), 1);
}

#[tokio::test]
async fn nobody_gets_another_where_the_organizations_became_active() {
    for delegated_administrator in [false, true] {
        let story = Story::begin(&Scenario { delegated_administrator, ..Scenario::calm(2) }).await;
        story.complete_scan().await;
        let made = plan(&story, Choices::default()).await;
        let zone = if delegated_administrator { ZoneOfTrust::Organization } else { ZoneOfTrust::Account };
        assert!(made.steps.iter().all(|step| step.zone == zone));
        let management = story.sim.world().management().unwrap().to_owned();
        add(&story, &management, "ORGANIZATION");
        let moved = refused(&story, &made).await;
        assert!(moved.contains("analyzer/old is ACTIVE now, and covers every account"), "{moved}");
        assert_eq!(story.rows("SELECT count(*) FROM remediation_actions").await, [["0"]]);
    }
}

#[tokio::test]
async fn an_analyzer_that_nobody_can_look_at_again_is_not_deleted() {
    let (story, owner, made) = about_to_replace().await;
    deny(&story, &owner, "access-analyzer:GetAnalyzer");
    let applied = remediate::apply(&story.engine(), &Remediation::default(), &made, &CancellationToken::new()).await;
    let of_step = |step: &str| step.ends_with(&format!("/{REGION}/ORGANIZATION"));
    let came = applied.unwrap().into_iter().find(|one| of_step(&one.step)).unwrap().came;
    assert!(matches!(&came, StepOutcome::Failed(problem) if problem.contains("GetAnalyzer")), "{came:?}");
    let names: Vec<String> =
        story.sim.world().analyzers_in(&owner, REGION).iter().map(|one| one.name.clone()).collect();
    assert_eq!(names, ["old"]);
}

#[tokio::test]
async fn what_nobody_can_read_now_may_cover_every_account() {
    let story = Story::begin(&Scenario { delegated_administrator: false, ..Scenario::calm(2) }).await;
    story.complete_scan().await;
    let made = plan(&story, Choices::default()).await;
    let management = story.sim.world().management().unwrap().to_owned();
    deny(&story, &management, "access-analyzer:ListAnalyzers");
    let moved = refused(&story, &made).await;
    assert!(moved.contains(&format!("{REGION}: what account {management} has now cannot be read")), "{moved}");
    assert_eq!(story.rows("SELECT count(*) FROM remediation_actions").await, [["0"]]);
}

#[tokio::test]
async fn the_organization_gets_none_where_management_could_not_be_read() {
    let mut story = Story::begin(&Scenario::calm(2)).await;
    story.organization.requirement = Requirement::Both;
    let management = story.sim.world().management().unwrap().to_owned();
    deny(&story, &management, "access-analyzer:ListAnalyzers");
    story.complete_scan().await;
    let made = plan(&story, Choices::default()).await;
    assert!(made.steps.iter().all(|step| step.zone == ZoneOfTrust::Account), "{:?}", made.steps);
    let refusal = made.refusals.iter().find(|refusal| refusal.why == Why::ManagementUnread).unwrap();
    assert_eq!(refusal.reason, "access_denied");
}

#[tokio::test]
async fn what_the_organizations_access_turned_off_in_management_is_not_doubled_elsewhere() {
    let story = Story::begin(&Scenario::calm(2)).await;
    let management = story.sim.world().management().unwrap().to_owned();
    add(&story, &management, "ORGANIZATION");
    set_status(&story, &management, "DISABLED");
    story.sim.world().analyzers_mut(&management, REGION)[0].status_reason = Some("AWS_SERVICE_ACCESS_DISABLED".into());
    story.complete_scan().await;
    let made = plan(&story, Choices::default()).await;
    assert!(!made.steps.iter().any(|step| step.region.as_str() == REGION), "{:?}", made.steps);
    let refusal = made.refusals.iter().find(|refusal| refusal.why == Why::Disabled).unwrap();
    assert_eq!(refusal.reason, "AWS_SERVICE_ACCESS_DISABLED");
}

#[tokio::test]
async fn there_is_no_plan_where_nobody_says_who_may_own_the_organizations_analyzers() {
    let story = Story::begin(&Scenario::calm(2)).await;
    story.complete_scan().await;
    let owners = story.sim.world().analyzer_owners();
    for account in owners {
        deny(&story, &account, "organizations:ListDelegatedAdministrators");
    }
    let none = remediate::plan(&story.engine(), &Remediation::default(), Choices::default()).await;
    let problem = none.unwrap_err().to_string();
    assert!(problem.contains("organizations:ListDelegatedAdministrators"), "{problem}");
}

#[tokio::test]
async fn counts_end_where_nobody_may_count_any_more() {
    let story = Story::begin(&Scenario::calm(2)).await;
    let member = story.sim.members().remove(0);
    add(&story, &member, "ACCOUNT");
    story.complete_scan().await;
    let now = "SELECT count(*) FROM current_findings_statistics";
    assert_eq!(story.rows(now).await, [["1"]]);
    deny(&story, &member, "access-analyzer:GetFindingsStatistics");
    story.complete_scan().await;
    assert_eq!(story.rows(now).await, [["0"]]);
    // The scan that could not count says nothing of it; the one before still does.
    assert_eq!(story.rows("SELECT count(*) FROM findings_by_scan").await, [["1"]]);
    assert_eq!(story.verdict(&member, REGION).await, "covered account_analyzer");
}

#[tokio::test]
async fn there_is_no_plan_by_a_scan_that_went_by_another_rule() {
    let mut story = Story::begin(&Scenario::calm(2)).await;
    story.complete_scan().await;
    story.organization.requirement = Requirement::Account;
    let none = remediate::plan(&story.engine(), &Remediation::default(), Choices::default()).await;
    let problem = none.unwrap_err().to_string();
    assert!(problem.contains("asked for `either`, and the configuration asks for `account` now"), "{problem}");
}
