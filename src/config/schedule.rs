//! `[schedule]`: when `trustwatch run` scans.

use chrono::DateTime;
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TimeSpan;
use crate::model::CronLine;

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
    /// Where no completed scan has begun since the schedule's newest instant by the configuration as it is.
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

/// What is wrong with a cron expression and the time zone that it is read in: the key and the problem of each.
pub(super) fn check_instants(cron: &str, time_zone: &str) -> Vec<(&'static str, String)> {
    let expected = "expected a cron expression";
    let example = "such as \"17 * * * *\" for every hour";
    let cron = match (cron.split_whitespace().count(), CronLine::parse(cron)) {
        (5 | 6, Err(error)) => Some(format!("{}; {expected} {example}", error.to_string().trim_end_matches('.'))),
        (5 | 6, Ok(line)) if line.next_after(DateTime::UNIX_EPOCH, Tz::UTC).is_none() => {
            Some(format!("it never comes; {expected} {example}"))
        }
        (5 | 6, Ok(_)) => None,
        (count, _) => Some(format!("{expected} of five or six fields, {example}, found {count}")),
    };
    let zone = time_zone
        .parse::<Tz>()
        .is_err()
        .then(|| "not an IANA time zone; expected one such as \"Europe/Berlin\" or \"UTC\"".to_owned());
    cron.map(|problem| ("cron", problem)).into_iter().chain(zone.map(|problem| ("time_zone", problem))).collect()
}
