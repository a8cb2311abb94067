//! What is kept of a backlog for which there is no room: of each name as little as tells how it is now.
//!
//! Before: core/src/delivery.rs
//! Next: core/src/cursor.rs

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use crate::change::{Change, ChangeKind};
use crate::object::{ObjectKey, Uid};

/// Looks through a backlog, in order, and says in the end what of it is kept.
#[derive(Debug, Default)]
pub struct Compaction {
    names: HashMap<ObjectKey, Name, RandomState>,
    seen: u64,
}

/// How a Change that is kept differs from what it was: what came before it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// It has a gap before it.
    Gap,
    /// And nobody was told of the object before.
    GapAdded,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// By number, with how it is marked.
    pub kept: BTreeMap<u64, Option<Mark>>,
    /// How many Changes are left out.
    pub left_out: u64,
}

/// The backlog of one name.
#[derive(Debug)]
struct Name {
    /// What the Subscription was told of before the backlog, or may have been.
    told: Option<Uid>,
    /// It was told, and not only may have been.
    surely: bool,
    /// How many Changes.
    count: u64,
    newest: Newest,
    /// The last that says that the life is over that was told of.
    end_of_told: Option<u64>,
    /// The same of lives before it.
    ends: Vec<u64>,
}

#[derive(Debug)]
struct Newest {
    number: u64,
    kind: ChangeKind,
    uid: Uid,
}

// === impl Compaction ===

impl Compaction {
    /// The next Change of the backlog. `doubtful`: a process before had it, and may have told it.
    pub fn add(&mut self, number: u64, change: &Change, doubtful: bool) {
        self.seen += 1;
        let uid = change.uid();
        let newest = Newest { number, kind: change.kind, uid: uid.clone() };
        let name = self.names.entry(change.key().clone()).or_insert_with(|| Name {
            // Of an object that appears in the backlog nothing was told before.
            told: (!appears(change.kind)).then(|| uid.clone()),
            surely: true,
            count: 0,
            newest: Newest { number, kind: change.kind, uid: uid.clone() },
            end_of_told: None,
            ends: Vec::new(),
        });
        name.count += 1;
        name.newest = newest;
        if doubtful && appears(change.kind) {
            name.ends.extend(name.end_of_told.take());
            (name.told, name.surely) = (Some(uid.clone()), false);
        }
        if name.told.as_ref() == Some(uid) {
            // An object that left and came back is not over.
            name.end_of_told = ends(change.kind).then_some(number);
        }
    }

    /// What is kept: per name the newest version, and before it the end of the life that was told of, if that is
    /// over. What came and went untold is left out.
    pub fn finish(self) -> Compacted {
        let mut kept = BTreeMap::new();
        for Name { told, surely, count, newest, end_of_told, ends: over } in self.names.into_values() {
            if count == 1 {
                kept.insert(newest.number, None);
                continue;
            }
            for end in over.into_iter().chain(end_of_told) {
                kept.insert(end, Some(Mark::Gap));
            }
            if !ends(newest.kind) {
                let continues = surely && told.as_ref() == Some(&newest.uid) && end_of_told.is_none();
                kept.insert(newest.number, Some(if continues { Mark::Gap } else { Mark::GapAdded }));
            }
        }
        let left_out = self.seen - kept.len() as u64;
        Compacted { kept, left_out }
    }
}

// === impl Mark ===

impl Mark {
    /// The Change as it is told.
    #[must_use]
    pub fn apply(self, change: &Change) -> Change {
        let appeared = self == Self::GapAdded && change.kind == ChangeKind::Updated;
        let kind = if appeared { ChangeKind::Added } else { change.kind };
        Change { kind, gap: true, ..change.clone() }
    }
}

fn appears(kind: ChangeKind) -> bool {
    matches!(kind, ChangeKind::Snapshot | ChangeKind::Added)
}

fn ends(kind: ChangeKind) -> bool {
    matches!(kind, ChangeKind::Deleted | ChangeKind::Left)
}

#[cfg(test)]
mod tests {

    use super::*;

    use crate::object::{Meta, Object, ResourceVersion};

    fn change(kind: ChangeKind, uid: &str, version: u64) -> Change {
        let meta = Meta::new(ObjectKey::new(Some("shop"), "milk"), Uid::new(uid), ResourceVersion(version));
        Change::watched(kind, Object { meta, body: "{}".into() })
    }

    /// What is kept of these Changes of one name, and how many are left out.
    fn compact(changes: &[(ChangeKind, &str)]) -> (Vec<(u64, Option<Mark>)>, u64) {
        let mut compaction = Compaction::default();
        for (number, (kind, uid)) in (1..).zip(changes) {
            compaction.add(number, &change(*kind, uid, number), false);
        }
        let Compacted { kept, left_out } = compaction.finish();
        (kept.into_iter().collect(), left_out)
    }

    #[test]
    fn the_newest_version_is_kept_with_a_gap_before_it() {
        use ChangeKind::{Added, Snapshot, Updated};
        assert_eq!(compact(&[(Updated, "a"); 3]), (vec![(3, Some(Mark::Gap))], 2));
        assert_eq!(compact(&[(Added, "a"), (Updated, "a")]), (vec![(2, Some(Mark::GapAdded))], 1));
        assert_eq!(compact(&[(Snapshot, "a")]), (vec![(1, None)], 0), "alone it misses nothing");
        let told = Mark::GapAdded.apply(&change(Updated, "a", 2));
        assert_eq!((told.kind, told.gap), (Added, true));
    }

    #[test]
    fn the_end_of_what_was_told_is_kept_and_what_came_and_went_is_not() {
        use ChangeKind::{Added, Deleted, Updated};
        assert_eq!(compact(&[(Updated, "a"), (Deleted, "a")]), (vec![(2, Some(Mark::Gap))], 1));
        assert_eq!(compact(&[(Added, "a"), (Deleted, "a")]), (vec![], 2));
        let lives = [(Deleted, "a"), (Added, "b"), (Deleted, "b"), (Added, "c"), (Updated, "c")];
        assert_eq!(compact(&lives), (vec![(1, Some(Mark::Gap)), (5, Some(Mark::GapAdded))], 3));
    }

    #[test]
    fn the_end_of_what_a_process_before_may_have_told_is_kept() {
        use ChangeKind::{Added, Deleted, Updated};
        let compact = |changes: &[(ChangeKind, &str)]| {
            let mut compaction = Compaction::default();
            for (number, (kind, uid)) in (1..).zip(changes) {
                compaction.add(number, &change(*kind, uid, number), number <= 2);
            }
            compaction.finish().kept.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(compact(&[(Added, "a"), (Updated, "a"), (Deleted, "a")]), [(3, Some(Mark::Gap))]);
        assert_eq!(compact(&[(Added, "a"), (Updated, "a"), (Updated, "a")]), [(3, Some(Mark::GapAdded))]);
        let lives = [(Deleted, "a"), (Added, "b"), (Deleted, "b"), (Added, "c")];
        let kept = [(1, Some(Mark::Gap)), (3, Some(Mark::Gap)), (4, Some(Mark::GapAdded))];
        assert_eq!(compact(&lives), kept);
    }

    #[test]
    fn what_left_and_came_back_is_there() {
        use ChangeKind::{Added, Left, Updated};
        assert_eq!(compact(&[(Left, "a"), (Added, "a")]), (vec![(2, Some(Mark::Gap))], 1));
        assert_eq!(compact(&[(Updated, "a"), (Left, "a")]), (vec![(2, Some(Mark::Gap))], 1));
    }
}
