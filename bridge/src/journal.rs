//! The Journal of one Watch: the Changes that are decided and not yet settled by everybody who is told of them.
//!
//! Its tail is in memory, bounded in bytes over all Watches. A flush writes what is still open in the tail as *chunks*
//! of the state store, after which memory does not hold it any more; a lane that has not got that far reads the chunks,
//! one at a time. Where there is no store, the tail is all there is, and a Watch waits while it is full.
//!
//! Lanes take Changes in order, as much as they want to hold, and settle them in any order.
//!
//! Before: bridge/src/watch/driver.rs
//! Next: bridge/src/deliver.rs

mod stored;
mod tail;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::compaction::Compacted;
use tidings_core::cursor::SavedCursor;
use tidings_core::known::Slot;
use tidings_core::object::ResourceVersion;
use tokio::sync::Notify;

use crate::state::record::{ChunkRecord, Flush, Flushed, JournalRecord};
use tail::Tail;

/// The memory that the tails of all Watches share.
#[derive(Clone, Debug)]
pub struct Memory {
    capacity: usize,
    used: Arc<AtomicUsize>,
    freed: Arc<Notify>,
}

/// The Journal of one Watch. Cheap to clone; all clones are the same Journal.
#[derive(Clone, Debug)]
pub struct Journal {
    memory: Memory,
    tail: Arc<Mutex<Tail>>,
}

/// What a lane has room for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// So many Changes.
    pub changes: usize,
    /// So many bytes of them; the last one may go beyond.
    pub bytes: usize,
}

/// What a lane gets when it asks for more.
#[derive(Debug)]
pub enum Taken {
    /// These Changes, in order, which are not settled yet.
    Changes(Vec<Arc<JournalRecord>>),
    /// The next ones are in this chunk of the store, to be read and handed to [`Journal::take_stored`].
    Stored(u64),
    /// There are none.
    Nothing,
}

/// What one Subscription has in the store, and not in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Whose it is.
    pub slot: Slot,
    /// The chunks it is in, in order.
    pub chunks: Vec<u64>,
    /// The number of the last Change in them.
    pub last: u64,
}

/// How one Subscription stands in a Journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Decided and not settled.
    pub open: u64,
    /// When the oldest of them that was taken was decided, in milliseconds since 1970.
    pub oldest: Option<u64>,
    /// Everything up to here is settled.
    pub settled: Option<ResourceVersion>,
    /// How many Changes were left out since the start, because there was no room for them.
    pub left_out: u64,
}

// === impl Memory ===

impl Memory {
    /// Room for `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, used: Arc::default(), freed: Arc::default() }
    }

    /// Bytes that are taken. They may exceed the capacity by what one read of a Watch brings.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How many bytes there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether a Watch may decide more.
    pub fn has_room(&self) -> bool {
        self.used() < self.capacity
    }

    /// Waits until there is room.
    pub async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }

    fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn free(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        if before >= self.capacity {
            self.freed.notify_waiters();
        }
    }
}

// === impl Journal ===

impl Journal {
    /// An empty one, whose first Change gets the number 1.
    pub fn new(memory: Memory) -> Self {
        Self::restore(memory, 1, Vec::new(), Vec::new())
    }

    /// As it was stored: the number of the next Change, who follows, and the chunks.
    pub fn restore(
        memory: Memory,
        next: u64,
        cursors: Vec<(Slot, SavedCursor)>,
        chunks: Vec<ChunkRecord>,
    ) -> Self {
        Self { memory, tail: Arc::new(Mutex::new(Tail::restore(next, cursors, chunks))) }
    }

    /// The memory it shares with others.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// `slot` is told of what is decided from now on. `wake` is called when there is something for it.
    pub fn follow(&self, slot: Slot, wake: Arc<Notify>) {
        self.lock().follow(slot, wake);
    }

    /// `slot` is told nothing more, and what was not settled for it is given up. Says how much that was.
    pub fn leave(&self, slot: Slot) -> u64 {
        let (open, freed) = self.lock().leave(slot);
        self.memory.free(freed);
        open
    }

    /// What was decided, in order, and where the Watch stands behind it. Numbers are given here.
    pub fn append(&self, records: Vec<JournalRecord>, position: Option<ResourceVersion>) {
        let taken = self.lock().append(records, position);
        self.memory.take(taken);
    }

    /// Takes for `slot` what there is room for.
    pub fn take(&self, slot: Slot, room: Room) -> Taken {
        self.lock().take(slot, room)
    }

    /// Takes for `slot` what it still wants of a chunk that was read. Nothing while its backlog is looked through, or when
    /// something before it was asked for: then it is to be read again.
    pub fn take_stored(&self, slot: Slot, records: &[Arc<JournalRecord>]) -> Vec<Arc<JournalRecord>> {
        self.lock().take_stored(slot, records)
    }

    /// Whether the chunk is still there: it may have been merged with others, or settled, since it was asked for.
    pub fn holds(&self, chunk: u64) -> bool {
        self.lock().holds(chunk)
    }

    /// `slot` took these Changes, and they cannot go on for now. They stay open, are not taken by it until it asks for them,
    /// and are part of its backlog.
    pub fn give_back(&self, slot: Slot, numbers: &[u64]) {
        self.lock().give_back(slot, numbers);
    }

    /// What `slot` gave back is taken again, before whatever comes after it, unless it was left out meanwhile.
    pub fn ask_again(&self, slot: Slot, numbers: &[u64]) {
        self.lock().ask_again(slot, numbers);
    }

    /// These Changes are settled for `slot`.
    pub fn settle(&self, slot: Slot, numbers: &[u64]) {
        let freed = self.lock().settle(slot, numbers);
        self.memory.free(freed);
    }

    /// The Watch is over: nothing of it is kept, also not of a commit that is under way.
    pub fn forget(&self) {
        let freed = self.lock().forget();
        self.memory.free(freed);
    }

    /// Whether the Change may have been told to `slot` though it is open: by a process before, which could not store that it
    /// was, or in one batch with another one that was refused.
    pub fn is_doubtful(&self, slot: Slot, number: u64) -> bool {
        self.lock().is_doubtful(slot, number)
    }

    /// How `slot` stands.
    pub fn standing(&self, slot: Slot) -> Standing {
        self.lock().standing(slot)
    }

    /// What `slot` has settled, to be stored.
    pub fn cursor(&self, slot: Slot) -> SavedCursor {
        self.lock().cursor(slot)
    }

    /// Bytes in the tail that no flush has taken.
    pub fn unflushed(&self) -> usize {
        self.lock().unflushed()
    }

    /// Whether something was decided or settled since the last flush.
    pub fn is_dirty(&self) -> bool {
        self.lock().is_dirty()
    }

    /// What was decided until now belongs to the next commit. One flush at a time: [`Journal::end_flush`] ends it.
    pub fn begin_flush(&self) {
        self.lock().begin_flush();
    }

    /// Whether everything that belongs to the flush is settled by everybody.
    pub fn is_flush_settled(&self) -> bool {
        self.lock().is_flush_settled()
    }

    /// Whether there is a backlog in the store.
    pub fn has_stored(&self) -> bool {
        self.lock().has_stored()
    }

    /// Takes what the commit has to write: what is still open of the flush, and what is stored and can go.
    pub fn write_flush(&self, flush: &mut Flush, merge: bool) {
        self.lock().write_flush(flush, merge);
    }

    /// The commit failed and is to be written again: by then there is less to write, and more to remove. What is settled by
    /// everybody takes no memory any more: while the store takes nothing, who is well must not run out of it.
    pub fn give_up_flush(&self, flush: &mut Flush) {
        let freed = self.lock().give_up_flush(flush);
        self.memory.free(freed);
    }

    /// The commit is done, and made this of the flush.
    pub fn end_flush(&self, flushed: Flushed) {
        let freed = self.lock().end_flush(flushed);
        self.memory.free(freed);
    }

    /// The number of the next Change, and with a flush that of the first one that is not in it.
    pub fn next(&self) -> u64 {
        self.lock().next()
    }

    /// The backlog of somebody who has more than `quota` bytes in the store. It is held until
    /// [`Journal::end_compaction`] or [`Journal::release`]: what is told meanwhile could be left without its end.
    pub fn begin_compaction(&self, quota: u64) -> Option<Backlog> {
        self.lock().begin_compaction(quota)
    }

    /// Keeps those of the records of a chunk that are open for `slot` and that it does not have.
    pub fn idle(&self, slot: Slot, records: &mut Vec<JournalRecord>) {
        self.lock().idle(slot, records);
    }

    /// Leaves out of the backlog what is not kept. Says how many Changes that were.
    pub fn end_compaction(&self, backlog: &Backlog, quota: u64, compacted: &Compacted) -> u64 {
        self.lock().end_compaction(backlog, quota, compacted)
    }

    /// The backlog of `slot` stays as it is.
    pub fn release(&self, slot: Slot) {
        self.lock().release(slot);
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
