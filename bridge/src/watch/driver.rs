//! Runs readers, feeds the machine, and hands its Changes to the lanes.
//!
//! Before: bridge/src/watch/decode.rs
//! Next: bridge/src/journal.rs

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::change::ChangeKinds;
use tidings_core::event::EventContext;
use tidings_core::known::Slot;
use tidings_core::route::{Kind, Resource, Route, Selection};
use tidings_core::watch::{Effect, Input, Plan, Watch};
use tokio::sync::{mpsc, watch};

use super::connection::Connection;
use super::lists::Lists;
use super::reader::Job;
use super::request::Trouble;
use super::ring::{News, ring};
use super::{Command, WatchContext, WatchReport, WatchState};
use crate::clock;
use crate::deliver::{Entry, LaneInput, LaneSender};
use crate::discovery::{self, Found};

pub(super) struct Driver {
    id: u64,
    kind: Kind,
    context: WatchContext,
    commands: mpsc::Receiver<Command>,
    report: watch::Sender<WatchReport>,
    machine: Watch,
    followers: BTreeMap<Slot, Follower>,
}

/// A Subscription on this Watch.
struct Follower {
    lane: LaneSender,
    route: Arc<Route>,
    /// Made when the resource is known.
    context: Option<Arc<EventContext>>,
    /// What the lane has not been handed yet.
    outbox: Vec<Entry>,
    joined: bool,
    /// It leaves as soon as it was told of everything that is not selected any more.
    parting: bool,
}

/// Why the driver stops following a resource.
enum Stop {
    /// The server does not serve it any more.
    NotServed,
    /// The Watch is not needed any more.
    Dropped,
}

// === impl Driver ===

impl Driver {
    pub(super) fn new(
        id: u64,
        kind: Kind,
        context: WatchContext,
        commands: mpsc::Receiver<Command>,
        report: watch::Sender<WatchReport>,
    ) -> Self {
        let (machine, followers) = (Watch::default(), BTreeMap::new());
        Self { id, kind, context, commands, report, machine, followers }
    }

    /// Looks the kind up and follows it, again and again, until nobody wants it any more.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            match discovery::find(&self.context.client, &self.kind).await {
                Ok(Found::Resource(resource)) => {
                    failures = 0;
                    tracing::info!(%resource, "watching");
                    match self.follow(&resource).await {
                        Stop::Dropped => return,
                        Stop::NotServed => {}
                    }
                }
                Ok(Found::NotServed(trouble)) => self.trouble(WatchState::NotServed, trouble),
                Err(trouble) => self.trouble(WatchState::Connecting, trouble.to_string()),
            }
            failures += 1;
            let wait = self.context.settings.relist.delay(failures, clock::jitter());
            let deadline = tokio::time::Instant::now() + wait;
            while let Ok(command) = tokio::time::timeout_at(deadline, self.commands.recv()).await {
                let Some(command) = command else { return };
                let effects = self.command(command);
                // Nobody is told anything without a stream, and what LISTs it asks for is asked for again with one.
                debug_assert!(effects.iter().all(|effect| !matches!(effect, Effect::Emit { .. })));
            }
        }
    }

    /// Reports what keeps the Watch from going on, and logs it when it is new.
    fn trouble(&mut self, state: WatchState, trouble: String) {
        self.report.send_if_modified(|report| {
            let new = report.trouble.as_ref() != Some(&trouble) || report.state != state;
            if new {
                tracing::warn!(kind = %self.kind, %trouble, "the watch does not go on");
                report.state = state;
                report.trouble = Some(trouble);
                report.position = None;
            }
            new
        });
    }

    async fn follow(&mut self, resource: &Resource) -> Stop {
        for follower in self.followers.values_mut() {
            let context = EventContext::new(&self.context.cluster, &follower.route, resource);
            follower.context = Some(Arc::new(context));
        }
        self.report.send_modify(|report| report.resource = Some(resource.clone()));
        let (sender, mut news) = ring(self.context.settings.ring_bytes);
        let (lists, mut pages) = Lists::new();
        let mut connection = Connection::new(&self.context, resource, sender, lists);
        // A connection to the resource begins from nothing, whatever an earlier one left open.
        self.step(&mut connection, Input::Ended { empty: false }, clock::unix_seconds()).await;
        for effect in self.machine.restart_lists() {
            self.act(&mut connection, effect).await;
        }
        connection.start(self.machine.plan(), &self.context, Duration::ZERO);
        self.progress(&connection);
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    let Some(command) = command else { return Stop::Dropped };
                    for effect in self.command(command) {
                        self.act(&mut connection, effect).await;
                    }
                }
                // Before the stream, which may never pause: what waits for a LIST is held until it is complete.
                Some(inputs) = pages.recv() => {
                    let now = clock::unix_seconds();
                    for input in inputs {
                        self.step(&mut connection, input, now).await;
                    }
                }
                Some((run, what)) = news.recv() => {
                    if run == connection.run && let Some(stop) = self.news(&mut connection, what).await {
                        return stop;
                    }
                }
            }
            self.hand_over().await;
            self.progress(&connection);
        }
    }

    async fn news(&mut self, connection: &mut Connection, what: News) -> Option<Stop> {
        match what {
            News::Batch { inputs, complaints } => {
                for complaint in complaints {
                    tracing::error!(kind = %self.kind, %complaint, "an object was skipped");
                }
                let (run, now) = (connection.run, clock::unix_seconds());
                for input in inputs {
                    if run != connection.run {
                        // The machine closed the stream: what else came of it cannot be used.
                        break;
                    }
                    connection.note(&input);
                    self.step(connection, input, now).await;
                }
                None
            }
            News::Ended { why, empty } => self.ended(connection, why, empty).await,
        }
    }

    /// A job ended: what it means, and what comes next.
    async fn ended(&mut self, connection: &mut Connection, why: Trouble, empty: bool) -> Option<Stop> {
        let (job, now) = (connection.job, clock::unix_seconds());
        connection.metrics.reconnect(why.label());
        match (job, &why) {
            (Job::Probe, Trouble::Ended) => connection.probed = true,
            (Job::Probe, _) => {}
            (Job::List, Trouble::Ended) => {
                // The machine is live at the version of the LIST; the stream from there is still to be opened.
                connection.probed = true;
                self.step(connection, Input::Ended { empty: false }, now).await;
            }
            (_, Trouble::Expired) => self.step(connection, Input::Expired, now).await,
            (Job::Stream, Trouble::Refused { .. }) => {
                connection.never_streams = true;
                connection.failures = 0;
                self.step(connection, Input::Ended { empty }, now).await;
            }
            _ => self.step(connection, Input::Ended { empty }, now).await,
        }
        if !matches!((job, &why), (Job::Probe | Job::List, Trouble::Ended)) {
            connection.probed = false;
        }
        // A stream of the whole state that broke off may do so again; pages wait for us.
        connection.by_pages = job == Job::Stream && self.machine.plan() == Plan::Snapshot;
        let state = match why {
            Trouble::NotFound { .. } => {
                self.trouble(WatchState::NotServed, why.to_string());
                return Some(Stop::NotServed);
            }
            Trouble::Forbidden { .. } => WatchState::Forbidden,
            _ => WatchState::Connecting,
        };
        match why {
            Trouble::Ended | Trouble::Expired | Trouble::Full => {
                tracing::debug!(kind = %self.kind, %why, "stream ended");
                if empty && matches!(job, Job::Resume(_)) {
                    // A server that ends streams as soon as they begin is not asked without a pause.
                    connection.failures += 1;
                }
            }
            Trouble::Refused { .. } if connection.never_streams => {
                tracing::info!(kind = %self.kind, "the server does not stream the initial state; listing it");
            }
            _ => {
                connection.failures += 1;
                self.trouble(state, why.to_string());
            }
        }
        connection.start(self.machine.plan(), &self.context, why.after().unwrap_or_default());
        None
    }

    async fn step(&mut self, connection: &mut Connection, input: Input, now: u64) {
        let before = self.machine.position();
        for effect in self.machine.step(input, now) {
            match effect {
                Effect::Emit { change, to } => self.emit(change, &to, before).await,
                effect => self.act(connection, effect).await,
            }
        }
    }

    /// Puts a Change into the Journal and the outboxes of those who are told.
    async fn emit(
        &mut self,
        change: Arc<tidings_core::change::Change>,
        to: &[Slot],
        before: Option<tidings_core::object::ResourceVersion>,
    ) {
        let charge = if let Some(charge) = self.context.journal.try_admit(change.size()) {
            charge
        } else {
            // Room comes from what the lanes settle, so they must have everything first.
            self.hand_over().await;
            self.context.journal.admit(change.size()).await
        };
        let at = self.context.clock.now();
        for slot in to {
            let Some(follower) = self.followers.get_mut(slot) else { continue };
            let Some(context) = &follower.context else { continue };
            follower.outbox.push(Entry::new(change.clone(), context.clone(), before, at, charge.clone()));
        }
    }

    async fn act(&mut self, connection: &mut Connection, effect: Effect) {
        match effect {
            Effect::Emit { change, to } => self.emit(change, &to, self.machine.position()).await,
            Effect::Close => {
                // Whatever made the stream useless may come again at once: not without a pause.
                connection.failures += 1;
                connection.start(self.machine.plan(), &self.context, Duration::ZERO);
            }
            Effect::List { slot, list } => {
                connection.list(slot, list, &self.context);
                self.set_joined(slot, false);
            }
            Effect::StopList(slot) => connection.lists.stop(slot),
            Effect::Joined(slot) => self.joined(slot).await,
            Effect::Gap { since } => {
                connection.metrics.gaps.inc();
                tracing::warn!(kind = %self.kind, %since, "history was lost; reconciling");
                self.report.send_modify(|report| {
                    report.gaps += 1;
                    report.last_gap = Some((since, clock::unix_seconds()));
                });
            }
            Effect::Rewound(epoch) => {
                tracing::warn!(kind = %self.kind, epoch = epoch.0, "the cluster's history went backwards");
            }
            Effect::Skipped { .. } => {
                connection.metrics.skipped.inc();
                self.report.send_modify(|report| report.skipped += 1);
            }
        }
    }

    /// Hands what is decided to the lanes, with the position it leads to.
    async fn hand_over(&mut self) {
        let position = self.machine.position();
        for follower in self.followers.values_mut() {
            let entries = std::mem::take(&mut follower.outbox);
            follower.lane.send(LaneInput { watch: self.id, entries, position }).await;
        }
    }

    /// Carries out a command; what the machine wants done is for who has the connection.
    fn command(&mut self, command: Command) -> Vec<Effect> {
        let input = match command {
            Command::Join { lane, route, selection, on } if self.slot_of(lane.id()).is_some() => {
                // It is about to part, and stays.
                let lane = lane.id();
                return self.command(Command::Edit { lane, route, selection, on });
            }
            Command::Join { lane, route, selection, on } => {
                let free =
                    (0..=self.followers.len()).map(Slot).find(|slot| !self.followers.contains_key(slot));
                let slot = free.unwrap_or(Slot(self.followers.len()));
                let context = self.event_context(&route);
                let follower =
                    Follower { lane, route, context, outbox: Vec::new(), joined: false, parting: false };
                self.followers.insert(slot, follower);
                Input::Join { slot, selection, on }
            }
            Command::Edit { lane, route, selection, on } => {
                let Some(slot) = self.slot_of(lane) else { return Vec::new() };
                let context = self.event_context(&route);
                if let Some(follower) = self.followers.get_mut(&slot) {
                    (follower.route, follower.context) = (route, context);
                    follower.parting = false;
                }
                Input::Edit { slot, selection, on }
            }
            Command::Part { lane } => {
                let Some(slot) = self.slot_of(lane) else { return Vec::new() };
                if let Some(follower) = self.followers.get_mut(&slot) {
                    follower.parting = true;
                }
                Input::Edit { slot, selection: Selection::NOTHING, on: ChangeKinds::ALL }
            }
            Command::Leave { lane } => {
                let Some(slot) = self.slot_of(lane) else { return Vec::new() };
                self.followers.remove(&slot);
                Input::Leave(slot)
            }
        };
        self.machine.step(input, clock::unix_seconds())
    }

    /// Who has been told everything either follows from now on or, if nothing is selected any more, leaves.
    async fn joined(&mut self, slot: Slot) {
        self.set_joined(slot, true);
        if self.followers.get(&slot).is_some_and(|follower| follower.parting) {
            self.hand_over().await;
            self.followers.remove(&slot);
            // Who leaves is told nothing, so there is nothing to do.
            self.machine.step(Input::Leave(slot), clock::unix_seconds());
        }
    }

    fn set_joined(&mut self, slot: Slot, joined: bool) {
        if let Some(follower) = self.followers.get_mut(&slot) {
            follower.joined = joined;
        }
    }

    fn slot_of(&self, lane: u64) -> Option<Slot> {
        self.followers.iter().find(|(_, follower)| follower.lane.id() == lane).map(|(slot, _)| *slot)
    }

    fn event_context(&self, route: &Route) -> Option<Arc<EventContext>> {
        let resource = self.report.borrow().resource.clone()?;
        Some(Arc::new(EventContext::new(&self.context.cluster, route, &resource)))
    }

    /// Says where the Watch stands.
    fn progress(&self, connection: &Connection) {
        let position = self.machine.position();
        let joining: Vec<_> =
            self.followers.values().filter(|follower| !follower.joined).map(|f| f.lane.id()).collect();
        connection.metrics.known.set(i64::try_from(self.machine.known().len()).unwrap_or(i64::MAX));
        self.report.send_if_modified(|report| {
            let state = match (self.machine.is_reading(), self.machine.plan()) {
                (true, Plan::Snapshot) => WatchState::Snapshot,
                (true, Plan::Resume(_)) => WatchState::Live,
                (false, _) if report.state == WatchState::Forbidden => WatchState::Forbidden,
                (false, _) => WatchState::Connecting,
            };
            let lanes = self.followers.len();
            let changed = (report.state, report.position, report.lanes) != (state, position, lanes)
                || report.joining != joining;
            report.lanes = lanes;
            if self.machine.is_reading() {
                report.trouble = None;
            }
            (report.state, report.position, report.joining) = (state, position, joining);
            changed
        });
    }
}
