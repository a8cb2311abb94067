//! What happened to an object, as decided by the core.
//!
//! Before: core/src/watch.rs
//! Next: core/src/event.rs

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::object::{AROUND, Meta, Object, ObjectKey, ResourceVersion, Uid};

/// The kinds of Change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ChangeKind {
    /// The object exists like this; nothing is said about when it came to be.
    Snapshot,
    /// The object came into being, or into a Selection.
    Added,
    /// The object is another version than the one told before.
    Updated,
    /// The object is gone.
    Deleted,
    /// The object exists on, but no longer in the Selection.
    Left,
}

/// How the bridge came to know of a Change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The watch said so.
    Watch,
    /// The first complete view of a Subscription.
    Snapshot,
    /// Comparing the present state with Known after history was lost.
    Reconcile,
    /// The Subscription's own selection was edited.
    Selection,
    /// A change of the object itself, of its labels, brought it into the selection.
    Entered,
}

/// The time in Unix seconds at which a rewind of the cluster's history was noticed; zero before any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// One Change of one object. The same for every Subscription it goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// How it came to be known.
    pub reason: Reason,
    /// The history this version belongs to.
    pub epoch: Epoch,
    /// Intermediate versions before this one may be missing.
    pub gap: bool,
    /// How many generations were not seen; zero where that is unknown or none.
    pub gap_missed: u64,
    /// The object in this version; of a Deleted the last content, where it is known.
    pub content: Content,
}

/// What is known of the object that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// The whole object.
    Object(Arc<Object>),
    /// Only who it was: a delete that was concluded from absence. The version is the last one known.
    Identity {
        /// Namespace and name.
        key: ObjectKey,
        /// Which life of that name.
        uid: Uid,
        /// The last known version.
        resource_version: ResourceVersion,
        /// At this version it was gone, and whatever was told of it is not later.
        gone_at: ResourceVersion,
    },
}

/// A set of change kinds, as `spec.on` names them; and whether only updates of the generation count, as `spec.changed` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeKinds(u8);

// === impl ChangeKind ===

impl ChangeKind {
    /// Every kind, in the order a life runs through them.
    pub const ALL: [Self; 5] = [Self::Snapshot, Self::Added, Self::Updated, Self::Deleted, Self::Left];

    /// The last part of the Event's type, e.g. `added`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Added => "added",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Left => "left",
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Reason ===

impl Reason {
    /// The value of the Event's extension `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Snapshot => "snapshot",
            Self::Reconcile => "reconcile",
            Self::Selection | Self::Entered => "selection",
        }
    }
}

// === impl Change ===

impl Change {
    /// What the watch says of `object` while nothing is missing.
    pub fn watched(kind: ChangeKind, object: impl Into<Arc<Object>>) -> Self {
        let content = Content::Object(object.into());
        Self { kind, reason: Reason::Watch, epoch: Epoch::default(), gap: false, gap_missed: 0, content }
    }

    /// Namespace and name.
    pub fn key(&self) -> &ObjectKey {
        match &self.content {
            Content::Object(object) => &object.meta.key,
            Content::Identity { key, .. } => key,
        }
    }

    /// Which life of that name.
    pub fn uid(&self) -> &Uid {
        match &self.content {
            Content::Object(object) => &object.meta.uid,
            Content::Identity { uid, .. } => uid,
        }
    }

    /// The version; of a concluded delete the last one known.
    pub fn resource_version(&self) -> ResourceVersion {
        match &self.content {
            Content::Object(object) => object.meta.resource_version,
            Content::Identity { resource_version, .. } => *resource_version,
        }
    }

    /// The metadata, where more than the identity is known.
    pub fn meta(&self) -> Option<&Meta> {
        match &self.content {
            Content::Object(object) => Some(&object.meta),
            Content::Identity { .. } => None,
        }
    }

    /// Where it stands among what is told of its name: history, version, and whether the end of a life was
    /// concluded, which comes after whatever else has that version.
    pub fn order(&self) -> (Epoch, ResourceVersion, bool) {
        match &self.content {
            Content::Object(object) => (self.epoch, object.meta.resource_version, false),
            Content::Identity { gone_at, .. } => (self.epoch, *gone_at, true),
        }
    }

    /// What this Change takes in memory, in bytes, for budgets.
    pub fn size(&self) -> usize {
        match &self.content {
            Content::Object(object) => object.size(),
            Content::Identity { .. } => AROUND,
        }
    }
}

// === impl ChangeKinds ===

impl ChangeKinds {
    /// Every kind: the default of a Subscription.
    pub const ALL: Self = Self(0b1_1111);
    /// No kind has this bit.
    const GENERATION: u8 = 1 << 7;

    /// Exactly these kinds.
    pub fn of(kinds: impl IntoIterator<Item = ChangeKind>) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | 1 << kind as u8))
    }

    /// The same, and of updates only those that change `metadata.generation`: what is desired, not what is reported.
    #[must_use]
    pub fn of_generations(self) -> Self {
        Self(self.0 | Self::GENERATION)
    }

    /// Whether an update counts from the generation `before` (zero where it is not known) to `now`. Where a resource has no
    /// generations, every update does.
    pub fn counts(self, before: u64, now: Option<u64>) -> bool {
        self.0 & Self::GENERATION == 0 || now != Some(before)
    }

    /// Whether `kind` is one of them.
    pub fn contains(self, kind: ChangeKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

impl Default for ChangeKinds {
    fn default() -> Self {
        Self::ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_hold_what_they_were_made_of() {
        for kind in ChangeKind::ALL {
            assert!(ChangeKinds::ALL.contains(kind));
            assert!(ChangeKinds::of([kind]).contains(kind));
            assert!(!ChangeKinds::of([]).contains(kind));
        }
    }
}
