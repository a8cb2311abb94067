//! Connections to brokers, as `spec.sink` of a Subscription names them.

pub mod nats;
pub mod stdout;
