//! RabbitMQ, by AMQP 0-9-1.
//!
//! *Acked* means that the broker confirmed the Message and did not return it: every queue it was routed to holds it, as
//! durably as that queue is (on disk for durable classic queues and streams, on a majority of the nodes for quorum
//! queues). A Message that no queue took comes back and is tried again: somebody can bind one.
//!
//! The broker stores what is sent twice twice, with the same `message_id`.
//!
//! Tested with RabbitMQ 3.10.

pub mod encode;

pub mod client;

mod connection;

mod batch;

mod classify;

pub(crate) mod letters;
