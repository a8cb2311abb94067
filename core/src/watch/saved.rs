//! What of a Watch has to survive the process: taken as small differences while it runs, and put together again.
//!
//! On disk Known is exactly the state at the stored position; while a snapshot or a Reconcile runs the position is
//! only where that began, and a restart begins it again. What was told since the last difference was stored is in
//! the told log, and comes back as *doubts*: the Subscription may have heard of it, or not.

use serde::{Deserialize, Serialize};

use crate::change::{ChangeKinds, Epoch};
use crate::known::{Entry, Slot};
use crate::object::{ObjectKey, ResourceVersion, Uid};
use crate::route::Selection;

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
    Listing,
    /// In a view, until the Watch has passed the LIST.
    Seam {
        /// The version of the LIST.
        floor: ResourceVersion,
        /// Names that the changes of the Watch continue, whatever the LIST showed.
        continued: Vec<ObjectKey>,
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

/// From the told log: this Subscription may have been told, after the last difference that was stored, that the
/// object exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The Subscription.
    pub slot: Slot,
    /// The object.
    pub key: ObjectKey,
    /// What it may have been told.
    pub told: Told,
}
