//! What a Journal has in memory: the Changes of its tail, and an index of its chunks.
//!
//! Before: bridge/src/journal.rs

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidings_core::compaction::Compacted;
use tidings_core::cursor::{Cursor, SavedCursor};
use tidings_core::known::Slot;
use tidings_core::object::ResourceVersion;
use tokio::sync::Notify;

use super::{Flush, Standing, Taken};
use crate::state::record::{ChunkIndex, ChunkRecord, JournalRecord};

#[derive(Debug)]
pub(super) struct Tail {
    /// By number, without holes; what is settled by everybody is gone.
    changes: VecDeque<Option<Waiting>>,
    /// The number of the first of `changes`.
    first: u64,
    /// The number of the first Change of this process.
    begun: u64,
    position: Option<ResourceVersion>,
    readers: BTreeMap<Slot, Reader>,
    /// By the number of the last Change in it: chunks follow each other.
    chunks: BTreeMap<u64, Chunk>,
    next_chunk: u64,
    /// Chunks in which everything is settled, and that are still stored.
    dead: Vec<u64>,
    /// Everything below is in a commit that is done or under way.
    flushed: u64,
    unflushed: usize,
    dirty: bool,
}

/// A Change that somebody has not settled.
#[derive(Debug)]
struct Waiting {
    record: Arc<JournalRecord>,
    /// By how many it is not settled.
    open: usize,
}

/// One who is told.
#[derive(Debug)]
struct Reader {
    cursor: Cursor,
    /// Changes it has not settled, taken or not.
    open: u64,
    /// Nobody listens yet after a restart.
    wake: Option<Arc<Notify>>,
    /// With so many bytes in the store its backlog is compacted, if that is more than the quota.
    compact_at: u64,
    /// How many Changes were left out by that.
    left_out: u64,
}

/// What is stored.
#[derive(Debug)]
struct Chunk {
    id: u64,
    index: ChunkIndex,
    /// What it takes on disk.
    bytes: u64,
    /// How much of it each has not settled.
    open: BTreeMap<Slot, usize>,
}

// === impl Tail ===

impl Tail {
    pub(super) fn restore(next: u64, cursors: Vec<(Slot, SavedCursor)>, chunks: Vec<ChunkRecord>) -> Self {
        let reader = |(slot, saved)| (slot, Reader::new(Cursor::restore(saved)));
        let mut tail = Self {
            changes: VecDeque::new(),
            first: next,
            begun: next,
            position: None,
            readers: cursors.into_iter().map(reader).collect(),
            chunks: BTreeMap::new(),
            next_chunk: chunks.last().map_or(1, |last| last.chunk + 1),
            dead: Vec::new(),
            flushed: next,
            unflushed: 0,
            dirty: false,
        };
        for ChunkRecord { chunk, bytes, index } in chunks {
            tail.add_chunk(chunk, index, bytes, true);
        }
        tail
    }

    /// Keeps the index of a chunk, or knows it dead.
    fn add_chunk(&mut self, chunk: u64, index: ChunkIndex, bytes: usize, count: bool) {
        let mut open = BTreeMap::new();
        for (number, slots) in &index {
            for slot in slots {
                if let Some(reader) = self.readers.get_mut(slot)
                    && reader.cursor.is_open(*number)
                {
                    *open.entry(*slot).or_default() += 1;
                    reader.open += u64::from(count);
                }
            }
        }
        match index.last() {
            Some((last, _)) if !open.is_empty() => {
                let bytes = bytes as u64;
                self.chunks.insert(*last, Chunk { id: chunk, index, bytes, open });
            }
            _ => self.dead.push(chunk),
        }
    }

    pub(super) fn follow(&mut self, slot: Slot, wake: Arc<Notify>) {
        wake.notify_one();
        let next = self.next();
        let fresh = || Reader::new(Cursor::new(next));
        self.readers.entry(slot).or_insert_with(fresh).wake = Some(wake);
        self.dirty = true;
    }

    pub(super) fn leave(&mut self, slot: Slot) -> (u64, usize) {
        let Some(reader) = self.readers.get(&slot) else { return (0, 0) };
        let open = reader.open;
        let of_slot = |record: &JournalRecord| record.to.iter().any(|to| to.slot == slot);
        let tail = self.changes.iter().flatten().filter(|waiting| of_slot(&waiting.record));
        let stored = self.chunks.values().flat_map(|chunk| &chunk.index);
        let stored = stored.filter(|(_, slots)| slots.contains(&slot)).map(|(number, _)| *number);
        let numbers: Vec<_> = tail
            .map(|waiting| waiting.record.number)
            .chain(stored)
            .filter(|number| reader.cursor.is_open(*number))
            .collect();
        let freed = numbers.into_iter().map(|number| self.close(slot, number)).sum();
        self.readers.remove(&slot);
        self.dirty = true;
        (open, freed)
    }

    pub(super) fn append(&mut self, records: Vec<JournalRecord>, position: Option<ResourceVersion>) -> usize {
        self.dirty |= !records.is_empty() || self.position != position;
        self.position = position;
        let mut taken = 0;
        for mut record in records {
            record.number = self.next();
            let mut open = 0;
            for to in &record.to {
                if let Some(reader) = self.readers.get_mut(&to.slot) {
                    open += 1;
                    reader.open += 1;
                    if let Some(wake) = &reader.wake {
                        wake.notify_one();
                    }
                }
            }
            let waiting = (open > 0).then(|| Waiting { record: Arc::new(record), open });
            taken += waiting.as_ref().map_or(0, Waiting::bytes);
            self.changes.push_back(waiting);
        }
        self.unflushed += taken;
        self.drop_settled();
        taken
    }

    pub(super) fn take(&mut self, slot: Slot, most: usize) -> Taken {
        let (first, next) = (self.first, self.next());
        let Some(reader) = self.readers.get_mut(&slot) else { return Taken::Nothing };
        let wanted = reader.cursor.wanted();
        if wanted < first {
            let holds = |chunk: &Chunk| {
                chunk
                    .index
                    .iter()
                    .any(|(number, slots)| reader.cursor.wants(*number) && slots.contains(&slot))
            };
            if let Some((_, chunk)) = self.chunks.range(wanted..).find(|(_, chunk)| holds(chunk)) {
                return Taken::Stored(chunk.id);
            }
            reader.cursor.skip(first);
        }
        let mut taken = Vec::new();
        let mut number = reader.cursor.wanted();
        while number < next && taken.len() < most {
            let waiting = usize::try_from(number - first).ok().and_then(|index| self.changes.get(index));
            if let Some(Waiting { record, .. }) = waiting.and_then(Option::as_ref)
                && record.to.iter().any(|to| to.slot == slot)
            {
                reader.cursor.take(number, record.before, record.decided);
                taken.push(record.clone());
            }
            number += 1;
        }
        reader.cursor.skip(number);
        if taken.is_empty() { Taken::Nothing } else { Taken::Changes(taken) }
    }

    pub(super) fn take_stored(
        &mut self,
        slot: Slot,
        chunk: u64,
        records: Vec<JournalRecord>,
    ) -> Vec<Arc<JournalRecord>> {
        let Some(reader) = self.readers.get_mut(&slot) else { return Vec::new() };
        let mut taken = Vec::new();
        for record in records {
            let concerns = record.to.iter().any(|to| to.slot == slot);
            if concerns && reader.cursor.wants(record.number) {
                reader.cursor.take(record.number, record.before, record.decided);
                taken.push(Arc::new(match reader.cursor.mark(record.number) {
                    Some(mark) => JournalRecord { change: Arc::new(mark.apply(&record.change)), ..record },
                    None => record,
                }));
            }
        }
        if let Some((last, _)) = self.chunks.iter().find(|(_, stored)| stored.id == chunk) {
            reader.cursor.skip(last + 1);
        }
        taken
    }

    pub(super) fn settle(&mut self, slot: Slot, numbers: &[u64]) -> usize {
        let Some(reader) = self.readers.get_mut(&slot) else { return 0 };
        let settled: Vec<_> =
            numbers.iter().copied().filter(|number| reader.cursor.settle(*number)).collect();
        reader.open = reader.open.saturating_sub(settled.len() as u64);
        self.dirty |= !settled.is_empty();
        let freed = settled.into_iter().map(|number| self.close(slot, number)).sum();
        self.drop_settled();
        freed
    }

    /// One who was told of this Change is done with it. Says how many bytes of memory are free by that.
    fn close(&mut self, slot: Slot, number: u64) -> usize {
        if let Some(index) = number.checked_sub(self.first) {
            let waiting = usize::try_from(index).ok().and_then(|index| self.changes.get_mut(index));
            let Some(place) = waiting else { return 0 };
            let Some(waiting) = place else { return 0 };
            waiting.open -= 1;
            if waiting.open > 0 {
                return 0;
            }
            let bytes = waiting.bytes();
            *place = None;
            if number >= self.flushed {
                self.unflushed -= bytes;
            }
            return bytes;
        }
        if let Some((last, chunk)) = self.chunks.range_mut(number..).next() {
            if let Some(open) = chunk.open.get_mut(&slot) {
                *open -= 1;
                if *open == 0 {
                    chunk.open.remove(&slot);
                }
            }
            if chunk.open.is_empty() {
                let (last, chunk) = (*last, chunk.id);
                self.chunks.remove(&last);
                self.dead.push(chunk);
            }
        }
        0
    }

    /// Somebody who has more in the store than `quota` allows, and the chunks that it has not settled.
    pub(super) fn over_quota(&self, quota: u64) -> Option<(Slot, Vec<u64>)> {
        let stored = |slot: Slot| self.chunks.values().filter(move |chunk| chunk.open.contains_key(&slot));
        let over = |slot: Slot, reader: &Reader| {
            stored(slot).map(|chunk| chunk.bytes).sum::<u64>() > quota.max(reader.compact_at)
        };
        let (slot, _) = self.readers.iter().find(|(slot, reader)| over(**slot, reader))?;
        Some((*slot, stored(*slot).map(|chunk| chunk.id).collect()))
    }

    pub(super) fn wanted(&self, slot: Slot, mut records: Vec<JournalRecord>) -> Vec<JournalRecord> {
        let reader = self.readers.get(&slot);
        records.retain(|record| {
            let concerns = record.to.iter().any(|to| to.slot == slot);
            concerns && reader.is_some_and(|reader| reader.cursor.wants(record.number))
        });
        records
    }

    /// Leaves out what is not kept of the chunks up to `chunk`. Says how many Changes that were.
    pub(super) fn compact(&mut self, slot: Slot, chunk: u64, quota: u64, compacted: &Compacted) -> u64 {
        let Some(reader) = self.readers.get_mut(&slot) else { return 0 };
        let chunks = self.chunks.iter().filter(|(_, stored)| stored.id <= chunk);
        let Some((last, _)) = chunks.clone().next_back() else { return 0 };
        let next = last + 1;
        let numbers = chunks.flat_map(|(_, stored)| &stored.index);
        let wanted = numbers.filter(|(number, slots)| slots.contains(&slot) && reader.cursor.wants(*number));
        let wanted: Vec<_> = wanted.map(|(number, _)| *number).collect();
        reader.cursor.compact(next, compacted);
        let left_out: Vec<_> = wanted.into_iter().filter(|number| !reader.cursor.wants(*number)).collect();
        let count = left_out.len() as u64;
        reader.open = reader.open.saturating_sub(count);
        reader.left_out += count;
        for number in left_out {
            self.close(slot, number);
        }
        let stored = self.chunks.values().filter(|chunk| chunk.open.contains_key(&slot));
        let stored: u64 = stored.map(|chunk| chunk.bytes).sum();
        if let Some(reader) = self.readers.get_mut(&slot) {
            // What is kept keeps whole chunks; doing this again pays only when there is more.
            reader.compact_at = stored + quota / 4;
        }
        self.dirty = true;
        count
    }

    fn drop_settled(&mut self) {
        while let Some(None) = self.changes.front() {
            self.changes.pop_front();
            self.first += 1;
        }
    }

    pub(super) fn standing(&mut self, slot: Slot) -> Standing {
        let (position, next) = (self.position, self.next());
        let Some(reader) = self.readers.get_mut(&slot) else { return Standing::default() };
        if reader.open == 0 {
            // What is left has nothing for it.
            reader.cursor.skip(next);
        }
        let settled = reader.cursor.watermark(position, next);
        Standing { open: reader.open, oldest: reader.cursor.oldest(), settled, left_out: reader.left_out }
    }

    pub(super) fn cursor(&self, slot: Slot) -> SavedCursor {
        self.readers.get(&slot).map(|reader| reader.cursor.save()).unwrap_or_default()
    }

    pub(super) fn unflushed(&self) -> usize {
        self.unflushed
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    pub(super) fn begin_flush(&mut self) -> Flush {
        let from = usize::try_from(self.flushed.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let waiting = self.changes.iter().skip(from).flatten();
        let entries = waiting.map(|waiting| self.still_open(&waiting.record)).collect();
        let chunk = self.next_chunk;
        self.next_chunk += 1;
        self.flushed = self.next();
        (self.unflushed, self.dirty) = (0, false);
        Flush { chunk, entries, next: self.flushed, dead: std::mem::take(&mut self.dead) }
    }

    /// The record, with only those in it who have not settled it.
    fn still_open(&self, record: &Arc<JournalRecord>) -> Arc<JournalRecord> {
        let open =
            |slot: Slot| self.readers.get(&slot).is_some_and(|reader| reader.cursor.is_open(record.number));
        if record.to.iter().all(|to| open(to.slot)) {
            return record.clone();
        }
        let to = record.to.iter().copied().filter(|to| open(to.slot)).collect();
        Arc::new(JournalRecord { to, ..(**record).clone() })
    }

    /// What is stored leaves the memory.
    pub(super) fn end_flush(&mut self, flush: &Flush, entries: &[Arc<JournalRecord>], bytes: usize) -> usize {
        let mut freed = 0;
        while self.first < flush.next
            && let Some(waiting) = self.changes.pop_front()
        {
            freed += waiting.as_ref().map_or(0, Waiting::bytes);
            self.first += 1;
        }
        if !entries.is_empty() {
            let slots = |record: &JournalRecord| record.to.iter().map(|to| to.slot).collect();
            let index = entries.iter().map(|record| (record.number, slots(record))).collect();
            self.add_chunk(flush.chunk, index, bytes, false);
        }
        freed
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    pub(super) fn next(&self) -> u64 {
        self.first + self.changes.len() as u64
    }
}

// === impl Reader ===

impl Reader {
    fn new(cursor: Cursor) -> Self {
        Self { cursor, open: 0, wake: None, compact_at: 0, left_out: 0 }
    }
}

// === impl Waiting ===

impl Waiting {
    fn bytes(&self) -> usize {
        self.record.change.size() + self.record.to.len() * 16
    }
}
