//! What settings of sinks mean once they are valid: a connection, an address behind it, and the place that both make.

use super::SinkReference;
use super::http::{ValidHttpAddress, ValidHttpConnection};
use super::kafka::{KafkaSettings, ValidKafkaAddress, ValidKafkaConnection};
use super::nats::{NatsSettings, ValidNatsAddress, ValidNatsConnection};
use super::rabbitmq::{RabbitmqSettings, ValidRabbitmqAddress, ValidRabbitmqConnection};
use super::stdout::ValidStdout;
use crate::field_error::FieldErrors;
use crate::secret::SecretKeyRef;

/// The kinds of sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Apache Kafka.
    Kafka,
    /// NATS with JetStream.
    Nats,
    /// RabbitMQ.
    Rabbitmq,
    /// A receiver of HTTP.
    Http,
    /// Standard output.
    Stdout,
}

/// Where the Events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidSink {
    /// How it is reached.
    pub via: Via,
    /// Where behind that; nothing where a Sink is named and its kind is left to say the rest.
    pub address: Option<ValidAddress>,
}

/// How a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // there is one for each Subscription, and a box would be in everybody's way
pub enum Via {
    /// By the connection of this Sink.
    Sink(SinkReference),
    /// By a connection of the Subscription's own.
    Inline(ValidConnection),
}

/// A connection that can be made, once its Secrets are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidConnection {
    /// Brokers of Kafka.
    Kafka(ValidKafkaConnection),
    /// Servers of NATS.
    Nats(ValidNatsConnection),
    /// Servers of RabbitMQ.
    Rabbitmq(ValidRabbitmqConnection),
    /// A receiver of HTTP.
    Http(ValidHttpConnection),
    /// Standard output.
    Stdout,
}

/// Where Events go behind a connection of the same kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidAddress {
    /// Topics of Kafka.
    Kafka(ValidKafkaAddress),
    /// Subjects of NATS.
    Nats(ValidNatsAddress),
    /// Exchanges of RabbitMQ.
    Rabbitmq(ValidRabbitmqAddress),
    /// Paths of a receiver of HTTP.
    Http(ValidHttpAddress),
    /// Lines of standard output.
    Stdout(ValidStdout),
}

// === impl Kind ===

/// As people call it.
impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kafka => "Kafka",
            Self::Nats => "NATS",
            Self::Rabbitmq => "RabbitMQ",
            Self::Http => "HTTP",
            Self::Stdout => "stdout",
        })
    }
}

// === impl ValidSink ===

impl ValidSink {
    /// Where Events of a Subscription in `namespace` end up. Sinks of the same place differ only in the shape of Messages, or
    /// in the way there: what was told through one was told through the other. It is stored, so it must stay what it is. A
    /// Sink that is named is one place, whatever becomes of its connection.
    pub fn place(&self, namespace: &str) -> String {
        let Self { via, address } = self;
        match via {
            Via::Inline(connection) => {
                let default = || connection.default_address();
                connection.place(&address.clone().unwrap_or_else(default))
            }
            Via::Sink(SinkReference { namespace: of, name }) => {
                let of = of.as_deref().unwrap_or(namespace);
                format!(
                    "sink {of}/{name} {}",
                    address.as_ref().map_or_else(String::new, ValidAddress::behind)
                )
            }
        }
    }
}

// === impl ValidConnection ===

impl ValidConnection {
    /// The same as far as the operator allows it: HTTP only to public addresses, if so.
    #[must_use]
    pub fn within(mut self, http_public_only: bool) -> Self {
        if let Self::Http(http) = &mut self {
            http.public_only = http_public_only;
        }
        self
    }

    /// The kind of sink.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Kafka(_) => Kind::Kafka,
            Self::Nats(_) => Kind::Nats,
            Self::Rabbitmq(_) => Kind::Rabbitmq,
            Self::Http(_) => Kind::Http,
            Self::Stdout => Kind::Stdout,
        }
    }

    /// What has to be read before the connection can be made, in the namespace of the resource that describes it.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        match self {
            Self::Kafka(kafka) => kafka.secrets(),
            Self::Nats(nats) => nats.secrets(),
            Self::Rabbitmq(rabbitmq) => rabbitmq.secrets(),
            Self::Http(http) => http.secrets(),
            Self::Stdout => Vec::new(),
        }
    }

    /// Which broker, in a few words, without credentials.
    pub fn summary(&self) -> String {
        match self {
            Self::Kafka(kafka) => kafka.summary(),
            Self::Nats(nats) => nats.summary(),
            Self::Rabbitmq(rabbitmq) => rabbitmq.summary(),
            Self::Http(http) => http.summary(),
            Self::Stdout => "stdout".to_owned(),
        }
    }

    /// What stands behind it unless something is said.
    pub fn default_address(&self) -> ValidAddress {
        let mut errors = FieldErrors::new();
        let address = match self {
            Self::Kafka(_) => KafkaSettings::default().address("", &mut errors).map(ValidAddress::Kafka),
            Self::Nats(_) => NatsSettings::default().address("", &mut errors).map(ValidAddress::Nats),
            Self::Rabbitmq(_) => {
                RabbitmqSettings::default().address("", &mut errors).map(ValidAddress::Rabbitmq)
            }
            Self::Http(_) => Some(ValidAddress::Http(ValidHttpAddress::default())),
            Self::Stdout => None,
        };
        address.unwrap_or_else(|| ValidAddress::Stdout(ValidStdout::default()))
    }

    pub(super) fn place(&self, address: &ValidAddress) -> String {
        match (self, address) {
            (Self::Kafka(kafka), ValidAddress::Kafka(_)) => {
                format!("kafka {} {}", kafka.brokers.join(","), address.behind())
            }
            (Self::Nats(nats), ValidAddress::Nats(_)) => {
                let servers: Vec<_> = nats.servers.iter().map(url::Url::as_str).collect();
                format!("nats {} {}", servers.join(","), address.behind())
            }
            (Self::Rabbitmq(rabbitmq), ValidAddress::Rabbitmq(_)) => {
                let servers: Vec<_> = rabbitmq.servers.iter().map(url::Url::as_str).collect();
                format!("rabbitmq {} {} {}", servers.join(","), rabbitmq.virtual_host, address.behind())
            }
            (Self::Http(http), ValidAddress::Http(_)) => {
                format!("http {} {}", http.summary(), address.behind())
            }
            (connection, _) => connection.kind().to_string(),
        }
    }
}

// === impl ValidAddress ===

impl ValidAddress {
    /// The same as far as the operator allows it: topics of Kafka that are missing are created, if so.
    #[must_use]
    pub fn within(mut self, create_topics: bool) -> Self {
        if let Self::Kafka(kafka) = &mut self {
            kafka.may_create_topics = create_topics;
        }
        self
    }

    /// The kind of sink.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Kafka(_) => Kind::Kafka,
            Self::Nats(_) => Kind::Nats,
            Self::Rabbitmq(_) => Kind::Rabbitmq,
            Self::Http(_) => Kind::Http,
            Self::Stdout(_) => Kind::Stdout,
        }
    }

    /// What parts one place from another behind the same connection: a stream, a topic.
    fn behind(&self) -> String {
        match self {
            Self::Kafka(kafka) => kafka.topic.to_string(),
            Self::Nats(nats) => nats.stream.clone().unwrap_or_default(),
            Self::Rabbitmq(rabbitmq) => rabbitmq.exchange.to_string(),
            Self::Http(http) => http.path.to_string(),
            Self::Stdout(_) => String::new(),
        }
    }
}
