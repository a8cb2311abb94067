//! What the memory of a bridge is bounded by: the formula of its design, `25 MB + ring + Journal's tail + n · (100 B +
//! name) + what lanes hold + a few of the largest objects`, with the default settings.

/// Code, stacks, connections and what the allocator keeps.
const BASE: u64 = 25_000_000;
/// `ring_bytes`.
const RING: u64 = 4 << 20;
/// `journal_bytes`.
const TAIL: u64 = 64 << 20;
/// Of an object that is known, besides its name.
const OBJECT: u64 = 100;
/// A lane takes no more when it holds so much.
const LANE: u64 = 8 << 20;
/// Or so many Changes for each that may be unacked.
const HELD: u64 = 4;
/// Of the store, what a lane that is behind reads at once: packed, and unpacked.
const CHUNK: u64 = 2 * (2 << 20);
/// Copies of the largest objects: read, decided, encoded, sent.
const FEW: u64 = 4;

/// What a bridge has to do.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Objects that exist.
    pub objects: u64,
    /// Length of `namespace/name`.
    pub name: u64,
    /// Length of an object.
    pub size: u64,
    /// Subscriptions on it.
    pub subscriptions: u64,
    /// Messages that each may have unacked.
    pub in_flight: u64,
}

// === impl Work ===

impl Work {
    /// The most memory it may take, in bytes.
    pub fn bound(self) -> u64 {
        let Self { objects, name, size, subscriptions, in_flight } = self;
        // One object more than there is room for, because there was room before it came.
        let lane = (HELD * in_flight * size).min(LANE + size) + CHUNK;
        BASE + RING + TAIL + objects * (OBJECT + name) + subscriptions * lane + FEW * size
    }
}
