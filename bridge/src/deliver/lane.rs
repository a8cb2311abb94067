//! The task of one lane.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tidings_core::cursor::{Cursor, Ticket};
use tidings_core::delivery::{Delivery, Outcome, Rejection, Verdict};
use tidings_core::event::Event;
use tidings_core::object::ObjectKey;
use tidings_sinks::Target;
use tidings_sinks::sink::NotReady;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{BATCHES, DeliverySettings, Entry, LaneInput, LaneReport, NAMED_BLOCKED};
use crate::clock::{self, Clock};
use crate::metrics::DeliveryMetrics;

/// Between checks of a sink that is not ready.
const RECHECK: Duration = Duration::from_secs(2);
/// Between checks of a sink that is.
const CHECK: Duration = Duration::from_secs(60);

pub(super) struct Worker {
    inbox: mpsc::Receiver<LaneInput>,
    targets: watch::Receiver<(Arc<Target>, DeliverySettings)>,
    target: Arc<Target>,
    settings: DeliverySettings,
    report: Arc<Mutex<LaneReport>>,
    metrics: DeliveryMetrics,
    stop: CancellationToken,
    clock: Clock,
    delivery: Delivery<Arc<Opened>>,
    cursors: BTreeMap<u64, Cursor>,
    batches: FuturesUnordered<BoxFuture<'static, Vec<(ObjectKey, Outcome)>>>,
}

/// An entry that has its place in the cursor.
struct Opened {
    entry: Entry,
    watch: u64,
    ticket: Ticket,
    /// The whole object was too large.
    as_reference: bool,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(
        inbox: mpsc::Receiver<LaneInput>,
        mut targets: watch::Receiver<(Arc<Target>, DeliverySettings)>,
        report: Arc<Mutex<LaneReport>>,
        metrics: DeliveryMetrics,
        stop: CancellationToken,
        clock: Clock,
    ) -> Self {
        let (target, settings) = targets.borrow_and_update().clone();
        Self {
            inbox,
            targets,
            target,
            settings,
            report,
            metrics,
            stop,
            clock,
            delivery: Delivery::new(settings.backoff),
            cursors: BTreeMap::new(),
            batches: FuturesUnordered::new(),
        }
    }

    /// Delivers until it is stopped and has nothing left that could be delivered.
    pub(super) async fn run(mut self) {
        let mut check = check(self.target.clone(), Duration::ZERO);
        let mut stopping = false;
        loop {
            while let Ok(input) = self.inbox.try_recv() {
                self.take_in(input);
            }
            self.start_batches();
            self.publish();
            if stopping && self.delivery.pending() == self.delivery.held_back() && self.batches.is_empty() {
                return;
            }
            let wake = self.wake();
            tokio::select! {
                input = self.inbox.recv(), if !self.inbox.is_closed() || !self.inbox.is_empty() => {
                    if let Some(input) = input { self.take_in(input) }
                }
                Some(batch) = self.batches.next() => self.settle(batch),
                () = wake => {}
                ready = &mut check => {
                    let pause = if ready.is_ok() { CHECK } else { RECHECK };
                    self.checked(ready);
                    check = self::check(self.target.clone(), pause);
                }
                Ok(()) = self.targets.changed() => {
                    self.retarget();
                    check = self::check(self.target.clone(), Duration::ZERO);
                }
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.inbox.close();
                }
            }
        }
    }

    /// Ready when something may be tried again.
    fn wake(&self) -> impl Future<Output = ()> + use<> {
        let room = self.batches.len() < BATCHES && self.delivery.in_flight() < self.settings.max_in_flight;
        let at = self.delivery.next_attempt().filter(|_| room).filter(|at| *at > self.clock.now());
        let at = at.map(|at| self.clock.instant(at));
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    fn take_in(&mut self, input: LaneInput) {
        let LaneInput { watch, entries, position } = input;
        let cursor = self.cursors.entry(watch).or_default();
        for entry in entries {
            let ticket = cursor.open(entry.before, entry.decided);
            let key = entry.change.key().clone();
            self.delivery.push(&key, Arc::new(Opened { entry, watch, ticket, as_reference: false }));
        }
        cursor.decided(position);
    }

    fn start_batches(&mut self) {
        while self.batches.len() < BATCHES {
            let room = self.settings.max_in_flight.saturating_sub(self.delivery.in_flight());
            // Several batches share the window, so that acks of one make room while others wait.
            let most = room.min(self.settings.max_in_flight.div_ceil(BATCHES / 2));
            let batch = self.delivery.take(self.clock.now(), most);
            if batch.is_empty() {
                return;
            }
            self.metrics.sent.inc_by(batch.len() as u64);
            self.lock().sent += batch.len() as u64;
            let target = self.target.clone();
            self.batches.push(Box::pin(attempt(target, batch)));
        }
    }

    fn settle(&mut self, batch: Vec<(ObjectKey, Outcome)>) {
        let shrink = self.settings.shrink_oversize;
        let mut shrunk = 0;
        let instead = |opened: &Arc<Opened>, reason: &Rejection| match reason {
            Rejection::TooLarge { .. } if shrink && !opened.as_reference => {
                shrunk += 1;
                let (entry, watch, ticket) = (opened.entry.clone(), opened.watch, opened.ticket);
                Some(Arc::new(Opened { entry, watch, ticket, as_reference: true }))
            }
            _ => None,
        };
        let verdicts = self.delivery.report(batch, self.clock.now(), clock::jitter(), instead);
        let report = self.report.clone();
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        report.shrunk += shrunk;
        for verdict in verdicts {
            match verdict {
                Verdict::Settled(opened) => {
                    report.acked += 1;
                    self.metrics.acked.inc();
                    if let Some(cursor) = self.cursors.get_mut(&opened.watch) {
                        cursor.settle(opened.ticket);
                    }
                }
                Verdict::Retrying { reason, .. } => {
                    report.retried += 1;
                    self.metrics.retried.inc();
                    report.last_error = Some((clock::unix_seconds(), reason));
                }
                Verdict::Blocked { entry, reason } => {
                    report.rejected += 1;
                    self.metrics.rejected.inc();
                    let key = entry.entry.change.key();
                    tracing::error!(
                        subscription = &*entry.entry.context.subscription, %key, %reason,
                        "an event was rejected; later events of its key wait"
                    );
                    report.last_error = Some((clock::unix_seconds(), format!("{key}: {reason}")));
                }
            }
        }
    }

    fn checked(&mut self, ready: Result<(), NotReady>) {
        let report = self.report.clone();
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        if report.sink.as_ref() != Some(&ready)
            && let Err(not_ready) = &ready
        {
            tracing::warn!(reason = %not_ready.reason, message = %not_ready.message, "the sink is not ready");
            report.last_error = Some((clock::unix_seconds(), not_ready.message.clone()));
        }
        report.sink = Some(ready);
    }

    /// Another target or other settings: what was refused may be taken now.
    fn retarget(&mut self) {
        (self.target, self.settings) = self.targets.borrow_and_update().clone();
        self.delivery.unblock();
        self.lock().sink = None;
    }

    fn publish(&mut self) {
        let decided = self.cursors.values().filter_map(Cursor::oldest).min();
        let pending = self.delivery.pending();
        self.metrics.lag.set(i64::try_from(pending).unwrap_or(i64::MAX));
        let blocked = self.delivery.blocked();
        self.metrics.blocked.set(i64::try_from(blocked.len()).unwrap_or(i64::MAX));
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.pending = pending;
        report.decided = decided;
        for (watch, cursor) in &self.cursors {
            report.positions.insert(*watch, cursor.watermark());
        }
        if report.blocked_keys != blocked.len() {
            report.blocked_keys = blocked.len();
            let named = blocked.iter().take(NAMED_BLOCKED);
            report.blocked = named.map(|(key, reason)| (key.clone(), reason.to_string())).collect();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LaneReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Encodes a batch, sends it, and gives each key its outcome.
async fn attempt(target: Arc<Target>, batch: Vec<(ObjectKey, Arc<Opened>)>) -> Vec<(ObjectKey, Outcome)> {
    let encoded = batch.iter().map(|(_, opened)| {
        let event = Event::new(&opened.entry.context, &opened.entry.change);
        target.encoder.encode(&if opened.as_reference { event.to_reference() } else { event })
    });
    let messages: Vec<_> = encoded.collect();
    let outcomes = target.sink.deliver(&messages).await;
    debug_assert_eq!(outcomes.len(), batch.len());
    batch.into_iter().map(|(key, _)| key).zip(outcomes).collect()
}

/// Checks the target after a pause.
fn check(target: Arc<Target>, pause: Duration) -> BoxFuture<'static, Result<(), NotReady>> {
    Box::pin(async move {
        tokio::time::sleep(pause).await;
        target.sink.check().await
    })
}
