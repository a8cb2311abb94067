//! Brokers: how an Event becomes a Message of a protocol, how Messages are delivered, and what a broker's
//! errors mean.
//!
//! ```text
//! an Event and who it is for                          (core, bridge)
//!   └► encode    Message: headers, body, destination      pure, cannot fail
//!        └► sink     the broker has it, or why not           one trait for all of them
//! ```
//!
//! Each sink is a folder with the same three files: `encode.rs`, `client.rs`, `classify.rs`.

pub mod message;

pub mod encode;

pub mod sink;

pub mod nats;

pub mod stdout;

use std::path::PathBuf;
use std::sync::Arc;

use tidings_config::sink::{ContentMode, ValidSink};
use tidings_core::event::Event;

use self::message::Message;
use self::nats::client::NatsSink;
use self::nats::encode::NatsEncoder;
use self::sink::Sink;
use self::stdout::encode::StdoutEncoder;

/// What the bridge holds for one Subscription: how its Events are written, and where they go.
pub struct Target {
    /// Turns Events into Messages for `sink`.
    pub encoder: Encoder,
    /// Takes them.
    pub sink: Arc<dyn Sink>,
}

/// Turns Events into Messages of one protocol: pure, and nothing it is given makes it fail.
#[derive(Clone, Debug)]
pub enum Encoder {
    /// For NATS `JetStream`.
    Nats(NatsEncoder),
    /// For standard output.
    Stdout(StdoutEncoder),
}

/// What a connection needs to know beyond the Subscription's own words.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// The directory that holds, for each namespace, a folder with the files that its Subscriptions name. Without
    /// it, no Subscription can name a file.
    pub credentials_dir: Option<PathBuf>,
    /// The namespace of the Subscription, which is the folder its files are looked for in: nobody can make the
    /// bridge show another namespace's password to a server of their own.
    pub namespace: String,
    /// The name of the Subscription. Brokers show both to their operators.
    pub name: String,
}

/// Why there can be no connection, now or later, with these settings and this context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The settings name a file, and nobody said where files are.
    #[error("the sink names a credentials file, and the bridge has no credentials directory")]
    NoCredentialsDir,
}

// === impl Encoder ===

impl Encoder {
    /// The Message that tells `event`.
    pub fn encode(&self, event: &Event) -> Message {
        match self {
            Self::Nats(encoder) => encoder.encode(event),
            Self::Stdout(encoder) => encoder.encode(event),
        }
    }
}

/// Makes what `valid` describes. A broker that cannot be reached is no error: the connection is made in the
/// background, again and again, and [`Sink::check`] says how that goes.
#[allow(clippy::unused_async)] // what is connected to in the background needs a runtime, and callers should see it
pub async fn connect(
    valid: ValidSink,
    mode: ContentMode,
    context: SinkContext,
) -> Result<Target, ConnectError> {
    match valid {
        ValidSink::Nats(valid) => {
            let encoder = NatsEncoder::new(&valid, mode);
            let sink = NatsSink::connect(valid, context)?;
            Ok(Target { encoder: Encoder::Nats(encoder), sink: Arc::new(sink) })
        }
        ValidSink::Stdout(valid) => Ok(stdout::to_stdout(valid)),
    }
}

#[cfg(test)]
#[path = "../tests/fixture/event.rs"]
mod fixture;
