//! The only place that reads the clock, so that everything that decides can be told the time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall-clock time, in seconds since 1970, as certificates count it.
#[allow(clippy::disallowed_methods, reason = "this is the webhook's own place for it")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
