//! Random commits, with reopening and crashes in between, against maps in memory.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tidings_core::cursor::SavedCursor;
use tidings_core::known::{Entry, Slot};
use tidings_core::object::ObjectKey;
use tidings_core::watch::saved::{Difference, Told};

use super::*;
use crate::state::record::{ChunkRecord, Flush, SubscriptionRecord};

/// What the store is asked to do. Numbers are reduced to what exists.
#[derive(Clone, Debug)]
enum Action {
    Commit {
        watch: usize,
        known: Vec<(u8, bool)>,
        emptied: BTreeSet<usize>,
        views: Vec<(usize, u8, bool)>,
        entries: u64,
        dead: usize,
        merge: usize,
    },
    Forget(usize),
    Reopen,
    Crash,
}

/// A store as maps.
#[derive(Clone, Debug, Default)]
struct Model {
    watches: BTreeMap<WatchName, ModelWatch>,
    /// For versions and numbers that are never used twice.
    counter: u64,
}

#[derive(Clone, Debug, Default)]
struct ModelWatch {
    record: WatchRecord,
    known: BTreeMap<ObjectKey, Entry>,
    views: BTreeMap<(Slot, ObjectKey), Told>,
    chunks: BTreeMap<u64, Vec<JournalRecord>>,
}

fn any_action() -> impl Strategy<Value = Action> {
    let known = prop::collection::vec((0..40_u8, prop::bool::weighted(0.7)), 0..12);
    let views = prop::collection::vec((0..3_usize, 0..10_u8, prop::bool::weighted(0.8)), 0..4);
    let emptied = prop::collection::btree_set(0..3_usize, 0..2);
    let commit = (0..2_usize, known, emptied, views, 0..8_u64, 0..3_usize, 0..4_usize).prop_map(
        |(watch, known, emptied, views, entries, dead, merge)| Action::Commit {
            watch,
            known,
            emptied,
            views,
            entries,
            dead,
            merge,
        },
    );
    prop_oneof![
        40 => commit,
        1 => (0..2_usize).prop_map(Action::Forget),
        2 => Just(Action::Reopen),
        2 => Just(Action::Crash),
    ]
}

/// The same sequences in every run. To look for others:
/// `PROPTEST_RNG_SEED=$RANDOM PROPTEST_CASES=10000 cargo test -p tidings-bridge --lib state`.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 64;
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(20_261_121);
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_committed_is_there_after_any_end(actions in prop::collection::vec(any_action(), 1..120)) {
        let mut folder = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open_with(folder.path(), tiny()).unwrap();
        let mut model = Model::default();
        for action in actions {
            match action {
                Action::Reopen => {
                    drop(store);
                    store = SqliteStore::open_with(folder.path(), tiny()).unwrap();
                    model.check(&mut store);
                }
                Action::Crash => {
                    let copy = crashed(folder.path());
                    drop(store);
                    folder = copy;
                    store = SqliteStore::open_with(folder.path(), tiny()).unwrap();
                    model.check(&mut store);
                }
                Action::Forget(watch) => {
                    let name = name(watch);
                    store.forget(&name).unwrap();
                    model.watches.remove(&name);
                }
                action @ Action::Commit { .. } => {
                    let commit = model.commit(action);
                    let flushed = store.commit(&commit).unwrap();
                    model.committed(&commit, flushed);
                }
            }
        }
        model.check(&mut store);
    }
}

/// However often everything changes, what lies on disk stays within a multiple of what is known.
#[test]
fn neither_runs_nor_bytes_grow_with_the_number_of_commits() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open_with(folder.path(), tiny()).unwrap();
    let mut model = Model::default();
    let mut largest = 0;
    for round in 0..2000_u32 {
        let first = u8::try_from(round % 50 * 4).unwrap();
        let known = (first..first + 4).map(|number| (number, round % 7 != 0)).collect();
        let (emptied, views) = (BTreeSet::new(), Vec::new());
        let (entries, dead, merge) = (0, 0, 0);
        let commit = model.commit(Action::Commit { watch: 0, known, emptied, views, entries, dead, merge });
        store.commit(&commit).unwrap();
        let runs: i64 = store.db.query_row("SELECT count(*) FROM run", [], |row| row.get(0)).unwrap();
        assert!(runs < 100, "{runs} runs after {round} commits");
        largest = largest.max(store.size().unwrap());
    }
    assert!(largest < 200_000, "{largest} bytes for at most 200 objects");
    model.check(&mut store);
}

/// After an outage was drained, the file is small again.
#[test]
fn the_file_shrinks_when_the_journal_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open_with(folder.path(), tiny()).unwrap();
    let mut model = Model::default();
    let commit = |entries, dead| Action::Commit {
        watch: 0,
        known: vec![(1, true)],
        emptied: BTreeSet::new(),
        views: Vec::new(),
        entries,
        dead,
        merge: 0,
    };
    for _ in 0..200 {
        let commit = model.commit(commit(20, 0));
        let flushed = store.commit(&commit).unwrap();
        model.committed(&commit, flushed);
    }
    let full = store.size().unwrap();
    while !model.watches[&name(0)].chunks.is_empty() {
        store.commit(&model.commit(commit(0, 2))).unwrap();
    }
    let drained = store.size().unwrap();
    assert!(drained < full / 4, "{full} bytes, and {drained} when everything was settled");
    model.check(&mut store);
}

fn name(watch: usize) -> WatchName {
    sample::watch(["Order", "Customer"][watch])
}

// === impl Model ===

impl Model {
    fn commit(&mut self, action: Action) -> Commit {
        let Action::Commit { watch, known, emptied, views, entries, dead, merge } = action else {
            panic!("{action:?} is no commit");
        };
        let name = name(watch);
        let state = self.watches.entry(name.clone()).or_default();
        let mut difference = Difference::default();
        for (number, present) in known {
            self.counter += 1;
            let (key, entry) = (sample::key(number), present.then(|| sample::entry(self.counter)));
            match entry.clone() {
                Some(entry) => drop(state.known.insert(key.clone(), entry)),
                None => drop(state.known.remove(&key)),
            }
            // A name that comes twice is the same both times.
            difference.known.retain(|(other, _)| *other != key);
            difference.known.push((key, entry));
        }
        for slot in emptied {
            state.views.retain(|(view, _), _| *view != Slot(slot));
            difference.emptied.push(Slot(slot));
        }
        for (slot, number, present) in views {
            self.counter += 1;
            let (slot, key) = (Slot(slot), sample::key(number));
            let told = present.then(|| sample::told(self.counter));
            match told.clone() {
                Some(told) => drop(state.views.insert((slot, key.clone()), told)),
                None => drop(state.views.remove(&(slot, key.clone()))),
            }
            difference.views.retain(|(view, other, _)| (*view, other) != (slot, &key));
            difference.views.push((slot, key, told));
        }
        let dead: Vec<_> = state.chunks.keys().copied().take(dead).collect();
        for chunk in &dead {
            state.chunks.remove(chunk);
        }
        let chunk = self.counter + 1;
        let start = chunk + 10;
        self.counter = start + entries;
        let entries: Vec<_> = (start..start + entries).map(|number| sample::change(number, 50)).collect();
        let mut order: Vec<_> = state.chunks.iter().collect();
        order.sort_by_key(|(_, entries)| entries[0].number);
        let merge = order.into_iter().map(|(chunk, _)| *chunk).take(merge).collect();
        // Everybody has settled what cannot be divided by three.
        let numbers = state.chunks.values().flatten().map(|entry| entry.number);
        let mut unsettled: Vec<_> = numbers.filter(|number| number.is_multiple_of(3)).collect();
        unsettled.sort_unstable();
        state.record.next = self.counter;
        state.record.subscriptions = (0..3)
            .map(|slot| SubscriptionRecord {
                slot: Slot(slot),
                uid: "uid".into(),
                subscription: "shop/orders".into(),
                place: "nats".to_owned(),
                generation: 1,
                cursor: SavedCursor { next: start, unsettled: unsettled.clone(), marks: Vec::new() },
            })
            .collect();
        let record = state.record.clone();
        Commit { watch: name, record, difference, journal: Flush { entries, chunk, merge, dead } }
    }

    /// What the store made of it: each entry is in one chunk, what was settled in none that was merged.
    fn committed(&mut self, commit: &Commit, flushed: Flushed) {
        let Flushed { chunks, merged, into } = flushed;
        let state = self.watches.get_mut(&commit.watch).unwrap();
        let mut entries = commit.journal.entries.iter().map(|entry| JournalRecord::clone(entry));
        for chunk in chunks {
            let of_chunk: Vec<_> = entries.by_ref().take(usize::try_from(chunk.entries).unwrap()).collect();
            state.chunks.insert(chunk.chunk, of_chunk);
        }
        assert!(entries.next().is_none(), "an entry is in no chunk");
        assert!(commit.journal.merge.starts_with(&merged));
        assert_eq!(merged.is_empty(), commit.journal.merge.is_empty());
        let mut kept: Vec<_> = merged.iter().flat_map(|chunk| state.chunks.remove(chunk).unwrap()).collect();
        kept.retain(|entry| entry.number.is_multiple_of(3));
        assert_eq!(kept.is_empty(), into.is_none());
        state.chunks.extend(into.map(|into| (into.chunk, kept)));
    }

    fn check(&self, store: &mut SqliteStore) {
        let mut watches = store.watches().unwrap();
        watches.sort_by(|left, right| left.0.cmp(&right.0));
        let expected: Vec<_> =
            self.watches.iter().map(|(name, watch)| (name.clone(), watch.record.clone())).collect();
        assert_eq!(watches, expected);
        for (name, watch) in &self.watches {
            let StoredWatch { record, mut saved, chunks } = store.load(name).unwrap().unwrap();
            assert_eq!(record, watch.record);
            saved.known.sort_by(|left, right| left.0.cmp(&right.0));
            assert_eq!(saved.known, watch.known.clone().into_iter().collect::<Vec<_>>());
            saved.views.sort_by(|left, right| (left.0, &left.1).cmp(&(right.0, &right.1)));
            let views = watch.views.clone().into_iter().map(|((slot, key), told)| (slot, key, told));
            assert_eq!(saved.views, views.collect::<Vec<_>>());
            let mut stored = BTreeMap::new();
            assert!(chunks.is_sorted_by_key(|chunk| chunk.first));
            for chunk in chunks {
                let entries = store.read(name, chunk.chunk).unwrap();
                let of_slot = |slot| {
                    let of_slot = entries.iter().filter(|entry| entry.to[0].slot == slot);
                    of_slot.filter(|entry| record.is_open()(slot, entry.number)).count() as u64
                };
                let open = (0..3).map(|slot| (Slot(slot), of_slot(Slot(slot))));
                let expected = ChunkRecord {
                    chunk: chunk.chunk,
                    first: entries[0].number,
                    last: entries[entries.len() - 1].number,
                    entries: entries.len() as u64,
                    bytes: chunk.bytes,
                    open: open.filter(|(_, open)| *open > 0).collect(),
                };
                assert_eq!(chunk, expected);
                stored.insert(chunk.chunk, entries);
            }
            assert_eq!(stored, watch.chunks);
        }
    }
}
