//! The life of Events towards one Sink: which Message is tried when, in order per key, until it is settled.
//!
//! Before: core/src/event.rs
//! Next: core/src/cursor.rs

mod outcome;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::RandomState;

pub use outcome::{Outcome, Policy, Rejection, Resort, Verdict};

use crate::object::ObjectKey;

/// How long to wait before the next attempt: doubled from `first` to `max`, half of it at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// Never longer.
    pub max: Duration,
}

/// What is to be delivered, in order per key: a key is in one batch at a time, and what fails is tried again before
/// anything later of its key. Times are durations since any fixed moment.
#[derive(Debug)]
pub struct Delivery<T> {
    backoff: Backoff,
    queues: HashMap<ObjectKey, Queue<T>, RandomState>,
    ready: VecDeque<ObjectKey>,
    /// Keys that wait for their next attempt, by time.
    waiting: BTreeSet<(Duration, ObjectKey)>,
    blocked: BTreeMap<ObjectKey, Rejection>,
    /// The sink as a whole is in trouble: nothing is tried before this moment.
    paused_until: Duration,
    /// Batches in a row of which nothing was acked.
    failed_batches: u32,
    pending: usize,
    in_flight: usize,
}

#[derive(Debug)]
struct Queue<T> {
    entries: VecDeque<T>,
    /// Failures in a row of the first entry.
    failures: u32,
}

/// A batch that is being taken in.
struct Round<T> {
    now: Duration,
    jitter: f64,
    /// Nothing of it was acked.
    failed: bool,
    verdicts: Vec<Verdict<T>>,
    /// Keys that are tried again at once.
    again: Vec<ObjectKey>,
}

// === impl Backoff ===

impl Backoff {
    /// The delay after `failures` failures in a row (from 1); `jitter` is random in 0..1.
    pub fn delay(self, failures: u32, jitter: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(self.max).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

// === impl Delivery ===

impl<T: Clone> Delivery<T> {
    /// Nothing to deliver yet.
    pub fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            queues: HashMap::default(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            blocked: BTreeMap::new(),
            paused_until: Duration::ZERO,
            failed_batches: 0,
            pending: 0,
            in_flight: 0,
        }
    }

    /// Adds an entry behind everything of its key.
    pub fn push(&mut self, key: &ObjectKey, entry: T) {
        self.pending += 1;
        if let Some(queue) = self.queues.get_mut(key) {
            queue.entries.push_back(entry);
        } else {
            self.queues.insert(key.clone(), Queue { entries: [entry].into(), failures: 0 });
            self.ready.push_back(key.clone());
        }
    }

    /// Up to `most` entries to be tried now, of each key up to `of_key` in order, side by side. Every one of them is to be
    /// reported, in this order. More than one of a key is for a sink that keeps their order whatever happens.
    pub fn take(&mut self, now: Duration, most: usize, of_key: usize) -> Vec<(ObjectKey, T)> {
        if now < self.paused_until {
            return Vec::new();
        }
        while let Some(first) = self.waiting.first()
            && first.0 <= now
        {
            self.ready.extend(self.waiting.pop_first().map(|(_, key)| key));
        }
        // A sink that just failed is tried with little before it gets a full window again.
        let most = if self.failed_batches > 0 { most.min(1).saturating_sub(self.in_flight) } else { most };
        let mut batch = Vec::with_capacity(most.min(self.ready.len()));
        while batch.len() < most
            && let Some(key) = self.ready.pop_front()
        {
            if let Some(queue) = self.queues.get(&key) {
                let of_key = of_key.min(most - batch.len());
                batch.extend(queue.entries.iter().take(of_key).map(|entry| (key.clone(), entry.clone())));
            }
        }
        self.in_flight += batch.len();
        batch
    }

    /// Takes in what became of a batch that [`Delivery::take`] gave. What came behind a failure of its own key is tried again
    /// behind it, whatever became of it.
    pub fn report(
        &mut self,
        batch: Vec<(ObjectKey, Outcome)>,
        now: Duration,
        jitter: f64,
        policy: &mut impl Policy<T>,
    ) -> Vec<Verdict<T>> {
        self.in_flight = self.in_flight.saturating_sub(batch.len());
        let failed =
            !batch.is_empty() && batch.iter().all(|(_, outcome)| matches!(outcome, Outcome::Retry { .. }));
        if failed {
            self.failed_batches += 1;
            self.paused_until = self.paused_until.max(now + self.backoff.delay(self.failed_batches, jitter));
        } else if !batch.is_empty() {
            (self.failed_batches, self.paused_until) = (0, Duration::ZERO);
        }
        let verdicts = Vec::with_capacity(batch.len());
        let mut round = Round { now, jitter, failed, verdicts, again: Vec::new() };
        let mut stuck = None;
        let mut batch = batch.into_iter().peekable();
        while let Some((key, outcome)) = batch.next() {
            if stuck.as_ref() == Some(&key) {
                continue;
            }
            if !self.settle(&key, outcome, policy, &mut round) {
                stuck = Some(key);
                continue;
            }
            self.pending -= 1;
            if batch.peek().is_none_or(|(next, _)| *next != key) {
                if self.queues.get(&key).is_some_and(|queue| queue.entries.is_empty()) {
                    self.queues.remove(&key);
                } else {
                    self.ready.push_back(key);
                }
            }
        }
        round.again.into_iter().rev().for_each(|key| self.ready.push_front(key));
        round.verdicts
    }

    /// Takes in one outcome. Says whether the entry is settled.
    fn settle(
        &mut self,
        key: &ObjectKey,
        outcome: Outcome,
        policy: &mut impl Policy<T>,
        round: &mut Round<T>,
    ) -> bool {
        let Some(queue) = self.queues.get_mut(key) else { return false };
        let Some(entry) = queue.entries.front_mut() else { return false };
        let refused = match outcome {
            Outcome::Acked => None,
            Outcome::Rejected { reason } => Some(reason),
            Outcome::Retry { reason, after } => {
                queue.failures += 1;
                let given_up = policy.gives_up(entry, queue.failures, &reason);
                if given_up.is_none() {
                    round.verdicts.push(Verdict::Retrying { entry: entry.clone(), reason });
                    // Where everything failed, the pause of the sink is the backoff of the key.
                    let backoff = self.backoff.delay(queue.failures, round.jitter);
                    let delay = if round.failed { Duration::ZERO } else { backoff };
                    let delay = delay.max(after.unwrap_or_default());
                    if delay.is_zero() {
                        round.again.push(key.clone());
                    } else {
                        self.waiting.insert((round.now + delay, key.clone()));
                    }
                    return false;
                }
                given_up
            }
        };
        let left = match refused {
            None => None,
            Some(reason) => match policy.resort(entry, &reason) {
                Resort::Drop => Some((reason, false)),
                Resort::Aside => Some((reason, true)),
                Resort::Instead(other) => {
                    *entry = other;
                    round.again.push(key.clone());
                    return false;
                }
                Resort::Withdraw => {
                    let entries: Vec<_> = std::mem::take(&mut queue.entries).into();
                    self.pending -= entries.len();
                    self.queues.remove(key);
                    round.verdicts.push(Verdict::Withdrawn { entries, reason });
                    return false;
                }
                Resort::Block => {
                    round.verdicts.push(Verdict::Blocked { entry: entry.clone(), reason: reason.clone() });
                    self.blocked.insert(key.clone(), reason);
                    return false;
                }
            },
        };
        // Attempts that were given up are counted already, one that was refused is not.
        let given_up = matches!(left, Some((Rejection::GivenUp(_), _)));
        let attempts = std::mem::take(&mut queue.failures) + u32::from(!given_up);
        round.verdicts.extend(queue.entries.pop_front().map(|entry| match left {
            None => Verdict::Settled(entry),
            Some((reason, false)) => Verdict::Dropped { entry, reason },
            Some((reason, true)) => Verdict::Aside { entry, reason, attempts },
        }));
        true
    }

    /// Tries the blocked keys again, and those that wait for their next attempt, because something about the sink or the
    /// shape of Events changed.
    pub fn unblock(&mut self) {
        self.ready.extend(std::mem::take(&mut self.blocked).into_keys());
        self.ready.extend(std::mem::take(&mut self.waiting).into_iter().map(|(_, key)| key));
    }

    /// Tries one of them again. Says whether it was blocked.
    pub fn unblock_key(&mut self, key: &ObjectKey) -> bool {
        let blocked = self.blocked.remove(key).is_some();
        self.ready.extend(blocked.then(|| key.clone()));
        blocked
    }

    /// Takes out the entry that blocks its key, and goes on with what follows.
    pub fn skip(&mut self, key: &ObjectKey) -> Option<T> {
        self.blocked.remove(key)?;
        let queue = self.queues.get_mut(key)?;
        let entry = queue.entries.pop_front()?;
        queue.failures = 0;
        self.pending -= 1;
        if queue.entries.is_empty() {
            self.queues.remove(key);
        } else {
            self.ready.push_back(key.clone());
        }
        Some(entry)
    }

    /// What blocks the key.
    pub fn blocking(&self, key: &ObjectKey) -> Option<&T> {
        self.blocked.contains_key(key).then(|| self.queues.get(key)?.entries.front()).flatten()
    }

    /// Whether the last batch failed as a whole, so that the sink is in trouble and nothing is tried for a while.
    pub fn is_paused(&self) -> bool {
        self.failed_batches > 0
    }

    /// How many batches in a row failed as a whole.
    pub fn failed_batches(&self) -> u32 {
        self.failed_batches
    }

    /// The sink is well again: it is tried at once, with little at first, as after any pause.
    pub fn resume(&mut self) {
        self.paused_until = Duration::ZERO;
    }

    /// The keys that are held back for ever, and why.
    pub fn blocked(&self) -> &BTreeMap<ObjectKey, Rejection> {
        &self.blocked
    }

    /// Entries that wait behind, or are, a rejected one: no patience brings them further.
    pub fn held_back(&self) -> usize {
        self.blocked.keys().filter_map(|key| self.queues.get(key)).map(|queue| queue.entries.len()).sum()
    }

    /// When there may be something to take that cannot be taken now, unless a report comes first.
    pub fn next_attempt(&self) -> Option<Duration> {
        if self.ready.is_empty() {
            self.waiting.first().map(|(at, _)| (*at).max(self.paused_until))
        } else {
            Some(self.paused_until)
        }
    }

    /// Entries not settled, whatever holds them.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Entries taken and not yet reported.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }
}

#[cfg(test)]
#[path = "delivery/tests.rs"]
mod tests;
