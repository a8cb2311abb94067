//! Keeps the state of one Watch: the told log before anybody is told, and a commit at a time.
//!
//! A commit is made of one moment between two inputs, so that what is on disk is exactly a state the Watch was in. It is
//! written when everything that was decided up to that moment is settled, so that sinks that are well cost the disk
//! nothing; or a little later, with what is not. One that fails is written again, with what is still open by then.
//!
//! Before: bridge/src/watch/driver.rs
//! Next: bridge/src/state.rs

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture};
use tidings_core::compaction::{Compacted, Compaction};
use tidings_core::watch::Watch;
use tidings_core::watch::saved::{Doubt, Told};
use tokio::time::Instant;

use super::followers::Followers;
use crate::journal::{Backlog, Journal};
use crate::state::record::{
    Commit, Flush, Flushed, JournalRecord, SubscriptionRecord, WatchName, WatchRecord,
};
use crate::state::told::ToldLog;
use crate::state::{Error, State, Store};

/// With so many bytes a flush does not wait for its time.
const FLUSH_BYTES: usize = 1 << 20;
/// So long a commit waits for Changes of its moment to be settled before it writes them. Not where there is a backlog, to
/// which they only add.
const PATIENCE: Duration = Duration::from_secs(1);
/// With so many objects changed neither a flush nor a commit waits: it is memory that nothing else bounds.
const CHANGED: usize = 16 * 1024;
/// Between looks whether they are.
const LOOK: Duration = Duration::from_millis(20);
/// Before a commit that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What keeps the state of one Watch.
pub(super) struct Keeper {
    state: State,
    name: WatchName,
    told: ToldLog,
    /// The commit that waits, is under way or failed.
    commit: Option<Arc<Commit>>,
    /// How long it waits.
    patience: Instant,
    /// It failed before.
    failed: bool,
    running: Option<BoxFuture<'static, Result<Flushed, Error>>>,
    /// The backlog of somebody who is over the quota is being looked through.
    compacting: Option<BoxFuture<'static, (Backlog, Result<Compacted, Error>)>>,
    /// When the next flush is due, or the commit is looked at.
    due: Instant,
    /// Something changed that no commit has.
    dirty: bool,
    must: Must,
}

/// Whether everything waits for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    No,
    /// For the next one that begins.
    Begin,
    /// For the one under way.
    Finish,
}

/// What happened.
pub(super) enum Kept {
    /// It is time to look whether something is to be stored, or a commit to be written.
    Due,
    /// The commit is done, and this was made of its flush.
    Stored(Flushed),
    /// The commit failed, and is tried again.
    Failed(Error),
    /// A backlog was looked through: what is kept of it.
    Compacted(Backlog, Result<Compacted, Error>),
}

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(state: State, name: WatchName, told: ToldLog) -> Self {
        let due = Instant::now() + state.flush_interval;
        Self {
            state,
            name,
            told,
            commit: None,
            patience: due,
            failed: false,
            running: None,
            compacting: None,
            due,
            dirty: true,
            must: Must::No,
        }
    }

    /// What happens next. Nothing is lost when this is given up.
    pub(super) async fn event(keeper: &mut Option<Self>) -> Kept {
        let Some(keeper) = keeper else { return std::future::pending().await };
        tokio::select! {
            biased;
            Some(outcome) = OptionFuture::from(keeper.running.as_mut()) => {
                keeper.running = None;
                match outcome {
                    Ok(flushed) => Kept::Stored(flushed),
                    Err(error) => {
                        keeper.due = Instant::now() + RETRY;
                        Kept::Failed(error)
                    }
                }
            }
            Some((backlog, compacted)) = OptionFuture::from(keeper.compacting.as_mut()) => {
                keeper.compacting = None;
                Kept::Compacted(backlog, compacted)
            }
            () = tokio::time::sleep_until(keeper.due), if keeper.running.is_none() => Kept::Due,
        }
    }

    /// Whether more may be decided: nothing waits for a commit.
    pub(super) fn is_ready(&self) -> bool {
        self.must == Must::No
    }

    /// Whether a commit is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// Something changed.
    pub(super) fn note(&mut self) {
        self.dirty = true;
    }

    /// Nothing more is decided before what changed until now is stored.
    pub(super) fn must_store(&mut self) {
        self.must = Must::Begin;
        self.dirty = true;
        self.hurry();
    }

    /// A commit that waits is to wait no longer.
    fn hurry(&mut self) {
        if self.commit.is_some() && self.running.is_none() && !self.failed {
            self.patience = Instant::now();
            self.due = self.due.min(self.patience);
        }
    }

    /// Notes in the told log what may be the first, or the last, that a Subscription hears of an object.
    pub(super) fn tell(
        &mut self,
        records: &[JournalRecord],
        followers: &Followers,
        journal: &Journal,
    ) -> Result<(), String> {
        let mut doubts = Vec::new();
        for record in records {
            let to = record.to.iter().map(|to| to.slot);
            let to: Vec<_> =
                to.filter(|slot| followers.enters_or_leaves(*slot, record.change.kind)).collect();
            if to.is_empty() {
                continue;
            }
            let Some(told) = Told::by(&record.change) else { continue };
            let key = record.change.key();
            doubts.extend(to.into_iter().map(|slot| Doubt { slot, key: key.clone(), told: told.clone() }));
        }
        self.told.append(journal.next(), &doubts).map_err(|error| {
            // Until then nothing is stored either, and a time that has passed would come again at once.
            let now = Instant::now();
            self.due = if self.due <= now { now + RETRY } else { self.due };
            format!("the told log: {error}")
        })
    }

    /// Whether a flush is to begin, when so many objects have changed since the last one did.
    pub(super) fn is_due(&mut self, journal: &Journal, changed: usize, now: bool) -> bool {
        if self.commit.is_some() {
            if changed >= CHANGED {
                self.hurry();
            }
            return false;
        }
        let full =
            changed >= CHANGED || journal.unflushed() >= FLUSH_BYTES.min(journal.memory().capacity() / 4);
        let time = Instant::now() >= self.due;
        let due = full || (time || now || self.must == Must::Begin) && (self.dirty || journal.is_dirty());
        if time && !due {
            self.due = Instant::now() + self.state.flush_interval;
        }
        due
    }

    /// Takes what changed until this moment, and begins to store it.
    pub(super) fn begin(&mut self, machine: &mut Watch, journal: &Journal, followers: &Followers) {
        if let Err(error) = self.told.begin_flush() {
            // What was told stays in the log, which is only longer by that.
            tracing::warn!(%error, "unable to turn over the told log");
        }
        let (head, difference) = machine.take_difference();
        journal.begin_flush();
        let (resource, subscriptions) = (followers.resource.clone(), followers.records(journal));
        self.commit = Some(Arc::new(Commit {
            watch: self.name.clone(),
            record: WatchRecord { resource, head, next: journal.next(), subscriptions },
            difference,
            journal: Flush::default(),
        }));
        (self.dirty, self.failed) = (false, false);
        self.patience = Instant::now();
        if self.must == Must::Begin {
            self.must = Must::Finish;
        } else if !journal.has_stored() {
            self.patience += PATIENCE;
        }
        self.go_on(journal, followers);
    }

    /// Writes the commit that waits, or that failed, if it is time.
    pub(super) fn go_on(&mut self, journal: &Journal, followers: &Followers) {
        let (now, Some(commit)) = (Instant::now(), &mut self.commit) else { return };
        if self.running.is_some() {
            return;
        }
        if now < self.patience && !journal.is_flush_settled() {
            self.due = now + LOOK;
            return;
        }
        let Commit { journal: flush, record: WatchRecord { next, subscriptions, .. }, .. } =
            Arc::make_mut(commit);
        // What is merged takes room before it gives some back.
        journal.write_flush(flush, !self.failed);
        // What is settled of it now is not written.
        let present: BTreeMap<_, _> =
            followers.records(journal).into_iter().map(|record| (record.uid, record.cursor)).collect();
        for SubscriptionRecord { uid, cursor, .. } in subscriptions {
            if let Some(present) = present.get(uid) {
                *cursor = present.clone().before(*next);
            }
        }
        let (state, commit) = (self.state.clone(), commit.clone());
        self.running = Some(Box::pin(async move { state.ask(move |store| store.commit(&commit)).await }));
        self.due = now + self.state.flush_interval;
    }

    /// The commit failed. What is written next holds only what is not settled by then: so a disk that a backlog has filled
    /// gets room as that is drained.
    pub(super) fn failed(&mut self, journal: &Journal) {
        let Some(commit) = self.commit.as_mut().map(Arc::make_mut) else { return };
        journal.give_up_flush(&mut commit.journal);
        (self.failed, self.patience) = (true, Instant::now());
    }

    /// The commit is done.
    pub(super) fn stored(&mut self, journal: &Journal, flushed: Flushed) {
        if self.commit.take().is_none() {
            return;
        }
        journal.end_flush(flushed);
        if let Err(error) = self.told.end_flush() {
            tracing::warn!(%error, "unable to clear the told log");
        }
        if self.must == Must::Finish {
            self.must = Must::No;
        }
        if self.compacting.is_none()
            && let Some(backlog) = journal.begin_compaction(self.state.quota)
        {
            let (state, name, journal) = (self.state.clone(), self.name.clone(), journal.clone());
            self.compacting = Some(Box::pin(async move {
                let compacted = look_through(&state, &name, &journal, &backlog).await;
                (backlog, compacted)
            }));
        }
    }

    /// Leaves out what is not kept of a backlog. Says how many Changes that were.
    pub(super) fn compact(
        &mut self,
        journal: &Journal,
        backlog: &Backlog,
        compacted: Result<Compacted, Error>,
    ) -> Result<u64, Error> {
        match compacted {
            Ok(compacted) => Ok(journal.end_compaction(backlog, self.state.quota, &compacted)),
            Err(error) => {
                journal.release(backlog.slot);
                Err(error)
            }
        }
    }

    /// Removes everything there is of the Watch.
    pub(super) async fn forget(self) -> Result<(), Error> {
        let Self { state, name, told, running, .. } = self;
        if let Some(running) = running {
            // Whether it worked or not, it is over.
            let _ = running.await;
        }
        if let Err(error) = told.remove() {
            tracing::warn!(%error, "unable to remove the told log");
        }
        state.ask(move |store| store.forget(&name)).await
    }
}

/// Decides what is kept of a backlog, a chunk at a time, so that commits are not held up.
async fn look_through(
    state: &State,
    name: &WatchName,
    journal: &Journal,
    backlog: &Backlog,
) -> Result<Compacted, Error> {
    let (mut compaction, slot) = (Compaction::default(), backlog.slot);
    for chunk in backlog.chunks.iter().copied() {
        let (name, journal) = (name.clone(), journal.clone());
        let looked = move |store: &mut dyn Store| {
            let mut records = match store.read(&name, chunk) {
                // What was settled meanwhile is removed.
                Err(_) if !journal.holds(chunk) => Vec::new(),
                records => records?,
            };
            journal.idle(slot, &mut records);
            for record in records {
                let doubtful = journal.is_doubtful(slot, record.number);
                compaction.add(record.number, &record.change, doubtful);
            }
            Ok(compaction)
        };
        compaction = state.ask(looked).await?;
    }
    Ok(compaction.finish())
}

#[cfg(test)]
mod tests;
