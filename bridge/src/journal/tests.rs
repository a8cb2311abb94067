//! One Journal and its readers, with a store that is a list of chunks.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::change::{Change, ChangeKind};
use tidings_core::known::Slot;
use tidings_core::object::{Meta, Object, ObjectKey, ResourceVersion, Uid};
use tokio::sync::Notify;

use super::*;
use crate::state::record::Recipient;

const A: Slot = Slot(0);
const B: Slot = Slot(1);

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
    match journal.take(slot, most) {
        Taken::Changes(records) => numbers(&records),
        Taken::Nothing => Vec::new(),
        Taken::Stored(chunk) => panic!("chunk {chunk} is to be read"),
    }
}

/// A flush that works: what it wrote.
fn flush(journal: &Journal) -> Vec<Arc<JournalRecord>> {
    let mut flush = journal.begin_flush();
    let entries = std::mem::take(&mut flush.entries);
    journal.end_flush(&flush, &entries, 1);
    entries
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
    let Taken::Stored(chunk) = journal.take(B, 9) else { panic!("B has to read") };
    let records = stored.iter().map(|record| (**record).clone()).collect();
    assert_eq!(numbers(&journal.take_stored(B, chunk, records)), [1, 2, 3, 4]);
    assert_eq!(take(&journal, B, 9), [5]);
    assert_eq!(journal.begin_flush().dead, [0; 0]);
    journal.settle(B, &[1, 2, 3, 4]);
    assert_eq!(journal.standing(A).open, 2);
    journal.settle(A, &[3]);
    assert_eq!(journal.begin_flush().dead, [chunk]);
}

#[test]
fn a_restart_goes_on_with_what_was_not_settled() {
    let journal = journal();
    append(&journal, 1..=6, &[A]);
    assert_eq!(take(&journal, A, 4), [1, 2, 3, 4]);
    journal.settle(A, &[2, 4]);
    let mut flush = journal.begin_flush();
    let stored = std::mem::take(&mut flush.entries);
    assert_eq!(numbers(&stored), [1, 3, 5, 6]);
    let cursors = vec![(A, journal.cursor(A))];
    let index = stored.iter().map(|record| (record.number, vec![A])).collect();
    let chunks = vec![ChunkRecord { chunk: flush.chunk, bytes: 1, index }];

    let next = Journal::restore(Memory::new(1 << 20), flush.next, cursors, chunks);
    assert_eq!(next.standing(A).open, 4);
    next.follow(A, Arc::new(Notify::new()));
    let Taken::Stored(chunk) = next.take(A, 9) else { panic!("it is stored") };
    let records = stored.iter().map(|record| (**record).clone()).collect();
    assert_eq!(numbers(&next.take_stored(A, chunk, records)), [1, 3, 5, 6]);
    append(&next, 7..=7, &[A]);
    assert_eq!(take(&next, A, 9), [7], "numbers go on");
    next.settle(A, &[1, 3, 5, 6, 7]);
    let standing = next.standing(A);
    assert_eq!((standing.open, standing.settled), (0, Some(ResourceVersion(7))));
    assert_eq!(next.begin_flush().dead, [chunk]);
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
    assert_eq!(journal.begin_flush().dead.len(), 1);
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
    let mut flush = journal.begin_flush();
    let entries = std::mem::take(&mut flush.entries);
    journal.settle(A, &[1]);
    journal.end_flush(&flush, &entries, 1);
    assert_eq!(journal.memory().used(), 0);
    assert_eq!(journal.begin_flush().dead, [flush.chunk]);
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

/// What a look through the backlog says, and how much it leaves out.
fn compact(journal: &Journal, quota: u64, stored: &[(u64, Vec<Arc<JournalRecord>>)]) -> Option<u64> {
    let (slot, chunks) = journal.over_quota(quota)?;
    let mut compaction = tidings_core::compaction::Compaction::default();
    for (_, records) in stored.iter().filter(|(chunk, _)| chunks.contains(chunk)) {
        let records = records.iter().map(|record| (**record).clone()).collect();
        for record in journal.wanted(slot, records) {
            compaction.add(record.number, &record.change, false);
        }
    }
    Some(journal.compact(slot, *chunks.last()?, quota, &compaction.finish()))
}

#[test]
fn a_backlog_over_its_quota_keeps_the_newest_version_and_others_keep_everything() {
    let journal = journal();
    let mut stored = Vec::new();
    for round in 0..5 {
        append(&journal, round * 2 + 1..=round * 2 + 2, &[A, B]);
        assert_eq!(take(&journal, B, 9).len(), 2, "B is behind by nothing");
        let mut flush = journal.begin_flush();
        let entries = std::mem::take(&mut flush.entries);
        journal.end_flush(&flush, &entries, 100);
        stored.push((flush.chunk, entries));
    }
    assert_eq!(journal.over_quota(500), None);
    // Of ten versions of one object the newest is kept. B took all of them, and settles them as they are.
    assert_eq!(compact(&journal, 499, &stored), Some(9));
    let standing = journal.standing(A);
    assert_eq!((standing.open, standing.left_out), (1, 9));
    assert_eq!(journal.standing(B).open, 10);
    assert_eq!(compact(&journal, 499, &stored), Some(0), "B has taken everything");
    assert_eq!(journal.over_quota(499), None, "nobody is looked through again before there is more");
    let Taken::Stored(chunk) = journal.take(A, 9) else { panic!("it is stored") };
    let (_, records) = stored.iter().find(|(id, _)| *id == chunk).unwrap();
    let taken = journal.take_stored(A, chunk, records.iter().map(|record| (**record).clone()).collect());
    assert_eq!(numbers(&taken), [10]);
    assert!(taken[0].change.gap);
    journal.settle(B, &(1..=10).collect::<Vec<_>>());
    assert_eq!(journal.begin_flush().dead.len(), 4, "A keeps one");
    journal.settle(A, &[10]);
    assert_eq!(journal.begin_flush().dead, [chunk]);
}
