//! What was read and not yet decided, bounded in bytes.

use std::sync::Arc;

use tidings_core::watch::Input;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::request::Trouble;

/// Batches in the ring; the bytes bound it long before.
const BATCHES: usize = 4096;
/// Permits count kibibytes, so that a ring of any size fits into a semaphore.
const UNIT: usize = 1024;

/// What the reader hands over.
#[derive(Debug)]
pub(super) enum News {
    /// For the core, in order, with why some of it could not be decoded.
    Batch { inputs: Vec<Input>, complaints: Vec<String> },
    /// The reader is done.
    Ended { why: Trouble, empty: bool },
}

/// The reader's end.
#[derive(Clone, Debug)]
pub(super) struct RingSender {
    bytes: Arc<Semaphore>,
    capacity: usize,
    sender: mpsc::Sender<(u64, News, Option<OwnedSemaphorePermit>)>,
}

/// The decider's end.
#[derive(Debug)]
pub(super) struct RingReceiver {
    receiver: mpsc::Receiver<(u64, News, Option<OwnedSemaphorePermit>)>,
}

/// A ring for `capacity` bytes.
pub(super) fn ring(capacity: usize) -> (RingSender, RingReceiver) {
    let (sender, receiver) = mpsc::channel(BATCHES);
    let units = (capacity / UNIT).max(1);
    (
        RingSender { bytes: Arc::new(Semaphore::new(units)), capacity: units, sender },
        RingReceiver { receiver },
    )
}

// === impl RingSender ===

impl RingSender {
    /// Hands over a batch that takes `size` bytes when there is room. `run` tells the stream it is from. Nothing
    /// is handed over when this is given up.
    pub(super) async fn send(&self, run: u64, news: News, size: usize) {
        let permit = self.bytes.clone().acquire_many_owned(self.units(size)).await.ok();
        // A receiver that is gone wants no news.
        let _ = self.sender.send((run, news, permit)).await;
    }

    /// What is larger than the whole ring goes through alone.
    fn units(&self, size: usize) -> u32 {
        u32::try_from((size / UNIT + 1).min(self.capacity)).unwrap_or(u32::MAX)
    }
}

// === impl RingReceiver ===

impl RingReceiver {
    /// The next news, with the number of the stream they are from. Its room is free again at once: what is
    /// decided is bounded by the Journal.
    pub(super) async fn recv(&mut self) -> Option<(u64, News)> {
        self.receiver.recv().await.map(|(run, news, _)| (run, news))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> News {
        News::Batch { inputs: Vec::new(), complaints: Vec::new() }
    }

    /// Whether there is room now.
    async fn fits(sender: &RingSender, size: usize) -> bool {
        futures::poll!(Box::pin(sender.send(1, batch(), size))).is_ready()
    }

    #[tokio::test]
    async fn bytes_bound_the_ring_and_reading_frees_them() {
        let (sender, mut receiver) = ring(4 * UNIT);
        assert!(fits(&sender, UNIT).await);
        assert!(fits(&sender, UNIT).await);
        assert!(!fits(&sender, UNIT).await);
        receiver.recv().await.unwrap();
        assert!(fits(&sender, UNIT).await);
    }

    #[tokio::test]
    async fn what_is_larger_than_the_ring_goes_through_alone() {
        let (sender, mut receiver) = ring(4 * UNIT);
        assert!(fits(&sender, 100 * UNIT).await);
        assert!(!fits(&sender, 1).await);
        receiver.recv().await.unwrap();
        assert!(fits(&sender, 1).await);
    }
}
