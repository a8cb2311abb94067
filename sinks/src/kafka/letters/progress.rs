//! How far a partition was read, as a group stores it: an offset before which everything is done with, and beside it, as the
//! text that an offset may carry, what is done with above. So one record that stays has nobody read again all behind it.
//!
//! Before: sinks/src/kafka/letters/reader.rs

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What a broker takes of such a text unless it is told otherwise (`offset.metadata.max.bytes`).
const MAX_TEXT: usize = 4096;

/// What was read of a partition, and what is done with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Everything below is done with, or no record.
    floor: i64,
    /// The next that is read.
    next: i64,
    /// Below that, and not done with.
    open: BTreeSet<i64>,
    /// Done with long ago, above the floor.
    before: BTreeSet<i64>,
}

// === impl Progress ===

impl Progress {
    /// What a group stored: `floor` and its text. Where the records begin only at `low`, what was before is gone.
    pub(super) fn stored(floor: i64, text: &str, low: i64) -> Self {
        let mut before = BTreeSet::new();
        for range in text.split(',') {
            let range = range.split_once('+').and_then(|(skipped, length)| {
                Some((floor.checked_add(skipped.parse().ok()?)?, length.parse::<i64>().ok()?))
            });
            // A text of somebody else says nothing.
            if let Some((first, length)) = range {
                before.extend((first..first.saturating_add(length)).take(MAX_TEXT * 64));
            }
        }
        let floor = floor.max(low);
        before.retain(|offset| *offset >= floor);
        Self { floor, next: floor, open: BTreeSet::new(), before }
    }

    /// Where reading begins.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// A record is read. Says whether it is done with already.
    pub(super) fn read(&mut self, offset: i64) -> bool {
        self.next = offset + 1;
        let known = self.before.contains(&offset);
        if !known {
            self.open.insert(offset);
        }
        known
    }

    /// A record that was read is done with.
    pub(super) fn done(&mut self, offset: i64) {
        self.open.remove(&offset);
    }

    /// What is to be stored: the offset to begin with, and what is done with above it. What does not fit into the text is read
    /// again.
    pub(super) fn to_store(&self) -> (i64, String) {
        let floor = self.open.first().copied().unwrap_or(self.next);
        let mut text = String::new();
        let mut put = |first: i64, end: i64| {
            let range = format!("{}+{}", first - floor, end - first);
            if first < end && text.len() + range.len() < MAX_TEXT {
                let comma = if text.is_empty() { "" } else { "," };
                let _ = write!(text, "{comma}{range}"); // writing to a String does not fail
            }
        };
        let mut from = floor;
        for open in &self.open {
            put(from, *open);
            from = open + 1;
        }
        put(from, self.next);
        // What was not read this time is as it was.
        let mut later = self.before.range(self.next..).peekable();
        while let Some(first) = later.next() {
            let mut end = first + 1;
            while later.next_if(|offset| **offset == end).is_some() {
                end += 1;
            }
            put(*first, end);
        }
        (floor, text)
    }

    /// Whether that is another thing than what was stored.
    pub(super) fn moved(&self, stored: &(i64, String)) -> bool {
        self.to_store() != *stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(progress: &mut Progress, offsets: impl IntoIterator<Item = i64>) -> Vec<i64> {
        offsets.into_iter().filter(|offset| !progress.read(*offset)).collect()
    }

    #[test]
    fn what_is_done_with_is_not_given_again_though_something_before_it_stays() {
        let mut first = Progress::stored(10, "", 0);
        assert_eq!((first.next(), read(&mut first, 10..20)), (10, (10..20).collect()));
        for done in [10, 11, 13, 14, 16] {
            first.done(done);
        }
        let (floor, text) = first.to_store();
        assert_eq!((floor, text.as_str()), (12, "1+2,4+1"));
        let mut second = Progress::stored(floor, &text, 0);
        assert_eq!(read(&mut second, 12..20), [12, 15, 17, 18, 19]);
        for done in [12, 15, 17, 18, 19] {
            second.done(done);
        }
        assert_eq!(second.to_store(), (20, String::new()));
    }

    #[test]
    fn what_is_not_read_this_time_stays_as_it_was() {
        let mut progress = Progress::stored(12, "1+2,4+1", 0);
        assert_eq!(read(&mut progress, [12]), [12]);
        assert_eq!(progress.to_store(), (12, "1+2,4+1".to_owned()));
        progress.done(12);
        assert_eq!(progress.to_store(), (13, "0+2,3+1".to_owned()));
        let mut next = Progress::stored(13, "0+2,3+1", 0);
        assert_eq!(read(&mut next, 13..17), [15]);
    }

    #[test]
    fn records_that_are_gone_and_texts_of_others_do_no_harm() {
        let mut progress = Progress::stored(3, "1+2", 9);
        assert_eq!((progress.next(), read(&mut progress, 9..11)), (9, vec![9, 10]));
        for text in ["hello", "1+", "+1", "-5+3,x", "1+-4", "9223372036854775807+9223372036854775807"] {
            assert_eq!(Progress::stored(3, text, 0).next(), 3, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_read_again() {
        let mut progress = Progress::stored(0, "", 0);
        read(&mut progress, 0..10_000);
        (0..10_000).filter(|offset| offset % 2 == 1).for_each(|offset| progress.done(offset));
        let (floor, text) = progress.to_store();
        assert!(text.len() <= MAX_TEXT, "{}", text.len());
        let mut next = Progress::stored(floor, &text, 0);
        let again = read(&mut next, 0..10_000);
        assert!(again.len() < 10_000 && (0..10_000).step_by(2).all(|offset| again.contains(&offset)));
    }
}
