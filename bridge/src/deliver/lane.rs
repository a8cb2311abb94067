//! The task of one lane.
//!
//! Before: bridge/src/deliver.rs
//! Next: bridge/src/deliver/lane/outlet.rs

mod answers;
mod orders;
mod outlet;
mod shut;
mod terms;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture};
use tidings_core::event::{Death, Event};
use tidings_sinks::sink::NotReady;
use tokio::sync::{Notify, mpsc, watch};

use self::outlet::Outlet;
use self::shut::{Shut, Sources};
use super::{Aim, Farewell, HELD, HELD_BYTES, LaneReport, Source, SourceChange};
use crate::clock::Clock;
use crate::journal::{Room, Taken};
use crate::metrics::DeliveryMetrics;
use crate::state::{self, record::JournalRecord};

/// The Journal hears within this time that a chunk was merged with others.
const MERGED: Duration = Duration::from_millis(50);
/// Before a chunk that could not be read is read again.
const REREAD: Duration = Duration::from_secs(1);

/// What a worker listens to.
pub(super) struct Inputs {
    pub(super) changes: mpsc::Receiver<SourceChange>,
    pub(super) wake: Arc<Notify>,
    pub(super) aims: watch::Receiver<Aim>,
    /// Nothing until the lane is to end.
    pub(super) farewell: watch::Receiver<Option<Farewell>>,
}

pub(super) struct Worker {
    inputs: Inputs,
    aim: Aim,
    report: Arc<Mutex<LaneReport>>,
    metrics: DeliveryMetrics,
    clock: Clock,
    sources: Sources,
    /// The number of the last Change that was taken first from each Watch: what was given back comes again.
    seen: BTreeMap<u64, u64>,
    main: Outlet,
    /// Keys of which `main` refused an Event.
    shut: Shut,
    /// What the sink will never take goes there. It stays when the Subscription wants none any more: what was put aside
    /// waits there, until a restart.
    dead: Option<Outlet>,
    /// What the objects in both take.
    held_bytes: usize,
    /// The chunk that is being read.
    reading: Option<BoxFuture<'static, Read>>,
    /// The chunk that was read last, for others that come to it.
    last_read: Option<Arc<[Arc<JournalRecord>]>>,
    /// Whether other keys are blocked than those that were named last.
    unnamed: bool,
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
#[derive(Clone)]
struct Opened {
    record: Arc<JournalRecord>,
    watch: u64,
    /// The Subscription's, when it was decided.
    generation: u64,
    /// The whole object was too large.
    as_reference: bool,
    /// It is a dead letter.
    death: Option<Arc<Death>>,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(
        mut inputs: Inputs,
        report: Arc<Mutex<LaneReport>>,
        metrics: DeliveryMetrics,
        clock: Clock,
    ) -> Self {
        let aim = inputs.aims.borrow_and_update().clone();
        Self {
            inputs,
            main: Outlet::new(aim.target.clone(), aim.settings),
            dead: aim.dead_letters.clone().map(|target| Outlet::new(target, aim.settings)),
            aim,
            report,
            metrics,
            clock,
            sources: Sources::new(),
            seen: BTreeMap::new(),
            shut: Shut::default(),
            held_bytes: 0,
            reading: None,
            last_read: None,
            unnamed: false,
        }
    }

    /// Delivers until it is stopped and has nothing left that could, or should, be delivered.
    pub(super) async fn run(mut self) {
        let mut farewell = None;
        loop {
            while let Ok(change) = self.inputs.changes.try_recv() {
                self.source(change);
            }
            if farewell != Some(Farewell::InFlight) && !self.aim.settings.suspended {
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
                Ok(()) = self.inputs.aims.changed() => self.aim(),
                said = Outlet::said_by(&mut self.dead) => self.hear_of_dead(said),
                () = wake => {}
                Some(read) = OptionFuture::from(self.reading.as_mut()) => self.read(read),
                said = self.main.said() => self.hear(said),
                change = self.inputs.changes.recv(), if !self.inputs.changes.is_closed() => {
                    if let Some(change) = change { self.source(change) }
                }
                () = self.inputs.wake.notified() => {}
            }
        }
    }

    /// Whether nothing is left for who says farewell like this.
    fn is_done(&self, farewell: Farewell) -> bool {
        let delivered = self.reading.is_none() && self.outlets().all(|outlet| outlet.moving() == 0);
        let nothing_more = farewell == Farewell::InFlight || self.aim.settings.suspended || delivered;
        nothing_more && self.outlets().all(Outlet::is_idle)
    }

    fn source(&mut self, change: SourceChange) {
        match change {
            SourceChange::Follow(source) => drop(self.sources.insert(source.watch, source)),
            SourceChange::Leave(watch) => {
                self.sources.remove(&watch);
                self.seen.remove(&watch);
                self.shut.leave(watch, &self.sources);
                self.unnamed = true;
            }
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

    /// What may be taken, if anything.
    fn room(&self) -> Option<Room> {
        let most = self.aim.settings.max_in_flight * HELD;
        let held = self.outlets().map(|outlet| outlet.delivery.pending()).sum();
        let (changes, bytes) = (most.saturating_sub(held), HELD_BYTES.saturating_sub(self.held_bytes));
        (changes > 0 && bytes > 0).then_some(Room { changes, bytes })
    }

    fn take_in(&mut self, source: &Source, records: Vec<Arc<JournalRecord>>) {
        let seen = self.seen.entry(source.watch).or_default();
        self.metrics.routed.inc_by(records.iter().filter(|record| record.number > *seen).count() as u64);
        *seen = records.iter().map(|record| record.number).fold(*seen, u64::max);
        for record in records {
            let Some(to) = record.recipient(source.slot) else { continue };
            let key = record.change.key();
            if self.shut.keeps_out(key, source, record.number) {
                continue;
            }
            self.held_bytes += record.change.size();
            let (key, watch, generation) = (key.clone(), source.watch, to.generation);
            let opened = Opened { record, watch, generation, as_reference: false, death: None };
            self.main.delivery.push(&key, Arc::new(opened));
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
        let at = self.outlets().filter_map(|outlet| outlet.wakes(self.clock, self.aim.settings)).min();
        let at = at.filter(|_| !self.aim.settings.suspended).map(|at| self.clock.instant(at));
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    fn start_batches(&mut self) {
        let sources = &self.sources;
        let event = |opened: &Opened| opened.event(sources);
        let mut sent = self.main.start(self.clock, self.aim.settings, event);
        if let Some(dead) = &mut self.dead {
            sent += dead.start(self.clock, self.aim.settings, event);
        }
        if sent > 0 {
            self.metrics.sent.inc_by(sent);
            self.lock().sent += sent;
        }
    }

    /// Another target, other settings or orders: what was refused may be taken now.
    fn aim(&mut self) {
        let before = std::mem::replace(&mut self.aim, self.inputs.aims.borrow_and_update().clone());
        if !Arc::ptr_eq(&before.target, &self.aim.target) || before.settings != self.aim.settings {
            self.main.retarget(self.aim.target.clone());
            self.shut.open_all(&self.sources);
            self.unnamed = true;
        }
        match (&mut self.dead, self.aim.dead_letters.clone()) {
            (Some(dead), Some(target)) if !Arc::ptr_eq(&dead.target, &target) => dead.retarget(target),
            (dead @ None, Some(target)) => *dead = Some(Outlet::new(target, self.aim.settings)),
            _ => {}
        }
        self.retry(before.orders.retry.as_ref());
        self.skip();
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
        let dead_blocked = self.dead.as_ref().map_or(0, |dead| dead.delivery.blocked().len());
        let blocked = self.shut.len() + dead_blocked;
        self.metrics.blocked.set(i64::try_from(blocked).unwrap_or(i64::MAX));
        let dead_letters = self.dead.as_ref().map_or(0, |dead| dead.delivery.pending());
        let named = std::mem::take(&mut self.unnamed).then(|| self.blocked());
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.pending = pending;
        if report.left_out < left_out {
            self.metrics.left_out.inc_by(left_out - report.left_out);
            let message =
                format!("{left_out} changes were left out: the backlog was over its quota (state_quota)");
            report.last_error = Some((self.clock.unix_seconds(), message));
        }
        report.left_out = left_out;
        report.suspended = self.aim.settings.suspended;
        report.sink.clone_from(&self.main.ready);
        report.failing = self.main.failing();
        report.dead_letters = dead_letters;
        report.dead_letter_sink = self.dead.as_mut().and_then(|dead| match (dead.failing(), &dead.ready) {
            (Some(failing), Some(Ok(()))) => Some(Err(NotReady::new("AttemptsFail", failing))),
            (_, ready) => ready.clone(),
        });
        report.decided = decided;
        report.positions = standings.into_iter().map(|(watch, standing)| (watch, standing.settled)).collect();
        report.blocked_keys = blocked;
        if let Some(named) = named {
            report.blocked = named;
        }
    }

    fn outlets(&self) -> impl Iterator<Item = &Outlet> {
        [Some(&self.main), self.dead.as_ref()].into_iter().flatten()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LaneReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Opened ===

impl Opened {
    /// What is told, unless nobody waits for it.
    fn event(&self, sources: &Sources) -> Option<Event> {
        let context = &sources.get(&self.watch)?.context;
        let mut event = Event::new(context, self.generation, &self.record.change);
        if self.as_reference {
            event = event.to_reference();
        }
        Some(match &self.death {
            Some(death) => event.to_dead_letter(death.clone()),
            None => event,
        })
    }

    /// The same without the object.
    fn to_reference(&self) -> Self {
        Self { as_reference: true, ..self.clone() }
    }
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
