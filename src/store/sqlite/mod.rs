//! Results in a SQLite file: one writer, any number of readers that never wait for it.

mod engine;
mod query;
#[path = "../sql/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "the statements are compiled against each engine")]
mod sql;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::error::Doing;
use super::{Access, SchemaVersion, StoreError};
use crate::config;

pub use engine::Engine;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Readers at once.
const READERS: u32 = 4;

/// How long a connection is waited for, and the file where another holds it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a connection may use of memory, and whether it reads the file where it lies in the operating system's cache instead of
/// copying it.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// SQLite's negative KiB. As much again is used to sort.
    cache: &'static str,
    /// Bytes.
    mapped: &'static str,
}

/// Of a process that scans, for ever: flat, however large the file. What it writes, it reads again soon: a smaller cache costs a
/// fifth of the CPU of a scan.
const WRITING: Memory = Memory { cache: "-8192", mapped: "0" };

/// Of what such a process reads beside that.
const FRUGAL: Memory = Memory { cache: "-2048", mapped: "0" };

/// Of a process that asks and goes: 16 MB, and a mapping of 1 GiB.
const FAST: Memory = Memory { cache: "-16384", mapped: "1073741824" };

/// The file that a store's URL names: `sqlite://relative`, `sqlite:///absolute` or `sqlite:relative`.
pub fn file_of(url: &str) -> PathBuf {
    let rest = url.strip_prefix("sqlite:").unwrap_or(url);
    PathBuf::from(rest.strip_prefix("//").unwrap_or(rest))
}

/// Opens a file; creates it where `access` allows.
///
/// # Errors
/// As [`super::open`].
pub async fn open(settings: &config::Store, access: Access) -> Result<Engine, StoreError> {
    let path = file_of(&settings.url);
    let writes = matches!(access, Access::Write { .. });
    if !writes && !path.exists() {
        return Err(StoreError::Missing(path));
    }
    let lock = match access {
        Access::Read | Access::Stream => None,
        Access::Write { .. } => Some(lock(&path)?),
    };
    let mut writer = None;
    if let Access::Write { migrate } = access {
        let pool = lasting()
            .max_connections(1)
            // Where the disk is full, SQLite ends a transaction by itself, and whoever counts them is one behind.
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options(&path, WRITING).create_if_missing(true).journal_mode(SqliteJournalMode::Wal))
            .await
            .map_err(|error| open_error(&path, &error))?;
        bring_up_to_date(&pool, migrate).await?;
        // Whoever took part in a scan before is dead: it held the right to write.
        sqlx::query("DELETE FROM participant").execute(&pool).await.doing("opening the database")?;
        writer = Some(pool);
    }
    let memory = if access == Access::Read { FAST } else { FRUGAL };
    let mut readers = lasting().max_connections(READERS);
    if writes {
        // A process that scans for ever reads now and then: between two times it holds nothing.
        readers = readers.after_release(|connection, _| {
            Box::pin(async move {
                sqlx::query("PRAGMA shrink_memory").execute(connection).await?;
                Ok(true)
            })
        });
    }
    let reader = readers
        .connect_with(options(&path, memory).read_only(true).pragma("query_only", "on"))
        .await
        .map_err(|error| open_error(&path, &error))?;
    if writer.is_none() {
        version(&reader).await?.check()?;
    }
    Ok(Engine { writer, reader, lock, path, lease: settings.lease.0 })
}

/// Connections to a file do not grow old as those to a server do: a new one in the place of another begins without its statements, and
/// the memory of the old one is not where the new one wants it, so that a process that scans for ever would grow.
fn lasting() -> SqlitePoolOptions {
    // Whoever writes waits for the one connection that may: that is no reason to warn, as long as it does not end.
    SqlitePoolOptions::new()
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(PATIENCE)
        .acquire_slow_threshold(PATIENCE)
}

fn options(path: &Path, memory: Memory) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(true)
        .busy_timeout(PATIENCE)
        .optimize_on_close(true, None)
        .pragma("cache_size", memory.cache)
        .pragma("mmap_size", memory.mapped)
        .disable_statement_logging()
}

/// Takes the right to write, or says that another process has it.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |error: &std::io::Error| StoreError::Open { path: path.to_owned(), problem: unwritable(error) };
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// Why a folder cannot be written, and what to do.
fn unwritable(error: &std::io::Error) -> String {
    let advice = "make it so, or name another with store.url or --store";
    match error.kind() {
        std::io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "{error}; the disk is read-only, and SQLite writes beside the file even to read it: make it writable, or name another with \
             store.url or --store"
            )
        }
        _ => format!("{error}; its folder must be there and writable: {advice}"),
    }
}

fn open_error(path: &Path, error: &sqlx::Error) -> StoreError {
    let problem = match error {
        sqlx::Error::Database(error) if error.message().contains("unable to open") => {
            "the file cannot be opened; is its folder there, and may this user read and write it?".to_owned()
        }
        sqlx::Error::Database(error) if error.message().contains("not a database") => {
            "the file is not a SQLite database".to_owned()
        }
        sqlx::Error::Database(error) if error.message().contains("readonly") => {
            "this user may not write the file or its folder, which SQLite needs even to read; give it that right, or copy \
             the file elsewhere"
                .to_owned()
        }
        other => format!("{other}; is its disk full, or a network file system?"),
    };
    StoreError::Open { path: path.to_owned(), problem }
}

async fn version(pool: &SqlitePool) -> Result<SchemaVersion, StoreError> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let has_table: bool =
        sqlx::query_scalar("SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'")
            .fetch_one(pool)
            .await
            .doing("reading the schema's version")?;
    let found = if has_table {
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success")
            .fetch_one(pool)
            .await
            .doing("reading the schema's version")?
    } else {
        0
    };
    Ok(SchemaVersion { found, known })
}

async fn bring_up_to_date(pool: &SqlitePool, migrate: bool) -> Result<(), StoreError> {
    match version(pool).await?.check() {
        Err(StoreError::OutdatedSchema { .. }) if migrate => {
            let mut connection = pool.acquire().await.doing("migrating the database")?;
            MIGRATIONS.run_direct(None, &mut *connection, false).await.map_err(StoreError::Migrate)
        }
        other => other,
    }
}

/// Whether this process could make or write a SQLite file: what a scan finds out, without one.
///
/// # Errors
/// Where it could not: the folder is missing or may not be written, or another process writes.
pub fn check_writable(url: &str) -> Result<(), StoreError> {
    lock(&file_of(url)).map(|_| ())
}

/// What a database says of its schema.
pub async fn schema_version(url: &str) -> Result<SchemaVersion, StoreError> {
    let path = file_of(url);
    if !path.exists() {
        return Err(StoreError::Missing(path));
    }
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options(&path, FRUGAL).read_only(true))
        .await
        .map_err(|error| open_error(&path, &error))?;
    let version = version(&pool).await;
    pool.close().await;
    version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_a_full_disk_the_writer_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("full.db").display());
        let engine = open(&config::Store::at(url), Access::Write { migrate: true }).await.unwrap();
        let pool = engine.writer().unwrap();
        sqlx::query("PRAGMA max_page_count = 1").execute(pool).await.unwrap();
        let mut transaction = engine::begin(pool).await.unwrap();
        let insert = sqlx::query("INSERT INTO worker (name) VALUES (hex(randomblob(1000000)))");
        let full = insert.execute(&mut *transaction).await.doing("writing").unwrap_err();
        assert!(full.is_away(), "{full}");
        drop(transaction);
        engine::begin(pool).await.unwrap().commit().await.unwrap();
    }

    #[test]
    fn a_read_only_disk_is_called_one() {
        let error = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(
            super::unwritable(&error),
            "read-only filesystem or storage medium; the disk is read-only, and SQLite writes beside the file even to read \
             it: make it writable, or name another with store.url or --store"
        );
    }
}
