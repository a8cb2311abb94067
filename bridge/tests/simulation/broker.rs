//! A broker: one topic per Subscription. It holds what it was given, in the order in which it took it, and nothing
//! else; but it answers late, refuses, loses its own acks, and goes away for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use tidings_config::sink::ContentMode;
use tidings_config::sink::nats::ValidNatsAddress;
use tidings_config::sink::template::Template;
use tidings_core::delivery::{Outcome, Rejection};
use tidings_sinks::message::Message;
use tidings_sinks::nats::encode::NatsEncoder;
use tidings_sinks::sink::{NotReady, Sink};
use tidings_sinks::{Encoder, Target};
use tokio::time::Instant;

use crate::api_server::ApiServer;
use crate::etcd::KINDS;
use crate::event::Event;
use crate::fence::{Edge, Fence};
use crate::topic::Topic;
use crate::trace::{Fault, Trace};

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Broker(Arc<Mutex<Inner>>);

struct Inner {
    rng: Rng,
    trace: Trace,
    server: ApiServer,
    rate: f64,
    topics: BTreeMap<String, Topic>,
    /// A process ended without being told to.
    crashed: bool,
    /// Topics that take nothing, and until when.
    down: BTreeMap<String, Instant>,
    /// Topics whose check fails, and until when.
    sick: BTreeMap<String, Instant>,
}

/// The way of one process to one topic.
struct Pipe {
    broker: Broker,
    topic: String,
    /// So many Messages may be under way.
    window: usize,
    /// It keeps the order of a key by itself.
    ordered: bool,
    fence: Fence,
    /// Keys of calls.
    under_way: Mutex<BTreeSet<String>>,
    /// How many Messages that are.
    sent: AtomicUsize,
}

/// What becomes of one Message.
enum Fate {
    Stored,
    AckLost,
    Refused,
    Rejected,
}

// === impl Broker ===

impl Broker {
    pub(crate) fn new(rng: Rng, trace: Trace, server: ApiServer) -> Self {
        let (topics, down, sick) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(Inner {
            rng,
            trace,
            server,
            rate: 0.0,
            topics,
            crashed: false,
            down,
            sick,
        })))
    }

    /// Where the Events of the Subscription `uid` go.
    pub(crate) fn target(&self, uid: &str, window: usize, fence: &Fence) -> Target {
        let subject = Template::parse("t.{change}").unwrap();
        let valid = ValidNatsAddress { stream: None, subject };
        let encoder = Encoder::Nats(NatsEncoder::new(&valid, ContentMode::Binary));
        let (broker, topic, fence) = (self.clone(), uid.to_owned(), fence.clone());
        // Every other one keeps the order of a key by itself.
        let ordered = uid.bytes().next_back().is_some_and(|last| last % 2 == 0);
        let sink = Arc::new(Pipe {
            broker,
            topic,
            window,
            ordered,
            fence,
            under_way: Mutex::default(),
            sent: AtomicUsize::default(),
        });
        Target { encoder, sink, ordered }
    }

    /// The part of Messages that something happens to.
    pub(crate) fn set_rate(&self, rate: f64) {
        self.0.lock().unwrap().rate = rate;
    }

    /// Takes nothing for `uid` for a while.
    pub(crate) fn take_down(&self, uid: &str, pause: Duration) {
        let inner = &mut *self.0.lock().unwrap();
        inner.trace.fault(Fault::BrokerDown, || format!("{uid} for {pause:?}"));
        inner.down.insert(uid.to_owned(), Instant::now() + pause);
    }

    /// Says for a while that it cannot be used, which may or may not be so.
    pub(crate) fn sicken(&self, uid: &str, pause: Duration) {
        let inner = &mut *self.0.lock().unwrap();
        inner.trace.fault(Fault::CheckFails, || format!("{uid} for {pause:?}"));
        inner.sick.insert(uid.to_owned(), Instant::now() + pause);
    }

    /// Everything works from now on.
    pub(crate) fn calm(&self) {
        let inner = &mut *self.0.lock().unwrap();
        inner.rate = 0.0;
        inner.down.clear();
        inner.sick.clear();
    }

    /// Does something with a topic, which begins empty.
    pub(crate) fn with_topic<T>(&self, uid: &str, what: impl FnOnce(&mut Topic) -> T) -> T {
        let inner = &mut *self.0.lock().unwrap();
        what(inner.topic(uid))
    }

    /// Every topic hears that a process ended.
    pub(crate) fn restart(&self, clean: bool, revision: u64) {
        let inner = &mut *self.0.lock().unwrap();
        inner.crashed |= !clean;
        inner.topics.values_mut().for_each(|topic| topic.restart(clean, revision));
    }

    /// Does something with every topic.
    pub(crate) fn with_topics(&self, what: impl FnMut(&mut Topic)) {
        self.0.lock().unwrap().topics.values_mut().for_each(what);
    }

    fn latency(&self) -> Duration {
        let inner = &mut *self.0.lock().unwrap();
        if inner.rng.f64() < inner.rate / 4.0 {
            inner.trace.fault(Fault::BrokerSlow, String::new);
            return Duration::from_millis(inner.rng.u64(200..4000));
        }
        Duration::from_millis(inner.rng.u64(1..20))
    }
}

// === impl Inner ===

impl Inner {
    fn topic(&mut self, uid: &str) -> &mut Topic {
        let crashed = self.crashed;
        self.topics.entry(uid.to_owned()).or_insert_with(|| Topic::new(crashed))
    }

    fn is_down(&self, topic: &str) -> bool {
        self.down.get(topic).is_some_and(|until| *until > Instant::now())
    }

    fn fate(&mut self) -> Fate {
        if self.rng.f64() >= self.rate {
            return Fate::Stored;
        }
        let (fault, fate) = match self.rng.u32(0..5) {
            0 | 1 => (Fault::AckLost, Fate::AckLost),
            2 | 3 => (Fault::BrokerRefuses, Fate::Refused),
            _ => (Fault::BrokerRejects, Fate::Rejected),
        };
        self.trace.fault(fault, String::new);
        fate
    }

    fn store(&mut self, topic: &str, message: &Message) {
        self.trace.delivered();
        let heard = Event::read(message).and_then(|event| {
            self.trace.say(|| format!("stored {topic} {event}"));
            // Whoever goes on after a crash would not know of it, and tell in the one before, which a consumer ignores.
            let kept = self.trace.kept_epoch(KINDS[event.kind].group);
            if event.epoch > kept {
                return Err(format!("{event} is told in an epoch that is not stored, but {kept}"));
            }
            let server = self.server.clone();
            self.topic(topic).hear(event, &server.lock().etcd)
        });
        if let Err(complaint) = heard {
            self.trace.complain(format!("{topic}: {complaint}"));
        }
    }

    fn retry(&mut self, reason: &str) -> Outcome {
        let after = (self.rng.u32(0..4) == 0).then(|| Duration::from_millis(self.rng.u64(1..500)));
        Outcome::Retry { reason: reason.to_owned(), after }
    }
}

// === impl Pipe ===

#[async_trait]
impl Sink for Pipe {
    async fn check(&self) -> Result<(), NotReady> {
        self.fence.passage(Edge::Any).await;
        let latency = self.broker.latency();
        tokio::time::sleep(latency).await;
        let inner = &mut *self.broker.0.lock().unwrap();
        let sick = inner.sick.get(&self.topic).is_some_and(|until| *until > Instant::now());
        if sick || inner.is_down(&self.topic) {
            return Err(NotReady::new("Unreachable", "the broker is down"));
        }
        Ok(())
    }

    async fn deliver(&self, messages: &[Message]) -> Vec<Outcome> {
        self.fence.passage(Edge::Any).await;
        let trace = self.broker.0.lock().unwrap().trace.clone();
        let keys: BTreeSet<_> = messages.iter().map(|message| message.key.to_string()).collect();
        if !self.ordered && keys.len() < messages.len() {
            trace.complain(format!("{} Messages of {} keys in one call", messages.len(), keys.len()));
        }
        {
            let under_way = &mut *self.under_way.lock().unwrap();
            for key in &keys {
                if !under_way.insert(key.clone()) {
                    trace.complain(format!("Messages of {key} are under way in two calls"));
                }
            }
        }
        let count = self.sent.fetch_add(messages.len(), Ordering::Relaxed) + messages.len();
        if count > self.window {
            trace.complain(format!("{count} Messages are under way"));
        }
        let latency = self.broker.latency();
        tokio::time::sleep(latency).await;
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut failed = BTreeSet::new();
        for message in messages {
            if self.fence.is_closed() {
                break;
            }
            if failed.contains(&message.key) {
                // Whoever keeps order stores nothing behind what it did not store.
                outcomes.push(Outcome::Retry { reason: "what came before failed".to_owned(), after: None });
                continue;
            }
            let inner = &mut *self.broker.0.lock().unwrap();
            if inner.is_down(&self.topic) {
                outcomes.push(inner.retry("the broker is down"));
                failed.insert(message.key.clone());
                continue;
            }
            outcomes.push(match inner.fate() {
                Fate::Stored => {
                    inner.store(&self.topic, message);
                    if !self.fence.pass(Edge::Stored) {
                        break;
                    }
                    Outcome::Acked
                }
                Fate::AckLost => {
                    inner.store(&self.topic, message);
                    inner.retry("the ack was lost")
                }
                Fate::Refused => {
                    failed.insert(message.key.clone());
                    inner.retry("refused by the simulation")
                }
                Fate::Rejected => {
                    failed.insert(message.key.clone());
                    Outcome::Rejected { reason: Rejection::Refused("rejected by the simulation".to_owned()) }
                }
            });
        }
        // The ack takes its time, too.
        let latency = self.broker.latency();
        tokio::time::sleep(latency).await;
        self.fence.passage(Edge::Any).await;
        self.sent.fetch_sub(messages.len(), Ordering::Relaxed);
        let under_way = &mut *self.under_way.lock().unwrap();
        for message in messages {
            under_way.remove(message.key.as_str());
        }
        let inner = &mut *self.broker.0.lock().unwrap();
        let topic = inner.topic(&self.topic);
        // What comes behind a failure of its key is sent again behind it.
        let mut failed = BTreeSet::new();
        for (message, outcome) in messages.iter().zip(&outcomes) {
            if *outcome != Outcome::Acked {
                failed.insert(&message.key);
            } else if !failed.contains(&message.key) {
                topic.acked(message.headers.get("ce-id").unwrap_or_default());
            }
        }
        outcomes
    }

    async fn close(&self, _deadline: Duration) {}
}
