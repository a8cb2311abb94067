//! The bridge: from the API server to the brokers, as Subscriptions say. The modules are listed in the order
//! one event goes through them; `pipeline` draws the way.

pub mod clock;
pub mod discovery;
pub mod metrics;

pub mod pipeline;

pub mod watch;

pub mod journal;

pub mod deliver;
