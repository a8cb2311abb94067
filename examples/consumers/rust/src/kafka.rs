//! Folds the Events of a topic of Kafka.

use anyhow::{Context, Result};
use clap::Args;
use cloudevents::Event;
use futures::FutureExt;
use rdkafka::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};

use crate::consumer::Consumer;
use crate::wire::Wire;

#[derive(Debug, Args)]
pub(crate) struct Kafka {
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", default_value = "127.0.0.1:9092")]
    server: String,
    #[arg(long, default_value = "todos")]
    topic: String,
    #[arg(long, default_value = "todos-example")]
    group: String,
}

/// Until the consumer is to stop.
pub(crate) async fn consume(consumer: &Consumer, Kafka { server, topic, group }: Kafka) -> Result<()> {
    let kafka: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", server)
        .set("group.id", group)
        // A group that is new begins with the first record there is.
        .set("auto.offset.reset", "earliest")
        // Committed below, after the fold.
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // What waits in the client, in KiB; the default is 64 MiB for each partition.
        .set("queued.max.messages.kbytes", "16384")
        .create()?;
    kafka.subscribe(&[&topic])?;
    loop {
        let first = tokio::select! {
            () = consumer.stop().cancelled() => return Ok(()),
            first = kafka.recv() => first,
        };
        let mut records = Vec::from_iter(usable(first)?);
        // And what has come meanwhile.
        while records.len() < consumer.remaining()
            && let Some(next) = kafka.recv().now_or_never()
        {
            records.extend(usable(next)?);
        }
        // A tombstone says nothing that the Event before it has not said.
        let events = records.iter().filter(|record| record.payload().is_some()).map(read);
        consumer.take(&events.collect::<Result<Vec<_>>>()?)?;
        if records.is_empty() {
            continue;
        }
        let stored = records.iter().try_for_each(|record| kafka.store_offset_from_message(record));
        if let Err(error) = stored.and_then(|()| kafka.commit_consumer_state(CommitMode::Sync)) {
            // The partition went to somebody else meanwhile, most likely. Who has it reads this again.
            eprintln!("not committed: {error}");
        }
    }
}

/// The record, or nothing while the client goes on trying.
fn usable(received: Result<BorrowedMessage<'_>, KafkaError>) -> Result<Option<BorrowedMessage<'_>>> {
    match received {
        Ok(record) => Ok(Some(record)),
        Err(KafkaError::MessageConsumptionFatal(code)) => Err(code).context("failed to read from Kafka"),
        Err(error) => {
            eprintln!("waiting for Kafka: {error}");
            Ok(None)
        }
    }
}

fn read(record: &BorrowedMessage<'_>) -> Result<Event> {
    let place =
        format!("topic {}, partition {}, offset {}", record.topic(), record.partition(), record.offset());
    let headers = record.headers().into_iter().flat_map(Headers::iter);
    let headers = headers.filter_map(|header| Some((header.key, std::str::from_utf8(header.value?).ok()?)));
    Wire::new("ce_", headers, record.payload().unwrap_or_default()).event(&place)
}
