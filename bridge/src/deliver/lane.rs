//! The task of one lane.

mod terms;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use tidings_core::delivery::{Delivery, Outcome, Rejection, Verdict};
use tidings_core::event::Event;
use tidings_core::object::ObjectKey;
use tidings_sinks::Target;
use tidings_sinks::sink::NotReady;
use tokio::sync::{Notify, mpsc, watch};

use self::terms::Terms;
use super::{
    BATCHES, DeliverySettings, Farewell, HELD, HELD_BYTES, LaneReport, NAMED_BLOCKED, Source, SourceChange,
};
use crate::clock::{self, Clock};
use crate::journal::{Room, Taken};
use crate::metrics::DeliveryMetrics;
use crate::state::{self, record::JournalRecord};

/// Between checks of a sink that is not ready, half of it at random: many lanes may have lost the same broker.
const RECHECK: Duration = Duration::from_secs(2);
/// Between checks of a sink that is.
const CHECK: Duration = Duration::from_mins(1);
/// The Journal hears within this time that a chunk was merged with others.
const MERGED: Duration = Duration::from_millis(50);
/// So many batches in a row that fail as a whole are more than a hiccup.
const FAILING: u32 = 3;
/// Before a chunk that could not be read is read again.
const REREAD: Duration = Duration::from_secs(1);

/// What a worker listens to.
pub(super) struct Inputs {
    pub(super) changes: mpsc::Receiver<SourceChange>,
    pub(super) wake: Arc<Notify>,
    pub(super) targets: watch::Receiver<(Arc<Target>, DeliverySettings)>,
    /// Nothing until the lane is to end.
    pub(super) farewell: watch::Receiver<Option<Farewell>>,
}

pub(super) struct Worker {
    inputs: Inputs,
    target: Arc<Target>,
    settings: DeliverySettings,
    report: Arc<Mutex<LaneReport>>,
    metrics: DeliveryMetrics,
    clock: Clock,
    sources: BTreeMap<u64, Arc<Source>>,
    delivery: Delivery<Arc<Opened>>,
    /// What the objects in `delivery` take.
    held_bytes: usize,
    batches: FuturesUnordered<BoxFuture<'static, Vec<(ObjectKey, Outcome)>>>,
    /// The chunk that is being read.
    reading: Option<BoxFuture<'static, Read>>,
    /// The chunk that was read last, for others that come to it.
    last_read: Option<Arc<[Arc<JournalRecord>]>>,
    /// The sink is in trouble, and is checked until it says that it is well.
    asked: bool,
}

/// A chunk that was read, from which Watch.
struct Read {
    watch: u64,
    chunk: u64,
    /// How often that was tried before.
    failures: u32,
    records: Result<Arc<[Arc<JournalRecord>]>, state::Error>,
}

/// A Change that was taken from a Journal.
struct Opened {
    record: Arc<JournalRecord>,
    watch: u64,
    /// The Subscription's, when it was decided.
    generation: u64,
    /// The whole object was too large.
    as_reference: bool,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(
        mut inputs: Inputs,
        report: Arc<Mutex<LaneReport>>,
        metrics: DeliveryMetrics,
        clock: Clock,
    ) -> Self {
        let (target, settings) = inputs.targets.borrow_and_update().clone();
        Self {
            inputs,
            target,
            settings,
            report,
            metrics,
            clock,
            sources: BTreeMap::new(),
            delivery: Delivery::new(settings.backoff),
            held_bytes: 0,
            batches: FuturesUnordered::new(),
            reading: None,
            last_read: None,
            asked: false,
        }
    }

    /// Delivers until it is stopped and has nothing left that could, or should, be delivered.
    pub(super) async fn run(mut self) {
        let mut check = check(self.target.clone(), Duration::ZERO);
        let mut farewell = None;
        loop {
            while let Ok(change) = self.inputs.changes.try_recv() {
                self.source(change);
            }
            if farewell != Some(Farewell::InFlight) && !self.settings.suspended {
                self.pull();
                self.start_batches();
            }
            self.publish();
            if farewell.is_some_and(|farewell| self.is_done(farewell)) {
                return;
            }
            let wake = self.wake();
            tokio::select! {
                // What is rare comes first, so that nothing waits for what may never pause; the Journals can be last,
                // because every round begins with them. Chance would keep a simulation from being repeated.
                biased;
                Ok(()) = self.inputs.farewell.changed(), if farewell.is_none() => {
                    farewell = *self.inputs.farewell.borrow_and_update();
                }
                Ok(()) = self.inputs.targets.changed() => {
                    self.retarget();
                    check = self::check(self.target.clone(), Duration::ZERO);
                }
                ready = &mut check => {
                    let pause =
                        if ready.is_ok() { CHECK } else { RECHECK.mul_f64(0.5 + clock::jitter() / 2.0) };
                    self.checked(ready);
                    check = self::check(self.target.clone(), pause);
                }
                () = wake => {}
                Some(read) = OptionFuture::from(self.reading.as_mut()) => self.read(read),
                Some(batch) = self.batches.next() => {
                    self.settle(batch);
                    // Attempts become rare, and checks do not: who asks knows when it is over.
                    if self.delivery.is_paused() && !self.asked {
                        self.asked = true;
                        check = self::check(self.target.clone(), Duration::ZERO);
                    }
                }
                change = self.inputs.changes.recv(), if !self.inputs.changes.is_closed() => {
                    if let Some(change) = change { self.source(change) }
                }
                () = self.inputs.wake.notified() => {}
            }
        }
    }

    /// Whether nothing is left for who says farewell like this.
    fn is_done(&self, farewell: Farewell) -> bool {
        let delivered = self.delivery.pending() == self.delivery.held_back() && self.reading.is_none();
        let nothing_more = farewell == Farewell::InFlight || self.settings.suspended || delivered;
        self.batches.is_empty() && nothing_more
    }

    fn source(&mut self, change: SourceChange) {
        match change {
            SourceChange::Follow(source) => drop(self.sources.insert(source.watch, source)),
            SourceChange::Leave(watch) => drop(self.sources.remove(&watch)),
        }
    }

    /// Takes from the Journals as much as there is room for.
    fn pull(&mut self) {
        let sources: Vec<_> = self.sources.values().cloned().collect();
        for source in sources {
            while self.reading.is_none()
                && let Some(room) = self.room()
            {
                match source.journal.take(source.slot, room) {
                    Taken::Changes(records) => {
                        self.last_read = None;
                        self.take_in(&source, records);
                    }
                    Taken::Stored(chunk) => self.reading = source.read(chunk, 0),
                    Taken::Nothing => {
                        self.last_read = None;
                        break;
                    }
                }
            }
        }
    }

    /// What may be taken, if anything. Those behind a rejected one do not count: they hold back nobody.
    fn room(&self) -> Option<Room> {
        let changes = self.settings.max_in_flight * HELD;
        let held = self.delivery.pending() - self.delivery.held_back();
        let mut bytes = self.held_bytes;
        if bytes >= HELD_BYTES {
            bytes -=
                self.delivery.held_back_entries().map(|opened| opened.record.change.size()).sum::<usize>();
        }
        let room = Room { changes: changes.saturating_sub(held), bytes: HELD_BYTES.saturating_sub(bytes) };
        (room.changes > 0 && room.bytes > 0).then_some(room)
    }

    fn take_in(&mut self, source: &Source, records: Vec<Arc<JournalRecord>>) {
        self.metrics.routed.inc_by(records.len() as u64);
        for record in records {
            let Some(to) = record.recipient(source.slot) else { continue };
            self.held_bytes += record.change.size();
            let key = record.change.key().clone();
            let (watch, generation) = (source.watch, to.generation);
            self.delivery.push(&key, Arc::new(Opened { record, watch, generation, as_reference: false }));
        }
    }

    /// A chunk was read.
    fn read(&mut self, Read { watch, chunk, failures, records }: Read) {
        self.reading = None;
        let Some(source) = self.sources.get(&watch).cloned() else { return };
        match records {
            Ok(records) => {
                let taken = source.journal.take_stored(source.slot, &records);
                self.take_in(&source, taken);
                self.last_read = Some(records);
            }
            // What is left of it is in another one by now.
            Err(_) if !source.journal.holds(chunk) => {}
            Err(error) => {
                // Or will be as soon as the Journal hears of it.
                if failures > 0 {
                    tracing::error!(%error, chunk, "unable to read the journal; trying again");
                    self.lock().last_error = Some((self.clock.unix_seconds(), error.to_string()));
                }
                self.reading = source.read(chunk, failures + 1);
            }
        }
    }

    /// Ready when something may be tried again.
    fn wake(&self) -> impl Future<Output = ()> + use<> {
        let room = self.batches.len() < BATCHES
            && self.delivery.in_flight() < self.settings.max_in_flight
            && !self.settings.suspended;
        let at = self.delivery.next_attempt().filter(|_| room).filter(|at| *at > self.clock.now());
        let at = at.map(|at| self.clock.instant(at));
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    fn start_batches(&mut self) {
        while self.batches.len() < BATCHES {
            let room = self.settings.max_in_flight.saturating_sub(self.delivery.in_flight());
            // Several batches share the window, so that acks of one make room while others wait.
            let most = room.min(self.settings.max_in_flight.div_ceil(BATCHES / 2));
            let of_key = if self.target.ordered { most } else { 1 };
            let batch = self.delivery.take(self.clock.now(), most, of_key);
            if batch.is_empty() {
                return;
            }
            self.metrics.sent.inc_by(batch.len() as u64);
            self.lock().sent += batch.len() as u64;
            let event = |opened: &Opened| {
                let context = &self.sources.get(&opened.watch)?.context;
                let event = Event::new(context, opened.generation, &opened.record.change);
                Some(if opened.as_reference { event.to_reference() } else { event })
            };
            // What a source was left with has no context any more, and nobody who waits for it.
            let events = batch.into_iter().map(|(key, opened)| (key, event(&opened))).collect();
            self.batches.push(Box::pin(attempt(self.target.clone(), events)));
        }
    }

    fn settle(&mut self, batch: Vec<(ObjectKey, Outcome)>) {
        let mut terms = Terms { settings: self.settings, now: self.clock.unix_millis(), shrunk: 0 };
        let verdicts = self.delivery.report(batch, self.clock.now(), clock::jitter(), &mut terms);
        let report = self.report.clone();
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        report.shrunk += terms.shrunk;
        let mut settled: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for verdict in verdicts {
            match verdict {
                Verdict::Settled(opened) => {
                    report.acked += 1;
                    self.metrics.acked.inc();
                    self.held_bytes -= opened.record.change.size();
                    settled.entry(opened.watch).or_default().push(opened.record.number);
                }
                Verdict::Retrying { reason, .. } => {
                    report.retried += 1;
                    self.metrics.retried.inc();
                    if self.delivery.failed_batches() >= FAILING {
                        report.failing = Some(reason.clone());
                    }
                    report.last_error = Some((self.clock.unix_seconds(), reason));
                }
                Verdict::Blocked { entry, reason } => {
                    self.refused(
                        &mut report,
                        &entry,
                        &reason,
                        "an event was rejected; later events of its key wait",
                    );
                }
                Verdict::Dropped { entry, reason } => {
                    self.refused(&mut report, &entry, &reason, "an event was rejected, and is left out");
                    report.dropped += 1;
                    self.metrics.dropped.inc();
                    self.held_bytes -= entry.record.change.size();
                    settled.entry(entry.watch).or_default().push(entry.record.number);
                }
            }
        }
        for (watch, numbers) in settled {
            if let Some(source) = self.sources.get(&watch) {
                source.journal.settle(source.slot, &numbers);
            }
        }
    }

    /// Says of an Event that the broker will not take it.
    fn refused(&self, report: &mut LaneReport, entry: &Opened, reason: &Rejection, what: &'static str) {
        report.rejected += 1;
        self.metrics.rejected.inc();
        let Opened { record, watch, .. } = entry;
        let key = record.change.key();
        let subscription = self.sources.get(watch).map(|source| &*source.context.subscription);
        let version = record.change.meta().map(|meta| meta.resource_version.0);
        tracing::error!(subscription, %key, version, %reason, "{what}");
        report.last_error = Some((self.clock.unix_seconds(), format!("{key}: {reason}")));
    }

    fn checked(&mut self, ready: Result<(), NotReady>) {
        self.asked &= ready.is_err();
        if ready.is_ok() && matches!(self.lock().sink, Some(Err(_))) {
            self.delivery.resume();
        }
        let report = self.report.clone();
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        if report.sink.as_ref() != Some(&ready)
            && let Err(not_ready) = &ready
        {
            tracing::warn!(reason = %not_ready.reason, message = %not_ready.message, "the sink is not ready");
            report.last_error = Some((self.clock.unix_seconds(), not_ready.message.clone()));
        }
        report.sink = Some(ready);
    }

    /// Another target or other settings: what was refused may be taken now.
    fn retarget(&mut self) {
        (self.target, self.settings) = self.inputs.targets.borrow_and_update().clone();
        self.delivery.unblock();
        self.lock().sink = None;
    }

    fn publish(&mut self) {
        let standings: Vec<_> = self
            .sources
            .values()
            .map(|source| (source.watch, source.journal.standing(source.slot)))
            .collect();
        let left_out: u64 = standings.iter().map(|(_, standing)| standing.left_out).sum();
        let decided = standings.iter().filter_map(|(_, standing)| standing.oldest).min();
        let pending = standings.iter().map(|(_, standing)| standing.open).sum();
        self.metrics.lag.set(i64::try_from(pending).unwrap_or(i64::MAX));
        let blocked = self.delivery.blocked();
        self.metrics.blocked.set(i64::try_from(blocked.len()).unwrap_or(i64::MAX));
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.pending = pending;
        if report.left_out < left_out {
            self.metrics.left_out.inc_by(left_out - report.left_out);
            let message =
                format!("{left_out} changes were left out: the backlog was over its quota (state_quota)");
            report.last_error = Some((self.clock.unix_seconds(), message));
        }
        report.left_out = left_out;
        report.suspended = self.settings.suspended;
        if !self.delivery.is_paused() {
            report.failing = None;
        }
        report.decided = decided;
        report.positions = standings.into_iter().map(|(watch, standing)| (watch, standing.settled)).collect();
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

/// Encodes a batch, sends it, and gives each key its outcome. Who has no Event counts as acked.
async fn attempt(target: Arc<Target>, batch: Vec<(ObjectKey, Option<Event>)>) -> Vec<(ObjectKey, Outcome)> {
    let messages: Vec<_> = batch
        .iter()
        .filter_map(|(_, event)| event.as_ref())
        .map(|event| target.encoder.encode(event))
        .collect();
    let mut outcomes = target.sink.deliver(&messages).await.into_iter();
    debug_assert_eq!(outcomes.len(), messages.len());
    let outcome = |event: Option<Event>| match event {
        Some(_) => outcomes.next(),
        None => Some(Outcome::Acked),
    };
    let (keys, events): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    keys.into_iter().zip(events.into_iter().map_while(outcome)).collect()
}

/// Checks the target after a pause.
fn check(target: Arc<Target>, pause: Duration) -> BoxFuture<'static, Result<(), NotReady>> {
    Box::pin(async move {
        tokio::time::sleep(pause).await;
        target.sink.check().await
    })
}

// === impl Source ===

impl Source {
    /// Reads a chunk, after a pause when that has failed before.
    fn read(&self, chunk: u64, failures: u32) -> Option<BoxFuture<'static, Read>> {
        let (watch, chunks) = (self.watch, self.chunks.clone()?);
        let pause = match failures {
            0 => Duration::ZERO,
            1 => MERGED,
            _ => REREAD,
        };
        Some(Box::pin(async move {
            tokio::time::sleep(pause).await;
            let records = chunks.read(chunk).await;
            Read { watch, chunk, failures, records }
        }))
    }
}

#[cfg(test)]
mod tests;
