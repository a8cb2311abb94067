//! One object's news, decided for the Watch; `tell.rs` decides what that is to each Subscription.

use std::sync::Arc;

use super::follower::Phase;
use super::telling::Telling;
use super::{Effect, Stream, Watch};
use crate::change::Reason;
use crate::known::Entry;
use crate::object::{Meta, Object};

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
        for slot in self.followers.slots() {
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
        for slot in self.followers.slots() {
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
                    self.tell_over(&meta.key, &before, meta.resource_version.previous(), &mut telling);
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
        for slot in self.followers.slots() {
            let Some(doubt) = self.take_doubt(slot, meta, self.epoch) else { continue };
            if doubt.uid != meta.uid {
                self.tell_gone(slot, &meta.key, &doubt, meta.resource_version.previous(), &mut telling);
                continue;
            }
            let Some(entry) = self.known.get_mut(&meta.key) else { continue };
            // And hears of it again as soon as it can be decoded.
            entry.skipped = true;
            let Some(follower) = self.followers.get_mut(slot) else { continue };
            let (Phase::Seam { view, .. } | Phase::Listing { view, .. }) = &mut follower.phase else {
                entry.told.insert(slot);
                continue;
            };
            if view.get(&meta.key).is_some_and(|was| was.uid == meta.uid) {
                continue;
            }
            // What it was told before is a life that was over when this one began.
            let before = view.remove(&meta.key);
            view.insert(meta.key.clone(), doubt);
            if let Some(before) = before {
                self.tell_gone(slot, &meta.key, &before, meta.resource_version.previous(), &mut telling);
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
}

// === impl Source ===

impl Source {
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Stream => Reason::Watch,
            Self::Snapshot | Self::Backfill => Reason::Reconcile,
        }
    }
}
