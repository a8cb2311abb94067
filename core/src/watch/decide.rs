//! One object's news, decided for the Watch and then for each Subscription.

use std::sync::Arc;

use super::follower::{Follower, Phase, Told};
use super::{Effect, Stream, Watch};
use crate::change::{Change, ChangeKind, Content, Epoch, Reason};
use crate::known::{Entry, Slot};
use crate::object::{Meta, Object, ResourceVersion};

/// What Known says about a version that came in.
enum Standing {
    /// Nothing is known under the name, or a version that this one follows.
    News,
    /// It is decided already.
    Repeat,
    /// It cannot be in the history that was decided.
    Rewind,
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
        let live = match self.stream {
            Stream::Live { .. } => true,
            Stream::Snapshot { .. } => false,
            Stream::Closed | Stream::Lost => return,
        };
        let news = match self.standing(meta) {
            Standing::Rewind => return self.rewind(now, effects),
            Standing::News => true,
            Standing::Repeat if live => return,
            // Not every Subscription was told of what the Watch knows, so a repeat in a snapshot goes on.
            Standing::Repeat => false,
        };
        let before = self.known.get(&meta.key).cloned();
        self.known.put(meta, self.attempt);
        let mut telling = Telling::new(self.epoch);
        for slot in (0..self.followers.len()).map(Slot) {
            self.tell_present(slot, object, before.as_ref(), live, &mut telling);
        }
        if news && let Some(entry) = self.known.get_mut(&meta.key) {
            // Whoever is told of this version is told with the gap marked.
            entry.skipped = false;
        }
        telling.finish(effects);
        if live {
            self.advance(meta.resource_version, effects);
        }
    }

    /// DELETED, with the version of the deletion.
    pub(super) fn deleted(&mut self, object: &Arc<Object>, now: u64, effects: &mut Vec<Effect>) {
        if matches!(self.stream, Stream::Closed | Stream::Lost) {
            return;
        }
        let meta = &object.meta;
        let before = match self.known.get(&meta.key) {
            Some(entry) if entry.version < meta.resource_version || self.rewound => {
                self.known.remove(&meta.key)
            }
            // A uid dies once, so a life that is known at a later version did not end before it.
            Some(entry) if entry.uid == meta.uid => return self.rewind(now, effects),
            _ => None,
        };
        let mut telling = Telling::new(self.epoch);
        for slot in (0..self.followers.len()).map(Slot) {
            self.tell_deleted(slot, object, before.as_ref(), &mut telling);
        }
        telling.finish(effects);
        if matches!(self.stream, Stream::Live { .. }) {
            self.advance(meta.resource_version, effects);
        }
    }

    /// Something that could not be decoded: it is named as far as possible, and the next version of the
    /// object says that one was missed.
    pub(super) fn undecodable(
        &mut self,
        meta: Option<Meta>,
        deleted: bool,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Skipped { key: meta.as_ref().map(|meta| meta.key.clone()) });
        let Some(meta) = meta else {
            if let Stream::Snapshot { sound } = &mut self.stream {
                *sound = false;
            }
            return;
        };
        if matches!(self.stream, Stream::Closed | Stream::Lost) {
            return;
        }
        if deleted {
            // That it is gone can be told without its content.
            let nothing = Arc::new(Object { meta, body: bytes::Bytes::new() });
            return self.deleted(&nothing, now, effects);
        }
        match self.standing(&meta) {
            Standing::Rewind => return self.rewind(now, effects),
            Standing::Repeat => {
                if let Some(entry) = self.known.get_mut(&meta.key) {
                    entry.seen = self.attempt;
                }
            }
            Standing::News => {
                let before = self.known.get(&meta.key).filter(|entry| entry.uid != meta.uid).cloned();
                self.known.put(&meta, self.attempt).skipped = true;
                if let Some(before) = before {
                    let gone = Content::identity(&meta.key, &before.uid, before.version);
                    let mut telling = Telling::new(self.epoch);
                    for slot in (0..self.followers.len()).map(Slot) {
                        if before.told.contains(slot) {
                            telling.add(slot, ChangeKind::Deleted, Reason::Reconcile, true, 0, gone.clone());
                        }
                    }
                    telling.finish_for(&self.followers, effects);
                }
            }
        }
        if matches!(self.stream, Stream::Live { .. }) {
            self.advance(meta.resource_version, effects);
        }
    }

    /// Design, section 2: the table, as far as it does not depend on the Subscription.
    fn standing(&self, meta: &Meta) -> Standing {
        let version = meta.resource_version;
        let known = self.known.get(&meta.key);
        if let Stream::Snapshot { .. } = self.stream {
            if self.rewound {
                return Standing::News;
            }
            let exact = known.is_some_and(|entry| entry.uid == meta.uid && entry.version == version);
            // A complete view up to the position has exactly the versions that were decided up to it.
            let decided = self.position.is_some_and(|position| version <= position);
            return match known {
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

    /// Tells one Subscription of a version, by what that Subscription was told before.
    pub(super) fn tell_present(
        &mut self,
        slot: Slot,
        object: &Arc<Object>,
        before: Option<&Entry>,
        live: bool,
        telling: &mut Telling,
    ) {
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
        let meta = &object.meta;
        let was = match &mut follower.phase {
            Phase::Listing { held, .. } => return held.push(super::follower::Held::Present(object.clone())),
            Phase::Following => before.filter(|entry| entry.told.contains(slot)).map(Told::of),
            Phase::Seam { view, floor, .. } => match view.get(&meta.key) {
                // The LIST was made after this version and does not have the object: it came and went.
                None if live && meta.resource_version <= *floor => return,
                was => was.cloned(),
            },
        };
        let selected = follower.selection.selects(&meta.key);
        let (reason, newcomer) = match (live, follower.fresh) {
            (true, _) => (Reason::Watch, ChangeKind::Added),
            (false, true) => (Reason::Snapshot, ChangeKind::Snapshot),
            (false, false) => (Reason::Reconcile, ChangeKind::Added),
        };
        let skipped = before.is_some_and(|entry| entry.skipped);
        let content = || Content::Object(object.clone());
        let mut say = |kind, reason, gap, missed, content| {
            if follower.on.contains(kind) {
                telling.add(slot, kind, reason, gap, missed, content);
            }
        };
        match was {
            None if !selected => return,
            None => say(newcomer, reason, skipped || (!live && !follower.fresh), 0, content()),
            Some(was) if was.uid == meta.uid => {
                if !selected {
                    say(ChangeKind::Left, Reason::Selection, false, 0, content());
                } else if was.version < meta.resource_version || self.rewound {
                    let gap = !live || skipped;
                    let missed = if gap { was.missed(meta) } else { 0 };
                    say(
                        ChangeKind::Updated,
                        if live { reason } else { Reason::Reconcile },
                        gap,
                        missed,
                        content(),
                    );
                } else {
                    return;
                }
            }
            Some(was) if was.version < meta.resource_version || self.rewound => {
                let gone = Content::identity(&meta.key, &was.uid, was.version);
                say(ChangeKind::Deleted, Reason::Reconcile, true, 0, gone);
                if selected {
                    say(ChangeKind::Added, if live { reason } else { Reason::Reconcile }, true, 0, content());
                }
            }
            // The view is ahead of the Watch: this life was over when the LIST was made.
            Some(_) => return,
        }
        match &mut follower.phase {
            Phase::Seam { view, .. } if selected => drop(view.insert(meta.key.clone(), Told::at(meta))),
            Phase::Seam { view, .. } => drop(view.remove(&meta.key)),
            _ => {
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
        telling: &mut Telling,
    ) {
        let Some(follower) = self.followers.get_mut(slot.0).and_then(Option::as_mut) else { return };
        let meta = &object.meta;
        let was = match &mut follower.phase {
            Phase::Listing { held, .. } => return held.push(super::follower::Held::Deleted(object.clone())),
            Phase::Following => before.filter(|entry| entry.told.contains(slot)).map(Told::of),
            Phase::Seam { view, .. } => {
                let older = |was: &Told| was.version < meta.resource_version || self.rewound;
                if view.get(&meta.key).is_some_and(older) { view.remove(&meta.key) } else { None }
            }
        };
        let Some(was) = was else { return };
        if !follower.on.contains(ChangeKind::Deleted) {
            return;
        }
        if was.uid != meta.uid {
            let gone = Content::identity(&meta.key, &was.uid, was.version);
            telling.add(slot, ChangeKind::Deleted, Reason::Reconcile, true, 0, gone);
        } else if object.body.is_empty() {
            let gone = Content::identity(&meta.key, &meta.uid, meta.resource_version);
            telling.add(slot, ChangeKind::Deleted, Reason::Watch, true, 0, gone);
        } else {
            telling.add(slot, ChangeKind::Deleted, Reason::Watch, false, 0, Content::Object(object.clone()));
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
        let change = Change { kind, reason, epoch: self.epoch, gap, gap_missed, content };
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

    /// The same, for Changes that were added without asking what each follower wants to hear of.
    fn finish_for(mut self, followers: &[Option<Follower>], effects: &mut Vec<Effect>) {
        for (change, to) in &mut self.changes {
            to.retain(|slot| {
                let follower = followers.get(slot.0).and_then(Option::as_ref);
                follower.is_some_and(|follower| follower.on.contains(change.kind))
            });
        }
        self.changes.retain(|(_, to)| !to.is_empty());
        self.finish(effects);
    }
}

impl Change {
    /// Equal in everything but the content, which is compared by identity: a body is never looked at.
    fn is_same_telling(&self, other: &Self) -> bool {
        (self.kind, self.reason, self.gap, self.gap_missed)
            == (other.kind, other.reason, other.gap, other.gap_missed)
            && match (&self.content, &other.content) {
                (Content::Object(left), Content::Object(right)) => Arc::ptr_eq(left, right),
                (left @ Content::Identity { .. }, right @ Content::Identity { .. }) => left == right,
                _ => false,
            }
    }
}

impl Told {
    /// How many generations lie between what was told and `meta`, without either.
    fn missed(&self, meta: &Meta) -> u64 {
        match meta.generation {
            Some(generation) if self.generation > 0 => generation.saturating_sub(self.generation + 1),
            _ => 0,
        }
    }

    pub(super) fn of(entry: &Entry) -> Self {
        Self { uid: entry.uid.clone(), version: entry.version, generation: entry.generation }
    }

    pub(super) fn at(meta: &Meta) -> Self {
        Self {
            uid: meta.uid.clone(),
            version: meta.resource_version,
            generation: meta.generation.unwrap_or_default(),
        }
    }
}

impl Content {
    pub(super) fn identity(
        key: &crate::object::ObjectKey,
        uid: &crate::object::Uid,
        resource_version: ResourceVersion,
    ) -> Self {
        Self::Identity { key: key.clone(), uid: uid.clone(), resource_version }
    }
}
