//! What a Subscription has open and not in hand: given back until it is worth being tried again, and compacted when there is no
//! room for it.
//!
//! Before: bridge/src/journal/tail.rs
//! Next: bridge/src/journal/stored.rs

use tidings_core::compaction::Compacted;
use tidings_core::known::Slot;

use super::{Reader, Tail};
use crate::journal::Backlog;
use crate::state::record::JournalRecord;

// === impl Tail ===

impl Tail {
    /// These were taken by `slot`, and cannot go on for now.
    pub(in crate::journal) fn give_back(&mut self, slot: Slot, numbers: &[u64]) {
        let Some(reader) = self.readers.get_mut(&slot) else { return };
        for number in numbers {
            reader.cursor.give_back(*number);
        }
        self.spoil(slot, numbers);
    }

    /// They are to be taken again.
    pub(in crate::journal) fn ask_again(&mut self, slot: Slot, numbers: &[u64]) {
        let Some(reader) = self.readers.get_mut(&slot) else { return };
        for number in numbers {
            reader.cursor.ask_again(*number);
        }
        self.spoil(slot, numbers);
    }

    /// A backlog was looked through while these were not as they are now: it is no use any more.
    fn spoil(&mut self, slot: Slot, numbers: &[u64]) {
        let held = self.readers.get(&slot).and_then(|reader| reader.held);
        if held.is_some_and(|last| numbers.iter().any(|number| *number <= last)) {
            self.release(slot);
        }
    }

    pub(in crate::journal) fn begin_compaction(&mut self, quota: u64) -> Option<Backlog> {
        for (slot, reader) in &mut self.readers {
            let bytes = self.stored.bytes(*slot);
            if bytes <= quota / 2 {
                reader.compact_at = 0;
            }
            if bytes > quota.max(reader.compact_at)
                && let Some((chunks, last)) = self.stored.of(*slot)
            {
                reader.held = Some(last);
                return Some(Backlog { slot: *slot, chunks, last });
            }
        }
        None
    }

    pub(in crate::journal) fn idle(&self, slot: Slot, records: &mut Vec<JournalRecord>) {
        let reader = self.readers.get(&slot);
        let idle = |number| reader.is_some_and(|reader| reader.cursor.is_idle(number));
        records.retain(|record| record.is_for(slot) && idle(record.number));
    }

    pub(in crate::journal) fn is_doubtful(&self, slot: Slot, number: u64) -> bool {
        let given_back = |reader: &Reader| reader.cursor.is_given_back(number);
        number < self.begun || self.readers.get(&slot).is_some_and(given_back)
    }

    pub(in crate::journal) fn end_compaction(
        &mut self,
        backlog: &Backlog,
        quota: u64,
        compacted: &Compacted,
    ) -> u64 {
        let Backlog { slot, last, .. } = *backlog;
        let Some(reader) = self.readers.get_mut(&slot).filter(|reader| reader.held == Some(last)) else {
            return 0;
        };
        let count = self.stored.compact(slot, last, &reader.cursor, compacted);
        reader.cursor.compact(last + 1, compacted);
        reader.open = reader.open.saturating_sub(count);
        reader.left_out += count;
        // What is kept is as small as it gets; doing this again pays only when there is more.
        reader.compact_at = self.stored.bytes(slot) + quota / 4;
        self.dirty = true;
        self.release(slot);
        count
    }

    pub(in crate::journal) fn release(&mut self, slot: Slot) {
        let Some(reader) = self.readers.get_mut(&slot) else { return };
        reader.held = None;
        if let Some(wake) = &reader.wake {
            wake.notify_one();
        }
    }
}
