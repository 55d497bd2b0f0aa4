//! The command line against a simulated AWS: exit codes, formats, and what each command says.

use serde_json::Value;

use crate::awssim::control::Change;
use crate::awssim::{Scenario, Sim};
use crate::binary::{command, run, run_against};

async fn sim() -> (Sim, tempfile::TempDir) {
    let sim = Sim::start(&Scenario { seed: 5, ..Scenario::default() }, 0).await.unwrap();
    (sim, tempfile::tempdir().unwrap())
}

#[tokio::test]
async fn a_scan_without_any_file_leaves_answers_beside_you() {
    let (sim, folder) = sim().await;
    let ran = run_against(&sim, folder.path(), &["scan"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.starts_with("main · o-"), "{}", ran.stdout);
    for words in
        ["completed in", "are watched for external access", "could not be read", "worst regions", "calls to AWS"]
    {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    assert!(folder.path().join("trustwatch.db").exists());
}

#[tokio::test]
async fn a_scan_as_json_can_be_read_by_a_machine() {
    let (sim, folder) = sim().await;
    let ran = run_against(&sim, folder.path(), &["scan", "--format", "json"]).await;
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let scan = &json["scans"][0]["scan"];
    assert_eq!(scan["state"], "completed");
    let sum: i64 =
        ["covered", "not_covered", "not_applicable", "unknown"].iter().map(|key| scan[key].as_i64().unwrap()).sum();
    assert_eq!(scan["account_regions"], sum);
    assert_eq!(scan["accounts"], sim.world().accounts.len());
    assert_eq!(json["scans"][0]["calls"][0]["service"], "sts");
    assert_eq!(json["scans"][0]["calls"][0]["operation"], "GetCallerIdentity");
}

#[tokio::test]
async fn fail_on_is_for_pipelines() {
    let (sim, folder) = sim().await;
    let ran = run_against(&sim, folder.path(), &["scan", "--fail-on", "not-covered,unknown"]).await;
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.starts_with("trustwatch: --fail-on: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("--fail-on: not_covered: "), "{}", ran.stderr);

    let calm = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(run_against(&calm, elsewhere.path(), &["scan", "--fail-on", "unknown"]).await.code, 0);
}

#[tokio::test]
async fn a_query_is_a_table_csv_or_json() {
    let (sim, folder) = sim().await;
    run_against(&sim, folder.path(), &["scan"]).await;
    let sql = "SELECT 'a,b' AS text, 1 AS number, 0.5 AS share, NULL AS empty UNION ALL SELECT 'x', 2, 1.5, 'y'";
    let query = |format: &'static str| run(folder.path(), &["query", "--format", format, sql], &[]);
    assert_eq!(query("csv").stdout, "text,number,share,empty\n\"a,b\",1,0.5,\nx,2,1.5,y\n");
    let json: Value = serde_json::from_str(&query("json").stdout).unwrap();
    assert_eq!(json[0], serde_json::json!({"text": "a,b", "number": 1, "share": 0.5, "empty": null}));
    assert!(query("table").stdout.contains("│ a,b  ┆ 1"), "{}", query("table").stdout);
    let empty =
        run(folder.path(), &["query", "--format", "csv", "SELECT scan_id FROM scan_summary WHERE scan_id < 0"], &[]);
    assert_eq!(empty.stdout, "scan_id\n");

    let wrong = run(folder.path(), &["query", "SELECT * FROM nowhere"], &[]);
    assert_eq!(wrong.code, 1);
    assert!(
        wrong.stderr.contains("running the query: ") && wrong.stderr.contains("no such table: nowhere"),
        "{}",
        wrong.stderr
    );
    let writing = run(folder.path(), &["query", "DELETE FROM visit"], &[]);
    assert_eq!(writing.code, 1);
    assert!(writing.stderr.contains("only reading is allowed"), "{}", writing.stderr);
}

#[tokio::test]
async fn the_doctor_finds_nothing_wrong_where_nothing_is() {
    let sim = Sim::start(&Scenario::calm(2), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ran = run_against(&sim, folder.path(), &["doctor"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    for words in [
        "is not there yet",
        "you are arn:aws:iam::",
        "its management account",
        "1 delegated administrator",
        "the accounts can be listed",
        "can be entered as arn:aws:iam::",
        "it names 19 regions",
        "it lists 0 analyzers in",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains('✗'));
}

#[tokio::test]
async fn the_doctor_says_what_to_do_about_a_role_that_is_missing() {
    let sim = Sim::start(&Scenario::calm(2), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let member = sim.members().remove(0);
    sim.change(&Change::BreakRole { account: member.clone() });
    let ran = run_against(&sim, folder.path(), &["doctor", "--account", &member]).await;
    assert_eq!(ran.code, 1);
    let expected = format!("✗ account {member} cannot be entered as arn:aws:iam::{member}:role/TrustwatchAudit");
    assert!(ran.stdout.contains(&expected), "{}", ran.stdout);
    assert!(ran.stdout.contains("is the role there, does its trust policy name"), "{}", ran.stdout);
}

#[tokio::test]
async fn the_doctor_enters_the_owners_of_the_organizations_analyzers_too() {
    let sim = Sim::start(&Scenario::calm(2), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let management = sim.world().management().unwrap().to_owned();
    sim.change(&Change::BreakRole { account: management.clone() });
    let ran = run_against(&sim, folder.path(), &["doctor"]).await;
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("✗ account {management} cannot be entered as ")), "{}", ran.stdout);
}

#[tokio::test]
async fn migrate_says_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let migrate = || run(folder.path(), &["migrate"], &[]);
    assert_eq!(migrate().stdout, "migrated from version 0 to version 12\n");
    assert_eq!(migrate().stdout, "the schema is up to date, at version 12\n");
}

#[tokio::test]
async fn an_organization_is_retired_when_it_is_configured_no_more() {
    let (sim, folder) = sim().await;
    let folder = folder.path();
    assert_eq!(run_against(&sim, folder, &["scan"]).await.code, 0);
    let refused = run(folder, &["retire", "main"], &[]);
    let said = "trustwatch: retire main: it is in the configuration, and the next scan would bring it back; take it out first\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (2, said));
    std::fs::write(folder.join("trustwatch.toml"), "[[organizations]]\nname = \"other\"\n").unwrap();
    let unknown = run(folder, &["retire", "mian"], &[]);
    let said = "trustwatch: retire mian: nothing is known of an organization of this name; there are: main\n";
    assert_eq!((unknown.code, unknown.stderr.as_str()), (2, said));
    let retired = run(folder, &["retire", "main"], &[]);
    let accounts = sim.world().accounts.len();
    assert_eq!(
        (retired.code, retired.stdout),
        (0, format!("retired main: {accounts} accounts closed; the history stays\n"))
    );
}

#[tokio::test]
async fn an_outdated_schema_is_refused_where_it_may_not_be_migrated_at_start() {
    let (sim, folder) = sim().await;
    std::fs::write(folder.path().join("trustwatch.toml"), "[store]\nmigrate_on_start = false\n").unwrap();
    let ran = run_against(&sim, folder.path(), &["scan"]).await;
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.stderr,
        "trustwatch: the database has schema version 0, and this trustwatch needs 12; run `trustwatch migrate`\n"
    );
    run(folder.path(), &["migrate"], &[]);
    assert_eq!(run_against(&sim, folder.path(), &["scan"]).await.code, 0);
}

#[test]
fn the_policies_are_the_least_that_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("trustwatch.toml"),
        "[[organizations]]\nname = \"main\"\nmember_role = \"Watcher\"\nexternal_id = \"very-secret\"\n",
    )
    .unwrap();
    let arn = "arn:aws-cn:iam::222222222222:role/Central";
    let ran = run(folder.path(), &["policy", "--central-role-arn", arn, "--runs-on", "eks"], &[]);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let member = &json["member_role"];
    assert_eq!(member["trust_policy"]["Statement"][0]["Principal"]["AWS"], arn);
    assert!(member["trust_policy"]["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"].is_string());
    assert_eq!(
        member["permissions_policy"]["Statement"][0]["Action"],
        serde_json::json!([
            "access-analyzer:GetFindingsStatistics",
            "access-analyzer:ListAnalyzers",
            "account:ListRegions"
        ])
    );
    let central = json["central_role"]["permissions_policy"].to_string();
    assert!(central.contains("\"arn:aws-cn:iam::*:role/Watcher\""), "{central}");
    assert!(!ran.stdout.contains("very-secret"));
}

#[test]
fn secrets_are_redacted_and_names_address_organizations() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("trustwatch.toml"),
        "[[organizations]]\nname = \"east\"\n[[organizations]]\nname = \"far-west\"\n",
    )
    .unwrap();
    let environment = [
        ("TRUSTWATCH_ORGANIZATIONS__FAR_WEST__EXTERNAL_ID", "very-secret".to_owned()),
        ("TRUSTWATCH_ORGANIZATIONS__FAR_WEST__REGIONS", "[\"us-east-1\"]".to_owned()),
        ("TRUSTWATCH_LIMITS__IN_FLIGHT", "7".to_owned()),
    ];
    let ran = run(folder.path(), &["config", "show"], &environment);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let (east, west) = ran.stdout.split_once("name = \"far-west\"").unwrap();
    assert!(!east.contains("external_id") && east.contains("regions = \"all-enabled\""), "{east}");
    assert!(west.contains("external_id = \"[redacted]\"") && west.contains("\"us-east-1\""), "{west}");
    assert!(west.contains("in_flight = 7"));
    assert!(!ran.stdout.contains("very-secret"));
}

#[test]
fn help_version_and_completions() {
    let folder = tempfile::tempdir().unwrap();
    let help = run(folder.path(), &["--help"], &[]);
    insta::assert_snapshot!("help", help.stdout);
    let scan = run(folder.path(), &["scan", "--help"], &[]);
    insta::assert_snapshot!("help_scan", scan.stdout);
    let version = run(folder.path(), &["--version"], &[]).stdout;
    assert!(version.starts_with(concat!("trustwatch ", env!("CARGO_PKG_VERSION"), " (")), "{version}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(folder.path(), &["completions", shell], &[]).stdout.contains("trustwatch"));
    }
    assert_eq!(command(folder.path(), &[]).output().unwrap().status.code(), Some(2));
}

#[tokio::test]
async fn old_visits_go_when_they_are_asked_to() {
    let (sim, folder) = sim().await;
    run_against(&sim, folder.path(), &["scan"]).await;
    for (arguments, begins) in [
        (&["prune", "--dry-run"][..], "would delete 0 visits: every one from before "),
        (&["prune"], "deleted 0 visits: "),
    ] {
        let ran = run(folder.path(), arguments, &[]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.starts_with(begins), "{}", ran.stdout);
        assert!(ran.stdout.ends_with("\nthe history is kept for ever\n"), "{}", ran.stdout);
    }
    let limited = [("TRUSTWATCH_STORE__RETENTION__HISTORY", "500days".to_owned())];
    let ran = run(folder.path(), &["prune", "--dry-run"], &limited);
    assert!(ran.stdout.contains("\nwould delete 0 intervals of the history that ended before "), "{}", ran.stdout);
}

#[tokio::test]
async fn a_history_moves_to_postgres_with_one_command_and_is_asked_there() {
    let (sim, folder) = sim().await;
    run_against(&sim, folder.path(), &["scan"]).await;
    let url = crate::postgres::database().await;
    let ran =
        run(folder.path(), &["migrate", "--from", "sqlite://trustwatch.db", "--to", &url, "--to-schema", "team"], &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains(" rows of coverage\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with(", and every row compared; now set store.url to it\n"), "{}", ran.stdout);
    let question = "SELECT status, count(*) AS n FROM current_coverage GROUP BY status ORDER BY status";
    let here = run(folder.path(), &["query", "--format", "csv", question], &[]);
    let there = run(
        folder.path(),
        &["query", "--format", "csv", question, "--store", &url],
        &[("TRUSTWATCH_STORE__SCHEMA", "team".to_owned())],
    );
    assert_eq!(there.stdout, here.stdout);
    assert!(here.stdout.starts_with("status,n\ncovered,"), "{}", here.stdout);
    // And the next scan goes on there.
    let part = run_against(&sim, folder.path(), &["scan", "--store", &url, "--account", &sim.world_caller()]).await;
    assert_eq!((part.code, part.stderr.as_str()), (0, ""));
}

#[test]
fn what_cannot_be_moved_or_scanned_is_refused_before_anything_happens() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = ("sqlite://trustwatch.db", "postgres://me@db/x");
    for (arguments, says) in [
        (
            &["migrate", "--from", from, "--to", "postgres://me:hunter2@db/x"][..],
            "trustwatch: --to postgres://me:redacted@db/x: it holds a password, which would be shown; name a file that holds it\n",
        ),
        (
            &["migrate", "--from", from, "--to", to, "--to-schema", "Team"],
            "trustwatch: --to-schema Team: expected lower-case letters, digits and underscores, beginning with no digit, at most \
             63\n",
        ),
        (
            &["migrate", "--from", from, "--to", to, "--to-password-file", "none"],
            "trustwatch: --to-password-file none: the file cannot be read: No such file or directory (os error 2)\n",
        ),
        (
            &["scan", "--account", "12345"],
            "trustwatch: --account: `12345` is not an AWS account id: twelve digits are expected\n",
        ),
        (
            &["scan", "--ou", "sandbox"],
            "trustwatch: --ou sandbox: expected the id of an OU (ou-…) or of a root (r-…), or its path\n",
        ),
    ] {
        let ran = run(folder.path(), arguments, &[]);
        assert_eq!((ran.code, ran.stderr.as_str()), (2, says), "{arguments:?}");
    }
    let backwards = run(folder.path(), &["migrate", "--from", to, "--to", from], &[]);
    assert_eq!(
        (backwards.code, backwards.stderr.as_str()),
        (
            1,
            "trustwatch: moving the history: expected --from sqlite://FILE and --to postgres://…: the other ways are not offered\n"
        )
    );
    assert_eq!(run(folder.path(), &["migrate", "--from", from], &[]).code, 2);
    // What is not there is not made by moving or pruning it.
    for arguments in [&["prune"][..], &["migrate", "--from", from, "--to", to]] {
        let ran = run(folder.path(), arguments, &[]);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.starts_with("trustwatch: there is no database at trustwatch.db; "), "{}", ran.stderr);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
