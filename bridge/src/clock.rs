//! The only place that reads the clock and rolls dice, so that everything else can be told both.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Measures from a fixed moment: the core knows times only as durations.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

// === impl Clock ===

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start.
    pub fn now(self) -> Duration {
        self.start.elapsed()
    }

    /// The moment a duration since the start stands for.
    pub fn instant(self, at: Duration) -> Instant {
        self.start + at
    }
}

/// Wall-clock time, in seconds since 1970.
#[allow(clippy::disallowed_methods, reason = "this is the place that the lint points to")]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A number in 0..1, to spread retries.
pub fn jitter() -> f64 {
    fastrand::f64()
}
