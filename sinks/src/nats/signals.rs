//! What the client and the server say by themselves: the end of the connection, and missing rights.
//!
//! The server drops a publish that is not allowed, and says so beside the protocol, once each time; there is no
//! answer to the publish itself. Without these notes each of them would cost a timeout.
//!
//! Before: sinks/src/nats/connection.rs
//! Next: sinks/src/nats/classify.rs

use std::collections::HashMap;

use async_nats::{Event, ServerError};
use tokio::sync::{Notify, watch};

use super::classify::{self, Denied};

/// Subjects that we remember to be denied; others just time out.
const MAX_DENIED: usize = 1_000;

/// What the client says by itself.
#[derive(Default)]
pub(super) struct Signals {
    /// The connection is over, or has served its time.
    pub(super) ended: Notify,
    /// Rights that are missing.
    pub(super) denials: watch::Sender<Denials>,
}

/// Rights that the server said are missing.
#[derive(Default)]
pub(super) struct Denials {
    /// Grows with each of them.
    pub(super) count: u64,
    /// The inbox, where acknowledgements arrive, may not be subscribed to.
    pub(super) inbox: bool,
    /// Subjects that may not be published to, with the count when that was last said.
    pub(super) subjects: HashMap<String, u64>,
}

// === impl Signals ===

impl Signals {
    /// Takes in what the client was told. Called by the client, in order.
    pub(super) fn hear(&self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed => self.ended.notify_one(),
            Event::ServerError(ServerError::Other(text)) => {
                if let Some(denied) = classify::denied(text) {
                    self.deny(denied);
                }
            }
            Event::ServerError(_)
            | Event::ClientError(_)
            | Event::Connected
            | Event::LameDuckMode
            | Event::Draining
            | Event::SlowConsumer(_) => {}
        }
    }

    fn deny(&self, denied: Denied<'_>) {
        self.denials.send_modify(|denials| {
            denials.count += 1;
            match denied {
                Denied::Subscribe(_) => denials.inbox = true,
                Denied::Publish(subject) => {
                    if denials.subjects.len() < MAX_DENIED || denials.subjects.contains_key(subject) {
                        denials.subjects.insert(subject.to_owned(), denials.count);
                    }
                }
            }
        });
    }

    /// A publish to `subject` was acknowledged.
    pub(super) fn allow(&self, subject: &str) {
        if !self.denials.borrow().subjects.is_empty() {
            self.denials.send_if_modified(|denials| denials.subjects.remove(subject).is_some());
        }
    }
}

// === impl Denials ===

impl Denials {
    /// Whether a publish to `subject`, or its answer, was denied after the first `before` denials.
    pub(super) fn denies(&self, subject: &str, before: u64) -> bool {
        self.inbox || self.subjects.get(subject).is_some_and(|at| *at > before)
    }
}
