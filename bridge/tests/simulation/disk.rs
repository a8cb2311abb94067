//! What survives a process: its store and its told logs, on a disk that is full, slow, or refuses to be written to for a
//! while. A process that is dead does not reach it.

#[path = "disk/way.rs"]
mod way;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;
use tidings_bridge::state::record::{JournalRecord, StoredWatch, SubscriptionRecord, WatchRecord};
use tidings_bridge::state::sqlite::SqliteStore;
use tidings_bridge::state::{State, Store};
use tidings_core::object::ResourceVersion;
use tidings_core::watch::saved::SavedPhase;
use tokio::time::Instant;

use crate::etcd::KINDS;
use crate::fence::Fence;
use crate::trace::{Fault, Trace};
use way::Way;

/// As the shipped program has it unless it is told otherwise.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<Inner>>);

struct Inner {
    rng: Rng,
    trace: Trace,
    folder: TempDir,
    /// The files as they were when the disk last had everything that was written.
    flushed: Option<TempDir>,
    /// What the present process has open.
    store: Option<SqliteStore>,
    quota: u64,
    /// Nothing can be added until then.
    full: Instant,
    /// Every answer takes long until then.
    slow: Instant,
    /// Told logs cannot be written to until then.
    stiff: Instant,
}

// === impl Disk ===

impl Disk {
    pub(crate) fn new(rng: Rng, trace: Trace, quota: u64) -> Self {
        let shared = PathBuf::from("/dev/shm");
        let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
        let (folder, now) = (folder.unwrap(), Instant::now());
        let (full, slow, stiff) = (now, now, now);
        Self(Arc::new(Mutex::new(Inner {
            rng,
            trace,
            folder,
            flushed: None,
            store: None,
            quota,
            full,
            slow,
            stiff,
        })))
    }

    /// So many bytes may wait in the store, for each Subscription, from the next process on.
    pub(crate) fn set_quota(&self, bytes: u64) {
        self.lock().quota = bytes;
    }

    /// Opens the state, as a process does that begins.
    pub(crate) fn open(&self, fence: &Fence) -> State {
        let inner = &mut *self.lock();
        // The lock of the process before goes with it.
        inner.store = None;
        inner.store = Some(SqliteStore::open(inner.folder.path()).unwrap());
        let way = Way { disk: self.clone(), fence: fence.clone() };
        let state =
            State::new(Box::new(way.clone()), inner.folder.path(), FLUSH_INTERVAL, inner.quota, false);
        state.behind(Arc::new(way))
    }

    /// The position that is stored of a kind.
    pub(crate) fn position(&self, kind: usize) -> Option<u64> {
        self.record(kind)?.head.position.map(|position| position.0)
    }

    /// Whether it is stored that this Subscription was told everything that existed.
    pub(crate) fn has_joined(&self, kind: usize, uid: &str) -> bool {
        let Some(record) = self.record(kind) else { return false };
        let slot = record.subscriptions.iter().find(|stored| &*stored.uid == uid).map(|stored| stored.slot);
        let mut followers = record.head.followers.iter();
        let follower = followers.find(|follower| Some(follower.slot) == slot);
        follower
            .is_some_and(|follower| !follower.fresh && !matches!(follower.phase, SavedPhase::Listing { .. }))
    }

    /// Up to where it is stored that everything is settled, for each Subscription on a kind, by its uid.
    pub(crate) fn settled(&self, kind: usize) -> Vec<(Arc<str>, Option<ResourceVersion>)> {
        let inner = &mut *self.lock();
        let Some(store) = &mut inner.store else { return Vec::new() };
        let names = store.watches().unwrap().into_iter().map(|(name, _)| name);
        let Some(name) = names.into_iter().find(|name| name.kind.group == KINDS[kind].group) else {
            return Vec::new();
        };
        let StoredWatch { record, chunks, saved: _ } = store.load(&name).unwrap().unwrap();
        let mut settled = Vec::new();
        for SubscriptionRecord { slot, uid, cursor, .. } in record.subscriptions {
            // The first of all that is open has it.
            let position = match chunks.iter().find(|chunk| chunk.open(slot) > 0) {
                None => record.head.position,
                Some(chunk) => {
                    let mut entries = store.read(&name, chunk.chunk).unwrap().into_iter();
                    let open = |entry: &JournalRecord| entry.is_for(slot) && cursor.is_open(entry.number);
                    entries.find(open).unwrap().before
                }
            };
            settled.push((uid, position));
        }
        settled
    }

    fn record(&self, kind: usize) -> Option<WatchRecord> {
        let watches = self.lock().store.as_mut()?.watches().unwrap();
        let record = watches.into_iter().find(|(name, _)| name.kind.group == KINDS[kind].group);
        record.map(|(_, record)| record)
    }

    /// Nothing can be added for a while.
    pub(crate) fn fill(&self, pause: Duration) {
        let inner = &mut *self.lock();
        inner.trace.fault(Fault::DiskFull, || format!("for {pause:?}"));
        inner.full = Instant::now() + pause;
    }

    /// Every answer takes long for a while.
    pub(crate) fn slow_down(&self, pause: Duration) {
        let inner = &mut *self.lock();
        inner.trace.fault(Fault::DiskSlow, || format!("for {pause:?}"));
        inner.slow = Instant::now() + pause;
    }

    /// Told logs cannot be written to for a while.
    pub(crate) fn stiffen(&self, pause: Duration) {
        let inner = &mut *self.lock();
        inner.trace.fault(Fault::ToldLogFails, || format!("for {pause:?}"));
        inner.stiff = Instant::now() + pause;
    }

    /// Something is wrong with it, or was a moment ago.
    pub(crate) fn is_in_trouble(&self) -> bool {
        let inner = self.lock();
        let recently = Instant::now() - Duration::from_secs(8);
        [inner.full, inner.slow, inner.stiff].iter().any(|until| *until > recently)
    }

    /// From now on nothing that is written reaches the disk.
    pub(crate) fn hold_back(&self) {
        let inner = &mut *self.lock();
        let copy = tempfile::tempdir_in(inner.folder.path().parent().unwrap()).unwrap();
        copy_files(inner.folder.path(), copy.path(), |_| true);
        inner.flushed = Some(copy);
    }

    /// The machine loses power: what was written since is gone. The told logs may have reached the disk all the same, with
    /// what was cleared of them because it was stored; says whether they did.
    pub(crate) fn lose(&self) -> bool {
        let inner = &mut *self.lock();
        inner.store = None;
        let Some(flushed) = inner.flushed.take() else { return false };
        let with_told = inner.rng.bool();
        if with_told {
            let is_told = |file: &Path| file.extension().is_some_and(|end| end == "a" || end == "b");
            copy_files(inner.folder.path(), flushed.path(), is_told);
        }
        inner.folder = flushed;
        with_told
    }

    /// Everything works from now on.
    pub(crate) fn calm(&self) {
        let inner = &mut *self.lock();
        let now = Instant::now();
        (inner.full, inner.slow, inner.stiff) = (now, now, now);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

/// Copies the files that are `wanted`, folder by folder.
fn copy_files(from: &Path, to: &Path, wanted: fn(&Path) -> bool) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap().path();
        let copy = to.join(file.file_name().unwrap());
        if file.is_dir() {
            fs::create_dir_all(&copy).unwrap();
            copy_files(&file, &copy, wanted);
        } else if wanted(&file) {
            fs::copy(&file, &copy).unwrap();
        }
    }
}
