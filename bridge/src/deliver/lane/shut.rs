//! The keys that are shut, because the sink refused an Event of theirs: what waits on them is with the Journals again, so that
//! it takes no memory, and of each only the number is kept.
//!
//! Before: bridge/src/deliver/lane/answers.rs
//! Next: bridge/src/deliver/lane/orders.rs

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidings_core::object::ObjectKey;

use super::{Opened, Source};
use crate::deliver::BlockedEvent;

#[derive(Default)]
pub(super) struct Shut {
    keys: BTreeMap<ObjectKey, Waiting>,
}

/// What waits on one key.
struct Waiting {
    /// The `id` of the Event that was refused.
    id: String,
    reason: String,
    /// Watch and number of each Change, in order: the first is the one that was refused.
    changes: Vec<(u64, u64)>,
}

// === impl Shut ===

impl Shut {
    /// Shuts a key: the first of `entries` was refused. The Journals have them back.
    pub(super) fn shut(&mut self, entries: &[Arc<Opened>], reason: String, sources: &Sources) {
        let Some(refused) = entries.first() else { return };
        let key = refused.record.change.key().clone();
        let id = refused.event(sources).map(|event| event.id).unwrap_or_default();
        let changes: Vec<_> = entries.iter().map(|entry| (entry.watch, entry.record.number)).collect();
        each_source(sources, &changes, |source, numbers| source.journal.give_back(source.slot, numbers));
        self.keys.insert(key, Waiting { id, reason, changes });
    }

    /// Gives what was taken of a shut key back at once. Says whether the key is one.
    pub(super) fn keeps_out(&mut self, key: &ObjectKey, source: &Source, number: u64) -> bool {
        let Some(waiting) = self.keys.get_mut(key) else { return false };
        source.journal.give_back(source.slot, &[number]);
        waiting.changes.push((source.watch, number));
        true
    }

    /// What waits on the key is taken again.
    pub(super) fn open(&mut self, key: &ObjectKey, sources: &Sources) {
        if let Some(waiting) = self.keys.remove(key) {
            ask_again(&waiting.changes, sources);
        }
    }

    /// The same for every key.
    pub(super) fn open_all(&mut self, sources: &Sources) {
        for waiting in std::mem::take(&mut self.keys).into_values() {
            ask_again(&waiting.changes, sources);
        }
    }

    /// Opens the keys whose Event is to be left out, and says which Changes are settled by that, with their key and id.
    pub(super) fn skip(
        &mut self,
        ids: &BTreeSet<String>,
        sources: &Sources,
    ) -> Vec<(ObjectKey, String, (u64, u64))> {
        let ordered = self.keys.extract_if(.., |_, waiting| ids.contains(&waiting.id));
        let ordered = ordered.filter_map(|(key, waiting)| {
            let (refused, behind) = waiting.changes.split_first()?;
            ask_again(behind, sources);
            Some((key, waiting.id, *refused))
        });
        ordered.collect()
    }

    /// Nothing of this Watch waits any more.
    pub(super) fn leave(&mut self, watch: u64, sources: &Sources) {
        let mut open = Vec::new();
        for (key, waiting) in &mut self.keys {
            let refused = waiting.changes.first().is_some_and(|(of, _)| *of == watch);
            waiting.changes.retain(|(of, _)| *of != watch);
            open.extend(refused.then(|| key.clone()));
        }
        for key in open {
            self.open(&key, sources);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys, and what was refused of them.
    pub(super) fn named(&self) -> impl Iterator<Item = BlockedEvent> {
        self.keys.iter().map(|(key, Waiting { id, reason, .. })| BlockedEvent {
            key: key.clone(),
            id: id.clone(),
            reason: reason.clone(),
        })
    }
}

/// Where Changes come from, by Watch.
pub(super) type Sources = BTreeMap<u64, Arc<Source>>;

fn ask_again(changes: &[(u64, u64)], sources: &Sources) {
    each_source(sources, changes, |source, numbers| source.journal.ask_again(source.slot, numbers));
}

/// Calls `each` with every source that has some of the Changes, and their numbers there.
fn each_source(sources: &Sources, changes: &[(u64, u64)], each: impl Fn(&Source, &[u64])) {
    let mut numbers: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (watch, number) in changes {
        numbers.entry(*watch).or_default().push(*number);
    }
    for (watch, numbers) in numbers {
        if let Some(source) = sources.get(&watch) {
            each(source, &numbers);
        }
    }
}
