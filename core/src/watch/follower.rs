//! What a Watch keeps of each Subscription: how it joins, is edited and leaves.
//!
//! A Subscription that follows is described by its bits in Known. While it is not (yet) told everything the
//! Watch has decided, or is already told more, it has a *view* of its own: what it was told, by name. A LIST
//! gives it the present at one version S. Per name, what the LIST showed comes first and only newer changes
//! follow; names that the LIST did not show begin after S. When the Watch has passed S, view and Known agree.

use std::collections::HashMap;
use std::sync::Arc;

use super::decide::Telling;
use super::saved::Told;
use super::{Effect, Stream, Watch};
use crate::change::{ChangeKind, ChangeKinds, Content, Epoch, Reason};
use crate::known::{Entry, Slot, Slots};
use crate::object::{Meta, Object, ObjectKey, ResourceVersion};
use crate::route::Selection;

/// A Subscription on this Watch.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    pub(super) selection: Selection,
    pub(super) on: ChangeKinds,
    /// It was never yet told everything that exists.
    pub(super) fresh: bool,
    pub(super) phase: Phase,
}

/// Where the knowledge of what it was told is kept.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// In Known, as its bit.
    Following,
    /// In a view of its own, while a LIST brings what exists. Changes of that time wait. Complete → `Seam`;
    /// a snapshot of the Watch takes over → `Seam`.
    Listing {
        list: u32,
        /// The newest version when the LIST was asked for: it cannot be older, unless history went back.
        since: ResourceVersion,
        view: View,
        held: Vec<Held>,
    },
    /// In a view of its own, until the Watch has passed `floor`, the version of the LIST → `Following`; or,
    /// in a snapshot, until that is complete → `Following`, or `Listing` when it came after the start.
    Seam { floor: ResourceVersion, view: View, relist: bool },
}

/// What one Subscription was told, by name.
pub(super) type View = HashMap<ObjectKey, Told>;

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

impl Watch {
    pub(super) fn join(
        &mut self,
        slot: Slot,
        selection: Selection,
        on: ChangeKinds,
        effects: &mut Vec<Effect>,
    ) {
        if self.followers.len() <= slot.0 {
            self.followers.resize(slot.0 + 1, None);
        }
        let phase = self.entrance(slot, View::new(), effects);
        self.followers[slot.0] = Some(Follower { selection, on, fresh: true, phase });
    }

    pub(super) fn edit(
        &mut self,
        slot: Slot,
        selection: Selection,
        on: ChangeKinds,
        effects: &mut Vec<Effect>,
    ) {
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else {
            return self.join(slot, selection, on, effects);
        };
        follower.on = on;
        if follower.selection == selection {
            return;
        }
        follower.selection = selection;
        let phase = std::mem::replace(&mut follower.phase, Phase::Following);
        let phase = match phase {
            Phase::Following => {
                let view = self.take_told(slot);
                self.entrance(slot, view, effects)
            }
            Phase::Seam { floor, view, .. } if matches!(self.stream, Stream::Snapshot { .. }) => {
                Phase::Seam { floor, view, relist: true }
            }
            // The Watch may be behind what the view holds; changes per name still continue it.
            Phase::Seam { view, .. } => self.entrance(slot, view, effects),
            Phase::Listing { view, held, .. } => {
                let list = self.next_list(slot, effects);
                Phase::Listing { list, since: self.newest, view, held }
            }
        };
        if let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) {
            follower.phase = phase;
        }
    }

    pub(super) fn leave(&mut self, slot: Slot, effects: &mut Vec<Effect>) {
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::take) else { return };
        for (_, entry) in self.known.iter_mut() {
            entry.told.remove(slot);
        }
        if matches!(follower.phase, Phase::Listing { .. }) {
            effects.push(Effect::StopList(slot));
        }
    }

    /// How a Subscription that was told `view` comes to follow the Watch as it is now.
    fn entrance(&mut self, slot: Slot, view: View, effects: &mut Vec<Effect>) -> Phase {
        let floor = ResourceVersion::default();
        match self.stream {
            // The next snapshot is for everybody.
            Stream::Lost if view.is_empty() => Phase::Following,
            Stream::Lost => Phase::Seam { floor, view, relist: false },
            // It may have missed the beginning of this one.
            Stream::Snapshot { .. } => Phase::Seam { floor, view, relist: true },
            Stream::Closed | Stream::Live { .. } => {
                let list = self.next_list(slot, effects);
                Phase::Listing { list, since: self.newest, view, held: Vec::new() }
            }
        }
    }

    pub(super) fn next_list(&mut self, slot: Slot, effects: &mut Vec<Effect>) -> u32 {
        self.lists += 1;
        effects.push(Effect::List { slot, list: self.lists });
        self.lists
    }

    /// Takes the bits of `slot` out of Known, as a view.
    fn take_told(&mut self, slot: Slot) -> View {
        let mut view = View::new();
        for (key, entry) in self.known.iter_mut().filter(|(_, entry)| entry.told.contains(slot)) {
            entry.told.remove(slot);
            view.insert(key.clone(), Told::of(entry));
        }
        view
    }

    /// An object of the LIST for one Subscription. What its view has already is continued by the changes that
    /// wait; only what it has not, or what is no longer selected, is told from here.
    pub(super) fn listed(&mut self, slot: Slot, list: u32, object: &Arc<Object>, effects: &mut Vec<Effect>) {
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
        let Phase::Listing { list: current, view, .. } = &mut follower.phase else { return };
        if *current != list {
            return;
        }
        let meta = &object.meta;
        self.newest = self.newest.max(meta.resource_version);
        let selected = follower.selection.selects(&meta.key);
        let (kind, reason) = match (selected, view.get(&meta.key)) {
            (true, None) if follower.fresh => (ChangeKind::Snapshot, Reason::Snapshot),
            (true, None) => (ChangeKind::Added, Reason::Selection),
            (false, Some(was)) if was.uid == meta.uid => (ChangeKind::Left, Reason::Selection),
            _ => return,
        };
        if selected {
            view.insert(meta.key.clone(), Told::at(meta, self.epoch));
        } else {
            view.remove(&meta.key);
        }
        if follower.on.contains(kind) {
            let mut telling = Telling::new(self.epoch);
            telling.add(slot, kind, reason, false, 0, Content::Object(object.clone()));
            telling.finish(effects);
        }
    }

    /// The LIST is complete: what waited follows, and the Watch goes on from there.
    pub(super) fn list_complete(
        &mut self,
        slot: Slot,
        list: u32,
        version: ResourceVersion,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        let follower = self.followers.get(slot.0).and_then(Option::as_ref);
        let since = match follower.map(|follower| &follower.phase) {
            Some(Phase::Listing { list: current, since, .. }) if *current == list => *since,
            _ => return,
        };
        if version < since {
            return self.rewind(now, effects);
        }
        self.newest = self.newest.max(version);
        self.release(slot, version, effects);
        if let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) {
            follower.fresh = false;
        }
        effects.push(Effect::Joined(slot));
        if let Some(position) = self.position {
            self.close_seams(position, effects);
        }
    }

    /// Ends the LIST of `slot` at `floor` and tells what waited for it.
    pub(super) fn release(&mut self, slot: Slot, floor: ResourceVersion, effects: &mut Vec<Effect>) {
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
        let Phase::Listing { view, held, .. } = &mut follower.phase else { return };
        let (view, held) = (std::mem::take(view), std::mem::take(held));
        follower.phase = Phase::Seam { floor, view, relist: false };
        for news in held {
            let (Held::Present { epoch, .. } | Held::Deleted { epoch, .. }) = news;
            let mut telling = Telling::new(epoch);
            match news {
                Held::Present { object, skipped, .. } => {
                    self.tell_present(slot, &object, None, skipped, true, &mut telling);
                }
                Held::Deleted { object, skipped, .. } => {
                    self.tell_deleted(slot, &object, None, skipped, &mut telling);
                }
            }
            telling.finish(effects);
        }
    }

    /// The Watch has decided everything up to `position`: where that is past the LIST, Known and the view
    /// agree, and the view becomes bits.
    pub(super) fn close_seams(&mut self, position: ResourceVersion, effects: &mut Vec<Effect>) {
        for slot in (0..self.followers.len()).map(Slot) {
            let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { continue };
            match &mut follower.phase {
                Phase::Seam { floor, view, .. } if *floor <= position => {
                    let view = std::mem::take(view);
                    follower.phase = Phase::Following;
                    self.put_told(slot, view, false, effects);
                }
                _ => {}
            }
        }
    }

    /// Turns a view back into bits. What Known does not have is gone, and is told so, if absence from it
    /// means that; else, because it was told, it is put there.
    pub(super) fn put_told(&mut self, slot: Slot, view: View, sound: bool, effects: &mut Vec<Effect>) {
        let mut telling = Telling::new(self.epoch);
        for (key, told) in view {
            let later = |entry: &Entry| (entry.epoch, entry.version) < (told.epoch, told.version);
            match self.known.get_mut(&key) {
                Some(entry) if entry.uid == told.uid => {
                    if later(entry) {
                        // Known missed what the LIST showed, and so may have others.
                        (entry.epoch, entry.version, entry.skipped) = (told.epoch, told.version, true);
                    }
                    entry.told.insert(slot);
                }
                None if !sound => self.known.insert(key, told.into_entry(slot)),
                Some(entry) if !sound && later(entry) => {
                    // The life that Known has was over when the LIST was made.
                    let over = entry.clone();
                    self.tell_over(&key, &over, &mut telling);
                    self.known.insert(key, told.into_entry(slot));
                }
                _ => self.tell_gone(slot, &key, &told, &mut telling),
            }
        }
        telling.finish(effects);
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
    fn into_entry(self, slot: Slot) -> Entry {
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
