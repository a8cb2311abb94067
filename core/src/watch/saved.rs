//! What of a Watch has to survive the process: taken as small differences while it runs, and put together again.
//!
//! On disk Known is exactly the state at the stored position; while a snapshot or a Reconcile runs the position is
//! only where that began, and a restart begins it again. What was told since the last difference was stored is in
//! the told log, and comes back as *doubts*: the Subscription may have heard of it, or not.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::follower::{Follower, Phase};
pub use super::view::Streamed;
use super::view::View;
use super::{Stream, Watch};
use crate::change::{Change, ChangeKinds, Epoch};
use crate::known::{Entry, Known, Slot};
use crate::object::{ObjectKey, ResourceVersion, Uid};
use crate::selection::Selection;

/// Everything about a Watch that is not one entry per object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Everything up to here is decided, or was when what is running now began.
    pub position: Option<ResourceVersion>,
    /// A snapshot or a Reconcile was running or due: it begins again, and the position is not resumed at.
    pub reconciling: bool,
    /// The newest version the server is known to have had.
    pub newest: ResourceVersion,
    /// The history that versions belong to now.
    pub epoch: Epoch,
    /// The last snapshot held something that could not even be named.
    pub blind: bool,
    /// Who follows, by slot.
    pub followers: Vec<SavedFollower>,
    /// What may have been told, and is neither confirmed nor taken back yet. Empty but after a crash.
    pub doubts: Vec<Doubt>,
}

/// A Subscription on the Watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFollower {
    /// Its slot.
    pub slot: Slot,
    /// What it selects.
    pub selection: Selection,
    /// What it wants to hear of.
    pub on: ChangeKinds,
    /// It was never yet told everything that exists.
    pub fresh: bool,
    /// Where the knowledge of what it was told is kept.
    pub phase: SavedPhase,
}

/// Where the knowledge of what a Subscription was told is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SavedPhase {
    /// In Known.
    Following,
    /// In a view, while a LIST was under way; it begins again.
    Listing {
        /// Names of which it does not have to tell first.
        streamed: Streamed,
    },
    /// In a view, until the Watch has passed the LIST.
    Seam {
        /// The version of the LIST.
        floor: ResourceVersion,
        /// Names that the stream alone continues, whatever the LIST showed.
        streamed: Streamed,
        /// It has to be listed once more.
        relist: bool,
    },
}

/// What one Subscription was told of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Which life of the name.
    pub uid: Uid,
    /// The version it was told.
    pub version: ResourceVersion,
    /// The history that version belongs to.
    pub epoch: Epoch,
    /// The generation it was told, zero where the resource has none.
    pub generation: u64,
}

/// What changed since the last difference was taken. An absent value means that the entry is gone; what comes
/// twice is the same both times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Entries of Known, in no order.
    pub known: Vec<(ObjectKey, Option<Entry>)>,
    /// Views that are to be emptied before `views` is put in.
    pub emptied: Vec<Slot>,
    /// Entries of views, in no order.
    pub views: Vec<(Slot, ObjectKey, Option<Told>)>,
}

/// Everything that was stored of a Watch besides its head, in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Known.
    pub known: Vec<(ObjectKey, Entry)>,
    /// The views.
    pub views: Vec<(Slot, ObjectKey, Told)>,
}

/// From the told log: after the last difference that was stored, this Subscription may have been told that the object
/// exists, or that it left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The Subscription.
    pub slot: Slot,
    /// The object.
    pub key: ObjectKey,
    /// What it may have been told.
    pub told: Told,
}

/// What may have been told, to whom and of which name.
pub(super) type Doubts = BTreeMap<(Slot, ObjectKey), Doubted>;

/// What may have been told of a name.
#[derive(Clone, Debug)]
pub(super) struct Doubted {
    pub(super) told: Told,
    /// The LIST that is under way showed that it exists.
    pub(super) listed: bool,
}

// === impl Watch ===

impl Watch {
    /// The Watch as it was stored, and what may have been told after that. It takes differences from now on; from
    /// nothing it is a new Watch that does.
    pub fn restore(head: Head, saved: Saved, doubts: impl IntoIterator<Item = Doubt>) -> Self {
        let Head { position, reconciling, newest, epoch, blind, followers, doubts: older } = head;
        let Saved { known, views } = saved;
        let stream = if reconciling || position.is_none() { Stream::Lost } else { Stream::Closed };
        let known = Known::restore(known);
        let mut watch = Self { known, position, newest, epoch, stream, blind, ..Self::default() };
        let mut told: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (slot, key, entry) in views {
            told.entry(slot).or_default().insert(key, entry);
        }
        for follower in followers {
            let slot = follower.slot;
            let told = told.remove(&slot).unwrap_or_default();
            watch.followers.insert(slot, follower.restore(told, newest));
        }
        let follows = |slot: Slot| watch.followers.get(slot).is_some();
        let doubts = older.into_iter().chain(doubts).filter(|doubt| follows(doubt.slot));
        watch.doubts =
            doubts.map(|Doubt { slot, key, told }| ((slot, key), Doubted { told, listed: false })).collect();
        // The server had what was told of, so it cannot be older now, unless history went back.
        let seen = watch.doubts.values().map(|doubt| &doubt.told).filter(|told| told.epoch == epoch);
        watch.newest = seen.map(|told| told.version).fold(newest, ResourceVersion::max);
        watch.untell_the_doubtful();
        watch.list_the_doubtful();
        watch
    }

    /// How many objects changed since differences were taken last.
    pub fn changed(&self) -> usize {
        self.known.changed()
    }

    /// The head, and what changed besides since this was asked last.
    pub fn take_difference(&mut self) -> (Head, Difference) {
        let mut difference = Difference {
            known: self.known.take_difference(),
            emptied: std::mem::take(&mut self.emptied),
            views: Vec::new(),
        };
        for (slot, follower) in self.followers.iter_mut() {
            match &mut follower.phase {
                Phase::Following if std::mem::replace(&mut follower.stored, false) => {
                    difference.emptied.push(slot);
                }
                Phase::Following => {}
                Phase::Listing { view, .. } | Phase::Seam { view, .. } => {
                    follower.stored = true;
                    let changed = view.take_difference();
                    if changed.whole {
                        difference.emptied.push(slot);
                    }
                    difference.views.extend(changed.entries.into_iter().map(|(key, told)| (slot, key, told)));
                }
            }
        }
        (self.head(), difference)
    }

    fn head(&self) -> Head {
        Head {
            position: self.recovering_since().or(self.position),
            reconciling: self.position().is_none(),
            newest: self.newest,
            epoch: self.epoch,
            blind: self.blind,
            followers: self.followers.iter().map(|(slot, follower)| follower.save(slot)).collect(),
            doubts: self
                .doubts
                .iter()
                .map(|((slot, key), doubt)| Doubt { slot: *slot, key: key.clone(), told: doubt.told.clone() })
                .collect(),
        }
    }

    /// Nobody is known to have been told, or not, of what is in doubt.
    fn untell_the_doubtful(&mut self) {
        for ((slot, key), doubt) in &self.doubts {
            let same_life = |uid: &Uid| *uid == doubt.told.uid;
            if let Some(entry) = self.known.get_mut(key).filter(|entry| same_life(&entry.uid)) {
                entry.told.remove(*slot);
            }
            let Some(follower) = self.followers.get_mut(*slot) else { continue };
            match &mut follower.phase {
                Phase::Listing { view, .. } | Phase::Seam { view, .. }
                    if view.get(key).is_some_and(|told| same_life(&told.uid)) =>
                {
                    view.remove(key);
                }
                _ => {}
            }
        }
    }

    /// A stream that resumes shows again what was told of it since the position. What is older was told by a LIST
    /// or a snapshot, and only another LIST can say what became of it; and so with what is not selected.
    fn list_the_doubtful(&mut self) {
        let Some(position) = self.position() else { return };
        let old = |told: &Told| told.version <= position || told.epoch != self.epoch;
        let selected = |slot: Slot, key: &ObjectKey| {
            let follower = self.followers.get(slot);
            follower.is_some_and(|follower| follower.selection.may_select(key))
        };
        let doubtful: BTreeSet<_> = self
            .doubts
            .iter()
            .filter(|((slot, key), doubt)| old(&doubt.told) || !selected(*slot, key))
            .map(|((slot, _), _)| *slot)
            .collect();
        for slot in doubtful {
            let Some(follower) = self.followers.get_mut(slot) else { continue };
            let view = match &mut follower.phase {
                Phase::Listing { .. } => continue,
                Phase::Seam { view, .. } => std::mem::take(view),
                Phase::Following => {
                    let selection = follower.selection.clone();
                    let mut view = self.told_view(slot);
                    view.keep_steady(&selection, Some(ResourceVersion::default()), []);
                    view
                }
            };
            if let Some(follower) = self.followers.get_mut(slot) {
                follower.phase = Phase::listing(0, self.newest, view);
            }
        }
    }
}

// === impl Head ===

impl Head {
    /// What was stored is of another history than what comes: everything that exists is told again, as after a rewind.
    pub fn begin_history(&mut self, now: u64) {
        self.epoch = Epoch(now.max(self.epoch.0 + 1));
        (self.position, self.newest, self.reconciling) = (None, ResourceVersion::default(), true);
    }
}

// === impl Follower ===

impl Follower {
    fn save(&self, slot: Slot) -> SavedFollower {
        let Self { selection, on, fresh, phase, stored: _ } = self;
        let phase = match phase {
            Phase::Following => SavedPhase::Following,
            Phase::Listing { view, .. } => SavedPhase::Listing { streamed: view.streamed().clone() },
            Phase::Seam { floor, view, relist } => {
                SavedPhase::Seam { floor: *floor, streamed: view.streamed().clone(), relist: *relist }
            }
        };
        SavedFollower { slot, selection: selection.clone(), on: *on, fresh: *fresh, phase }
    }
}

// === impl Told ===

impl Told {
    /// What `change` tells, unless it is only that something is gone.
    pub fn by(change: &Change) -> Option<Self> {
        change.meta().map(|meta| Self::at(meta, change.epoch))
    }
}

// === impl SavedFollower ===

impl SavedFollower {
    fn restore(self, told: BTreeMap<ObjectKey, Told>, newest: ResourceVersion) -> Follower {
        let Self { slot: _, selection, on, fresh, phase } = self;
        let stored = phase != SavedPhase::Following;
        let phase = match phase {
            SavedPhase::Following => Phase::Following,
            SavedPhase::Listing { streamed } => Phase::listing(0, newest, View::restore(told, streamed)),
            SavedPhase::Seam { floor, streamed, relist } => {
                let view = View::restore(told, streamed);
                Phase::Seam { floor, view, relist }
            }
        };
        Follower { selection, on, fresh, phase, stored }
    }
}
