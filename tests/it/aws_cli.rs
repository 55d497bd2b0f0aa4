//! AWS's own command line against the simulation: every operation that it serves, pages and errors included. What AWS's
//! client can read, and what it refuses to send, is AWS's protocol and not ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::awssim::control::Change;
use crate::awssim::server::environment;
use crate::awssim::weather::{Effect, Rule};
use crate::awssim::{Scenario, Sim};

fn aws_cli() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/aws-cli/bin/aws");
    assert!(path.exists(), "{} is missing: `make test` installs it", path.display());
    path
}

/// Whose environment the command line has.
struct Client {
    folder: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Client {
    fn of(sim: &Sim) -> Self {
        let caller = sim.world().caller.clone();
        Self::of_account(sim, &caller)
    }

    fn of_account(sim: &Sim, account: &str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: environment(&sim.url(), account) }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    async fn call(&self, arguments: &str) -> Result<Value, String> {
        let mut command = Command::new(aws_cli());
        command
            .args(arguments.split_whitespace())
            .args(["--output", "json"])
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("AWS_MAX_ATTEMPTS", "1")
            .envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
    }

    async fn ok(&self, arguments: &str) -> Value {
        self.call(arguments).await.unwrap_or_else(|error| panic!("aws {arguments}: {error}"))
    }

    /// Expects an error with this code.
    async fn refused(&self, arguments: &str, code: &str) {
        let error = self.call(arguments).await.expect_err(arguments);
        assert!(error.contains(&format!("({code})")), "aws {arguments}: {error}");
    }
}

fn length(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn sts() {
    let sim = Sim::start(&Scenario { external_id: Some("an-id".into()), ..Scenario::calm(2) }, 0).await.unwrap();
    let client = Client::of(&sim);
    let me = client.ok("sts get-caller-identity").await;
    assert_eq!(me["Account"], sim.world().caller);
    let member = sim.world().management().unwrap().to_owned();
    let role = format!("arn:aws:iam::{member}:role/TrustwatchAudit");
    let assume = format!("sts assume-role --role-session-name test --role-arn {role}");
    let session =
        client.ok(&format!("{assume} --external-id an-id --source-identity me --tags Key=team,Value=x")).await;
    assert_eq!(session["AssumedRoleUser"]["Arn"], format!("arn:aws:sts::{member}:assumed-role/TrustwatchAudit/test"));
    let recorded = sim.assumed().pop().unwrap();
    assert_eq!((&recorded["source_identity"], &recorded["tags"][0]["Value"]), (&"me".into(), &"x".into()));

    let credentials = &session["Credentials"];
    let part = |name: &str| credentials[name].as_str().unwrap().to_owned();
    let inside = || {
        Client::of(&sim)
            .with("AWS_ACCESS_KEY_ID", &part("AccessKeyId"))
            .with("AWS_SECRET_ACCESS_KEY", &part("SecretAccessKey"))
    };
    let entered = inside().with("AWS_SESSION_TOKEN", &part("SessionToken"));
    assert_eq!(entered.ok("sts get-caller-identity").await["Account"], member);
    inside().with("AWS_SESSION_TOKEN", "wrong").refused("sts get-caller-identity", "InvalidClientTokenId").await;
    sim.change(&Change::ExpireSessions {});
    entered.refused("sts get-caller-identity", "ExpiredToken").await;
    entered.refused("accessanalyzer list-analyzers", "ExpiredTokenException").await;

    client.refused(&assume, "AccessDenied").await;
    client.refused(&format!("{assume} --external-id wrong"), "AccessDenied").await;
    let nobody = "arn:aws:iam::123456789012:role/None";
    client.refused(&format!("sts assume-role --role-session-name test --role-arn {nobody}"), "AccessDenied").await;
    let long = format!("{assume} --external-id an-id --duration-seconds 43200");
    client.refused(&long, "ValidationError").await;
    let policy = format!("{assume} --external-id an-id --policy nonsense");
    client.refused(&policy, "MalformedPolicyDocument").await;
    let stranger = Client::of(&sim).with("AWS_ACCESS_KEY_ID", "AKIASIM0000000000000");
    stranger.refused("sts get-caller-identity", "InvalidClientTokenId").await;
    let forger = Client::of(&sim).with("AWS_SECRET_ACCESS_KEY", "forged");
    forger.refused("sts get-caller-identity", "SignatureDoesNotMatch").await;
    forger.refused("accessanalyzer list-analyzers", "InvalidSignatureException").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn organizations() {
    let sim = Sim::start(&Scenario { empty_pages: true, ..Scenario::calm(45) }, 0).await.unwrap();
    let client = Client::of(&sim);
    let (management, account) = {
        let world = sim.world();
        (world.management().unwrap().to_owned(), world.accounts.keys().next_back().unwrap().clone())
    };
    let organization = client.ok("organizations describe-organization").await;
    assert_eq!(organization["Organization"]["MasterAccountId"], management);
    assert_eq!(length(&client.ok("organizations list-accounts").await["Accounts"]), 47);
    let page = client.ok("organizations list-accounts --max-items 5 --page-size 5").await;
    assert!(length(&page["Accounts"]) <= 5 && page["NextToken"].is_string(), "{page}");
    let described = client.ok(&format!("organizations describe-account --account-id {account}")).await;
    assert_eq!(described["Account"]["State"], "ACTIVE");
    assert!(described["Account"].get("Status").is_none(), "the retired field is gone");
    assert!(described["Account"]["Paths"][0].as_str().unwrap().ends_with(&format!("/{account}/")));
    let roots = client.ok("organizations list-roots").await;
    let root = roots["Roots"][0]["Id"].as_str().unwrap().to_owned();
    let ous = client.ok(&format!("organizations list-organizational-units-for-parent --parent-id {root}")).await;
    assert_eq!(length(&ous["OrganizationalUnits"]), 3);
    let in_root = client.ok(&format!("organizations list-accounts-for-parent --parent-id {root}")).await;
    assert_eq!(in_root["Accounts"][0]["Id"], management);
    let parents = client.ok(&format!("organizations list-parents --child-id {account}")).await;
    assert_eq!(parents["Parents"][0]["Type"], "ORGANIZATIONAL_UNIT");
    let delegated = "organizations list-delegated-administrators --service-principal access-analyzer.amazonaws.com";
    assert_eq!(client.ok(delegated).await["DelegatedAdministrators"][0]["Id"], sim.world().caller);
    let trusted = client.ok("organizations list-aws-service-access-for-organization").await;
    assert_eq!(length(&trusted["EnabledServicePrincipals"]), 2);
    let tags = client.ok(&format!("organizations list-tags-for-resource --resource-id {account}")).await;
    assert_eq!(tags["Tags"][0]["Key"], "team");

    client.refused("organizations describe-account --account-id 123456789012", "AccountNotFoundException").await;
    client.refused("organizations list-accounts-for-parent --parent-id r-none", "ParentNotFoundException").await;
    client.refused("organizations list-parents --child-id 123456789012", "ChildNotFoundException").await;
    client.refused("organizations list-tags-for-resource --resource-id 123456789012", "TargetNotFoundException").await;
    client
        .refused(
            "organizations list-accounts --starting-token eyJOZXh0VG9rZW4iOiAibm9uc2Vuc2UifQ==",
            "InvalidInputException",
        )
        .await;
    let member = Client::of_account(&sim, &account);
    member.refused("organizations list-accounts", "AccessDeniedException").await;
    assert!(member.ok("organizations describe-organization").await["Organization"]["Id"].is_string());

    let alone = Sim::start(&Scenario { organization: false, ..Scenario::calm(0) }, 0).await.unwrap();
    let client = Client::of(&alone);
    client.refused("organizations describe-organization", "AWSOrganizationsNotInUseException").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn account_management() {
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let client = Client::of(&sim);
    assert_eq!(length(&client.ok("account list-regions").await["Regions"]), 19);
    let disabled = client.ok("account list-regions --region-opt-status-contains DISABLED --max-results 1").await;
    assert_eq!(disabled["Regions"][0]["RegionName"], "af-south-1");
    let status = client.ok("account get-region-opt-status --region-name us-east-1").await;
    assert_eq!(status["RegionOptStatus"], "ENABLED_BY_DEFAULT");
    client.refused("account get-region-opt-status --region-name nowhere-1", "ValidationException").await;
    let other = sim.world().management().unwrap().to_owned();
    assert_eq!(length(&client.ok(&format!("account list-regions --account-id {other}")).await["Regions"]), 19);
}

#[tokio::test(flavor = "multi_thread")]
async fn access_analyzer() {
    let sim = Sim::start(&Scenario { analyzer_page_size: 1, ..Scenario::calm(1) }, 0).await.unwrap();
    let client = Client::of(&sim);
    let aa = |what: &str| format!("accessanalyzer {what}");
    let create = |name: &str, kind: &str| aa(&format!("create-analyzer --analyzer-name {name} --type {kind}"));
    for (name, kind) in [
        ("own", "ACCOUNT"),
        ("org", "ORGANIZATION"),
        ("unused", "ACCOUNT_UNUSED_ACCESS"),
        ("org-unused", "ORGANIZATION_UNUSED_ACCESS"),
        ("internal", "ACCOUNT_INTERNAL_ACCESS"),
        ("org-internal", "ORGANIZATION_INTERNAL_ACCESS"),
    ] {
        assert!(client.ok(&create(name, kind)).await["arn"].as_str().unwrap().ends_with(&format!("analyzer/{name}")));
    }
    let status = |value: &Value| value["analyzer"]["status"].as_str().unwrap().to_owned();
    assert_eq!(status(&client.ok(&aa("get-analyzer --analyzer-name own")).await), "CREATING");
    assert_eq!(status(&client.ok(&aa("get-analyzer --analyzer-name own")).await), "ACTIVE");
    assert_eq!(length(&client.ok(&aa("list-analyzers")).await["analyzers"]), 6, "six pages of one");
    assert_eq!(length(&client.ok(&aa("list-analyzers --type ORGANIZATION")).await["analyzers"]), 1);

    client.refused(&create("own", "ACCOUNT"), "ConflictException").await;
    client.refused(&create("own-2", "ACCOUNT"), "ServiceQuotaExceededException").await;
    client.refused(&create("_own", "ACCOUNT"), "ValidationException").await;
    client.refused(&aa("get-analyzer --analyzer-name none"), "ResourceNotFoundException").await;
    client.refused(&aa("list-analyzers --region af-south-1"), "UnrecognizedClientException").await;
    client
        .refused(&aa("list-analyzers --starting-token eyJuZXh0VG9rZW4iOiAibm9uc2Vuc2UifQ=="), "ValidationException")
        .await;
    let member = sim.members().remove(0);
    let refused = Client::of_account(&sim, &member);
    refused.refused(&create("org", "ORGANIZATION"), "AccessDeniedException").await;

    let arn = |name: &str| format!("arn:aws:access-analyzer:us-east-1:{}:analyzer/{name}", sim.world_caller());
    let all = client.ok(&aa(&format!("list-findings --analyzer-arn {}", arn("own")))).await;
    let found = all["findings"].as_array().unwrap();
    assert!(found.iter().all(|finding| finding["isPublic"].is_boolean()));
    let v2 =
        client.ok(&aa(&format!("list-findings-v2 --analyzer-arn {} --max-items 2 --page-size 1", arn("unused")))).await;
    assert!(v2["findings"].as_array().unwrap().iter().all(|finding| finding["findingType"] == "UnusedIAMRole"));
    client.refused(&aa(&format!("list-findings --analyzer-arn {}", arn("unused"))), "ValidationException").await;
    let statistics = client.ok(&aa(&format!("get-findings-statistics --analyzer-arn {}", arn("own")))).await;
    let totals = &statistics["findingsStatistics"][0]["externalAccessFindingsStatistics"];
    let active = |list: &[Value]| list.iter().filter(|finding| finding["status"] == "ACTIVE").count() as u64;
    assert_eq!(totals["totalActiveFindings"], active(found));
    let id =
        found.iter().find(|finding| finding["status"] == "ACTIVE").expect("an active finding")["id"].as_str().unwrap();
    client.ok(&aa(&format!("update-findings --analyzer-arn {} --status ARCHIVED --ids {id}", arn("own")))).await;
    let after = client.ok(&aa(&format!("list-findings --analyzer-arn {}", arn("own")))).await;
    assert_eq!(active(after["findings"].as_array().unwrap()), active(found) - 1);
    let rule = "--analyzer-name own --rule-name ours";
    client.ok(&aa(&format!("create-archive-rule {rule} --filter resourceType={{eq=AWS::SQS::Queue}}"))).await;
    let rules = client.ok(&aa("list-archive-rules --analyzer-name own")).await;
    assert_eq!(rules["archiveRules"][0]["filter"]["resourceType"]["eq"][0], "AWS::SQS::Queue");
    client.ok(&aa(&format!("delete-archive-rule {rule}"))).await;
    assert_eq!(client.ok(&aa("list-archive-rules --analyzer-name own")).await["archiveRules"], serde_json::json!([]));
    let none = format!("update-findings --analyzer-arn {} --status ARCHIVED --ids none", arn("own"));
    client.refused(&aa(&none), "ValidationException").await;

    assert_eq!(client.ok(&aa("delete-analyzer --analyzer-name own")).await, Value::Null);
    client.refused(&aa("delete-analyzer --analyzer-name own"), "ResourceNotFoundException").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_has_its_own_throttling_and_its_own_fault() {
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let client = Client::of(&sim);
    let all = |effect| {
        vec![Rule {
            service: None,
            operation: None,
            account: None,
            region: None,
            probability: 1.0,
            first: None,
            effect,
        }]
    };
    let calls = [
        "sts get-caller-identity",
        "organizations list-roots",
        "account list-regions",
        "accessanalyzer list-analyzers",
    ];
    sim.weather(all(Effect::Throttle));
    for (call, code) in
        calls.iter().zip(["Throttling", "TooManyRequestsException", "TooManyRequestsException", "ThrottlingException"])
    {
        client.refused(call, code).await;
    }
    sim.weather(all(Effect::Error500));
    for (call, code) in
        calls.iter().zip(["InternalFailure", "ServiceException", "InternalServerException", "InternalServerException"])
    {
        client.refused(call, code).await;
    }
}

#[tokio::test]
async fn security_hub() {
    let sim = Sim::start(&Scenario::calm(2), 0).await.unwrap();
    let client = Client::of(&sim);
    let account = sim.world_caller();
    let finding = |product: &str| {
        serde_json::json!([{
            "SchemaVersion": "2018-10-08", "Id": "one", "GeneratorId": "test", "AwsAccountId": account, "Types": ["Unusual Behaviors"],
            "ProductArn": format!("arn:aws:securityhub:eu-west-1:{account}:product/{product}/default"),
            "CreatedAt": "2026-01-01T00:00:00Z", "UpdatedAt": "2026-01-01T00:00:00Z", "Severity": {"Label": "LOW"},
            "Title": "title", "Description": "description", "Resources": [{"Type": "AwsAccount", "Id": "AWS::::Account:1"}],
        }])
    };
    let import = |product: &str| {
        let file = client.folder.path().join(format!("{product}.json"));
        std::fs::write(&file, finding(product).to_string()).unwrap();
        format!("securityhub batch-import-findings --region eu-west-1 --findings file://{}", file.display())
    };
    let other = client.ok(&import("999999999999")).await;
    assert_eq!((&other["FailedCount"], &other["FailedFindings"][0]["Id"]), (&1.into(), &"one".into()));
    assert_eq!(client.ok(&import(&account)).await["SuccessCount"], 1);
    let got = client.ok("securityhub get-findings --region eu-west-1").await;
    assert_eq!(got["Findings"][0]["Title"], "title");
    assert_eq!(client.ok("securityhub get-findings --region us-east-1").await["Findings"], serde_json::json!([]));
    sim.world().hub_disabled.insert(account.clone());
    client.refused(&import(&account), "InvalidAccessException").await;
}
