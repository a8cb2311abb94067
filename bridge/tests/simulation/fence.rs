//! The end of a process: what is behind the fence touches nothing outside any more.
//!
//! A process that dies takes its tasks with it. Here they share a runtime with the world, so the world stops
//! answering them instead: every way out of the bridge passes the fence, and behind a closed one waits for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_util::sync::CancellationToken;

/// Where a way out of the bridge leads through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    /// A request, a piece of a stream, or a batch on its way out.
    Any,
    /// The broker has stored a Message, and has not said so.
    Stored,
    /// The store is asked for something.
    Asked,
    /// The store has done it, and has not said so.
    Answered,
}

/// One process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Fence {
    closed: CancellationToken,
    /// Passages until it closes by itself; zero: it does not.
    passages: Arc<[AtomicU32; 4]>,
}

// === impl Fence ===

impl Fence {
    /// Closes it: the process is dead.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// When it is closed.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// It is to close by itself at the passage with this number, from 1.
    pub(crate) fn arm(&self, edge: Edge, passage: u32) {
        self.counter(edge).store(passage, Ordering::Relaxed);
    }

    /// Goes through, if it is open. Who may not go through must not do anything that could be seen.
    pub(crate) fn pass(&self, edge: Edge) -> bool {
        let counter = self.counter(edge);
        match counter.load(Ordering::Relaxed) {
            0 => {}
            1 => self.close(),
            left => counter.store(left - 1, Ordering::Relaxed),
        }
        !self.is_closed()
    }

    /// The same, where waiting for ever is possible.
    pub(crate) async fn passage(&self, edge: Edge) {
        if !self.pass(edge) {
            std::future::pending::<()>().await;
        }
    }

    /// It does not close by itself any more.
    pub(crate) fn disarm(&self) {
        self.passages.iter().for_each(|passages| passages.store(0, Ordering::Relaxed));
    }

    fn counter(&self, edge: Edge) -> &AtomicU32 {
        &self.passages[edge as usize]
    }
}
