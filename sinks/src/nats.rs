//! NATS `JetStream`.
//!
//! *Acked* means that a stream answered with a `PubAck`: it holds the Message as durably as it was configured to
//! (replicas, file or memory). A publish without that answer counts for nothing.
//!
//! The server stores a Message with a `Nats-Msg-Id` that the stream has seen within its duplicate window
//! (`duplicate_window`, 2 minutes unless set) only once, and acknowledges it again. That saves repeats;
//! correctness does not rest on it.

pub mod encode;

pub mod client;

mod connection;

mod identity;

mod batch;

mod signals;

pub(crate) mod letters;

mod classify;
