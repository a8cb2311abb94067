//! How long a batch waits for a broker that says nothing.
//!
//! Before: sinks/src/sink.rs

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Ends when nothing has moved for a while.
pub(crate) struct Patience {
    limit: Duration,
    until: Instant,
    sleep: Pin<Box<Sleep>>,
    over: bool,
}

// === impl Patience ===

impl Patience {
    /// Ends after `limit` without progress.
    pub(crate) fn new(limit: Duration) -> Self {
        let until = Instant::now() + limit;
        Self { limit, until, sleep: Box::pin(tokio::time::sleep_until(until)), over: false }
    }

    /// Something moved.
    pub(crate) fn progress(&mut self) {
        self.until = Instant::now() + self.limit;
    }

    /// Comes back when nothing has moved for too long, and remembers that.
    pub(crate) async fn over(&mut self) {
        while Instant::now() < self.until {
            // One timer for the whole batch: it is set again only when it went off too early.
            if self.sleep.is_elapsed() {
                self.sleep.as_mut().reset(self.until);
            }
            self.sleep.as_mut().await;
        }
        self.over = true;
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_only_without_progress() {
        let limit = Duration::from_secs(5);
        let began = Instant::now();
        let mut patience = Patience::new(limit);
        tokio::time::advance(Duration::from_secs(3)).await;
        patience.progress();
        assert!(!patience.is_over());
        patience.over().await;
        assert!(patience.is_over());
        assert!(began.elapsed() >= Duration::from_secs(8), "{:?}", began.elapsed());
    }
}
