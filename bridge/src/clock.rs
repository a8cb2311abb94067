//! The only place that reads the clock and rolls dice, so that everything else can be told both.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Measures from a fixed moment: the core knows times only as durations.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// What the wall clock said then, in milliseconds since 1970.
    started: u64,
}

// === impl Clock ===

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self { start: Instant::now(), started: unix_millis() }
    }

    /// Begins now, which is to be this many milliseconds since 1970: a test that pauses the runtime's time has the
    /// wall clock move with it.
    pub fn starting_at(unix_millis: u64) -> Self {
        Self { start: Instant::now(), started: unix_millis }
    }

    /// Time since the start.
    pub fn now(self) -> Duration {
        self.start.elapsed()
    }

    /// Milliseconds since 1970, which never go backwards while the process runs.
    pub fn unix_millis(self) -> u64 {
        self.started + u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX)
    }

    /// The same in seconds.
    pub fn unix_seconds(self) -> u64 {
        self.unix_millis() / 1000
    }

    /// The moment a duration since the start stands for.
    pub fn instant(self, at: Duration) -> Instant {
        self.start + at
    }
}

/// Wall-clock time, in seconds since 1970.
pub fn unix_seconds() -> u64 {
    unix_millis() / 1000
}

#[allow(clippy::disallowed_methods, reason = "this is the place that the lint points to")]
fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A number in 0..1, to spread retries.
pub fn jitter() -> f64 {
    fastrand::f64()
}
