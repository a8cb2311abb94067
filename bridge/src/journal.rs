//! The Changes that are decided and not yet settled, bounded in bytes.
//!
//! Before: bridge/src/watch.rs
//! Next: bridge/src/deliver.rs

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Charges count kibibytes.
const UNIT: usize = 1024;

/// The room that all unsettled Changes of the process share. A Watch that finds no room waits, and resumes
/// its stream from the last decided position when there is some again.
#[derive(Clone, Debug)]
pub struct Journal {
    room: Arc<Semaphore>,
    units: u32,
}

/// The room one Change takes, free again when the last Subscription has it settled.
#[derive(Clone, Debug)]
pub struct Charge {
    _permit: Arc<OwnedSemaphorePermit>,
}

// === impl Journal ===

impl Journal {
    /// A Journal for `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        let units = u32::try_from(capacity / UNIT).unwrap_or(u32::MAX).max(1);
        Self { room: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Takes room for `size` bytes if there is some now.
    pub fn try_admit(&self, size: usize) -> Option<Charge> {
        let permit = self.room.clone().try_acquire_many_owned(self.units(size)).ok()?;
        Some(Charge { _permit: Arc::new(permit) })
    }

    /// Waits for room for `size` bytes. What is larger than the Journal gets all of it.
    #[allow(clippy::expect_used, clippy::missing_panics_doc, reason = "the semaphore is never closed")]
    pub async fn admit(&self, size: usize) -> Charge {
        let permit = self.room.clone().acquire_many_owned(self.units(size)).await;
        Charge { _permit: Arc::new(permit.expect("the semaphore of the journal is never closed")) }
    }

    fn units(&self, size: usize) -> u32 {
        u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units)
    }

    /// Bytes that are taken.
    pub fn used(&self) -> usize {
        (self.units as usize - self.room.available_permits()) * UNIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_free_again_when_everybody_settled() {
        let journal = Journal::new(4 * UNIT);
        let charge = journal.admit(3 * UNIT).await;
        let shared = charge.clone();
        assert_eq!(journal.used(), 3 * UNIT);
        drop(charge);
        let mut waiting = Box::pin(journal.admit(2 * UNIT));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(shared);
        assert!(futures::poll!(&mut waiting).is_ready());
    }
}
