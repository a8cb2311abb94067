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
use super::connection::{INBOX_DENIED, publish_denied};
use crate::sink::NotReady;

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

    /// What `asked` gives, unless the server says meanwhile that a right is missing.
    pub(super) async fn unless_denied<T>(&self, asked: impl Future<Output = T>) -> Result<T, NotReady> {
        let mut denials = self.denials.subscribe();
        let before = denials.borrow().count;
        let denied = async {
            let Ok(denials) = denials.wait_for(|denials| denials.count > before).await else {
                return std::future::pending().await;
            };
            let newest = denials.subjects.iter().max_by_key(|(_, at)| **at).filter(|(_, at)| **at > before);
            newest.map_or(INBOX_DENIED.to_owned(), |(subject, _)| publish_denied(subject))
        };
        tokio::select! {
            biased;
            answer = asked => Ok(answer),
            message = denied => Err(NotReady::new("PermissionDenied", message)),
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
