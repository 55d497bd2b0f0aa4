//! When a scan is due. The only user of tokio-cron-scheduler.
//!
//! The scheduler is a wake-up, not an authority: it forgets ticks that were missed, and freezes a time zone's offset when
//! a job is made, so that it is an hour wrong after the clocks change. What is due is the pure function [`due`]; a plain
//! interval asks it too.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::config;
use crate::model::CronLine;

/// How often the question is asked without a wake-up.
pub const WATCHDOG: Duration = Duration::from_secs(20);

/// Instants that are looked at to find the newest one missed; more than a week of every minute.
const MOST_MISSED: usize = 12_000;

/// A schedule that has been checked.
#[derive(Debug, Clone)]
pub struct Timetable {
    line: CronLine,
    text: String,
    zone: Tz,
}

impl Timetable {
    /// Reads a schedule of the configuration.
    ///
    /// # Errors
    /// Where the expression or the zone cannot be read, which validation has refused before.
    pub fn read(schedule: &config::Schedule) -> anyhow::Result<Self> {
        let zone = schedule.time_zone.parse().map_err(|error| anyhow::anyhow!("schedule.time_zone: {error}"))?;
        Ok(Self { line: CronLine::parse(&schedule.cron)?, text: schedule.cron.clone(), zone })
    }

    /// The next scheduled instant after `after`.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.line.next_after(after, self.zone)
    }
}

/// The newest scheduled instant after `last` that has come by `now`: however many were missed, one scan makes up for
/// all of them.
pub fn due(timetable: &Timetable, last: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let mut newest = None;
    let mut at = last;
    for _ in 0..MOST_MISSED {
        match timetable.next_after(at) {
            Some(next) if next <= now => {
                newest = Some(next);
                at = next;
            }
            _ => break,
        }
    }
    newest
}

/// Wakes whoever waits at about the times of a timetable.
pub struct Wakeups {
    scheduler: JobScheduler,
}

impl Wakeups {
    /// Starts without any job.
    ///
    /// # Errors
    /// Where the scheduler cannot be started.
    pub async fn start() -> Result<Self, JobSchedulerError> {
        let scheduler = JobScheduler::new().await?;
        scheduler.start().await?;
        Ok(Self { scheduler })
    }

    /// Adds a timetable.
    ///
    /// # Errors
    /// Where the scheduler does not take the expression.
    pub async fn add(&self, timetable: &Timetable, wake: Arc<Notify>) -> Result<(), JobSchedulerError> {
        // The scheduler wants a field for seconds.
        let six_fields = if timetable.text.split_whitespace().count() == 5 {
            format!("0 {}", timetable.text)
        } else {
            timetable.text.clone()
        };
        let job = Job::new_async_tz(six_fields.as_str(), timetable.zone, move |_, _| {
            let wake = Arc::clone(&wake);
            Box::pin(async move { wake.notify_one() })
        })?;
        self.scheduler.add(job).await.map(|_| ())
    }

    /// Stops waking anybody.
    pub async fn stop(mut self) {
        // A job only notifies, so there is nothing to wait for and nothing to lose.
        let _ = self.scheduler.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timetable(cron: &str, zone: &str) -> Timetable {
        Timetable::read(&config::Schedule { cron: cron.into(), time_zone: zone.into() }).unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_is_due_before_its_time_and_nothing_twice() {
        let hourly = timetable("17 * * * *", "UTC");
        assert_eq!(due(&hourly, at("2026-11-23T09:17:00Z"), at("2026-11-23T10:16:59Z")), None);
        let noon = at("2026-11-23T10:17:00Z");
        assert_eq!(due(&hourly, at("2026-11-23T09:17:00Z"), noon), Some(noon));
        assert_eq!(due(&hourly, noon, noon), None);
    }

    #[test]
    fn ticks_that_were_missed_are_made_up_once() {
        let hourly = timetable("17 * * * *", "UTC");
        let due = due(&hourly, at("2026-11-23T01:17:00Z"), at("2026-11-23T10:30:00Z"));
        assert_eq!(due, Some(at("2026-11-23T10:17:00Z")));
    }

    #[test]
    fn a_daily_scan_follows_the_local_clock_through_both_changes() {
        let daily = timetable("0 9 * * *", "Europe/Berlin");
        for (last, next) in
            [("2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z"), ("2026-10-24T07:00:00Z", "2026-10-25T08:00:00Z")]
        {
            assert_eq!(daily.next_after(at(last)), Some(at(next)));
        }
    }

    #[tokio::test]
    async fn the_scheduler_wakes_whoever_waits() {
        let wake = Arc::new(Notify::new());
        let wakeups = Wakeups::start().await.unwrap();
        wakeups.add(&timetable("* * * * * *", "Europe/Berlin"), Arc::clone(&wake)).await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), wake.notified()).await.unwrap();
        wakeups.stop().await;
    }
}
