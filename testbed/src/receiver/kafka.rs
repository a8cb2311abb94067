//! A consumer of a topic.

use std::sync::Arc;

use anyhow::{Context, Result};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use tokio::task::JoinHandle;

use super::ear::{AGAIN, Log, binary};
use crate::consumer::Received;

/// Reads `topic` from its first record on; while the broker is away, the client tries again by itself.
pub(super) fn listen(mut config: ClientConfig, topic: &str, log: Arc<Log>) -> Result<JoinHandle<()>> {
    config.set("group.id", topic).set("auto.offset.reset", "earliest");
    let consumer: StreamConsumer = config.create().context("create Kafka's consumer")?;
    consumer.subscribe(&[topic])?;
    Ok(tokio::spawn(async move {
        loop {
            match consumer.recv().await {
                // A tombstone is no Event.
                Ok(record) if record.payload().is_some() => {
                    if let Ok(event) = read(&record) {
                        log.add(event);
                    }
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }))
}

fn read(record: &BorrowedMessage<'_>) -> Result<Received> {
    let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
    let headers = headers.filter_map(|header| Some((header.key, std::str::from_utf8(header.value?).ok()?)));
    let headers: Vec<_> = headers.collect();
    let key = String::from_utf8_lossy(record.key().unwrap_or_default());
    let subject = format!("{} {key}", record.topic());
    // Kafka's binding does not percent-encode, and nothing that is sent has a `%`.
    binary(&subject, "ce_", headers.into_iter(), record.payload().unwrap_or_default())
}
