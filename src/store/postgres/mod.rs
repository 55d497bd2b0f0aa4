//! Results in a schema of a Postgres database.

mod engine;
mod query;
#[path = "../sql/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "the statements are compiled against each engine")]
mod sql;

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::error::{Doing, said};
use super::{Access, SchemaVersion, StoreError};
use crate::config;

pub use engine::{Engine, execute};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Connections at once. One is asked whether it still works before it is used, so that a server that was restarted is
/// found again, and where it is to write, whether it may: after a failover it could lead to what is a standby by now.
const CONNECTIONS: u32 = 8;

/// How long a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Opens a schema; creates it where `access` allows.
///
/// # Errors
/// As [`super::open`].
pub async fn open(settings: &config::Store, access: Access) -> Result<Engine, StoreError> {
    let mut options = options(settings)?;
    let writes = matches!(access, Access::Write { .. });
    if !writes {
        options = options.options([("default_transaction_read_only", "on")]);
    }
    let pool = connect(settings, &options, writes).await?;
    let checked = match access {
        Access::Read | Access::Stream | Access::Write { migrate: false } => {
            version(&pool).await.and_then(SchemaVersion::check)
        }
        Access::Write { migrate: true } => bring_up_to_date(&pool, &settings.schema).await,
    };
    if let Err(error) = checked {
        pool.close().await;
        return Err(error);
    }
    Ok(Engine { pool, writes, lease: settings.lease.0 })
}

/// What a database says of its schema. Whoever asks is about to write to it.
pub async fn schema_version(settings: &config::Store) -> Result<SchemaVersion, StoreError> {
    let pool = connect(settings, &options(settings)?, true).await?;
    let version = version(&pool).await;
    pool.close().await;
    version
}

fn options(settings: &config::Store) -> Result<PgConnectOptions, StoreError> {
    let failed = |error: sqlx::Error| connect_error(settings, &error);
    let mut options = PgConnectOptions::from_str(&settings.url).map_err(failed)?;
    // Over a network nothing less than a verified server is the default; a socket of this machine has no TLS.
    if matches!(options.get_ssl_mode(), PgSslMode::Prefer | PgSslMode::Allow) && !settings.url.contains("sslmode=") {
        let local = options.get_socket().is_some();
        options = options.ssl_mode(if local { PgSslMode::Disable } else { PgSslMode::VerifyFull });
    }
    if let Some(password) = &settings.password {
        options = options.password(password.expose());
    }
    // A server that notices dead clients soon lets go of what they held.
    let alive = [("tcp_keepalives_idle", "60"), ("tcp_keepalives_interval", "10"), ("tcp_keepalives_count", "3")];
    // A process that freezes in the middle of a transaction holds what it has locked no longer than what it has claimed.
    let idle = [("idle_in_transaction_session_timeout", settings.lease.0.as_millis().to_string())];
    // What `query::literal` writes is one literal only where a backslash is a letter like any other, whatever the server's default.
    let literals = [("standard_conforming_strings", "on")];
    let options = options.application_name("trustwatch").options([("search_path", &settings.schema)]);
    let options = options.options(alive).options(idle).options(literals);
    Ok(options.disable_statement_logging())
}

async fn connect(settings: &config::Store, options: &PgConnectOptions, writes: bool) -> Result<PgPool, StoreError> {
    // The pool would try again until its patience ends, and hide why.
    let mut first = options.connect().await.map_err(|error| connect_error(settings, &error))?;
    let is_usable = !writes || may_write(&mut first).await.doing("connecting to the database")?;
    let _ = sqlx::Connection::close(first).await;
    if !is_usable {
        return Err(StoreError::Standby);
    }
    let mut pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
    if writes {
        pool = pool.test_before_acquire(false).before_acquire(|connection, _| Box::pin(may_write(connection)));
    }
    Ok(pool.connect_lazy_with(options.clone()))
}

/// Whether a connection leads to a server that lets us write: what libpq's `target_session_attrs=read-write` asks.
async fn may_write(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT NOT CAST(current_setting('transaction_read_only') AS BOOLEAN)")
        .fetch_one(connection)
        .await
}

fn connect_error(settings: &config::Store, error: &sqlx::Error) -> StoreError {
    const PROVE: &str = "the server must prove who it is: name its certificate authority with ?sslrootcert=FILE, or choose \
                         another ?sslmode= (disable, where it has no TLS)";
    let advice = match error {
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some("28P01" | "28000") => "check the user in the URL, and the password file",
            Some("3D000") => "create the database first, or name another in the URL",
            Some("53300") => "the server has no connection left",
            _ => "this is the server's answer",
        },
        // A certificate that is not accepted is one of these, too.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => PROVE,
        sqlx::Error::Io(_) => "check the host and port in the URL, and that the server runs",
        sqlx::Error::Tls(_) => PROVE,
        _ => "check the URL",
    };
    StoreError::Connect { server: settings.shown_url(), problem: format!("{}; {advice}", said(error)) }
}

async fn version(pool: &PgPool) -> Result<SchemaVersion, StoreError> {
    const DOING: &str = "reading the schema's version";
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let has_table: bool =
        sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(pool).await.doing(DOING)?;
    let found = if has_table {
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success")
            .fetch_one(pool)
            .await
            .doing(DOING)?
    } else {
        0
    };
    Ok(SchemaVersion { found, known })
}

/// Makes the schema where it is missing, and migrates it: one process at a time, the others wait and find it done.
async fn bring_up_to_date(pool: &PgPool, schema: &str) -> Result<(), StoreError> {
    const DOING: &str = "migrating the database";
    match version(pool).await?.check() {
        Err(StoreError::OutdatedSchema { .. }) => {}
        other => return other,
    }
    let mut transaction = pool.begin().await.doing(DOING)?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('trustwatch schema', 0))")
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
    // Not IF NOT EXISTS: that needs the right to create schemas even where there is nothing to create.
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(&mut *transaction)
        .await
        .doing(DOING)?;
    if !exists {
        // The configuration allows letters, digits and underscores only.
        let create = format!("CREATE SCHEMA {schema}");
        sqlx::query(AssertSqlSafe(create)).execute(&mut *transaction).await.doing(DOING)?;
    }
    transaction.commit().await.doing(DOING)?;
    let mut connection = pool.acquire().await.doing(DOING)?.detach();
    let migrated = MIGRATIONS.run_direct(None, &mut connection, false).await.map_err(StoreError::Migrate);
    let _ = sqlx::Connection::close(connection).await;
    migrated
}
