//! THE WALK: which Watches and lanes run, and how an event goes through them.
//!
//! ```text
//! kube-apiserver ─► watch/reader ─► ring ─► watch/driver ─► journal ─► deliver/lane ─► sink ─► broker
//!                   bytes, lines            the core         bounded    order, retry,
//!                                           decides          in bytes   window, cursor
//! ```
//!
//! One Watch per kind serves every Subscription on it; one lane per Subscription. A Subscription that is
//! edited keeps its lane, and what is in it, unless it names another sink: that one starts anew.
//!
//! Before: bridge/src/subscriptions.rs
//! Next: bridge/src/watch.rs

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidings_core::filter::Filter;
use tidings_core::route::{Kind, Route};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::deliver::{DeliverySettings, Farewell, Lane, LaneReport, Orders, Targets};
use crate::state;
use crate::state::record::WatchName;
use crate::watch::{Command, Filtered, Parts, WatchContext, WatchHandle, WatchReport};

/// At the end, for what is not stored yet.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// The running Watches and lanes of the process.
pub struct Pipeline {
    context: WatchContext,
    clock: Clock,
    watches: BTreeMap<Kind, RunningWatch>,
    subscriptions: BTreeMap<Arc<str>, Running>,
    next_id: u64,
}

struct RunningWatch {
    id: u64,
    handle: WatchHandle,
    /// Subscriptions it was stored with, and that were not added since.
    stored: BTreeSet<Arc<str>>,
}

/// A Subscription that is being served.
struct Running {
    route: Arc<Route>,
    /// Where its Events go.
    place: Arc<str>,
    lane: Lane,
}

/// Why what was stored cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not give it out.
    #[error("failed to read the state")]
    Store(#[source] state::Error),
    /// The told log cannot be read.
    #[error("failed to read the told log")]
    ToldLog(#[source] std::io::Error),
}

/// How one Subscription is doing.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its lane.
    pub lane: LaneReport,
    /// Its Watches, with where everything is settled and whether it is still being told what exists.
    pub watches: Vec<SourceReport>,
}

/// How one Subscription is doing on one Watch.
#[derive(Clone, Debug)]
pub struct SourceReport {
    /// The kind it selects.
    pub kind: Kind,
    /// The Watch.
    pub watch: WatchReport,
    /// Everything up to here is settled.
    pub settled: Option<tidings_core::object::ResourceVersion>,
    /// It is still being told what exists.
    pub joining: bool,
    /// What its filters did.
    pub filtered: Filtered,
}

// === impl Pipeline ===

impl Pipeline {
    /// Nothing runs yet.
    pub fn new(context: WatchContext) -> Self {
        let (clock, next_id) = (context.clock, 0);
        let (watches, subscriptions) = (BTreeMap::new(), BTreeMap::new());
        Self { context, clock, watches, subscriptions, next_id }
    }

    /// Goes on with the Watches that were stored, for those of their Subscriptions that still exist. Each of these
    /// is served when it is added; what happens until then is kept for it, as far as its filter lets it pass. `filter` gives
    /// those by uid, and nothing where there is no such Subscription any more.
    pub async fn restore(&mut self, filter: impl Fn(&str) -> Option<Arc<Filter>>) -> Result<(), Error> {
        let exists = |uid: &str| filter(uid).is_some();
        let Some(state) = self.context.state.clone() else { return Ok(()) };
        for (name, _) in state.ask(|store| store.watches()).await.map_err(Error::Store)? {
            let load = name.clone();
            let stored = state.ask(move |store| store.load(&load)).await.map_err(Error::Store)?;
            let parts = Parts::new(self.new_id(), name.clone(), &self.context, stored);
            let mut parts = parts.map_err(Error::ToldLog)?;
            parts.set_filters(&filter);
            let uids: BTreeSet<_> = parts.subscriptions().cloned().collect();
            let watch = self.start_watch(name.kind, parts);
            let gone = uids.iter().filter(|uid| !exists(uid));
            for uid in gone.clone() {
                watch.handle.command(Command::Leave { uid: uid.clone() }).await;
            }
            watch.stored = uids.iter().filter(|uid| exists(uid)).cloned().collect();
        }
        Ok(())
    }

    /// Serves a Subscription: from where it was left if it is stored with the same place, else from what exists on.
    pub async fn add(
        &mut self,
        route: Route,
        targets: impl Into<Targets>,
        place: Arc<str>,
        settings: DeliverySettings,
    ) {
        self.remove(&route.uid, Duration::ZERO).await;
        let metrics = self.context.metrics.delivery(&route.subscription);
        let route = Arc::new(route);
        let lane = Lane::start(self.new_id(), targets.into(), settings, metrics, self.clock);
        for kind in route.selections.keys() {
            self.join(kind, &route, &place, &lane).await;
        }
        for (kind, watch) in &mut self.watches {
            if watch.stored.remove(&route.uid) && !route.selections.contains_key(kind) {
                watch.handle.command(Command::Part { lane: lane.sender(), route: route.clone() }).await;
            }
        }
        self.subscriptions.insert(route.uid.clone(), Running { route, place, lane });
    }

    /// Serves an edited Subscription on. What is in its lane is delivered; `targets` take the place of those it had.
    pub async fn edit(&mut self, route: Route, targets: Option<Targets>, settings: DeliverySettings) {
        let Some(running) = self.subscriptions.remove(&route.uid) else { return };
        let Running { route: before, place, lane } = running;
        match targets {
            Some(targets) => lane.retarget(targets, settings),
            None => lane.resettle(settings),
        }
        let route = Arc::new(route);
        for kind in before.selections.keys().filter(|kind| !route.selections.contains_key(kind)) {
            if let Some(watch) = self.watches.get(kind) {
                watch.handle.command(Command::Part { lane: lane.sender(), route: route.clone() }).await;
            }
        }
        for (kind, selection) in &route.selections {
            if !before.selections.contains_key(kind) {
                self.join(kind, &route, &place, &lane).await;
            } else if let Some(watch) = self.watches.get(kind) {
                let (lane, selection, on) = (lane.sender(), selection.clone(), route.on);
                watch.handle.command(Command::Edit { lane, route: route.clone(), selection, on }).await;
            }
        }
        self.subscriptions.insert(route.uid.clone(), Running { route, place, lane });
        self.drop_unused().await;
    }

    /// Sends what a Subscription is told by other targets from now on.
    pub fn retarget(&self, uid: &str, targets: impl Into<Targets>, settings: DeliverySettings) {
        if let Some(running) = self.subscriptions.get(uid) {
            running.lane.retarget(targets.into(), settings);
        }
    }

    /// What a person orders for the keys of a Subscription that are blocked.
    pub fn order(&self, uid: &str, orders: Orders) {
        if let Some(running) = self.subscriptions.get(uid) {
            running.lane.order(orders);
        }
    }

    /// Serves a Subscription no more, after its lane had `deadline` to deliver what it has. Returns how many
    /// Changes were left over.
    pub async fn remove(&mut self, uid: &str, deadline: Duration) -> u64 {
        let Some(Running { route, lane, .. }) = self.subscriptions.remove(uid) else { return 0 };
        let left = lane.drain(Farewell::Everything, deadline).await;
        // Also those it was about to part from: nobody settles any more what it was told last.
        for watch in self.watches.values() {
            watch.handle.command(Command::Leave { uid: route.uid.clone() }).await;
        }
        self.context.metrics.forget(&route.subscription);
        self.drop_unused().await;
        left
    }

    /// Ends everything within `deadline`. Where there is a store, what is under way is awaited and the rest stored;
    /// where not, what there is is delivered. Returns how many Changes each Subscription had left over.
    pub async fn shut_down(self, deadline: Duration) -> Vec<(Arc<str>, u64)> {
        let until = tokio::time::Instant::now() + deadline;
        for watch in self.watches.values() {
            watch.handle.command(Command::Close).await;
        }
        let farewell = if self.context.state.is_some() { Farewell::InFlight } else { Farewell::Everything };
        let drains = self.subscriptions.into_values().map(|running| async move {
            let left = running.lane.drain(farewell, deadline).await;
            (running.route.subscription.clone(), left)
        });
        let left = futures::future::join_all(drains).await;
        // The last flush has its own time: without it, what was delivered comes again.
        let until = until.max(tokio::time::Instant::now() + LAST_FLUSH);
        let finished =
            futures::future::join_all(self.watches.into_values().map(|watch| watch.handle.finish()));
        if tokio::time::timeout_at(until, finished).await.is_err() {
            tracing::warn!(
                "the state was not stored in time; what was delivered since the last flush comes again"
            );
        }
        left
    }

    /// How the Subscription with this uid is doing, if it is being served.
    pub fn report(&self, uid: &str) -> Option<Report> {
        let running = self.subscriptions.get(uid)?;
        let lane = running.lane.report();
        let id = running.lane.sender().id();
        let watches = running.route.selections.keys().filter_map(|kind| {
            let running = self.watches.get(kind)?;
            let watch = running.handle.report().borrow().clone();
            let settled = lane.positions.get(&running.id).copied().flatten();
            let joining = watch.joining.contains(&id);
            let filtered = watch.filtered.get(&id).cloned().unwrap_or_default();
            Some(SourceReport { kind: kind.clone(), watch, settled, joining, filtered })
        });
        Some(Report { watches: watches.collect(), lane })
    }

    /// The report of the Watch on `kind`, to be followed.
    pub fn watch_report(&self, kind: &Kind) -> Option<watch::Receiver<WatchReport>> {
        Some(self.watches.get(kind)?.handle.report())
    }

    /// How many Watches run.
    pub fn watches(&self) -> usize {
        self.watches.len()
    }

    async fn join(&mut self, kind: &Kind, route: &Arc<Route>, place: &Arc<str>, lane: &Lane) {
        let Some(selection) = route.selections.get(kind).cloned() else { return };
        if !self.watches.contains_key(kind) {
            self.new_watch(kind).await;
        }
        let watch = self.watches.get_mut(kind);
        if let Some(watch) = watch {
            watch.stored.remove(&route.uid);
            let (lane, route, place, on) = (lane.sender(), route.clone(), place.clone(), route.on);
            watch.handle.command(Command::Join { lane, route, place, selection, on }).await;
        }
    }

    /// A Watch of which nothing is stored. What the told log has without it is of no use.
    async fn new_watch(&mut self, kind: &Kind) {
        let name = WatchName { kind: kind.clone(), namespace: self.context.namespace.clone() };
        let id = self.new_id();
        loop {
            match Parts::new(id, name.clone(), &self.context, None) {
                Ok(parts) => {
                    self.start_watch(kind.clone(), parts);
                    return;
                }
                Err(error) => tracing::error!(%kind, %error, "unable to open the told log; trying again"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn start_watch(&mut self, kind: Kind, parts: Parts) -> &mut RunningWatch {
        let id = parts.id();
        let handle = WatchHandle::start(parts, self.context.clone());
        let running = RunningWatch { id, handle, stored: BTreeSet::new() };
        self.watches.entry(kind).or_insert(running)
    }

    /// Ends the Watches that nobody follows any more: each costs the API server something.
    pub async fn drop_unused(&mut self) {
        let subscriptions = &self.subscriptions;
        let unused = self.watches.extract_if(.., |kind, watch| {
            let wanted = subscriptions.values().any(|running| running.route.selections.contains_key(kind));
            !wanted && watch.handle.report().borrow().lanes == 0
        });
        for (_, watch) in unused.collect::<Vec<_>>() {
            watch.handle.forget().await;
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}
