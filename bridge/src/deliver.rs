//! One lane: the way from the Journal to one Subscription's sink.
//!
//! Here live batching, the window of unacked Messages, order, retries and the policy for what is too large;
//! the decisions are `core/src/delivery.rs`, the I/O is the sink. A lane takes from the Journal only what it can hold,
//! so a sink that is slow or dead costs memory once, and disk from then on.
//!
//! Before: bridge/src/journal.rs
//! Next: sinks/src/message.rs

mod lane;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings_core::delivery::Backoff;
use tidings_core::event::EventContext;
use tidings_core::known::Slot;
use tidings_core::object::{ObjectKey, ResourceVersion};
use tidings_crds::subscription::{OnReject, Oversize};
use tidings_sinks::Target;
use tidings_sinks::sink::NotReady;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::journal::Journal;
use crate::metrics::DeliveryMetrics;
use crate::state::Chunks;

/// Batches of one lane that may be under way at once: while one waits for its acks, others fill.
const BATCHES: usize = 8;
/// Changes of its sources a lane may be told of before it took them in, which it does at once.
const SOURCES: usize = 64;
/// How many Changes a lane holds, as a multiple of those that may be unacked: enough to find other keys to go on with
/// while one waits.
const HELD: usize = 4;
/// How many bytes of objects it holds, not counting the last chunk that was read.
const HELD_BYTES: usize = 8 << 20;
/// Blocked keys that are named in a report.
const NAMED_BLOCKED: usize = 10;

/// How a Subscription wants its Events delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverySettings {
    /// Messages that may be unacked at once.
    pub max_in_flight: usize,
    /// What becomes of what is too large.
    pub oversize: Oversize,
    /// What becomes of what is rejected, or given up.
    pub on_reject: OnReject,
    /// An Event is given up after so many attempts.
    pub max_attempts: Option<u32>,
    /// An Event is given up when the next attempt would be so long after its Change was decided.
    pub max_age: Option<Duration>,
    /// Nothing is sent; what is decided waits.
    pub suspended: bool,
    /// Between attempts.
    pub backoff: Backoff,
}

/// Where a lane sends.
pub struct Targets {
    /// Events.
    pub main: Target,
    /// Those of them that `main` will never take.
    pub dead_letters: Option<Target>,
    /// What people call `main`.
    pub name: Arc<str>,
}

/// What a person orders for keys that are blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// To try them again, once.
    pub retry: Option<RetryOrder>,
    /// To leave out the Events with these ids, whenever they block their key.
    pub skip: BTreeSet<String>,
}

/// To try blocked keys again. Another order is one that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOrder {
    /// Tells it from the ones before.
    pub token: String,
    /// Which key; all of them without.
    pub key: Option<ObjectKey>,
}

/// An Event that blocks its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedEvent {
    /// The key.
    pub key: ObjectKey,
    /// The `id` of the Event.
    pub id: String,
    /// Why it was refused.
    pub reason: String,
}

/// What a lane is to do, and where.
#[derive(Clone)]
struct Aim {
    target: Arc<Target>,
    dead_letters: Option<Arc<Target>>,
    sink: Arc<str>,
    settings: DeliverySettings,
    orders: Orders,
}

/// Where a lane takes Changes from: one for each Watch that its Subscription is on.
#[derive(Clone, Debug)]
pub struct Source {
    /// Which Watch.
    pub watch: u64,
    /// Its Journal.
    pub journal: Journal,
    /// The Subscription's slot there.
    pub slot: Slot,
    /// What its Events have in common.
    pub context: Arc<EventContext>,
    /// Where chunks of the Journal are read.
    pub chunks: Option<Chunks>,
}

/// What a lane is told of its sources.
#[derive(Debug)]
pub enum SourceChange {
    /// Take from there, or go on with another context.
    Follow(Arc<Source>),
    /// Take nothing more from this Watch; what is under way is given up.
    Leave(u64),
}

/// The end of a lane that Watches hold.
#[derive(Clone, Debug)]
pub struct LaneSender {
    id: u64,
    sources: mpsc::Sender<SourceChange>,
    wake: Arc<Notify>,
}

/// What a lane does before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Deliver everything that could be delivered: nobody will come back to it.
    Everything,
    /// Await what is under way; the rest is stored.
    InFlight,
}

/// A running lane.
pub struct Lane {
    sender: LaneSender,
    aim: watch::Sender<Aim>,
    report: Arc<Mutex<LaneReport>>,
    farewell: watch::Sender<Option<Farewell>>,
    task: JoinHandle<()>,
    metrics: DeliveryMetrics,
    clock: Clock,
}

/// How a lane is doing.
#[derive(Clone, Debug, Default)]
pub struct LaneReport {
    /// Whether the sink can take Messages; nothing before the first check.
    pub sink: Option<Result<(), NotReady>>,
    /// Attempts.
    pub sent: u64,
    /// Settled by the broker's word.
    pub acked: u64,
    /// Failed attempts that are made again.
    pub retried: u64,
    /// Refused for good, or given up.
    pub rejected: u64,
    /// Those of them that were left out.
    pub dropped: u64,
    /// Those of them that the dead letters hold.
    pub dead_lettered: u64,
    /// Dead letters that their sink has not taken yet.
    pub dead_letters: usize,
    /// Whether it can take them, where there is one.
    pub dead_letter_sink: Option<Result<(), NotReady>>,
    /// Sent as a reference because the whole object was too large.
    pub shrunk: u64,
    /// Decided and not settled, in memory or in the store.
    pub pending: u64,
    /// Left out since the start, because there was no room for them.
    pub left_out: u64,
    /// How long the oldest of them waits.
    pub oldest: Option<Duration>,
    /// When it was decided, in milliseconds since 1970.
    pub(crate) decided: Option<u64>,
    /// Per Watch, up to where everything is settled.
    pub positions: BTreeMap<u64, Option<ResourceVersion>>,
    /// How many keys are held back by a rejected Event.
    pub blocked_keys: usize,
    /// Some of them, with the reason.
    pub blocked: Vec<BlockedEvent>,
    /// Why nothing arrives, whatever a check says: attempts fail again and again.
    pub failing: Option<String>,
    /// Nothing is sent, because a person wants it so.
    pub suspended: bool,
    /// The last failure, and when, in Unix seconds.
    pub last_error: Option<(u64, String)>,
}

// === impl DeliverySettings ===

impl DeliverySettings {
    /// For ever, in order, with a reference in the place of what is too large.
    pub fn new(max_in_flight: usize, backoff: Backoff) -> Self {
        Self {
            max_in_flight,
            oversize: Oversize::Reference,
            on_reject: OnReject::Block,
            max_attempts: None,
            max_age: None,
            suspended: false,
            backoff,
        }
    }
}

// === impl Targets ===

impl Targets {
    fn shared(self) -> (Arc<Target>, Option<Arc<Target>>, Arc<str>) {
        let Self { main, dead_letters, name } = self;
        (Arc::new(main), dead_letters.map(Arc::new), name)
    }
}

impl From<Target> for Targets {
    fn from(main: Target) -> Self {
        Self { main, dead_letters: None, name: Arc::default() }
    }
}

// === impl LaneSender ===

impl LaneSender {
    /// Tells lanes apart.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What a Journal calls when there is something to take.
    pub fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Tells the lane; one that is gone wants to know nothing.
    pub async fn source(&self, change: SourceChange) {
        let _ = self.sources.send(change).await;
    }
}

// === impl Lane ===

impl Lane {
    /// Starts delivering to `targets`.
    pub fn start(
        id: u64,
        targets: Targets,
        settings: DeliverySettings,
        metrics: DeliveryMetrics,
        clock: Clock,
    ) -> Self {
        let (sources, changes) = mpsc::channel(SOURCES);
        let wake = Arc::new(Notify::new());
        let (target, dead_letters, sink) = targets.shared();
        let aim = Aim { target, dead_letters, sink, settings, orders: Orders::default() };
        let (aim, aims) = watch::channel(aim);
        let report = Arc::new(Mutex::new(LaneReport::default()));
        let (farewell, farewells) = watch::channel(None);
        let inputs = lane::Inputs { changes, wake: wake.clone(), aims, farewell: farewells };
        let worker = lane::Worker::new(inputs, report.clone(), metrics.clone(), clock);
        let task = tokio::spawn(worker.run());
        Self { sender: LaneSender { id, sources, wake }, aim, report, farewell, task, metrics, clock }
    }

    /// Where Watches hand over.
    pub fn sender(&self) -> LaneSender {
        self.sender.clone()
    }

    /// From now on Messages are shaped for, and sent to, these targets. What is under way ends where it is.
    pub fn retarget(&self, targets: Targets, settings: DeliverySettings) {
        let (target, dead_letters, sink) = targets.shared();
        self.aim.send_modify(|aim| {
            *aim = Aim { target, dead_letters, sink, settings, orders: std::mem::take(&mut aim.orders) };
        });
    }

    /// The same targets with other settings.
    pub fn resettle(&self, settings: DeliverySettings) {
        self.aim.send_modify(|aim| aim.settings = settings);
    }

    /// What a person orders for keys that are blocked, in the place of what was ordered before.
    pub fn order(&self, orders: Orders) {
        self.aim.send_if_modified(|aim| {
            let news = aim.orders != orders;
            aim.orders = orders;
            news
        });
    }

    /// How it is doing. A lane in which nothing moves grows older all the same.
    pub fn report(&self) -> LaneReport {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.clock.unix_millis();
        report.oldest = report.decided.map(|decided| Duration::from_millis(now.saturating_sub(decided)));
        self.metrics.lag_seconds.set(report.oldest.unwrap_or_default().as_secs_f64());
        report
    }

    /// Says farewell for as long as `deadline`, closes the sink, and says how many Changes were not settled.
    pub async fn drain(self, farewell: Farewell, deadline: Duration) -> u64 {
        let Self { sender: _, aim, report, farewell: manner, mut task, metrics: _, clock: _ } = self;
        manner.send_replace(Some(farewell));
        let Aim { target, dead_letters, .. } = aim.borrow().clone();
        if tokio::time::timeout(deadline, &mut task).await.is_err() {
            task.abort();
        }
        target.sink.close(deadline).await;
        if let Some(dead_letters) = dead_letters {
            dead_letters.sink.close(deadline).await;
        }
        let report = report.lock().unwrap_or_else(PoisonError::into_inner);
        report.pending
    }
}
