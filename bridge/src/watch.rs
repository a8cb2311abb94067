//! One Watch: a stream from the API server, decided by the core, for all Subscriptions on the resource.
//!
//! The driver runs one reader at a time and asks the core's machine how to go on when it ended. Commands are
//! taken whatever the state of the connection is.
//!
//! Before: bridge/src/pipeline.rs
//! Next: bridge/src/watch/reader.rs

mod backfill;
mod connection;
mod cursor;
mod decode;
mod driver;
mod followers;
mod full;
mod keeper;
mod line;
mod lists;
mod reader;
mod request;
mod ring;
mod scan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::change::ChangeKinds;
use tidings_core::delivery::Backoff;
use tidings_core::filter::Filter;
use tidings_core::object::{Object, ResourceVersion};
use tidings_core::route::{Kind, Resource, Route};
use tidings_core::selection::Selection;
use tidings_core::watch::Watch as Machine;
use tidings_core::watch::backfill::Limits;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::clock::Clock;
use crate::deliver::LaneSender;
use crate::journal::{Journal, Memory};
use crate::metrics::Metrics;
use crate::state::State;
use crate::state::record::{StoredWatch, WatchName, WatchRecord};
pub use backfill::BackfillSettings;
pub use followers::Filtered;
use followers::Followers;
use keeper::Keeper;

/// The settings a Watch needs, in the units of their names.
#[derive(Clone, Copy, Debug)]
pub struct WatchSettings {
    /// Room for what was read and not decided, in bytes.
    pub ring_bytes: usize,
    /// The longest line that is read whole, in bytes.
    pub max_object_bytes: usize,
    /// Objects per page of a LIST.
    pub page_size: u32,
    /// How long the server may keep one stream open.
    pub watch_timeout: Duration,
    /// How long nothing may come, not even a bookmark.
    pub silence_limit: Duration,
    /// Between attempts to go on with a stream: the window in which that is possible may be seconds.
    pub reconnect: Backoff,
    /// Between attempts to read the whole state.
    pub relist: Backoff,
    /// How much of what lies in a gap is recovered.
    pub backfill: BackfillSettings,
}

/// What a Watch shares with the rest of the process.
#[derive(Clone)]
pub struct WatchContext {
    /// Access to the API server.
    pub client: kube::Client,
    /// The name of the cluster in every Event's `source`.
    pub cluster: Arc<str>,
    /// The memory for unsettled Changes, of all Watches together.
    pub memory: Memory,
    /// What survives the process; nothing where nothing has to.
    pub state: Option<State>,
    /// What is counted.
    pub metrics: Metrics,
    /// The time everything is measured by.
    pub clock: Clock,
    /// How to read.
    pub settings: WatchSettings,
    /// Only this namespace, where there are no rights for all of them.
    pub namespace: Option<String>,
}

/// What a Watch is asked to do. Subscriptions are told apart by the id of their lane.
pub enum Command {
    /// Tell this lane too, beginning with what exists.
    Join {
        /// Where Changes go.
        lane: LaneSender,
        /// Whose they are.
        route: Arc<Route>,
        /// Where they go in the end: who was stored with another place starts anew.
        place: Arc<str>,
        /// Which.
        selection: Selection,
        /// Of which kinds.
        on: ChangeKinds,
    },
    /// The Subscription of this lane was edited.
    Edit {
        /// The lane.
        lane: LaneSender,
        /// Whose Changes are from now on.
        route: Arc<Route>,
        /// Which.
        selection: Selection,
        /// Of which kinds.
        on: ChangeKinds,
    },
    /// Nothing of this Watch is selected any more: tell this lane so, object by object, and then nothing more.
    Part {
        /// The lane.
        lane: LaneSender,
        /// Whose it is.
        route: Arc<Route>,
    },
    /// Tell this Subscription nothing more, and give up what it has not settled.
    Leave {
        /// Its uid.
        uid: Arc<str>,
    },
    /// Read nothing more.
    Close,
    /// Store everything, say so, and end.
    Finish(oneshot::Sender<()>),
    /// Remove what is stored, say so, and end.
    Forget(oneshot::Sender<()>),
}

/// How a Watch is doing.
#[derive(Clone, Debug, Default)]
pub struct WatchReport {
    /// What the kind turned out to be.
    pub resource: Option<Resource>,
    /// Where it stands.
    pub state: WatchState,
    /// Why it does not go on, in words, while it does not.
    pub trouble: Option<String>,
    /// Everything up to here is decided.
    pub position: Option<ResourceVersion>,
    /// How often history was lost since the start.
    pub gaps: u64,
    /// The last version before the last gap, and when that was noticed, in Unix seconds.
    pub last_gap: Option<(ResourceVersion, u64)>,
    /// Objects that could not be decoded since the start.
    pub skipped: u64,
    /// Subscriptions that are told of Changes.
    pub lanes: usize,
    /// Lanes that are still being told what exists.
    pub joining: Vec<u64>,
    /// Why the state cannot be stored, while it cannot.
    pub store: Option<String>,
    /// What filters did, by lane, where there was something.
    pub filtered: BTreeMap<u64, Filtered>,
}

/// The states a Watch goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchState {
    /// The kind is looked up, for the first time.
    #[default]
    Starting,
    /// The cluster does not serve the kind.
    NotServed,
    /// The bridge may not list or watch it.
    Forbidden,
    /// No stream is open.
    Connecting,
    /// The present state is being read.
    Snapshot,
    /// Changes are followed.
    Live,
}

/// What a Watch begins with.
pub struct Parts {
    name: WatchName,
    machine: Machine,
    journal: Journal,
    followers: Followers,
    keeper: Option<Keeper>,
}

/// A running Watch. Dropping the handle ends it.
pub struct WatchHandle {
    commands: mpsc::Sender<Command>,
    report: watch::Receiver<WatchReport>,
    task: AbortHandle,
}

/// An object as a Watch on `kind` reads it, from its JSON: without what is not forwarded.
///
/// # Errors
///
/// Why a Watch would skip it.
pub fn read_object(text: &[u8], kind: &Kind) -> Result<Object, String> {
    let type_meta = scan::TypeMeta { api_version: kind.api_version(), kind: kind.kind.clone() };
    scan::scan(text, &type_meta).map_err(|error| error.to_string())
}

// === impl Parts ===

impl Parts {
    /// The parts of a Watch that was never stored, or that is as it was `stored`. `id` tells it from others in what
    /// lanes are told.
    pub fn new(
        id: u64,
        name: WatchName,
        context: &WatchContext,
        stored: Option<StoredWatch>,
    ) -> std::io::Result<Self> {
        let memory = context.memory.clone();
        let Some(state) = &context.state else {
            let (machine, journal) = (Machine::default(), Journal::new(memory));
            let followers = Followers::restore(id, context.cluster.clone(), None, None, &[], |_| None);
            return Ok(Self { name, machine, journal, followers, keeper: None }.recovering(context));
        };
        let StoredWatch { record, saved, chunks } = stored.unwrap_or_default();
        let WatchRecord { resource, head, next, subscriptions } = record;
        let (told, doubts) = state.told_log(&name, next)?;
        let on =
            |slot| head.followers.iter().find(|follower| follower.slot == slot).map(|follower| follower.on);
        let of_watch = state.chunks(&name);
        let followers =
            Followers::restore(id, context.cluster.clone(), Some(of_watch), resource, &subscriptions, on);
        let cursors = subscriptions.into_iter().map(|record| (record.slot, record.cursor)).collect();
        let journal = Journal::restore(memory, next.max(1), cursors, chunks);
        let machine = Machine::restore(head, saved, doubts);
        let keeper = Some(Keeper::new(state.clone(), name.clone(), told));
        Ok(Self { name, machine, journal, followers, keeper }.recovering(context))
    }

    fn recovering(mut self, context: &WatchContext) -> Self {
        let BackfillSettings { requests, bytes, .. } = context.settings.backfill;
        self.machine.set_backfill(Limits { requests, bytes });
        self
    }

    /// Tells the Watch from others in what lanes are told.
    pub fn id(&self) -> u64 {
        self.followers.watch()
    }

    /// What happens until a Subscription is added again goes through this filter of it.
    pub fn set_filters(&mut self, filter: impl Fn(&str) -> Option<Arc<Filter>>) {
        self.followers.set_filters(filter);
    }

    /// The uids of the Subscriptions that follow.
    pub fn subscriptions(&self) -> impl Iterator<Item = &Arc<str>> {
        self.followers.uids()
    }
}

// === impl WatchHandle ===

impl WatchHandle {
    /// Starts watching. What was stored of it is gone on with.
    pub fn start(parts: Parts, context: WatchContext) -> Self {
        let (commands, receiver) = mpsc::channel(64);
        let (sender, report) = watch::channel(WatchReport::default());
        let driver = driver::Driver::new(parts, context, receiver, sender);
        let task = tokio::spawn(driver.run()).abort_handle();
        Self { commands, report, task }
    }

    /// Stores everything and ends.
    pub async fn finish(self) {
        self.end(Command::Finish).await;
    }

    /// Removes what is stored and ends.
    pub async fn forget(self) {
        self.end(Command::Forget).await;
    }

    async fn end(self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, is_done) = oneshot::channel();
        self.command(command(done)).await;
        // A driver that is gone has nothing to say.
        let _ = is_done.await;
    }

    /// Hands over a command; it is carried out in order with what the stream brings.
    pub async fn command(&self, command: Command) {
        // The driver ends only when this handle is dropped.
        let _ = self.commands.send(command).await;
    }

    /// How it is doing, now and later.
    pub fn report(&self) -> watch::Receiver<WatchReport> {
        self.report.clone()
    }
}

impl Drop for WatchHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
