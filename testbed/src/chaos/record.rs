//! What the API server confirmed, in the order in which the writers heard of it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::time::timeout;

/// One thing that is certain to have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// `namespace/name`.
    pub key: String,
    /// Which life of the name.
    pub uid: String,
    /// What happened to it.
    pub what: What,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It got this resourceVersion.
    Version(u64),
    /// It is deleted.
    Ended,
}

/// Filled by writers, emptied by whoever checks.
#[derive(Debug)]
pub struct Record {
    confirmed: Mutex<Vec<Confirmed>>,
    count: watch::Sender<u64>,
}

// === impl Record ===

impl Default for Record {
    fn default() -> Self {
        Self { confirmed: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl Record {
    /// Adds what was confirmed.
    pub fn add(&self, confirmed: Confirmed) {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).push(confirmed);
        self.count.send_modify(|count| *count += 1);
    }

    /// How much was ever added.
    pub fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// Waits until `more` has been added from now on: time, as chaos counts it.
    pub async fn grows(&self, more: u64, deadline: Duration) -> Result<()> {
        let goal = self.count() + more;
        let mut count = self.count.subscribe();
        let grown = timeout(deadline, count.wait_for(|count| *count >= goal)).await;
        grown.with_context(|| format!("not {more} changes were written within {deadline:?}"))??;
        Ok(())
    }

    /// Takes out everything that was added since the last time.
    pub fn take(&self) -> Vec<Confirmed> {
        std::mem::take(&mut *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
