//! What can go wrong with a store.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::TimeSpan;
use crate::model::{ScanId, UnknownWord};

/// A transaction that takes longer hangs: its connection may be gone without either side having noticed.
const HANGS_AFTER: Duration = Duration::from_mins(2);

/// Waits for a verb of the store, and no longer than a transaction takes.
///
/// # Errors
/// [`StoreError::Hangs`] where it takes longer; any other as it comes.
pub async fn bounded<T>(verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(HANGS_AFTER, verb).await.unwrap_or(Err(StoreError::Hangs(HANGS_AFTER)))
}

/// A store that cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is not there.
    #[error(
        "there is no database at {0}; run `trustwatch scan` or `trustwatch migrate` first, or name another with --store"
    )]
    Missing(PathBuf),
    /// The file cannot be opened or written.
    #[error("opening the database {path}: {problem}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system or the engine said.
        problem: String,
    },
    /// Another process writes to it.
    #[error("another trustwatch process is writing to {0}; SQLite takes one writer: wait for it, or stop it")]
    InUse(PathBuf),
    /// The server cannot be reached, or does not let us in.
    #[error("connecting to {server}: {problem}")]
    Connect {
        /// The server, without its password.
        server: String,
        /// What it said, and what to do.
        problem: String,
    },
    /// Another process scans the same organization.
    #[error("another trustwatch process is scanning organization `{0}`: wait for it, or stop it")]
    ScanRunning(String),
    /// The scan is over: another process took it for dead and ended it.
    #[error("scan {0} is over: another process took this one for dead and ended it; nothing was written")]
    ScanEnded(ScanId),
    /// The list of a scan's accounts is another process's by now.
    #[error("the accounts of scan {0} are listed by another process by now; nothing was written")]
    ClaimLost(ScanId),
    /// There is no scan to take part in.
    #[error("organization `{0}` has no scan at work that this process can take part in")]
    NothingAtWork(String),
    /// The schedule's instant has its scan.
    #[error("the scan of organization `{organization}` for {instant} was made already")]
    AlreadyMade {
        /// The configuration's name of the organization.
        organization: String,
        /// The instant of its schedule.
        instant: DateTime<Utc>,
    },
    /// A transaction does not end.
    #[error("the database has given no answer for {}", TimeSpan(*.0))]
    Hangs(Duration),
    /// The database was away for longer than it is waited for.
    #[error("{problem}; it was waited for {waited} (store.max_outage)")]
    Away {
        /// What was being done, and what the engine said.
        problem: Box<StoreError>,
        /// For how long.
        waited: TimeSpan,
    },
    /// A history cannot be moved as asked.
    #[error("moving the history: {0}")]
    Transfer(String),
    /// The database was made by a newer program.
    #[error(
        "the database has schema version {found}, and this trustwatch knows versions up to {known}; use a newer trustwatch, or another database"
    )]
    NewerSchema {
        /// The version of the database.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The database is older than the program, and may not be changed now.
    #[error("the database has schema version {found}, and this trustwatch needs {known}; run `trustwatch migrate`")]
    OutdatedSchema {
        /// The version of the database.
        found: i64,
        /// What this program needs.
        known: i64,
    },
    /// The server lets nobody write.
    #[error(
        "the database only lets us read: its server is a standby, or sets default_transaction_read_only; the primary is tried again"
    )]
    Standby,
    /// A migration failed; nothing of it remains.
    #[error("migrating the database: {0}")]
    Migrate(sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("{doing}: {}", said(error))]
    Statement {
        /// What was being done.
        doing: &'static str,
        /// What the engine said.
        error: sqlx::Error,
    },
    /// A query that is none.
    #[error("only reading is allowed: a query is one statement that begins with SELECT, WITH, VALUES or EXPLAIN")]
    NotAQuery,
    /// The database holds something that the schema does not allow.
    #[error("{doing}: the database holds {problem}")]
    Corrupt {
        /// What was being done.
        doing: &'static str,
        /// What was found.
        problem: String,
    },
}

impl StoreError {
    /// Whether it may be gone by the next scan: another process at work, or a database that was away.
    pub fn is_passing(&self) -> bool {
        self.is_away()
            || matches!(
                self,
                Self::ScanRunning(_) | Self::ScanEnded(_) | Self::NothingAtWork(_) | Self::AlreadyMade { .. }
            )
    }

    /// Whether the database is away, or a transaction came in another's way: the same may be tried again.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Away { .. } | Self::Hangs(_) | Self::Standby => true,
            Self::Statement { error, .. } => match error {
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::Protocol(_)
                | sqlx::Error::WorkerCrashed => true,
                sqlx::Error::Database(error) => is_engine_away(error.as_ref()),
                _ => false,
            },
            _ => false,
        }
    }
}

/// Whether an engine said that it cannot do now what it could do before, and may do again.
fn is_engine_away(error: &dyn sqlx::error::DatabaseError) -> bool {
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        // The server shuts down or starts (57P), has no disk, memory or connection left (53), connections break (08), transactions
        // conflict (40), or the session may only read, because the server is a standby by now (25006). The server ended a
        // transaction of ours that stood still for as long as a lease (25P03), or a statement that took as long as it lets any (57014), or
        // waited as long for a lock (55P03).
        return ["57P", "57014", "53", "08", "40", "25006", "25P03", "55P03"]
            .iter()
            .any(|class| error.code().starts_with(class));
    }
    // SQLite: another process has the file (5, 6), or the disk is full (13). The lowest byte is the code without its extension.
    let code = error.code().and_then(|code| code.parse::<i32>().ok());
    code.is_some_and(|code| [5, 6, 13].contains(&(code & 0xff)))
}

/// What an engine said. Postgres would add a line of its own source, which looks like one of the query.
pub(super) fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

/// Says what was being done when a statement failed.
pub(super) trait Doing<T> {
    /// Adds what was being done.
    fn doing(self, what: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::Statement { doing, error })
    }
}

/// Reads a word of a closed set from a column.
pub(super) fn word<T: FromStr<Err = UnknownWord>>(doing: &'static str, word: &str) -> Result<T, StoreError> {
    word.parse().map_err(|error: UnknownWord| StoreError::Corrupt { doing, problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_is_waited_for_and_a_statement_that_is_wrong_is_not() {
        use sqlx::{Connection, Executor, SqliteConnection};
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        connection.execute("PRAGMA max_page_count = 2; CREATE TABLE a (b TEXT)").await.unwrap();
        let full = connection.execute("INSERT INTO a VALUES (zeroblob(100000))").await;
        assert!(full.doing("writing").unwrap_err().is_away());
        let wrong = connection.execute("INSERT INTO c VALUES (1)").await;
        assert!(!wrong.doing("writing").unwrap_err().is_away());
    }

    #[tokio::test(start_paused = true)]
    async fn a_verb_that_gives_no_answer_ends_as_if_the_database_were_away() {
        let hung: Result<(), StoreError> = bounded(std::future::pending()).await;
        let error = hung.unwrap_err();
        assert!(error.is_away() && error.is_passing(), "{error}");
        assert!(bounded(async { Ok(7) }).await.is_ok_and(|answer| answer == 7));
    }
}
