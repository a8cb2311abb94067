//! A backlog over its quota, in the real store.

use tidings_core::route::Kind;
use tidings_core::watch::saved::Difference;

use super::*;
use crate::state::Store;
use crate::state::record::{Commit, SubscriptionRecord, WatchName, WatchRecord};
use crate::state::sqlite::SqliteStore;

const QUOTA: u64 = 2 << 20;
/// Changes of a kilobyte that cannot be compressed: several times the quota.
const CHANGES: u64 = 10_000;
const NAMES: u64 = 5;

/// A Journal with its store.
struct Kept {
    journal: Journal,
    store: SqliteStore,
    random: fastrand::Rng,
}

fn name() -> WatchName {
    WatchName { kind: Kind::new("example.com/v1", "Order"), namespace: None }
}

// === impl Kept ===

impl Kept {
    fn append(&mut self, version: u64) {
        let mut record = record(version, &[A, B]);
        let key = ObjectKey::new(Some("shop"), &format!("order-{}", version % NAMES));
        let uid = Uid::new(&format!("uid-{}", version % NAMES));
        let body: Vec<u8> = std::iter::repeat_with(|| self.random.u8(..)).take(1000).collect();
        let object = Object { meta: Meta::new(key, uid, ResourceVersion(version)), body: body.into() };
        record.change = Change::watched(ChangeKind::Updated, object).into();
        self.journal.append(vec![record], Some(ResourceVersion(version)));
    }

    /// A flush, and what follows from it.
    fn flush(&mut self) {
        let flush = super::write(&self.journal);
        let subscription = |slot| SubscriptionRecord {
            slot,
            uid: "uid".into(),
            subscription: "shop/orders".into(),
            place: "nats".to_owned(),
            generation: 1,
            cursor: self.journal.cursor(slot),
        };
        let subscriptions = vec![subscription(A), subscription(B)];
        let record = WatchRecord { next: self.journal.next(), subscriptions, ..WatchRecord::default() };
        let commit = Commit { watch: name(), record, difference: Difference::default(), journal: flush };
        self.journal.end_flush(self.store.commit(&commit).unwrap());
        if let Some(backlog) = self.journal.begin_compaction(QUOTA) {
            let stored: Vec<_> = backlog.chunks.iter().map(|chunk| (*chunk, self.read(*chunk))).collect();
            let compacted = look(&self.journal, &backlog, &stored);
            self.journal.end_compaction(&backlog, QUOTA, &compacted);
        }
    }

    fn read(&mut self, chunk: u64) -> Vec<Arc<JournalRecord>> {
        self.store.read(&name(), chunk).unwrap().into_iter().map(Arc::new).collect()
    }

    /// Everything that `slot` still gets.
    fn rest(&mut self, slot: Slot) -> Vec<Arc<JournalRecord>> {
        let mut all = Vec::new();
        loop {
            match self.journal.take(slot, ALL) {
                Taken::Changes(records) => all.extend(records),
                Taken::Stored(chunk) => {
                    let records = self.read(chunk);
                    all.extend(self.journal.take_stored(slot, &records));
                }
                Taken::Nothing => return all,
            }
        }
    }
}

#[test]
fn many_versions_of_few_names_end_below_the_quota_and_others_keep_everything() {
    end_below_the_quota(false);
}

#[test]
fn what_was_given_back_ends_below_the_quota_as_well() {
    end_below_the_quota(true);
}

fn end_below_the_quota(gives_back: bool) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let mut kept = Kept { journal: journal(), store, random: fastrand::Rng::with_seed(7) };
    for version in 1..=CHANGES {
        kept.append(version);
        if version % 500 == 0 {
            // B is well, but for what it has of the first hundred.
            let taken = take(&kept.journal, B, usize::MAX);
            if gives_back {
                let taken = take(&kept.journal, A, usize::MAX);
                kept.journal.give_back(A, &taken);
            }
            let settled: Vec<_> = taken.into_iter().filter(|number| *number > 100).collect();
            kept.flush();
            kept.journal.settle(B, &settled);
        }
    }
    (0..4).for_each(|_| kept.flush());
    let bytes = |kept: &mut Kept| -> u64 {
        kept.store.load(&name()).unwrap().unwrap().chunks.iter().map(|chunk| chunk.bytes).sum()
    };
    let stored = bytes(&mut kept);
    assert!(stored < QUOTA + QUOTA / 4, "{stored} bytes are stored");
    // What was free in between was used again.
    let file = std::fs::metadata(folder.path().join("state.db")).unwrap().len();
    assert!(file < QUOTA * 3, "{file} bytes are in the file");
    assert_eq!(kept.journal.standing(B).open, 100);

    // What a restart finds is what was there.
    let stored = kept.store.load(&name()).unwrap().unwrap();
    let WatchRecord { next, subscriptions, .. } = stored.record;
    let cursors = subscriptions.into_iter().map(|record| (record.slot, record.cursor)).collect();
    kept.journal = Journal::restore(Memory::new(1 << 20), next, cursors, stored.chunks);
    assert_eq!(kept.journal.standing(B).open, 100);
    assert_eq!(numbers(&kept.rest(B)), (1..=100).collect::<Vec<_>>());
    let open = kept.journal.standing(A).open;
    let of_a = kept.rest(A);
    assert_eq!(of_a.len() as u64, open);
    let newest: Vec<_> = of_a.iter().rev().take(5).map(|record| record.change.resource_version().0).collect();
    assert_eq!(newest, [CHANGES, CHANGES - 1, CHANGES - 2, CHANGES - 3, CHANGES - 4]);
    assert!(of_a.iter().any(|record| record.change.gap));
}
