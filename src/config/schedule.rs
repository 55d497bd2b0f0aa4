//! `[schedule]`: when `trustwatch run` scans.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When `trustwatch run` scans.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// A cron expression of five fields (minute, hour, day of month, month, day of week), or six with seconds first. The
    /// default is once an hour, at a minute that not everybody else has chosen.
    pub cron: String,
    /// The IANA time zone in which the expression is read, such as `Europe/Berlin`.
    pub time_zone: String,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { cron: "17 * * * *".into(), time_zone: "UTC".into() }
    }
}
