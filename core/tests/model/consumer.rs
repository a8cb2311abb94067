//! A consumer that folds what it is told by name, and complains.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidings_core::change::{Change, ChangeKind, Content, Epoch};
use tidings_core::object::{Object, ObjectKey, ResourceVersion, Uid};
use tidings_core::selection::Selection;

use crate::cluster::Event;

#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) selection: Selection,
    /// What it believes to exist.
    pub(crate) holds: BTreeMap<ObjectKey, Arc<Object>>,
    /// The newest (epoch, version) it heard of, by name.
    heard: BTreeMap<ObjectKey, (Epoch, ResourceVersion)>,
    /// The newest sequence it heard, by name: epoch, version, and whether it was a concluded delete.
    sequence: BTreeMap<ObjectKey, (Epoch, ResourceVersion, bool)>,
    dead: Vec<(Epoch, Uid)>,
    /// What left last.
    left: BTreeSet<ObjectKey>,
    /// History is always there to be recovered, so nothing may be marked.
    pub(crate) strict: bool,
    /// Processes crash: what is not newer than what it heard may be a repeat.
    forgiving: bool,
}

impl Consumer {
    pub(crate) fn new(selection: Selection, forgiving: bool) -> Self {
        Self {
            selection,
            holds: BTreeMap::new(),
            heard: BTreeMap::new(),
            sequence: BTreeMap::new(),
            dead: Vec::new(),
            left: BTreeSet::new(),
            strict: false,
            forgiving,
        }
    }

    pub(crate) fn hear(&mut self, change: &Change, history: &[Event]) {
        if self.forgiving {
            return self.fold(change, history);
        }
        let (key, uid) = (change.key().clone(), change.uid().clone());
        let held = self.holds.get(&key).cloned();
        let context = || format!("{change:?}\nheld {held:?}");

        // In order per name, within and across epochs; only a concluded delete may repeat the last version.
        let (epoch, version, concluded) = change.order();
        let now = (epoch, version);
        if let Some(before) = self.heard.get(&key) {
            let leaves = change.kind == ChangeKind::Left;
            // An object that left and is selected again is told in the version it has.
            let returns = self.left.contains(&key);
            // After a version that could not be decoded, what a LIST told already may be repeated.
            let repeats = change.gap && change.kind == ChangeKind::Updated;
            let in_order =
                if concluded || leaves || returns || repeats { *before <= now } else { *before < now };
            assert!(in_order || change.epoch > before.0, "out of order after {before:?}: {}", context());
        }
        self.heard.insert(key.clone(), now);

        if self.strict {
            assert!(!change.gap, "a gap, though everything is still there: {}", context());
            let first = history.iter().find(|event| event.object.meta.uid == uid);
            let begins = first.is_some_and(|first| first.object.meta.resource_version == version);
            assert!(change.kind != ChangeKind::Added || begins, "not the first version: {}", context());
        }
        match change.kind {
            ChangeKind::Snapshot | ChangeKind::Added => {
                assert!(held.is_none(), "told twice that it exists: {}", context());
                assert!(
                    !self.dead.contains(&(change.epoch, uid.clone())),
                    "a uid lives twice: {}",
                    context()
                );
                assert!(self.selects(change), "not selected: {}", context());
            }
            ChangeKind::Updated => {
                let held = held.as_ref().unwrap_or_else(|| panic!("an update of nothing: {}", context()));
                assert_eq!(held.meta.uid, uid, "an update of another life: {}", context());
                assert!(self.selects(change), "not selected: {}", context());
                if !change.gap {
                    Self::assert_next(held, change, history);
                }
            }
            ChangeKind::Deleted | ChangeKind::Left => {
                let held = held.as_ref().unwrap_or_else(|| panic!("the end of nothing: {}", context()));
                assert_eq!(held.meta.uid, uid, "the end of another life: {}", context());
                if change.kind == ChangeKind::Deleted {
                    self.dead.push((change.epoch, uid));
                    if !change.gap {
                        Self::assert_next(held, change, history);
                    }
                }
            }
        }
        if change.kind == ChangeKind::Left {
            self.left.insert(key.clone());
        } else {
            self.left.remove(&key);
        }
        match (&change.content, change.kind) {
            (_, ChangeKind::Deleted | ChangeKind::Left) => {
                self.holds.remove(&key);
            }
            (Content::Object(object), _) => {
                self.holds.insert(key, object.clone());
            }
            (Content::Identity { .. }, _) => panic!("an object without content: {}", context()),
        }
    }

    fn selects(&self, change: &Change) -> bool {
        change.meta().is_some_and(|meta| self.selection.selects(meta))
    }

    /// The rule for a consumer that hears things again: by name, what has a lower sequence is ignored.
    fn fold(&mut self, change: &Change, history: &[Event]) {
        let (key, sequence) = (change.key(), change.order());
        if self.sequence.get(key).is_some_and(|heard| sequence < *heard) {
            return;
        }
        self.sequence.insert(key.clone(), sequence);
        if let Some(held) = self.holds.get(key)
            && held.meta.uid == *change.uid()
            && matches!(change.kind, ChangeKind::Updated | ChangeKind::Deleted)
            && !change.gap
        {
            Self::assert_next(held, change, history);
        }
        match (&change.content, change.kind) {
            (_, ChangeKind::Deleted | ChangeKind::Left) => drop(self.holds.remove(key)),
            (Content::Object(object), _) => drop(self.holds.insert(key.clone(), object.clone())),
            (Content::Identity { .. }, _) => panic!("an object without content: {change:?}"),
        }
    }

    /// What is not marked as a gap follows directly on what was told before.
    fn assert_next(held: &Object, change: &Change, history: &[Event]) {
        let Content::Object(told) = &change.content else { return };
        if !history.iter().any(|event| event.object == *told) {
            // It was decided before a rewind took it out of history, and waited since.
            return;
        }
        let range = held.meta.resource_version.0 + 1..told.meta.resource_version.0;
        let between = history
            .iter()
            .filter(|event| event.object.meta.uid == held.meta.uid && range.contains(&event.version()));
        assert_eq!(between.count(), 0, "versions between {held:?} and {told:?} were not told");
    }
}
