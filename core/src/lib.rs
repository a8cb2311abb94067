//! The pure core of Tidings: it decides what changed and for whom, and holds no I/O, clock or randomness.
//!
//! ```text
//! lines from the API server              (bridge)
//!   └► watch      which Change is it, compared with Known?
//!        └► route      which Subscriptions select it? (selection)
//!             └► filter     which of its members' Changes does it hear of?
//!             └► event      the CloudEvent that tells it
//!                  └► delivery   which Message is tried when, in order per key?
//!                       └► cursor     up to where is everything settled?
//! ```

pub mod object;

pub mod change;

pub mod known;

pub mod watch;

pub mod route;

pub mod selection;

pub mod filter;

pub mod event;

pub mod delivery;

pub mod compaction;

pub mod cursor;
