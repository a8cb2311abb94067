//! What is stored, as plain data.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidings_core::change::Change;
use tidings_core::cursor::SavedCursor;
use tidings_core::known::Slot;
use tidings_core::object::ResourceVersion;
use tidings_core::route::{Kind, Resource};
use tidings_core::watch::saved::{Difference, Head, Saved};

/// Tells Watches apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WatchName {
    /// What is watched.
    pub kind: Kind,
    /// Only in this namespace.
    pub namespace: Option<String>,
}

/// What is small of a Watch: it is written whole with every commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRecord {
    /// What the kind was last served as.
    pub resource: Option<Resource>,
    /// The machine of the core.
    pub head: Head,
    /// The number of the next Change in the Journal.
    pub next: u64,
    /// Who follows.
    pub subscriptions: Vec<SubscriptionRecord>,
}

/// One Subscription on one Watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionRecord {
    /// Its slot in the Watch.
    pub slot: Slot,
    /// Its uid.
    pub uid: Arc<str>,
    /// `namespace/name`.
    pub subscription: Arc<str>,
    /// Where its Events go: with another place it starts anew.
    pub place: String,
    /// The generation it was served in.
    pub generation: u64,
    /// What of the Journal it has settled.
    pub cursor: SavedCursor,
}

/// One Change in the Journal of a Watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRecord {
    /// Its number, from 1, in the order of decision; never used twice.
    pub number: u64,
    /// What happened.
    pub change: Arc<Change>,
    /// Who is told of it and had it not settled when it was stored.
    pub to: Vec<Recipient>,
    /// Where the Watch stood before it was decided.
    pub before: Option<ResourceVersion>,
    /// When it was decided, in milliseconds since 1970.
    pub decided: u64,
}

/// One who is told of a Change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The slot in the Watch.
    pub slot: Slot,
    /// The generation of the Subscription when it was decided: some ids hold it.
    pub generation: u64,
}

/// One flush of one Watch.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Which Watch.
    pub watch: WatchName,
    /// Its record, whole.
    pub record: WatchRecord,
    /// What changed in Known and in the views.
    pub difference: Difference,
    /// Changes that are not settled yet, in order of their numbers; may be empty.
    pub entries: Vec<Arc<JournalRecord>>,
    /// The chunk they are stored as; never used twice within a Watch, rising.
    pub chunk: u64,
    /// Chunks in which everything is settled.
    pub dead: Vec<u64>,
}

/// What a store has of a Watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredWatch {
    /// Its record.
    pub record: WatchRecord,
    /// Known and the views.
    pub saved: Saved,
    /// The chunks of its Journal, in order.
    pub chunks: Vec<ChunkRecord>,
}

/// One chunk of a Journal, without its bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRecord {
    /// Its number.
    pub chunk: u64,
    /// What it takes on disk, in bytes.
    pub bytes: usize,
    /// What is in it.
    pub index: ChunkIndex,
}

/// The numbers of a chunk's entries and who is told of each, in order.
pub type ChunkIndex = Vec<(u64, Vec<Slot>)>;

// === impl Commit ===

impl Commit {
    /// One that changes only what is small.
    pub fn of_record(watch: WatchName, record: WatchRecord) -> Self {
        let (difference, entries) = (Difference::default(), Vec::new());
        Self { watch, record, difference, entries, chunk: 0, dead: Vec::new() }
    }
}
