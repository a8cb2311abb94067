//! What a person orders for keys that are blocked: to try again, or to leave out what blocks them.
//!
//! Before: bridge/src/deliver/lane/shut.rs

use std::collections::BTreeMap;

use tidings_core::delivery::Delivery;
use tidings_core::object::ObjectKey;

use super::shut::Sources;
use super::{Opened, Worker};
use crate::deliver::{BlockedEvent, NAMED_BLOCKED, RetryOrder};

// === impl Worker ===

impl Worker {
    /// Tries blocked keys again, if that was ordered anew.
    pub(super) fn retry(&mut self, before: Option<&RetryOrder>) {
        let Some(order) = self.aim.orders.retry.clone().filter(|order| before != Some(order)) else { return };
        let dead = self.dead.as_mut().map(|dead| &mut dead.delivery);
        if let Some(key) = &order.key {
            self.shut.open(key, &self.sources);
            dead.map(|dead| dead.unblock_key(key));
        } else {
            self.shut.open_all(&self.sources);
            dead.map(Delivery::unblock);
        }
        self.unnamed = true;
    }

    /// Leaves out those that block a key and are ordered to be left out.
    pub(super) fn skip(&mut self) {
        if self.aim.orders.skip.is_empty() {
            return;
        }
        let mut skipped = self.shut.skip(&self.aim.orders.skip, &self.sources);
        if let Some(dead) = &mut self.dead {
            let keys: Vec<ObjectKey> = dead.delivery.blocked().keys().cloned().collect();
            for key in keys {
                let id = dead.delivery.blocking(&key).and_then(|opened| id(opened, &self.sources));
                if let Some(id) = id.filter(|id| self.aim.orders.skip.contains(id))
                    && let Some(opened) = dead.delivery.skip(&key)
                {
                    self.held_bytes -= opened.record.change.size();
                    skipped.push((key, id, (opened.watch, opened.record.number)));
                }
            }
        }
        self.lock().dropped += skipped.len() as u64;
        self.metrics.dropped.inc_by(skipped.len() as u64);
        let mut settled: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (key, id, (watch, number)) in skipped {
            let subscription = self.sources.get(&watch).map(|source| &*source.context.subscription);
            tracing::warn!(subscription, %key, id, "a rejected event is left out, as it was ordered");
            settled.entry(watch).or_default().push(number);
        }
        self.settled(settled);
        self.unnamed = true;
    }

    /// Some of the keys that are blocked, and what blocks them.
    pub(super) fn blocked(&self) -> Vec<BlockedEvent> {
        let of_dead = self.dead.iter().flat_map(|dead| {
            dead.delivery.blocked().iter().map(|(key, reason)| {
                let id = dead.delivery.blocking(key).and_then(|opened| id(opened, &self.sources));
                BlockedEvent { key: key.clone(), reason: reason.to_string(), id: id.unwrap_or_default() }
            })
        });
        self.shut.named().chain(of_dead).take(NAMED_BLOCKED).collect()
    }
}

/// The `id` of its Event.
fn id(opened: &Opened, sources: &Sources) -> Option<String> {
    Some(opened.event(sources)?.id)
}
