//! A file of schema 1 as it was published: it has to be readable for ever.

use tidings_core::change::ChangeKinds;
use tidings_core::known::Slot;
use tidings_core::object::ResourceVersion;
use tidings_core::route::Resource;
use tidings_core::selection::{Namespaces, Selection};
use tidings_core::watch::saved::{Difference, Doubt, Head, SavedFollower, SavedPhase, Streamed};

use super::*;
use crate::state::record::{Flush, SubscriptionRecord};
use tidings_core::cursor::SavedCursor;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/state/sqlite/tests/schema-1.db");

fn record() -> WatchRecord {
    let follower = |slot, phase| SavedFollower {
        slot: Slot(slot),
        selection: Selection::of(Namespaces::Only(["shop".to_owned()].into())),
        on: ChangeKinds::ALL,
        fresh: slot == 1,
        phase,
    };
    let streamed = || Streamed::new([sample::key(3)], [Selection::all()]);
    let head = Head {
        position: Some(ResourceVersion(4711)),
        reconciling: true,
        newest: ResourceVersion(4712),
        epoch: tidings_core::change::Epoch(1_795_000_000),
        blind: false,
        followers: vec![
            follower(0, SavedPhase::Following),
            follower(1, SavedPhase::Listing { streamed: streamed() }),
            follower(
                2,
                SavedPhase::Seam { floor: ResourceVersion(4700), streamed: streamed(), relist: true },
            ),
        ],
        doubts: vec![Doubt { slot: Slot(1), key: sample::key(9), told: sample::told(9) }],
    };
    let subscription = SubscriptionRecord {
        slot: Slot(0),
        uid: "subscription-uid".into(),
        subscription: "shop/orders".into(),
        place: "nats://broker:4222/orders".to_owned(),
        generation: 3,
        cursor: SavedCursor { next: 7, unsettled: vec![2, 5], marks: Vec::new() },
    };
    let resource = Resource {
        group: "example.com".to_owned(),
        version: "v1".to_owned(),
        kind: "Order".to_owned(),
        plural: "orders".to_owned(),
        namespaced: true,
    };
    WatchRecord { resource: Some(resource), head, next: 8, subscriptions: vec![subscription] }
}

fn commits() -> Vec<Commit> {
    let known = |numbers: std::ops::Range<u8>, version| {
        numbers
            .map(|number| (sample::key(number), Some(sample::entry(version + u64::from(number)))))
            .collect()
    };
    let first = Commit {
        watch: sample::watch("Order"),
        record: record(),
        difference: Difference {
            known: known(0..20, 100),
            emptied: Vec::new(),
            views: vec![(Slot(1), sample::key(1), Some(sample::told(1)))],
        },
        journal: Flush {
            entries: (1..5).map(|number| sample::change(number, 100)).collect(),
            chunk: 1,
            ..Flush::default()
        },
    };
    let mut changed: Vec<_> = known(5..10, 200);
    changed.push((sample::key(0), None));
    let views = vec![(Slot(2), sample::key(2), Some(sample::told(2)))];
    let second = Commit {
        difference: Difference { known: changed, emptied: vec![Slot(1)], views },
        journal: Flush {
            entries: (5..8).map(|number| sample::change(number, 100)).collect(),
            chunk: 2,
            ..Flush::default()
        },
        ..first.clone()
    };
    vec![first, second]
}

/// Everything that the fixed content comes to.
fn check(store: &mut SqliteStore) {
    assert_eq!(store.cluster().unwrap().as_deref(), Some("kube-system-uid"));
    assert_eq!(store.watches().unwrap(), [(sample::watch("Order"), record())]);
    let stored = store.load(&sample::watch("Order")).unwrap().unwrap();
    assert_eq!(stored.record, record());
    let version = |number: u8| u64::from(number) + if (5..10).contains(&number) { 200 } else { 100 };
    let mut known = stored.saved.known;
    known.sort_by(|left, right| left.0.cmp(&right.0));
    let mut expected: Vec<_> =
        (1..20).map(|number| (sample::key(number), sample::entry(version(number)))).collect();
    expected.sort_by(|left, right| left.0.cmp(&right.0));
    assert_eq!(known, expected);
    assert_eq!(stored.saved.views, [(Slot(2), sample::key(2), sample::told(2))]);
    // Of the Subscription in slot 0, 3 and 6 would be settled: its cursor is at 7, with 2 and 5 left.
    let chunks: Vec<_> = stored
        .chunks
        .into_iter()
        .map(|chunk| (chunk.chunk, chunk.first, chunk.last, chunk.entries, chunk.open))
        .collect();
    assert_eq!(chunks, [(1, 1, 4, 4, vec![]), (2, 5, 7, 3, vec![])]);
    for (chunk, numbers) in [(1, 1..5), (2, 5..8)] {
        let expected: Vec<_> = numbers.map(|number| (*sample::change(number, 100)).clone()).collect();
        assert_eq!(store.read(&sample::watch("Order"), chunk).unwrap(), expected);
    }
}

#[test]
fn what_schema_1_wrote_is_read() {
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open_with(folder.path(), tiny()).unwrap();
        store.set_cluster("kube-system-uid").unwrap();
        for commit in commits() {
            store.commit(&commit).unwrap();
        }
        check(&mut store);
        drop(store);
        fs::copy(folder.path().join("state.db"), FILE).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    fs::copy(FILE, folder.path().join("state.db")).unwrap();
    check(&mut SqliteStore::open(folder.path()).unwrap());
}
