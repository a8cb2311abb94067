//! One way out of a lane: what waits for a target, what is under way there, and whether it takes anything. A lane has one
//! for its sink, and one more for dead letters.
//!
//! Before: bridge/src/deliver/lane.rs
//! Next: sinks/src/sink.rs

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tidings_core::delivery::{Delivery, Outcome, Policy, Verdict};
use tidings_core::event::Event;
use tidings_core::object::ObjectKey;
use tidings_sinks::Target;
use tidings_sinks::sink::NotReady;

use super::Opened;
use crate::clock::{self, Clock};
use crate::deliver::{BATCHES, DeliverySettings};

/// Between checks of a sink that is not ready, half of it at random: many lanes may have lost the same broker.
pub(super) const RECHECK: Duration = Duration::from_secs(2);
/// Between checks of a sink that is.
const CHECK: Duration = Duration::from_mins(1);
/// So many batches in a row that fail as a whole are more than a hiccup.
const FAILING: u32 = 3;

/// A target, and what goes there.
pub(super) struct Outlet {
    pub(super) target: Arc<Target>,
    pub(super) delivery: Delivery<Arc<Opened>>,
    batches: FuturesUnordered<BoxFuture<'static, Batch>>,
    check: BoxFuture<'static, Result<(), NotReady>>,
    /// It is in trouble, and is checked until it says that it is well.
    asked: bool,
    /// What the last check said; nothing before the first.
    pub(super) ready: Option<Result<(), NotReady>>,
    /// Why nothing arrives, whatever a check says.
    failing: Option<String>,
}

/// What became of each of a batch.
pub(super) struct Batch {
    /// Where it was sent.
    target: Arc<Target>,
    outcomes: Vec<(ObjectKey, Outcome)>,
}

/// What a target said.
pub(super) enum Said {
    /// Whether it is ready.
    Checked(Result<(), NotReady>),
    /// What became of a batch.
    Answered(Batch),
}

// === impl Outlet ===

impl Outlet {
    pub(super) fn new(target: Arc<Target>, settings: DeliverySettings) -> Self {
        Self {
            check: check(target.clone(), Duration::ZERO),
            target,
            delivery: Delivery::new(settings.backoff),
            batches: FuturesUnordered::new(),
            asked: false,
            ready: None,
            failing: None,
        }
    }

    /// Another target, or other terms: what was refused may be taken now.
    pub(super) fn retarget(&mut self, target: Arc<Target>) {
        self.check = check(target.clone(), Duration::ZERO);
        (self.target, self.ready) = (target, None);
        self.delivery.unblock();
    }

    /// What the target says next. Nothing is lost when this is given up.
    pub(super) async fn said(&mut self) -> Said {
        tokio::select! {
            biased;
            ready = &mut self.check => Said::Checked(ready),
            Some(batch) = self.batches.next() => Said::Answered(batch),
        }
    }

    /// The same, where there is one.
    pub(super) async fn said_by(outlet: &mut Option<Self>) -> Said {
        match outlet {
            Some(outlet) => outlet.said().await,
            None => std::future::pending().await,
        }
    }

    /// Starts as many batches as there is room for, and says how many Events are in them.
    pub(super) fn start(
        &mut self,
        clock: Clock,
        settings: DeliverySettings,
        event: impl Fn(&Opened) -> Option<Event>,
    ) -> u64 {
        let mut sent = 0;
        while self.batches.len() < BATCHES {
            let room = settings.max_in_flight.saturating_sub(self.delivery.in_flight());
            // Several batches share the window, so that acks of one make room while others wait.
            let most = room.min(settings.max_in_flight.div_ceil(BATCHES / 2));
            let of_key = if self.target.ordered { most } else { 1 };
            let batch = self.delivery.take(clock.now(), most, of_key);
            if batch.is_empty() {
                break;
            }
            sent += batch.len() as u64;
            // What a source was left with has no context any more, and nobody who waits for it.
            let events = batch.into_iter().map(|(key, opened)| (key, event(&opened))).collect();
            self.batches.push(Box::pin(attempt(self.target.clone(), events)));
        }
        sent
    }

    /// When something may be tried again, if that is later than now.
    pub(super) fn wakes(&self, clock: Clock, settings: DeliverySettings) -> Option<Duration> {
        let room = self.batches.len() < BATCHES && self.delivery.in_flight() < settings.max_in_flight;
        self.delivery.next_attempt().filter(|at| room && *at > clock.now())
    }

    /// Takes in what became of a batch.
    pub(super) fn answered(
        &mut self,
        batch: Batch,
        clock: Clock,
        policy: &mut impl Policy<Arc<Opened>>,
    ) -> Vec<Verdict<Arc<Opened>>> {
        let Batch { target, mut outcomes } = batch;
        let stale = !Arc::ptr_eq(&target, &self.target);
        if stale {
            // What another target said is nothing against this one.
            for (_, outcome) in &mut outcomes {
                if let Outcome::Rejected { reason } = outcome {
                    *outcome = Outcome::Retry { reason: reason.to_string(), after: None };
                }
            }
        }
        let verdicts = self.delivery.report(outcomes, clock.now(), clock::jitter(), policy);
        if stale {
            self.delivery.resume();
        }
        // Attempts become rare, and checks do not: who asks knows when it is over.
        if self.delivery.is_paused() && !self.asked {
            self.asked = true;
            self.check = check(self.target.clone(), Duration::ZERO);
        }
        if self.delivery.failed_batches() >= FAILING {
            let reason = verdicts.iter().rev().find_map(|verdict| match verdict {
                Verdict::Retrying { reason, .. } => Some(reason.clone()),
                _ => None,
            });
            self.failing = reason.or(self.failing.take());
        }
        verdicts
    }

    /// Takes in what a check said. Says whether that is news.
    pub(super) fn checked(&mut self, ready: Result<(), NotReady>) -> bool {
        self.asked &= ready.is_err();
        if ready.is_ok() && self.ready != Some(Ok(())) {
            self.delivery.resume();
        }
        let pause = if ready.is_ok() { CHECK } else { RECHECK.mul_f64(0.5 + clock::jitter() / 2.0) };
        self.check = check(self.target.clone(), pause);
        let ready = Some(ready);
        let news = self.ready != ready;
        self.ready = ready;
        news
    }

    /// Why nothing arrives, whatever a check says: attempts fail again and again.
    pub(super) fn failing(&mut self) -> Option<String> {
        if !self.delivery.is_paused() {
            self.failing = None;
        }
        self.failing.clone()
    }

    /// Entries that patience brings further.
    pub(super) fn moving(&self) -> usize {
        self.delivery.pending() - self.delivery.held_back()
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.batches.is_empty()
    }
}

/// Encodes a batch, sends it, and gives each key its outcome. Who has no Event counts as acked.
async fn attempt(target: Arc<Target>, batch: Vec<(ObjectKey, Option<Event>)>) -> Batch {
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
    let outcomes = keys.into_iter().zip(events.into_iter().map_while(outcome)).collect();
    Batch { target, outcomes }
}

/// Checks the target after a pause.
fn check(target: Arc<Target>, pause: Duration) -> BoxFuture<'static, Result<(), NotReady>> {
    Box::pin(async move {
        tokio::time::sleep(pause).await;
        target.sink.check().await
    })
}
