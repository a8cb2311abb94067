//! What each error of the NATS client and server means. Everything that somebody can put right, or that may go
//! away by itself, is a retry; only what is wrong with the Message itself is a rejection.
//!
//! Before: sinks/src/nats/batch.rs
//! Next: core/src/delivery.rs

use std::error::Error as _;

use async_nats::ConnectErrorKind;
use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind, RequestError, RequestErrorKind};
use async_nats::subject::SubjectError;
use tidings_core::delivery::{Outcome, Rejection};

use crate::message::Message;
use crate::sink::{NotReady, retry, unclassified};
use crate::tls;

/// What the server writes around a subject that a client may not publish to.
const PUBLISH_DENIED: &str = "Permissions Violation for Publish to \"";
/// What it writes around one that a client may not subscribe to.
const SUBSCRIBE_DENIED: &str = "Permissions Violation for Subscription to \"";

/// What is known beside the error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// Bytes of the Message on the wire.
    pub(super) size: usize,
    /// What the server takes, of headers and body together.
    pub(super) max_payload: usize,
    /// What the stream takes, where that is known.
    pub(super) max_message_size: Option<usize>,
    /// Whether the connection stands.
    pub(super) connected: bool,
}

/// A right that the server said is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied<'a> {
    /// To publish to this subject.
    Publish(&'a str),
    /// To subscribe to this subject.
    Subscribe(&'a str),
}

/// What became of a publish that the client gave an error for.
pub(super) fn publish(error: &PublishError, message: &Message, circumstances: Circumstances) -> Outcome {
    match error.kind() {
        PublishErrorKind::StreamNotFound => {
            retry(format!("no stream takes the subject {}", message.destination))
        }
        PublishErrorKind::TimedOut => retry("no acknowledgement in time"),
        PublishErrorKind::BrokenPipe => retry("the connection was lost before the acknowledgement"),
        PublishErrorKind::MaxAckPending => retry("too many acknowledgements are awaited"),
        PublishErrorKind::MaxPayloadExceeded => too_large(circumstances.size, circumstances.max_payload),
        // Answers to headers that we do not send.
        PublishErrorKind::WrongLastMessageId | PublishErrorKind::WrongLastSequence => unclassified(error),
        PublishErrorKind::Other => {
            let source = error.source();
            if let Some(error) = source.and_then(|source| source.downcast_ref::<jetstream::Error>()) {
                refused(error, message, circumstances)
            } else if source.is_some_and(<dyn std::error::Error>::is::<SubjectError>) {
                let reason = format!("{:?} is no legal subject", message.destination);
                Outcome::Rejected { reason: Rejection::Refused(reason) }
            } else if source.is_some_and(<dyn std::error::Error>::is::<serde_json::Error>) {
                retry("the subject was answered by something else than a stream")
            } else if circumstances.connected {
                unclassified(error)
            } else {
                retry("the connection was lost")
            }
        }
    }
}

/// What became of a publish that `JetStream` refused.
fn refused(error: &jetstream::Error, message: &Message, circumstances: Circumstances) -> Outcome {
    let Circumstances { size, max_message_size, .. } = circumstances;
    match error.error_code() {
        // The server does not say its limit; it is at least below this.
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
            too_large(size, max_message_size.unwrap_or(size.saturating_sub(1)))
        }
        ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            Outcome::Rejected { reason: Rejection::Refused("the headers have more than 64 KiB".to_owned()) }
        }
        ErrorCode::STREAM_NOT_MATCH => {
            retry(format!("another stream than the expected one takes the subject {}", message.destination))
        }
        // Full (10077 tells which limit, with `discard: new`), sealed, without a leader, offline, overloaded, out of
        // resources, not enabled, or busy with the first copy of a repeat.
        ErrorCode::STREAM_STORE_FAILED
        | ErrorCode::STREAM_SEALED
        | ErrorCode::STREAM_NOT_FOUND
        | ErrorCode::STREAM_OFFLINE
        | ErrorCode::STREAM_OFFLINE_REASON
        | ErrorCode::STREAM_GENERALOR
        | ErrorCode::STREAM_SEQUENCE_NOT_MATCH
        | ErrorCode::STREAM_TOO_MANY_REQUESTS
        | ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::NO_LIMITS
        | ErrorCode::CLUSTER_NOT_AVAILABLE
        | ErrorCode::CLUSTER_NOT_LEADER
        | ErrorCode::CLUSTER_NOT_ASSIGNED
        | ErrorCode::CLUSTER_NO_PEERS
        | ErrorCode::CLUSTER_SERVER_NOT_MEMBER
        | ErrorCode::RAFT_GENERAL
        | ErrorCode::JETSTREAM_NOT_ENABLED
        | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
        | ErrorCode::NO_ACCOUNT => retry(format!("the stream does not take it: {error}")),
        _ => unclassified(error),
    }
}

fn too_large(size: usize, limit: usize) -> Outcome {
    Outcome::Rejected { reason: Rejection::TooLarge { size, limit } }
}

/// Why there is no connection to `server`.
pub(super) fn connect(error: &async_nats::ConnectError, server: &str) -> NotReady {
    let cause = error.source().map_or_else(String::new, |source| format!(": {source}"));
    // The client passes errors of the handshake on as errors of I/O, too.
    let handshake = error.source().and_then(|source| source.downcast_ref()).and_then(tls::inside);
    if let Some(handshake) = handshake {
        return tls::refused(handshake, server);
    }
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => NotReady::new(
            "Unauthorized",
            format!("{server} does not accept the user and password, or their absence"),
        ),
        ConnectErrorKind::Tls => NotReady::new("TlsFailed", format!("no TLS with {server}{cause}")),
        ConnectErrorKind::Dns => {
            NotReady::new("Unreachable", format!("the name of {server} cannot be resolved{cause}"))
        }
        ConnectErrorKind::TimedOut => NotReady::new("Unreachable", format!("{server} does not answer")),
        ConnectErrorKind::ServerParse | ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => {
            NotReady::new("Unreachable", format!("{server} cannot be reached{cause}"))
        }
    }
}

/// Why a question to `JetStream` has no answer; nothing where only the right to ask is missing.
pub(super) fn request(error: &RequestError) -> NotReady {
    match error.kind() {
        RequestErrorKind::NoResponders => {
            NotReady::new("JetStreamNotEnabled", "the server has no JetStream, or none for this account")
        }
        RequestErrorKind::TimedOut => NotReady::new("Unreachable", "JetStream does not answer in time"),
        RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
            let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            NotReady::new("Unreachable", format!("JetStream cannot be asked: {cause}"))
        }
    }
}

/// Why `JetStream` refused a question about `stream`.
pub(super) fn answer(error: &jetstream::Error, stream: Option<&str>) -> NotReady {
    match (error.error_code(), stream) {
        (ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT, _) => {
            NotReady::new("JetStreamNotEnabled", "JetStream is not enabled for this account")
        }
        (ErrorCode::STREAM_NOT_FOUND, Some(stream)) => {
            NotReady::new("StreamNotFound", format!("there is no stream {stream}"))
        }
        _ => NotReady::new("StreamUnavailable", format!("JetStream says: {error}")),
    }
}

/// Whether the server's asynchronous error says that a right is missing.
pub(super) fn denied(text: &str) -> Option<Denied<'_>> {
    // Go's %q; no subject of ours has a character that it would escape.
    let until_quote = |rest: &'_ str| rest.find('"');
    if let Some(rest) = text.strip_prefix(PUBLISH_DENIED) {
        return Some(Denied::Publish(&rest[..until_quote(rest)?]));
    }
    let rest = text.strip_prefix(SUBSCRIBE_DENIED)?;
    Some(Denied::Subscribe(&rest[..until_quote(rest)?]))
}

#[cfg(test)]
#[path = "classify/tests.rs"]
mod tests;
