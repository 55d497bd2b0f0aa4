//! How fast: token buckets that learn from AWS's throttling.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::super::costs::Busy;
use crate::config::Rate;

/// What a call costs at full rate. It costs more while AWS throttles, so that one bucket can run at any share of its rate.
const PRICE: u32 = 1000;

/// What is left of the rate after AWS throttled: multiplicative decrease.
const DECREASE: f64 = 0.7;

/// The share of the rate that comes back each second: additive increase, from a half to the whole in five seconds.
const INCREASE: f64 = 0.1;

/// The least share of a rate, so that a bucket can find out that things are better again.
const LEAST: f64 = 1.0 / 32.0;

/// Calls that were under way together are throttled together: within this time they are one event.
const ONE_EVENT: Duration = Duration::from_millis(250);

/// The longest that AWS's own `Retry-After` is followed.
pub const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Tokio's clock, so that buckets keep the same time as deadlines do.
#[derive(Debug, Clone)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

/// One bucket: one operation that one account is charged for, in one region.
#[derive(Debug)]
pub struct Bucket {
    limiter: Limiter,
    clock: TokioClock,
    /// Whoever waits, waits in turn.
    turn: tokio::sync::Mutex<()>,
    pace: Mutex<Pace>,
    /// The processes that share the rate.
    among: Arc<AtomicU32>,
}

/// How much of its rate a bucket dares.
#[derive(Debug)]
struct Pace {
    share: f64,
    /// When the share was that.
    at: Instant,
    /// Not before this, because AWS said so.
    held_until: Instant,
}

impl Pace {
    fn share(&self, now: Instant) -> f64 {
        (self.share + INCREASE * now.saturating_duration_since(self.at).as_secs_f64()).min(1.0)
    }
}

impl Bucket {
    /// A full bucket, of which each of `among` processes has its part.
    pub fn new(rate: Rate, among: Arc<AtomicU32>) -> Self {
        let now = Instant::now();
        let clock = TokioClock(now);
        // Validation holds rates between a call in 1,000 seconds and a million calls a second.
        let cells = rate.per_second * f64::from(PRICE);
        let burst = NonZeroU32::new(rate.burst.saturating_mul(PRICE)).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(Duration::from_secs_f64(1.0 / cells))
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
            turn: tokio::sync::Mutex::default(),
            pace: Mutex::new(Pace { share: 1.0, at: now, held_until: now }),
            among,
        }
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more call may be made; `waiting` counts for how long anybody waits.
    pub async fn take(&self, waiting: &Busy) {
        if self.turn.try_lock().is_ok() && self.try_take() {
            return;
        }
        let _waiting = waiting.enter();
        let _turn = self.turn.lock().await;
        let held_until = self.pace().held_until;
        tokio::time::sleep_until(held_until).await;
        let mut left = self.price();
        while left > 0 {
            let part = left.min(PRICE);
            while let Some(wait) = self.pay(part) {
                tokio::time::sleep(wait).await;
            }
            left -= part;
        }
    }

    /// Takes without waiting, where nothing holds the bucket back.
    fn try_take(&self) -> bool {
        let price = self.price();
        let is_held = self.pace().held_until > Instant::now();
        !is_held && price == PRICE && self.pay(price).is_none()
    }

    /// Pays, or says how long to wait first.
    fn pay(&self, cells: u32) -> Option<Duration> {
        let cells = NonZeroU32::new(cells)?;
        match self.limiter.check_n(cells) {
            Ok(Err(not_yet)) => Some(not_yet.wait_time_from(self.clock.now())),
            // Paid; or more than the bucket ever holds, which no part is: the burst is one call at least.
            Ok(Ok(())) | Err(_) => None,
        }
    }

    fn price(&self) -> u32 {
        let share = self.pace().share(Instant::now());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between PRICE and PRICE / LEAST")]
        let price = (f64::from(PRICE) / share).round() as u32;
        price.saturating_mul(self.among.load(Ordering::Relaxed))
    }

    /// AWS throttled a call: the rate falls, and nothing is asked before AWS's own time is up.
    pub fn throttled(&self, retry_after: Option<Duration>) {
        let now = Instant::now();
        let mut pace = self.pace();
        let share = pace.share(now);
        if share >= 1.0 || now.saturating_duration_since(pace.at) >= ONE_EVENT {
            pace.share = (share * DECREASE).max(LEAST);
            pace.at = now;
        }
        if let Some(wait) = retry_after {
            pace.held_until = pace.held_until.max(now + wait.min(LONGEST_WAIT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(per_second: f64, burst: u32) -> Bucket {
        Bucket::new(Rate { per_second, burst }, Arc::new(AtomicU32::new(1)))
    }

    async fn takes(bucket: &Bucket, number: u32) -> Duration {
        let begun = Instant::now();
        let waiting = Busy::default();
        for _ in 0..number {
            bucket.take(&waiting).await;
        }
        begun.elapsed()
    }

    fn is_about(took: Duration, seconds: f64) {
        assert!((took.as_secs_f64() - seconds).abs() < 0.05, "{took:?}, expected {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_the_rest_comes_at_the_rate() {
        let bucket = bucket(8.0, 12);
        is_about(takes(&bucket, 12).await, 0.0);
        is_about(takes(&bucket, 40).await, 5.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_may_be_less_than_one_a_second() {
        let bucket = bucket(0.1, 1);
        is_about(takes(&bucket, 3).await, 20.0);
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_several_processes_dares_its_part_of_the_rate_and_of_the_burst() {
        let among = Arc::new(AtomicU32::new(4));
        let bucket = Bucket::new(Rate { per_second: 8.0, burst: 12 }, Arc::clone(&among));
        is_about(takes(&bucket, 3).await, 0.0);
        is_about(takes(&bucket, 10).await, 5.0);
        among.store(1, Ordering::Relaxed);
        is_about(takes(&bucket, 40).await, 5.0);
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_lowers_the_rate_once_for_each_event_and_it_comes_back() {
        let bucket = bucket(100.0, 1);
        takes(&bucket, 1).await;
        for _ in 0..50 {
            bucket.throttled(None);
        }
        let slow = takes(&bucket, 10).await;
        is_about(slow, 10.0 / 70.0);
        tokio::time::sleep(Duration::from_secs(3)).await;
        is_about(takes(&bucket, 101).await, 1.0);
    }

    #[tokio::test(start_paused = true)]
    async fn however_often_it_is_throttled_a_bucket_goes_on() {
        let bucket = bucket(32.0, 1);
        for _ in 0..40 {
            tokio::time::sleep(ONE_EVENT).await;
            bucket.throttled(None);
        }
        assert!(takes(&bucket, 2).await < Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_asked_before_the_time_that_aws_names_and_a_very_long_one_is_cut() {
        let bucket = bucket(100.0, 100);
        bucket.throttled(Some(Duration::from_secs(7)));
        let first = takes(&bucket, 1).await;
        assert!(first >= Duration::from_secs(7) && first < Duration::from_secs(8), "{first:?}");
        bucket.throttled(Some(Duration::from_hours(9)));
        assert!(takes(&bucket, 1).await <= LONGEST_WAIT + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_wait_share_the_rate() {
        let bucket = bucket(10.0, 1);
        let begun = Instant::now();
        let waiting = Busy::default();
        futures_util::future::join_all((0..21).map(|_| bucket.take(&waiting))).await;
        is_about(begun.elapsed(), 2.0);
        is_about(waiting.total(), 2.0);
    }
}
