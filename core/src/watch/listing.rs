//! The LIST that brings one Subscription what exists, and how it comes to follow the Watch when that is complete.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Effect;
use super::Watch;
use super::decide::Source;
use super::follower::{Follower, Held, Phase};
use super::saved::{Doubted, Told};
use super::telling::Telling;
use super::view::View;
use crate::change::{ChangeKind, Content, Reason};
use crate::known::{Entry, Slot};
use crate::object::{Object, ObjectKey, ResourceVersion};
use crate::selection::Selection;

impl Watch {
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
        let Some(follower) = self.followers.get_mut(slot) else { return };
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
        let may_have_missed = view.may_have_missed(meta);
        // It may have been told in an older version: what was between is not told.
        let mut missed = false;
        self.newest = self.newest.max(meta.resource_version);
        let mut telling = Telling::new(self.epoch);
        let selected = follower.selection.selects(meta);
        if let Some(Doubted { told, .. }) = self.doubts.get(&doubted)
            && self.comes_again(slot, &meta.key, told)
        {
            // With everything before and after it; and if the stream is lost until then, a snapshot says what became of it.
            if let Some(doubt) = self.doubts.get_mut(&doubted) {
                doubt.listed = true;
            }
            if was.is_none() {
                return;
            }
        } else if was.is_some() {
            match self.doubts.get_mut(&doubted) {
                Some(doubt) if doubt.told.uid == meta.uid => doubt.listed = true,
                // It was over before this life, which the stream brings: so it must not sort after it.
                Some(_) => {
                    if let Some(Doubted { told, .. }) = self.doubts.remove(&doubted) {
                        let gone_at = meta.resource_version.previous();
                        self.tell_gone(slot, &meta.key, &told, gone_at, &mut telling);
                    }
                }
                None => {}
            }
        } else {
            match self.doubts.remove(&doubted).map(|doubt| doubt.told) {
                Some(doubt) if doubt.uid == meta.uid => {
                    missed = streamed || doubt.is_before(meta, self.epoch);
                    was = Some(doubt).filter(|_| !selected);
                }
                Some(doubt) => {
                    self.tell_gone(slot, &meta.key, &doubt, meta.resource_version.previous(), &mut telling);
                    if streamed {
                        return telling.finish(effects);
                    }
                }
                None if streamed => return,
                None => missed = may_have_missed,
            }
        }
        let Some(follower) = self.followers.get_mut(slot) else { return };
        let Phase::Listing { view, held, .. } = &mut follower.phase else { return };
        let told = match (selected, was) {
            (true, None) if follower.fresh => Some((ChangeKind::Snapshot, Reason::Snapshot)),
            (true, None) => Some((ChangeKind::Added, Reason::Selection)),
            // The stream is ahead, and says itself when its labels take it out.
            (false, Some(was)) if was.is_after(meta, self.epoch) => None,
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
            // And of this one it may have been told.
            let leaves = follower.on.contains(ChangeKind::Left);
            if self.doubts.remove(&doubted).is_some_and(|doubt| doubt.told.uid == meta.uid) && leaves {
                let content = Content::Object(object.clone());
                telling.add(slot, ChangeKind::Left, Reason::Selection, false, 0, content);
            }
            self.tell_gone(slot, &meta.key, &was, meta.resource_version.previous(), &mut telling);
            return telling.finish(effects);
        }
        let mut waited = Vec::new();
        match told {
            None => {}
            Some((ChangeKind::Left, _)) => view.leave(&meta.key),
            Some(_) => {
                view.insert(meta.key.clone(), Told::at(meta, self.epoch));
                waited = held.remove(&meta.key).unwrap_or_default();
            }
        }
        if let Some((kind, reason)) = told.filter(|(kind, _)| follower.on.contains(*kind)) {
            let gap = kind == ChangeKind::Updated || missed && kind == ChangeKind::Added;
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
        let follower = self.followers.get(slot);
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
        if let Some(follower) = self.followers.get_mut(slot) {
            follower.fresh = false;
            if follower.selection == Selection::NOTHING {
                self.conclude_rest(slot, version, effects);
            }
        }
        effects.push(Effect::Joined(slot));
        self.close_seams(effects);
    }

    /// Of who selects nothing any more, what a LIST did not show is gone: whoever parts does not wait for the stream to
    /// say so.
    fn conclude_rest(&mut self, slot: Slot, version: ResourceVersion, effects: &mut Vec<Effect>) {
        let Some(follower) = self.followers.get_mut(slot) else { return };
        let Phase::Seam { view, .. } = &mut follower.phase else { return };
        let gone = view.take_if(|_, _| true);
        self.tell_all_gone(slot, gone, version, effects);
    }

    /// Tells one Subscription that all of these were gone at `version`.
    fn tell_all_gone(
        &self,
        slot: Slot,
        gone: impl IntoIterator<Item = (ObjectKey, Told)>,
        version: ResourceVersion,
        effects: &mut Vec<Effect>,
    ) {
        let mut telling = Telling::new(self.epoch);
        for (key, told) in gone {
            self.tell_gone(slot, &key, &told, version, &mut telling);
        }
        telling.finish(effects);
    }

    /// Ends the LIST of `slot` at `floor` and tells what waited for it.
    pub(super) fn release(&mut self, slot: Slot, floor: ResourceVersion, effects: &mut Vec<Effect>) {
        let Some(follower) = self.followers.get_mut(slot) else { return };
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
        let of_slot = self.doubts.iter().filter(|((doubted, _), _)| *doubted == slot);
        let again = of_slot.filter(|((_, key), doubt)| self.comes_again(slot, key, &doubt.told));
        let again: BTreeSet<_> = again.map(|((_, key), _)| key.clone()).collect();
        let of_slot = |(doubted, key): &(Slot, ObjectKey), doubt: &mut Doubted| {
            // What a LIST showed is there, and the stream goes on with it.
            *doubted == slot && !std::mem::take(&mut doubt.listed) && !again.contains(key)
        };
        let doubts = self.doubts.extract_if(.., of_slot).map(|((_, key), doubt)| (key, doubt.told));
        let gone: Vec<_> = doubts.collect();
        self.tell_all_gone(slot, gone, version, effects);
    }

    /// Whether the stream resumes before `told` and brings it again, to who still goes on with the name.
    fn comes_again(&self, slot: Slot, key: &ObjectKey, told: &Told) -> bool {
        let after = self.position().is_some_and(|position| told.version > position);
        let follower = self.followers.get(slot);
        let goes_on = |follower: &Follower| {
            follower.selection.may_select(key)
                && match &follower.phase {
                    Phase::Listing { view, .. } | Phase::Seam { view, .. } => view.follows(key),
                    Phase::Following => true,
                }
        };
        after && told.epoch == self.epoch && follower.is_some_and(goes_on)
    }

    /// Where the Watch has decided everything up to the version of the LIST, Known and the view agree, and the view
    /// becomes bits. While history is lost, or something of it is recovered, Known is behind.
    pub(super) fn close_seams(&mut self, effects: &mut Vec<Effect>) {
        let Some(position) = self.position() else { return };
        for slot in self.followers.slots() {
            let Some(follower) = self.followers.get_mut(slot) else { continue };
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
                    self.tell_over(&key, &over, told.version.previous(), &mut telling);
                    self.known.insert(key, told.into_entry(slot));
                }
                other => {
                    let gone_at = other.map_or(version, |entry| entry.version.previous());
                    self.tell_gone(slot, &key, &told, gone_at, &mut telling);
                }
            }
        }
        telling.finish(effects);
    }
}
