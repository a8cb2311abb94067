//! One lane: the way from the Journal to one Subscription's sink.
//!
//! Here live batching, the window of unacked Messages, order, retries and the policy for what is too large;
//! the decisions are `core/src/delivery.rs`, the I/O is the sink.
//!
//! Before: bridge/src/journal.rs
//! Next: sinks/src/message.rs

mod lane;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings_core::change::Change;
use tidings_core::delivery::Backoff;
use tidings_core::event::EventContext;
use tidings_core::object::{ObjectKey, ResourceVersion};
use tidings_sinks::Target;
use tidings_sinks::sink::NotReady;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::journal::Charge;
use crate::metrics::DeliveryMetrics;

/// Batches of one lane that may be under way at once: while one waits for its acks, others fill.
const BATCHES: usize = 8;
/// Batches a Watch may hand over before a lane took them in, which it does at once.
const INBOX: usize = 256;
/// Blocked keys that are named in a report.
const NAMED_BLOCKED: usize = 10;

/// How a Subscription wants its Events delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverySettings {
    /// Messages that may be unacked at once.
    pub max_in_flight: usize,
    /// What is too large is sent as a reference.
    pub shrink_oversize: bool,
    /// Between attempts.
    pub backoff: Backoff,
}

/// One Change on its way to one Subscription.
#[derive(Clone, Debug)]
pub struct Entry {
    change: Arc<Change>,
    context: Arc<EventContext>,
    /// Where the Watch stood before it was decided.
    before: Option<ResourceVersion>,
    /// When it was decided.
    decided: Duration,
    _charge: Charge,
}

/// What a Watch hands to a lane.
#[derive(Debug)]
pub struct LaneInput {
    /// From which Watch.
    pub watch: u64,
    /// What was decided, in order.
    pub entries: Vec<Entry>,
    /// Where the Watch stands behind them.
    pub position: Option<ResourceVersion>,
}

/// The end of a lane that Watches hold.
#[derive(Clone, Debug)]
pub struct LaneSender {
    id: u64,
    sender: mpsc::Sender<LaneInput>,
    metrics: DeliveryMetrics,
}

/// A running lane.
pub struct Lane {
    sender: LaneSender,
    target: watch::Sender<(Arc<Target>, DeliverySettings)>,
    report: Arc<Mutex<LaneReport>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
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
    /// Refused for good.
    pub rejected: u64,
    /// Sent as a reference because the whole object was too large.
    pub shrunk: u64,
    /// Decided and not settled.
    pub pending: usize,
    /// How long the oldest of them waits.
    pub oldest: Option<Duration>,
    /// When it was decided.
    pub(crate) decided: Option<Duration>,
    /// Per Watch, up to where everything is settled.
    pub positions: BTreeMap<u64, Option<ResourceVersion>>,
    /// How many keys are held back by a rejected Event.
    pub blocked_keys: usize,
    /// Some of them, with the reason.
    pub blocked: Vec<(ObjectKey, String)>,
    /// The last failure, and when, in Unix seconds.
    pub last_error: Option<(u64, String)>,
}

// === impl Entry ===

impl Entry {
    /// `change` for the Subscription of `context`.
    pub fn new(
        change: Arc<Change>,
        context: Arc<EventContext>,
        before: Option<ResourceVersion>,
        decided: Duration,
        charge: Charge,
    ) -> Self {
        Self { change, context, before, decided, _charge: charge }
    }
}

// === impl LaneSender ===

impl LaneSender {
    /// Tells lanes apart.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Hands over; a lane that is gone takes nothing more.
    pub async fn send(&self, input: LaneInput) {
        self.metrics.routed.inc_by(input.entries.len() as u64);
        let _ = self.sender.send(input).await;
    }
}

// === impl Lane ===

impl Lane {
    /// Starts delivering to `target`.
    pub fn start(
        id: u64,
        target: Target,
        settings: DeliverySettings,
        metrics: DeliveryMetrics,
        clock: Clock,
    ) -> Self {
        let (sender, inbox) = mpsc::channel(INBOX);
        let (target, targets) = watch::channel((Arc::new(target), settings));
        let report = Arc::new(Mutex::new(LaneReport::default()));
        let stop = CancellationToken::new();
        let worker = lane::Worker::new(inbox, targets, report.clone(), metrics.clone(), stop.clone(), clock);
        let task = tokio::spawn(worker.run());
        Self { sender: LaneSender { id, sender, metrics }, target, report, stop, task, clock }
    }

    /// Where Watches hand over.
    pub fn sender(&self) -> LaneSender {
        self.sender.clone()
    }

    /// From now on Messages are shaped for, and sent to, this target. What is under way ends where it is.
    pub fn retarget(&self, target: Target, settings: DeliverySettings) {
        self.target.send_replace((Arc::new(target), settings));
    }

    /// The same target with other settings.
    pub fn resettle(&self, settings: DeliverySettings) {
        self.target.send_modify(|(_, current)| *current = settings);
    }

    /// How it is doing. A lane in which nothing moves grows older all the same.
    pub fn report(&self) -> LaneReport {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        report.oldest = report.decided.map(|decided| self.clock.now().saturating_sub(decided));
        self.sender.metrics.lag_seconds.set(report.oldest.unwrap_or_default().as_secs_f64());
        report
    }

    /// Delivers what it has, for as long as `deadline`, closes the sink, and says how many Changes were not
    /// settled.
    pub async fn drain(self, deadline: Duration) -> usize {
        let Self { sender, target, report, stop, mut task, clock: _ } = self;
        drop(sender);
        stop.cancel();
        let sink = target.borrow().0.sink.clone();
        if tokio::time::timeout(deadline, &mut task).await.is_err() {
            task.abort();
        }
        sink.close(deadline).await;
        let report = report.lock().unwrap_or_else(PoisonError::into_inner);
        report.pending
    }
}
