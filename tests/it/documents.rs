//! `docs/sql.md` says what the schema says, and its questions are answered, the same on both engines.
//!
//! `make docs` runs these tests with `UPDATE_DOCS=1`, and then they write what they otherwise compare.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use trustwatch::config;
use trustwatch::store::{self, Access, Store};

use crate::engine_parity::{Both, VIEWS};
use crate::postgres::database;
use crate::sample_history;
use crate::support::rows;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/sql.md")
}

/// Every view and table, its comment, and its columns with theirs.
type Described = BTreeMap<String, (String, Vec<(String, String)>)>;

/// What the comments within SQLite's own text of the schema say.
fn described_here(schema: &[(String, String)], before: &str) -> Described {
    let mut described = Described::new();
    for (name, sql) in schema {
        let mut columns = Vec::new();
        for line in sql.lines().skip(1) {
            let Some((code, comment)) = line.split_once(" -- ") else { continue };
            let code = code.trim().trim_end_matches(',');
            let column = if sql.starts_with("CREATE VIEW") {
                code.rsplit([' ', '.']).next().unwrap()
            } else {
                code.split_whitespace().next().unwrap()
            };
            columns.push((column.to_owned(), comment.to_owned()));
        }
        // SQLite keeps no comment that stands before a statement: the migration has it.
        let kind = if sql.starts_with("CREATE VIEW") { "VIEW" } else { "TABLE" };
        let head = before.split(&format!("\nCREATE {kind} {name} ")).next().unwrap();
        let comment =
            head.rsplit("\n\n").next().unwrap().trim_start_matches('\n').replace("-- ", "").replace('\n', " ");
        described.insert(name.clone(), (comment, columns));
    }
    // Nor of a column that was added later: the migration has it before the statement.
    for statement in before.split("\n\n") {
        let Some((comment, added)) = statement.split_once("\nALTER TABLE ") else { continue };
        let words: Vec<&str> = added.split_whitespace().collect();
        assert_eq!(words[1..3], ["ADD", "COLUMN"], "{added}");
        let column = (words[3].to_owned(), comment.trim_start_matches("-- ").to_owned());
        described.get_mut(words[0]).unwrap().1.push(column);
    }
    described
}

async fn described_there(connection: &mut PgConnection) -> Described {
    let all: Vec<(String, Option<String>, String, Option<String>)> = sqlx::query_as(
        "SELECT c.relname::text, obj_description(c.oid, 'pg_class'), a.attname::text, col_description(c.oid, a.attnum)
         FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
         WHERE c.relnamespace = 'trustwatch'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname <> '_sqlx_migrations'
         ORDER BY c.relname, a.attnum",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    let mut described = Described::new();
    for (name, comment, column, text) in all {
        let entry = described.entry(name).or_insert_with(|| (comment.unwrap_or_default(), Vec::new()));
        entry.1.push((column, text.unwrap_or_default()));
    }
    described
}

async fn schemas() -> (Described, Described) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schema.db");
    let settings = config::Store::at(format!("sqlite://{}", file.display()));
    store::open(&settings, Access::Write { migrate: true }).await.unwrap().close().await;
    let mut connection = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
    let schema: Vec<(String, String)> = sqlx::query_as(
        "SELECT name, sql FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE '\\_%' ESCAPE '\\'
         AND name NOT LIKE 'sqlite%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut migrations: Vec<_> =
        std::fs::read_dir("migrations/sqlite").unwrap().map(|entry| entry.unwrap().path()).collect();
    migrations.sort();
    let before: String = migrations.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let url = database().await;
    store::open(&config::Store::at(&url), Access::Write { migrate: true }).await.unwrap().close().await;
    let there = described_there(&mut PgConnection::connect(&url).await.unwrap()).await;
    (described_here(&schema, &before), there)
}

#[tokio::test]
async fn both_schemas_have_the_same_tables_columns_and_comments() {
    let (here, there) = schemas().await;
    assert_eq!(here.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>());
    for (name, described) in &here {
        assert_eq!(described, &there[name], "{name}");
        assert!(!described.0.is_empty(), "{name} has no comment");
        assert!(described.1.iter().all(|(_, comment)| !comment.is_empty()), "{name}: {:?}", described.1);
    }
    let views: Vec<&String> = there.keys().filter(|name| VIEWS.contains(&name.as_str())).collect();
    assert_eq!(views.len(), VIEWS.len());
    let names = |engine: &str| {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("migrations").join(engine);
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("sqlite"), names("postgres"), "the same numbers and names");
}

/// The document with its views described as the schema describes them.
fn with_views(document: &str, described: &Described) -> String {
    let (head, rest) = document.split_once("<!-- views: written by `make docs` -->\n").unwrap();
    let (_, tail) = rest.split_once("<!-- end -->").unwrap();
    let mut text = String::new();
    for view in VIEWS {
        let (comment, columns) = &described[*view];
        let _ = write!(text, "\n### `{view}`\n\n{comment}\n\n| column | |\n|---|---|\n");
        for (column, comment) in columns {
            let _ = writeln!(text, "| `{column}` | {comment} |");
        }
    }
    format!("{head}<!-- views: written by `make docs` -->\n{text}\n<!-- end -->{tail}")
}

/// The document with the answers to its questions.
async fn with_answers(document: &str, store: &dyn Store) -> String {
    let (head, questions) = document.split_once("\n## Questions\n").unwrap();
    let mut text = format!("{head}\n## Questions\n");
    let mut asked = 0;
    for (at, part) in questions.split("```sql\n").enumerate() {
        if at == 0 {
            text += part;
            continue;
        }
        let (sql, after) = part.split_once("```\n").unwrap();
        // An answer that stands there already is written anew.
        let after = match after.strip_prefix("\n```text\n") {
            Some(old) => old.split_once("```\n").unwrap().1,
            None => after,
        };
        let _ = write!(text, "```sql\n{sql}```\n\n```text\n{}```\n{after}", answer(store, sql).await);
        asked += 1;
    }
    assert_eq!(asked, 16);
    text
}

/// A table as a terminal shows it.
async fn answer(store: &dyn Store, sql: &str) -> String {
    #[derive(Default)]
    struct Names(Vec<String>);
    impl store::RowSink for Names {
        fn columns(&mut self, names: Vec<String>) {
            self.0 = names;
        }
        fn row(&mut self, _: Vec<store::Cell>) {}
    }
    let mut names = Names::default();
    store.query(sql, &mut names).await.unwrap();
    let rows = rows(store, sql).await;
    assert!(!rows.is_empty(), "{sql}");
    let widths: Vec<usize> = (0..names.0.len())
        .map(|at| rows.iter().map(|row| row[at].chars().count()).chain([names.0[at].len()]).max().unwrap())
        .collect();
    let line = |cells: &[String]| {
        let cells: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().fold(line(&names.0), |text, row| text + &line(row))
}

#[tokio::test]
async fn the_document_is_what_the_schema_says_and_its_questions_are_answered_by_both_engines() {
    let folder = tempfile::tempdir().unwrap();
    let file = config::Store::at(format!("sqlite://{}", folder.path().join("sample.db").display()));
    let server = config::Store::at(database().await);
    let both = Both::new(
        store::open(&file, Access::Write { migrate: true }).await.unwrap(),
        store::open(&server, Access::Write { migrate: true }).await.unwrap(),
    );
    sample_history::fill(&both).await;
    crate::invariants::hold(&both, "the sample").await;
    both.agree("the sample").await;
    let document = std::fs::read_to_string(path()).unwrap();
    let (described, _) = schemas().await;
    // Each query is put to both engines, which must agree.
    let written = with_answers(&with_views(&document, &described), &both).await;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path(), written).unwrap();
    } else {
        assert!(document == written, "docs/sql.md is not what the schema and the sample say: run `make docs`");
    }
}
