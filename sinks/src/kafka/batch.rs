//! One call of `deliver`: what is still awaited, and for how long.
//!
//! Before: sinks/src/kafka/events.rs
//! Next: sinks/src/kafka/classify.rs

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::config::RECORD_TIMEOUT;
use super::events::Events;

/// For a word of any broker on any record.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// librdkafka has given every record up long before; should it not, it is not waited for.
const END: Duration = Duration::from_secs(20).saturating_add(RECORD_TIMEOUT);

/// What became of the records of one call. Successes only count, so that they cost no lock.
#[derive(Default)]
pub(super) struct Batch {
    /// Records without a report, and one more while some are still to be sent.
    left: AtomicUsize,
    done: Notify,
    /// The first failure of each Message.
    failures: Mutex<BTreeMap<usize, RDKafkaErrorCode>>,
}

/// Goes through librdkafka with a record, and comes back with its report.
pub(super) struct Slot {
    batch: Arc<Batch>,
    message: usize,
}

/// Ends when no broker has said anything for a while.
pub(super) struct Patience<'a> {
    events: &'a Events,
    since: Instant,
    end: Instant,
}

/// Why nothing more is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// No broker said anything.
    Silence,
    /// Whatever happens, it took too long.
    End,
}

// === impl Batch ===

impl Batch {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(1), ..Self::default() })
    }

    /// Another record of the Message at `message` is sent.
    pub(super) fn slot(self: &Arc<Self>, message: usize) -> Slot {
        self.left.fetch_add(1, Ordering::Relaxed);
        Slot { batch: self.clone(), message }
    }

    /// Nothing more is sent.
    pub(super) fn sent(&self) {
        self.count();
    }

    /// Comes back when every record has its report.
    pub(super) async fn done(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            self.done.notified().await;
        }
    }

    /// The first failure of each Message that has one.
    pub(super) fn failures(&self) -> BTreeMap<usize, RDKafkaErrorCode> {
        std::mem::take(&mut self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether some record has no report.
    pub(super) fn is_open(&self) -> bool {
        self.left.load(Ordering::Acquire) > 0
    }

    fn count(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }
}

// === impl Slot ===

impl Slot {
    /// What became of the record.
    pub(super) fn report(self, failure: Option<RDKafkaErrorCode>) {
        if let Some(code) = failure {
            let mut failures = self.batch.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.entry(self.message).or_insert(code);
        }
        self.batch.count();
    }
}

// === impl Patience ===

impl<'a> Patience<'a> {
    pub(super) fn new(events: &'a Events) -> Self {
        let since = Instant::now();
        Self { events, since, end: since + END }
    }

    /// Whether it is over, and why.
    pub(super) fn ended(&self) -> Option<Over> {
        let now = Instant::now();
        if now >= self.end {
            Some(Over::End)
        } else if now >= self.silent_at() {
            Some(Over::Silence)
        } else {
            None
        }
    }

    /// Comes back when it is over.
    pub(super) async fn over(&self) -> Over {
        loop {
            if let Some(over) = self.ended() {
                return over;
            }
            tokio::time::sleep_until(self.silent_at().min(self.end)).await;
        }
    }

    /// What was held is given up; until that is reported, it is waited once more.
    pub(super) fn renew(&mut self) {
        self.since = Instant::now();
    }

    fn silent_at(&self) -> Instant {
        self.since.max(self.events.heard()) + SILENCE
    }
}

#[cfg(test)]
#[path = "batch/tests.rs"]
mod tests;
