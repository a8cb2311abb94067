//! A broker of each kind, with the place where a Subscription's Events go and an application that hears them: what the demo
//! shows, and what every sink is held to through the whole bridge.

pub(crate) mod amqp;
mod http;
mod kafka;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use futures::stream::{self, Stream, StreamExt as _};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::consumer::{self, Received};
use crate::kafka::{Kafka, Listener};
use crate::nats::Nats;
use crate::rabbitmq::Rabbitmq;

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

/// A running broker, and what was heard of it.
pub struct Receiver {
    broker: Broker,
    /// The stream, topic, or exchange and queue.
    place: String,
    log: Arc<Log>,
    reader: JoinHandle<()>,
}

enum Broker {
    Nats(Nats),
    Kafka(Kafka),
    Rabbitmq(Rabbitmq),
    Http(http::Endpoint),
}

/// What was heard, in order of arrival.
#[derive(Default)]
struct Log {
    events: Mutex<Vec<Received>>,
    grown: Notify,
}

/// Between attempts of an application whose broker is away.
const AGAIN: Duration = Duration::from_millis(200);

// === impl Kind ===

impl Kind {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nats => "NATS JetStream",
            Self::Kafka => "Kafka",
            Self::Rabbitmq => "RabbitMQ",
            Self::Http => "HTTP",
        }
    }
}

// === impl Receiver ===

impl Receiver {
    /// Starts a broker, makes `place` in it, and listens there.
    pub async fn start(kind: Kind, place: &str) -> Result<Self> {
        let (log, place) = (Arc::new(Log::default()), place.to_owned());
        let (broker, reader) = match kind {
            Kind::Nats => {
                let nats = Nats::start().await?;
                let client = nats.client().await?;
                consumer::create_stream(&client, &place).await?;
                let (log, place) = (log.clone(), place.clone());
                let reader = tokio::spawn(async move {
                    loop {
                        let heard = log.len();
                        if let Ok(events) = consumer::read_after(&client, &place, heard).await {
                            for event in events {
                                log.add(event);
                            }
                        }
                        tokio::time::sleep(AGAIN).await;
                    }
                });
                (Broker::Nats(nats), reader)
            }
            Kind::Kafka => {
                let kafka = Kafka::start().await?;
                kafka.create_topic(&place, 3, &[]).await?;
                let reader = kafka::listen(kafka.client(Listener::Plain), &place, log.clone())?;
                (Broker::Kafka(kafka), reader)
            }
            Kind::Rabbitmq => {
                let rabbitmq = Rabbitmq::start().await?;
                amqp::declare(&rabbitmq.client().await?, &place).await?;
                let reader = tokio::spawn(amqp::listen(rabbitmq.url(), place.clone(), log.clone()));
                (Broker::Rabbitmq(rabbitmq), reader)
            }
            Kind::Http => {
                let (endpoint, reader) = http::Endpoint::start(log.clone()).await?;
                (Broker::Http(endpoint), reader)
            }
        };
        Ok(Self { broker, place, log, reader })
    }

    /// `spec.sink` of a Subscription that sends there. [`Receiver::secret`] has to be in its namespace.
    pub fn sink(&self) -> Value {
        let place = &self.place;
        match &self.broker {
            Broker::Nats(nats) => {
                let subject = format!("{place}.{{namespace}}.{{name}}.{{change}}");
                json!({"nats": {"servers": [nats.url()], "subject": subject}})
            }
            Broker::Kafka(kafka) => {
                json!({"kafka": {"brokers": [kafka.address(Listener::Plain)], "topic": place}})
            }
            Broker::Rabbitmq(rabbitmq) => json!({"rabbitmq": {
                "servers": [format!("amqp://{}", rabbitmq.address())],
                "auth": {"user": "guest", "passwordSecretRef": {"name": "broker", "key": "password"}},
                "exchange": place, "routingKey": "{namespace}.{name}.{change}",
            }}),
            Broker::Http(endpoint) => {
                json!({"http": {"url": endpoint.url(), "path": "/{namespace}/{name}"}})
            }
        }
    }

    /// Where an application of its own can hear the same: arguments of the consumers in `examples/consumers`. Nothing for
    /// HTTP, which only one hears.
    pub fn consumer(&self) -> Option<String> {
        let place = &self.place;
        match &self.broker {
            Broker::Nats(nats) => Some(format!("nats --server {} --stream {place}", nats.url())),
            Broker::Kafka(kafka) => {
                Some(format!("kafka --server {} --topic {place}", kafka.address(Listener::Plain)))
            }
            Broker::Rabbitmq(rabbitmq) => {
                Some(format!("rabbitmq --server {} --exchange {place}", rabbitmq.url()))
            }
            Broker::Http(_) => None,
        }
    }

    /// The Secret `broker`, which the service account `default` of `namespace` may read, as YAML; empty where the sink
    /// needs none.
    pub fn secret(&self, namespace: &str) -> String {
        match &self.broker {
            Broker::Rabbitmq(_) => format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: broker}}\nstringData: {{password: guest}}\n---\n\
                 apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: tidings-reads-broker}}\n\
                 rules: [{{apiGroups: [\"\"], resources: [secrets], resourceNames: [broker], verbs: [get]}}]\n---\n\
                 apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: tidings-reads-broker}}\n\
                 roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: tidings-reads-broker}}\n\
                 subjects: [{{kind: ServiceAccount, name: default, namespace: {namespace}}}]\n"
            ),
            _ => String::new(),
        }
    }

    /// Everything that was heard so far.
    pub fn heard(&self) -> Vec<Received> {
        self.log.lock().clone()
    }

    /// Everything from the first on, going on with what comes.
    pub fn events(&self) -> impl Stream<Item = Received> + use<> {
        stream::unfold((self.log.clone(), 0), |(log, next)| async move {
            loop {
                let grown = log.grown.notified();
                if let Some(event) = log.lock().get(next).cloned() {
                    return Some((event, (log.clone(), next + 1)));
                }
                grown.await;
            }
        })
        .boxed()
    }

    /// Kills the broker (a receiver of HTTP answers 503 instead).
    pub fn kill(&mut self) -> Result<()> {
        match &mut self.broker {
            Broker::Nats(nats) => nats.kill(),
            Broker::Kafka(kafka) => kafka.kill(),
            Broker::Rabbitmq(rabbitmq) => rabbitmq.kill(),
            Broker::Http(endpoint) => {
                endpoint.refuse(true);
                Ok(())
            }
        }
    }

    /// Whether a receiver of HTTP refuses for good what it is told of the object `namespace/name`.
    pub fn reject(&self, key: &str, rejects: bool) -> Result<()> {
        match &self.broker {
            Broker::Http(endpoint) => {
                endpoint.reject(&format!("/{key}"), rejects);
                Ok(())
            }
            _ => anyhow::bail!("only a receiver of HTTP refuses what it is told"),
        }
    }

    /// Starts it again, with what it had.
    pub async fn restart(&mut self) -> Result<()> {
        match &mut self.broker {
            Broker::Nats(nats) => nats.restart().await,
            Broker::Kafka(kafka) => kafka.restart().await,
            Broker::Rabbitmq(rabbitmq) => rabbitmq.restart().await,
            Broker::Http(endpoint) => {
                endpoint.refuse(false);
                Ok(())
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

// === impl Log ===

impl Log {
    fn add(&self, event: Received) {
        self.lock().push(event);
        self.grown.notify_waiters();
    }

    fn len(&self) -> u64 {
        self.lock().len() as u64
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Received>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An Event in binary mode: its attributes are the headers that begin with `prefix`.
fn binary<'a>(
    subject: &str,
    prefix: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: &[u8],
) -> Result<Received> {
    let attributes = headers.filter_map(|(name, value)| {
        let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
        Some((name.strip_prefix(prefix)?.to_owned(), value))
    });
    let attributes: BTreeMap<_, _> = attributes.collect();
    let data = serde_json::from_slice(body).context("the data is not JSON")?;
    Ok(Received { subject: subject.to_owned(), attributes, data, stored: 0 })
}
