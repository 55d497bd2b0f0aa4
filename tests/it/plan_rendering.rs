//! A plan in the words of other tools, held against those tools.

use std::path::Path;

use trustwatch::config::{ArchiveRule, Criterion, Remediation};
use trustwatch::model::Requirement;
use trustwatch::remediate::{self, Choices, Plan};

use crate::awssim::Scenario;
use crate::awssim::server::environment;
use crate::support::Story;

/// A plan with both types, tags, and a rule whose words try to get out.
async fn rich(story: &mut Story) -> Plan {
    story.organization.requirement = Requirement::Both;
    story.complete_scan().await;
    let criterion = Criterion { eq: vec!["arn:aws:s3:::it's ${open} \"now\"".into()], ..Criterion::default() };
    let settings = Remediation {
        tags: [("team".to_owned(), "cloud security".to_owned()), ("by".to_owned(), "trustwatch".to_owned())].into(),
        archive_rules: vec![ArchiveRule {
            name: "known-bucket".into(),
            filter: [("resource".to_owned(), criterion)].into(),
        }],
        ..Remediation::default()
    };
    remediate::plan(&story.engine(), &settings, Choices::default()).await.expect("a plan")
}

const ROLE: &str = "arn:aws:iam::{account_id}:role/TrustwatchRemediate";

#[tokio::test]
async fn the_commands_do_what_the_plan_says() {
    let mut story = Story::begin(&Scenario { creating_reads: 0, ..Scenario::calm(1) }).await;
    story.organization.regions = trustwatch::config::RegionSelection::List(vec!["us-east-1".into()]);
    let plan = rich(&mut story).await;
    let script = story.path("plan.sh");
    std::fs::write(&script, remediate::render(&plan, remediate::Form::Cli, ROLE)).unwrap();
    let mut shell = std::process::Command::new("sh");
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/aws-cli/bin");
    let path = std::env::var("PATH").unwrap();
    shell.arg(&script).envs(environment(&story.sim.url(), &story.sim.world_caller()));
    shell.env("PATH", format!("{}:{path}", tools.display()));
    let output = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for step in &plan.steps {
        let world = story.sim.world();
        let there = world.analyzers_in(step.account.as_str(), step.region.as_str());
        assert!(there.iter().any(|one| one.name == step.analyzer_name && one.tags["team"] == "cloud security"));
    }
    assert_eq!(story.complete_scan().await.scan.coverage_ratio, Some(1.0));
}

#[tokio::test]
async fn the_templates_are_accepted_by_their_tools() {
    let mut story = Story::begin(&Scenario::calm(2)).await;
    let plan = rich(&mut story).await;
    let template = story.path("plan.json");
    std::fs::write(&template, remediate::render(&plan, remediate::Form::CloudFormation, ROLE)).unwrap();
    crate::deploy::checked("cfn-lint", &["--template", template.to_str().unwrap()]);
    // The template within the StackSet is one too.
    let whole: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&template).unwrap()).unwrap();
    for set in whole["Resources"].as_object().unwrap().values() {
        std::fs::write(&template, set["Properties"]["TemplateBody"].as_str().unwrap()).unwrap();
        crate::deploy::checked("cfn-lint", &["--template", template.to_str().unwrap()]);
    }
    let terraform = story.path("plan.tf");
    std::fs::write(&terraform, remediate::render(&plan, remediate::Form::Terraform, ROLE)).unwrap();
    let read =
        "import hcl2, sys; tree = hcl2.load(open(sys.argv[1])); print(len(tree['resource']), len(tree['provider']))";
    let printed = crate::deploy::checked("python", &["-c", read, terraform.to_str().unwrap()]);
    let steps = plan.steps.len();
    assert_eq!(printed.trim(), format!("{} {steps}", 2 * steps));
    // Every role is assumed with the external id that whoever applies it gives.
    let text = std::fs::read_to_string(&terraform).unwrap();
    assert_eq!(text.matches("external_id = var.external_id").count(), steps);
    assert_eq!(text.matches("variable \"external_id\"").count(), 1);
}

#[tokio::test]
async fn whoever_reviews_a_plan_can_see_every_step() {
    let story = Story::begin(&Scenario { delegated_administrator: false, ..Scenario::calm(3) }).await;
    story.complete_scan().await;
    let plan = remediate::plan(&story.engine(), &Remediation::default(), Choices::default()).await.unwrap();
    remediate::write(&plan, &story.path("plan.json")).unwrap();
    let show = |arguments: &[&str]| {
        let ran =
            crate::binary::run(story.folder.path(), &[&["remediate", "show", "plan.json"], arguments].concat(), &[]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        (ran.stdout.lines().filter(|line| line.contains("trustwatch-account")).count(), ran.stdout)
    };
    let (some, text) = show(&[]);
    let rest = format!("and {} steps more; --all shows them", plan.steps.len() - some);
    assert!(some < plan.steps.len() && text.contains(&rest), "{text}");
    assert_eq!(show(&["--all"]).0, plan.steps.len());
}
