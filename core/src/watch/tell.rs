//! One object's news, decided for each Subscription by what that one was told before.

use std::sync::Arc;

use super::decide::Source;
use super::follower::{Held, Phase};
use super::saved::{Doubts, Told};
use super::telling::Telling;
use super::{Stream, Watch};
use crate::change::{Change, ChangeKind, Content, Epoch, Reason};
use crate::known::{Entry, Slot};
use crate::object::{Meta, Object, ObjectKey, ResourceVersion};

impl Watch {
    /// Tells one Subscription of a version, by what that Subscription was told before. `skipped`: a version
    /// since then is not known.
    pub(super) fn tell_present(
        &mut self,
        slot: Slot,
        object: &Arc<Object>,
        before: Option<&Entry>,
        skipped: bool,
        source: Source,
        telling: &mut Telling,
    ) {
        let live = source != Source::Snapshot;
        let Some(follower) = self.followers.get_mut(slot) else { return };
        let meta = &object.meta;
        let was = match &mut follower.phase {
            Phase::Listing { held, view, .. } if !view.follows(&meta.key) => {
                let news = Held::Present { object: object.clone(), epoch: self.epoch, skipped };
                return held.entry(meta.key.clone()).or_default().push(news);
            }
            Phase::Listing { view, .. } | Phase::Seam { view, .. }
                if live
                    && view.get(&meta.key).is_none()
                    && view.is_past(&meta.key, meta.resource_version) =>
            {
                return;
            }
            Phase::Listing { view, .. } => view.get(&meta.key).cloned(),
            Phase::Following => before.filter(|entry| entry.told.contains(slot)).map(Told::of),
            Phase::Seam { view, floor, .. } => match view.get(&meta.key) {
                // The LIST was made after this version and does not have the object: it came and went.
                None if live && meta.resource_version <= *floor && !view.is_streamed(&meta.key) => return,
                was => was.cloned(),
            },
        };
        let epoch = telling.epoch;
        // What was found or held is told while nothing can be read. Whoever was not told that this exists is going to be
        // shown it as it is now.
        let catches_up = live && matches!(self.stream, Stream::Lost | Stream::Snapshot { .. });
        let goes_on = was.is_some()
            || follower.is_continued()
            || follower.view().is_some_and(|view| view.is_streamed(&meta.key));
        if catches_up && !goes_on {
            return;
        }
        // The view is ahead of the Watch.
        if was.as_ref().is_some_and(|was| was.is_after(meta, epoch)) {
            return;
        }
        // After a crash the stream repeats older versions than were told. That an object left is said of the
        // version that the LIST shows; and of one that the LIST does not show, that it is gone.
        let selected = follower.selection.selects(meta);
        // Not by its name, which means that the selection was edited; else by its labels, which the stream shows.
        let outside = !follower.selection.may_select(&meta.key);
        let leaves = outside && was.as_ref().is_some_and(|was| was.uid == meta.uid);
        let may_leave = |doubts: &Doubts| {
            let doubt = doubts.get(&(slot, meta.key.clone()));
            outside && was.is_none() && doubt.is_some_and(|doubt| doubt.told.uid == meta.uid)
        };
        let (labels_changed, knew_it) = (
            !follower.selection.always_selects(&meta.key),
            before.is_some_and(|before| before.uid == meta.uid && Told::of(before) != Told::at(meta, epoch)),
        );
        let missed = match &mut follower.phase {
            Phase::Listing { view, .. } if leaves => return view.miss(&meta.key),
            Phase::Listing { .. } if may_leave(&self.doubts) => return,
            Phase::Seam { view, floor, .. } if leaves && live && meta.resource_version <= *floor => {
                return view.miss(&meta.key);
            }
            Phase::Listing { view, .. } | Phase::Seam { view, .. } => view.take_missed(&meta.key),
            Phase::Following => false,
        };
        let (unread, skipped) = (skipped, skipped || missed);
        // What is known to have been told is no doubt; of another life under the name it says nothing.
        let known = |doubt: &Told| was.as_ref().is_some_and(|was| was.uid == doubt.uid);
        let doubt = self.take_doubt(slot, meta, epoch).filter(|doubt| !known(doubt));
        let may_know = doubt.as_ref().is_some_and(|doubt| doubt.uid == meta.uid);
        let Some(follower) = self.followers.get_mut(slot) else { return };
        let (on, fresh) = (follower.on, follower.fresh);
        let mut say = |kind, reason, gap, missed| {
            if on.contains(kind) {
                telling.add(slot, kind, reason, gap, missed, Content::Object(object.clone()));
            }
        };
        let found = source.reason();
        match was {
            // It may have been told of it when its selection was another one.
            None if !selected && may_know => {
                say(ChangeKind::Left, Reason::Selection, false, 0);
            }
            None if !selected && doubt.is_none() => return,
            None if !selected => {}
            None if fresh && !live => say(ChangeKind::Snapshot, Reason::Snapshot, false, 0),
            // It is not new: it was not selected before. And its version may have been told under its own id before it left.
            None if source != Source::Stream
                && !(labels_changed && knew_it && source == Source::Backfill)
                && before.is_some_and(|before| {
                    let same = Told::of(before) == Told::at(meta, epoch);
                    before.uid == meta.uid && (same || doubt.is_none())
                }) =>
            {
                say(ChangeKind::Added, Reason::Selection, skipped, 0);
            }
            // Its labels brought it in.
            None if labels_changed && knew_it => say(ChangeKind::Added, Reason::Entered, skipped || !live, 0),
            None => say(ChangeKind::Added, found, skipped || !live, 0),
            Some(was) if was.uid == meta.uid && !selected => {
                say(ChangeKind::Left, Reason::Selection, false, 0);
            }
            // A repeat, unless what was told of this version is that it could not be decoded.
            Some(was) if !was.is_before(meta, epoch) && !unread => return,
            // What was skipped may have been another generation.
            Some(was) if was.uid == meta.uid && !skipped && !on.counts(was.generation, meta.generation) => {}
            Some(was) if was.uid == meta.uid => {
                let gap = !live || skipped;
                say(ChangeKind::Updated, found, gap, if gap { was.missed(meta) } else { 0 });
            }
            Some(was) => {
                if selected {
                    say(ChangeKind::Added, found, true, 0);
                } else if may_know {
                    say(ChangeKind::Left, Reason::Selection, false, 0);
                }
                self.tell_gone(slot, &meta.key, &was, meta.resource_version.previous(), telling);
            }
        }
        if let Some(doubt) = doubt.filter(|doubt| doubt.uid != meta.uid) {
            self.tell_gone(slot, &meta.key, &doubt, meta.resource_version.previous(), telling);
        }
        let Some(follower) = self.followers.get_mut(slot) else { return };
        match &mut follower.phase {
            Phase::Seam { view, .. } | Phase::Listing { view, .. } if selected => {
                view.insert(meta.key.clone(), Told::at(meta, epoch));
            }
            // What comes next under the name is news, whatever a LIST shows.
            Phase::Seam { view, .. } | Phase::Listing { view, .. } if live && !outside => {
                drop(view.end(&meta.key));
            }
            Phase::Seam { view, .. } | Phase::Listing { view, .. } => drop(view.remove(&meta.key)),
            Phase::Following => {
                if let Some(entry) = self.known.get_mut(&meta.key) {
                    if selected { entry.told.insert(slot) } else { entry.told.remove(slot) }
                }
            }
        }
    }

    /// Tells one Subscription that an object is gone, if it was told that it exists.
    pub(super) fn tell_deleted(
        &mut self,
        slot: Slot,
        object: &Arc<Object>,
        before: Option<&Entry>,
        skipped: bool,
        source: Source,
        telling: &mut Telling,
    ) {
        let Some(follower) = self.followers.get_mut(slot) else { return };
        let meta = &object.meta;
        let was = match &mut follower.phase {
            Phase::Listing { held, view, .. } if !view.follows(&meta.key) => {
                let news = Held::Deleted { object: object.clone(), epoch: self.epoch, skipped };
                return held.entry(meta.key.clone()).or_default().push(news);
            }
            Phase::Following => before.filter(|entry| entry.told.contains(slot)).map(Told::of),
            Phase::Seam { view, .. } | Phase::Listing { view, .. }
                if view.get(&meta.key).is_some_and(|was| was.is_before(meta, telling.epoch)) =>
            {
                view.end(&meta.key)
            }
            Phase::Seam { .. } | Phase::Listing { .. } => None,
        };
        let missed = match &mut follower.phase {
            Phase::Listing { view, .. } | Phase::Seam { view, .. } => view.take_missed(&meta.key),
            Phase::Following => false,
        };
        let doubt = self.take_doubt(slot, meta, telling.epoch);
        let Some(follower) = self.followers.get_mut(slot) else { return };
        // A stream that has everything would have shown it again before.
        let skipped = skipped || missed || was.is_none();
        let Some(was) = was.or(doubt) else { return };
        if was.uid != meta.uid {
            self.tell_gone(slot, &meta.key, &was, meta.resource_version.previous(), telling);
        } else if follower.on.contains(ChangeKind::Deleted) {
            // Without a body it is a deletion that could not be decoded: who it was is known, no more.
            let known = !object.body.is_empty();
            let content = if known {
                Content::Object(object.clone())
            } else {
                Content::identity(&meta.key, &meta.uid, meta.resource_version, meta.resource_version)
            };
            telling.add(slot, ChangeKind::Deleted, source.reason(), skipped || !known, 0, content);
        }
    }

    /// What `slot` may have been told under the name of `meta`, unless that was later: `meta` says what became of it.
    pub(super) fn take_doubt(&mut self, slot: Slot, meta: &Meta, epoch: Epoch) -> Option<Told> {
        if self.doubts.is_empty() {
            return None;
        }
        let doubted = (slot, meta.key.clone());
        self.doubts.get(&doubted).filter(|doubt| !doubt.told.is_after(meta, epoch))?;
        self.doubts.remove(&doubted).map(|doubt| doubt.told)
    }

    /// Tells everybody who was told of the life in `entry` that it is over, which was concluded and not seen.
    pub(super) fn tell_over(
        &self,
        key: &ObjectKey,
        entry: &Entry,
        gone_at: ResourceVersion,
        telling: &mut Telling,
    ) {
        let told = Told::of(entry);
        for slot in self.followers.slots().filter(|slot| entry.told.contains(*slot)) {
            self.tell_gone(slot, key, &told, gone_at, telling);
        }
    }

    /// Tells one Subscription that what it was told is gone, which was concluded and not seen: at the version
    /// `gone_at` of the telling's history. So it sorts before whatever comes later under the name; and after all
    /// that was ever told of it, which may be more than what is known: what was told just before a crash is not.
    pub(super) fn tell_gone(
        &self,
        slot: Slot,
        key: &ObjectKey,
        was: &Told,
        gone_at: ResourceVersion,
        telling: &mut Telling,
    ) {
        let follower = self.followers.get(slot);
        let epoch = telling.epoch;
        let gone_at = if was.epoch == epoch { gone_at.max(was.version) } else { gone_at };
        if follower.is_some_and(|follower| follower.on.contains(ChangeKind::Deleted)) {
            telling.put(
                slot,
                Change {
                    kind: ChangeKind::Deleted,
                    reason: Reason::Reconcile,
                    epoch,
                    gap: true,
                    gap_missed: 0,
                    content: Content::identity(key, &was.uid, was.version, gone_at),
                },
            );
        }
    }
}
