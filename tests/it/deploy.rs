//! What is under `deploy/`: each file held against the tool that its users have, and the installation made as the document says.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::awssim::server::environment;
use crate::awssim::{Scenario, Sim};
use crate::binary::run;
use crate::postgres;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn deploy(file: &str) -> PathBuf {
    root().join("deploy").join(file)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A tool that `make test` installs.
fn tool(name: &str) -> Command {
    let path = root().join("target/deploy-tools/bin").join(name);
    assert!(path.exists(), "there is no {}: `make test` installs it", path.display());
    Command::new(path)
}

fn passes(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said =
        [output.stdout.as_slice(), output.stderr.as_slice()].map(|said| String::from_utf8_lossy(said).into_owned());
    assert!(output.status.success(), "{command:?}: {}", said.concat());
    said[0].clone()
}

/// What a tool that `make test` installs prints about what is right.
pub fn checked(name: &str, arguments: &[&str]) -> String {
    passes(tool(name).args(arguments))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(deploy(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|one| one == extension));
    assert!(!found.is_empty(), "{folder}");
    found
}

#[test]
fn the_cloudformation_templates_pass_cfn_lint() {
    passes(tool("cfn-lint").args(files("aws/cloudformation", "yaml")));
}

#[test]
fn the_dockerfile_passes_hadolint() {
    passes(tool("hadolint").arg(deploy("docker/Dockerfile")));
}

#[test]
fn the_kubernetes_manifests_fit_their_schemas() {
    passes(tool("kubernetes-validate").arg("--strict").arg(deploy("kubernetes/trustwatch.yaml")));
}

#[test]
fn the_terraform_modules_are_well_formed() {
    for module in ["member-role", "central-role", "remediation-role", "security-hub-role", "organization"] {
        let folder = format!("aws/terraform/{module}");
        for file in files(&folder, "tf") {
            passes(tool("hcl2tojson").arg(file));
        }
        // Terraform itself is not everywhere: where it is, its own form is held to.
        match Command::new("terraform").args(["fmt", "-check", "-diff"]).arg(deploy(&folder)).output() {
            Ok(output) => assert!(output.status.success(), "{module}: {}", String::from_utf8_lossy(&output.stdout)),
            Err(error) => eprintln!("terraform fmt was not asked: {error}"),
        }
    }
}

#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    let promtool = || Command::new(root().join("target/deploy-tools/promtool"));
    passes(promtool().args(["check", "rules"]).arg(deploy("prometheus/alerts.yaml")));
    passes(promtool().args(["test", "rules"]).arg(deploy("prometheus/alerts.test.yaml")));
    // Every metric that an alert asks for is one that there is.
    let known = read(&root().join("src/metrics.rs"));
    let alerts = read(&deploy("prometheus/alerts.yaml"));
    let words = alerts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let asked: BTreeSet<&str> = words.filter(|word| word.starts_with("trustwatch_")).collect();
    assert!(asked.len() > 5, "{asked:?}");
    asked.iter().for_each(|name| assert!(known.contains(&format!("\"{name}\"")), "{name}"));
    let document = read(&root().join("docs/operations.md"));
    let named = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    named.for_each(|name| assert!(document.contains(&format!("| `{name}` |")), "{name} is not in docs/operations.md"));
}

/// A configuration with which roles need the most.
const READS_FINDINGS: &str = "[findings]\ndetail = \"all\"\n";

/// Who applies plans.
const PEOPLE: &str = "arn:aws:iam::111111111111:role/People";

/// What `trustwatch policy` prints.
fn policies(configuration: &str, runs_on: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("trustwatch.toml"), configuration).unwrap();
    let arn = "arn:aws:iam::111111111111:role/Trustwatch";
    let arguments = [
        "policy",
        "--central-role-arn",
        arn,
        "--runs-on",
        runs_on,
        "--remediation-principal-arn",
        PEOPLE,
        "--security-hub",
    ];
    let ran = run(folder.path(), &arguments, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Actions may be a word or a list, and their order says nothing.
fn normalized(mut value: Value) -> Value {
    for statement in value["Statement"].as_array_mut().unwrap() {
        if let Value::String(one) = &statement["Action"] {
            statement["Action"] = Value::Array(vec![Value::String(one.clone())]);
        }
        statement["Action"].as_array_mut().unwrap().sort_by_key(ToString::to_string);
    }
    value
}

#[test]
fn the_roles_of_the_templates_are_those_that_the_command_prints() {
    const EXTERNAL_ID: &str = "<the external id of your configuration>";
    let with_external_id = "[[organizations]]\nname = \"main\"\nexternal_id = \"an-external-id\"\n";
    for (configuration, external_id, runs_on) in [
        ("", "", "ec2"),
        (READS_FINDINGS, "", "ecs"),
        (with_external_id, EXTERNAL_ID, "ec2"),
        (with_external_id, EXTERNAL_ID, "eks"),
    ] {
        let printed = policies(configuration, runs_on);
        let tag_session = format!("TagSession={}", runs_on == "eks");
        let external_id = format!("ExternalId={external_id}");
        let review_findings = format!("ReviewFindings={}", configuration == READS_FINDINGS);
        let read_findings = format!("ReadFindings={}", configuration == READS_FINDINGS);
        let central = "CentralRoleArn=arn:aws:iam::111111111111:role/Trustwatch";
        let runs_on = format!("RunsOn={runs_on}");
        let people = format!("PrincipalArn={PEOPLE}");
        for (role, file, parameters) in [
            ("member_role", "member-role.yaml", vec![central, &external_id, &tag_session, &read_findings]),
            (
                "central_role",
                "central-role.yaml",
                vec![runs_on.as_str(), &read_findings, "SecurityHubRoleName=TrustwatchSecurityHub"],
            ),
            ("remediation_role", "remediation-role.yaml", vec![&people, &external_id, &tag_session, &review_findings]),
            ("security_hub_role", "security-hub-role.yaml", vec![central, &external_id, &tag_session]),
        ] {
            let mut python = tool("python3");
            python.arg(root().join("tests/deploy/policies.py")).arg(deploy("aws/cloudformation").join(file));
            let made: Value = serde_json::from_str(&passes(python.args(parameters))).unwrap();
            for document in ["trust_policy", "permissions_policy"] {
                let mut printed = normalized(printed[role][document].clone());
                // The command does not know the partition's accounts better than this.
                if let Some(resource) = printed["Statement"][2]["Resource"][0].as_str() {
                    assert!(resource.starts_with("arn:aws:iam::*:role/"), "{resource}");
                }
                let made = normalized(made[document].clone());
                assert_eq!(made, std::mem::take(&mut printed), "{file}, {document}, {runs_on}");
            }
        }
    }
}

/// The IAM actions that a text names.
fn actions(text: &str) -> BTreeSet<String> {
    let is_action = |word: &&str| {
        let services = ["access-analyzer:", "account:", "organizations:", "securityhub:", "sts:"];
        services.iter().any(|service| word.starts_with(service)) && *word != "sts:ExternalId"
    };
    text.split('"').filter(is_action).map(str::to_owned).collect()
}

#[test]
fn terraform_allows_the_same_actions() {
    let printed = policies(READS_FINDINGS, "eks");
    for (module, role) in [
        ("member-role", "member_role"),
        ("central-role", "central_role"),
        ("remediation-role", "remediation_role"),
        ("security-hub-role", "security_hub_role"),
    ] {
        let text = read(&deploy("aws/terraform").join(module).join("main.tf"));
        assert_eq!(actions(&text), actions(&printed[role].to_string()), "{module}");
    }
    let organization = read(&deploy("aws/terraform/organization/main.tf"));
    assert!(organization.contains("cloudformation/member-role.yaml"), "it deploys the template that is checked above");
}

/// The unit, with a program that is there in place of the one that will be.
fn unit(folder: &Path) -> PathBuf {
    let unit = read(&deploy("systemd/trustwatch.service"));
    assert!(unit.contains("ExecStart=/usr/local/bin/trustwatch run"));
    let path = folder.join("trustwatch.service");
    std::fs::write(&path, unit.replace("/usr/local/bin/trustwatch", env!("CARGO_BIN_EXE_trustwatch"))).unwrap();
    path
}

#[test]
fn the_unit_is_understood_by_systemd_and_exposes_little() {
    let folder = tempfile::tempdir().unwrap();
    let unit = unit(folder.path());
    passes(Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&unit));
    // Of 100; a unit without any hardening has 96.
    passes(Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=15"]).arg(&unit));
}

#[test]
fn the_grants_are_those_of_the_sql_document() {
    let grants = read(&deploy("postgres/grants.sql"));
    let document = read(&root().join("docs/sql.md"));
    let section = document.split("## Roles").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = section.split("```sql\n").skip(1).map(|block| block.split("```").next().unwrap());
    assert!(blocks.clone().count() >= 2);
    blocks.for_each(|block| assert!(grants.contains(block), "{block}"));
}

/// The commands of one section of `docs/operations.md`.
fn commands_of(section: &str) -> String {
    let document = read(&root().join("docs/operations.md"));
    let section = document.split(&format!("\n## {section}\n")).nth(1).expect("the section is there");
    let section = section.split("\n## ").next().unwrap();
    section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

/// Programs that stand in for those of a real machine: who is root already needs no sudo, and there is no systemd to talk to.
fn stand_ins(folder: &Path) {
    let write = |name: &str, script: &str| {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    write("sudo", "[ \"$1\" = -u ] && shift 2\nexec \"$@\"");
    write("systemctl", "echo \"systemctl $*\" >> \"$DESTDIR/systemctl\"");
    write("cargo", "exit 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_installation_of_the_document_works_as_far_as_a_machine_without_systemd_allows() {
    let server = postgres::start();
    let url: url::Url = server.url.parse().unwrap();
    let sim = Sim::start(&Scenario::calm(3), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let destination = folder.path().join("root");
    let bin = folder.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(&destination).unwrap();
    stand_ins(&bin);
    let path = format!(
        "{}:{}:{}:{}",
        bin.display(),
        destination.join("usr/local/bin").display(),
        server.own.as_ref().unwrap().binaries.display(),
        std::env::var("PATH").unwrap()
    );
    // The server of the tests has another owner, and is elsewhere.
    let port = url.port().unwrap();
    let etc = destination.join("etc/trustwatch");
    let script = commands_of("Install under systemd, with Postgres on this machine")
        .replace("deploy/systemd/install", &format!("deploy/systemd/install {}", env!("CARGO_BIN_EXE_trustwatch")))
        .replace("/etc/trustwatch", &etc.display().to_string())
        .replace(
            "postgres://postgres@localhost/trustwatch?host=/var/run/postgresql",
            &format!("postgres://owner@127.0.0.1:{port}/trustwatch?sslmode=disable"),
        );
    let configure = format!(
        "sed -i 's#@localhost/#@127.0.0.1:{port}/#; s#/etc/trustwatch#{}#' {}/trustwatch.toml",
        etc.display(),
        etc.display()
    );
    let script = script.replace("password=$(", &format!("{configure}\npassword=$("));
    let caller = sim.world_caller();
    let output = Command::new("bash")
        .args(["-euxc", &script])
        .current_dir(root())
        .env("PATH", &path)
        .env("DESTDIR", &destination)
        .envs([("PGHOST", "127.0.0.1"), ("PGUSER", "owner"), ("PGDATABASE", "postgres")])
        .env("PGPORT", port.to_string())
        .envs(environment(&sim.url(), &caller))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(read(&destination.join("systemctl")), "systemctl enable --now trustwatch\n");

    // What systemd would do now: the unit's own command, with its environment and its credentials.
    let unit = read(&destination.join("etc/systemd/system/trustwatch.service"));
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
    let (name, file) = value("LoadCredential=").split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let credentials = folder.path().join("credentials");
    std::fs::create_dir_all(&credentials).unwrap();
    std::fs::copy(file.replace("/etc/trustwatch", &etc.display().to_string()), credentials.join(name)).unwrap();
    // The service is not root: it cannot read where the secret is.
    std::fs::remove_file(etc.join("secrets/database-password")).unwrap();
    let start = value("ExecStart=").replace("/etc/trustwatch", &etc.display().to_string());
    let mut words = start.split_whitespace();
    let program = destination.join(words.next().unwrap().trim_start_matches('/'));
    let socket_path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&socket_path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut daemon = Command::new(program)
        .args(words)
        .env_clear()
        .current_dir(folder.path())
        .env("CREDENTIALS_DIRECTORY", &credentials)
        .env("NOTIFY_SOCKET", &socket_path)
        .env("TRUSTWATCH_HTTP__ENABLED", "false")
        .envs(environment(&sim.url(), &caller))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut heard = [0; 64];
    let length = socket.recv(&mut heard).unwrap();
    assert_eq!(String::from_utf8_lossy(&heard[..length]).trim(), "READY=1");
    sim.counters().reach("access-analyzer:ListAnalyzers", 5).await;
    kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
}
