//! The resources of `tidings.dev`: what a person writes, what the API server checks, and what the bridge works with.
//!
//! ```text
//! object from the API server
//!   └► validate   a Subscription, and what it means: Route, sink, delivery; or every mistake with its path
//!        └► conditions   what the bridge says back, in status
//! ```

pub mod subscription;

pub mod sink;

mod schema;

pub mod validate;

pub mod conditions;

pub mod print;
