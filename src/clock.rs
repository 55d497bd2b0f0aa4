//! Time as a parameter, so that a test says what time it is.

use chrono::{DateTime, SubsecRound, Utc};

/// Says what time it is.
pub trait Clock: Send + Sync {
    /// Now, to the microsecond: what both engines can store.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }
}
