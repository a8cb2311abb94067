//! What survives a crash: differences that were stored, the Journal, and the told log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidings_core::change::{Change, ChangeKind};
use tidings_core::known::{Entry, Slot};
use tidings_core::object::ObjectKey;
use tidings_core::watch::Watch;
use tidings_core::watch::saved::{Doubt, Head, Saved, Told};

/// The store and the Journal, whose newest part is lost in a crash.
#[derive(Default)]
pub(crate) struct Disk {
    head: Head,
    known: BTreeMap<ObjectKey, Entry>,
    views: BTreeMap<(Slot, ObjectKey), Told>,
    told_log: Vec<Doubt>,
    /// Per Subscription, what it was not told yet, and whether that is stored.
    journal: BTreeMap<Slot, VecDeque<(Arc<Change>, bool)>>,
}

impl Disk {
    /// A Change was decided; before anybody is told, the told log has it.
    pub(crate) fn decided(&mut self, change: &Arc<Change>, to: &[Slot]) {
        for slot in to {
            self.journal.entry(*slot).or_default().push_back((change.clone(), false));
            let enters_or_leaves =
                matches!(change.kind, ChangeKind::Added | ChangeKind::Snapshot | ChangeKind::Left);
            if let Some(meta) = change.meta().filter(|_| enters_or_leaves) {
                let generation = meta.generation.unwrap_or_default();
                let (uid, version, epoch) = (meta.uid.clone(), meta.resource_version, change.epoch);
                let told = Told { uid, version, epoch, generation };
                self.told_log.push(Doubt { slot: *slot, key: meta.key.clone(), told });
            }
        }
    }

    /// What this Subscription is told next.
    pub(crate) fn deliver(&mut self, slot: Slot) -> Option<Arc<Change>> {
        self.journal.get_mut(&slot)?.pop_front().map(|(change, _)| change)
    }

    pub(crate) fn forget(&mut self, slot: Slot) {
        self.journal.remove(&slot);
    }

    /// Everything up to now is stored, in one transaction.
    pub(crate) fn flush(&mut self, machine: &mut Watch) {
        let (head, difference) = machine.take_difference();
        self.head = head;
        for (key, entry) in difference.known {
            match entry {
                Some(entry) => drop(self.known.insert(key, entry)),
                None => drop(self.known.remove(&key)),
            }
        }
        self.views.retain(|(slot, _), _| !difference.emptied.contains(slot));
        for (slot, key, told) in difference.views {
            match told {
                Some(told) => drop(self.views.insert((slot, key), told)),
                None => drop(self.views.remove(&(slot, key))),
            }
        }
        self.journal.values_mut().flatten().for_each(|(_, stored)| *stored = true);
        self.told_log.clear();
    }

    /// The machine of the next process.
    pub(crate) fn crash(&mut self) -> Watch {
        self.journal.values_mut().for_each(|entries| entries.retain(|(_, stored)| *stored));
        let known = self.known.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect();
        let views = self.views.iter().map(|((slot, key), told)| (*slot, key.clone(), told.clone())).collect();
        Watch::restore(self.head.clone(), Saved { known, views }, self.told_log.iter().cloned())
    }
}
