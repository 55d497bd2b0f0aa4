//! `[store]`: where results are kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where results are kept.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `sqlite://FILE`, relative to the working directory. WAL mode is used, so the file must not be on a network file
    /// system.
    pub url: String,
    /// Whether `scan` and `run` bring the schema up to date when they start. Where it is off, `trustwatch migrate` does,
    /// and an outdated schema is refused.
    pub migrate_on_start: bool,
}

impl Default for Store {
    fn default() -> Self {
        Self { url: "sqlite://trustwatch.db".into(), migrate_on_start: true }
    }
}
