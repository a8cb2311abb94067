//! Kafka.
//!
//! *Acked* means that the leader of the partition answered with `acks=all`: every replica in sync holds the Message (a topic's
//! `min.insync.replicas` says how many those are at least).
//!
//! # Order, and what is left behind
//!
//! One idempotent producer of librdkafka serves a connection. It retries by itself, in order and without repeats, for as
//! long as some broker answers; so among Messages of one key that were handed over in order, none overtakes another that was
//! not given up. A Message is given up when its partition could not take it for 20 seconds, or when no broker said anything
//! of any record for 5: then all that the producer holds is purged from it, and only then `deliver` answers `Retry`. So
//! nothing that was answered is sent later. What was on its way at that moment may still be stored once, also after a later
//! attempt has begun; the producer goes on with the next epoch, so that a partition which has seen anything of that refuses
//! it. After a fatal error a new producer is made, which has another identity: there only time keeps them apart, as in every
//! protocol without fencing.
//!
//! Somebody who drops the future of `deliver` does not get the Messages back: what librdkafka holds is still sent.
//!
//! Events always have data, since an empty record of a compacted topic deletes what has its key. A tombstone is such a
//! record, and it is acked together with the Message before it.

pub mod encode;

pub mod client;

mod keeper;

mod config;

mod producer;

mod batch;

mod events;

mod topics;

mod token;

mod probe;

mod classify;

pub(crate) mod letters;
