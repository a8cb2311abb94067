//! The way of one process to the disk: every question to the store passes the fence, before it is asked and before its
//! answer is known.

use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use tidings_bridge::state::record::{Commit, Flushed, JournalRecord, StoredWatch, WatchName, WatchRecord};
use tidings_bridge::state::sqlite::SqliteStore;
use tidings_bridge::state::{self, Error, Store};
use tokio::time::Instant;

use super::{Disk, Inner};
use crate::fence::{Edge, Fence};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) disk: Disk,
    pub(super) fence: Fence,
}

// === impl Way ===

impl Way {
    /// What a dead process asks is never answered, so what it hears does not matter.
    fn ask<T>(
        &self,
        question: impl FnOnce(&mut Inner, &mut SqliteStore) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let inner = &mut *self.disk.lock();
        let folder = inner.folder.path().to_owned();
        match inner.store.take() {
            Some(mut store) if !self.fence.is_closed() => {
                let answer = question(inner, &mut store);
                inner.store = Some(store);
                answer
            }
            store => {
                inner.store = store;
                Err(Error::Locked { folder })
            }
        }
    }
}

impl Store for Way {
    fn cluster(&mut self) -> Result<Option<String>, Error> {
        self.ask(|_, store| store.cluster())
    }

    fn set_cluster(&mut self, uid: &str) -> Result<(), Error> {
        self.ask(|_, store| store.set_cluster(uid))
    }

    fn watches(&mut self) -> Result<Vec<(WatchName, WatchRecord)>, Error> {
        self.ask(|_, store| store.watches())
    }

    fn load(&mut self, watch: &WatchName) -> Result<Option<StoredWatch>, Error> {
        self.ask(|_, store| store.load(watch))
    }

    fn commit(&mut self, commit: &Commit) -> Result<Flushed, Error> {
        self.ask(|inner, store| {
            if inner.full > Instant::now() {
                inner.trace.say(|| format!("no room for a commit of {}", commit.watch.kind));
                return Err(Error::Full { folder: inner.folder.path().to_owned() });
            }
            inner.trace.say(|| {
                let Commit { watch, record, journal, .. } = commit;
                let (position, reconciling) = (record.head.position, record.head.reconciling);
                format!(
                    "commit {} at {position:?} reconciling {reconciling}, {} entries, {} chunks dead",
                    watch.kind,
                    journal.entries.len(),
                    journal.dead.len()
                )
            });
            let flushed = store.commit(commit)?;
            inner.trace.keep_epoch(&commit.watch.kind.group, commit.record.head.epoch.0);
            Ok(flushed)
        })
    }

    fn read(&mut self, watch: &WatchName, chunk: u64) -> Result<Vec<JournalRecord>, Error> {
        self.ask(|_, store| store.read(watch, chunk))
    }

    fn forget(&mut self, watch: &WatchName) -> Result<(), Error> {
        self.ask(|inner, store| {
            inner.trace.say(|| format!("forget {}", watch.kind));
            store.forget(watch)
        })
    }

    fn size(&mut self) -> Result<u64, Error> {
        self.ask(|_, store| store.size())
    }
}

impl state::Disk for Way {
    fn pass(&self, answered: bool) -> BoxFuture<'static, ()> {
        let way = self.clone();
        Box::pin(async move {
            way.fence.passage(if answered { Edge::Answered } else { Edge::Asked }).await;
            let pause = {
                let inner = &mut *way.disk.lock();
                let most = if inner.slow > Instant::now() { 800 } else { 3 };
                Duration::from_millis(inner.rng.u64(0..most))
            };
            tokio::time::sleep(pause).await;
            if way.fence.is_closed() {
                std::future::pending::<()>().await;
            }
        })
    }

    fn note(&self) -> io::Result<()> {
        if self.fence.is_closed() || self.disk.lock().stiff > Instant::now() {
            return Err(io::Error::other("failed by the simulation"));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Way")
    }
}
