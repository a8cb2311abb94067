//! What a Watch keeps of each Subscription: how it joins, is edited and leaves.
//!
//! A Subscription that follows is described by its bits in Known. While it is not (yet) told everything the
//! Watch has decided, or is already told more, it has a *view* of its own: what it was told, by name. A LIST
//! gives it the present at one version S. Names it was told of before go on as the stream says; of others, what
//! the LIST showed comes first and only newer changes follow, and what the LIST did not show begins after S. When
//! the Watch has passed S, view and Known agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::saved::Told;
use super::view::View;
use super::{Effect, Stream, Watch};
use crate::change::{ChangeKinds, Epoch};
use crate::known::Slot;
use crate::object::{Object, ObjectKey, ResourceVersion};
use crate::selection::Selection;

/// A Subscription on this Watch.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    pub(super) selection: Selection,
    pub(super) on: ChangeKinds,
    /// It was never yet told everything that exists.
    pub(super) fresh: bool,
    pub(super) phase: Phase,
    /// The store has a view of it.
    pub(super) stored: bool,
}

/// Who follows, by slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Followers(Vec<Option<Follower>>);

/// Where the knowledge of what it was told is kept.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// In Known, as its bit.
    Following,
    /// In a view of its own, while a LIST brings what exists. Changes of names that are not in the view wait.
    /// Complete → `Seam`; a snapshot of the Watch takes over → `Seam`.
    Listing {
        list: u32,
        /// The newest version when the LIST was asked for: it cannot be older, unless history went back.
        since: ResourceVersion,
        view: View,
        held: BTreeMap<ObjectKey, Vec<Held>>,
    },
    /// In a view of its own, until the Watch has passed `floor`, the version of the LIST → `Following`; or,
    /// in a snapshot, until that is complete → `Following`, or `Listing` when it came after the start.
    Seam { floor: ResourceVersion, view: View, relist: bool },
}

/// News that came while a LIST was under way.
#[derive(Clone, Debug)]
pub(super) enum Held {
    Present {
        object: Arc<Object>,
        epoch: Epoch,
        /// A version before it could not be decoded.
        skipped: bool,
    },
    Deleted {
        object: Arc<Object>,
        epoch: Epoch,
        skipped: bool,
    },
}

// === impl Followers ===

impl Followers {
    /// Every slot there is, taken or free.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.0.len()).map(Slot)
    }

    /// Everybody, in the order of slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Follower)> {
        self.0.iter().enumerate().filter_map(|(slot, follower)| Some((Slot(slot), follower.as_ref()?)))
    }

    /// The same, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Follower)> {
        self.0.iter_mut().enumerate().filter_map(|(slot, follower)| Some((Slot(slot), follower.as_mut()?)))
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Follower> {
        self.0.get(slot.0)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Follower> {
        self.0.get_mut(slot.0)?.as_mut()
    }

    /// Puts a follower in the place of whoever was there.
    pub(super) fn insert(&mut self, slot: Slot, follower: Follower) {
        if self.0.len() <= slot.0 {
            self.0.resize(slot.0 + 1, None);
        }
        self.0[slot.0] = Some(follower);
    }

    /// Frees the slot.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<Follower> {
        self.0.get_mut(slot.0)?.take()
    }
}

// === impl Phase ===

impl Phase {
    /// The floor of a Seam that begins without a LIST: a snapshot has yet to show what exists.
    pub(super) const NOWHERE: ResourceVersion = ResourceVersion(0);
    /// The floor of a Seam whose LIST was not completed: a snapshot shows the rest.
    pub(super) const EVERYWHERE: ResourceVersion = ResourceVersion(u64::MAX);

    /// A LIST begins; nothing waits for it yet.
    pub(super) fn listing(list: u32, since: ResourceVersion, view: View) -> Self {
        Self::Listing { list, since, view, held: BTreeMap::new() }
    }
}

// === impl Follower ===

impl Follower {
    /// It was told everything that existed at one version, and hears what comes next. Who parts does not: it leaves as soon
    /// as it was told that everything is gone, and waits for nothing.
    pub(super) fn is_continued(&self) -> bool {
        self.complete_since().is_some() && self.selection != Selection::NOTHING
    }

    /// The version at which it was told everything that existed, as far as that is later than what was decided.
    pub(super) fn complete_since(&self) -> Option<ResourceVersion> {
        match &self.phase {
            Phase::Following => Some(Phase::NOWHERE).filter(|_| !self.fresh),
            Phase::Seam { floor, relist, .. } => {
                Some(*floor).filter(|floor| !relist && !matches!(*floor, Phase::NOWHERE | Phase::EVERYWHERE))
            }
            Phase::Listing { .. } => None,
        }
    }

    /// Its view, if what it was told is kept in one.
    pub(super) fn view(&self) -> Option<&View> {
        match &self.phase {
            Phase::Following => None,
            Phase::Listing { view, .. } | Phase::Seam { view, .. } => Some(view),
        }
    }
}

// === impl Watch ===

impl Watch {
    pub(super) fn join(
        &mut self,
        slot: Slot,
        selection: Selection,
        on: ChangeKinds,
        effects: &mut Vec<Effect>,
    ) {
        let phase = self.entrance(slot, View::default(), effects);
        self.followers.insert(slot, Follower { selection, on, fresh: true, phase, stored: false });
    }

    pub(super) fn edit(
        &mut self,
        slot: Slot,
        selection: Selection,
        on: ChangeKinds,
        effects: &mut Vec<Effect>,
    ) {
        // A LIST left these to the stream, which brings them again.
        let doubted = self.doubts.keys().filter(|(doubted, _)| *doubted == slot);
        let doubted: Vec<_> = doubted.map(|(_, key)| key.clone()).collect();
        let Some(follower) = self.followers.get_mut(slot) else {
            return self.join(slot, selection, on, effects);
        };
        follower.on = on;
        if follower.selection == selection {
            return;
        }
        let since = follower.complete_since();
        let before = std::mem::replace(&mut follower.selection, selection.clone());
        let phase = std::mem::replace(&mut follower.phase, Phase::Following);
        let phase = match phase {
            Phase::Following => {
                let mut view = self.told_view(slot);
                view.edit(&before, Some(Phase::NOWHERE), doubted, &selection);
                self.entrance(slot, view, effects)
            }
            Phase::Seam { floor, mut view, .. } if matches!(self.stream, Stream::Snapshot { .. }) => {
                view.edit(&before, since, doubted, &selection);
                Phase::Seam { floor, view, relist: true }
            }
            // The Watch may be behind what the view holds; changes per name still continue it.
            Phase::Seam { mut view, .. } => {
                view.edit(&before, since, doubted, &selection);
                self.entrance(slot, view, effects)
            }
            Phase::Listing { mut view, held, .. } => {
                view.edit(&before, None, doubted, &selection);
                view.begin_list();
                let list = self.next_list(slot, effects);
                Phase::Listing { list, since: self.newest, view, held }
            }
        };
        if let Some(follower) = self.followers.get_mut(slot) {
            follower.phase = phase;
        }
    }

    pub(super) fn leave(&mut self, slot: Slot, effects: &mut Vec<Effect>) {
        let Some(follower) = self.followers.remove(slot) else { return };
        self.known.take_told(slot);
        self.doubts.retain(|(doubted, _), _| *doubted != slot);
        if follower.stored {
            self.emptied.push(slot);
        }
        if matches!(follower.phase, Phase::Listing { .. }) {
            effects.push(Effect::StopList(slot));
        }
    }

    /// How a Subscription that was told `view` comes to follow the Watch as it is now.
    fn entrance(&mut self, slot: Slot, mut view: View, effects: &mut Vec<Effect>) -> Phase {
        let floor = Phase::NOWHERE;
        let fresh = self.followers.get(slot).is_none_or(|follower| follower.fresh);
        match self.stream {
            // The next snapshot is for everybody.
            Stream::Lost if fresh && view.is_empty() => Phase::Following,
            Stream::Lost => Phase::Seam { floor, view, relist: false },
            // It may have missed the beginning of this one.
            Stream::Snapshot { .. } => Phase::Seam { floor, view, relist: true },
            Stream::Closed | Stream::Live { .. } => {
                view.begin_list();
                let list = self.next_list(slot, effects);
                Phase::listing(list, self.newest, view)
            }
        }
    }

    pub(super) fn next_list(&mut self, slot: Slot, effects: &mut Vec<Effect>) -> u32 {
        self.lists += 1;
        effects.push(Effect::List { slot, list: self.lists });
        self.lists
    }

    /// Takes the bits of `slot` out of Known, as a view.
    pub(super) fn told_view(&mut self, slot: Slot) -> View {
        self.known.take_told(slot).into_iter().map(|(key, entry)| (key, Told::of(&entry))).collect()
    }
}
