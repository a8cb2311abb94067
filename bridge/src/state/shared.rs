//! The store as the parts of the bridge share it.
//!
//! Before: bridge/src/state.rs

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use nix::time::{ClockId, clock_gettime};
use tidings_core::watch::saved::Doubt;
use tokio::sync::Semaphore;

use super::record::{JournalRecord, WatchName};
use super::told::ToldLog;
use super::{Error, Store};
use crate::metrics::CpuSeconds;

/// The store of the process. Cheap to clone; one call at a time is carried out.
#[derive(Clone)]
pub struct State {
    store: Arc<Mutex<Box<dyn Store>>>,
    /// Whose turn it is: who waits holds no thread, because each thread that has worked keeps memory.
    turn: Arc<Semaphore>,
    folder: PathBuf,
    /// Between two flushes of a Watch.
    pub flush_interval: Duration,
    /// Bytes that one Subscription may have waiting in the store.
    pub quota: u64,
    threads: bool,
    /// The CPU time that its answers took.
    cpu: CpuSeconds,
    disk: Option<Arc<dyn Disk>>,
}

/// What stands between the bridge and its files: nothing, but in a simulation, whose disk is slow, fails, and is out of
/// reach of a process that is dead.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Awaited before each question to the store, and before its answer is known.
    fn pass(&self, answered: bool) -> BoxFuture<'static, ()>;

    /// Asked before anything is written to a told log; nothing is, with an error.
    fn note(&self) -> io::Result<()>;
}

/// Where the chunks of one Watch are read. Cheap to clone; all clones share what they hold.
#[derive(Clone, Debug)]
pub struct Chunks {
    state: State,
    watch: WatchName,
    /// What somebody holds is not read again: many who are equally far behind need the memory of one.
    held: Arc<Mutex<BTreeMap<u64, Weak<Entries>>>>,
}

/// What is in a chunk, in order.
pub type Entries = [Arc<JournalRecord>];

// === impl State ===

impl State {
    /// Shares `store`, which lies in `folder`. With `threads`, calls wait for the disk on threads that may.
    pub fn new(
        store: Box<dyn Store>,
        folder: &Path,
        flush_interval: Duration,
        quota: u64,
        threads: bool,
    ) -> Self {
        let (store, turn) = (Arc::new(Mutex::new(store)), Arc::new(Semaphore::new(1)));
        let folder = folder.to_owned();
        Self { store, turn, folder, flush_interval, quota, threads, cpu: CpuSeconds::default(), disk: None }
    }

    /// The same, which counts the CPU time that its answers take on their threads.
    #[must_use]
    pub fn counted(self, cpu: CpuSeconds) -> Self {
        Self { cpu, ..self }
    }

    /// The same behind `disk`. It is for a state without threads.
    #[must_use]
    pub fn behind(self, disk: Arc<dyn Disk>) -> Self {
        Self { disk: Some(disk), ..self }
    }

    /// Asks the store for something.
    #[allow(clippy::missing_panics_doc, reason = "a panic of the store is passed on")]
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn Store) -> T + Send + 'static,
    ) -> T {
        let store = self.store.clone();
        let ask = move || question(&mut **store.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(disk) = &self.disk {
            let _turn = self.turn.acquire().await;
            disk.pass(false).await;
            let answer = ask();
            disk.pass(true).await;
            return answer;
        }
        if !self.threads {
            return ask();
        }
        let turn = self.turn.clone().acquire_owned().await;
        let cpu = self.cpu.clone();
        let ask = move || {
            let before = thread_time();
            let answer = ask();
            cpu.inc_by(thread_time().saturating_sub(before).as_secs_f64());
            drop(turn);
            answer
        };
        match tokio::task::spawn_blocking(ask).await {
            Ok(answer) => answer,
            Err(failure) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down, and nobody waits for the answer.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// The told log of a Watch, and what it holds of Changes from the number `stored` on.
    pub fn told_log(&self, watch: &WatchName, stored: u64) -> io::Result<(ToldLog, Vec<Doubt>)> {
        let (log, doubts) = ToldLog::open(&self.folder, watch, stored)?;
        Ok((log.behind(self.disk.clone()), doubts))
    }

    /// The chunks of a Watch.
    pub fn chunks(&self, watch: &WatchName) -> Chunks {
        Chunks { state: self.clone(), watch: watch.clone(), held: Arc::default() }
    }
}

/// The CPU time that this thread has had.
fn thread_time() -> Duration {
    // Every Linux has this clock; without it nothing would be counted.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("folder", &self.folder).finish_non_exhaustive()
    }
}

// === impl Chunks ===

impl Chunks {
    /// What is in one of them, in order.
    pub async fn read(&self, chunk: u64) -> Result<Arc<Entries>, Error> {
        if let Some(held) = self.held(chunk) {
            return Ok(held);
        }
        let chunks = self.clone();
        let read = move |store: &mut dyn Store| {
            // Somebody else may have had the turn before.
            if let Some(held) = chunks.held(chunk) {
                return Ok(held);
            }
            let records: Arc<Entries> = store.read(&chunks.watch, chunk)?.into_iter().map(Arc::new).collect();
            let mut held = chunks.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.retain(|_, records| records.strong_count() > 0);
            held.insert(chunk, Arc::downgrade(&records));
            Ok(records)
        };
        self.state.ask(read).await
    }

    fn held(&self, chunk: u64) -> Option<Arc<Entries>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).get(&chunk)?.upgrade()
    }
}
