//! What is kept, for how long, and through what: pruning, moving, migrating, and a process that dies between two
//! statements.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use trustwatch::config::Store as Settings;
use trustwatch::model::{Requirement, Scope, Trigger};
use trustwatch::store::{self, Access, JoinMode, NewScan, Retention, Store, StoreError};

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::engine_parity::{Both, VIEWS};
use crate::invariants;
use crate::postgres::database;
use crate::sample_history::{self, day};
use crate::support::{Kept, Story, by_hand, on_each_engine, rows};

const WRITE: Access = Access::Write { migrate: true };

/// An empty store, where it is, and the folder of its file.
async fn empty(kept: Kept) -> (Arc<dyn Store>, Settings, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::at(match kept {
        Kept::Sqlite => format!("sqlite://{}", folder.path().join("kept.db").display()),
        Kept::Postgres => database().await,
    });
    (store::open(&settings, WRITE).await.unwrap(), settings, folder)
}

async fn views(store: &dyn Store) -> Vec<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for view in VIEWS {
        let mut found = rows(store, &format!("SELECT * FROM {view}")).await;
        found.sort();
        all.push(found);
    }
    all
}

fn at(date: chrono::NaiveDate, hour: u32) -> DateTime<Utc> {
    date.and_hms_opt(hour, 0, 0).unwrap().and_utc()
}

async fn old_visits_are_thinned_out_and_nothing_else_changes(kept: Kept) {
    let (store, _, _folder) = empty(kept).await;
    for date in 1..=20 {
        for hour in [1, 9, 17] {
            // On one day the shop could be read in the morning only.
            let locked: &[&str] = if date == 7 && hour > 1 { &["333333333333"] } else { &[] };
            sample_history::scan(store.as_ref(), at(day(7, date), hour), locked).await;
        }
    }
    let retention = Retention {
        day: at(day(7, 20), 0),
        all_visits_from: at(day(7, 15), 0),
        visits_from: at(day(7, 5), 0),
        history_from: None,
    };
    let before = views(store.as_ref()).await;
    let would = store.prune(&retention, true).await.unwrap();
    assert_eq!(views(store.as_ref()).await, before, "a dry run changes nothing");
    let pruned = store.prune(&retention, false).await.unwrap();
    assert_eq!(would, pruned);
    // Six accounts, three visits a day: none of four days, one of ten, all of six.
    assert_eq!((pruned.visits, pruned.intervals), (6 * 3 * 20 - 6 * 10 - 6 * 3 * 6, 0));
    let left = "SELECT substr(CAST(finished_at AS TEXT), 1, 10) AS day, count(*) FROM account_visits
                WHERE account_id = '333333333333'
                GROUP BY substr(CAST(finished_at AS TEXT), 1, 10) ORDER BY day";
    let left = rows(store.as_ref(), left).await;
    assert_eq!(left.len(), 16);
    assert_eq!(
        (left[0].clone(), left[15].clone()),
        (vec!["2026-07-05".into(), "1".into()], vec!["2026-07-20".into(), "3".into()])
    );
    let evidence = "SELECT outcome, substr(CAST(finished_at AS TEXT), 12, 2) FROM account_visits
                    WHERE account_id = '333333333333' AND finished_at >= '2026-07-07T00:00:00.000000Z'
                      AND finished_at < '2026-07-08T00:00:00.000000Z'";
    assert_eq!(
        rows(store.as_ref(), evidence).await,
        [["audited", "01"]],
        "what was read that day is the evidence of it"
    );
    for (view, before) in
        VIEWS.iter().zip(&before).filter(|(view, _)| !["account_visits", "coverage_by_account"].contains(*view))
    {
        let mut after = rows(store.as_ref(), &format!("SELECT * FROM {view}")).await;
        after.sort();
        assert_eq!(after, *before, "{view}");
    }
    invariants::hold_after_pruning(store.as_ref(), "after pruning").await;
    let nothing = store::Pruned { by: Some(retention), ..store::Pruned::default() };
    assert_eq!(store.prune(&retention, false).await.unwrap(), nothing, "there is no more to go");
    // What is older than anything is kept still leaves each account its newest visit.
    let all = Retention {
        day: at(day(7, 20), 0),
        all_visits_from: at(day(8, 30), 0),
        visits_from: at(day(8, 30), 0),
        history_from: None,
    };
    store.prune(&all, false).await.unwrap();
    assert_eq!(rows(store.as_ref(), "SELECT count(*) FROM account_visits").await, [["6"]]);
    invariants::hold_after_pruning(store.as_ref(), "after pruning everything").await;
}

async fn a_clock_that_is_ahead_lets_nothing_go(kept: Kept) {
    let (store, _, _folder) = empty(kept).await;
    let retention = trustwatch::config::Retention::default();
    let ahead = Retention::at(at(day(7, 20) + chrono::TimeDelta::days(800), 9), &retention);
    assert_eq!(store.prune(&ahead, false).await.unwrap(), store::Pruned::default(), "there is no scan");
    for hour in [1, 9] {
        sample_history::scan(store.as_ref(), at(day(7, 20), hour), &[]).await;
    }
    let by = Some(Retention::at(at(day(7, 20), 9), &retention));
    for dry_run in [true, false] {
        let pruned = store.prune(&ahead, dry_run).await.unwrap();
        assert_eq!(pruned, store::Pruned { by, ..store::Pruned::default() });
    }
    assert_eq!(rows(store.as_ref(), "SELECT count(*) FROM account_visits").await, [["12"]]);
}

async fn history_is_kept_for_ever_unless_it_is_limited(kept: Kept) {
    let (store, _, _folder) = empty(kept).await;
    sample_history::fill(store.as_ref()).await;
    let ended = "SELECT count(*) FROM coverage_history WHERE valid_to < '2026-11-01T00:00:00.000000Z'";
    // The shop's own analyzer came in August, and the account that left in October ended.
    assert_eq!(rows(store.as_ref(), ended).await, [["3"]]);
    let current = rows(store.as_ref(), "SELECT * FROM current_coverage").await;
    let now = at(day(11, 23), 10);
    let limited = trustwatch::config::Retention {
        history: Some(trustwatch::config::TimeSpan::days(22)),
        ..trustwatch::config::Retention::default()
    };
    let retention = Retention::at(now, &limited);
    assert_eq!(retention.history_from, Some(at(day(11, 1), 0)));
    assert_eq!(store.prune(&retention, false).await.unwrap().intervals, 3);
    assert_eq!(rows(store.as_ref(), ended).await, [["0"]]);
    assert_eq!(rows(store.as_ref(), "SELECT * FROM current_coverage").await, current);
}

async fn a_filled_database_is_migrated_without_a_loss_and_a_newer_one_is_refused(kept: Kept) {
    let (store, settings, _folder) = empty(kept).await;
    sample_history::fill(store.as_ref()).await;
    let before = views(store.as_ref()).await;
    store.close().await;
    let store = store::open(&settings, WRITE).await.unwrap();
    assert_eq!(views(store.as_ref()).await, before);
    store.close().await;
    let now = if settings.is_postgres() { "now()" } else { "'2026-11-23'" };
    let bytes = if settings.is_postgres() { "'\\x00'" } else { "x'00'" };
    let insert = format!(
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
         VALUES (999, 'of a newer trustwatch', {now}, true, {bytes}, 0)"
    );
    by_hand(&settings, &insert).await;
    for access in [Access::Read, WRITE, Access::Write { migrate: false }] {
        let error = store::open(&settings, access).await.err().unwrap();
        assert!(matches!(error, StoreError::NewerSchema { found: 999, .. }), "{error}");
    }
    by_hand(&settings, "DELETE FROM _sqlx_migrations").await;
    let error = store::open(&settings, Access::Write { migrate: false }).await.err().unwrap();
    assert!(error.to_string().ends_with("; run `trustwatch migrate`"), "{error}");
}

/// A database as the first migration left it, with a scan in it: nothing of that is lost on the way to the newest.
async fn the_first_schema_is_brought_up_to_date_with_what_is_in_it(kept: Kept) {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::at(match kept {
        Kept::Sqlite => format!("sqlite://{}", folder.path().join("kept.db").display()),
        Kept::Postgres => database().await,
    });
    let engine = if settings.is_postgres() { "migrations/postgres" } else { "migrations/sqlite" };
    let migrations = Migrator::new(std::path::Path::new(engine)).await.unwrap();
    if settings.is_postgres() {
        let mut connection = PgConnection::connect(&settings.url).await.unwrap();
        connection.execute("CREATE SCHEMA trustwatch; SET search_path = trustwatch").await.unwrap();
        migrations.run_direct(Some(1), &mut connection, false).await.unwrap();
    } else {
        let options = SqliteConnectOptions::new().filename(store::file_of(&settings.url)).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        migrations.run_direct(Some(1), &mut connection, false).await.unwrap();
        connection.close().await.unwrap();
    }
    for statement in [
        "INSERT INTO organization (organization_key, organization_id, name) VALUES (500, 'o-before', 'before')",
        "INSERT INTO scan (scan_id, organization_key, organization_name, trigger, scope, state, started_at, finished_at, accounts,
             requirement, configuration_hash, version)
         VALUES (70000, 500, 'before', 'manual', 'all', 'completed', '2026-11-23T09:00:00.000000Z', '2026-11-23T09:01:00.000000Z', 3, 'either',
             '', '0.1.0')",
        // An instant that was scanned twice, as a clock that steps may make it, the second time by a process that died.
        "INSERT INTO scan (scan_id, organization_key, organization_name, trigger, scope, state, scheduled_for, started_at, finished_at,
             requirement, configuration_hash, version)
         VALUES (70001, 500, 'left', 'schedule', 'all', 'failed', '2026-11-23T09:17:00.000000Z', '2026-11-23T09:17:00.000000Z',
             '2026-11-23T09:18:00.000000Z', 'either', '', '0.1.0'),
             (70002, NULL, 'left', 'schedule', 'all', 'running', '2026-11-23T09:17:00.000000Z', '2026-11-23T09:27:00.000000Z', NULL,
             'either', '', '0.1.0')",
        "INSERT INTO scan_call (scan_id, service, operation, calls, retries, throttled, errors, seconds)
         VALUES (70000, 'sts', 'AssumeRole', 40, 3, 2, 5, 1.5)",
    ] {
        by_hand(&settings, statement).await;
    }
    let store = store::open(&settings, WRITE).await.unwrap();
    let calls = "SELECT scan_id, operation, calls, retries, throttled, errors, seconds, bytes, rate_wait_seconds FROM scan_calls";
    assert_eq!(
        rows(store.as_ref(), calls).await,
        [["70000", "AssumeRole", "40", "3", "2", "5", "1.5000", "0", "0.0000"]]
    );
    let left = "SELECT scan_id, scheduled_for FROM scan_summary WHERE organization_name = 'left' ORDER BY scan_id";
    let instant = "2026-11-23T09:17:00.000000Z";
    assert_eq!(
        rows(store.as_ref(), left).await,
        [["70001", "null"], ["70002", instant]],
        "the newest keeps its instant"
    );
    let resumed = NewScan {
        organization_name: "left".into(),
        trigger: Trigger::Schedule,
        scope: Scope::All,
        scheduled_for: None,
        started_at: at(day(11, 23), 10),
        requirement: Requirement::Either,
        configuration_hash: String::new(),
        version: String::new(),
        resumes_from: at(day(11, 23), 9),
        alive_from: at(day(11, 23), 9),
        begins: false,
    };
    let joined = store.begin_scan(&resumed, "new").await.unwrap();
    assert_eq!((joined.scan_id, joined.how), (70002, JoinMode::Resumed));
    assert!(!store.heartbeat(70002, "new").await.unwrap().listed, "it is resumed from its beginning");
    let summary = "SELECT scan_id, accounts, bound_by, store_seconds FROM scan_summary WHERE scan_id = 70000";
    assert_eq!(rows(store.as_ref(), summary).await, [["70000", "3", "null", "null"]]);
    sample_history::fill(store.as_ref()).await;
    store.close().await;
}

/// Every statement of a scan that writes, by the table that it writes to.
const STATEMENTS: [(&str, &str); 12] = [
    ("UPDATE", "coverage"),
    ("INSERT", "coverage"),
    ("UPDATE", "analyzer"),
    ("INSERT", "analyzer"),
    ("INSERT", "account"),
    ("INSERT", "visit"),
    ("UPDATE", "account"),
    ("INSERT", "region_count"),
    ("INSERT", "ou_count"),
    ("INSERT", "scan_call"),
    ("INSERT", "scan_cost"),
    ("UPDATE", "scan"),
];

/// Lets a statement fail, as if the process had died there: its transaction goes no further.
async fn die_at(settings: &Settings, (verb, table): (&str, &str)) {
    // The end of a scan is what is meant, not that it was looked at.
    let when = if table == "scan" { "WHEN (NEW.state <> 'running')" } else { "" };
    let sql = if settings.is_postgres() {
        format!(
            "CREATE OR REPLACE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'died'; END $$;
             CREATE TRIGGER die BEFORE {verb} ON {table} FOR EACH ROW {when} EXECUTE FUNCTION die()"
        )
    } else {
        format!(
            "CREATE TRIGGER die BEFORE {verb} ON {table} FOR EACH ROW {when} BEGIN SELECT RAISE(ABORT, 'died'); END"
        )
    };
    by_hand(settings, &sql).await;
}

async fn dying_between_any_two_statements_leaves_the_truth(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(6)).await;
    let owner = story.sim.world().caller.clone();
    let region = || "eu-west-1".to_owned();
    let organization = || "organization".to_owned();
    let add = Change::AddAnalyzer {
        account: owner.clone(),
        region: region(),
        name: organization(),
        kind: "ORGANIZATION".into(),
    };
    story.sim.change(&add);
    story.complete_scan().await;
    for (round, statement) in STATEMENTS.into_iter().enumerate() {
        // There is something for every statement to write: an account that joins, an analyzer that changes and one that
        // comes, and what they cover.
        story.sim.change(&Change::AddAccount { account: format!("99{round:010}"), name: "joined".into() });
        let name = format!("own-{round}");
        story.sim.change(&Change::AddAnalyzer {
            account: owner.clone(),
            region: region(),
            name,
            kind: "ACCOUNT".into(),
        });
        let delete = Change::DeleteAnalyzer { account: owner.clone(), region: region(), name: organization() };
        story.sim.change(if round % 2 == 0 { &delete } else { &add });
        die_at(&story.settings, statement).await;
        let what = format!("{kept:?}, {statement:?}");
        let died = story.engine().scan(trustwatch::scan::Request::manual(), Arc::default(), Default::default()).await;
        assert!(died.is_err_and(|error| error.to_string().contains("died")), "{what}");
        invariants::hold(story.store.as_ref(), &what).await;
        let on = if kept == Kept::Postgres { format!(" ON {}", statement.1) } else { String::new() };
        by_hand(&story.settings, &format!("DROP TRIGGER die{on}")).await;
        story.complete_scan().await;
        invariants::hold(story.store.as_ref(), &what).await;
        let states = "SELECT state, count(*) FROM scan_summary GROUP BY state ORDER BY state";
        // What died is resumed.
        assert_eq!(story.rows(states).await, [["completed".to_owned(), (round + 2).to_string()]], "{what}");
    }
}

async fn an_analyzer_that_was_only_looked_at_again_is_no_change(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario { seed: 5, ..Scenario::default() }).await;
    story.complete_scan().await;
    let written = "SELECT (SELECT count(*) FROM coverage_history), (SELECT count(*) FROM coverage_transitions),
                          (SELECT count(*) FROM coverage_changes), (SELECT count(*) FROM analyzer_history)";
    let before = story.rows(written).await;
    for _ in 0..3 {
        story.complete_scan().await;
    }
    assert_eq!(story.rows(written).await, before);
}

async fn what_was_there_before_gaps_had_their_age_gets_it(kept: Kept) {
    let (store, settings, _folder) = empty(kept).await;
    sample_history::fill(store.as_ref()).await;
    let ages = "SELECT account_id, region, uncovered_since FROM current_coverage WHERE uncovered_since IS NOT NULL ORDER BY 1, 2";
    let known = rows(store.as_ref(), ages).await;
    assert!(known.len() > 3);
    by_hand(&settings, "UPDATE coverage SET uncovered_since = NULL").await;
    assert!(rows(store.as_ref(), ages).await.is_empty());
    let migration = match kept {
        Kept::Sqlite => include_str!("../../migrations/sqlite/0012_gaps_and_whole_scans.sql"),
        Kept::Postgres => include_str!("../../migrations/postgres/0012_gaps_and_whole_scans.sql"),
    };
    by_hand(&settings, migration.split(';').find(|one| one.trim().starts_with("UPDATE coverage")).unwrap()).await;
    assert_eq!(rows(store.as_ref(), ages).await, known);
}

on_each_engine!(
    what_was_there_before_gaps_had_their_age_gets_it,
    old_visits_are_thinned_out_and_nothing_else_changes,
    a_clock_that_is_ahead_lets_nothing_go,
    history_is_kept_for_ever_unless_it_is_limited,
    a_filled_database_is_migrated_without_a_loss_and_a_newer_one_is_refused,
    the_first_schema_is_brought_up_to_date_with_what_is_in_it,
    dying_between_any_two_statements_leaves_the_truth,
    an_analyzer_that_was_only_looked_at_again_is_no_change,
);

#[tokio::test]
async fn a_history_that_is_moved_is_the_same_and_goes_on() {
    let (sqlite, from, _folder) = empty(Kept::Sqlite).await;
    sample_history::fill(sqlite.as_ref()).await;
    let to = Settings::at(database().await);
    let error = store::transfer(&from, &to).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "nobody may write to it meanwhile: {error}");
    sqlite.close().await;
    drop(sqlite);
    let moved = store::transfer(&from, &to).await.unwrap();
    assert_eq!(moved.iter().find(|moved| moved.table == "scan").unwrap().rows, 146);
    let both = Both::new(store::open(&from, WRITE).await.unwrap(), store::open(&to, WRITE).await.unwrap());
    both.agree("moved").await;
    // Both go on from where they are, with the same numbers.
    sample_history::scan(&both, at(day(11, 24), 9), &["333333333333"]).await;
    both.agree("after another scan").await;
    invariants::hold(&both, "after another scan").await;
    both.close().await;
    drop(both);
    let again = store::transfer(&from, &to).await.unwrap_err();
    assert_eq!(
        again.to_string(),
        "moving the history: the destination holds a history already; name an empty database, or another schema with \
         --to-schema"
    );
    let other = Settings { schema: "elsewhere".into(), ..to };
    assert_eq!(store::transfer(&from, &other).await.unwrap().len(), 31);
}

#[tokio::test]
async fn what_arrives_changed_is_not_kept() {
    let (sqlite, from, _folder) = empty(Kept::Sqlite).await;
    sample_history::scan(sqlite.as_ref(), at(day(7, 1), 9), &[]).await;
    sqlite.close().await;
    drop(sqlite);
    let to = Settings::at(database().await);
    store::open(&to, WRITE).await.unwrap().close().await;
    by_hand(
        &to,
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.outcome = 'audited'; RETURN NEW; END $$;
         CREATE TRIGGER spoil BEFORE INSERT ON visit FOR EACH ROW EXECUTE FUNCTION spoil()",
    )
    .await;
    let error = store::transfer(&from, &to).await.unwrap_err().to_string();
    assert!(error.starts_with("moving the history: visit: ") && error.ends_with("; nothing was kept"), "{error}");
    let store = store::open(&to, WRITE).await.unwrap();
    assert_eq!(rows(store.as_ref(), "SELECT count(*) FROM scan_summary").await, [["0"]]);
}

/// Questions about one account, one scan or one instant, and the tables that must not be read from end to end for them.
const POINTED: [&str; 7] = [
    "SELECT * FROM coverage_history WHERE organization_id = 'o-example' AND account_id = '333333333333'",
    "SELECT * FROM current_coverage WHERE organization_id = 'o-example' AND account_id = '333333333333'",
    "SELECT * FROM coverage_transitions WHERE scan_id = 7",
    "SELECT * FROM coverage_transitions WHERE at >= '2026-11-20T00:00:00.000000Z'",
    "SELECT * FROM coverage_changes WHERE at >= '2026-11-20T00:00:00.000000Z'",
    "SELECT * FROM account_visits WHERE account_id = '333333333333' AND finished_at >= '2026-07-01T00:00:00.000000Z'",
    "SELECT * FROM account_visits WHERE scan_id = 7",
];

/// The document's own questions that are such: what changed, the day of an incident, and the auditor's.
fn pointed_questions() -> Vec<String> {
    let document = include_str!("../../docs/sql.md");
    let questions = document.split_once("\n## Questions\n").unwrap().1;
    let all: Vec<&str> = questions.split("```sql\n").skip(1).map(|part| part.split("```").next().unwrap()).collect();
    [3, 6, 11, 12].map(|number| all[number - 1].trim().trim_end_matches(';').to_owned()).into()
}

async fn pointed_questions_use_indexes(kept: Kept) {
    let (store, mut settings, _folder) = empty(kept).await;
    sample_history::fill(store.as_ref()).await;
    store.close().await;
    drop(store);
    let explain = match kept {
        Kept::Sqlite => "EXPLAIN QUERY PLAN",
        Kept::Postgres => {
            // Of a small table all is read sooner than found: what is asked is whether it could be found.
            settings.url += "&options[enable_seqscan]=off";
            by_hand(&settings, "ANALYZE").await;
            "EXPLAIN"
        }
    };
    let store = store::open(&settings, Access::Read).await.unwrap();
    for question in POINTED.iter().map(|sql| (*sql).to_owned()).chain(pointed_questions()) {
        let plan: Vec<String> =
            rows(store.as_ref(), &format!("{explain} {question}")).await.into_iter().map(|row| row.join(" ")).collect();
        let scanned: Vec<&String> = plan
            .iter()
            .filter(|line| {
                ["coverage", "visit", "analyzer", "h", "c"].iter().any(|table| {
                    line.contains(&format!("Seq Scan on {table} "))
                        || line.ends_with(&format!("SCAN {table}"))
                        || line.contains(&format!("SCAN {table} "))
                })
            })
            .collect();
        assert!(scanned.is_empty(), "{question}: {plan:#?}");
    }
}

mod plans {
    use crate::support::Kept;

    #[tokio::test]
    async fn sqlite() {
        super::pointed_questions_use_indexes(Kept::Sqlite).await;
    }

    #[tokio::test]
    async fn postgres() {
        super::pointed_questions_use_indexes(Kept::Postgres).await;
    }
}

#[tokio::test]
async fn readers_are_not_blocked_by_a_writer() {
    let (store, settings, _folder) = empty(Kept::Sqlite).await;
    sample_history::scan(store.as_ref(), at(day(7, 1), 9), &[]).await;
    let options = SqliteConnectOptions::new().filename(store::file_of(&settings.url));
    let mut writer = options.connect().await.unwrap();
    writer.execute("BEGIN IMMEDIATE; UPDATE account SET name = 'half done'").await.unwrap();
    let reader = store::open(&settings, Access::Read).await.unwrap();
    let names = rows(reader.as_ref(), "SELECT count(*) FROM current_coverage WHERE account_name = 'half done'").await;
    assert_eq!(names, [["0"]]);
    let modes = "SELECT journal_mode, foreign_keys FROM pragma_journal_mode, pragma_foreign_keys";
    assert_eq!(rows(store.as_ref(), modes).await, [["wal", "1"]]);
}
