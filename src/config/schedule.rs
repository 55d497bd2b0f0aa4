//! `[schedule]`: when `trustwatch run` scans.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TimeSpan;

/// When `trustwatch run` scans.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// A cron expression of five fields (minute, hour, day of month, month, day of week), or six with seconds first. The
    /// default is once an hour, at a minute that not everybody else has chosen.
    pub cron: String,
    /// The IANA time zone in which the expression is read, such as `Europe/Berlin`.
    pub time_zone: String,
    /// How much later than its time a scan may begin, at most. Each instant has a delay of its own, the same for every process of
    /// an organization, so that those of many organizations do not begin together.
    pub jitter: TimeSpan,
    /// Whether `trustwatch run` scans when it starts.
    pub on_start: OnStart,
    /// What becomes of an instant that came while no process ran. However many did, one scan makes up for all.
    pub missed: Missed,
}

/// Whether `trustwatch run` scans when it starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnStart {
    /// Where no completed scan has begun since the schedule's newest instant.
    #[default]
    IfStale,
    /// Only when the schedule says so.
    Never,
}

/// What becomes of an instant that came while no process ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Missed {
    /// It is made up for, once.
    #[default]
    RunOnce,
    /// It is let go. `on_start` may still find the results stale.
    Skip,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            cron: "17 * * * *".into(),
            time_zone: "UTC".into(),
            jitter: TimeSpan::seconds(0),
            on_start: OnStart::default(),
            missed: Missed::default(),
        }
    }
}
