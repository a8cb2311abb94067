//! Random commits, with reopening and crashes in between, against maps in memory.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tidings_core::known::{Entry, Slot};
use tidings_core::object::ObjectKey;
use tidings_core::watch::saved::{Difference, Told};

use super::*;

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
    let commit = (0..2_usize, known, emptied, views, 0..4_u64, 0..3_usize).prop_map(
        |(watch, known, emptied, views, entries, dead)| Action::Commit {
            watch,
            known,
            emptied,
            views,
            entries,
            dead,
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
                    store.commit(&commit).unwrap();
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
        let commit = model.commit(Action::Commit { watch: 0, known, emptied, views, entries: 0, dead: 0 });
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
    };
    for _ in 0..200 {
        store.commit(&model.commit(commit(20, 0))).unwrap();
    }
    let full = store.size().unwrap();
    for _ in 0..300 {
        store.commit(&model.commit(commit(0, 1))).unwrap();
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
        let Action::Commit { watch, known, emptied, views, entries, dead } = action else {
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
        let start = self.counter + 1;
        self.counter += entries + 1;
        let entries: Vec<_> = (start..start + entries).map(|number| sample::change(number, 50)).collect();
        if !entries.is_empty() {
            let entries = entries.iter().map(|entry| JournalRecord::clone(entry)).collect();
            state.chunks.insert(self.counter, entries);
        }
        state.record.next = self.counter;
        let record = state.record.clone();
        Commit { watch: name, record, difference, entries, chunk: self.counter, dead }
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
            for ChunkRecord { chunk, bytes, index } in chunks {
                let entries = store.read(name, chunk).unwrap();
                let slots = |entry: &JournalRecord| entry.to.iter().map(|to| to.slot).collect::<Vec<_>>();
                let expected: Vec<_> = entries.iter().map(|entry| (entry.number, slots(entry))).collect();
                assert_eq!(index, expected);
                assert!(bytes > 0);
                stored.insert(chunk, entries);
            }
            assert_eq!(stored, watch.chunks);
        }
    }
}
