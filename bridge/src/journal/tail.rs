//! What a Journal has in memory: the Changes of its tail, and an index of its chunks.
//!
//! Before: bridge/src/journal.rs

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

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
}

/// What is stored.
#[derive(Debug)]
struct Chunk {
    chunk: u64,
    index: ChunkIndex,
    /// How many times something of it is to be settled.
    open: usize,
}

// === impl Tail ===

impl Tail {
    pub(super) fn restore(next: u64, cursors: Vec<(Slot, SavedCursor)>, chunks: Vec<ChunkRecord>) -> Self {
        let reader = |(slot, saved)| (slot, Reader { cursor: Cursor::restore(saved), open: 0, wake: None });
        let mut tail = Self {
            changes: VecDeque::new(),
            first: next,
            position: None,
            readers: cursors.into_iter().map(reader).collect(),
            chunks: BTreeMap::new(),
            next_chunk: chunks.last().map_or(1, |last| last.chunk + 1),
            dead: Vec::new(),
            flushed: next,
            unflushed: 0,
            dirty: false,
        };
        for ChunkRecord { chunk, bytes: _, index } in chunks {
            tail.add_chunk(chunk, index, true);
        }
        tail
    }

    /// Keeps the index of a chunk, or knows it dead.
    fn add_chunk(&mut self, chunk: u64, index: ChunkIndex, count: bool) {
        let mut open = 0;
        for (number, slots) in &index {
            for slot in slots {
                if let Some(reader) = self.readers.get_mut(slot)
                    && reader.cursor.is_open(*number)
                {
                    open += 1;
                    reader.open += u64::from(count);
                }
            }
        }
        match index.last() {
            Some((last, _)) if open > 0 => drop(self.chunks.insert(*last, Chunk { chunk, index, open })),
            _ => self.dead.push(chunk),
        }
    }

    pub(super) fn follow(&mut self, slot: Slot, wake: Arc<Notify>) {
        wake.notify_one();
        let next = self.next();
        let fresh = || Reader { cursor: Cursor::new(next), open: 0, wake: None };
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
        let freed = numbers.into_iter().map(|number| self.close(number)).sum();
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
                return Taken::Stored(chunk.chunk);
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
                taken.push(Arc::new(record));
            }
        }
        if let Some((last, _)) = self.chunks.iter().find(|(_, stored)| stored.chunk == chunk) {
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
        let freed = settled.into_iter().map(|number| self.close(number)).sum();
        self.drop_settled();
        freed
    }

    /// One who was told of this Change is done with it. Says how many bytes of memory are free by that.
    fn close(&mut self, number: u64) -> usize {
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
            chunk.open -= 1;
            if chunk.open == 0 {
                let (last, chunk) = (*last, chunk.chunk);
                self.chunks.remove(&last);
                self.dead.push(chunk);
            }
        }
        0
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
        Standing { open: reader.open, oldest: reader.cursor.oldest(), settled }
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
    pub(super) fn end_flush(
        &mut self,
        flush: &Flush,
        entries: &[Arc<JournalRecord>],
        _bytes: usize,
    ) -> usize {
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
            self.add_chunk(flush.chunk, index, false);
        }
        freed
    }

    fn next(&self) -> u64 {
        self.first + self.changes.len() as u64
    }
}

// === impl Waiting ===

impl Waiting {
    fn bytes(&self) -> usize {
        self.record.change.size() + self.record.to.len() * 16
    }
}
