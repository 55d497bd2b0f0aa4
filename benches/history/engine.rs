//! Bulk statements for either engine, and what a schema weighs.

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, SqliteConnection};
use trustwatch::config::Store as Settings;

use crate::year::account_id;

/// Rows in one statement.
const CHUNK: usize = 5_000;

#[derive(Debug, Clone)]
pub enum Cell {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    At(DateTime<Utc>),
}

fn instant(at: &DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// A connection beside the store's own.
pub enum Db {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgConnection>),
}

impl Db {
    pub async fn connect(settings: &Settings) -> Self {
        if settings.is_postgres() {
            let mut connection = PgConnection::connect(&settings.url).await.expect("the server answers");
            // References are whole by construction: checking each of millions of rows would time the check.
            connection
                .execute("SET search_path = trustwatch; SET session_replication_role = replica")
                .await
                .expect("a setting");
            return Self::Postgres(Box::new(connection));
        }
        let options =
            SqliteConnectOptions::new().filename(trustwatch::store::file_of(&settings.url)).foreign_keys(false);
        let connection = options.pragma("cache_size", "-400000").connect().await.expect("the file opens");
        Self::Sqlite(Box::new(connection))
    }

    pub async fn run(&mut self, sql: String) {
        match self {
            Self::Sqlite(connection) => connection.execute(AssertSqlSafe(sql)).await.map(|_| ()),
            Self::Postgres(connection) => connection.execute(AssertSqlSafe(sql)).await.map(|_| ()),
        }
        .expect("a statement");
    }

    /// Inserts rows: a JSON array in SQLite, COPY in Postgres.
    pub async fn insert(&mut self, table: &str, columns: &str, rows: Vec<Vec<Cell>>) {
        match self {
            Self::Sqlite(connection) => {
                let width = columns.split(',').count();
                let values: Vec<String> = (0..width).map(|at| format!("value ->> {at}")).collect();
                let insert = format!("INSERT INTO {table} ({columns}) SELECT {} FROM json_each($1)", values.join(", "));
                let mut transaction = connection.begin().await.expect("a transaction");
                for chunk in rows.chunks(CHUNK) {
                    let value = |cell: &Cell| match cell {
                        Cell::Null => serde_json::Value::Null,
                        Cell::Int(number) => (*number).into(),
                        Cell::Real(number) => (*number).into(),
                        Cell::Text(text) => text.as_str().into(),
                        Cell::At(at) => instant(at).into(),
                    };
                    let rows: Vec<Vec<serde_json::Value>> =
                        chunk.iter().map(|row| row.iter().map(value).collect()).collect();
                    let json = serde_json::to_string(&rows).expect("JSON");
                    let query = sqlx::query(AssertSqlSafe(insert.clone())).bind(json);
                    query.execute(&mut *transaction).await.expect("an insert");
                }
                transaction.commit().await.expect("a commit");
            }
            Self::Postgres(connection) => {
                let copy = format!("COPY {table} ({columns}) FROM STDIN");
                let mut copy = connection.copy_in_raw(&copy).await.expect("a copy");
                for chunk in rows.chunks(CHUNK) {
                    let text = |cell: &Cell| match cell {
                        Cell::Null => "\\N".to_owned(),
                        Cell::Int(number) => number.to_string(),
                        Cell::Real(number) => number.to_string(),
                        Cell::Text(text) => text.clone(),
                        Cell::At(at) => instant(at),
                    };
                    let lines: String =
                        chunk.iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join("\t") + "\n").collect();
                    copy.send(lines.into_bytes()).await.expect("rows");
                }
                copy.finish().await.expect("the end of a copy");
            }
        }
    }

    /// Says since when each gap is one, as the migration does of what was there before it.
    pub async fn gaps(&mut self) {
        let migration = match self {
            Self::Sqlite(_) => include_str!("../../migrations/sqlite/0012_gaps_and_whole_scans.sql"),
            Self::Postgres(_) => include_str!("../../migrations/postgres/0012_gaps_and_whole_scans.sql"),
        };
        let update = migration.split(';').find(|statement| statement.trim().starts_with("UPDATE coverage"));
        self.run(update.expect("the statement").to_owned()).await;
    }

    /// Leaves each account as its newest visit does, and the tables as a database that has lived for a year.
    pub async fn newest_visits(&mut self, scan: i64, checked: &[DateTime<Utc>], changed: &[DateTime<Utc>]) {
        for (account, (checked, changed)) in checked.iter().zip(changed).enumerate() {
            let (id, checked, changed) = (account_id(account), instant(checked), instant(changed));
            let update = format!(
                "UPDATE account SET scan_id = {scan}, checked_at = '{checked}', changed_at = '{changed}' WHERE account_id = '{id}'"
            );
            self.run(update).await;
        }
        match self {
            Self::Sqlite(_) => self.run("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)".into()).await,
            Self::Postgres(_) => {
                for table in
                    ["scan", "account", "visit", "coverage", "analyzer", "region_count", "ou_count", "scan_call"]
                {
                    self.run(format!("VACUUM ANALYZE {table}")).await;
                }
                for (table, key) in [
                    ("organization", "organization_key"),
                    ("worker", "worker_key"),
                    ("account", "account_key"),
                    ("scan", "scan_id"),
                ] {
                    self.run(format!(
                        "SELECT setval(pg_get_serial_sequence('{table}', '{key}'), (SELECT max({key}) FROM {table}))"
                    ))
                    .await;
                }
            }
        }
    }

    /// Bytes on disk.
    pub async fn size(&mut self) -> i64 {
        match self {
            Self::Sqlite(connection) => {
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.expect("a checkpoint");
                let size = "SELECT (page_count - freelist_count) * page_size
                            FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()";
                sqlx::query_scalar(size).fetch_one(&mut **connection).await
            }
            Self::Postgres(connection) => {
                let size = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
                            WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'";
                sqlx::query_scalar(size).fetch_one(&mut **connection).await
            }
        }
        .expect("a size")
    }

    /// What appending every row weighs for one scan: the average of a hundred.
    pub async fn appended(&mut self) -> f64 {
        const SCANS: i64 = 100;
        let end = if matches!(self, Self::Sqlite(_)) { " WITHOUT ROWID" } else { "" };
        self.run(format!(
            "CREATE TABLE appended (scan_id BIGINT NOT NULL, account_id TEXT NOT NULL, region TEXT NOT NULL, status TEXT NOT NULL,
             reason TEXT NOT NULL, analyzer_arn TEXT, PRIMARY KEY (scan_id, account_id, region)){end}"
        ))
        .await;
        let before = self.size().await;
        for scan in 0..SCANS {
            self.run(format!(
                "INSERT INTO appended SELECT {scan}, account_id, region, status, reason, analyzer_arn FROM current_coverage"
            ))
            .await;
        }
        let after = self.size().await;
        self.run("DROP TABLE appended".into()).await;
        (after - before) as f64 / SCANS as f64
    }
}
