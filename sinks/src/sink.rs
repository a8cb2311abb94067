//! The contract between the bridge and every broker.
//!
//! # Who drives whom
//!
//! The bridge pushes. It decides what is tried when, how much is under way, and what happens after a failure;
//! a sink makes *one* attempt for each Message it is given and says truthfully how that attempt ended. It keeps
//! no Message beyond the call, retries nothing on its own, and drops nothing.
//!
//! # What an outcome says
//!
//! - [`Outcome::Acked`]: the broker itself has said that it holds the Message durably. Not: it was written to a
//!   socket. Each sink says in its header what that word is in its protocol.
//! - [`Outcome::Retry`]: the broker may or may not have the Message. Trying again may store it twice, with the
//!   same id.
//! - [`Outcome::Rejected`]: this Message can never be taken as it is, however often it is tried. A missing
//!   stream or right is *not* that: somebody can put it right, so it is `Retry`, and [`Sink::check`] says what
//!   is wrong.
//!
//! `deliver` always comes back: a broker that says nothing leads to `Retry` after a bounded time without any
//! progress. Messages of different keys have nothing to do with each other: one that fails takes none of its
//! neighbours with it.
//!
//! # Order
//!
//! Between calls that overlap there is no order, so the caller never has Messages of one key in two of them; and several in
//! one call only where the sink keeps their order under its own retries ([`crate::Target::ordered`]). Everything behind one
//! that failed is sent again then.
//!
//! Wrong: the second version may overtake the first, or be stored although the first was not.
//!
//! ```no_run
//! # use tidings_sinks::{message::Message, sink::Sink};
//! # async fn wrong(sink: &dyn Sink, first: Message, second: Message) {
//! // Both are about the same object.
//! sink.deliver(&[first, second]).await;
//! # }
//! ```
//!
//! Right: what comes later on a key waits until what came before is acked, and other keys fill the batch.
//!
//! ```no_run
//! # use tidings_core::delivery::Outcome;
//! # use tidings_sinks::{message::Message, sink::Sink};
//! # async fn right(sink: &dyn Sink, first: Message, other_object: Message, second: Message) {
//! let outcomes = sink.deliver(&[first, other_object]).await;
//! if outcomes[0] == Outcome::Acked {
//!     sink.deliver(&[second]).await;
//! }
//! # }
//! ```
//!
//! Before: sinks/src/message.rs
//! Next: core/src/delivery.rs

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tidings_core::delivery::Outcome;

use crate::message::Message;

/// A connected place for Messages. The contract is this module's page.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Whether Messages would arrive: the broker is reachable, knows who we are, and has the place where they
    /// go. Costs a few round trips at most, comes back in bounded time, and sends no Message.
    async fn check(&self) -> Result<(), NotReady>;

    /// One attempt for each of `messages`, all at once. The outcomes are as many and in the same order.
    async fn deliver(&self, messages: &[Message]) -> Vec<Outcome>;

    /// Ends the connection, within `deadline`. Deliveries that are still under way, and later ones, end as
    /// [`Outcome::Retry`].
    async fn close(&self, deadline: Duration);
}

/// Why Messages would not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// One word in `CamelCase`, as the reason of a condition: `Unreachable`, `Unauthorized`, `StreamNotFound`, …
    pub reason: String,
    /// What is wrong and what would put it right: lower case, no full stop, no credentials.
    pub message: String,
}

/// Errors of brokers' clients since the start of the process that nobody has told us how to read. They are
/// retried; a number that grows asks for a new line in a `classify.rs`.
static UNCLASSIFIED: AtomicU64 = AtomicU64::new(0);

/// How many errors of brokers' clients were retried only because their meaning is not known, since the start
/// of the process.
pub fn unclassified_errors() -> u64 {
    UNCLASSIFIED.load(Ordering::Relaxed)
}

/// An outcome for an error nobody has told us how to read.
pub(crate) fn unclassified(error: &dyn std::fmt::Display) -> Outcome {
    UNCLASSIFIED.fetch_add(1, Ordering::Relaxed);
    retry(format!("an error of unknown meaning: {error}"))
}

/// An outcome for what may work later.
pub(crate) fn retry(reason: impl Into<String>) -> Outcome {
    Outcome::Retry { reason: reason.into(), after: None }
}

// === impl NotReady ===

impl NotReady {
    /// `reason` is a word in `CamelCase`, `message` a sentence.
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

/// The sentence.
impl std::fmt::Display for NotReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
