//! Topics: made, removed, and read from beginning to end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::{Kafka, Listener};

/// What a consumer sees of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub partition: i32,
    /// Where in the partition.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// When the producer made it, or the broker took it, as the topic is set: milliseconds since 1970.
    pub timestamp: Option<i64>,
}

const PATIENCE: Duration = Duration::from_secs(30);
/// A group is required, and none is joined.
const GROUP: &str = "tidings-testbed";

// === impl Kafka ===

impl Kafka {
    /// Makes a topic, with `settings` such as `("cleanup.policy", "compact")`.
    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let results = self.admin()?.create_topics([&topic], &options()).await?;
        for result in results {
            result.map_err(|(name, code)| anyhow::anyhow!("topic {name}: {code}"))?;
        }
        Ok(())
    }

    /// Removes a topic with its records.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        for result in self.admin()?.delete_topics(&[name], &options()).await? {
            result.map_err(|(name, code)| anyhow::anyhow!("topic {name}: {code}"))?;
        }
        Ok(())
    }

    /// Every record that `topic` holds now, partition by partition. Of transactions only what is committed.
    pub async fn records(&self, topic: &str) -> Result<Vec<Record>> {
        let mut records = self.visit(topic, Vec::new(), Vec::push).await?;
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// Shows every record that `topic` holds now to `each`, one after another, in the order of each partition, and answers
    /// what that made of `state`: for more records than one wants in memory.
    pub async fn visit<T: Send + 'static>(
        &self,
        topic: &str,
        mut state: T,
        mut each: impl FnMut(&mut T, Record) + Send + 'static,
    ) -> Result<T> {
        let (config, topic) = (self.client(Listener::Plain), topic.to_owned());
        let read = move || {
            read(config, &topic, |record| each(&mut state, record))?;
            Ok(state)
        };
        tokio::task::spawn_blocking(read).await?
    }

    /// How many records `topic` has taken so far.
    pub async fn count(&self, topic: &str) -> Result<u64> {
        let (mut config, topic) = (self.client(Listener::Plain), topic.to_owned());
        config.set("group.id", GROUP);
        let count = move || {
            let consumer: BaseConsumer = config.create()?;
            let ends = partitions(&consumer, &topic)?.into_iter();
            let ends = ends.map(|partition| Ok(consumer.fetch_watermarks(&topic, partition, PATIENCE)?.1));
            Ok(u64::try_from(ends.sum::<Result<i64>>()?)?)
        };
        tokio::task::spawn_blocking(count).await?
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        self.client(Listener::Plain).create().context("create Kafka's admin client")
    }
}

// === impl Record ===

impl Record {
    /// The value of the first header of this name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(ToOwned::to_owned),
            value: message.payload().map(ToOwned::to_owned),
            headers: headers
                .map(|header| (header.key.to_owned(), header.value.map(ToOwned::to_owned)))
                .collect(),
            timestamp: message.timestamp().to_millis(),
        }
    }
}

fn read(mut config: rdkafka::ClientConfig, topic: &str, mut each: impl FnMut(Record)) -> Result<()> {
    config.set("group.id", GROUP).set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create()?;
    let partitions = partitions(&consumer, topic)?;
    let mut all = TopicPartitionList::new();
    for &partition in &partitions {
        all.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let mut ended = 0;
    let mut deadline = Instant::now() + PATIENCE;
    while ended < partitions.len() {
        ensure!(Instant::now() < deadline, "topic {topic} gives nothing for {PATIENCE:?}");
        match consumer.poll(ANSWER) {
            Some(Ok(message)) => {
                each(Record::of(&message));
                deadline = Instant::now() + PATIENCE;
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(error).with_context(|| format!("read topic {topic}")),
            None => {}
        }
    }
    Ok(())
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let topics = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
    let partitions: Vec<_> = topics.map(rdkafka::metadata::MetadataPartition::id).collect();
    ensure!(!partitions.is_empty(), "there is no topic {topic}");
    Ok(partitions)
}

const ANSWER: Duration = Duration::from_secs(1);

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}
