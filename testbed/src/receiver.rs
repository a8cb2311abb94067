//! A broker of each kind, with the place where a Subscription's Events go and an application that hears them: what the demo
//! shows, and what every sink is held to through the whole bridge.
//!
//! - [`broker`]: a broker of any kind, in clear or secured, and [`faults`], what can be done to it
//! - [`way`]: how a Subscription sends there
//! - [`ear`]: who hears what arrives

pub(crate) mod amqp;
pub mod broker;
pub mod ear;
pub mod faults;
mod http;
mod kafka;
pub mod way;

use anyhow::Result;
use clap::ValueEnum;
use futures::stream::Stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::broker::{Broker, USER};
use self::ear::Ear;
use self::way::Way;
use crate::consumer::Received;

/// Which kind of sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Kind {
    /// NATS JetStream
    Nats,
    /// Apache Kafka
    Kafka,
    /// RabbitMQ
    Rabbitmq,
    /// A receiver of HTTP
    Http,
}

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// In clear, by anybody (RabbitMQ: by `guest`).
    Plain,
    /// By TLS, and who comes proves who he is.
    Secured,
}

/// A running broker with one place, and what was heard there.
pub struct Receiver {
    broker: Broker,
    place: String,
    way: Way,
    ear: Ear,
}

// === impl Kind ===

impl Kind {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Nats, Self::Kafka, Self::Rabbitmq, Self::Http];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nats => "NATS JetStream",
            Self::Kafka => "Kafka",
            Self::Rabbitmq => "RabbitMQ",
            Self::Http => "HTTP",
        }
    }

    /// What settings call it.
    pub fn field(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Kafka => "kafka",
            Self::Rabbitmq => "rabbitmq",
            Self::Http => "http",
        }
    }
}

// === impl Security ===

impl Security {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Secured];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Secured => "secured",
        }
    }
}

// === impl Receiver ===

impl Receiver {
    /// Starts a broker, makes `place` in it, and listens there.
    pub async fn start(kind: Kind, place: &str) -> Result<Self> {
        Self::begin(kind, place, true).await
    }

    /// The same, but what is in a queue of RabbitMQ is not taken from it: the only place where to hear is to take away.
    pub async fn start_untaken(kind: Kind, place: &str) -> Result<Self> {
        Self::begin(kind, place, kind != Kind::Rabbitmq).await
    }

    async fn begin(kind: Kind, place: &str, listens: bool) -> Result<Self> {
        let broker = Broker::start(kind).await?;
        broker.create(Security::Plain, place, None).await?;
        let ear = if listens { broker.listen(Security::Plain, place).await? } else { Ear::deaf() };
        let way = broker.way(Security::Plain, USER, place, None)?;
        Ok(Self { broker, place: place.to_owned(), way, ear })
    }

    /// `spec.sink` of a Subscription that sends there. [`Receiver::secret`] has to be in its namespace.
    pub fn sink(&self) -> Value {
        self.way.inline()
    }

    /// Where an application of its own can hear the same: arguments of the consumers in `examples/consumers`. Nothing for
    /// HTTP, which only one hears.
    pub fn consumer(&self) -> Option<String> {
        self.broker.consumer(&self.place)
    }

    /// The Secret `broker`, which the service account `default` of `namespace` may read, as YAML; empty where the sink
    /// needs none.
    pub fn secret(&self, namespace: &str) -> String {
        self.way.yaml(namespace)
    }

    /// Everything that was heard so far.
    pub fn heard(&self) -> Vec<Received> {
        self.ear.heard()
    }

    /// Everything from the first on, going on with what comes.
    pub fn events(&self) -> impl Stream<Item = Received> + use<> {
        self.ear.events()
    }

    /// Kills the broker.
    pub async fn kill(&mut self) -> Result<()> {
        self.broker.kill().await
    }

    /// Whether a receiver of HTTP refuses for good what it is told of the object `namespace/name`.
    pub fn reject(&self, key: &str, rejects: bool) -> Result<()> {
        self.broker.reject(&self.place, key, rejects)
    }

    /// Starts it again, with what it had.
    pub async fn restart(&mut self) -> Result<()> {
        self.broker.restart().await
    }
}
