//! A real broker of each kind, as a benchmark needs it: what the bridge and others send there, how far they are, and what
//! arrived in the end.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};

use super::http::Http;
use super::kafka::KafkaBroker;
use super::load::Load;
use super::nats::NatsBroker;
use super::rabbitmq::RabbitmqBroker;
use crate::receiver::Kind;
use crate::replay::SECRET;
use crate::xtask::bench::account::Account;

/// Who comes in where somebody is asked who he is, with [`PASSWORD`].
pub(super) const USER: &str = "bench";
pub(super) const PASSWORD: &str = "bench-password";

/// A running broker that is reached in one way.
pub(super) enum Broker {
    Nats(NatsBroker),
    Kafka(KafkaBroker),
    Rabbitmq(RabbitmqBroker),
    Http(Http),
}

/// What a place of a broker holds.
pub(super) struct Holdings {
    pub(super) account: Account,
    /// The mean size of a message with its headers.
    pub(super) bytes: u64,
}

/// What arrived where somebody listens, in the order of arrival.
#[derive(Default)]
pub(super) struct Heard {
    /// The attribute `sequence`, and when it arrived, in nanoseconds since 1970.
    messages: Mutex<Vec<(String, u64)>>,
    bytes: Mutex<u64>,
}

// === impl Broker ===

impl Broker {
    /// Starts one that is reached in clear, or by TLS and with a password or token.
    pub(super) async fn start(kind: Kind, secured: bool) -> Result<Self> {
        Ok(match kind {
            Kind::Nats => Self::Nats(NatsBroker::start(secured).await?),
            Kind::Kafka => Self::Kafka(KafkaBroker::start(secured).await?),
            Kind::Rabbitmq => Self::Rabbitmq(RabbitmqBroker::start(secured).await?),
            Kind::Http => Self::Http(Http::start(secured).await?),
        })
    }

    /// Makes the stream, topic, or exchange with its queue, empty.
    pub(super) async fn make(&self, place: &str) -> Result<()> {
        match self {
            Self::Nats(nats) => nats.make(place).await,
            Self::Kafka(kafka) => kafka.make(place).await,
            Self::Rabbitmq(rabbitmq) => rabbitmq.make(place).await,
            Self::Http(http) => {
                http.clear();
                Ok(())
            }
        }
    }

    /// Removes it with what it holds.
    pub(super) async fn remove(&self, place: &str) -> Result<()> {
        match self {
            Self::Nats(nats) => nats.remove(place).await,
            Self::Kafka(kafka) => kafka.remove(place).await,
            Self::Rabbitmq(rabbitmq) => rabbitmq.remove(place).await,
            Self::Http(http) => {
                http.clear();
                Ok(())
            }
        }
    }

    /// From now on the moments at which messages arrive are known, where the broker does not note them itself.
    pub(super) async fn listen(&self, place: &str) -> Result<()> {
        match self {
            Self::Rabbitmq(rabbitmq) => rabbitmq.listen(place).await,
            Self::Nats(_) | Self::Kafka(_) | Self::Http(_) => Ok(()),
        }
    }

    /// `spec.sink` of a Subscription that sends there, with [`Broker::secret`]; by HTTP, up to `max_batch` Events in each
    /// request.
    pub(super) fn sink(&self, place: &str, max_batch: Option<u32>) -> Value {
        match self {
            Self::Nats(nats) => json!({"nats": nats.sink(place)}),
            Self::Kafka(kafka) => json!({"kafka": kafka.sink(place)}),
            Self::Rabbitmq(rabbitmq) => json!({"rabbitmq": rabbitmq.sink(place)}),
            Self::Http(http) => json!({"http": http.sink(max_batch)}),
        }
    }

    /// What has to be in [`SECRET`].
    pub(super) fn secret(&self) -> BTreeMap<&'static str, String> {
        let ca = match self {
            Self::Nats(nats) => nats.certificate(),
            Self::Kafka(kafka) => Some(kafka.certificate()),
            Self::Rabbitmq(rabbitmq) => Some(rabbitmq.certificate()),
            Self::Http(http) => Some(http.certificate()),
        };
        let ca = ca.map(|ca| ("ca", ca.to_owned()));
        ca.into_iter().chain([("password", PASSWORD.to_owned())]).collect()
    }

    /// How many messages have arrived.
    pub(super) async fn count(&self, place: &str) -> Result<u64> {
        match self {
            Self::Nats(nats) => nats.count(place).await,
            Self::Kafka(kafka) => kafka.count(place).await,
            Self::Rabbitmq(rabbitmq) => rabbitmq.count(place).await,
            Self::Http(http) => Ok(http.heard().count()),
        }
    }

    /// Accounts for everything that arrived of `events` versions of `objects` objects.
    pub(super) async fn holdings(&self, place: &str, events: u64, objects: u64) -> Result<Holdings> {
        match self {
            Self::Nats(nats) => nats.holdings(place, events, objects).await,
            Self::Kafka(kafka) => kafka.holdings(place, events, objects).await,
            Self::Rabbitmq(rabbitmq) => rabbitmq.holdings(place, events, objects).await,
            Self::Http(http) => http.heard().holdings(events, objects),
        }
    }

    /// Who else sends there, as fast as it goes.
    pub(super) fn load(&self, place: &str) -> Load {
        match self {
            Self::Nats(nats) => nats.load(place),
            Self::Kafka(kafka) => kafka.load(place),
            Self::Rabbitmq(rabbitmq) => rabbitmq.load(place),
            Self::Http(http) => http.load(),
        }
    }

    /// Its process; none where it is part of this one.
    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Nats(nats) => Some(nats.pid()),
            Self::Kafka(kafka) => Some(kafka.pid()),
            Self::Rabbitmq(rabbitmq) => Some(rabbitmq.pid()),
            Self::Http(_) => None,
        }
    }
}

// === impl Heard ===

impl Heard {
    /// A message of so many bytes arrived now.
    pub(super) fn add(&self, sequence: &str, at: u64, bytes: usize) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push((sequence.to_owned(), at));
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) += bytes as u64;
    }

    pub(super) fn count(&self) -> u64 {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    pub(super) fn clear(&self) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    }

    pub(super) fn holdings(&self, events: u64, objects: u64) -> Result<Holdings> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut account = Account::new(events, objects)?;
        for (sequence, at) in &*messages {
            account.take(sequence, *at)?;
        }
        let bytes = *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) / messages.len().max(1) as u64;
        Ok(Holdings { account, bytes })
    }
}

/// A key of the Secret, as settings name it.
pub(super) fn key(key: &str) -> Value {
    json!({"name": SECRET, "key": key})
}
