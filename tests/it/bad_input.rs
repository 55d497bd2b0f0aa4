//! Bad input: a clear error that names the key, the value, where it came from and what would be right, and exit code 2.

use std::path::Path;

use crate::awssim::{Scenario, Sim};
use crate::binary::{Ran, run, run_against, run_as};

/// Checks a configuration and expects exactly this on standard error.
fn refused(toml: &str, environment: &[(&str, &str)], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.toml"), toml).unwrap();
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let Ran { code, stderr, .. } = run(folder.path(), &["config", "check", "--config", "t.toml"], &environment);
    assert_eq!(stderr, format!("trustwatch: {expected}\n"));
    assert_eq!(code, 2);
}

/// What is said of a configuration that is refused.
pub fn faults_of(toml: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.toml"), toml).unwrap();
    let Ran { code, stderr, .. } = run(folder.path(), &["config", "check", "--config", "t.toml"], &[]);
    assert_eq!(code, 2, "{stderr}");
    stderr
}

#[test]
fn a_misspelt_key() {
    refused(
        "[[organizations]]\nname = \"main\"\nmember_rol = \"x\"\n",
        &[],
        "the configuration has a fault\n  organizations.main.member_rol (t.toml, line 3): unknown key; did you mean `member_role`?",
    );
}

#[test]
fn a_key_that_is_like_no_other() {
    refused(
        "[schedule]\nfrequency = 1\n",
        &[],
        "the configuration has a fault\n  schedule.frequency (t.toml, line 2): unknown key; known here: cron, time_zone, jitter, on_start, missed",
    );
}

#[test]
fn a_wrong_type() {
    refused(
        "[limits]\nin_flight = \"many\"\n",
        &[],
        "the configuration has a fault\n  limits.in_flight = \"many\" (t.toml, line 2): expected a whole number, found a string",
    );
}

#[test]
fn a_word_outside_the_set() {
    refused(
        "[[organizations]]\nname = \"main\"\nrequirement = \"any\"\n",
        &[],
        "the configuration has a fault\n  organizations.main.requirement = \"any\" (t.toml, line 3): expected one of \
         \"account\", \"organization\", \"either\", \"both\"",
    );
}

#[test]
fn a_number_out_of_range_and_a_duration_without_a_unit() {
    refused(
        "[limits]\nattempts = 0\nattempt_timeout = \"10\"\n",
        &[],
        "the configuration has 2 faults\n  limits.attempt_timeout = \"10\" (t.toml, line 3): expected a duration with its \
         unit, such as \"30s\" or \"15m\"\n  limits.attempts = 0 (t.toml, line 2): expected a number from 1 to 20",
    );
}

#[test]
fn rates_of_operations_that_are_not_called_that_are_no_rates_or_that_lack_a_half() {
    refused(
        "[limits.rates]\n\"sts:AssumeRoles\" = { per_second = 5, burst = 5 }\n\"sts:AssumeRole\" = { per_second = 0, burst = 5 }\n\
         \"organizations:ListRoots\" = { per_second = 1 }\n\"account:ListRegions\" = \"fast\"\n",
        &[],
        "the configuration has 4 faults\n  limits.rates.account:ListRegions = \"fast\" (t.toml, line 5): expected a table, found a \
         string\n  limits.rates.organizations:ListRoots (t.toml, line 4): the key `burst` is missing\n  \
         limits.rates.sts:AssumeRole.per_second = 0 (t.toml, line 3): expected a number from 0.001 to 1000000\n  \
         limits.rates.sts:AssumeRoles (t.toml, line 2): unknown key; did you mean `sts:AssumeRole`?",
    );
}

#[test]
fn an_empty_word_chooses_nobody() {
    const EMPTY: &str = "an empty word: expected a name or a pattern; leave it out if nothing is meant";
    refused(
        "[[organizations]]\nname = \"main\"\nexclude = { ou_paths = [\"\"] }\nexclude_regions = [{ ou_paths = [\"*\"], regions = [\" \"] }]\n\
         [[alerts]]\nname = \"team\"\nchannel = \"slack\"\nurl = \"https://example.com/x\"\naccounts = { teams = [\"\"] }\n",
        &[("TRUSTWATCH_ORGANIZATIONS__MAIN__INCLUDE__NAMES", "")],
        &format!(
            "the configuration has 4 faults\n  organizations.main.include.names = [\"\"] (environment variable \
             TRUSTWATCH_ORGANIZATIONS__MAIN__INCLUDE__NAMES): {EMPTY}\n  organizations.main.exclude.ou_paths = [\"\"] (t.toml, line 3): \
             {EMPTY}\n  organizations.main.exclude_regions[0].regions = [\" \"] (t.toml, line 4): {EMPTY}\n  alerts[0].accounts.teams = [\"\"] \
             (t.toml, line 9): {EMPTY}"
        ),
    );
}

#[test]
fn a_channel_for_an_organization_that_is_not_there_is_missed_beside_one_that_is() {
    refused(
        "[[organizations]]\nname = \"corp\"\n[[alerts]]\nname = \"soc\"\nchannel = \"slack\"\nurl = \"https://example.com/x\"\n\
         organizations = [\"corp\", \"main\"]\n",
        &[],
        "the configuration has a fault\n  alerts[0].organizations = [\"corp\", \"main\"] (t.toml, line 7): no organization is named \
         \"main\"; configured: corp",
    );
}

#[test]
fn a_secret_that_cannot_be_read_is_the_credential_that_systemd_hands_over() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("trustwatch.toml"), "[http]\ntoken_file = \"/nowhere/token\"\n").unwrap();
    let check = |handed: &str| {
        let handed = [("CREDENTIALS_DIRECTORY", folder.join(handed).display().to_string())];
        run(folder, &["config", "check"], &handed)
    };
    assert_eq!(check("nothing").code, 2);
    std::fs::create_dir(folder.join("handed")).unwrap();
    std::fs::write(folder.join("handed/token"), "0123456789abcdef\n").unwrap();
    let taken = check("handed");
    assert_eq!(taken.code, 0, "{}", taken.stderr);
}

#[test]
fn the_role_that_imports_findings_is_neither_of_the_others() {
    for (role, other) in [
        ("TrustwatchAudit", "the member role, which may change nothing"),
        ("TrustwatchRemediate", "`remediation.role`"),
    ] {
        refused(
            &format!("[export]\nsecurity_hub_role = \"{role}\"\n[remediation]\nrole = \"TrustwatchRemediate\"\n"),
            &[],
            &format!(
                "the configuration has a fault\n  export.security_hub_role = \"{role}\" (t.toml, line 2): this is {other}: expected a role \
                 of its own"
            ),
        );
    }
}

#[test]
fn a_call_that_ends_before_its_first_attempt_may() {
    refused(
        "[limits]\ncall_deadline = \"10s\"\n",
        &[],
        "the configuration has a fault\n  limits.call_deadline = \"10s\" (t.toml, line 2): expected more than limits.attempt_timeout, \
         which is 10s",
    );
}

#[test]
fn every_fault_is_reported_at_once() {
    refused(
        "[[organizations]]\nname = \"main\"\nmember_role = \"arn:aws:iam::1:role\"\n\n[schedule]\ncron = 5\n[stor]\n",
        &[("TRUSTWATCH_LOG__FORMAT", "loud")],
        "the configuration has 4 faults\n  \
         log.format = \"loud\" (environment variable TRUSTWATCH_LOG__FORMAT): expected one of \"auto\", \"text\", \"json\"\n  \
         organizations.main.member_role = \"arn:aws:iam::1:role\" (t.toml, line 3): malformed role ARN; expected one like \
         \"arn:{partition}:iam::{account_id}:role/TrustwatchAudit\"\n  \
         schedule.cron = 5 (t.toml, line 6): expected a string, found a number\n  \
         stor (t.toml, line 7): unknown key; did you mean `store`?",
    );
}

#[test]
fn an_unknown_environment_variable() {
    refused(
        "",
        &[("TRUSTWATCH_STORE__URI", "sqlite://x")],
        "the configuration has a fault\n  store.uri (environment variable TRUSTWATCH_STORE__URI): unknown key; did you mean \
         `url`?",
    );
    refused(
        "",
        &[("TRUSTWATCH_STORE_URL", "sqlite://x")],
        "the configuration has a fault\n  store_url (environment variable TRUSTWATCH_STORE_URL): unknown key; known here: \
         organizations, store, schedule, limits, remediation, findings, export, alerting, alerts, http, log, tracing; levels are separated by two underscores",
    );
    refused(
        "",
        &[("TRUSTWATCH_ORGANIZATIONS__PROD__EXTERNAL_ID", "secret-id")],
        "the configuration has a fault\n  organizations.prod.external_id (environment variable \
         TRUSTWATCH_ORGANIZATIONS__PROD__EXTERNAL_ID): no organization is named `prod`; configured: main",
    );
}

#[test]
fn the_variables_that_kubernetes_injects_are_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let injected = [
        ("TRUSTWATCH_SERVICE_HOST", "10.0.0.1"),
        ("TRUSTWATCH_SERVICE_PORT", "9464"),
        ("TRUSTWATCH_SERVICE_PORT_HTTP", "9464"),
        ("TRUSTWATCH_PORT", "tcp://10.0.0.1:9464"),
        ("TRUSTWATCH_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
        ("TRUSTWATCH_PORT_9464_TCP_ADDR", "10.0.0.1"),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    assert_eq!(run(folder.path(), &["config", "check"], &injected).code, 0);
}

#[test]
fn an_unreadable_file() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["config", "check", "--config", "none.toml"], &[]);
    assert_eq!(
        ran.stderr,
        "trustwatch: the configuration has a fault\n  --config = \"none.toml\": the file cannot be read: No such file or \
         directory (os error 2)\n"
    );
    assert_eq!(ran.code, 2);
}

#[test]
fn a_file_that_is_no_toml() {
    refused(
        "[store]\nurl = sqlite\n",
        &[],
        "the configuration has a fault\n  --config = \"t.toml\" (t.toml, line 2): not valid TOML: invalid string, expected \
         `\"`, `'`",
    );
}

#[test]
fn a_malformed_role_arn() {
    refused(
        "[[organizations]]\nname = \"main\"\nreader_role_arn = \"arn:aws:iam::11111111111:role/OrgReader\"\n",
        &[],
        "the configuration has a fault\n  organizations.main.reader_role_arn = \"arn:aws:iam::11111111111:role/OrgReader\" \
         (t.toml, line 3): malformed role ARN; expected one like \"arn:aws:iam::111111111111:role/OrgReader\"",
    );
}

#[test]
fn an_external_id_that_is_too_short_is_not_repeated() {
    refused(
        "",
        &[("TRUSTWATCH_ORGANIZATIONS__MAIN__EXTERNAL_ID", "7")],
        "the configuration has a fault\n  organizations.main.external_id = [redacted] (environment variable \
         TRUSTWATCH_ORGANIZATIONS__MAIN__EXTERNAL_ID): expected 2 to 1224 characters, found 1",
    );
}

#[test]
fn a_secret_of_the_wrong_type_is_not_repeated() {
    refused(
        "[[organizations]]\nname = \"main\"\nexternal_id = 123456\n",
        &[],
        "the configuration has a fault\n  organizations.main.external_id = [redacted] (t.toml, line 3): expected a string, \
         found a number",
    );
}

#[test]
fn a_number_like_external_id_keeps_its_leading_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("TRUSTWATCH_ORGANIZATIONS__MAIN__MEMBER_ROLE", "0042".to_owned())];
    let ran = run(folder.path(), &["config", "show"], &environment);
    assert!(ran.stdout.contains("member_role = \"0042\""), "{}", ran.stdout);
}

#[test]
fn a_secret_file_that_is_missing_and_two_sources_of_one_secret() {
    refused(
        "[[organizations]]\nname = \"a\"\nexternal_id_file = \"/nowhere/id\"\n[[organizations]]\nname = \"b\"\nexternal_id = \
         \"an-id\"\nexternal_id_file = \"/nowhere/id\"\n",
        &[],
        "the configuration has 2 faults\n  organizations.a.external_id_file = \"/nowhere/id\" (t.toml, line 3): the file \
         cannot be read: No such file or directory (os error 2)\n  organizations.b.external_id_file (t.toml, line 7): both \
         `external_id` and `external_id_file` are set; keep one",
    );
}

#[test]
fn organizations_without_a_name_or_with_the_same() {
    refused(
        "[[organizations]]\nmember_role = \"x\"\n\n[[organizations]]\nname = \"Main\"\n\n[[organizations]]\nname = \"main\"\n",
        &[],
        "the configuration has 2 faults\n  organizations[0] (t.toml, line 1): the key `name` is missing: every organization \
         needs a name of its own\n  organizations[2] = \"main\" (t.toml, line 7): a second organization of this name; names \
         must differ in more than case and punctuation",
    );
}

#[test]
fn a_store_of_unknown_kind() {
    refused(
        "[store]\nurl = \"mysql://root:hunter2@db/trustwatch\"\n",
        &[],
        "the configuration has a fault\n  store.url = \"mysql://root:redacted@db/trustwatch\" (t.toml, line 2): a store of \
         unknown kind; expected \"sqlite://FILE\" or \"postgres://USER@HOST/DATABASE\"",
    );
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["scan", "--store", "postgres://me:hunter2@db/trustwatch"], &[]);
    assert_eq!(
        ran.stderr,
        "trustwatch: the configuration has a fault\n  store.url = \"postgres://me:redacted@db/trustwatch\" (flag --store): it \
         holds a password, which would be shown; name a file that holds it\n"
    );
    assert_eq!(ran.code, 2);
}

#[test]
fn a_store_that_contradicts_itself() {
    refused(
        "[store]\nurl = \"postgres://me@db/x?sslmode=prefer\"\nschema = \"Team\"\npassword = \"hunter2\"\n\
         password_file = \"none\"\n[store.retention]\nvisits = \"500days\"\nhistory = \"30days\"\n",
        &[],
        "the configuration has 5 faults\n  \
         store.url = \"postgres://me@db/x?sslmode=prefer\" (t.toml, line 2): its sslmode is not one of verify-full, verify-ca, \
         require and disable\n  \
         store.schema = \"Team\" (t.toml, line 3): expected lower-case letters, digits and underscores, beginning with no \
         digit, at most 63\n  \
         store.password_file (t.toml, line 5): both `password` and `password_file` are set; keep one\n  \
         store.retention.history = \"30days\" (t.toml, line 8): expected no less than store.retention.daily_visits, which is \
         400days: a visit says little without what it saw\n  \
         store.retention.daily_visits = \"400days\" (t.toml, line 6): expected no less than store.retention.visits, which is \
         500days",
    );
}

#[test]
fn a_schedule_that_never_comes() {
    refused(
        "[schedule]\ncron = \"61 * * * *\"\ntime_zone = \"Berlin\"\n",
        &[],
        "the configuration has 2 faults\n  schedule.cron = \"61 * * * *\" (t.toml, line 2): Component error: Number out of \
         bounds; expected a cron expression such as \"17 * * * *\" for every hour\n  \
         schedule.time_zone = \"Berlin\" (t.toml, line 3): not an IANA time zone; expected one such as \"Europe/Berlin\" or \
         \"UTC\"",
    );
}

#[test]
fn a_port_that_others_could_reach() {
    refused(
        "[http]\nlisten = \"0.0.0.0:9464\"\n",
        &[],
        "the configuration has a fault\n  http.listen = \"0.0.0.0:9464\" (t.toml, line 2): others could reach it: expected an \
         address on the loopback interface, such as \"127.0.0.1:9464\", or `http.token_file`, or \
         `http.without_token = true`",
    );
}

#[test]
fn a_token_that_could_be_guessed_and_one_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short");
    std::fs::write(&short, "secret").unwrap();
    let short = short.display();
    refused(
        &format!("[http]\ntoken_file = \"{short}\"\n"),
        &[],
        &format!(
            "the configuration has a fault\n  http.token_file = \"{short}\" (t.toml, line 2): what the file holds: expected a \
             token of at least 16 letters, digits or any of -._~+/=, such as `openssl rand -hex 32` makes"
        ),
    );
    refused(
        "[http]\ntoken_file = \"/nowhere\"\nwithout_token = true\n",
        &[],
        "the configuration has 2 faults\n  http.token_file = \"/nowhere\" (t.toml, line 2): the file cannot be read: No such file \
         or directory (os error 2)\n  http.without_token = true (t.toml, line 3): there is a `token_file`; keep one of the two",
    );
}

#[test]
fn a_lease_an_outage_and_a_jitter_out_of_range() {
    refused(
        "[store]\nlease = \"5ms\"\nmax_outage = \"99days\"\n[schedule]\njitter = \"2days\"\n",
        &[],
        "the configuration has 3 faults\n  schedule.jitter = \"2days\" (t.toml, line 5): expected at most 12h\n  store.lease = \
         \"5ms\" (t.toml, line 2): expected 1s to 1h\n  store.max_outage = \"99days\" (t.toml, line 3): expected at most 30days",
    );
}

#[test]
fn an_unknown_argument() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["scan", "--fail-on", "gaps"], &[]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("invalid value 'gaps' for '--fail-on <STATUS>'"), "{}", ran.stderr);
    let ran = run(folder.path(), &["scan", "--organization", "other"], &[]);
    assert_eq!(ran.stderr, "trustwatch: --organization other: no such organization; configured: main\n");
    assert_eq!(ran.code, 2);
}

#[tokio::test]
async fn a_database_from_a_newer_version() {
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run_against(&sim, folder.path(), &["migrate"]).await.code, 0);
    from_the_future(&folder.path().join("trustwatch.db")).await;
    let message = "trustwatch: the database has schema version 9999, and this trustwatch knows versions up to 12; use a newer \
                   trustwatch, or another database\n";
    for arguments in [&["scan"][..], &["migrate"], &["query", "SELECT 1"]] {
        let ran = run_against(&sim, folder.path(), arguments).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (1, message), "{arguments:?}");
    }
}

/// Leaves the mark of a migration that this program does not have.
async fn from_the_future(file: &Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let pool = sqlx::sqlite::SqlitePoolOptions::new().connect_with(options).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
}

#[test]
fn a_database_that_is_none_or_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["query", "SELECT 1"], &[]);
    assert_eq!(
        ran.stderr,
        "trustwatch: there is no database at trustwatch.db; run `trustwatch scan` or `trustwatch migrate` first, or name \
         another with --store\n"
    );
    std::fs::write(
        folder.path().join("trustwatch.db"),
        "this is a text, and long enough to be read as a header of a file",
    )
    .unwrap();
    let ran = run(folder.path(), &["query", "SELECT 1"], &[]);
    assert_eq!(ran.stderr, "trustwatch: opening the database trustwatch.db: the file is not a SQLite database\n");
    let ran = run(folder.path(), &["migrate", "--store", "sqlite://none/trustwatch.db"], &[]);
    assert_eq!(
        ran.stderr,
        "trustwatch: opening the database none/trustwatch.db: No such file or directory (os error 2); its folder must \
         be there and writable: make it so, or name another with store.url or --store\n"
    );
    assert_eq!(ran.code, 1);
}

#[tokio::test]
async fn no_credentials() {
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (url, path) = (sim.url(), folder.path().to_owned());
    let ran = tokio::task::spawn_blocking(move || {
        run(&path, &["scan"], &[("AWS_ENDPOINT_URL", url), ("AWS_REGION", "us-east-1".to_owned())])
    })
    .await
    .unwrap();
    let last = ran.stderr.lines().last().unwrap();
    assert_eq!(
        last,
        "trustwatch: the scan of `main` failed: finding out who we are: sts:GetCallerIdentity: no AWS credentials were \
         found; check the credentials: `profile`, AWS_PROFILE, AWS_ACCESS_KEY_ID, the instance's or the pod's role"
    );
    assert_eq!(ran.code, 1);
}

#[tokio::test]
async fn not_an_organizations_management_account() {
    let sim = Sim::start(&Scenario::calm(2), 0).await.unwrap();
    let (member, management) = {
        let world = sim.world();
        let member = world.members().remove(0);
        (member, world.management().unwrap().to_owned())
    };
    let folder = tempfile::tempdir().unwrap();
    let ran = run_as(&sim, &member, folder.path(), &["scan"]).await;
    let last = ran.stderr.lines().last().unwrap();
    assert_eq!(
        last,
        format!(
            "trustwatch: the scan of `main` failed: listing the accounts: organizations:ListAccounts: \
             AccessDeniedException: You don't have permissions to access this resource.; account {member} may not read the \
             organization: use credentials of the management account ({management}) or of a delegated administrator, or set \
             `reader_role_arn` to a role there; `trustwatch policy` prints what it needs"
        )
    );
    assert_eq!(ran.code, 1);
}
