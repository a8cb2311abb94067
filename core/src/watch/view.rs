//! What one Subscription was told, by name, while Known cannot say it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::saved::Told;
use crate::change::Epoch;
use crate::known::{Entry, Slot, Slots};
use crate::object::{Meta, ObjectKey, ResourceVersion};
use crate::selection::Selection;

/// What one Subscription was told, by name, in the order of names.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    told: BTreeMap<ObjectKey, Told>,
    /// Names that the stream alone continues, whatever a LIST showed or did not show.
    streamed: Streamed,
    /// What changed since the last difference was taken; all of it where that was never done.
    noted: Option<BTreeSet<ObjectKey>>,
}

/// Names of which no LIST has to tell first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streamed {
    /// Their life ended in the stream while the view was in use: what comes next under them is news.
    continued: BTreeSet<ObjectKey>,
    /// What was selected, one after the other, since the view had everything of the first.
    steady: Vec<Selection>,
    /// Versions of these were left out, because they were not selected at that time.
    missed: BTreeSet<ObjectKey>,
    /// For each of these the version at which the view had everything of it, but for what was streamed even then. Forgotten
    /// by a crash, after which what came and went before is told.
    #[serde(skip)]
    since: Vec<Option<ResourceVersion>>,
    /// What was left to the stream then: nothing of these was told by a LIST, so the stream tells all of it. Forgotten by a
    /// crash too.
    #[serde(skip)]
    open: BTreeSet<ObjectKey>,
}

/// How a view is to be changed where it is stored.
pub(super) struct ViewDifference {
    /// What is stored there goes first.
    pub(super) whole: bool,
    pub(super) entries: Vec<(ObjectKey, Option<Told>)>,
}

// === impl Streamed ===

impl Streamed {
    /// These names, and what was selected by each of these all the time.
    pub fn new(
        continued: impl IntoIterator<Item = ObjectKey>,
        steady: impl IntoIterator<Item = Selection>,
    ) -> Self {
        let (continued, steady) = (continued.into_iter().collect(), steady.into_iter().collect());
        Self { continued, steady, ..Self::default() }
    }

    /// Since when the name was selected all the time, whatever its labels, and the view had it if it existed.
    fn steady_since(&self, key: &ObjectKey) -> Option<ResourceVersion> {
        let since = |at: usize| match self.since.get(at) {
            Some(Some(since)) => Some(*since),
            _ if at == 0 => Some(ResourceVersion::default()),
            _ => None,
        };
        let selected = |at: &usize| self.steady[*at].always_selects(key);
        (0..self.steady.len()).rev().take_while(selected).filter_map(since).last()
    }
}

// === impl View ===

impl View {
    /// What was stored.
    pub(super) fn restore(told: BTreeMap<ObjectKey, Told>, streamed: Streamed) -> Self {
        Self { told, streamed, noted: Some(BTreeSet::new()) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Told> {
        self.told.get(key)
    }

    pub(super) fn insert(&mut self, key: ObjectKey, told: Told) {
        self.note(&key);
        self.told.insert(key, told);
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Told> {
        self.note(key);
        self.told.remove(key)
    }

    /// The stream said that the life under this name is over.
    pub(super) fn end(&mut self, key: &ObjectKey) -> Option<Told> {
        self.streamed.continued.insert(key.clone());
        self.remove(key)
    }

    /// A LIST showed that what was told is not selected any more: what the stream brings of it up to that LIST is past.
    pub(super) fn leave(&mut self, key: &ObjectKey) {
        self.streamed.continued.remove(key);
        self.remove(key);
    }

    /// A LIST is asked for now. It will show what became of the lives that ended until now, also of names that the stream
    /// has passed since, because they were not selected.
    pub(super) fn begin_list(&mut self) {
        self.streamed.continued.clear();
    }

    /// The Subscription had everything of this selection `since` a version, or of what was decided, when it was edited. A
    /// view that never had everything of any says nothing of that. `open` are names that it left to the stream all the same.
    pub(super) fn keep_steady(
        &mut self,
        selection: &Selection,
        since: Option<ResourceVersion>,
        open: impl IntoIterator<Item = ObjectKey>,
    ) {
        let Streamed { steady, since: known, continued, open: streamed, .. } = &mut self.streamed;
        if since.is_some() || !steady.is_empty() {
            streamed.extend(continued.iter().cloned());
            streamed.extend(open);
            // What was restored had everything of the first.
            known.resize_with(steady.len(), || None);
            steady.push(selection.clone());
            known.push(since);
        }
    }

    /// The Subscription is edited: until now, `since` a version, it had everything of `before` but what is `open`; see
    /// [`keep_steady`](Self::keep_steady).
    pub(super) fn edit(
        &mut self,
        before: &Selection,
        since: Option<ResourceVersion>,
        open: impl IntoIterator<Item = ObjectKey>,
        selection: &Selection,
    ) {
        self.keep_steady(before, since, open);
        self.begin_selection(selection);
    }

    /// This is selected from now on. Where labels decide, a LIST has to say who is a member at its version: the stream may be
    /// far behind, and what it shows of others is past.
    fn begin_selection(&mut self, selection: &Selection) {
        let Streamed { steady, since, .. } = &mut self.streamed;
        if selection.has_labels() && !steady.is_empty() {
            since.resize_with(steady.len(), || None);
            steady.push(selection.clone());
            since.push(None);
        }
    }

    /// Whether the stream goes on with this name: no LIST has to come before.
    pub(super) fn follows(&self, key: &ObjectKey) -> bool {
        self.told.contains_key(key) || self.is_streamed(key)
    }

    /// Whether the stream alone says what exists under this name.
    pub(super) fn is_streamed(&self, key: &ObjectKey) -> bool {
        self.streamed.continued.contains(key) || self.streamed.steady_since(key).is_some()
    }

    /// Whether this version of a name that is not in the view came and went before the view began.
    pub(super) fn is_past(&self, key: &ObjectKey, version: ResourceVersion) -> bool {
        let Streamed { continued, open, .. } = &self.streamed;
        // What comes next under a name that the stream went on with is news, whatever its version.
        let streamed = continued.contains(key) || open.contains(key);
        !streamed && self.streamed.steady_since(key).is_some_and(|since| version <= since)
    }

    /// Whether versions before this one may have been members of what was selected before the edit, and are told by nobody:
    /// those after the view had everything of that, where labels decide now.
    pub(super) fn may_have_missed(&self, meta: &Meta) -> bool {
        let Streamed { steady, since, .. } = &self.streamed;
        let newest_first = (0..steady.len()).rev().map(|at| (at, since.get(at).copied().flatten()));
        for (at, since) in newest_first.take_while(|(at, _)| steady[*at].may_select(&meta.key)) {
            match since {
                Some(since) => return meta.resource_version > since,
                // What was restored had everything of the first, at a version that is not known any more.
                None if at == 0 => return true,
                None => {}
            }
        }
        false
    }

    /// A version of this name is left out.
    pub(super) fn miss(&mut self, key: &ObjectKey) {
        self.streamed.missed.insert(key.clone());
    }

    /// A version of any name may be left out.
    pub(super) fn miss_all(&mut self) {
        self.streamed.missed.extend(self.told.keys().cloned());
    }

    /// Whether versions of this name were left out; it is asked once.
    pub(super) fn take_missed(&mut self, key: &ObjectKey) -> bool {
        self.streamed.missed.remove(key)
    }

    /// The names of which versions were left out, with what was told before.
    pub(super) fn missed(&self) -> impl Iterator<Item = (&ObjectKey, &Told)> {
        self.streamed.missed.iter().filter_map(|key| self.told.get_key_value(key))
    }

    pub(super) fn streamed(&self) -> &Streamed {
        &self.streamed
    }

    /// Takes out what `gone` says, in the order of names.
    pub(super) fn take_if(&mut self, gone: impl Fn(&ObjectKey, &Told) -> bool) -> Vec<(ObjectKey, Told)> {
        let keys: Vec<_> =
            self.told.iter().filter(|(key, told)| gone(key, told)).map(|(key, _)| key.clone()).collect();
        keys.into_iter().filter_map(|key| self.remove(&key).map(|told| (key, told))).collect()
    }

    pub(super) fn into_told(self) -> BTreeMap<ObjectKey, Told> {
        self.told
    }

    /// What changed since this was asked last.
    pub(super) fn take_difference(&mut self) -> ViewDifference {
        match self.noted.replace(BTreeSet::new()) {
            None => {
                let entries = self.told.iter().map(|(key, told)| (key.clone(), Some(told.clone())));
                ViewDifference { whole: true, entries: entries.collect() }
            }
            Some(noted) => {
                let present = |key: ObjectKey| {
                    let told = self.told.get(&key).cloned();
                    (key, told)
                };
                ViewDifference { whole: false, entries: noted.into_iter().map(present).collect() }
            }
        }
    }

    fn note(&mut self, key: &ObjectKey) {
        if let Some(noted) = &mut self.noted {
            noted.insert(key.clone());
        }
    }
}

impl FromIterator<(ObjectKey, Told)> for View {
    fn from_iter<T: IntoIterator<Item = (ObjectKey, Told)>>(told: T) -> Self {
        Self { told: told.into_iter().collect(), ..Self::default() }
    }
}

// === impl Told ===

impl Told {
    /// What is told of `meta` in `epoch`.
    pub(super) fn at(meta: &Meta, epoch: Epoch) -> Self {
        let (uid, version) = (meta.uid.clone(), meta.resource_version);
        Self { uid, version, epoch, generation: meta.generation.unwrap_or_default() }
    }

    /// What those were told who have their bit in `entry`.
    pub(super) fn of(entry: &Entry) -> Self {
        let Entry { uid, version, epoch, generation, .. } = entry;
        Self { uid: uid.clone(), version: *version, epoch: *epoch, generation: *generation }
    }

    /// The same as an entry of Known that no snapshot has seen, and that may have missed a version.
    pub(super) fn into_entry(self, slot: Slot) -> Entry {
        let Self { uid, version, epoch, generation } = self;
        let mut told = Slots::default();
        told.insert(slot);
        Entry { uid, version, epoch, generation, told, seen: 0, skipped: true }
    }

    /// Whether `meta`, in `epoch`, is later.
    pub(super) fn is_before(&self, meta: &Meta, epoch: Epoch) -> bool {
        (self.epoch, self.version) < (epoch, meta.resource_version)
    }

    /// Whether `meta`, in `epoch`, is earlier.
    pub(super) fn is_after(&self, meta: &Meta, epoch: Epoch) -> bool {
        (self.epoch, self.version) > (epoch, meta.resource_version)
    }

    /// How many generations lie between what was told and `meta`, without either.
    pub(super) fn missed(&self, meta: &Meta) -> u64 {
        match meta.generation {
            Some(generation) if self.generation > 0 => generation.saturating_sub(self.generation + 1),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::object::Uid;
    use crate::selection::Namespaces;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Some("shop"), name)
    }

    #[test]
    fn what_the_stream_goes_on_with_is_not_past_however_old_it_is() {
        let shop = Selection::of(Namespaces::Only(BTreeSet::from(["shop".to_owned()])));
        let told = Told { uid: Uid::new("u"), version: ResourceVersion(1), epoch: Epoch(0), generation: 0 };
        let mut view: View = [(key("before"), told.clone()), (key("after"), told)].into_iter().collect();
        view.end(&key("before"));
        view.keep_steady(&shop, Some(ResourceVersion(600)), [key("doubted")]);
        view.begin_list();
        view.end(&key("after"));
        let past = |name: &str, version| view.is_past(&key(name), ResourceVersion(version));
        assert!(past("other", 600) && !past("other", 601));
        // Its LIST left these to the stream: lives that ended there, before the edit or after it, and doubts.
        assert_eq!(["before", "after", "doubted"].map(|name| past(name, 500)), [false; 3]);
    }
}
