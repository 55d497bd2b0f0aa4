//! Cron expressions: checked where they are configured, evaluated in their time zone.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};

/// A cron expression of five fields, or of six with seconds first.
#[derive(Debug, Clone)]
pub struct CronLine(Cron);

impl CronLine {
    /// Reads an expression.
    ///
    /// # Errors
    /// What the parser does not understand.
    pub fn parse(text: &str) -> Result<Self, croner::errors::CronError> {
        CronParser::builder().seconds(Seconds::Optional).build().parse(text).map(Self)
    }

    /// The first instant after `after` at which the expression holds in the time zone; `None` where there is none.
    pub fn next_after(&self, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let local = after.with_timezone(&zone);
        self.0.find_next_occurrence(&local, false).ok().map(|next| next.with_timezone(&Utc))
    }

    /// The last instant up to `until`, that one included, at which the expression held in the time zone; `None` where there is
    /// none.
    pub fn newest_until(&self, until: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let local = until.with_timezone(&zone);
        self.0.find_previous_occurrence(&local, true).ok().map(|newest| newest.with_timezone(&Utc))
    }
}
