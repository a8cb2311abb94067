//! What a Watch keeps of each Subscription: how it joins, is edited and leaves.
//!
//! A Subscription that follows is described by its bits in Known. While it is not (yet) told everything the
//! Watch has decided, or is already told more, it has a *view* of its own: what it was told, by name. A LIST
//! gives it the present at one version S. Names it was told of before go on as the stream says; of others, what
//! the LIST showed comes first and only newer changes follow, and what the LIST did not show begins after S. When
//! the Watch has passed S, view and Known agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decide::{Source, Telling, before_version};
use super::saved::{Doubted, Told};
use super::view::View;
use super::{Effect, Stream, Watch};
use crate::change::{ChangeKind, ChangeKinds, Content, Epoch, Reason};
use crate::known::{Entry, Slot};
use crate::object::{Object, ObjectKey, ResourceVersion};
use crate::route::Selection;

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

impl Follower {
    /// It was told what exists, and hears what comes next.
    pub(super) fn is_continued(&self) -> bool {
        !self.fresh && matches!(self.phase, Phase::Following)
    }
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
        let phase = self.entrance(slot, View::default(), effects);
        let stored = false;
        self.followers[slot.0] = Some(Follower { selection, on, fresh: true, phase, stored });
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
        let before = std::mem::replace(&mut follower.selection, selection);
        let phase = std::mem::replace(&mut follower.phase, Phase::Following);
        let phase = match phase {
            Phase::Following => {
                let mut view = self.told_view(slot);
                view.keep_steady(&before, true);
                self.entrance(slot, view, effects)
            }
            Phase::Seam { floor, mut view, relist } if matches!(self.stream, Stream::Snapshot { .. }) => {
                view.keep_steady(&before, !relist);
                Phase::Seam { floor, view, relist: true }
            }
            // The Watch may be behind what the view holds; changes per name still continue it.
            Phase::Seam { mut view, relist, .. } => {
                view.keep_steady(&before, !relist);
                self.entrance(slot, view, effects)
            }
            Phase::Listing { mut view, held, .. } => {
                view.keep_steady(&before, false);
                view.begin_list();
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
        let floor = ResourceVersion::default();
        match self.stream {
            // The next snapshot is for everybody.
            Stream::Lost if view.is_empty() => Phase::Following,
            Stream::Lost => Phase::Seam { floor, view, relist: false },
            // It may have missed the beginning of this one.
            Stream::Snapshot { .. } => Phase::Seam { floor, view, relist: true },
            Stream::Closed | Stream::Live { .. } => {
                view.begin_list();
                let list = self.next_list(slot, effects);
                Phase::Listing { list, since: self.newest, view, held: BTreeMap::new() }
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

    /// An object of the LIST for one Subscription. What its view has already is continued by the stream; only
    /// what it has not, or what is no longer selected, is told from here.
    pub(super) fn listed(
        &mut self,
        slot: Slot,
        list: u32,
        version: ResourceVersion,
        object: &Arc<Object>,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
        let Phase::Listing { list: current, since, view, .. } = &mut follower.phase else { return };
        let meta = &object.meta;
        if *current != list {
            return;
        }
        if version < *since {
            // Nothing of it may be told: it would sort before what was told already. LISTs are counted from 1.
            *current = 0;
            return self.rewind(now, effects);
        }
        let doubted = (slot, meta.key.clone());
        let mut was = view.get(&meta.key).cloned();
        let streamed = view.is_streamed(&meta.key);
        self.newest = self.newest.max(meta.resource_version);
        let mut telling = Telling::new(self.epoch);
        let selected = follower.selection.selects(&meta.key);
        if was.is_some() {
            if let Some(doubt) = self.doubts.get_mut(&doubted) {
                doubt.listed = doubt.told.uid == meta.uid;
            }
        } else {
            match self.doubts.remove(&doubted).map(|doubt| doubt.told) {
                Some(doubt) if doubt.uid == meta.uid => was = Some(doubt).filter(|_| !selected),
                Some(doubt) => {
                    self.tell_gone(slot, &meta.key, &doubt, before_version(meta), &mut telling);
                    if streamed {
                        return telling.finish(effects);
                    }
                }
                None if streamed => return,
                None => {}
            }
        }
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
        let Phase::Listing { view, held, .. } = &mut follower.phase else { return };
        let told = match (selected, was) {
            (true, None) if follower.fresh => Some((ChangeKind::Snapshot, Reason::Snapshot)),
            (true, None) => Some((ChangeKind::Added, Reason::Selection)),
            (false, Some(was)) if was.uid == meta.uid => Some((ChangeKind::Left, Reason::Selection)),
            // Versions were left out while it was not selected: the stream does not bring them again.
            (true, Some(was)) if was.uid == meta.uid && view.take_missed(&meta.key) => {
                was.is_before(meta, self.epoch).then_some((ChangeKind::Updated, Reason::Reconcile))
            }
            _ => None,
        };
        if follower.selection == Selection::NOTHING
            && let Some(was) = view.get(&meta.key).filter(|was| was.uid != meta.uid).cloned()
        {
            // Whoever parts does not wait for the stream to say so.
            view.remove(&meta.key);
            self.tell_gone(slot, &meta.key, &was, before_version(meta), &mut telling);
            return telling.finish(effects);
        }
        let mut waited = Vec::new();
        match told {
            None => {}
            Some((ChangeKind::Left, _)) => drop(view.remove(&meta.key)),
            Some(_) => {
                view.insert(meta.key.clone(), Told::at(meta, self.epoch));
                waited = held.remove(&meta.key).unwrap_or_default();
            }
        }
        if let Some((kind, reason)) = told.filter(|(kind, _)| follower.on.contains(*kind)) {
            let gap = kind == ChangeKind::Updated;
            telling.add(slot, kind, reason, gap, 0, Content::Object(object.clone()));
        }
        telling.finish(effects);
        self.tell_held(slot, waited, effects);
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
        self.conclude_doubts(slot, version, effects);
        if let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) {
            follower.fresh = false;
            if follower.selection == Selection::NOTHING {
                self.conclude_rest(slot, version, effects);
            }
        }
        effects.push(Effect::Joined(slot));
        if let Some(position) = self.position {
            self.close_seams(position, effects);
        }
    }

    /// Of who selects nothing any more, what a LIST did not show is gone: whoever parts does not wait for the stream to
    /// say so.
    fn conclude_rest(&mut self, slot: Slot, version: ResourceVersion, effects: &mut Vec<Effect>) {
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
        let Phase::Seam { view, .. } = &mut follower.phase else { return };
        let gone = view.take_if(|_, _| true);
        let mut telling = Telling::new(self.epoch);
        for (key, told) in gone {
            self.tell_gone(slot, &key, &told, version, &mut telling);
        }
        telling.finish(effects);
    }

    /// Ends the LIST of `slot` at `floor` and tells what waited for it.
    pub(super) fn release(&mut self, slot: Slot, floor: ResourceVersion, effects: &mut Vec<Effect>) {
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
        let Phase::Listing { view, held, .. } = &mut follower.phase else { return };
        let (view, held) = (std::mem::take(view), std::mem::take(held));
        follower.phase = Phase::Seam { floor, view, relist: false };
        for waited in held.into_values() {
            self.tell_held(slot, waited, effects);
        }
    }

    /// Tells the news of one name that waited.
    fn tell_held(&mut self, slot: Slot, waited: Vec<Held>, effects: &mut Vec<Effect>) {
        for news in waited {
            let (Held::Present { epoch, .. } | Held::Deleted { epoch, .. }) = news;
            let mut telling = Telling::new(epoch);
            match news {
                Held::Present { object, skipped, .. } => {
                    self.tell_present(slot, &object, None, skipped, Source::Stream, &mut telling);
                }
                Held::Deleted { object, skipped, .. } => {
                    self.tell_deleted(slot, &object, None, skipped, Source::Stream, &mut telling);
                }
            }
            telling.finish(effects);
        }
    }

    /// What may have been told and was not seen in a complete view of what exists is gone.
    pub(super) fn conclude_doubts(
        &mut self,
        slot: Slot,
        version: ResourceVersion,
        effects: &mut Vec<Effect>,
    ) {
        let mut telling = Telling::new(self.epoch);
        let of_slot = |(doubted, _): &(Slot, ObjectKey), doubt: &mut Doubted| {
            // What a LIST showed is there, and the stream goes on with it.
            *doubted == slot && !std::mem::take(&mut doubt.listed)
        };
        let doubts: Vec<_> = self.doubts.extract_if(.., of_slot).collect();
        for ((_, key), doubt) in doubts {
            self.tell_gone(slot, &key, &doubt.told, version, &mut telling);
        }
        telling.finish(effects);
    }

    /// The Watch has decided everything up to `position`: where that is past the LIST, Known and the view
    /// agree, and the view becomes bits. While something is recovered, Known is behind.
    pub(super) fn close_seams(&mut self, position: ResourceVersion, effects: &mut Vec<Effect>) {
        if self.recovering_since().is_some() {
            return;
        }
        for slot in (0..self.followers.len()).map(Slot) {
            let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { continue };
            match &mut follower.phase {
                Phase::Seam { floor, view, .. } if *floor <= position => {
                    let view = std::mem::take(view);
                    follower.phase = Phase::Following;
                    self.put_told(slot, view, false, position, effects);
                }
                _ => {}
            }
        }
    }

    /// Turns a view back into bits. What Known does not have is gone, and is told so, if absence from it
    /// means that; else, because it was told, it is put there. `version` is where the Watch stands.
    pub(super) fn put_told(
        &mut self,
        slot: Slot,
        view: View,
        sound: bool,
        version: ResourceVersion,
        effects: &mut Vec<Effect>,
    ) {
        let mut telling = Telling::new(self.epoch);
        for (key, told) in view.missed() {
            let newer = |entry: &&mut Entry| (entry.epoch, entry.version) > (told.epoch, told.version);
            if let Some(entry) = self.known.get_mut(key).filter(newer) {
                entry.skipped = true;
            }
        }
        for (key, told) in view.into_told() {
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
                    let gone_at = ResourceVersion(told.version.0.saturating_sub(1));
                    self.tell_over(&key, &over, gone_at, &mut telling);
                    self.known.insert(key, told.into_entry(slot));
                }
                other => {
                    let gone_at =
                        other.map_or(version, |entry| ResourceVersion(entry.version.0.saturating_sub(1)));
                    self.tell_gone(slot, &key, &told, gone_at, &mut telling);
                }
            }
        }
        telling.finish(effects);
    }
}
