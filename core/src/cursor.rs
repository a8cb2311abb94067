//! Up to where a Subscription has everything of one Watch settled.
//!
//! Before: core/src/delivery.rs
//! Next: bridge/src/status.rs

use std::collections::VecDeque;
use std::time::Duration;

use crate::object::ResourceVersion;

/// A low watermark and the entries above it, some of which are settled already: one stuck key holds the
/// watermark, and nothing else.
#[derive(Debug, Default)]
pub struct Cursor {
    /// The position of the Watch behind the newest entry.
    decided: Option<ResourceVersion>,
    /// From the oldest that is not settled on.
    entries: VecDeque<Opened>,
    /// The ticket of the first of `entries`.
    first: u64,
    unsettled: usize,
}

/// One entry of a Cursor, to be settled once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Opened {
    /// Where the Watch stood before this entry was decided.
    before: Option<ResourceVersion>,
    /// When it was decided, as a duration since any fixed moment.
    at: Duration,
    settled: bool,
}

impl Cursor {
    /// An entry was decided at the time `at`, while the Watch stood at `before`.
    pub fn open(&mut self, before: Option<ResourceVersion>, at: Duration) -> Ticket {
        self.entries.push_back(Opened { before, at, settled: false });
        self.unsettled += 1;
        Ticket(self.first + self.entries.len() as u64 - 1)
    }

    /// The entry is settled. Settling it again changes nothing.
    pub fn settle(&mut self, ticket: Ticket) {
        let index = ticket.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) else { return };
        if !entry.settled {
            entry.settled = true;
            self.unsettled -= 1;
        }
        while self.entries.front().is_some_and(|entry| entry.settled) {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// The Watch stands at `position` now.
    pub fn decided(&mut self, position: Option<ResourceVersion>) {
        self.decided = position;
    }

    /// Everything up to here is settled. None while a snapshot is under way or not settled.
    pub fn watermark(&self) -> Option<ResourceVersion> {
        match self.entries.front() {
            Some(oldest) => oldest.before,
            None => self.decided,
        }
    }

    /// When the oldest entry that is not settled was decided.
    pub fn oldest(&self) -> Option<Duration> {
        self.entries.front().map(|entry| entry.at)
    }

    /// How many entries are not settled.
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::unnecessary_wraps, reason = "it reads as the value it is compared with")]
    fn at(version: u64) -> Option<ResourceVersion> {
        Some(ResourceVersion(version))
    }

    #[test]
    fn the_watermark_stops_before_the_oldest_unsettled_entry() {
        let mut cursor = Cursor::default();
        cursor.decided(at(10));
        let first = cursor.open(at(10), Duration::ZERO);
        let second = cursor.open(at(11), Duration::from_secs(1));
        cursor.decided(at(20));
        assert_eq!((cursor.watermark(), cursor.unsettled()), (at(10), 2));
        cursor.settle(second);
        assert_eq!((cursor.watermark(), cursor.unsettled()), (at(10), 1));
        assert_eq!(cursor.oldest(), Some(Duration::ZERO));
        cursor.settle(first);
        assert_eq!((cursor.watermark(), cursor.unsettled()), (at(20), 0));
        cursor.settle(first);
        assert_eq!(cursor.unsettled(), 0);
    }

    #[test]
    fn a_snapshot_has_no_watermark_before_it_is_settled() {
        let mut cursor = Cursor::default();
        let object = cursor.open(None, Duration::ZERO);
        cursor.decided(at(20));
        assert_eq!(cursor.watermark(), None);
        cursor.settle(object);
        assert_eq!(cursor.watermark(), at(20));
    }
}
