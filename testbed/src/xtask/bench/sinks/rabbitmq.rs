//! RabbitMQ: it notes no moments, so where they count a consumer listens; what it hears is later than what was stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use futures::StreamExt as _;
use lapin::Channel;
use lapin::options::{BasicConsumeOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use super::broker::{Heard, Holdings, PASSWORD, USER, key};
use super::load::{Load, Target};
use crate::component::Home;
use crate::rabbitmq::{Rabbitmq, RabbitmqOptions, RabbitmqUser};
use crate::receiver::{Kind, amqp};
use crate::replay::now;
use crate::xtask::bench::progress::Progress;

pub(super) struct RabbitmqBroker {
    rabbitmq: Rabbitmq,
    secured: bool,
    connection: lapin::Connection,
    /// For questions.
    channel: Channel,
    heard: Arc<Heard>,
    listens: AtomicBool,
}

// === impl RabbitmqBroker ===

impl RabbitmqBroker {
    pub(super) async fn start(secured: bool) -> Result<Self> {
        let users = vec![RabbitmqUser::new(USER, PASSWORD)];
        let options = RabbitmqOptions { users, ..RabbitmqOptions::default() };
        let rabbitmq = Rabbitmq::start_with(&Home::Temporary, options).await?;
        let connection = rabbitmq.client().await?;
        let channel = connection.create_channel().await?;
        let (heard, listens) = (Arc::default(), AtomicBool::new(false));
        Ok(Self { rabbitmq, secured, connection, channel, heard, listens })
    }

    pub(super) fn pid(&self) -> u32 {
        self.rabbitmq.process().pid
    }

    pub(super) fn certificate(&self) -> &str {
        self.rabbitmq.authority().certificate()
    }

    pub(super) async fn make(&self, place: &str) -> Result<()> {
        self.heard.clear();
        self.listens.store(false, Ordering::Relaxed);
        amqp::declare(&self.connection, place).await
    }

    pub(super) async fn remove(&self, place: &str) -> Result<()> {
        self.channel.queue_delete(place.into(), QueueDeleteOptions::default()).await?;
        self.channel.exchange_delete(place.into(), ExchangeDeleteOptions::default()).await?;
        Ok(())
    }

    pub(super) fn sink(&self, place: &str) -> Value {
        let mut sink = json!({
            "servers": [format!("amqp://{}", self.rabbitmq.address())],
            "auth": {"user": USER, "passwordSecretRef": key("password")},
            "exchange": place, "routingKey": "{namespace}.{name}.{change}",
        });
        if self.secured {
            sink["servers"] = json!([format!("amqps://{}", self.rabbitmq.tls_address())]);
            sink["tls"] = json!({"caSecretRef": key("ca")});
        }
        sink
    }

    /// Takes everything out of the queue, as it comes.
    pub(super) async fn listen(&self, place: &str) -> Result<()> {
        if self.listens.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let channel = self.connection.create_channel().await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut messages =
            channel.basic_consume(place.into(), "".into(), options, FieldTable::default()).await?;
        let heard = self.heard.clone();
        // It ends with the queue.
        tokio::spawn(async move {
            let _channel = channel;
            while let Some(Ok(message)) = messages.next().await {
                let headers = message.properties.headers().as_ref().map(FieldTable::inner);
                let headers = headers.into_iter().flatten().filter_map(|(name, value)| match value {
                    AMQPValue::LongString(text) => Some((name.as_str(), text.as_bytes())),
                    _ => None,
                });
                let (mut bytes, mut sequence) = (message.data.len(), "");
                for (name, value) in headers {
                    bytes += name.len() + value.len();
                    if name == "ce-sequence" {
                        sequence = std::str::from_utf8(value).unwrap_or_default();
                    }
                }
                heard.add(sequence, now(), bytes);
            }
        });
        Ok(())
    }

    pub(super) async fn count(&self, place: &str) -> Result<u64> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare(place.into(), options, FieldTable::default()).await;
        let waiting = u64::from(queue.context("ask for the queue")?.message_count());
        // With a consumer, a message may be on its way from one to the other.
        Ok(if self.listens.load(Ordering::Relaxed) { self.heard.count() } else { waiting })
    }

    pub(super) async fn holdings(&self, place: &str, events: u64, objects: u64) -> Result<Holdings> {
        let count = self.count(place).await?;
        self.listen(place).await?;
        let mut progress = Progress::new(format!("checked of {place}"), count);
        while self.heard.count() < count {
            progress.is_at(self.heard.count())?;
            progress.pause().await;
        }
        self.heard.holdings(events, objects)
    }

    pub(super) fn load(&self, place: &str) -> Load {
        let (scheme, address) = if self.secured {
            ("amqps", self.rabbitmq.tls_address())
        } else {
            ("amqp", self.rabbitmq.address())
        };
        Load::Own(Target {
            kind: Kind::Rabbitmq,
            url: format!("{scheme}://{USER}:{PASSWORD}@{address}/%2f"),
            place: place.to_owned(),
            user: None,
            ca: self.secured.then(|| self.certificate().to_owned()),
        })
    }
}
