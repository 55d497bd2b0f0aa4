//! When a scan is due.
//!
//! What is due is the pure function [`due`] of an organization's schedule, what the store says of its scans, and the time.
//! The scheduler's wake-ups ([`Wakeups`]) and a plain interval both lead to the same question, which may be asked at any time
//! and by any number of processes: a scan is unique per organization and scheduled instant.

mod follow;
mod wakeups;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use sha2::{Digest, Sha256};

use crate::config::{self, Missed, OnStart};
use crate::model::CronLine;

pub use follow::Follower;
pub use wakeups::Wakeups;

/// How often the question is asked without a wake-up.
const WATCHDOG: Duration = Duration::from_secs(20);

/// Instants whose jitter is not over that are passed over to find the newest that has come: twelve hours of every second.
const MOST_DELAYED: usize = 43_200;

/// A schedule that has been checked.
#[derive(Debug, Clone)]
pub struct Timetable {
    line: CronLine,
    text: String,
    zone: Tz,
    jitter: Duration,
    on_start: OnStart,
    missed: Missed,
    /// Each organization has delays of its own.
    salt: String,
}

impl Timetable {
    /// Reads a schedule of the configuration, of the organization of this name.
    ///
    /// # Errors
    /// Where the expression or the zone cannot be read, which validation has refused before.
    pub fn read(schedule: &config::Schedule, organization: &str) -> anyhow::Result<Self> {
        let config::Schedule { cron, time_zone, jitter, on_start, missed } = schedule;
        Ok(Self {
            line: CronLine::parse(cron)?,
            text: cron.clone(),
            zone: time_zone.parse().map_err(|error| anyhow::anyhow!("schedule.time_zone = {time_zone:?}: {error}"))?,
            jitter: jitter.0,
            on_start: *on_start,
            missed: *missed,
            salt: organization.to_owned(),
        })
    }

    /// The time of the next scan after `after`, its delay included.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // An earlier instant's delay may not be over yet.
        let mut next = self.line.next_after(after, self.zone).map(|instant| self.delayed(instant));
        let mut instant = self.line.newest_until(after, self.zone);
        for _ in 0..MOST_DELAYED {
            let Some(earlier) = instant.filter(|earlier| after - *earlier <= self.longest_delay()) else { break };
            next = next.into_iter().chain(Some(self.delayed(earlier)).filter(|at| *at > after)).min();
            instant = self.line.newest_until(earlier - TimeDelta::microseconds(1), self.zone);
        }
        next
    }

    /// The newest scheduled instant whose scan may have begun by `until`.
    pub fn newest_until(&self, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut instant = self.line.newest_until(until, self.zone)?;
        for _ in 0..MOST_DELAYED {
            if self.delayed(instant) <= until {
                return Some(instant);
            }
            instant = self.line.newest_until(instant - TimeDelta::microseconds(1), self.zone)?;
        }
        None
    }

    /// By when the scan of an instant should be completed: until the next instant, or within `longest`, from when it may begin.
    pub fn completed_by(&self, instant: DateTime<Utc>, longest: TimeDelta) -> DateTime<Utc> {
        let next = self.line.next_after(instant, self.zone).map_or(longest, |next| (next - instant).min(longest));
        self.delayed(instant).checked_add_signed(next).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// When the scan of an instant may begin. The delay hangs on nothing but the organization and the instant, so that all
    /// processes agree.
    fn delayed(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        let digest = Sha256::digest(format!("{} {}", self.salt, instant.timestamp()));
        let share = digest.iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
        let delay = self.jitter.mul_f64(f64::from(share) / f64::from(u32::MAX));
        instant + TimeDelta::from_std(delay).unwrap_or_default()
    }

    fn longest_delay(&self) -> TimeDelta {
        TimeDelta::from_std(self.jitter).unwrap_or_default()
    }
}

/// What the store says of an organization's scans.
#[derive(Debug, Clone, Copy, Default)]
pub struct Before {
    /// The newest instant of the schedule, up to now, that has a scan, however it ended.
    pub scheduled: Option<DateTime<Utc>>,
    /// When the newest completed scan of all accounts began that went by the configuration as it is.
    pub completed: Option<DateTime<Utc>>,
}

/// A scan that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The schedule's newest instant has no scan.
    Scheduled(DateTime<Utc>),
    /// The process starts, and the newest results are older than the schedule's newest instant, if it has come to one.
    Stale(Option<DateTime<Utc>>),
}

/// What is due at `now` in a process that runs since `up_since`, and that `is_starting` if it has not asked before.
///
/// However many instants were missed, one scan makes up for all of them: that of the newest. What a clock that was ahead has
/// left in the future says nothing: `before` is of the time up to `now`.
pub fn due(
    timetable: &Timetable,
    before: Before,
    up_since: DateTime<Utc>,
    is_starting: bool,
    now: DateTime<Utc>,
) -> Option<Due> {
    let newest = timetable.newest_until(now);
    let unmade = newest.filter(|newest| before.scheduled.is_none_or(|made| made < *newest));
    if let Some(instant) = unmade {
        // Before the first scan there was nothing to miss.
        let makes_up = timetable.missed == Missed::RunOnce && before.scheduled.is_some();
        if timetable.delayed(instant) > up_since || makes_up {
            return Some(Due::Scheduled(instant));
        }
    }
    let is_stale = match (before.completed, newest) {
        (None, _) => true,
        (Some(completed), Some(newest)) => completed < newest,
        (Some(_), None) => false,
    };
    (is_starting && is_stale && timetable.on_start == OnStart::IfStale).then_some(Due::Stale(unmade))
}

/// Whether a scan that should have been completed by `now` was not, though there was the time for it since this process runs
/// (`up_since`), or since a scan was begun: a process that begins again and again completes nothing. A scan has until the schedule's
/// next instant, and no longer than `longest`; `completed` is when the newest completed one began, and `unfinished_since` when the
/// oldest after that did.
pub fn is_overdue(
    timetable: &Timetable,
    longest: TimeDelta,
    completed: Option<DateTime<Utc>>,
    unfinished_since: Option<DateTime<Utc>>,
    up_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> bool {
    let Some(newest) = timetable.newest_until(now) else { return false };
    // The newest one may have begun just now; the one before it is over.
    let before = timetable.newest_until(newest - TimeDelta::microseconds(1));
    let is_over = |instant: &DateTime<Utc>| timetable.completed_by(*instant, longest) <= now;
    let Some(expected) = [Some(newest), before].into_iter().flatten().find(is_over) else { return false };
    // What nobody would make up for is not waited for.
    let is_wanted = timetable.delayed(expected) > up_since
        || timetable.on_start == OnStart::IfStale
        || (timetable.missed == Missed::RunOnce && completed.is_some());
    let allowed = timetable.completed_by(expected, longest) - expected;
    let since = unfinished_since.map_or(up_since, |begun| begun.min(up_since));
    is_wanted && completed.is_none_or(|completed| completed < expected) && now - since >= allowed
}

#[cfg(test)]
mod tests;
