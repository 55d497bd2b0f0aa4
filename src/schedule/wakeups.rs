//! Being woken at about the right time. The only user of tokio-cron-scheduler.
//!
//! The scheduler is a wake-up, not an authority: it forgets ticks that were missed, and freezes a time zone's offset when
//! a job is made, so that it is an hour wrong after the clocks change. Whoever is woken asks [`due`](super::due).

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use super::Timetable;

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
    use std::time::Duration;

    use super::*;
    use crate::config;

    #[tokio::test]
    async fn the_scheduler_wakes_whoever_waits() {
        let schedule = config::Schedule { cron: "* * * * * *".into(), ..config::Schedule::default() };
        let wake = Arc::new(Notify::new());
        let wakeups = Wakeups::start().await.unwrap();
        wakeups.add(&Timetable::read(&schedule, "main").unwrap(), Arc::clone(&wake)).await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), wake.notified()).await.unwrap();
        wakeups.stop().await;
    }
}
