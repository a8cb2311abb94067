//! One producer of librdkafka, from its making to its end.
//!
//! Before: sinks/src/kafka/config.rs
//! Next: sinks/src/kafka/events.rs

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};
use tidings_core::delivery::Outcome;
use tokio::time::{Instant, sleep, timeout};

use super::batch::{Batch, Over, Patience, Slot};
use super::classify::{self, Circumstances};
use super::config::Config;
use super::events::{Events, Listener};
use super::token::Token;
use super::topics::{Admin, Limits};
use crate::message::Message;
use crate::sink::{NotReady, retry};

/// How long the thread that waits for librdkafka goes without a look at whether it should end.
const POLL: Duration = Duration::from_millis(100);
/// Between looks at whether it can go on.
const LOOK: Duration = Duration::from_secs(1);
/// Before a record that did not fit is tried again.
const ROOM: Duration = Duration::from_millis(5);
/// Records that are handed over without a pause for others who wait for the thread.
const STRETCH: usize = 128;

/// One producer of librdkafka. It ends when it is dropped.
pub(super) struct Producer {
    native: Arc<BaseProducer<Listener>>,
    pub(super) events: Arc<Events>,
    pub(super) config: Arc<Config>,
    pub(super) limits: Arc<Limits>,
    pub(super) admin: Admin,
    /// Requests have no more, unless one record alone has.
    batch_bytes: usize,
    over: Arc<AtomicBool>,
    /// It did not say what became of some record.
    stuck: AtomicBool,
    /// Topics whose description is being asked for.
    asked: Mutex<BTreeMap<String, Instant>>,
}

/// How a delivery went.
pub(super) struct Delivered {
    /// One for each Message.
    pub(super) outcomes: Vec<Outcome>,
    /// What was said of those that were handed over and failed, by their place.
    pub(super) failures: BTreeMap<usize, RDKafkaErrorCode>,
}

// === impl Producer ===

impl Producer {
    /// Makes one; it connects by itself. Needs time for reading certificates.
    pub(super) fn open(
        config: Arc<Config>,
        batch_bytes: usize,
        limits: Arc<Limits>,
        token: Option<Token>,
    ) -> Result<Self, NotReady> {
        let events = Arc::new(Events::new(token));
        let listener = Listener(events.clone());
        let native = BaseProducer::from_config_and_context(&config.producer(batch_bytes), listener);
        let native = Arc::new(native.map_err(|error| classify::creation(&error))?);
        let over = Arc::new(AtomicBool::new(false));
        let (polled, ends) = (native.clone(), over.clone());
        // The last one who holds it waits for librdkafka's own threads: better this than one of tokio's.
        let poll = move || {
            while !ends.load(Ordering::Relaxed) {
                polled.poll(POLL);
            }
        };
        std::thread::Builder::new().name("kafka".to_owned()).spawn(poll).map_err(|error| {
            NotReady::new("OutOfResources", format!("no thread can be started for Kafka: {error}"))
        })?;
        let admin = Admin::default();
        Ok(Self {
            native,
            events,
            config,
            limits,
            admin,
            batch_bytes,
            over,
            stuck: AtomicBool::new(false),
            asked: Mutex::default(),
        })
    }

    /// What it was made with.
    pub(super) fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    /// The client of librdkafka, which waits for answers: not on a thread that others wait for.
    pub(super) fn native(&self) -> Arc<BaseProducer<Listener>> {
        self.native.clone()
    }

    /// Comes back when it cannot go on.
    pub(super) async fn fatal(&self) -> NotReady {
        loop {
            // Not every fatal error is told, so it is looked for too.
            let _ = timeout(LOOK, self.events.fatal.notified()).await;
            let stuck = self.stuck.load(Ordering::Relaxed);
            let stuck = stuck.then(|| (RDKafkaErrorCode::Fatal, "it did not report".to_owned()));
            if let Some((code, reason)) = self.native.client().fatal_error().or(stuck) {
                self.give_up();
                return classify::fatal(code, &reason);
            }
        }
    }

    /// One attempt for each of `messages`: all are handed over before the first report is awaited.
    pub(super) async fn deliver(&self, messages: &[Message]) -> Delivered {
        let batch = Batch::new();
        let mut patience = Patience::new(&self.events);
        let mut refused = BTreeMap::new();
        for (index, message) in messages.iter().enumerate() {
            if index % STRETCH == STRETCH - 1 {
                tokio::task::yield_now().await;
            }
            if let Err(outcome) = self.hand_over(&batch, index, message, &patience).await {
                refused.insert(index, outcome);
            }
        }
        batch.sent();
        while batch.is_open() {
            tokio::select! {
                biased;
                () = batch.done() => {}
                over = patience.over() => {
                    self.give_up();
                    patience.renew();
                    if over == Over::End {
                        break;
                    }
                }
            }
        }
        let unreported = batch.is_open();
        if unreported {
            self.stuck.store(true, Ordering::Relaxed);
            self.events.fatal.notify_one();
        }
        let failures = batch.failures();
        let outcome =
            |(index, message): (usize, &Message)| match (refused.remove(&index), failures.get(&index)) {
                (Some(outcome), _) => outcome,
                (None, Some(code)) => classify::report(*code, message, self.circumstances(message)),
                (None, None) if unreported => retry("librdkafka does not say what became of it"),
                (None, None) => Outcome::Acked,
            };
        Delivered { outcomes: messages.iter().enumerate().map(outcome).collect(), failures }
    }

    /// Hands over what one Message consists of, or says why it was not.
    async fn hand_over(
        &self,
        batch: &Arc<Batch>,
        index: usize,
        message: &Message,
        patience: &Patience<'_>,
    ) -> Result<(), Outcome> {
        if let Some(rejected) = classify::before(message, self.circumstances(message)) {
            return Err(rejected);
        }
        let headers = message
            .headers
            .iter()
            .fold(OwnedHeaders::new_with_capacity(message.headers.len()), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value) })
            });
        let (topic, key) = (&*message.destination, &*message.record_key);
        let record = BaseRecord::with_opaque_to(topic, Box::new(batch.slot(index))).key(key);
        let fits = self.enqueue(record.payload(&*message.body).headers(headers), patience).await;
        if message.tombstone && fits {
            let record = BaseRecord::with_opaque_to(topic, Box::new(batch.slot(index))).key(key);
            self.enqueue(record, patience).await;
        }
        Ok(())
    }

    /// Waits for room. What librdkafka does not take is reported at once.
    async fn enqueue(
        &self,
        mut record: BaseRecord<'_, str, [u8], Box<Slot>>,
        patience: &Patience<'_>,
    ) -> bool {
        loop {
            let (error, back) = match self.native.send(record) {
                Ok(()) => return true,
                Err(unsent) => unsent,
            };
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            if code == RDKafkaErrorCode::QueueFull && patience.ended().is_none() {
                record = back;
                sleep(ROOM).await;
                continue;
            }
            back.delivery_opaque.report(Some(code));
            return false;
        }
    }

    /// All that is held is reported as failed, soon.
    fn give_up(&self) {
        // Others who wait begin to count anew: what they wait for is reported too.
        self.events.hear();
        self.native.purge(PurgeConfig::default().queue().inflight().non_blocking());
    }

    /// Waits for what is under way, at most for `deadline`, and gives up the rest.
    pub(super) async fn close(&self, deadline: Duration) {
        let drained = async {
            while self.native.in_flight_count() > 0 {
                sleep(ROOM).await;
            }
        };
        let _ = timeout(deadline, drained).await;
        self.give_up();
    }

    /// Whether the description of `topic` should be asked for: not more often than once a second, and not for all of too
    /// many.
    pub(super) fn asks_for(&self, topic: &str) -> bool {
        const PAUSE: Duration = Duration::from_secs(1);
        const MOST: usize = 16;
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, at| at.elapsed() < PAUSE);
        if asked.len() >= MOST || asked.contains_key(topic) {
            return false;
        }
        asked.insert(topic.to_owned(), Instant::now());
        true
    }

    /// What is known beside the report on `message`.
    pub(super) fn circumstances(&self, message: &Message) -> Circumstances {
        Circumstances {
            limit: self.limits.of(&message.destination),
            batch_bytes: self.batch_bytes,
            compressed: self.config.compressed,
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
