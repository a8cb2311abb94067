//! A disk that is full, and has room again.

use std::process::Command;

use tidings_core::watch::saved::Difference;

use super::*;
use crate::state::record::Flush;

/// A file system of its own with `size` bytes, as long as this lives; only root can have one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tidings-test"]).arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn commit(chunk: u64, dead: Vec<u64>, length: usize) -> Commit {
    let known = vec![(sample::key(1), Some(sample::entry(chunk)))];
    let entries = if length == 0 { Vec::new() } else { vec![sample::change(chunk * 4 + 1, length)] };
    Commit {
        watch: sample::watch("Order"),
        record: WatchRecord { next: chunk, ..WatchRecord::default() },
        difference: Difference { known, ..Difference::default() },
        journal: Flush { entries, chunk, dead, merge: Vec::new() },
    }
}

/// Commits until there is no room; the last chunk that was committed.
fn fill(store: &mut SqliteStore, from: u64) -> u64 {
    for chunk in from.. {
        // Not to be compressed away.
        let mut commit = commit(chunk, Vec::new(), 10);
        commit.journal.entries = vec![noise(chunk)];
        match store.commit(&commit) {
            Ok(_) => {}
            Err(Error::Full { .. }) => return chunk - 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    unreachable!("the disk has an end");
}

fn noise(chunk: u64) -> std::sync::Arc<JournalRecord> {
    let mut record = JournalRecord::clone(&sample::change(chunk * 4 + 1, 1));
    let mut change = tidings_core::change::Change::clone(&record.change);
    let mut random = fastrand::Rng::with_seed(chunk);
    if let tidings_core::change::Content::Object(object) = &mut change.content {
        let body: Vec<u8> = (0..100_000).map(|_| random.u8(..)).collect();
        std::sync::Arc::make_mut(object).body = body.into();
    }
    record.change = std::sync::Arc::new(change);
    std::sync::Arc::new(record)
}

fn check(store: &mut SqliteStore, last: u64, from: u64) {
    let stored = store.load(&sample::watch("Order")).unwrap().unwrap();
    assert_eq!(stored.record.next, last, "what failed has left something behind");
    assert_eq!(stored.saved.known, [(sample::key(1), sample::entry(last))]);
    for chunk in &stored.chunks {
        assert_eq!(
            store.read(&sample::watch("Order"), chunk.chunk).unwrap(),
            [(*noise(chunk.chunk)).clone()]
        );
    }
    let chunks: Vec<_> = stored.chunks.iter().map(|chunk| chunk.chunk).collect();
    assert_eq!(chunks.first().copied(), (from <= last).then_some(from));
}

/// A journal that fills its own disk can be drained: what removes is not refused.
#[test]
fn a_full_disk_is_told_and_can_be_drained_and_filled_again() {
    let Some(disk) = SmallDisk::mount(48 << 20) else {
        eprintln!("skipped: a disk that is full needs the right to mount one");
        return;
    };
    let mut store = SqliteStore::open(disk.path()).unwrap();
    let mut first = 1;
    for _ in 0..3 {
        let last = fill(&mut store, first);
        assert!(last > first + 100, "{first} to {last} is no disk full");
        check(&mut store, last, first);
        drop(store);
        store = SqliteStore::open(disk.path()).unwrap();
        check(&mut store, last, first);
        assert!(matches!(
            store.commit(&{
                let mut commit = commit(last + 1, Vec::new(), 1);
                commit.journal.entries = (0..200).map(|_| noise(last + 1)).collect();
                commit
            }),
            Err(Error::Full { .. })
        ));

        store.commit(&commit(last + 1, (first..=last).collect(), 0)).unwrap();
        let stored = store.load(&sample::watch("Order")).unwrap().unwrap();
        assert_eq!((stored.record.next, stored.chunks.len()), (last + 1, 0));
        first = last + 2;
    }
}

/// Somebody else fills the disk, and makes room.
#[test]
fn a_disk_that_others_fill_stops_nothing_for_good() {
    let Some(disk) = SmallDisk::mount(16 << 20) else {
        eprintln!("skipped: a disk that is full needs the right to mount one");
        return;
    };
    let mut store = SqliteStore::open(disk.path()).unwrap();
    store.commit(&commit(1, Vec::new(), 0)).unwrap();
    let other = disk.path().join("other");
    let full = fs::write(&other, vec![1; 32 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let mut chunk = commit(2, Vec::new(), 1);
    chunk.journal.entries = vec![noise(2)];
    for _ in 0..3 {
        assert!(matches!(store.commit(&chunk), Err(Error::Full { .. })));
    }
    let copy = crashed(disk.path().join(".").as_path());
    let mut crashed = SqliteStore::open(copy.path()).unwrap();
    assert_eq!(crashed.load(&sample::watch("Order")).unwrap().unwrap().record.next, 1);
    fs::remove_file(other).unwrap();
    store.commit(&chunk).unwrap();
    check(&mut store, 2, 2);
}

/// The same without a disk of its own: the database may not grow.
#[test]
fn a_database_that_may_not_grow_is_full_and_goes_on_when_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(folder.path()).unwrap();
    store.commit(&commit(1, Vec::new(), 0)).unwrap();
    let limit = |store: &SqliteStore, pages: i64| {
        let limit = format!("PRAGMA max_page_count = {pages}");
        store.db.query_row(&limit, [], |_| Ok(())).unwrap();
    };
    limit(&store, 200);
    let last = fill(&mut store, 2);
    check(&mut store, last, 2);
    limit(&store, 1 << 30);
    let mut next = commit(last + 1, Vec::new(), 1);
    next.journal.entries = vec![noise(last + 1)];
    store.commit(&next).unwrap();
    check(&mut store, last + 1, 2);
}
