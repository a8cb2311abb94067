//! What a Journal knows of its chunks in the store: of each its range, its size, and how many entries everybody has
//! open. What is in them is read when somebody needs it.
//!
//! Before: bridge/src/journal/tail.rs
//! Next: bridge/src/state.rs

use std::collections::BTreeMap;

use tidings_core::compaction::Compacted;
use tidings_core::cursor::Cursor;
use tidings_core::known::Slot;

use crate::state::record::{CHUNK_BYTES, ChunkRecord, Flushed};

#[derive(Debug, Default)]
pub(super) struct Stored {
    /// By the number of the last Change in it: chunks follow each other.
    chunks: BTreeMap<u64, ChunkRecord>,
    /// Chunks in which everything is settled, and that are still stored.
    dead: Vec<u64>,
    /// The number of the next chunk.
    next: u64,
    /// What each has open, as its share of the bytes of its chunks.
    bytes: BTreeMap<Slot, u64>,
    /// Flushes until it is looked again what may be merged.
    patience: u32,
}

/// So many chunks at most become one at once, which bounds what a commit does besides its own.
const RUN: usize = 16;
/// Chunks of which so little is open that a few of them make one.
const THIN: u64 = (CHUNK_BYTES / 8) as u64;
/// What is settled of some chunks in a row, for which the rest is worth being written anew.
const WASTE: u64 = CHUNK_BYTES as u64;
/// More chunks than that are merged only to be fewer: each takes memory.
const MANY: usize = 4096;
/// Flushes between two looks for what may be merged.
const PATIENCE: u32 = 8;

// === impl Stored ===

impl Stored {
    pub(super) fn restore(chunks: Vec<ChunkRecord>) -> Self {
        let next = chunks.iter().map(|chunk| chunk.chunk + 1).max().unwrap_or(1);
        let mut stored = Self { next, ..Self::default() };
        for chunk in chunks {
            stored.add(chunk);
        }
        stored
    }

    /// The number of the next chunk.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether nobody has anything open in the store.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many entries `slot` has open.
    pub(super) fn open(&self, slot: Slot) -> u64 {
        self.chunks.values().map(|chunk| chunk.open(slot)).sum()
    }

    /// The share of `slot` of what is stored.
    pub(super) fn bytes(&self, slot: Slot) -> u64 {
        self.bytes.get(&slot).copied().unwrap_or_default()
    }

    /// The chunks in which `slot` has something open, in order, and the number of the last Change in them.
    pub(super) fn of(&self, slot: Slot) -> Option<(Vec<u64>, u64)> {
        let of_slot = || self.chunks.iter().filter(|(_, chunk)| chunk.open(slot) > 0);
        let (last, _) = of_slot().next_back()?;
        Some((of_slot().map(|(_, chunk)| chunk.chunk).collect(), *last))
    }

    /// Whether the chunk is there, and somebody has something of it open.
    pub(super) fn holds(&self, chunk: u64) -> bool {
        self.chunks.values().any(|stored| stored.chunk == chunk)
    }

    /// The first chunk in which there is something that `slot` is to take.
    pub(super) fn wanted(&self, slot: Slot, cursor: &Cursor) -> Option<&ChunkRecord> {
        let holds = |chunk: &ChunkRecord| chunk.open(slot) > cursor.passed(chunk.first..=chunk.last);
        let mut chunks = self.chunks.range(cursor.wanted()..);
        chunks.find(|(_, chunk)| holds(chunk)).map(|(_, chunk)| chunk)
    }

    /// Chunks that nobody needs any more; whoever asks removes them.
    pub(super) fn take_dead(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.dead)
    }

    /// One who was told of this Change is done with it.
    pub(super) fn close(&mut self, slot: Slot, number: u64) {
        if let Some((last, _)) = self.chunks.range(number..).next() {
            self.lower(*last, slot, 1);
        }
    }

    /// Who leaves has nothing open any more.
    pub(super) fn leave(&mut self, slot: Slot) {
        let of_slot = self.chunks.iter().filter(|(_, chunk)| chunk.open(slot) > 0);
        let of_slot: Vec<_> = of_slot.map(|(last, chunk)| (*last, chunk.open(slot))).collect();
        for (last, open) in of_slot {
            self.lower(last, slot, open);
        }
        self.bytes.remove(&slot);
    }

    /// Of what `slot` does not have in hand of the chunks up to `last`, only what is kept stays open. Says how much was left out.
    pub(super) fn compact(&mut self, slot: Slot, last: u64, cursor: &Cursor, compacted: &Compacted) -> u64 {
        let left_out = |chunk: &ChunkRecord| {
            let numbers = chunk.first..=chunk.last;
            let kept = compacted.kept.range(numbers.clone()).filter(|(number, _)| cursor.is_idle(**number));
            chunk.open(slot).saturating_sub(cursor.taken(numbers) + kept.count() as u64)
        };
        let left_out: Vec<_> =
            self.chunks.range(..=last).map(|(last, chunk)| (*last, left_out(chunk))).collect();
        for (last, count) in &left_out {
            self.lower(*last, slot, *count);
        }
        self.patience = 0;
        left_out.into_iter().map(|(_, count)| count).sum()
    }

    /// Chunks that are worth being merged, if it is time to look and there are any.
    pub(super) fn take_merge(&mut self) -> Vec<u64> {
        if self.patience > 0 {
            self.patience -= 1;
            return Vec::new();
        }
        let mut run = Vec::new();
        let mut waste = 0;
        let worth = |run: &Vec<u64>, waste: u64| {
            run.len() > 1 && waste >= WASTE || run.len() >= RUN && self.chunks.len() > MANY
        };
        for chunk in self.chunks.values() {
            let open = chunk.share(chunk.open.iter().map(|(_, open)| *open).sum());
            if run.len() == RUN || open > THIN {
                if worth(&run, waste) {
                    break;
                }
                run.clear();
                waste = 0;
            }
            if open <= THIN {
                run.push(chunk.chunk);
                waste += chunk.bytes - open;
            }
        }
        if worth(&run, waste) {
            return run;
        }
        self.patience = PATIENCE;
        Vec::new()
    }

    /// What a flush made.
    pub(super) fn flushed(&mut self, flushed: Flushed) {
        let Flushed { chunks, merged, into } = flushed;
        let made = chunks.iter().chain(&into).map(|chunk| chunk.chunk + 1);
        self.next = made.max().unwrap_or_default().max(self.next);
        for chunk in chunks {
            self.add(chunk);
        }
        // What was settled of them meanwhile counts: each has open what it has open of all of them.
        let mut open: BTreeMap<Slot, u64> = BTreeMap::new();
        let before: Vec<_> = self
            .chunks
            .iter()
            .filter(|(_, chunk)| merged.contains(&chunk.chunk))
            .map(|(last, _)| *last)
            .collect();
        for last in before {
            for (slot, count) in self.remove(last) {
                *open.entry(slot).or_default() += count;
            }
        }
        // They are gone, also those that nobody needed any more by then.
        self.dead.retain(|chunk| !merged.contains(chunk));
        if let Some(into) = into {
            self.add(ChunkRecord { open: open.into_iter().collect(), ..into });
        }
    }

    /// Keeps what is known of a chunk, or knows it dead.
    fn add(&mut self, chunk: ChunkRecord) {
        if chunk.open.is_empty() {
            self.dead.push(chunk.chunk);
            return;
        }
        for (slot, open) in &chunk.open {
            *self.bytes.entry(*slot).or_default() += chunk.share(*open);
        }
        self.chunks.insert(chunk.last, chunk);
    }

    /// Forgets a chunk; says what everybody had open of it.
    fn remove(&mut self, last: u64) -> Vec<(Slot, u64)> {
        let Some(chunk) = self.chunks.remove(&last) else { return Vec::new() };
        for (slot, open) in &chunk.open {
            if let Some(bytes) = self.bytes.get_mut(slot) {
                *bytes -= chunk.share(*open);
            }
        }
        chunk.open
    }

    /// `slot` has so many fewer open of the chunk that ends with `last`.
    fn lower(&mut self, last: u64, slot: Slot, by: u64) {
        let Some(chunk) = self.chunks.get_mut(&last).filter(|_| by > 0) else { return };
        let before = chunk.open(slot);
        let after = before.saturating_sub(by);
        if let Some(bytes) = self.bytes.get_mut(&slot) {
            *bytes -= chunk.share(before) - chunk.share(after);
        }
        chunk.open.iter_mut().filter(|(of, _)| *of == slot).for_each(|(_, open)| *open = after);
        chunk.open.retain(|(_, open)| *open > 0);
        if chunk.open.is_empty() {
            self.dead.push(chunk.chunk);
            self.chunks.remove(&last);
        }
    }
}
