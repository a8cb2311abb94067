//! Which Changes of one Watch a Subscription has settled.
//!
//! Before: core/src/delivery.rs
//! Next: bridge/src/status.rs

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::compaction::{Compacted, Mark};
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
    /// What is to be taken again: taken by a process before and not yet by this one, or given back and asked for.
    left: BTreeSet<u64>,
    /// Changes before which others were left out.
    marks: BTreeMap<u64, Mark>,
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
    /// Changes before which others were left out, because there was no room for them.
    pub marks: Vec<(u64, Mark)>,
}

#[derive(Clone, Copy, Debug)]
struct Opened {
    /// Where the Watch stood before this Change was decided.
    before: Option<ResourceVersion>,
    /// When it was decided, in milliseconds since 1970.
    decided: u64,
    hands: Hands,
}

/// Who has what was taken and is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hands {
    /// Who took it.
    Taker,
    /// Nobody: it was given back.
    Nobody,
    /// Nobody yet: it was given back, and is to be taken again.
    Next,
}

// === impl SavedCursor ===

impl SavedCursor {
    /// The same as far as it concerns Changes before the number `end`.
    #[must_use]
    pub fn before(mut self, end: u64) -> Self {
        self.next = self.next.min(end);
        self.unsettled.retain(|number| *number < end);
        self.marks.retain(|(number, _)| *number < end);
        self
    }

    /// Whether the Change with this number was not settled.
    pub fn is_open(&self, number: u64) -> bool {
        number >= self.next || self.unsettled.binary_search(&number).is_ok()
    }
}

// === impl Cursor ===

impl Cursor {
    /// The Cursor of a Subscription that is told of Changes from the number `next` on.
    pub fn new(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// The Cursor as it was saved: what was not settled is to be taken again.
    pub fn restore(saved: SavedCursor) -> Self {
        let SavedCursor { next, unsettled, marks } = saved;
        let (left, marks) = (unsettled.into_iter().collect(), marks.into_iter().collect());
        Self { next, left, marks, ..Self::default() }
    }

    /// What has to survive.
    pub fn save(&self) -> SavedCursor {
        // What a process before had taken comes before whatever this one took.
        let unsettled: BTreeSet<_> = self.left.iter().chain(self.unsettled.keys()).copied().collect();
        let marks = self.marks.iter().map(|(number, mark)| (*number, *mark)).collect();
        SavedCursor { next: self.next, unsettled: unsettled.into_iter().collect(), marks }
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

    /// How many of the Changes with these numbers are open and are not to be taken: they were, or were given back.
    pub fn passed(&self, numbers: RangeInclusive<u64>) -> u64 {
        self.unsettled.range(numbers).filter(|(_, opened)| opened.hands != Hands::Next).count() as u64
    }

    /// How many of the Changes with these numbers somebody has in hand.
    pub fn taken(&self, numbers: RangeInclusive<u64>) -> u64 {
        self.unsettled.range(numbers).filter(|(_, opened)| opened.hands == Hands::Taker).count() as u64
    }

    /// Whether nobody has it in hand, though it is open.
    pub fn is_idle(&self, number: u64) -> bool {
        self.wants(number) || self.is_given_back(number)
    }

    /// Whether it was taken, and nobody has it in hand.
    pub fn is_given_back(&self, number: u64) -> bool {
        self.unsettled.get(&number).is_some_and(|opened| opened.hands != Hands::Taker)
    }

    /// Takes the Change `number`, which was decided at `decided` (milliseconds since 1970) while the Watch stood at
    /// `before`. What lies between it and what was taken before does not concern this Subscription.
    pub fn take(&mut self, number: u64, before: Option<ResourceVersion>, decided: u64) {
        self.left.remove(&number);
        self.next = self.next.max(number + 1);
        self.unsettled.insert(number, Opened { before, decided, hands: Hands::Taker });
    }

    /// The Change was taken, and cannot go on for now: it stays open, and nobody takes it until it is asked for.
    pub fn give_back(&mut self, number: u64) {
        if let Some(opened) = self.unsettled.get_mut(&number) {
            opened.hands = Hands::Nobody;
        }
    }

    /// What was given back is to be taken again, if it is still open.
    pub fn ask_again(&mut self, number: u64) {
        if let Some(opened) = self.unsettled.get_mut(&number)
            && opened.hands == Hands::Nobody
        {
            opened.hands = Hands::Next;
            self.left.insert(number);
        }
    }

    /// Of what nobody has in hand below `next`, only what is kept concerns this Subscription any more.
    pub fn compact(&mut self, next: u64, compacted: &Compacted) {
        let kept = compacted.kept.iter().filter(|(number, _)| **number < next && self.is_idle(**number));
        let kept: Vec<_> = kept.map(|(number, mark)| (*number, *mark)).collect();
        self.left = self.left.split_off(&next);
        self.unsettled.retain(|number, opened| {
            *number >= next || opened.hands == Hands::Taker || compacted.kept.contains_key(number)
        });
        let wanted = kept.iter().map(|(number, _)| *number);
        let given_back =
            |number: &u64| self.unsettled.get(number).is_some_and(|opened| opened.hands == Hands::Nobody);
        self.left.extend(wanted.filter(|number| !given_back(number)));
        // What was marked before stays so.
        self.marks.extend(kept.into_iter().filter_map(|(number, mark)| Some((number, mark?))));
        self.next = self.next.max(next);
    }

    /// How this Change is told, if not as it is.
    pub fn mark(&self, number: u64) -> Option<Mark> {
        self.marks.get(&number).copied()
    }

    /// Nothing below `next` concerns this Subscription any more.
    pub fn skip(&mut self, next: u64) {
        self.left = self.left.split_off(&next);
        self.next = self.next.max(next);
    }

    /// The Change is settled. Says whether it was not before.
    pub fn settle(&mut self, number: u64) -> bool {
        self.marks.remove(&number);
        let opened = self.unsettled.remove(&number);
        if opened.is_some_and(|opened| opened.hands == Hands::Next) {
            self.left.remove(&number);
        }
        opened.is_some()
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
    fn what_is_kept_of_a_backlog_is_wanted_and_nothing_else() {
        let mut cursor = Cursor::new(1);
        cursor.take(1, at(1), 0);
        let kept = [(1, None), (3, None), (5, Some(Mark::Gap)), (9, None)];
        cursor.compact(7, &Compacted { kept: kept.into(), left_out: 3 });
        let wanted: Vec<_> = (1..9).filter(|number| cursor.wants(*number)).collect();
        assert_eq!(wanted, [3, 5, 7, 8]);
        let restored = Cursor::restore(cursor.save());
        assert_eq!((restored.mark(3), restored.mark(5)), (None, Some(Mark::Gap)));
        assert_eq!((1..9).filter(|number| restored.wants(*number)).collect::<Vec<_>>(), [1, 3, 5, 7, 8]);
    }

    #[test]
    fn what_was_given_back_is_open_and_is_taken_again_when_it_is_asked_for() {
        let mut cursor = Cursor::new(1);
        for number in 1..=4 {
            cursor.take(number, at(number), 0);
        }
        cursor.give_back(2);
        cursor.give_back(3);
        assert_eq!((cursor.wanted(), cursor.wants(2), cursor.is_open(2)), (5, false, true));
        assert_eq!((cursor.passed(1..=4), cursor.taken(1..=4)), (4, 2));
        cursor.ask_again(2);
        cursor.ask_again(4);
        assert_eq!((cursor.wanted(), cursor.wants(4), cursor.passed(1..=4)), (2, false, 3));
        assert_eq!(cursor.save().unsettled, [1, 2, 3, 4]);
        cursor.settle(1);
        assert_eq!(cursor.watermark(at(9), 5), at(2), "whoever has it, it is not settled");
        cursor.take(2, at(2), 0);
        assert_eq!(
            (cursor.wanted(), cursor.settle(2), cursor.settle(3), cursor.settle(4)),
            (5, true, true, true)
        );
        assert_eq!(cursor.watermark(at(9), 5), at(9));
    }

    #[test]
    fn what_was_given_back_is_left_out_like_what_was_not_taken() {
        let mut cursor = Cursor::new(1);
        for number in 1..=5 {
            cursor.take(number, at(number), 0);
        }
        for number in 1..=4 {
            cursor.give_back(number);
        }
        cursor.ask_again(3);
        cursor.ask_again(4);
        let kept = [(2, Some(Mark::Gap)), (4, None)];
        cursor.compact(7, &Compacted { kept: kept.into(), left_out: 2 });
        let open: Vec<_> = (1..9).filter(|number| cursor.is_open(*number)).collect();
        let wanted: Vec<_> = (1..9).filter(|number| cursor.wants(*number)).collect();
        assert_eq!((open, wanted), (vec![2, 4, 5, 7, 8], vec![4, 7, 8]));
        assert!(cursor.is_given_back(2) && cursor.mark(2) == Some(Mark::Gap));
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
        assert_eq!(saved, SavedCursor { next: 6, unsettled: vec![2, 4], marks: vec![] });
        let mut restored = Cursor::restore(saved.clone());
        assert_eq!(restored.wanted(), 2);
        let wanted: Vec<_> = (1..8).filter(|number| restored.wants(*number)).collect();
        assert_eq!(wanted, [2, 4, 6, 7]);
        restored.take(2, at(2), 0);
        assert_eq!(restored.wanted(), 4);
        assert_eq!(restored.save(), saved, "until it is settled, the next process takes it again");
        restored.settle(2);
        assert_eq!(restored.save(), SavedCursor { next: 6, unsettled: vec![4], marks: vec![] });
    }
}
