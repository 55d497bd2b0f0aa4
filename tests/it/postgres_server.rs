//! What is particular to Postgres: who may come in, what TLS proves, and a server that is restarted.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use trustwatch::config::{Secret, Store as Settings};
use trustwatch::store::{self, Access, StoreError};

use crate::awssim::Scenario;
use crate::postgres::{Server, database, database_on, server, start};
use crate::support::{Kept, Nowhere, Story, rows};

const WRITE: Access = Access::Write { migrate: true };

/// Runs statements as the owner of a database.
async fn as_owner(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

/// The URL with another user, and another host or none.
fn changed(url: &str, user: &str, host: &str, query: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_username(user).unwrap();
    url.set_host(Some(host)).unwrap();
    url.set_query((!query.is_empty()).then_some(query));
    url.to_string()
}

async fn refusal(settings: &Settings) -> String {
    store::open(settings, WRITE).await.err().expect("a refusal").to_string()
}

/// What only a server of the tests' own can show; with a given server there is nothing to show.
async fn own() -> Option<(&'static Server, String)> {
    let server = server();
    server.own.as_ref()?;
    Some((server, database().await))
}

#[tokio::test]
async fn the_server_must_prove_who_it_is_unless_the_url_says_otherwise() {
    let Some((server, url)) = own().await else { return };
    let authority = server.own.as_ref().unwrap().folder.join("ca.crt");
    let unproved = refusal(&Settings::at(changed(&url, "owner", "localhost", ""))).await;
    assert!(unproved.starts_with("connecting to postgres://owner@localhost:"), "{unproved}");
    let advice = "the server must prove who it is: name its certificate authority with ?sslrootcert=FILE";
    assert!(unproved.contains(advice), "{unproved}");
    let proved = format!("sslrootcert={}", authority.display());
    let settings = Settings::at(changed(&url, "owner", "localhost", &proved));
    let store = store::open(&settings, WRITE).await.unwrap();
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(rows(store.as_ref(), encrypted).await, [["1"]]);
    store.close().await;
    // The certificate is of localhost, and not of the address.
    let other = refusal(&Settings::at(changed(&url, "owner", "127.0.0.1", &proved))).await;
    assert!(other.contains("the server must prove who it is"), "{other}");
    let authority_only = format!("sslmode=verify-ca&{proved}");
    store::open(&Settings::at(changed(&url, "owner", "127.0.0.1", &authority_only)), WRITE).await.unwrap();
}

#[tokio::test]
async fn a_client_can_prove_who_it_is_with_a_certificate() {
    let Some((server, url)) = own().await else { return };
    as_owner(&url, "CREATE ROLE with_certificate LOGIN; GRANT ALL ON SCHEMA public TO with_certificate").await;
    let folder = server.own.as_ref().unwrap().folder.display().to_string();
    let proved = format!("sslrootcert={folder}/ca.crt");
    let without = Settings::at(changed(&url, "with_certificate", "localhost", &proved));
    assert!(refusal(&without).await.contains("check the user in the URL"));
    let with = format!("{proved}&sslcert={folder}/client.crt&sslkey={folder}/client.key");
    let settings =
        Settings { schema: "public".into(), ..Settings::at(changed(&url, "with_certificate", "localhost", &with)) };
    store::open(&settings, WRITE).await.unwrap();
}

#[tokio::test]
async fn a_password_comes_from_the_configuration_and_is_in_no_message() {
    let Some((_, url)) = own().await else { return };
    as_owner(
        &url,
        "CREATE ROLE with_password LOGIN PASSWORD 'correct horse'; CREATE SCHEMA team AUTHORIZATION with_password",
    )
    .await;
    let password = |text: &str| Some(Secret::new(text.to_owned()));
    let settings = Settings {
        schema: "team".into(),
        password: password("battery staple"),
        ..Settings::at(changed(&url, "with_password", "127.0.0.1", "sslmode=disable"))
    };
    let wrong = refusal(&settings).await;
    assert!(wrong.ends_with("; check the user in the URL, and the password file"), "{wrong}");
    assert!(!wrong.contains("battery"), "{wrong}");
    // The owner of a schema needs no right to make schemas.
    let store = store::open(&Settings { password: password("correct horse"), ..settings }, WRITE).await.unwrap();
    let named = "SELECT table_schema FROM information_schema.views WHERE table_name = 'current_coverage'";
    assert_eq!(rows(store.as_ref(), named).await, [["team"]]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let error = refusal(&Settings::at("postgres://owner@127.0.0.1:1/x?sslmode=disable")).await;
    assert!(error.starts_with("connecting to postgres://owner@127.0.0.1:1/x?sslmode=disable: "), "{error}");
    assert!(error.ends_with("; check the host and port in the URL, and that the server runs"), "{error}");
    let missing = changed(&database().await, "owner", "127.0.0.1", "sslmode=disable").replace("story_", "nowhere_");
    if server().own.is_some() {
        assert!(refusal(&Settings::at(missing)).await.contains("create the database first"));
    }
}

#[tokio::test]
async fn a_server_that_is_restarted_is_found_again() {
    let server = start();
    let mut story = Story::begin(&Scenario::calm(3)).await;
    let settings = Settings::at(database_on(&server).await);
    let store = store::open(&settings, WRITE).await.unwrap();
    story.store = Arc::clone(&store);
    story.complete_scan().await;
    server.own.as_ref().unwrap().restart();
    let report = story.complete_scan().await;
    assert_eq!(report.scan.accounts, Some(5));
    store.close().await;
}

#[tokio::test]
async fn a_server_that_lets_nobody_write_is_away_and_the_primary_is_found_again() {
    let Some((server, url)) = own().await else { return };
    let name = url::Url::parse(&url).unwrap().path().trim_start_matches('/').to_owned();
    let store = store::open(&Settings::at(&url), WRITE).await.unwrap();
    // As after a failover: every session is another's by now, and leads to a standby.
    as_owner(&url, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    as_owner(&server.url, &end).await;
    let standby = store.schema_version().await.unwrap_err();
    assert!(standby.is_away(), "{standby}");
    assert!(standby.to_string().starts_with("the database only lets us read: its server is a standby"), "{standby}");
    assert_eq!(refusal(&Settings::at(&url)).await, standby.to_string());
    rows(store::open(&Settings::at(&url), Access::Read).await.unwrap().as_ref(), "SELECT 1").await;
    // The session stays what it is: it takes another to reach the primary.
    as_owner(&server.url, &format!("ALTER DATABASE {name} RESET default_transaction_read_only")).await;
    store.schema_version().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn what_the_server_cannot_do_now_may_be_asked_again() {
    let mut connection = PgConnection::connect(&database().await).await.unwrap();
    let mut refused = async |sql: &str| {
        let error = connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_err();
        StoreError::Statement { doing: "trying", error }
    };
    for code in ["53100", "53200", "55P03", "57014", "40P01"] {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END $$");
        assert!(refused(&raise).await.is_away(), "{code}");
    }
    assert!(refused("SET statement_timeout = 1; SELECT pg_sleep(60)").await.is_away());
    assert!(!refused("SELECT nothing").await.is_away());
}

#[tokio::test]
async fn many_that_start_at_once_migrate_once() {
    let settings = Settings::at(database().await);
    let starts = (0..8).map(|_| store::open(&settings, WRITE));
    for store in futures_util::future::join_all(starts).await {
        store.unwrap().close().await;
    }
    let version = store::schema_version(&settings).await.unwrap();
    assert_eq!(version.found, version.known);
}

#[tokio::test]
async fn what_a_process_that_was_cut_off_brings_late_is_not_written() {
    let story = Story::begin_in(Kept::Postgres, &Scenario::calm(2)).await;
    story.complete_scan().await;
    let visits = "SELECT count(*) FROM account_visits";
    let before = story.rows(visits).await;
    // The scan is over, whoever ended it.
    let error = story.store.record_visits(1, &[], "late").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "scan 1 is over: another process took this one for dead and ended it; nothing was written"
    );
    assert_eq!(story.rows(visits).await, before);
}

/// The statements of the section on roles, as an administrator would paste them.
fn grants() -> String {
    let document = include_str!("../../docs/sql.md");
    let section = document.split("## Roles").nth(1).expect("a section on roles").split("\n## ").next().unwrap();
    let blocks: Vec<&str> = section.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 2, "{section}");
    blocks.concat()
}

#[tokio::test]
async fn the_roles_of_the_document_may_do_what_they_should_and_no_more() {
    let Some((_, url)) = own().await else { return };
    let story = Story::begin(&Scenario::calm(2)).await;
    // Roles belong to the server, which other stories share: these are made by this one alone.
    as_owner(&url, "CREATE ROLE trustwatch_daemon LOGIN; CREATE ROLE trustwatch_analyst LOGIN").await;
    store::open(&Settings::at(&url), WRITE).await.unwrap().close().await;
    as_owner(&url, &grants()).await;

    let as_role = |role: &str| Settings::at(changed(&url, role, "127.0.0.1", "sslmode=disable"));
    let mut daemon = story;
    daemon.store = store::open(&as_role("trustwatch_daemon"), WRITE).await.unwrap();
    daemon.complete_scan().await;
    let retention = store::Retention::at(daemon.engine().clock.now(), &Settings::default().retention);
    daemon.store.prune(&retention, false).await.unwrap();

    let analyst = store::open(&as_role("trustwatch_analyst"), Access::Read).await.unwrap();
    for view in crate::engine_parity::VIEWS {
        rows(analyst.as_ref(), &format!("SELECT * FROM {view}")).await;
    }
    let private = analyst.query("SELECT * FROM visit", &mut Nowhere).await.unwrap_err().to_string();
    assert!(private.contains("permission denied for table visit"), "{private}");
    let mut analyst = PgConnection::connect(&as_role("trustwatch_analyst").url).await.unwrap();
    for forbidden in ["DELETE FROM trustwatch.scan", "CREATE TABLE trustwatch.x (y INTEGER)"] {
        assert!(analyst.execute(forbidden).await.is_err(), "{forbidden}");
    }
    let mut daemon = PgConnection::connect(&as_role("trustwatch_daemon").url).await.unwrap();
    for forbidden in ["DROP VIEW trustwatch.scan_summary", "ALTER TABLE trustwatch.scan ADD COLUMN x INTEGER"] {
        assert!(daemon.execute(forbidden).await.is_err(), "{forbidden}");
    }
}

#[tokio::test]
async fn a_query_can_change_nothing_there_either() {
    let story = Story::begin_in(Kept::Postgres, &Scenario::calm(1)).await;
    story.complete_scan().await;
    for sql in [
        "DELETE FROM visit",
        "WITH gone AS (DELETE FROM visit RETURNING *) SELECT * FROM gone",
        "SELECT 1; COMMIT; DELETE FROM visit",
        "SELECT $$;$$ ; DELETE FROM visit",
        "EXPLAIN ANALYZE DELETE FROM visit",
        "SELECT nextval(pg_get_serial_sequence('scan', 'scan_id'))",
    ] {
        assert!(story.store.query(sql, &mut Nowhere).await.is_err(), "{sql}");
    }
    assert_eq!(story.rows("SELECT count(*) > 0 FROM visit").await, [["1"]]);
}
