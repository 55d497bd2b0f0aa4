//! `trustwatch migrate`: the schema, up to date.

use clap::Args;

use super::{Context, Failure, load_quietly, say};
use crate::store::{self, Access, StoreError};

/// Bring the database's schema up to date.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  trustwatch migrate --store sqlite:///var/lib/trustwatch/trustwatch.db")]
pub struct Migrate {}

impl Migrate {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = load_quietly(context)?;
        let url = &loaded.config.store.url;
        let before = match store::schema_version(url).await {
            Ok(version) => version.found,
            Err(StoreError::Missing(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        store::open(url, Access::Write { migrate: true }).await?.close().await;
        let after = store::schema_version(url).await?.found;
        if before == after {
            say(&format!("the schema is up to date, at version {after}"))?;
        } else {
            say(&format!("migrated from version {before} to version {after}"))?;
        }
        Ok(())
    }
}
