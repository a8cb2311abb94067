//! One Journal and its readers, with a store that is a list of chunks.

mod quota;

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::change::{Change, ChangeKind};
use tidings_core::known::Slot;
use tidings_core::object::{Meta, Object, ObjectKey, ResourceVersion, Uid};
use tokio::sync::Notify;

use tidings_core::compaction::Compaction;

use super::*;
use crate::state::record::{CHUNK_BYTES, Recipient};

const A: Slot = Slot(0);
const B: Slot = Slot(1);
const ALL: Room = Room { changes: usize::MAX, bytes: usize::MAX };

fn record(version: u64, to: &[Slot]) -> JournalRecord {
    let meta = Meta::new(ObjectKey::new(Some("shop"), "milk"), Uid::new("u"), ResourceVersion(version));
    let change = Change::watched(ChangeKind::Updated, Object { meta, body: Bytes::from(vec![b'x'; 1000]) });
    JournalRecord {
        number: 0,
        change: change.into(),
        to: to.iter().map(|slot| Recipient { slot: *slot, generation: 1 }).collect(),
        before: Some(ResourceVersion(version - 1)),
        decided: version,
    }
}

fn journal() -> Journal {
    let journal = Journal::new(Memory::new(1 << 20));
    for slot in [A, B] {
        journal.follow(slot, Arc::new(Notify::new()));
    }
    journal
}

fn append(journal: &Journal, versions: std::ops::RangeInclusive<u64>, to: &[Slot]) {
    let last = ResourceVersion(*versions.end());
    journal.append(versions.map(|version| record(version, to)).collect(), Some(last));
}

fn numbers(records: &[Arc<JournalRecord>]) -> Vec<u64> {
    records.iter().map(|record| record.number).collect()
}

fn take(journal: &Journal, slot: Slot, most: usize) -> Vec<u64> {
    match journal.take(slot, Room { changes: most, bytes: usize::MAX }) {
        Taken::Changes(records) => numbers(&records),
        Taken::Nothing => Vec::new(),
        Taken::Stored(chunk) => panic!("chunk {chunk} is to be read"),
    }
}

/// What a store makes of a flush, in one chunk.
fn made_of(flush: &Flush, bytes: usize) -> Flushed {
    let slots = |record: &JournalRecord| record.to.iter().map(|to| to.slot).collect();
    let index = flush.entries.iter().map(|record| (record.number, slots(record))).collect();
    let chunks = ChunkRecord::of(flush.chunk, &index, bytes, |_, _| true).into_iter().collect();
    Flushed { chunks, ..Flushed::default() }
}

/// Begins a flush, and says what a commit has to write for it.
fn write(journal: &Journal) -> Flush {
    let mut flush = Flush::default();
    journal.begin_flush();
    journal.write_flush(&mut flush, true);
    flush
}

/// A flush that works: what it wrote.
fn flush(journal: &Journal) -> Vec<Arc<JournalRecord>> {
    let flush = write(journal);
    journal.end_flush(made_of(&flush, 1000));
    flush.entries
}

#[test]
fn what_everybody_settled_is_in_memory_no_more_and_is_never_stored() {
    let journal = journal();
    append(&journal, 1..=3, &[A, B]);
    let full = journal.memory().used();
    assert_eq!(take(&journal, A, 2), [1, 2]);
    assert_eq!(take(&journal, B, 9), [1, 2, 3]);
    journal.settle(A, &[1, 2]);
    assert_eq!(journal.memory().used(), full);
    journal.settle(B, &[1]);
    assert_eq!(journal.memory().used(), full / 3 * 2);
    journal.settle(B, &[2, 3]);
    assert_eq!(take(&journal, A, 9), [3]);
    journal.settle(A, &[3]);
    assert_eq!((journal.memory().used(), journal.unflushed()), (0, 0));
    assert!(flush(&journal).is_empty());
}

/// What a lane holds is not counted for the tail any more once it is stored.
#[test]
fn no_more_is_taken_than_there_is_room_for() {
    let journal = journal();
    append(&journal, 1..=5, &[A]);
    let size = record(1, &[A]).change.size();
    let taken = |bytes| match journal.take(A, Room { changes: 9, bytes }) {
        Taken::Changes(records) => numbers(&records),
        other => panic!("{other:?}"),
    };
    assert_eq!(taken(size), [1]);
    assert_eq!(taken(size + 1), [2, 3]);
    assert_eq!(taken(1), [4]);
}

#[test]
fn a_flush_frees_memory_and_who_comes_later_reads_the_chunk() {
    let journal = journal();
    append(&journal, 1..=4, &[A, B]);
    assert_eq!(take(&journal, A, 9), [1, 2, 3, 4]);
    journal.settle(A, &[1, 2, 4]);
    let stored = flush(&journal);
    assert_eq!(journal.memory().used(), 0);
    let to: Vec<_> =
        stored.iter().map(|record| record.to.iter().map(|to| to.slot.0).collect::<Vec<_>>()).collect();
    assert_eq!(to, [vec![1], vec![1], vec![0, 1], vec![1]], "only for those who have not settled it");
    append(&journal, 5..=5, &[A, B]);
    // Who took it before goes on; who did not reads it first.
    assert_eq!(take(&journal, A, 9), [5]);
    let Taken::Stored(chunk) = journal.take(B, ALL) else { panic!("B has to read") };
    assert_eq!(numbers(&journal.take_stored(B, &stored)), [1, 2, 3, 4]);
    assert_eq!(take(&journal, B, 9), [5]);
    assert_eq!(write(&journal).dead, [0; 0]);
    journal.settle(B, &[1, 2, 3, 4]);
    assert_eq!(journal.standing(A).open, 2);
    journal.settle(A, &[3]);
    assert_eq!(write(&journal).dead, [chunk]);
}

#[test]
fn what_was_given_back_leaves_the_memory_and_is_taken_again_in_order_when_it_is_asked_for() {
    let journal = journal();
    append(&journal, 1..=4, &[A]);
    assert_eq!(take(&journal, A, 9), [1, 2, 3, 4]);
    journal.give_back(A, &[2, 4]);
    journal.settle(A, &[1, 3]);
    let stored = flush(&journal);
    assert_eq!((journal.memory().used(), numbers(&stored)), (0, vec![2, 4]));
    append(&journal, 5..=6, &[A]);
    assert_eq!(take(&journal, A, 1), [5], "what was given back holds up nothing");
    journal.give_back(A, &[5]);
    assert_eq!(journal.standing(A).open, 4);

    journal.ask_again(A, &[2, 4, 5]);
    let Taken::Stored(_) = journal.take(A, ALL) else { panic!("A has to read") };
    assert_eq!(numbers(&journal.take_stored(A, &stored)), [2, 4]);
    assert_eq!(take(&journal, A, 9), [5, 6]);
    journal.settle(A, &[2, 4, 5, 6]);
    assert_eq!((journal.standing(A).open, write(&journal).dead.len()), (0, 1));
}

#[test]
fn what_is_asked_for_while_a_later_chunk_is_read_comes_first() {
    let journal = journal();
    append(&journal, 1..=2, &[A]);
    assert_eq!(take(&journal, A, 9), [1, 2]);
    journal.give_back(A, &[1]);
    let first = flush(&journal);
    append(&journal, 3..=4, &[A]);
    let second = flush(&journal);
    let Taken::Stored(_) = journal.take(A, ALL) else { panic!("A has to read") };
    journal.ask_again(A, &[1]);
    assert_eq!(numbers(&journal.take_stored(A, &second)), [0; 0], "1 comes first");
    let Taken::Stored(_) = journal.take(A, ALL) else { panic!("A has to read") };
    assert_eq!(numbers(&journal.take_stored(A, &first)), [1]);
    let Taken::Stored(_) = journal.take(A, ALL) else { panic!("A has to read") };
    assert_eq!(numbers(&journal.take_stored(A, &second)), [3, 4]);
}

#[test]
fn a_restart_goes_on_with_what_was_not_settled() {
    let journal = journal();
    append(&journal, 1..=6, &[A]);
    assert_eq!(take(&journal, A, 4), [1, 2, 3, 4]);
    journal.settle(A, &[2, 4]);
    let flush = write(&journal);
    let stored = &flush.entries;
    assert_eq!(numbers(stored), [1, 3, 5, 6]);
    let cursors = vec![(A, journal.cursor(A))];

    let next = Journal::restore(Memory::new(1 << 20), journal.next(), cursors, made_of(&flush, 1).chunks);
    assert_eq!(next.standing(A).open, 4);
    next.follow(A, Arc::new(Notify::new()));
    let Taken::Stored(chunk) = next.take(A, ALL) else { panic!("it is stored") };
    assert_eq!(numbers(&next.take_stored(A, stored)), [1, 3, 5, 6]);
    append(&next, 7..=7, &[A]);
    assert_eq!(take(&next, A, 9), [7], "numbers go on");
    next.settle(A, &[1, 3, 5, 6, 7]);
    let standing = next.standing(A);
    assert_eq!((standing.open, standing.settled), (0, Some(ResourceVersion(7))));
    assert_eq!(write(&next).dead, [chunk]);
}

#[test]
fn who_leaves_keeps_nothing_alive() {
    let journal = journal();
    append(&journal, 1..=2, &[A, B]);
    let stored = flush(&journal);
    assert_eq!(stored.len(), 2);
    append(&journal, 3..=3, &[A, B]);
    assert_eq!(journal.leave(A), 3);
    assert_eq!(journal.leave(B), 3);
    assert_eq!(journal.memory().used(), 0);
    assert_eq!(write(&journal).dead.len(), 1);
    // The slot is another one's now, who is told nothing of before.
    journal.follow(A, Arc::new(Notify::new()));
    assert_eq!(take(&journal, A, 9), [0; 0]);
    assert_eq!(journal.standing(A).open, 0);
}

#[test]
fn a_change_that_is_settled_while_it_is_being_stored_does_not_keep_its_chunk() {
    let journal = journal();
    append(&journal, 1..=1, &[A]);
    assert_eq!(take(&journal, A, 9), [1]);
    let flush = write(&journal);
    journal.settle(A, &[1]);
    journal.end_flush(made_of(&flush, 1));
    assert_eq!(journal.memory().used(), 0);
    assert_eq!(write(&journal).dead, [flush.chunk]);
}

/// The commit holds it, whoever has settled it meanwhile.
#[test]
fn what_is_being_stored_takes_memory_until_it_is_stored_or_the_commit_fails() {
    let journal = journal();
    append(&journal, 1..=3, &[A]);
    let full = journal.memory().used();
    assert_eq!(take(&journal, A, 9), [1, 2, 3]);
    let mut flush = write(&journal);
    journal.settle(A, &[1, 3]);
    assert_eq!(journal.memory().used(), full);
    journal.give_up_flush(&mut flush);
    journal.write_flush(&mut flush, false);
    assert_eq!((numbers(&flush.entries), journal.memory().used()), (vec![2], full / 3));
    journal.settle(A, &[2]);
    journal.end_flush(made_of(&flush, 1));
    assert_eq!((journal.memory().used(), journal.standing(A).open), (0, 0));
    assert_eq!(write(&journal).dead, [flush.chunk]);
}

#[test]
fn what_is_settled_before_a_flush_is_written_is_not_and_takes_no_memory() {
    let journal = journal();
    append(&journal, 1..=2, &[A]);
    assert_eq!(take(&journal, A, 9), [1, 2]);
    journal.begin_flush();
    append(&journal, 3..=3, &[A]);
    journal.settle(A, &[1]);
    assert!(!journal.is_flush_settled());
    assert_eq!(journal.memory().used(), journal.unflushed() * 2);
    journal.settle(A, &[2]);
    assert!(journal.is_flush_settled() && !journal.has_stored());
    assert_eq!(journal.memory().used(), journal.unflushed());
    let mut flush = Flush::default();
    journal.write_flush(&mut flush, true);
    assert_eq!(numbers(&flush.entries), [0; 0]);
    journal.end_flush(made_of(&flush, 1));
    assert_eq!(take(&journal, A, 9), [3]);
}

#[tokio::test]
async fn room_is_free_again_when_everybody_settled() {
    let journal = Journal::new(Memory::new(1000));
    journal.follow(A, Arc::new(Notify::new()));
    let memory = journal.memory().clone();
    assert!(memory.has_room());
    append(&journal, 1..=1, &[A]);
    assert!(!memory.has_room());
    let mut room = Box::pin(memory.room());
    assert!(futures::poll!(&mut room).is_pending());
    take(&journal, A, 1);
    journal.settle(A, &[1]);
    assert!(futures::poll!(&mut room).is_ready());
}

/// Looks through a backlog that begins to be held: what it comes to.
fn look(journal: &Journal, backlog: &Backlog, stored: &[(u64, Vec<Arc<JournalRecord>>)]) -> Compacted {
    let mut compaction = Compaction::default();
    for (_, records) in stored.iter().filter(|(chunk, _)| backlog.chunks.contains(chunk)) {
        let mut records = records.iter().map(|record| (**record).clone()).collect();
        journal.idle(backlog.slot, &mut records);
        for record in records {
            compaction.add(record.number, &record.change, false);
        }
    }
    compaction.finish()
}

/// Compacts one backlog that is over the quota, and says how much that leaves out.
fn compact(journal: &Journal, quota: u64, stored: &[(u64, Vec<Arc<JournalRecord>>)]) -> Option<u64> {
    let backlog = journal.begin_compaction(quota)?;
    let compacted = look(journal, &backlog, stored);
    Some(journal.end_compaction(&backlog, quota, &compacted))
}

#[test]
fn a_backlog_over_its_quota_keeps_the_newest_version_and_others_keep_everything() {
    let journal = journal();
    let mut stored = Vec::new();
    for round in 0..5 {
        append(&journal, round * 2 + 1..=round * 2 + 2, &[A, B]);
        assert_eq!(take(&journal, B, 9).len(), 2, "B is behind by nothing");
        let flush = write(&journal);
        journal.end_flush(made_of(&flush, 100));
        stored.push((flush.chunk, flush.entries));
    }
    assert_eq!(journal.begin_compaction(500), None);
    // Of ten versions of one object the newest is kept. B took all of them, and settles them as they are.
    assert_eq!(compact(&journal, 499, &stored), Some(9));
    let standing = journal.standing(A);
    assert_eq!((standing.open, standing.left_out), (1, 9));
    assert_eq!(journal.standing(B).open, 10);
    assert_eq!(compact(&journal, 499, &stored), Some(0), "B has taken everything");
    assert_eq!(journal.begin_compaction(499), None, "nobody is looked through again before there is more");
    let Taken::Stored(chunk) = journal.take(A, ALL) else { panic!("it is stored") };
    let (_, records) = stored.iter().find(|(id, _)| *id == chunk).unwrap();
    let taken = journal.take_stored(A, records);
    assert_eq!(numbers(&taken), [10]);
    assert!(taken[0].change.gap);
    journal.settle(B, &(1..=10).collect::<Vec<_>>());
    assert_eq!(write(&journal).dead.len(), 4, "A keeps one");
    journal.settle(A, &[10]);
    assert_eq!(write(&journal).dead, [chunk]);
}

/// An Added that is told while its Deleted is being left out would stay with consumers for ever.
#[test]
fn nothing_is_taken_of_a_backlog_that_is_looked_through() {
    let journal = journal();
    append(&journal, 1..=4, &[A]);
    let flush = write(&journal);
    journal.end_flush(made_of(&flush, 100));
    let Taken::Stored(_) = journal.take(A, ALL) else { panic!("it is stored") };
    let backlog = journal.begin_compaction(10).unwrap();
    assert_eq!(journal.take_stored(A, &flush.entries), [], "it was being read");
    assert!(matches!(journal.take(A, ALL), Taken::Nothing));
    let compacted = look(&journal, &backlog, &[(flush.chunk, flush.entries.clone())]);
    assert_eq!(journal.end_compaction(&backlog, 10, &compacted), 3);
    let Taken::Stored(_) = journal.take(A, ALL) else { panic!("it is stored") };
    assert_eq!(numbers(&journal.take_stored(A, &flush.entries)), [4]);
    // Where that fails, all of it is still there.
    append(&journal, 5..=6, &[A]);
    let flush = write(&journal);
    journal.end_flush(made_of(&flush, 100));
    let backlog = journal.begin_compaction(10).unwrap();
    journal.release(backlog.slot);
    let Taken::Stored(_) = journal.take(A, ALL) else { panic!("it is stored") };
    assert_eq!(numbers(&journal.take_stored(A, &flush.entries)), [5, 6]);
}

/// What was looked through is not what is in nobody's hands any more.
#[test]
fn what_is_given_back_or_asked_for_while_its_backlog_is_looked_through_makes_that_void() {
    let journal = journal();
    append(&journal, 1..=2, &[A]);
    assert_eq!(take(&journal, A, 9), [1, 2]);
    let flush = write(&journal);
    journal.end_flush(made_of(&flush, 100));
    let stored = [(flush.chunk, flush.entries)];
    for change in [Journal::give_back, Journal::ask_again] {
        let backlog = journal.begin_compaction(10).unwrap();
        let compacted = look(&journal, &backlog, &stored);
        change(&journal, A, &[1, 2]);
        assert_eq!(journal.end_compaction(&backlog, 10, &compacted), 0);
        assert_eq!(journal.standing(A).open, 2);
    }
    assert_eq!(compact(&journal, 10, &stored), Some(1));
}

#[test]
fn chunks_of_which_little_is_open_become_one() {
    let journal = journal();
    let mut chunks = Vec::new();
    for round in 0..3 {
        append(&journal, round * 10 + 1..=round * 10 + 10, &[A, B]);
        assert_eq!(take(&journal, A, 99).len(), 10);
        assert_eq!(take(&journal, B, 99).len(), 10);
        let flush = write(&journal);
        journal.end_flush(made_of(&flush, CHUNK_BYTES));
        chunks.push(flush.chunk);
    }
    let all: Vec<_> = (1..=30).collect();
    journal.settle(B, &all);
    let but_two: Vec<_> = all.iter().copied().filter(|number| ![5, 25].contains(number)).collect();
    journal.settle(A, &but_two);
    let flush = std::iter::repeat_with(|| write(&journal)).take(20).find(|flush| !flush.merge.is_empty());
    let flush = flush.expect("there is much to gain");
    assert_eq!(flush.merge, [chunks[0], chunks[2]], "the other one is dead");
    // One of the two is settled meanwhile.
    journal.settle(A, &[25]);
    let index = vec![(5, vec![A]), (25, vec![A])];
    let into = ChunkRecord::of(flush.chunk, &index, 10, |_, _| true);
    journal.end_flush(Flushed { chunks: Vec::new(), merged: flush.merge, into });
    assert!(!journal.holds(chunks[0]) && journal.holds(flush.chunk));
    assert_eq!((journal.standing(A).open, write(&journal).dead), (1, vec![]));
    journal.settle(A, &[5]);
    assert_eq!(write(&journal).dead, [flush.chunk]);
}

#[test]
fn a_watch_that_is_over_keeps_no_memory_also_not_of_a_commit_under_way() {
    let journal = journal();
    append(&journal, 1..=2, &[A]);
    assert_eq!(take(&journal, A, 1), [1]);
    write(&journal);
    journal.settle(A, &[1]);
    append(&journal, 3..=3, &[A]);
    journal.forget();
    assert_eq!(journal.memory().used(), 0);
    // A lane may still have some of it.
    journal.settle(A, &[2, 3]);
    assert_eq!(journal.memory().used(), 0);
}

#[test]
fn a_commit_that_is_tried_again_holds_only_what_is_open_by_then() {
    let journal = journal();
    append(&journal, 1..=3, &[A, B]);
    assert_eq!(take(&journal, A, 9), [1, 2, 3]);
    assert_eq!(take(&journal, B, 2), [1, 2]);
    let mut flush = write(&journal);
    journal.settle(A, &[1, 2]);
    journal.settle(B, &[1]);
    journal.give_up_flush(&mut flush);
    journal.write_flush(&mut flush, false);
    let open = |record: &Arc<JournalRecord>| {
        (record.number, record.to.iter().map(|to| to.slot.0).collect::<Vec<_>>())
    };
    assert_eq!(flush.entries.iter().map(open).collect::<Vec<_>>(), [(2, vec![1]), (3, vec![0, 1])]);
    journal.end_flush(made_of(&flush, 1));
    assert_eq!(journal.memory().used(), 0);
    journal.settle(A, &[3]);
    journal.settle(B, &[2]);
    assert_eq!(write(&journal).dead, [0; 0], "B has not settled the last");
}
