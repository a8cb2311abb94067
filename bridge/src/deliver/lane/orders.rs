//! What a person orders for keys that are blocked: to try again, or to leave out what blocks them.
//!
//! Before: bridge/src/deliver/lane.rs

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_core::object::ObjectKey;

use super::outlet::Outlet;
use super::{Opened, Source, Worker};
use crate::deliver::{BlockedEvent, NAMED_BLOCKED, RetryOrder};

// === impl Worker ===

impl Worker {
    /// Tries blocked keys again, if that was ordered anew.
    pub(super) fn retry(&mut self, before: Option<&RetryOrder>) {
        let Some(order) = self.aim.orders.retry.clone().filter(|order| before != Some(order)) else { return };
        for outlet in outlets(&mut self.main, &mut self.dead) {
            match &order.key {
                Some(key) => drop(outlet.delivery.unblock_key(key)),
                None => outlet.delivery.unblock(),
            }
        }
        self.named = usize::MAX;
    }

    /// Leaves out those that block a key and are ordered to be left out.
    pub(super) fn skip(&mut self) {
        if self.aim.orders.skip.is_empty() {
            return;
        }
        let mut settled: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for outlet in outlets(&mut self.main, &mut self.dead) {
            let ordered = |opened: &Opened| {
                id(opened, &self.sources).is_some_and(|id| self.aim.orders.skip.contains(&id))
            };
            let keys: Vec<ObjectKey> = outlet.delivery.blocked().keys().cloned().collect();
            for key in keys {
                if !outlet.delivery.blocking(&key).is_some_and(|opened| ordered(opened)) {
                    continue;
                }
                let Some(opened) = outlet.delivery.skip(&key) else { continue };
                let subscription =
                    self.sources.get(&opened.watch).map(|source| &*source.context.subscription);
                let id = id(&opened, &self.sources);
                tracing::warn!(subscription, %key, id, "a rejected event is left out, as it was ordered");
                self.held_bytes -= opened.record.change.size();
                settled.entry(opened.watch).or_default().push(opened.record.number);
            }
        }
        let skipped: usize = settled.values().map(Vec::len).sum();
        self.lock().dropped += skipped as u64;
        self.metrics.dropped.inc_by(skipped as u64);
        self.settled(settled);
        self.named = usize::MAX;
    }

    /// Some of the keys that are blocked, and what blocks them.
    pub(super) fn blocked(&self) -> Vec<BlockedEvent> {
        let blocked = self.outlets().flat_map(|outlet| {
            outlet.delivery.blocked().iter().map(|(key, reason)| BlockedEvent {
                key: key.clone(),
                reason: reason.to_string(),
                id: outlet
                    .delivery
                    .blocking(key)
                    .and_then(|opened| id(opened, &self.sources))
                    .unwrap_or_default(),
            })
        });
        blocked.take(NAMED_BLOCKED).collect()
    }
}

fn outlets<'a>(main: &'a mut Outlet, dead: &'a mut Option<Outlet>) -> impl Iterator<Item = &'a mut Outlet> {
    [Some(main), dead.as_mut()].into_iter().flatten()
}

/// The `id` of its Event.
fn id(opened: &Opened, sources: &BTreeMap<u64, Arc<Source>>) -> Option<String> {
    Some(opened.event(sources)?.id)
}
