//! `trustwatch migrate`: the schema, up to date; or a whole history, moved from SQLite to Postgres.

use std::path::PathBuf;

use clap::Args;

use super::{Context, Failure, load_quietly, say};
use crate::config::{Secret, Store};
use crate::model::grouped;
use crate::store::{self, Access, StoreError};

/// Bring the database's schema up to date, or move a history from SQLite to Postgres.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trustwatch migrate --store sqlite:///var/lib/trustwatch/trustwatch.db\n  \
    trustwatch migrate --from sqlite:///var/lib/trustwatch/trustwatch.db \\\n    \
        --to postgres://trustwatch@db.example.com/trustwatch --to-password-file /run/secrets/db")]
pub struct Migrate {
    /// Move the history out of this SQLite file: sqlite://FILE. Nobody may write to it meanwhile; it is left as it is.
    #[arg(long, value_name = "URL", requires = "to")]
    from: Option<String>,
    /// Move it into this Postgres database, which must hold no history yet: postgres://USER@HOST/DATABASE
    #[arg(long, value_name = "URL", requires = "from")]
    to: Option<String>,
    /// The file that holds the password for --to. Without it: the configuration's, or libpq's ~/.pgpass.
    #[arg(long, value_name = "FILE", requires = "to")]
    to_password_file: Option<PathBuf>,
    /// The schema in --to. Without it: the configuration's.
    #[arg(long, value_name = "NAME", requires = "to")]
    to_schema: Option<String>,
}

impl Migrate {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = load_quietly(context)?;
        let settings = &loaded.config.store;
        if let (Some(from), Some(to)) = (&self.from, &self.to) {
            return self.transfer(settings, from, to).await;
        }
        let before = match store::schema_version(settings).await {
            Ok(version) => version.found,
            Err(StoreError::Missing(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        store::open(settings, Access::Write { migrate: true }).await?.close().await;
        let after = store::schema_version(settings).await?.found;
        if before == after {
            say(&format!("the schema is up to date, at version {after}"))?;
        } else {
            say(&format!("migrated from version {before} to version {after}"))?;
        }
        Ok(())
    }

    async fn transfer(&self, settings: &Store, from: &str, to: &str) -> Result<(), Failure> {
        let mut target = Store { url: to.to_owned(), ..settings.clone() };
        if let Some(file) = &self.to_password_file {
            let unreadable = |error| {
                Failure::Usage(format!("--to-password-file {}: the file cannot be read: {error}", file.display()))
            };
            target.password = Some(Secret::read(file).map_err(unreadable)?);
        }
        if let Some(schema) = &self.to_schema {
            target.schema.clone_from(schema);
        }
        let source = Store { url: from.to_owned(), ..settings.clone() };
        for (argument, store) in [("--from", &source), ("--to", &target)] {
            if let Some(problem) = store.problem() {
                return Err(Failure::Usage(format!("{argument} {}: {problem}", store.shown_url())));
            }
        }
        if let Some(problem) = target.schema_problem() {
            return Err(Failure::Usage(format!("--to-schema {}: {problem}", target.schema)));
        }
        let moved = store::transfer(&source, &target).await?;
        for table in &moved {
            say(&format!("{:>12} rows of {}", grouped(table.rows), table.table))?;
        }
        say(&format!("moved to {}, and every row compared; now set store.url to it", target.shown_url()))
    }
}
