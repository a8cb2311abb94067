//! A consumer of a topic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::JoinHandle;

use super::ear::{AGAIN, Log, binary};
use crate::consumer::Received;

/// For an answer of the broker.
const ANSWER: Duration = Duration::from_secs(10);

/// Reads `topic` from its first record on, each once; while the broker is away, the client tries again by itself.
pub(super) async fn listen(mut config: ClientConfig, topic: &str, log: Arc<Log>) -> Result<JoinHandle<()>> {
    // Nobody shares the partitions: a group would begin again somewhere before when its broker was away.
    config.set("group.id", topic).set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    let topic = topic.to_owned();
    let assigned = move || {
        let consumer: StreamConsumer = config.create().context("create Kafka's consumer")?;
        let asked = Instant::now();
        let mut partitions = TopicPartitionList::new();
        // A topic that was made a moment before may not be known yet.
        while partitions.count() == 0 {
            ensure!(asked.elapsed() < ANSWER, "the topic {topic} has no partitions");
            let metadata = consumer.fetch_metadata(Some(&topic), ANSWER)?;
            for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
                partitions.add_partition_offset(&topic, partition.id(), Offset::Beginning)?;
            }
            std::thread::sleep(AGAIN / 10);
        }
        consumer.assign(&partitions)?;
        anyhow::Ok(consumer)
    };
    let consumer = tokio::task::spawn_blocking(assigned).await??;
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

/// How many records were ever sent to `topic`, which has nothing but Events.
pub(super) async fn count(config: ClientConfig, topic: &str) -> Result<u64> {
    let topic = topic.to_owned();
    let count = move || {
        let consumer: BaseConsumer = config.create().context("create Kafka's consumer")?;
        let metadata = consumer.fetch_metadata(Some(&topic), ANSWER)?;
        let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        let ends = partitions.map(|partition| consumer.fetch_watermarks(&topic, partition.id(), ANSWER));
        ends.map(|ends| Ok(u64::try_from(ends?.1)?)).sum()
    };
    tokio::task::spawn_blocking(count).await?
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
