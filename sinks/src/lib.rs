//! Brokers: how an Event becomes a Message of a protocol, how Messages are delivered, and what a broker's
//! errors mean.
//!
//! ```text
//! an Event and who it is for                          (core, bridge)
//!   └► encode    Message: headers, body, destination      pure, cannot fail
//!        └► sink     the broker has it, or why not           one trait for all of them
//! ```
//!
//! Each sink is a folder with the same three files: `encode.rs`, `client.rs`, `classify.rs`. Its connection can be shared:
//! each Subscription has a [`Target`] of its own behind it.

pub mod message;

pub mod encode;

pub mod sink;

pub mod kafka;

pub mod nats;

pub mod rabbitmq;

pub mod http;

pub mod stdout;

pub mod letters;

pub mod decode;

mod answer;

mod link;

mod patience;

mod tls;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidings_config::secret::Secrets;
use tidings_config::sink::ContentMode;
use tidings_config::sink::stdout::StdoutFormat;
use tidings_config::sink::valid::{Kind, ValidAddress, ValidConnection};
use tidings_core::delivery::Outcome;
use tidings_core::event::Event;

use self::http::client::{HttpConnection, HttpSink};
use self::http::encode::HttpEncoder;
use self::kafka::client::{KafkaConnection, KafkaSink};
use self::kafka::encode::KafkaEncoder;
use self::message::Message;
use self::nats::client::{NatsConnection, NatsSink};
use self::nats::encode::NatsEncoder;
use self::rabbitmq::client::{RabbitmqConnection, RabbitmqSink};
use self::rabbitmq::encode::RabbitmqEncoder;
use self::sink::{NotReady, Sink, retry};
use self::stdout::encode::StdoutEncoder;

/// What the bridge holds for one Subscription: how its Events are written, and where they go.
pub struct Target {
    /// Turns Events into Messages for `sink`.
    pub encoder: Encoder,
    /// Takes them.
    pub sink: Arc<dyn Sink>,
    /// Whether a call may have several Messages of one key: the sink keeps their order under its own retries. What comes
    /// behind one that fails may be stored before it, and is sent again behind it.
    pub ordered: bool,
}

/// What cannot even be tried.
struct Unusable(NotReady);

/// Turns Events into Messages of one protocol: pure, and nothing it is given makes it fail.
#[derive(Clone, Debug)]
pub enum Encoder {
    /// For Kafka.
    Kafka(KafkaEncoder),
    /// For NATS `JetStream`.
    Nats(NatsEncoder),
    /// For RabbitMQ.
    Rabbitmq(RabbitmqEncoder),
    /// For HTTP.
    Http(HttpEncoder),
    /// For standard output.
    Stdout(StdoutEncoder),
}

/// A connection to a broker, kept up in the background for as long as somebody holds it.
#[derive(Clone)]
pub enum Connection {
    /// To brokers of Kafka.
    Kafka(Arc<KafkaConnection>),
    /// To servers of NATS.
    Nats(Arc<NatsConnection>),
    /// To servers of RabbitMQ.
    Rabbitmq(Arc<RabbitmqConnection>),
    /// To a receiver of HTTP.
    Http(Arc<HttpConnection>),
    /// To standard output, which is always there.
    Stdout,
}

/// What a connection needs to know beyond its settings.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// What its settings name.
    pub secrets: Secrets,
    /// Whom it is for, `namespace/name`: brokers show it to their operators.
    pub owner: String,
}

// === impl Target ===

impl Target {
    /// Takes nothing, and says why.
    pub fn unusable(not_ready: NotReady) -> Self {
        let encoder = Encoder::Stdout(StdoutEncoder::new(StdoutFormat::Json, false));
        Self { encoder, sink: Arc::new(Unusable(not_ready)), ordered: false }
    }
}

// === impl Unusable ===

#[async_trait]
impl Sink for Unusable {
    async fn check(&self) -> Result<(), NotReady> {
        Err(self.0.clone())
    }

    async fn deliver(&self, messages: &[Message]) -> Vec<Outcome> {
        vec![retry(&*self.0.message); messages.len()]
    }

    async fn close(&self, _deadline: Duration) {}
}

// === impl Encoder ===

impl Encoder {
    /// Writes Events for `address` in this mode.
    pub fn new(address: &ValidAddress, mode: ContentMode) -> Self {
        match address {
            ValidAddress::Kafka(address) => Self::Kafka(KafkaEncoder::new(address, mode)),
            ValidAddress::Nats(address) => Self::Nats(NatsEncoder::new(address, mode)),
            ValidAddress::Rabbitmq(address) => Self::Rabbitmq(RabbitmqEncoder::new(address, mode)),
            ValidAddress::Http(address) => Self::Http(HttpEncoder::new(address, mode)),
            ValidAddress::Stdout(valid) => Self::Stdout(StdoutEncoder::new(valid.format, false)),
        }
    }

    /// The Message that tells `event`.
    pub fn encode(&self, event: &Event) -> Message {
        match self {
            Self::Kafka(encoder) => encoder.encode(event),
            Self::Nats(encoder) => encoder.encode(event),
            Self::Rabbitmq(encoder) => encoder.encode(event),
            Self::Http(encoder) => encoder.encode(event),
            Self::Stdout(encoder) => encoder.encode(event),
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Begins to connect in the background, again and again. A broker that cannot be reached, or credentials that cannot
    /// be used, are no error here: [`Sink::check`] says how it goes. Needs a runtime.
    pub fn open(valid: ValidConnection, context: SinkContext) -> Self {
        match valid {
            ValidConnection::Kafka(valid) => Self::Kafka(Arc::new(KafkaConnection::open(valid, context))),
            ValidConnection::Nats(valid) => Self::Nats(Arc::new(NatsConnection::open(valid, context))),
            ValidConnection::Rabbitmq(valid) => {
                Self::Rabbitmq(Arc::new(RabbitmqConnection::open(valid, context)))
            }
            ValidConnection::Http(valid) => Self::Http(Arc::new(HttpConnection::open(valid, context))),
            ValidConnection::Stdout => Self::Stdout,
        }
    }

    /// What a Subscription sends to `address` by. The address is of the connection's kind, or nothing can be sent.
    pub fn target(&self, address: &ValidAddress, mode: ContentMode) -> Result<Target, NotReady> {
        match (self, address) {
            (Self::Kafka(connection), ValidAddress::Kafka(address)) => Ok(Target {
                encoder: Encoder::Kafka(KafkaEncoder::new(address, mode)),
                sink: Arc::new(KafkaSink::new(connection.clone(), address)),
                ordered: true,
            }),
            (Self::Nats(connection), ValidAddress::Nats(address)) => Ok(Target {
                encoder: Encoder::Nats(NatsEncoder::new(address, mode)),
                sink: Arc::new(NatsSink::new(connection.clone(), address)),
                ordered: false,
            }),
            (Self::Rabbitmq(connection), ValidAddress::Rabbitmq(address)) => Ok(Target {
                encoder: Encoder::Rabbitmq(RabbitmqEncoder::new(address, mode)),
                sink: Arc::new(RabbitmqSink::new(connection.clone(), address)),
                ordered: false,
            }),
            (Self::Http(connection), ValidAddress::Http(address)) => Ok(Target {
                encoder: Encoder::Http(HttpEncoder::new(address, mode)),
                sink: Arc::new(HttpSink::new(connection.clone(), address)),
                ordered: false,
            }),
            (Self::Stdout, ValidAddress::Stdout(valid)) => Ok(stdout::to_stdout(*valid)),
            (connection, address) => {
                let (has, wants) = (connection.kind(), address.kind());
                let message =
                    format!("the Sink is for {has}, and the Subscription has an address for {wants}");
                Err(NotReady::new("WrongKind", message))
            }
        }
    }

    /// Whether the broker is reachable and knows who we are. What is behind it, [`Sink::check`] looks at.
    pub async fn check(&self) -> Result<(), NotReady> {
        match self {
            Self::Kafka(connection) => connection.check().await,
            Self::Nats(connection) => connection.check().await,
            Self::Rabbitmq(connection) => connection.check().await,
            Self::Http(connection) => connection.check().await,
            Self::Stdout => Ok(()),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Kafka(_) => Kind::Kafka,
            Self::Nats(_) => Kind::Nats,
            Self::Rabbitmq(_) => Kind::Rabbitmq,
            Self::Http(_) => Kind::Http,
            Self::Stdout => Kind::Stdout,
        }
    }
}

#[cfg(test)]
#[path = "../tests/fixture/event.rs"]
mod fixture;
