//! Dead letters in topics of Kafka, read as a group whose offsets say what was consumed. The group is one Subscription's
//! alone, so what is somebody else's is passed over.
//!
//! Nobody is refused by a group that somebody else reads with at the same time: two that run together send the same twice.
//!
//! Before: sinks/src/letters.rs
//! Next: sinks/src/kafka/letters/reader.rs

mod progress;
mod reader;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidings_config::sink::kafka::sasl::{ValidKafkaOauth, ValidKafkaSasl};
use tidings_config::sink::kafka::{ValidKafkaAddress, ValidKafkaConnection};
use tokio::time::Instant;

use self::reader::{Client, End, Partition, Record, Said, lost, lost_silently, poll, positions};
use super::config::Config;
use super::events::{Events, Listener};
use super::topics::why_unreachable;
use super::{classify, token};
use crate::SinkContext;
use crate::letters::{Fate, Letter, Letters, Reader, Receipt};
use crate::sink::NotReady;

/// For a record that is there.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two times that offsets are stored.
const STORE: Duration = Duration::from_secs(1);

/// Dead letters in topics.
pub(crate) struct KafkaLetters {
    client: Arc<Client>,
    events: Arc<Events>,
    renewal: Option<Renewal>,
    /// Not read yet.
    topics: VecDeque<String>,
    /// The one that is read, and its partitions that have something left.
    topic: String,
    left: BTreeMap<i32, End>,
    partitions: BTreeMap<(String, i32), Partition>,
    /// Topic, partition and offset of all that were given.
    given: Vec<(String, i32, i64)>,
    stored: Instant,
}

/// Gets another token before the last one has expired.
struct Renewal {
    oauth: ValidKafkaOauth,
    context: SinkContext,
    due: Instant,
}

// === impl KafkaLetters ===

impl KafkaLetters {
    /// Opens those that are there.
    pub(crate) async fn open(
        valid: ValidKafkaConnection,
        address: &ValidKafkaAddress,
        context: SinkContext,
        reader: &Reader,
    ) -> Result<Self, NotReady> {
        let token = match &valid.sasl {
            Some(ValidKafkaSasl::Oauth(oauth)) => {
                Some((oauth.clone(), token::fetch(oauth, &context.secrets).await?))
            }
            _ => None,
        };
        let group = reader.group.clone().unwrap_or_else(|| group(&reader.subscription));
        let config = Config::new(&valid, &context.secrets, &context.owner)?;
        let events = Arc::new(Events::new(token.as_ref().map(|(_, token)| token.clone())));
        let renewal = token.map(|(oauth, token)| Renewal {
            oauth,
            context,
            due: Instant::now() + token.lifetime.mul_f64(0.6),
        });
        let (topic, native, seen) = (address.topic.clone(), config.consumer(&group), events.clone());
        let opened = blocking(move || {
            let client = Client::from_config_and_context(&native, Listener(seen.clone()));
            let client = Arc::new(client.map_err(|error| classify::creation(&error))?);
            let topics = reader::topics(&client, &topic, &seen)?;
            Ok((client, topics))
        });
        let (client, topics) = opened.await?;
        let Some(topics) = topics else { return Err(why_unreachable(&events, &config).await) };
        Ok(Self {
            client,
            events,
            renewal,
            topics,
            topic: String::new(),
            left: BTreeMap::new(),
            partitions: BTreeMap::new(),
            given: Vec::new(),
            stored: Instant::now(),
        })
    }

    /// Begins with a topic.
    async fn begin(&mut self, topic: String) -> Result<(), NotReady> {
        let (client, name) = (self.client.clone(), topic.clone());
        let events = self.events.clone();
        let found = blocking(move || {
            positions(&client, &name).map_err(|error| lost_silently(&client, &name, &error, &events))
        });
        let found = found.await?;
        self.left.clear();
        let mut assignment = TopicPartitionList::new();
        for (partition, (of, end)) in found {
            if of.progress.next() < end {
                self.left.insert(partition, end);
                let from = Offset::Offset(of.progress.next());
                let added = assignment.add_partition_offset(&topic, partition, from);
                added.map_err(|error| lost(&topic, &error))?;
            }
            self.partitions.insert((topic.clone(), partition), of);
        }
        self.client.assign(&assignment).map_err(|error| lost(&topic, &error))?;
        self.topic = topic;
        Ok(())
    }

    /// Waits for what comes next in the topic.
    async fn read(&mut self) -> Result<Said, NotReady> {
        let patient = Instant::now() + PATIENCE;
        loop {
            self.renew().await?;
            let client = self.client.clone();
            let said =
                blocking(move || Ok(poll(&client))).await?.map_err(|error| lost(&self.topic, &error))?;
            match said {
                Said::Nothing if Instant::now() < patient => {}
                Said::Nothing => {
                    let message = format!("the topic {} does not give what it has", self.topic);
                    return Err(NotReady::new("Unreachable", message));
                }
                said => return Ok(said),
            }
        }
    }

    async fn renew(&mut self) -> Result<(), NotReady> {
        if let Some(Renewal { oauth, context, due }) = &mut self.renewal
            && Instant::now() >= *due
        {
            let token = token::fetch(oauth, &context.secrets).await?;
            *due = Instant::now() + token.lifetime.mul_f64(0.6);
            self.events.set_token(token);
        }
        Ok(())
    }

    /// A letter, unless it was consumed before, or came too late.
    fn take(&mut self, record: Record) -> Option<Letter> {
        let Record { partition, offset, content } = record;
        let end = *self.left.get(&partition)?;
        if offset + 1 >= end {
            self.left.remove(&partition);
        }
        let of = self.partitions.get_mut(&(self.topic.clone(), partition))?;
        if offset >= end || of.progress.read(offset) {
            return None;
        }
        let receipt = Receipt(self.given.len() as u64);
        self.given.push((self.topic.clone(), partition, offset));
        let place = format!("offset {offset} of partition {partition} of the topic {}", self.topic);
        Some(Letter { receipt, place, content })
    }

    /// Tells the brokers how far everything is.
    async fn store(&mut self) -> Result<(), NotReady> {
        let mut offsets = TopicPartitionList::new();
        for ((topic, partition), of) in &mut self.partitions {
            if !of.progress.moved(&of.stored) {
                continue;
            }
            of.stored = of.progress.to_store();
            let (floor, text) = &of.stored;
            let mut entry = offsets.add_partition(topic, *partition);
            entry.set_offset(Offset::Offset(*floor)).map_err(|error| lost(topic, &error))?;
            if !text.is_empty() {
                entry.set_metadata(text);
            }
        }
        self.stored = Instant::now();
        if offsets.count() == 0 {
            return Ok(());
        }
        let (client, topic) = (self.client.clone(), self.topic.clone());
        let commit = move || client.commit(&offsets, CommitMode::Sync).map_err(|error| lost(&topic, &error));
        blocking(commit).await
    }
}

#[async_trait::async_trait]
impl Letters for KafkaLetters {
    async fn next(&mut self) -> Result<Option<Letter>, NotReady> {
        loop {
            if self.left.is_empty() {
                let Some(topic) = self.topics.pop_front() else { return Ok(None) };
                self.begin(topic).await?;
                continue;
            }
            match self.read().await? {
                Said::Record(record) => {
                    if let Some(letter) = self.take(record) {
                        return Ok(Some(letter));
                    }
                }
                Said::End(partition) => drop(self.left.remove(&partition)),
                Said::Nothing => {}
            }
        }
    }

    async fn settle(&mut self, Receipt(number): Receipt, fate: Fate) -> Result<(), NotReady> {
        let given = usize::try_from(number).ok().and_then(|number| self.given.get(number));
        if let Some((topic, partition, offset)) = given.filter(|_| fate != Fate::Left)
            && let Some(of) = self.partitions.get_mut(&(topic.clone(), *partition))
        {
            of.progress.done(*offset);
        }
        if self.stored.elapsed() < STORE { Ok(()) } else { self.store().await }
    }

    async fn close(&mut self) -> Result<(), NotReady> {
        self.store().await
    }
}

/// On a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotReady> + Send + 'static,
) -> Result<T, NotReady> {
    let lost = |_| Err(NotReady::new("OutOfResources", "the question to the brokers was lost"));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(lost)
}

fn group(subscription: &str) -> String {
    format!("tidings-redrive-{}", subscription.replace('/', "_"))
}
