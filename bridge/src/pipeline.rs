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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::route::{Kind, Route};
use tidings_sinks::Target;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::deliver::{DeliverySettings, Lane, LaneReport};
use crate::watch::{Command, WatchContext, WatchHandle, WatchReport};

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
}

/// A Subscription that is being served.
struct Running {
    route: Arc<Route>,
    lane: Lane,
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
}

// === impl Pipeline ===

impl Pipeline {
    /// Nothing runs yet.
    pub fn new(context: WatchContext) -> Self {
        let clock = context.clock;
        Self { context, clock, watches: BTreeMap::new(), subscriptions: BTreeMap::new(), next_id: 0 }
    }

    /// Serves a Subscription, from what exists on.
    pub async fn add(&mut self, route: Route, target: Target, settings: DeliverySettings) {
        self.remove(&route.uid, Duration::ZERO).await;
        let metrics = self.context.metrics.delivery(&route.subscription);
        let route = Arc::new(route);
        let lane = Lane::start(self.new_id(), target, settings, metrics, self.clock);
        for kind in route.selections.keys() {
            self.join(kind, &route, &lane).await;
        }
        self.subscriptions.insert(route.uid.clone(), Running { route, lane });
    }

    /// Serves an edited Subscription on. What is in its lane is delivered; a `target` takes the place of the
    /// one it had.
    pub async fn edit(&mut self, route: Route, target: Option<Target>, settings: DeliverySettings) {
        let Some(running) = self.subscriptions.remove(&route.uid) else { return };
        match target {
            Some(target) => running.lane.retarget(target, settings),
            None => running.lane.resettle(settings),
        }
        let route = Arc::new(route);
        for kind in running.route.selections.keys().filter(|kind| !route.selections.contains_key(kind)) {
            if let Some(watch) = self.watches.get(kind) {
                watch.handle.command(Command::Part { lane: running.lane.sender().id() }).await;
            }
        }
        for (kind, selection) in &route.selections {
            if !running.route.selections.contains_key(kind) {
                self.join(kind, &route, &running.lane).await;
            } else if let Some(watch) = self.watches.get(kind) {
                let (lane, selection, on) = (running.lane.sender().id(), selection.clone(), route.on);
                watch.handle.command(Command::Edit { lane, route: route.clone(), selection, on }).await;
            }
        }
        self.subscriptions.insert(route.uid.clone(), Running { route, lane: running.lane });
        self.drop_unused();
    }

    /// Serves a Subscription no more, after its lane had `deadline` to deliver what it has. Returns how many
    /// Changes were left over.
    pub async fn remove(&mut self, uid: &str, deadline: Duration) -> usize {
        let Some(Running { route, lane }) = self.subscriptions.remove(uid) else { return 0 };
        // The lane goes first: a Watch that waits for room in the Journal takes no commands.
        let id = lane.sender().id();
        let left = lane.drain(deadline).await;
        for kind in route.selections.keys() {
            self.leave(kind, id).await;
        }
        self.context.metrics.forget(&route.subscription);
        self.drop_unused();
        left
    }

    /// Ends every Watch, gives the lanes `deadline` to deliver what they have, all at the same time, and
    /// returns how many Changes each Subscription had left over.
    pub async fn shut_down(self, deadline: Duration) -> Vec<(Arc<str>, usize)> {
        drop(self.watches);
        let drains = self.subscriptions.into_values().map(|running| async move {
            let left = running.lane.drain(deadline).await;
            (running.route.subscription.clone(), left)
        });
        futures::future::join_all(drains).await
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
            Some(SourceReport { kind: kind.clone(), watch, settled, joining })
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

    async fn join(&mut self, kind: &Kind, route: &Arc<Route>, lane: &Lane) {
        let Some(selection) = route.selections.get(kind).cloned() else { return };
        if !self.watches.contains_key(kind) {
            let id = self.new_id();
            let handle = WatchHandle::start(id, kind.clone(), self.context.clone());
            self.watches.insert(kind.clone(), RunningWatch { id, handle });
        }
        if let Some(watch) = self.watches.get(kind) {
            let (lane, on) = (lane.sender(), route.on);
            watch.handle.command(Command::Join { lane, route: route.clone(), selection, on }).await;
        }
    }

    async fn leave(&self, kind: &Kind, lane: u64) {
        if let Some(watch) = self.watches.get(kind) {
            watch.handle.command(Command::Leave { lane }).await;
        }
    }

    /// Ends the Watches that nobody follows any more: each costs the API server something.
    pub fn drop_unused(&mut self) {
        let subscriptions = &self.subscriptions;
        self.watches.retain(|kind, watch| {
            let wanted = subscriptions.values().any(|running| running.route.selections.contains_key(kind));
            wanted || watch.handle.report().borrow().lanes > 0
        });
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}
