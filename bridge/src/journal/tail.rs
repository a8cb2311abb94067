//! What a Journal has in memory: the Changes of its tail, who is told of them, and what it knows of its chunks.
//!
//! Before: bridge/src/journal.rs
//! Next: bridge/src/journal/stored.rs

mod backlog;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidings_core::cursor::{Cursor, SavedCursor};
use tidings_core::known::Slot;
use tidings_core::object::ResourceVersion;
use tokio::sync::Notify;

use super::stored::Stored;
use super::{Room, Standing, Taken};
use crate::state::record::{ChunkRecord, Flush, Flushed, JournalRecord};

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
    stored: Stored,
    /// Everything below is in a commit that is done, under way, or about to be written.
    flushed: u64,
    /// What is open below is being written.
    writing: bool,
    /// What was settled of it since, and by whom.
    settled: Vec<(Slot, u64)>,
    /// The bytes of what everybody settled of it: the commit holds them until it is done.
    held: usize,
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
    /// Its backlog is looked through up to this number: nothing of it may be taken, or what is told now could be left
    /// without its end.
    held: Option<u64>,
    /// With so many bytes in the store its backlog is compacted, if that is more than the quota.
    compact_at: u64,
    /// How many Changes were left out by that.
    left_out: u64,
}

// === impl Tail ===

impl Tail {
    pub(super) fn restore(next: u64, cursors: Vec<(Slot, SavedCursor)>, chunks: Vec<ChunkRecord>) -> Self {
        let stored = Stored::restore(chunks);
        let reader = |(slot, saved)| {
            let open = stored.open(slot);
            (slot, Reader { open, ..Reader::new(Cursor::restore(saved)) })
        };
        Self {
            changes: VecDeque::new(),
            first: next,
            begun: next,
            position: None,
            readers: cursors.into_iter().map(reader).collect(),
            stored,
            flushed: next,
            writing: false,
            settled: Vec::new(),
            held: 0,
            unflushed: 0,
            dirty: false,
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
        let tail = self.changes.iter().flatten().map(|waiting| &waiting.record);
        let of_slot = tail.filter(|record| record.is_for(slot)).map(|record| record.number);
        let numbers: Vec<_> = of_slot.filter(|number| reader.cursor.is_open(*number)).collect();
        let freed = numbers.into_iter().map(|number| self.close(slot, number)).sum();
        self.drop_settled();
        self.stored.leave(slot);
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

    pub(super) fn take(&mut self, slot: Slot, room: Room) -> Taken {
        let (first, next) = (self.first, self.next());
        let Some(reader) = self.readers.get_mut(&slot) else { return Taken::Nothing };
        let wanted = reader.cursor.wanted();
        if wanted < first {
            match self.stored.wanted(slot, &reader.cursor) {
                Some(_) if reader.held.is_some() => return Taken::Nothing,
                Some(chunk) => return Taken::Stored(chunk.chunk),
                None => reader.cursor.skip(first),
            }
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let mut number = reader.cursor.wanted();
        while number < next && taken.len() < room.changes && bytes < room.bytes {
            let waiting = usize::try_from(number - first).ok().and_then(|index| self.changes.get(index));
            if let Some(Waiting { record, .. }) = waiting.and_then(Option::as_ref)
                && record.is_for(slot)
                && reader.cursor.wants(number)
            {
                reader.cursor.take(number, record.before, record.decided);
                bytes += record.change.size();
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
        records: &[Arc<JournalRecord>],
    ) -> Vec<Arc<JournalRecord>> {
        let Some(reader) = self.readers.get_mut(&slot).filter(|reader| reader.held.is_none()) else {
            return Vec::new();
        };
        // What was asked for while the chunk was read may come before it.
        let next = self.stored.wanted(slot, &reader.cursor).zip(records.first());
        let comes_next = next.is_some_and(|(next, first)| (next.first..=next.last).contains(&first.number));
        if !comes_next {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for record in records.iter().filter(|record| record.is_for(slot)) {
            if reader.cursor.wants(record.number) {
                reader.cursor.take(record.number, record.before, record.decided);
                taken.push(match reader.cursor.mark(record.number) {
                    Some(mark) => {
                        let change = Arc::new(mark.apply(&record.change));
                        Arc::new(JournalRecord { change, ..(**record).clone() })
                    }
                    None => record.clone(),
                });
            }
        }
        if let Some(last) = records.last() {
            reader.cursor.skip(last.number + 1);
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
        let Some(index) = number.checked_sub(self.first) else {
            self.stored.close(slot, number);
            return 0;
        };
        let waiting = usize::try_from(index).ok().and_then(|index| self.changes.get_mut(index));
        let Some(place @ Some(_)) = waiting else { return 0 };
        if self.writing && number < self.flushed {
            self.settled.push((slot, number));
        }
        let Some(waiting) = place else { return 0 };
        waiting.open -= 1;
        if waiting.open > 0 {
            return 0;
        }
        let bytes = waiting.bytes();
        *place = None;
        if number >= self.flushed {
            self.unflushed -= bytes;
        } else if self.writing {
            self.held += bytes;
            return 0;
        }
        bytes
    }

    pub(super) fn holds(&self, chunk: u64) -> bool {
        self.stored.holds(chunk)
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

    pub(super) fn begin_flush(&mut self) {
        self.flushed = self.next();
        (self.unflushed, self.dirty) = (0, false);
    }

    pub(super) fn is_flush_settled(&self) -> bool {
        self.first >= self.flushed
    }

    pub(super) fn has_stored(&self) -> bool {
        !self.stored.is_empty()
    }

    pub(super) fn write_flush(&mut self, flush: &mut Flush, merge: bool) {
        let count = usize::try_from(self.flushed.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let waiting = self.changes.iter().take(count).flatten();
        flush.entries = waiting.map(|waiting| self.still_open(&waiting.record)).collect();
        flush.chunk = self.stored.next();
        flush.dead.extend(self.stored.take_dead());
        // A backlog that is looked through has to stay where it is.
        let held = self.readers.values().any(|reader| reader.held.is_some());
        flush.merge = if merge && !held { self.stored.take_merge() } else { Vec::new() };
        self.writing = true;
    }

    pub(super) fn give_up_flush(&mut self, flush: &mut Flush) -> usize {
        flush.entries.clear();
        // What is written in its place has none of what was settled.
        self.settled.clear();
        self.writing = false;
        std::mem::take(&mut self.held)
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
    pub(super) fn end_flush(&mut self, flushed: Flushed) -> usize {
        self.writing = false;
        let mut freed = std::mem::take(&mut self.held);
        while self.first < self.flushed
            && let Some(waiting) = self.changes.pop_front()
        {
            freed += waiting.as_ref().map_or(0, Waiting::bytes);
            self.first += 1;
        }
        // What was merged leaves more to be merged, and chunks to be removed.
        self.dirty |= !flushed.merged.is_empty();
        self.stored.flushed(flushed);
        for (slot, number) in std::mem::take(&mut self.settled) {
            self.stored.close(slot, number);
        }
        freed
    }

    /// Nothing is kept any longer. Says how many bytes are free by that.
    pub(super) fn forget(&mut self) -> usize {
        let waiting = self.changes.iter_mut().filter_map(Option::take);
        let freed = waiting.map(|waiting| waiting.bytes()).sum::<usize>();
        self.unflushed = 0;
        freed + std::mem::take(&mut self.held)
    }

    pub(super) fn next(&self) -> u64 {
        self.first + self.changes.len() as u64
    }
}

// === impl Reader ===

impl Reader {
    fn new(cursor: Cursor) -> Self {
        Self { cursor, open: 0, wake: None, held: None, compact_at: 0, left_out: 0 }
    }
}

// === impl Waiting ===

impl Waiting {
    fn bytes(&self) -> usize {
        self.record.change.size() + self.record.to.len() * 16
    }
}
