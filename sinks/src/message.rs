//! An Event written for one protocol.
//!
//! Before: core/src/event.rs
//! Next: sinks/src/sink.rs

use std::borrow::Cow;

use bytes::Bytes;
use tidings_core::object::ObjectKey;

/// An Event written for one protocol, ready to be sent as often as it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The same for every attempt, and unique within whatever the broker could confuse it with.
    pub id: String,
    /// Where it goes inside the broker: a subject of NATS, an exchange and a routing key of RabbitMQ (a line each), a path
    /// of HTTP; empty where a sink has only one place.
    pub destination: String,
    /// The object it is about: order holds among Messages of one key.
    pub key: ObjectKey,
    /// What a record of Kafka has as its key; other protocols have none, and leave it empty.
    pub record_key: String,
    /// An empty Message of the same record key belongs to it: both are acked, or neither.
    pub tombstone: bool,
    /// Names and values, as the protocol writes them. Names that begin with `:` are properties of the message beside its
    /// headers, where a protocol has such.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// The body, never empty.
    pub body: Bytes,
}

// === impl Message ===

impl Message {
    /// What headers and body take on the wire, in bytes, with four between and after each name and value.
    pub fn size(&self) -> usize {
        self.body.len() + self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>()
    }
}
