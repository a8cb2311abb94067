//! The resources of `tidings.dev`: what a person writes, what the API server checks, and what the bridge works with.
//!
//! ```text
//! object from the API server
//!   └► validate   a Subscription, and what it means: Route, sink, delivery; or every mistake with its path
//!        ├► warnings     what is legal and unwise in it
//!        └► conditions   what the bridge says back, in status
//!
//! object from a file
//!   └► check      shape, validate and warnings, and how several resources go together
//! ```

pub mod subscription;

pub mod sink;

mod schema;

pub mod shape;

pub mod validate;

pub mod warnings;

pub mod check;

pub mod conditions;

pub mod print;
