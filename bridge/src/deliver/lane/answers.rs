//! What sinks say, and what becomes of Events by that: settled, tried again, put aside, left out, or blocked.
//!
//! Before: bridge/src/deliver/lane/outlet.rs
//! Next: core/src/cursor.rs

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use tidings_core::delivery::{Rejection, Verdict};
use tidings_core::event::Death;
use tidings_sinks::Target;
use tidings_sinks::sink::NotReady;

use super::outlet::{Outlet, Said};
use super::terms::{LastTerms, Terms};
use super::{Opened, Worker};
use crate::deliver::LaneReport;

// === impl Worker ===

impl Worker {
    pub(super) fn hear(&mut self, said: Said) {
        match said {
            Said::Checked(ready) => {
                if self.main.checked(ready)
                    && let Some(Err(not_ready)) = &self.main.ready
                {
                    self.not_ready(not_ready, "the sink is not ready");
                }
            }
            Said::Answered(batch) => {
                let (settings, now) = (self.aim.settings, self.clock.unix_millis());
                let mut terms = Terms { settings, now, shrunk: 0 };
                let verdicts = self.main.answered(batch, self.clock, &mut terms);
                self.lock().shrunk += terms.shrunk;
                self.settle(verdicts);
            }
        }
    }

    pub(super) fn hear_of_dead(&mut self, said: Said) {
        let Some(dead) = &mut self.dead else { return };
        match said {
            Said::Checked(ready) => {
                if dead.checked(ready)
                    && let Some(Err(not_ready)) = dead.ready.clone()
                {
                    self.not_ready(&not_ready, "the sink of dead letters is not ready");
                }
            }
            Said::Answered(batch) => {
                let verdicts = dead.answered(batch, self.clock, &mut LastTerms);
                self.settle(verdicts);
            }
        }
    }

    fn not_ready(&self, not_ready: &NotReady, what: &'static str) {
        tracing::warn!(reason = %not_ready.reason, message = %not_ready.message, "{what}");
        self.lock().last_error = Some((self.clock.unix_seconds(), not_ready.message.clone()));
    }

    fn settle(&mut self, verdicts: Vec<Verdict<Arc<Opened>>>) {
        let mut settled: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let report = self.report.clone();
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = |held_bytes: &mut usize, entry: &Opened| {
            *held_bytes -= entry.record.change.size();
            settled.entry(entry.watch).or_default().push(entry.record.number);
        };
        for verdict in verdicts {
            match verdict {
                Verdict::Settled(entry) => {
                    if entry.death.is_some() {
                        report.dead_lettered += 1;
                        self.metrics.dead_lettered.inc();
                    } else {
                        report.acked += 1;
                        self.metrics.acked.inc();
                    }
                    done(&mut self.held_bytes, &entry);
                }
                Verdict::Retrying { reason, .. } => {
                    report.retried += 1;
                    self.metrics.retried.inc();
                    report.last_error = Some((self.clock.unix_seconds(), reason));
                }
                Verdict::Blocked { entry, reason } => {
                    let what = "an event was rejected; later events of its key wait";
                    self.refused(&mut report, &entry, &reason, what);
                    self.unnamed = true;
                }
                Verdict::Withdrawn { entries, reason } => {
                    let what = "an event was rejected; later events of its key wait";
                    if let Some(entry) = entries.first() {
                        self.refused(&mut report, entry, &reason, what);
                    }
                    self.held_bytes -= entries.iter().map(|entry| entry.record.change.size()).sum::<usize>();
                    self.shut.shut(&entries, reason.to_string(), &self.sources);
                    self.unnamed = true;
                }
                Verdict::Aside { entry, reason, attempts } => {
                    let what = "an event was rejected, and goes to the dead letters";
                    self.refused(&mut report, &entry, &reason, what);
                    self.put_aside(&entry, &reason, attempts);
                }
                Verdict::Dropped { entry, reason } => {
                    self.refused(&mut report, &entry, &reason, "an event was rejected, and is left out");
                    report.dropped += 1;
                    self.metrics.dropped.inc();
                    done(&mut self.held_bytes, &entry);
                }
            }
        }
        drop(report);
        self.settled(settled);
        if self.unnamed {
            self.skip();
        }
    }

    pub(super) fn settled(&self, settled: BTreeMap<u64, Vec<u64>>) {
        for (watch, numbers) in settled {
            if let Some(source) = self.sources.get(&watch) {
                source.journal.settle(source.slot, &numbers);
            }
        }
    }

    /// The Event is settled when the dead letters have it.
    fn put_aside(&mut self, entry: &Opened, reason: &Rejection, attempts: u32) {
        let event = entry.event(&self.sources);
        let destination = event.map(|event| self.main.target.encoder.encode(&event).destination);
        let destination = destination.unwrap_or_default();
        let death = Death::new(reason, attempts, self.aim.sink.clone(), &destination);
        // The target of one that is not wanted says why nothing goes there.
        let dead = self.dead.get_or_insert_with(|| {
            let none = NotReady::new("NoDeadLetters", "spec.delivery.deadLetter is not given");
            Outlet::new(Arc::new(Target::unusable(none)), self.aim.settings)
        });
        // What was shrunk for the sink may be whole for another one.
        let dead_letter = Opened { death: Some(Arc::new(death)), as_reference: false, ..entry.clone() };
        dead.delivery.push(entry.record.change.key(), Arc::new(dead_letter));
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
}
