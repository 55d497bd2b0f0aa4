//! AWS Security Hub is told of the results by the real binary, and told again only of what has changed.

use std::path::Path;

use serde_json::Value;

use crate::awssim::control::Change;
use crate::awssim::world::{Denial, Policy};
use crate::awssim::{Scenario, Sim};
use crate::binary::{Ran, run_against};

const REGION: &str = "eu-west-1";
const IMPORT: &str = "securityhub:BatchImportFindings";

async fn tell(sim: &Sim, folder: &Path) -> Ran {
    run_against(sim, folder, &["export", "--to", "security-hub"]).await
}

async fn scan(sim: &Sim, folder: &Path) {
    let ran = run_against(sim, folder, &["scan"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[tokio::test]
async fn what_has_changed_is_told_and_what_holds_no_more_is_archived() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sim =
        Sim::start(&Scenario { opt_in_regions: vec!["eu-south-1".into()], ..Scenario::calm(2) }, 0).await.unwrap();
    let member = sim.members().remove(0);
    let (account, region) = (member.clone(), "eu-south-1".to_owned());
    sim.change(&Change::EnableRegion { account: account.clone(), region: region.clone() });
    scan(&sim, folder).await;
    let ran = tell(&sim, folder).await;
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    // Four accounts, seventeen regions, and one that one of them has opted in to.
    assert_eq!(ran.stdout, "main: 69 imported, 0 archived, 0 as they were\n");
    let [told] = <[Value; 1]>::try_from(sim.hub(&member, REGION)).unwrap();
    assert_eq!((&told["Compliance"]["Status"], &told["RecordState"]), (&"FAILED".into(), &"ACTIVE".into()));

    // What Security Hub was told is what a file says, to the letter, but for when it was made.
    let ran = run_against(&sim, folder, &["export", "--format", "asff"]).await;
    let written: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
    let mut same = written.into_iter().find(|finding| finding["Id"] == told["Id"]).unwrap();
    assert_eq!(same["Workflow"], told["Workflow"]);
    same["UpdatedAt"] = told["UpdatedAt"].clone();
    // The workflow is the team's, and not ours to say.
    assert_eq!(told["Workflow"]["Status"], "NEW");
    assert_eq!(same, told);

    // Nothing has changed, so nothing is told.
    scan(&sim, folder).await;
    assert_eq!(tell(&sim, folder).await.stdout, "main: 0 imported, 0 archived, 69 as they were\n");
    assert_eq!(sim.counters().calls(IMPORT), 69);

    let here = REGION.to_owned();
    sim.change(&Change::AddAnalyzer {
        account: member.clone(),
        region: here,
        name: "watch".into(),
        kind: "ACCOUNT".into(),
    });
    sim.change(&Change::DisableRegion { account, region: region.clone() });
    scan(&sim, folder).await;
    // One gap is closed. Where an account has opted out nothing can be told any more: that is tried once, and let be.
    let ran = tell(&sim, folder).await;
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    let expected = "main: 1 imported, 0 archived, 67 as they were\n  1 hold no more, ";
    assert!(ran.stdout.starts_with(expected), "{}", ran.stdout);
    let told = sim.hub(&member, REGION)[0].clone();
    assert_eq!(told["Compliance"]["Status"], "PASSED");
    assert_eq!(told["FindingProviderFields"]["Severity"]["Label"], "INFORMATIONAL");

    // So it is with an account that is closed.
    sim.change(&Change::SuspendAccount { account: member });
    scan(&sim, folder).await;
    let ran = tell(&sim, folder).await;
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    let expected = "main: 0 imported, 0 archived, 51 as they were\n  17 hold no more, ";
    assert!(ran.stdout.starts_with(expected), "{}", ran.stdout);
    assert_eq!(tell(&sim, folder).await.stdout, "main: 0 imported, 0 archived, 51 as they were\n");
}

#[tokio::test]
async fn what_is_exempt_is_archived_for_as_long_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let member = sim.members().remove(0);
    let exempt = format!(
        "[[organizations]]\nname = \"main\"\n[[organizations.exemptions]]\nowner = \"a\"\nreason = \"b\"\nexpires = \"2999-12-31\"\n\
         accounts = {{ accounts = [\"{member}\"] }}\nregions = [\"{REGION}\"]\n"
    );
    std::fs::write(folder.join("trustwatch.toml"), exempt).unwrap();
    scan(&sim, folder).await;
    assert_eq!(tell(&sim, folder).await.code, 0);
    let told = sim.hub(&member, REGION)[0].clone();
    assert_eq!((&told["Compliance"]["Status"], &told["RecordState"]), (&"FAILED".into(), &"ARCHIVED".into()));
    std::fs::write(folder.join("trustwatch.toml"), "").unwrap();
    scan(&sim, folder).await;
    assert_eq!(tell(&sim, folder).await.stdout, "main: 1 imported, 0 archived, 50 as they were\n");
    assert_eq!(sim.hub(&member, REGION)[0]["RecordState"], "ACTIVE");
}

#[tokio::test]
async fn a_region_that_is_left_out_from_now_on_is_archived() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let member = sim.members().remove(0);
    scan(&sim, folder).await;
    assert_eq!(tell(&sim, folder).await.code, 0);
    let excluded = format!("[[organizations]]\nname = \"main\"\nexclude.accounts = [\"{member}\"]\n");
    std::fs::write(folder.join("trustwatch.toml"), excluded).unwrap();
    scan(&sim, folder).await;
    let ran = tell(&sim, folder).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "main: 0 imported, 17 archived, 34 as they were\n"));
    assert_eq!(sim.hub(&member, REGION)[0]["RecordState"], "ARCHIVED");
    assert_eq!(tell(&sim, folder).await.stdout, "main: 0 imported, 0 archived, 34 as they were\n");
    std::fs::write(folder.join("trustwatch.toml"), "").unwrap();
    scan(&sim, folder).await;
    assert_eq!(tell(&sim, folder).await.stdout, "main: 17 imported, 0 archived, 34 as they were\n");
    assert_eq!(sim.hub(&member, REGION)[0]["RecordState"], "ACTIVE");
}

#[tokio::test]
async fn where_it_cannot_be_told_the_others_are_and_it_is_told_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sim = Sim::start(&Scenario::calm(2), 0).await.unwrap();
    let members: Vec<String> = sim.members();
    scan(&sim, folder).await;
    sim.world().hub_disabled.insert(members[0].clone());
    sim.world().accounts.get_mut(&members[1]).unwrap().roles.remove("TrustwatchSecurityHub");
    let management = sim.world().management().unwrap().to_owned();
    let denial = Denial { action: IMPORT.into(), regions: vec![REGION.into()], by: Policy::Scp };
    sim.change(&Change::Deny { account: management.clone(), denial });
    let ran = tell(&sim, folder).await;
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stdout.contains("main: 33 imported"), "{}", ran.stdout);
    let not_enabled = format!("Security Hub is not enabled in 17 account × regions, for example {}", members[0]);
    assert!(ran.stdout.contains(&not_enabled), "{}", ran.stdout);
    assert!(ran.stdout.contains("17 not imported: sts:AssumeRole"), "{}", ran.stdout);
    assert!(ran.stdout.contains("`TrustwatchSecurityHub` (export.security_hub_role)"), "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("for example {management} {REGION}")), "{}", ran.stdout);
    assert!(ran.stderr.contains("not imported: 18 findings"), "{}", ran.stderr);

    // Where Security Hub is not enabled there is nobody to tell: that is said, and is no failure.
    sim.change(&Change::AllowAll { account: management });
    let role = sim.world().accounts[&members[0]].roles["TrustwatchSecurityHub"].clone();
    sim.world().accounts.get_mut(&members[1]).unwrap().roles.insert("TrustwatchSecurityHub".into(), role);
    let ran = tell(&sim, folder).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.starts_with("main: 18 imported, 0 archived, 33 as they were\n  Security Hub is not enabled"),
        "{}",
        ran.stdout
    );
}

#[tokio::test]
async fn what_is_told_is_the_newest_and_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    for arguments in [["--format", "csv"], ["--status", "covered"], ["--at", "2026-01-01T00:00:00Z"]] {
        let arguments = [&["export", "--to", "security-hub"], arguments.as_slice()].concat();
        let ran = run_against(&sim, folder.path(), &arguments).await;
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains("cannot be used with"), "{}", ran.stderr);
    }
    let ran = tell(&sim, folder.path()).await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("run `trustwatch scan`"), "{}", ran.stderr);
}
