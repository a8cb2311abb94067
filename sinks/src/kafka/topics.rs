//! What the brokers say of topics: whether they are there, and what they take. Missing ones are created where that is wanted.
//!
//! Before: sinks/src/kafka/client.rs
//! Next: sinks/src/kafka/classify.rs

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;
use rdkafka::producer::Producer as _;
use tidings_config::sink::kafka::topic::ValidKafkaTopic;
use tokio::sync::OnceCell;

use super::config::Config;
use super::events::{Events, Listener};
use super::producer::Producer;
use super::{classify, probe};
use crate::sink::NotReady;

/// For an answer of the brokers.
const ANSWER: Duration = Duration::from_secs(3);
/// The settings of a topic that say how large a batch may be, and how many replicas in sync it needs.
const LIMIT: &str = "max.message.bytes";
const IN_SYNC: &str = "min.insync.replicas";
/// Asked for where only an answer counts: nothing is called that, so brokers cannot create it, and unlike a list of all topics
/// it is short.
const NOWHERE: &str = "tidings:nowhere";
/// Left to the brokers.
const DEFAULT: i32 = -1;

/// What topics take, as far as the brokers tell us: one producer after the other knows it.
#[derive(Default)]
pub(super) struct Limits(Mutex<BTreeMap<String, usize>>);

/// For questions that a producer cannot ask; it has connections of its own.
#[derive(Default)]
pub(super) struct Admin(OnceCell<Arc<AdminClient<Listener>>>);

/// The partition with the fewest replicas in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weakest {
    pub(super) partition: i32,
    pub(super) in_sync: usize,
    /// Those it has at all.
    pub(super) replicas: usize,
}

/// What the settings of a topic say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Described {
    /// What a batch may have, in bytes.
    pub(super) limit: Option<usize>,
    /// How many replicas have to be in sync.
    pub(super) in_sync: Option<usize>,
}

/// What is done about topics that are missing.
#[derive(Clone, Debug)]
pub(super) enum Missing {
    /// They are waited for.
    Wait,
    /// They should be created, and the bridge may not do so.
    Forbidden,
    /// They are created like this.
    Create(ValidKafkaTopic),
}

// === impl Weakest ===

impl Weakest {
    /// How many replicas have to be in sync that are not, where the topic wants `wanted`. As the brokers count, nobody wants
    /// more than there are.
    pub(super) fn lacks(self, wanted: usize) -> usize {
        wanted.min(self.replicas).saturating_sub(self.in_sync)
    }
}

// === impl Limits ===

impl Limits {
    /// What `topic` takes, in bytes of a batch.
    pub(super) fn of(&self, topic: &str) -> Option<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(topic).copied()
    }

    fn set(&self, topic: &str, limit: Option<usize>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match limit {
            Some(limit) => drop(known.insert(topic.to_owned(), limit)),
            None => drop(known.remove(topic)),
        }
    }
}

// === impl Admin ===

/// Its end waits for threads of librdkafka: not on one of tokio's.
impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(admin) = self.0.take() {
            // Where no thread can be had, it ends here.
            let _ = std::thread::Builder::new().name("kafka".to_owned()).spawn(move || drop(admin));
        }
    }
}

/// Whether some broker answers, and `topic` is there, where one is given, and how its weakest partition is. The producer
/// learns of it too.
pub(super) async fn look(producer: &Producer, topic: Option<&str>) -> Result<Option<Weakest>, NotReady> {
    let (native, name) = (producer.native(), topic.unwrap_or(NOWHERE).to_owned());
    let asked = tokio::task::spawn_blocking(move || native.client().fetch_metadata(Some(&name), ANSWER));
    let Ok(answer) = asked.await else {
        return Err(NotReady::new("Unreachable", "the question to the brokers was lost"));
    };
    let Ok(metadata) = answer else {
        return Err(why_unreachable(&producer.events, &producer.config).await);
    };
    producer.events.well();
    let Some(topic) = topic else { return Ok(None) };
    let described = metadata.topics().iter().find(|described| described.name() == topic);
    let described = described.ok_or(RDKafkaErrorCode::UnknownTopicOrPartition);
    let error = |code| classify::topic(code, topic);
    let partitions = match described.map(|described| (described.error(), described.partitions())) {
        Ok((None, partitions)) => partitions,
        Ok((Some(code), _)) => return Err(error(code.into())),
        Err(code) => return Err(error(code)),
    };
    if let Some(code) =
        partitions.iter().filter(|partition| partition.leader() < 0).find_map(MetadataPartition::error)
    {
        return Err(error(code.into()));
    }
    let weakest = partitions
        .iter()
        .map(|partition| Weakest {
            partition: partition.id(),
            in_sync: partition.isr().len(),
            replicas: partition.replicas().len(),
        })
        .min_by_key(|partition| partition.in_sync);
    weakest.map(Some).ok_or_else(|| error(RDKafkaErrorCode::UnknownTopicOrPartition))
}

/// What librdkafka says, and where that is not precise, what we see ourselves.
pub(super) async fn why_unreachable(events: &Events, config: &Config) -> NotReady {
    if let Some(not_ready) = events.no_token() {
        return not_ready;
    }
    let trouble = events.trouble();
    let brokers = &config.brokers;
    let unclear = trouble.as_ref().is_none_or(|trouble| {
        matches!(
            trouble.code,
            RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
        )
    });
    if unclear && let Some(tls) = &config.tls {
        let peer = classify::peer(trouble.as_ref().map_or("", |trouble| &trouble.reason), brokers);
        if let Some(not_ready) = probe::tls(peer, tls.clone()).await {
            return not_ready;
        }
    }
    classify::connection(trouble.as_ref(), brokers)
}

/// As [`look`], and what is missing is created where it may be.
pub(super) async fn ensure(
    producer: &Producer,
    topic: &str,
    missing: &Missing,
) -> Result<Option<Weakest>, NotReady> {
    let not_ready = match look(producer, Some(topic)).await {
        Err(not_ready) if not_ready.reason == "TopicNotFound" => not_ready,
        other => return other,
    };
    match missing {
        Missing::Wait => Err(not_ready),
        Missing::Forbidden => {
            let message = format!("{not_ready}, and this bridge is not allowed to create topics");
            Err(NotReady { message, ..not_ready })
        }
        Missing::Create(like) => {
            create(producer, topic, like).await?;
            // The brokers tell each other within moments; until then the old answer holds.
            look(producer, Some(topic)).await
        }
    }
}

async fn create(producer: &Producer, topic: &str, like: &ValidKafkaTopic) -> Result<(), NotReady> {
    let ValidKafkaTopic { partitions, replication_factor, config } = like;
    let replication = TopicReplication::Fixed(replication_factor.unwrap_or(DEFAULT));
    let new = NewTopic::new(topic, partitions.unwrap_or(DEFAULT), replication);
    let new = config.iter().fold(new, |new, (name, value)| new.set(name, value));
    let failed = |error: KafkaError| {
        classify::not_created(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown), topic)
    };
    let admin = admin(producer).await.map_err(failed)?;
    let results = admin.create_topics([&new], &options()).await.map_err(failed)?;
    match results.into_iter().next() {
        // Somebody else was faster.
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
            tracing::info!(topic, "created a topic");
            Ok(())
        }
        Some(Err((_, code))) => Err(classify::not_created(code, topic)),
        None => Err(classify::not_created(RDKafkaErrorCode::Unknown, topic)),
    }
}

/// Asks how `topic` is set. Where the user may not know, or nobody answers, it is found out by trying.
pub(super) async fn describe(producer: &Producer, topic: &str) -> Described {
    let described = ask(producer, topic).await.unwrap_or_default();
    producer.limits.set(topic, described.limit);
    described
}

async fn ask(producer: &Producer, topic: &str) -> Option<Described> {
    let admin = admin(producer).await.ok()?;
    let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options()).await.ok()?;
    let resource = described.into_iter().next()?.ok()?;
    let number = |name| resource.get(name)?.value.as_ref()?.parse().ok();
    Some(Described { limit: number(LIMIT), in_sync: number(IN_SYNC) })
}

async fn admin(producer: &Producer) -> Result<Arc<AdminClient<Listener>>, KafkaError> {
    let make = || async {
        let (config, listener) = (producer.config.admin(), Listener(producer.events.clone()));
        let made = move || AdminClient::from_config_and_context(&config, listener).map(Arc::new);
        tokio::task::spawn_blocking(made).await.unwrap_or(Err(KafkaError::Canceled))
    };
    producer.admin.0.get_or_try_init(make).await.cloned()
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER))
}
