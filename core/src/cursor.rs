//! Which Changes of one Watch a Subscription has settled.
//!
//! Before: core/src/delivery.rs
//! Next: bridge/src/status.rs

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::object::ResourceVersion;

/// A low watermark and what is not settled above it: one stuck key holds the watermark, and nothing else.
///
/// Changes are numbered per Watch. They are taken in order, each once, and settled in any order.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    /// Nothing from here on was taken.
    next: u64,
    /// What was taken and is not settled.
    unsettled: BTreeMap<u64, Opened>,
    /// From a process before: taken by it, and not yet by this one.
    left: BTreeSet<u64>,
    /// What was settled last without anything unsettled before it.
    watermark: Option<ResourceVersion>,
}

/// What survives of a Cursor: everything below `next` is settled, but `unsettled`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCursor {
    /// Nothing from here on is settled.
    pub next: u64,
    /// What is not settled below `next`, in order.
    pub unsettled: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Opened {
    /// Where the Watch stood before this Change was decided.
    before: Option<ResourceVersion>,
    /// When it was decided, in milliseconds since 1970.
    decided: u64,
}

// === impl Cursor ===

impl Cursor {
    /// The Cursor of a Subscription that is told of Changes from the number `next` on.
    pub fn new(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// The Cursor as it was saved: what was not settled is to be taken again.
    pub fn restore(saved: SavedCursor) -> Self {
        let SavedCursor { next, unsettled } = saved;
        Self { next, left: unsettled.into_iter().collect(), ..Self::default() }
    }

    /// What has to survive.
    pub fn save(&self) -> SavedCursor {
        // What a process before had taken comes before whatever this one took.
        let unsettled: BTreeSet<_> = self.left.iter().chain(self.unsettled.keys()).copied().collect();
        SavedCursor { next: self.next, unsettled: unsettled.into_iter().collect() }
    }

    /// The first number that may be taken.
    pub fn wanted(&self) -> u64 {
        self.left.first().copied().unwrap_or(self.next)
    }

    /// Whether the Change with this number is not taken yet and is still to be.
    pub fn wants(&self, number: u64) -> bool {
        number >= self.next || self.left.contains(&number)
    }

    /// Whether it is not settled, taken or not.
    pub fn is_open(&self, number: u64) -> bool {
        self.wants(number) || self.unsettled.contains_key(&number)
    }

    /// Takes the Change `number`, which was decided at `decided` (milliseconds since 1970) while the Watch stood at
    /// `before`. What lies between it and what was taken before does not concern this Subscription.
    pub fn take(&mut self, number: u64, before: Option<ResourceVersion>, decided: u64) {
        self.left.remove(&number);
        self.next = self.next.max(number + 1);
        self.unsettled.insert(number, Opened { before, decided });
    }

    /// Nothing below `next` concerns this Subscription any more.
    pub fn skip(&mut self, next: u64) {
        self.left = self.left.split_off(&next);
        self.next = self.next.max(next);
    }

    /// The Change is settled. Says whether it was not before.
    pub fn settle(&mut self, number: u64) -> bool {
        self.unsettled.remove(&number).is_some()
    }

    /// Up to where everything is settled, when the Watch stands at `position` and its next Change gets the number
    /// `next`. None while a snapshot is under way or not settled.
    pub fn watermark(&mut self, position: Option<ResourceVersion>, next: u64) -> Option<ResourceVersion> {
        if let Some((_, oldest)) = self.unsettled.first_key_value() {
            self.watermark = oldest.before;
        } else if self.left.is_empty() && self.next >= next {
            self.watermark = position;
        }
        self.watermark
    }

    /// When the oldest Change that was taken and is not settled was decided, in milliseconds since 1970.
    pub fn oldest(&self) -> Option<u64> {
        self.unsettled.first_key_value().map(|(_, oldest)| oldest.decided)
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
    fn the_watermark_stops_before_the_oldest_unsettled_change() {
        let mut cursor = Cursor::new(1);
        cursor.take(1, at(10), 1000);
        cursor.take(2, at(11), 2000);
        assert_eq!(cursor.watermark(at(20), 3), at(10));
        assert!(cursor.settle(2));
        assert_eq!((cursor.watermark(at(20), 3), cursor.oldest()), (at(10), Some(1000)));
        assert!(cursor.settle(1));
        assert_eq!((cursor.watermark(at(20), 3), cursor.oldest()), (at(20), None));
        assert!(!cursor.settle(1), "it was settled before");
        // What was decided and not taken yet holds the watermark too.
        assert_eq!(cursor.watermark(at(30), 4), at(20));
    }

    #[test]
    fn a_snapshot_has_no_watermark_before_it_is_settled() {
        let mut cursor = Cursor::new(1);
        cursor.take(1, None, 0);
        assert_eq!(cursor.watermark(at(20), 2), None);
        cursor.settle(1);
        assert_eq!(cursor.watermark(at(20), 2), at(20));
    }

    #[test]
    fn what_was_not_settled_is_taken_again_after_a_restart_and_nothing_else() {
        let mut cursor = Cursor::new(1);
        for number in 1..=5 {
            cursor.take(number, at(number), 0);
        }
        for settled in [1, 3, 5] {
            cursor.settle(settled);
        }
        let saved = cursor.save();
        assert_eq!(saved, SavedCursor { next: 6, unsettled: vec![2, 4] });
        let mut restored = Cursor::restore(saved.clone());
        assert_eq!(restored.wanted(), 2);
        let wanted: Vec<_> = (1..8).filter(|number| restored.wants(*number)).collect();
        assert_eq!(wanted, [2, 4, 6, 7]);
        restored.take(2, at(2), 0);
        assert_eq!(restored.wanted(), 4);
        assert_eq!(restored.save(), saved, "until it is settled, the next process takes it again");
        restored.settle(2);
        assert_eq!(restored.save(), SavedCursor { next: 6, unsettled: vec![4] });
    }
}
