//! From gaps to a plan, and from a plan to coverage: safely, once, and on record.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_util::sync::CancellationToken;
use trustwatch::config::{Exemption, Remediation, Selector};
use trustwatch::model::{Requirement, ZoneOfTrust};
use trustwatch::remediate::{self, ApplyError, Choices, Plan, StepOutcome, Why};

use crate::awssim::control::Change;
use crate::awssim::rng::Rng;
use crate::awssim::server::environment;
use crate::awssim::world::{Denial, Policy};
use crate::awssim::{Scenario, Sim};
use crate::binary::{command, run_against};
use crate::support::{Kept, Story, on_each_engine};

const REGION: &str = "eu-west-1";
const CREATE: &str = "access-analyzer:CreateAnalyzer";

on_each_engine!(gaps_are_planned_applied_and_covered, a_step_that_failed_is_on_record_and_the_others_are_done);

fn settings() -> Remediation {
    Remediation::default()
}

async fn plan_with(story: &Story, choices: Choices) -> Plan {
    remediate::plan(&story.engine(), &settings(), choices).await.expect("a plan")
}

async fn plan(story: &Story) -> Plan {
    plan_with(story, Choices::default()).await
}

async fn apply(story: &Story, plan: &Plan) -> Result<Vec<StepOutcome>, ApplyError> {
    let applied = remediate::apply(&story.engine(), &settings(), plan, &CancellationToken::new()).await?;
    assert_eq!(applied.len(), plan.steps.len());
    Ok(applied.into_iter().map(|applied| applied.came).collect())
}

fn administrator(story: &Story) -> String {
    story.sim.world().caller.clone()
}

/// The names and types of an account's analyzers in a region.
fn analyzers(sim: &Sim, account: &str, region: &str) -> Vec<(String, String)> {
    let world = sim.world();
    world.analyzers_in(account, region).iter().map(|one| (one.name.clone(), one.kind.clone())).collect()
}

fn add(story: &Story, account: &str, kind: &str, status: &str, reason: Option<&str>) {
    let (account, region) = (account.to_owned(), REGION.to_owned());
    let name = format!("old-{kind}");
    story.sim.change(&Change::AddAnalyzer {
        account: account.clone(),
        region: region.clone(),
        name: name.clone(),
        kind: kind.into(),
    });
    let mut world = story.sim.world();
    let analyzer = world.analyzers_mut(&account, &region).iter_mut().find(|one| one.name == name).unwrap();
    analyzer.status = status.into();
    analyzer.status_reason = reason.map(str::to_owned);
    analyzer.creating_reads = u32::MAX;
}

fn refused(plan: &Plan, why: Why) -> (String, usize, usize) {
    let found = plan.refusals.iter().find(|refusal| refusal.why == why);
    let found = found.unwrap_or_else(|| panic!("{why:?}: {:?}", plan.refusals));
    (found.reason.clone(), found.accounts, found.account_regions)
}

fn has_step(plan: &Plan, region: &str) -> bool {
    plan.steps.iter().any(|step| step.region.as_str() == region)
}

async fn gaps_are_planned_applied_and_covered(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario { creating_reads: 2, ..Scenario::calm(4) }).await;
    add(&story, &story.sim.members()[0], "ACCOUNT_UNUSED_ACCESS", "ACTIVE", None);
    story.complete_scan().await;
    let made = plan(&story).await;
    // One step for each region, not one for each account, and of external access.
    let regions = story.rows("SELECT count(DISTINCT region) FROM current_coverage WHERE status = 'not_covered'").await;
    assert_eq!(made.steps.len().to_string(), regions[0][0]);
    assert!(made.steps.iter().all(|step| step.zone == ZoneOfTrust::Organization));
    assert!(made.steps.iter().all(|step| step.account.as_str() == administrator(&story)));
    assert_eq!(made.advice, Vec::<String>::new());
    let came = apply(&story, &made).await.unwrap();
    assert!(came.iter().all(|came| *came == StepOutcome::Created), "{came:?}");

    let scan = story.complete_scan().await.scan;
    assert_eq!(scan.coverage_ratio, Some(1.0));
    let when_and_by_whom = "SELECT count(*) FROM coverage_changes AS c
        JOIN remediation_actions AS a ON a.analyzer_arn = c.analyzer_arn AND a.finished_at <= c.at
        WHERE c.from_status = 'not_covered' AND c.to_status = 'covered' AND a.result = 'done' AND a.request_id IS NOT NULL
          AND a.actor LIKE 'arn:aws:%' AND a.error IS NULL";
    let closed = story.rows("SELECT count(*) FROM coverage_changes WHERE from_status = 'not_covered'").await;
    assert_eq!(story.rows(when_and_by_whom).await, closed);
    assert_eq!(plan(&story).await.steps, []);

    // Once more: everything is there.
    let came = apply(&story, &made).await.unwrap();
    assert!(came.iter().all(|came| *came == StepOutcome::Already), "{came:?}");
    let results = story.rows("SELECT result, count(*) FROM remediation_actions GROUP BY result ORDER BY result").await;
    let steps = made.steps.len().to_string();
    assert_eq!(results, [["already", &steps], ["done", &steps]]);
}

#[tokio::test]
async fn without_a_delegated_administrator_accounts_get_their_own_and_it_says_how_to_do_better() {
    let story = Story::begin(&Scenario { delegated_administrator: false, ..Scenario::calm(2) }).await;
    story.complete_scan().await;
    let made = plan(&story).await;
    let gaps = story.rows("SELECT count(*) FROM current_coverage WHERE status = 'not_covered'").await;
    assert_eq!(made.steps.len().to_string(), gaps[0][0]);
    assert!(made.steps.iter().all(|step| step.zone == ZoneOfTrust::Account));
    let [advice] = made.advice.as_slice() else { panic!("{:?}", made.advice) };
    assert!(advice.contains("register-delegated-administrator"), "{advice}");
    assert!(apply(&story, &made).await.unwrap().iter().all(|came| *came == StepOutcome::Created));
    assert_eq!(story.complete_scan().await.scan.coverage_ratio, Some(1.0));
}

#[tokio::test]
async fn without_trusted_access_the_organizations_analyzer_is_not_proposed() {
    let mut story = Story::begin(&Scenario::calm(2)).await;
    story.sim.change(&Change::DisableTrustedAccess {});
    story.complete_scan().await;
    let made = plan(&story).await;
    assert!(!made.steps.is_empty() && made.steps.iter().all(|step| step.zone == ZoneOfTrust::Account));
    assert!(made.advice.iter().any(|advice| advice.contains("enable-aws-service-access")), "{:?}", made.advice);

    // Where the rule asks for it, nothing else would do.
    story.organization.requirement = Requirement::Organization;
    story.complete_scan().await;
    let made = plan(&story).await;
    assert_eq!(made.steps, []);
    assert_eq!(refused(&made, Why::OrganizationNotReady).0, "ORGANIZATION");
}

#[tokio::test]
async fn where_both_are_asked_for_each_account_gets_what_it_lacks() {
    let mut story = Story::begin(&Scenario::calm(2)).await;
    story.organization.requirement = Requirement::Both;
    let member = story.sim.members().remove(0);
    add(&story, &member, "ACCOUNT", "ACTIVE", None);
    story.complete_scan().await;
    let made = plan(&story).await;
    let there = |zone: ZoneOfTrust| {
        made.steps.iter().filter(move |step| step.region.as_str() == REGION && step.zone == zone).collect::<Vec<_>>()
    };
    assert_eq!(there(ZoneOfTrust::Organization).len(), 1);
    let accounts = there(ZoneOfTrust::Account);
    assert_eq!(accounts.len(), story.sim.world().accounts.len() - 1);
    assert!(accounts.iter().all(|step| step.account.as_str() != member));
    assert!(apply(&story, &made).await.unwrap().iter().all(|came| *came == StepOutcome::Created));
    assert_eq!(story.complete_scan().await.scan.coverage_ratio, Some(1.0));
    assert_eq!(plan(&story).await.steps, []);
}

#[tokio::test]
async fn what_cannot_be_read_is_exempt_or_suspended_is_left_alone() {
    let mut story = Story::begin(&Scenario { delegated_administrator: false, ..Scenario::calm(3) }).await;
    let [a, b, c, d] = <[String; 4]>::try_from(story.sim.members()).unwrap();
    story.sim.change(&Change::BreakRole { account: a.clone() });
    story.sim.change(&Change::SuspendAccount { account: b.clone() });
    story.organization.exemptions = vec![Exemption {
        owner: "payments".into(),
        reason: "moves".into(),
        ticket: None,
        expires: "2999-12-31".parse().unwrap(),
        accounts: Selector { accounts: vec![c.parse().unwrap()], ..Selector::default() },
        regions: vec!["*".into()],
    }];
    story.complete_scan().await;
    let made = plan(&story).await;
    for account in [&a, &b, &c] {
        assert!(made.steps.iter().all(|step| step.account.as_str() != *account));
    }
    assert!(made.steps.iter().any(|step| step.account.as_str() == d));
    assert_eq!(refused(&made, Why::Unreadable), ("role_not_assumable".into(), 1, 17));
    assert_eq!(refused(&made, Why::AccountNotActive).1, 1);
    assert_eq!(refused(&made, Why::Exempt).0, "exempt");
}

#[tokio::test]
async fn an_analyzer_that_failed_is_replaced_only_where_that_is_asked_for() {
    let story = Story::begin(&Scenario::calm(2)).await;
    let owner = administrator(&story);
    add(&story, &owner, "ORGANIZATION", "FAILED", Some("SERVICE_LINKED_ROLE_CREATION_FAILED"));
    story.complete_scan().await;
    let made = plan(&story).await;
    assert!(!has_step(&made, REGION) && has_step(&made, "us-east-1"));
    assert_eq!(refused(&made, Why::Failed).0, "SERVICE_LINKED_ROLE_CREATION_FAILED");

    let made = plan_with(&story, Choices { replace_failed: true }).await;
    let step = made.steps.iter().find(|step| step.region.as_str() == REGION).unwrap();
    assert_eq!(step.replaces, ["old-ORGANIZATION"]);
    assert!(apply(&story, &made).await.unwrap().iter().all(|came| *came == StepOutcome::Created));
    let expected = [("trustwatch-organization".to_owned(), "ORGANIZATION".to_owned())];
    assert_eq!(analyzers(&story.sim, &owner, REGION), expected);
    let deleted = "SELECT analyzer_name, result FROM remediation_actions WHERE action = 'delete_analyzer'";
    assert_eq!(story.rows(deleted).await, [["old-ORGANIZATION", "done"]]);
}

#[tokio::test]
async fn an_analyzer_that_is_being_created_is_waited_for() {
    let story = Story::begin(&Scenario::calm(2)).await;
    add(&story, &administrator(&story), "ORGANIZATION", "CREATING", None);
    story.complete_scan().await;
    let made = plan(&story).await;
    assert!(!has_step(&made, REGION));
    assert_eq!(refused(&made, Why::BeingCreated).0, "CREATING");
}

#[tokio::test]
async fn an_analyzer_that_the_organization_turned_off_is_not_doubled() {
    let story = Story::begin(&Scenario::calm(2)).await;
    add(&story, &administrator(&story), "ORGANIZATION", "DISABLED", Some("AWS_SERVICE_ACCESS_DISABLED"));
    story.complete_scan().await;
    let made = plan(&story).await;
    assert!(!has_step(&made, REGION));
    assert_eq!(refused(&made, Why::Disabled).0, "AWS_SERVICE_ACCESS_DISABLED");
}

#[tokio::test]
async fn where_there_are_as_many_as_aws_allows_none_is_proposed() {
    let story = Story::begin(&Scenario::calm(2)).await;
    let owner = administrator(&story);
    add(&story, &owner, "ORGANIZATION", "DISABLED", None);
    let first = story.sim.world().analyzers_in(&owner, REGION)[0].clone();
    for number in 1..5 {
        let name = format!("old-{number}");
        let arn = first.arn.replace("old-ORGANIZATION", &name);
        let another = crate::awssim::world::Analyzer { name, arn, ..first.clone() };
        story.sim.world().analyzers_mut(&owner, REGION).push(another);
    }
    story.complete_scan().await;
    let made = plan(&story).await;
    assert!(!has_step(&made, REGION));
    assert_eq!(refused(&made, Why::Quota).0, "ORGANIZATION");
    // With room for one more, it is made beside them.
    story.sim.world().analyzers_mut(&owner, REGION).pop();
    story.complete_scan().await;
    assert!(has_step(&plan(&story).await, REGION));
}

#[tokio::test]
async fn where_the_administrator_has_not_opted_in_accounts_get_their_own() {
    let mut story = Story::begin(&Scenario::calm(2)).await;
    let region = "ap-east-1".to_owned();
    for account in story.sim.members() {
        story.sim.change(&Change::EnableRegion { account, region: region.clone() });
    }
    let owners = story.sim.world().analyzer_owners();
    for account in owners {
        story.sim.change(&Change::DisableRegion { account, region: region.clone() });
    }
    story.complete_scan().await;
    let made = plan(&story).await;
    let there: Vec<_> = made.steps.iter().filter(|step| step.region.as_str() == region).collect();
    assert_eq!(there.len(), story.sim.members().len());
    assert!(there.iter().all(|step| step.zone == ZoneOfTrust::Account));

    story.organization.requirement = Requirement::Organization;
    story.complete_scan().await;
    let made = plan(&story).await;
    assert!(!has_step(&made, &region));
    assert_eq!(refused(&made, Why::AdministratorNotThere).0, "region_not_opted_in");
}

#[tokio::test]
async fn a_plan_that_the_world_has_moved_away_from_is_refused_and_nothing_is_changed() {
    let story = Story::begin(&Scenario::calm(2)).await;
    story.complete_scan().await;
    let made = plan(&story).await;
    let owner = administrator(&story);
    add(&story, &owner, "ACCOUNT", "ACTIVE", None);
    let refused = apply(&story, &made).await.unwrap_err().to_string();
    assert!(refused.contains(REGION) && refused.contains("old-ACCOUNT"), "{refused}");
    assert!(refused.contains("nothing was changed"), "{refused}");

    story.sim.change(&Change::DeregisterDelegatedAdministrator { account: owner.clone() });
    let engine = story.engine_as(story.sim.world().management().unwrap());
    let refused = remediate::apply(&engine, &settings(), &made, &CancellationToken::new()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("the organization is"), "{refused}");
    assert_eq!(analyzers(&story.sim, &owner, "us-east-1"), []);
    assert_eq!(story.rows("SELECT count(*) FROM remediation_actions").await, [["0"]]);
}

async fn a_step_that_failed_is_on_record_and_the_others_are_done(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario { delegated_administrator: false, ..Scenario::calm(2) }).await;
    let [a, b, c] = <[String; 3]>::try_from(story.sim.members()).unwrap();
    story.complete_scan().await;
    let made = plan(&story).await;
    story.sim.change(&Change::BreakRemediationRole { account: a.clone() });
    let denial = Denial { action: "access-analyzer:CreateAnalyzer".into(), regions: vec![], by: Policy::Scp };
    story.sim.change(&Change::Deny { account: b.clone(), denial });
    let came = apply(&story, &made).await.unwrap();
    for (step, came) in made.steps.iter().zip(&came) {
        match (step.account.as_str(), came) {
            (account, StepOutcome::Failed(problem)) if account == a => {
                assert!(problem.contains("`TrustwatchRemediate` (remediation.role)"), "{problem}");
            }
            (account, StepOutcome::Failed(problem)) if account == b => {
                assert!(problem.contains("service control policy"), "{problem}");
            }
            (account, StepOutcome::Created) => assert!(account != a && account != b),
            other => panic!("{other:?}"),
        }
    }
    let failed = format!(
        "SELECT DISTINCT account_id, result, error LIKE '%service control policy%', request_id IS NULL FROM remediation_actions
         WHERE account_id IN ('{b}', '{c}') ORDER BY result"
    );
    let rows = story.rows(&failed).await;
    assert_eq!(rows, [[c.as_str(), "done", "null", "0"], [b.as_str(), "failed", "1", "0"]]);
    let unentered =
        format!("SELECT DISTINCT result, error LIKE '%AssumeRole%' FROM remediation_actions WHERE account_id = '{a}'");
    assert_eq!(story.rows(&unentered).await, [["failed", "1"]]);
}

#[tokio::test]
async fn a_plan_that_is_over_edited_or_no_plan_is_refused() {
    let story = Story::begin(&Scenario::calm(2)).await;
    story.complete_scan().await;
    let made = plan(&story).await;
    let over = Plan { expires_at: made.created_at, ..made.clone() };
    let refused = apply(&story, &over).await.unwrap_err().to_string();
    assert!(refused.contains("could be applied until"), "{refused}");

    let folder = story.folder.path();
    remediate::write(&made, &folder.join("plan.json")).unwrap();
    assert_eq!(Plan::read(&folder.join("plan.json")).unwrap(), made);
    let text = made.to_json().unwrap();
    std::fs::write(folder.join("edited.json"), text.replacen("\"covers\": 4", "\"covers\": 5", 1)).unwrap();
    std::fs::write(folder.join("paid.json"), text.replacen("\"ORGANIZATION\"", "\"ACCOUNT_UNUSED_ACCESS\"", 1))
        .unwrap();
    std::fs::write(folder.join("other.json"), "{}").unwrap();
    story.store.close().await;
    for (file, expected) in [
        ("edited.json", "the plan edited.json was edited"),
        ("paid.json", "unknown variant `ACCOUNT_UNUSED_ACCESS`"),
        ("other.json", "expected a file that `trustwatch remediate plan --out` wrote"),
        ("none.json", "reading the plan none.json"),
    ] {
        let ran = run_against(&story.sim, folder, &["remediate", "apply", file]).await;
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
    let ran = run_against(&story.sim, folder, &["remediate", "plan", "--out", "no/such/folder/plan.json"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("--out no/such/folder/plan.json: the file cannot be written"), "{}", ran.stderr);
}

fn ours(sim: &Sim, plan: &Plan) -> usize {
    plan.steps.iter().map(|step| analyzers(sim, step.account.as_str(), step.region.as_str()).len()).sum()
}

#[tokio::test]
async fn an_application_that_is_killed_goes_on_and_creates_nothing_twice() {
    let scenario = Scenario { creating_reads: 2, latency_ms: 10, delegated_administrator: false, ..Scenario::calm(5) };
    let sim = Sim::start(&scenario, 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path: &Path = folder.path();
    let caller = sim.world().caller.clone();
    assert_eq!(run_against(&sim, path, &["scan"]).await.code, 0);
    assert_eq!(run_against(&sim, path, &["remediate", "plan", "--out", "plan.json"]).await.code, 0);
    let plan = Plan::read(&path.join("plan.json")).unwrap();
    let mut rng = Rng::new(7);
    for _ in 0..20 {
        let mut apply = command(path, &["remediate", "apply", "plan.json"]);
        apply.env("TRUSTWATCH_REMEDIATION__IN_FLIGHT", "3");
        apply.envs(environment(&sim.url(), &caller)).stdout(std::process::Stdio::null());
        let created = sim.counters().calls(CREATE);
        let mut child = apply.stderr(std::process::Stdio::null()).spawn().unwrap();
        // At an instant of its own: so many calls after it has begun to create.
        sim.counters().reach(CREATE, created + 1).await;
        sim.counters().reach_in_all(sim.counters().total_calls() + rng.below(5)).await;
        assert_eq!(child.try_wait().unwrap(), None, "it is killed at work");
        kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        assert!(ours(&sim, &plan) <= plan.steps.len(), "nothing is created twice");
    }
    let ran = run_against(&sim, path, &["remediate", "apply", "plan.json"]).await;
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    for step in &plan.steps {
        let expected = [(step.analyzer_name.clone(), "ACCOUNT".to_owned())];
        assert_eq!(analyzers(&sim, step.account.as_str(), step.region.as_str()), expected);
    }
    let ran = run_against(&sim, path, &["scan", "--fail-on", "not-covered"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[tokio::test]
async fn the_daemon_writes_a_plan_only_where_it_is_told_to() {
    let story = Story::begin(&Scenario::calm(2)).await;
    let folder = story.folder.path().to_owned();
    let wakes = |mode: &str| {
        let mut daemon = command(&folder, &["run"]);
        daemon.envs(environment(&story.sim.url(), &administrator(&story)));
        daemon.env("TRUSTWATCH_STORE__URL", format!("sqlite://{mode}.db"));
        daemon.env("TRUSTWATCH_SCHEDULE__CRON", "0 0 1 1 *").env("TRUSTWATCH_HTTP__ENABLED", "false");
        daemon.env("TRUSTWATCH_REMEDIATION__MODE", mode).env("TRUSTWATCH_REMEDIATION__PLAN_FOLDER", mode);
        std::fs::create_dir(folder.join(mode)).unwrap();
        daemon.stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    for (mode, said) in [("off", "scan ended"), ("plan", "wrote plan/trustwatch-plan-main.json")] {
        let mut child = wakes(mode);
        let log = std::io::BufReader::new(child.stderr.take().unwrap());
        let is_said = tokio::task::spawn_blocking(move || {
            use std::io::BufRead;
            log.lines().map_while(Result::ok).any(|line| line.contains(said))
        });
        assert!(is_said.await.unwrap(), "{said}");
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        child.wait().unwrap();
    }
    assert_eq!(std::fs::read_dir(folder.join("off")).unwrap().count(), 0);
    assert!(!Plan::read(&folder.join("plan/trustwatch-plan-main.json")).unwrap().steps.is_empty());
    assert!(story.sim.world().analyzers.values().flat_map(|regions| regions.values()).all(Vec::is_empty));
}
