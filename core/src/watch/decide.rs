//! One object's news, decided for the Watch and then for each Subscription.

use std::sync::Arc;

use super::follower::{Held, Phase};
use super::saved::{Doubted, Told};
use super::{Effect, Stream, Watch};
use crate::change::{Change, ChangeKind, Content, Epoch, Reason};
use crate::known::{Entry, Slot};
use crate::object::{Meta, Object, ObjectKey, ResourceVersion, Uid};

/// What Known says about a version that came in.
enum Standing {
    /// Nothing is known under the name, or a version that this one follows.
    News,
    /// It is decided already.
    Repeat,
    /// It cannot be in the history that was decided.
    Rewind,
}

/// Where a version came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A stream that has every version in order.
    Stream,
    /// A snapshot: nothing is known of what came before it.
    Snapshot,
    /// The versions in a gap, in order as in a stream.
    Backfill,
}

/// The Changes of one object that several Subscriptions share: one body, however many are told.
pub(super) struct Telling {
    epoch: Epoch,
    changes: Vec<(Change, Vec<Slot>)>,
}

impl Watch {
    /// ADDED, MODIFIED, or an object of the snapshot.
    pub(super) fn present(&mut self, object: &Arc<Object>, now: u64, effects: &mut Vec<Effect>) {
        let meta = &object.meta;
        let source = match self.stream {
            Stream::Live { .. } => Source::Stream,
            Stream::Snapshot { .. } => Source::Snapshot,
            Stream::Closed | Stream::Lost => return,
        };
        if self.waits(&meta.key) && self.hold(object, false, now, effects) {
            return;
        }
        let news = match self.standing(meta) {
            Standing::Rewind => return self.rewind(now, effects),
            Standing::News => true,
            Standing::Repeat if source == Source::Stream => return,
            // Not every Subscription was told of what the Watch knows, so a repeat in a snapshot goes on.
            Standing::Repeat => false,
        };
        self.newest = self.newest.max(meta.resource_version);
        if news && source == Source::Snapshot && self.gathers(object) {
            return;
        }
        self.decide_present(object, source, news, false, effects);
        if source == Source::Stream {
            self.advance(meta.resource_version, effects);
        }
    }

    /// Tells of a version that is not decided yet. `news`: nobody was told of it. `marked`: a version before it is
    /// not known.
    pub(super) fn decide_present(
        &mut self,
        object: &Arc<Object>,
        source: Source,
        news: bool,
        marked: bool,
        effects: &mut Vec<Effect>,
    ) {
        let meta = &object.meta;
        let before = self.known.get(&meta.key).cloned();
        let skipped = marked || before.as_ref().is_some_and(|entry| entry.skipped);
        self.known.put(meta, self.epoch, self.attempt);
        let mut telling = Telling::new(self.epoch);
        for slot in (0..self.followers.len()).map(Slot) {
            self.tell_present(slot, object, before.as_ref(), skipped, source, &mut telling);
        }
        if news && let Some(entry) = self.known.get_mut(&meta.key) {
            // Whoever is told of this version is told with the gap marked.
            entry.skipped = false;
        }
        telling.finish(effects);
    }

    /// DELETED, with the version of the deletion.
    pub(super) fn deleted(&mut self, object: &Arc<Object>, now: u64, effects: &mut Vec<Effect>) {
        if matches!(self.stream, Stream::Closed | Stream::Lost) {
            return;
        }
        let meta = &object.meta;
        if self.waits(&meta.key) && self.hold(object, true, now, effects) {
            return;
        }
        // A uid dies once, so a life that is known at a later version did not end before it.
        let rewound = |entry: &Entry| entry.version >= meta.resource_version && entry.uid == meta.uid;
        if self.known.get(&meta.key).is_some_and(rewound) {
            return self.rewind(now, effects);
        }
        self.newest = self.newest.max(meta.resource_version);
        self.decide_deleted(object, Source::Stream, effects);
        if matches!(self.stream, Stream::Live { .. }) {
            self.advance(meta.resource_version, effects);
        }
    }

    /// Tells of the end of a life, if it is later than what is known under the name.
    pub(super) fn decide_deleted(&mut self, object: &Arc<Object>, source: Source, effects: &mut Vec<Effect>) {
        let meta = &object.meta;
        let ended = self.known.get(&meta.key).is_some_and(|entry| entry.version < meta.resource_version);
        let before = if ended { self.known.remove(&meta.key) } else { None };
        let mut telling = Telling::new(self.epoch);
        let skipped = before.as_ref().is_some_and(|entry| entry.skipped);
        for slot in (0..self.followers.len()).map(Slot) {
            self.tell_deleted(slot, object, before.as_ref(), skipped, source, &mut telling);
        }
        telling.finish(effects);
    }

    /// Something that could not be decoded. Where it can be named, the next version of the object says that
    /// one was missed; where not, history is lost.
    pub(super) fn undecodable(
        &mut self,
        meta: Option<Meta>,
        deleted: bool,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Skipped { key: meta.as_ref().map(|meta| meta.key.clone()) });
        let Some(meta) = meta else {
            match &mut self.stream {
                Stream::Snapshot { sound } => *sound = false,
                // Some object changed or went, and only comparing all of them can tell which.
                Stream::Live { .. } => {
                    self.expired(effects);
                    effects.push(Effect::Close);
                }
                Stream::Closed | Stream::Lost => {}
            }
            return;
        };
        if matches!(self.stream, Stream::Closed | Stream::Lost) {
            return;
        }
        if self.waits(&meta.key) {
            self.give_up(&meta.key, effects);
        }
        if deleted {
            // That it is gone can be told without its content.
            let nothing = Arc::new(Object { meta, body: bytes::Bytes::new() });
            return self.deleted(&nothing, now, effects);
        }
        match self.standing(&meta) {
            Standing::Rewind => return self.rewind(now, effects),
            Standing::Repeat => {
                self.known.put(&meta, self.epoch, self.attempt);
            }
            Standing::News => {
                let before = self.known.get(&meta.key).filter(|entry| entry.uid != meta.uid).cloned();
                self.known.put(&meta, self.epoch, self.attempt).skipped = true;
                if let Some(before) = before {
                    let mut telling = Telling::new(self.epoch);
                    self.tell_over(&meta.key, &before, before_version(&meta), &mut telling);
                    telling.finish(effects);
                }
            }
        }
        self.settle_doubts(&meta, effects);
        if matches!(self.stream, Stream::Live { .. }) {
            self.advance(meta.resource_version, effects);
        }
    }

    /// What exists, but could not be decoded, cannot be told again: who may have been told of it counts as told.
    fn settle_doubts(&mut self, meta: &Meta, effects: &mut Vec<Effect>) {
        let mut telling = Telling::new(self.epoch);
        for slot in (0..self.followers.len()).map(Slot) {
            let Some(doubt) = self.take_doubt(slot, meta, self.epoch) else { continue };
            let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { continue };
            if doubt.uid != meta.uid {
                self.tell_gone(slot, &meta.key, &doubt, before_version(meta), &mut telling);
                continue;
            }
            let Some(entry) = self.known.get_mut(&meta.key) else { continue };
            // And hears of it again as soon as it can be decoded.
            entry.skipped = true;
            match &mut follower.phase {
                Phase::Seam { view, .. } | Phase::Listing { view, .. } if view.get(&meta.key).is_none() => {
                    view.insert(meta.key.clone(), doubt);
                }
                Phase::Seam { .. } | Phase::Listing { .. } => {}
                Phase::Following => entry.told.insert(slot),
            }
        }
        telling.finish(effects);
    }

    /// Design, section 2: the table, as far as it does not depend on the Subscription.
    fn standing(&self, meta: &Meta) -> Standing {
        let version = meta.resource_version;
        let known = self.known.get(&meta.key);
        if known.is_some_and(|entry| entry.epoch < self.epoch) {
            return Standing::News;
        }
        if let Stream::Snapshot { .. } = self.stream {
            let exact = known.is_some_and(|entry| entry.uid == meta.uid && entry.version == version);
            // A complete view up to the position has exactly the versions that were decided up to it.
            let decided = !self.blind && self.position.is_some_and(|position| version <= position);
            return match known {
                Some(entry) if exact && entry.skipped => Standing::News,
                _ if exact => Standing::Repeat,
                _ if decided => Standing::Rewind,
                Some(entry) if version < entry.version => Standing::Rewind,
                _ => Standing::News,
            };
        }
        match known {
            None => Standing::News,
            Some(entry) if version > entry.version => Standing::News,
            Some(entry) if entry.uid == meta.uid && version < entry.version => match self.stream {
                // Opened before the position: an older stretch is being repeated.
                Stream::Live { since } if version > since => Standing::Repeat,
                _ => Standing::Rewind,
            },
            Some(_) => Standing::Repeat,
        }
    }

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
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
        let meta = &object.meta;
        let was = match &mut follower.phase {
            Phase::Listing { held, view, .. } if !view.follows(&meta.key) => {
                let news = Held::Present { object: object.clone(), epoch: self.epoch, skipped };
                return held.entry(meta.key.clone()).or_default().push(news);
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
        // The view is ahead of the Watch.
        if was.as_ref().is_some_and(|was| was.is_after(meta, epoch)) {
            return;
        }
        // After a crash the stream repeats older versions than were told. That an object left is said of the
        // version that the LIST shows; and of one that the LIST does not show, that it is gone.
        let same_life = was.as_ref().is_some_and(|was| was.uid == meta.uid);
        let leaves = same_life && !follower.selection.selects(&meta.key);
        let doubted = |doubt: &Doubted| was.is_none() && doubt.told.uid == meta.uid;
        let may_leave = !follower.selection.selects(&meta.key)
            && self.doubts.get(&(slot, meta.key.clone())).is_some_and(doubted);
        let missed = match &mut follower.phase {
            Phase::Listing { .. } if may_leave => return,
            Phase::Listing { view, .. } if leaves => return view.miss(&meta.key),
            Phase::Seam { view, floor, .. } if leaves && live && meta.resource_version <= *floor => {
                return view.miss(&meta.key);
            }
            Phase::Listing { view, .. } | Phase::Seam { view, .. } => view.take_missed(&meta.key),
            Phase::Following => false,
        };
        let (unread, skipped) = (skipped, skipped || missed);
        let doubt = self.take_doubt(slot, meta, epoch).filter(|_| was.is_none());
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
        let selected = follower.selection.selects(&meta.key);
        let (on, fresh) = (follower.on, follower.fresh);
        let mut say = |kind, reason, gap, missed| {
            if on.contains(kind) {
                telling.add(slot, kind, reason, gap, missed, Content::Object(object.clone()));
            }
        };
        let found = source.reason();
        match was {
            // It may have been told of it when its selection was another one.
            None if !selected && doubt.as_ref().is_some_and(|doubt| doubt.uid == meta.uid) => {
                say(ChangeKind::Left, Reason::Selection, false, 0);
            }
            None if !selected && doubt.is_none() => return,
            None if !selected => {}
            None if fresh && !live => say(ChangeKind::Snapshot, Reason::Snapshot, false, 0),
            None => say(ChangeKind::Added, found, skipped || !live, 0),
            Some(was) if was.uid == meta.uid && !selected => {
                say(ChangeKind::Left, Reason::Selection, false, 0);
            }
            // A repeat, unless what was told of this version is that it could not be decoded.
            Some(was) if !was.is_before(meta, epoch) && !unread => return,
            Some(was) if was.uid == meta.uid => {
                let gap = !live || skipped;
                say(ChangeKind::Updated, found, gap, if gap { was.missed(meta) } else { 0 });
            }
            Some(was) => {
                if selected {
                    say(ChangeKind::Added, found, true, 0);
                }
                self.tell_gone(slot, &meta.key, &was, before_version(meta), telling);
            }
        }
        if let Some(doubt) = doubt.filter(|doubt| doubt.uid != meta.uid) {
            self.tell_gone(slot, &meta.key, &doubt, before_version(meta), telling);
        }
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
        match &mut follower.phase {
            Phase::Seam { view, .. } | Phase::Listing { view, .. } if selected => {
                view.insert(meta.key.clone(), Told::at(meta, epoch));
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
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
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
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
        // A stream that has everything would have shown it again before.
        let skipped = skipped || missed || was.is_none();
        let Some(was) = was.or(doubt) else { return };
        if was.uid != meta.uid {
            self.tell_gone(slot, &meta.key, &was, before_version(meta), telling);
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
    fn take_doubt(&mut self, slot: Slot, meta: &Meta, epoch: Epoch) -> Option<Told> {
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
        for slot in (0..self.followers.len()).map(Slot).filter(|slot| entry.told.contains(*slot)) {
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
        let follower = self.followers.get(slot.0).and_then(Option::as_ref);
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

/// Whatever was under the name before `meta` was gone by then.
pub(super) fn before_version(meta: &Meta) -> ResourceVersion {
    ResourceVersion(meta.resource_version.0.saturating_sub(1))
}

// === impl Source ===

impl Source {
    fn reason(self) -> Reason {
        match self {
            Self::Stream => Reason::Watch,
            Self::Snapshot | Self::Backfill => Reason::Reconcile,
        }
    }
}

// === impl Telling ===

impl Telling {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, changes: Vec::new() }
    }

    /// Adds a listener to a Change, or a Change.
    pub(super) fn add(
        &mut self,
        slot: Slot,
        kind: ChangeKind,
        reason: Reason,
        gap: bool,
        gap_missed: u64,
        content: Content,
    ) {
        self.put(slot, Change { kind, reason, epoch: self.epoch, gap, gap_missed, content });
    }

    fn put(&mut self, slot: Slot, change: Change) {
        match self.changes.iter_mut().find(|(other, _)| other.is_same_telling(&change)) {
            Some((_, slots)) => slots.push(slot),
            None => self.changes.push((change, vec![slot])),
        }
    }

    pub(super) fn finish(mut self, effects: &mut Vec<Effect>) {
        // One Subscription may hear only of the new life, another of the end of the old one before it.
        self.changes.sort_by_key(|(change, _)| change.kind != ChangeKind::Deleted);
        effects
            .extend(self.changes.into_iter().map(|(change, to)| Effect::Emit { change: change.into(), to }));
    }
}

impl Change {
    /// Equal in everything but the content, which is compared by identity: a body is never looked at.
    fn is_same_telling(&self, other: &Self) -> bool {
        (self.kind, self.reason, self.epoch, self.gap, self.gap_missed)
            == (other.kind, other.reason, other.epoch, other.gap, other.gap_missed)
            && match (&self.content, &other.content) {
                (Content::Object(left), Content::Object(right)) => Arc::ptr_eq(left, right),
                (left @ Content::Identity { .. }, right @ Content::Identity { .. }) => left == right,
                _ => false,
            }
    }
}

impl Content {
    pub(super) fn identity(
        key: &ObjectKey,
        uid: &Uid,
        resource_version: ResourceVersion,
        gone_at: ResourceVersion,
    ) -> Self {
        Self::Identity { key: key.clone(), uid: uid.clone(), resource_version, gone_at }
    }
}
