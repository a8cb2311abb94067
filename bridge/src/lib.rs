//! The bridge: from the API server to the brokers, as Subscriptions say. The modules are listed in the order
//! one event goes through them; `pipeline` draws the way.

pub mod admin;
pub mod clock;
pub mod discovery;
pub mod follow;
mod identity;
pub mod metrics;
mod settings;

pub mod pipeline;

pub mod watch;

pub mod journal;

pub mod deliver;

/// Why the bridge ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster has no name.
    #[error("failed to tell which cluster this is")]
    Identity(#[source] identity::Error),
    /// The admin port cannot be served.
    #[error("failed to serve the admin port")]
    Admin(#[source] admin::Error),
    /// What to follow could not be found.
    #[error("failed to find the resource")]
    Resource(#[source] discovery::Error),
    /// What to follow may not be read.
    #[error("failed to watch: {0}")]
    Forbidden(String),
}
