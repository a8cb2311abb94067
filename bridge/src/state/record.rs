//! What is stored, as plain data.

use std::collections::BTreeMap;
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
    /// What changed in the Journal.
    pub journal: Flush,
}

/// What a commit changes in the Journal of a Watch.
#[derive(Clone, Debug, Default)]
pub struct Flush {
    /// Changes that are not settled yet, in order of their numbers; may be empty.
    pub entries: Vec<Arc<JournalRecord>>,
    /// The number of the first chunk that is made; the others follow it. Never used twice within a Watch, rising.
    pub chunk: u64,
    /// Chunks that follow each other, of which as many as fit into one become one. Only what somebody has not settled, by
    /// the cursors of the record, is kept of them.
    pub merge: Vec<u64>,
    /// Chunks in which everything is settled.
    pub dead: Vec<u64>,
}

/// What a store made of a flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// The chunks of its entries, in order.
    pub chunks: Vec<ChunkRecord>,
    /// Those that were merged.
    pub merged: Vec<u64>,
    /// What they became; nothing when nothing was left of them.
    pub into: Option<ChunkRecord>,
}

/// What a store has of a Watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredWatch {
    /// Its record.
    pub record: WatchRecord,
    /// Known and the views.
    pub saved: Saved,
    /// The chunks of its Journal, in the order of what is in them.
    pub chunks: Vec<ChunkRecord>,
}

/// One chunk of a Journal, without its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRecord {
    /// Its number.
    pub chunk: u64,
    /// The number of the first Change in it.
    pub first: u64,
    /// The number of the last one.
    pub last: u64,
    /// How many there are.
    pub entries: u64,
    /// What it takes on disk.
    pub bytes: u64,
    /// How many of them each Subscription has not settled, where it is not none.
    pub open: Vec<(Slot, u64)>,
}

/// The numbers of a chunk's entries and who is told of each, in order.
pub type ChunkIndex = Vec<(u64, Vec<Slot>)>;

/// The bodies of a chunk, but for one object that is larger: little enough to be held, packed and unpacked, by whoever
/// reads or writes one, and enough to compress well.
pub const CHUNK_BYTES: usize = 1 << 20;

// === impl WatchRecord ===

impl WatchRecord {
    /// Tells of a Subscription and a Change that it was told of whether it has not settled it.
    pub fn is_open(&self) -> impl Fn(Slot, u64) -> bool + use<'_> {
        let subscriptions = self.subscriptions.iter();
        let cursors: BTreeMap<_, _> =
            subscriptions.map(|subscription| (subscription.slot, &subscription.cursor)).collect();
        move |slot, number| cursors.get(&slot).is_some_and(|cursor| cursor.is_open(number))
    }
}

// === impl Commit ===

impl Commit {
    /// One that changes only what is small.
    pub fn of_record(watch: WatchName, record: WatchRecord) -> Self {
        Self { watch, record, difference: Difference::default(), journal: Flush::default() }
    }
}

// === impl JournalRecord ===

impl JournalRecord {
    /// Whether the Subscription in this slot is told of it.
    pub fn is_for(&self, slot: Slot) -> bool {
        self.recipient(slot).is_some()
    }

    /// The Subscription in this slot, if it is told of it.
    pub fn recipient(&self, slot: Slot) -> Option<&Recipient> {
        self.to.iter().find(|to| to.slot == slot)
    }
}

// === impl ChunkRecord ===

impl ChunkRecord {
    /// The chunk with this number and these entries, which takes so many bytes; nothing where there are none.
    pub fn of(
        chunk: u64,
        index: &ChunkIndex,
        bytes: usize,
        is_open: impl Fn(Slot, u64) -> bool,
    ) -> Option<Self> {
        let ((first, _), (last, _)) = (index.first()?, index.last()?);
        let mut open: BTreeMap<Slot, u64> = BTreeMap::new();
        for (number, slots) in index {
            for slot in slots.iter().filter(|slot| is_open(**slot, *number)) {
                *open.entry(*slot).or_default() += 1;
            }
        }
        let (entries, bytes) = (index.len() as u64, bytes as u64);
        Some(Self { chunk, first: *first, last: *last, entries, bytes, open: open.into_iter().collect() })
    }

    /// How many entries this Subscription has not settled.
    pub fn open(&self, slot: Slot) -> u64 {
        self.open.iter().find(|(of, _)| *of == slot).map_or(0, |(_, open)| *open)
    }

    /// The share of the bytes that so many of the entries have.
    pub fn share(&self, entries: u64) -> u64 {
        self.bytes * entries.min(self.entries) / self.entries.max(1)
    }
}
