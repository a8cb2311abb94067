//! HTTP, by the `CloudEvents` HTTP binding 1.0.
//!
//! *Acked* means that the receiver answered with a status of the class 2xx: it has accepted the Event. Whether it keeps it
//! is its own affair, unlike with a broker.
//!
//! What is sent twice has the same `ce-id` (and `ce-source`).

pub mod encode;

pub mod client;

mod resolve;

mod classify;
