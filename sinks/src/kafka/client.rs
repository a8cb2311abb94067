//! Delivers to Kafka, by one producer at a time that all Subscriptions of the connection share.
//!
//! Before: sinks/src/kafka/encode.rs
//! Next: sinks/src/kafka/keeper.rs

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tidings_config::sink::kafka::{ValidKafkaAddress, ValidKafkaConnection};
use tidings_config::sink::template::Part;
use tidings_core::delivery::Outcome;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::classify;
use super::config::BATCH_BYTES;
use super::keeper::{self, Origin};
use super::producer::{Delivered, Producer};
use super::topics::{self, Described, Limits, Missing};
use crate::SinkContext;
use crate::link::Link;
use crate::message::Message;
use crate::sink::{NotReady, Sink, retry};

/// Topics that one Subscription's checks look at; others are heard of when something goes there.
const MAX_TOPICS: usize = 16;
/// For so long a check looks at a topic where nothing goes any more.
const LATELY: Duration = Duration::from_mins(5);

/// What a Subscription sends by. Several may share the connection.
pub struct KafkaSink {
    connection: Arc<KafkaConnection>,
    missing: Missing,
    /// Where everything goes, if there is only one place.
    only: Option<String>,
    /// Where Messages went lately.
    topics: Mutex<BTreeMap<String, Known>>,
}

/// What is known of a topic.
#[derive(Clone)]
struct Known {
    /// What was wrong with it when something last went there.
    trouble: Option<NotReady>,
    used: Instant,
}

/// Keeps a producer. Dropping it ends the connection.
pub struct KafkaConnection {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

pub(super) struct Shared {
    /// How the producer is doing. Whether brokers can be reached, it finds out by itself.
    pub(super) link: Link<Producer>,
    /// Requests have at most so many bytes.
    pub(super) batch_bytes: AtomicUsize,
    pub(super) limits: Arc<Limits>,
    /// The producer should be made anew.
    pub(super) renew: Notify,
}

// === impl KafkaConnection ===

impl KafkaConnection {
    /// Begins to connect in the background.
    pub fn open(valid: ValidKafkaConnection, context: SinkContext) -> Self {
        let shared = Arc::new(Shared {
            link: Link::new(),
            batch_bytes: AtomicUsize::new(BATCH_BYTES),
            limits: Arc::default(),
            renew: Notify::new(),
        });
        let keeper = tokio::spawn(keeper::keep(Origin { valid, context }, shared.clone()));
        Self { shared, keeper }
    }

    /// Whether some broker answers.
    pub async fn check(&self) -> Result<(), NotReady> {
        topics::look(&*self.shared.link.get().await?, None).await.map(drop)
    }

    /// Some topic takes less than requests have.
    fn shrink(&self, bytes: usize) {
        let before = self.shared.batch_bytes.fetch_min(bytes.max(1), Ordering::Relaxed);
        if bytes < before {
            // What comes now waits for the next producer; what is under way ends where it is.
            self.shared.link.making();
            self.shared.renew.notify_one();
        }
    }

    async fn close(&self, deadline: Duration) {
        self.keeper.abort();
        if let Some(producer) = self.shared.link.close() {
            producer.close(deadline).await;
        }
    }
}

impl Drop for KafkaConnection {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

// === impl KafkaSink ===

impl KafkaSink {
    /// Sends to `address` by `connection`.
    pub fn new(connection: Arc<KafkaConnection>, address: &ValidKafkaAddress) -> Self {
        let ValidKafkaAddress { topic, key: _, tombstones: _, create_topic, may_create_topics } = address;
        let missing = match create_topic {
            None => Missing::Wait,
            Some(_) if !may_create_topics => Missing::Forbidden,
            Some(like) => Missing::Create(like.clone()),
        };
        let is_one = topic.parts().iter().all(|part| matches!(part, Part::Literal(_)));
        Self { connection, missing, only: is_one.then(|| topic.to_string()), topics: Mutex::default() }
    }

    /// What a check looks at, and what was wrong there.
    fn topics(&self) -> BTreeMap<String, Option<NotReady>> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.retain(|_, known| known.used.elapsed() < LATELY);
        let only = self.only.iter().map(|topic| (topic.clone(), None));
        let used = topics.iter().map(|(topic, known)| (topic.clone(), known.trouble.clone()));
        only.chain(used).collect()
    }

    /// What `delivered` says of topics, and which of them it says something bad of.
    fn remember(&self, messages: &[Message], delivered: &Delivered) -> Vec<String> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let mut troubled = Vec::new();
        let now = Instant::now();
        for (index, (message, outcome)) in messages.iter().zip(&delivered.outcomes).enumerate() {
            let topic = &message.destination;
            let trouble = match delivered.failures.get(&index) {
                Some(code) if classify::is_missing(*code) => Some(classify::topic(*code, topic)),
                Some(code) if classify::is_denied(*code) => {
                    Some(NotReady::new("PermissionDenied", classify::denied(topic)))
                }
                _ => None,
            };
            if let Some(known) = topics.get_mut(topic) {
                known.used = now;
                if trouble.is_some() || *outcome == Outcome::Acked {
                    known.trouble.clone_from(&trouble);
                }
            } else if topics.len() < MAX_TOPICS {
                topics.insert(topic.clone(), Known { trouble: trouble.clone(), used: now });
            }
            if trouble.is_some() && !troubled.contains(topic) {
                troubled.push(topic.clone());
            }
        }
        troubled
    }

    /// Has the producer learn that a topic is there now, or ours: by itself it would notice in minutes.
    fn look_again(&self, producer: &Arc<Producer>, troubled: Vec<String>) {
        for topic in troubled.into_iter().filter(|topic| producer.asks_for(topic)) {
            let (producer, missing) = (producer.clone(), self.missing.clone());
            tokio::spawn(async move {
                // The next delivery tells what came of it.
                let _ = topics::ensure(&producer, &topic, &missing).await;
            });
        }
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn check(&self) -> Result<(), NotReady> {
        let producer = self.connection.shared.link.get().await?;
        let topics = self.topics();
        if topics.is_empty() {
            topics::look(&producer, None).await?;
        }
        for (topic, trouble) in topics {
            let weakest = topics::ensure(&producer, &topic, &self.missing).await?;
            let Described { limit, in_sync } = topics::describe(&producer, &topic).await;
            if let Some(limit) = limit.filter(|limit| *limit < producer.batch_bytes()) {
                self.connection.shrink(limit);
            }
            if let (Some(weakest), Some(wanted)) = (weakest, in_sync)
                && weakest.lacks(wanted) > 0
            {
                return Err(classify::too_few(&topic, weakest, wanted));
            }
            // The brokers show us topics that we may not write to.
            if let Some(trouble) = trouble.filter(|trouble| trouble.reason == "PermissionDenied") {
                return Err(trouble);
            }
        }
        Ok(())
    }

    async fn deliver(&self, messages: &[Message]) -> Vec<Outcome> {
        let producer = match self.connection.shared.link.get().await {
            Ok(producer) => producer,
            Err(not_ready) => return vec![retry(not_ready.message); messages.len()],
        };
        let delivered = producer.deliver(messages).await;
        let troubled = self.remember(messages, &delivered);
        self.look_again(&producer, troubled);
        let crowded = delivered.failures.iter().any(|(index, code)| {
            messages
                .get(*index)
                .is_some_and(|message| classify::is_crowded(*code, message, producer.circumstances(message)))
        });
        if crowded {
            self.connection.shrink(producer.batch_bytes() / 4);
        }
        delivered.outcomes
    }

    async fn close(&self, deadline: Duration) {
        // Others may go on with it.
        if Arc::strong_count(&self.connection) == 1 {
            self.connection.close(deadline).await;
        }
    }
}
