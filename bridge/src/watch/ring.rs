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

/// There is no room.
#[derive(Debug)]
pub(super) struct Full;

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
    /// Hands over a batch that takes `size` bytes, if there is room now. `run` tells the stream it is from.
    pub(super) fn try_send(&self, run: u64, news: News, size: usize) -> Result<(), Full> {
        let permit = self.bytes.clone().try_acquire_many_owned(self.units(size)).map_err(|_| Full)?;
        self.sender.try_send((run, news, Some(permit))).map_err(|_| Full)
    }

    /// Hands over a batch when there is room.
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

    #[tokio::test]
    async fn bytes_bound_the_ring_and_reading_frees_them() {
        let (sender, mut receiver) = ring(4 * UNIT);
        sender.try_send(1, batch(), UNIT).unwrap();
        sender.try_send(1, batch(), UNIT).unwrap();
        assert!(sender.try_send(1, batch(), UNIT).is_err());
        receiver.recv().await.unwrap();
        sender.try_send(1, batch(), UNIT).unwrap();
    }

    #[tokio::test]
    async fn what_is_larger_than_the_ring_goes_through_alone() {
        let (sender, mut receiver) = ring(4 * UNIT);
        sender.try_send(1, batch(), 100 * UNIT).unwrap();
        assert!(sender.try_send(1, batch(), 1).is_err());
        receiver.recv().await.unwrap();
        sender.try_send(1, batch(), 1).unwrap();
    }
}
