//! Runs readers, feeds the machine, and hands its Changes to the lanes.
//!
//! Before: bridge/src/watch/decode.rs
//! Next: bridge/src/journal.rs

mod command;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::change::Change;
use tidings_core::known::Slot;
use tidings_core::object::ResourceVersion;
use tidings_core::route::Resource;
use tidings_core::watch::{Effect, Input, Plan, Watch};
use tokio::sync::{mpsc, watch};

use super::connection::Connection;
use super::followers::Followers;
use super::keeper::{Keeper, Kept};
use super::lists::Lists;
use super::reader::Job;
use super::request::Trouble;
use super::ring::{News, ring};
use super::{Command, WatchContext, WatchReport, WatchState};
use crate::clock;
use crate::discovery::{self, Found};
use crate::journal::Journal;
use crate::state;
use crate::state::record::{JournalRecord, WatchName};

pub(super) struct Driver {
    name: WatchName,
    context: WatchContext,
    commands: mpsc::Receiver<Command>,
    report: watch::Sender<WatchReport>,
    machine: Watch,
    journal: Journal,
    followers: Followers,
    /// What was decided and is not in the Journal yet.
    outbox: Vec<JournalRecord>,
    /// What keeps the state; nothing where there is none to keep.
    keeper: Option<Keeper>,
    /// Nothing is to be read any more.
    closing: bool,
}

/// Why the driver stops following a resource.
enum Stop {
    /// The server does not serve it any more.
    NotServed,
    /// Nothing is to be read any more.
    Closing,
}

/// The Watch is not needed any more.
struct Over;

// === impl Driver ===

impl Driver {
    /// Goes on from what was stored, if anything was.
    pub(super) fn new(
        parts: super::Parts,
        context: WatchContext,
        commands: mpsc::Receiver<Command>,
        report: watch::Sender<WatchReport>,
    ) -> Self {
        let super::Parts { name, machine, journal, followers, keeper } = parts;
        report.send_modify(|report| {
            report.resource.clone_from(&followers.resource);
            report.lanes = followers.len();
        });
        let (outbox, closing) = (Vec::new(), false);
        Self { name, context, commands, report, machine, journal, followers, outbox, keeper, closing }
    }

    /// Looks the kind up and follows it, again and again, until nobody wants it any more.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        while !self.closing {
            let (client, kind) = (self.context.client.clone(), self.name.kind.clone());
            let patience = self.context.settings.silence_limit;
            let find = async move {
                let found = tokio::time::timeout(patience, discovery::find(&client, &kind)).await;
                found.unwrap_or(Err(discovery::Error::Silent(patience)))
            };
            let found = match self.meanwhile(find).await {
                Err(Over) => return,
                Ok(None) => break,
                Ok(Some(found)) => found,
            };
            match found {
                Ok(Found::Resource(resource)) => {
                    failures = 0;
                    tracing::info!(%resource, "watching");
                    match self.follow(&resource).await {
                        Err(Over) => return,
                        Ok(Stop::Closing) => break,
                        Ok(Stop::NotServed) => {}
                    }
                }
                Ok(Found::NotServed(trouble)) => self.trouble(WatchState::NotServed, trouble),
                Err(trouble) => self.trouble(WatchState::Connecting, trouble.to_string()),
            }
            failures += 1;
            let wait = self.context.settings.relist.delay(failures, clock::jitter());
            if self.meanwhile(tokio::time::sleep(wait)).await.is_err() {
                return;
            }
        }
        // Whoever asked for that ends the task.
        while self.meanwhile(std::future::pending::<()>()).await.is_ok() {}
    }

    /// Takes commands and keeps the state, with no connection, until `until` is done, or a command says that nothing is to be
    /// read any more.
    async fn meanwhile<T>(&mut self, until: impl Future<Output = T>) -> Result<Option<T>, Over> {
        tokio::pin!(until);
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    let effects = self.command(command.ok_or(Over)?).await?;
                    // Nobody is told anything without a stream but what waited for a LIST, and what LISTs it asks
                    // for is asked for again with one.
                    for effect in effects {
                        if let Effect::Emit { change, to } = effect {
                            self.emit(change, &to, self.machine.position());
                        }
                    }
                    if self.closing {
                        self.hand_over();
                        return Ok(None);
                    }
                }
                kept = Keeper::event(&mut self.keeper) => self.kept(kept),
                () = self.followers.draining() => self.take_drained().await,
                done = &mut until => return Ok(Some(done)),
            }
            self.hand_over();
        }
    }

    /// Reports what keeps the Watch from going on, and logs it when it is new.
    fn trouble(&mut self, state: WatchState, trouble: String) {
        self.report.send_if_modified(|report| {
            let new = report.trouble.as_ref() != Some(&trouble) || report.state != state;
            if new {
                tracing::warn!(kind = %self.name.kind, %trouble, "the watch does not go on");
                report.state = state;
                report.trouble = Some(trouble);
                report.position = None;
            }
            new
        });
    }

    async fn follow(&mut self, resource: &Resource) -> Result<Stop, Over> {
        self.report.send_modify(|report| report.resource = Some(resource.clone()));
        self.followers.served_as(&self.journal, resource).await;
        let (sender, mut news) = ring(self.context.settings.ring_bytes);
        let (lists, mut pages) = Lists::new();
        let mut connection = Connection::new(&self.context, resource, sender, lists);
        // A connection to the resource begins from nothing, whatever an earlier one left open.
        self.step(&mut connection, Input::Ended { empty: false }, self.context.clock.unix_seconds());
        for effect in self.machine.restart_lists() {
            self.act(&mut connection, effect);
        }
        connection.start(&self.machine, &self.context, Duration::ZERO);
        self.progress(&connection);
        let memory = self.journal.memory().clone();
        loop {
            let room = memory.has_room();
            let ready = room && self.outbox.is_empty() && self.keeper.as_ref().is_none_or(Keeper::is_ready);
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    for effect in self.command(command.ok_or(Over)?).await? {
                        self.act(&mut connection, effect);
                    }
                    if self.closing {
                        self.hand_over();
                        return Ok(Stop::Closing);
                    }
                }
                kept = Keeper::event(&mut self.keeper) => self.kept(kept),
                () = self.followers.draining() => self.take_drained().await,
                // Before the stream, which may never pause: what waits for a LIST is held until it is complete.
                Some(inputs) = pages.recv(), if ready => {
                    let now = self.context.clock.unix_seconds();
                    for input in inputs {
                        self.step(&mut connection, input, now);
                    }
                }
                input = connection.asks.next(), if ready => {
                    self.step(&mut connection, input, self.context.clock.unix_seconds());
                }
                Some((run, what)) = news.recv(), if ready => {
                    if run == connection.run && let Some(stop) = self.news(&mut connection, what) {
                        self.hand_over();
                        return Ok(stop);
                    }
                }
                () = memory.room(), if !room => {}
            }
            self.hand_over();
            self.progress(&connection);
        }
    }

    fn news(&mut self, connection: &mut Connection, what: News) -> Option<Stop> {
        match what {
            News::Batch { inputs, complaints } => {
                for complaint in complaints {
                    tracing::error!(kind = %self.name.kind, %complaint, "an object was skipped");
                }
                let (run, now) = (connection.run, self.context.clock.unix_seconds());
                for input in inputs {
                    if run != connection.run {
                        // The machine closed the stream: what else came of it cannot be used.
                        break;
                    }
                    connection.note(&input);
                    self.step(connection, input, now);
                }
                None
            }
            News::Ended { why, empty } => self.ended(connection, why, empty),
        }
    }

    /// A job ended: what it means, and what comes next.
    fn ended(&mut self, connection: &mut Connection, why: Trouble, empty: bool) -> Option<Stop> {
        let (job, now) = (connection.job, self.context.clock.unix_seconds());
        connection.metrics.reconnect(why.label());
        match (job, &why) {
            (Job::Probe { .. }, Trouble::Ended) => connection.probed = true,
            (Job::Probe { .. }, _) => {}
            (Job::List, Trouble::Ended) => {
                // The machine is live at the version of the LIST; the stream from there is still to be opened.
                connection.probed = true;
                self.step(connection, Input::Ended { empty: false }, now);
            }
            (_, Trouble::Expired) => self.step(connection, Input::Expired, now),
            (Job::Stream, Trouble::Refused { .. }) => {
                connection.never_streams = true;
                connection.failures = 0;
                self.step(connection, Input::Ended { empty }, now);
            }
            _ => self.step(connection, Input::Ended { empty }, now),
        }
        if !matches!((job, &why), (Job::Probe { .. } | Job::List, Trouble::Ended)) {
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
                tracing::debug!(kind = %self.name.kind, %why, "stream ended");
                if empty && matches!(job, Job::Resume(_)) {
                    // A server that ends streams as soon as they begin is not asked without a pause.
                    connection.failures += 1;
                }
            }
            Trouble::Refused { .. } if connection.never_streams => {
                tracing::info!(kind = %self.name.kind, "the server does not stream the initial state; listing it");
            }
            _ => {
                connection.failures += 1;
                self.trouble(state, why.to_string());
            }
        }
        connection.start(&self.machine, &self.context, why.after().unwrap_or_default());
        None
    }

    fn step(&mut self, connection: &mut Connection, input: Input, now: u64) {
        let before = self.machine.position();
        if let Some(keeper) = &mut self.keeper {
            keeper.note();
        }
        for effect in self.machine.step(input, now) {
            match effect {
                Effect::Emit { change, to } => self.emit(change, &to, before),
                effect => self.act(connection, effect),
            }
        }
    }

    /// Puts a Change where it waits for the Journal.
    fn emit(&mut self, change: Arc<Change>, to: &[Slot], before: Option<ResourceVersion>) {
        let decided = self.context.clock.unix_millis();
        let to = self.followers.recipients(&change, to, decided / 1000);
        if to.is_empty() {
            return;
        }
        self.outbox.push(JournalRecord { number: 0, change, to, before, decided });
    }

    fn act(&mut self, connection: &mut Connection, effect: Effect) {
        match effect {
            Effect::Emit { change, to } => self.emit(change, &to, self.machine.position()),
            Effect::Close => {
                // Whatever made the stream useless may come again at once: not without a pause.
                connection.failures += 1;
                connection.start(&self.machine, &self.context, Duration::ZERO);
            }
            Effect::List { slot, list } => {
                connection.list(slot, list, &self.context);
                self.followers.set_joined(slot, false);
            }
            Effect::StopList(slot) => connection.lists.stop(slot),
            Effect::Ask(ask) => connection.ask(ask),
            Effect::StopAsking => connection.asks.stop(),
            Effect::Recovered { versions, whole } => {
                connection.metrics.recovered.inc_by(u64::try_from(versions).unwrap_or(u64::MAX));
                if !whole {
                    connection.metrics.unrecovered.inc();
                }
            }
            Effect::Joined(slot) => self.joined(slot),
            Effect::Gap { since } => {
                connection.metrics.gaps.inc();
                tracing::warn!(kind = %self.name.kind, %since, "history was lost; reconciling");
                self.report.send_modify(|report| {
                    report.gaps += 1;
                    report.last_gap = Some((since, self.context.clock.unix_seconds()));
                });
            }
            Effect::Rewound(epoch) => {
                tracing::warn!(kind = %self.name.kind, epoch = epoch.0, "the cluster's history went backwards");
                // Nobody is told anything of the new history before it is known on disk that there is one.
                self.must_store();
            }
            Effect::Skipped { .. } => {
                connection.metrics.skipped.inc();
                self.report.send_modify(|report| report.skipped += 1);
            }
        }
    }

    /// Hands what is decided to the Journal, with the position it leads to. What nobody was told of before goes
    /// into the told log first; while that cannot be written, it waits.
    fn hand_over(&mut self) {
        if let Some(keeper) = &mut self.keeper
            && let Err(error) = keeper.tell(&self.outbox, &self.followers, &self.journal)
        {
            return self.report_store(Some(error));
        }
        self.journal.append(std::mem::take(&mut self.outbox), self.machine.position());
        self.flush(false);
    }

    /// Begins to store what changed, if that is due.
    fn flush(&mut self, now: bool) {
        let Some(keeper) = &mut self.keeper else { return };
        if self.outbox.is_empty() && keeper.is_due(&self.journal, self.machine.changed(), now) {
            keeper.begin(&mut self.machine, &self.journal, &self.followers);
        }
    }

    /// Something happened to the store, or a flush is due.
    fn kept(&mut self, kept: Kept) {
        let Some(keeper) = &mut self.keeper else { return };
        match kept {
            // Whether there is something to store is looked at after every event.
            Kept::Due => keeper.go_on(&self.journal, &self.followers),
            Kept::Stored(flushed) => {
                keeper.stored(&self.journal, flushed);
                self.report_store(None);
            }
            Kept::Compacted(backlog, compacted) => match keeper.compact(&self.journal, &backlog, compacted) {
                Ok(count) => {
                    let subscription = self.followers.name(backlog.slot);
                    tracing::warn!(
                        kind = %self.name.kind, subscription, count,
                        "the backlog is over its quota; of each object the newest version is kept, the rest is left out"
                    );
                }
                Err(error) => self.store_failed(&error),
            },
            Kept::Failed(error) => {
                keeper.failed(&self.journal);
                self.store_failed(&error);
            }
        }
    }

    fn store_failed(&self, error: &state::Error) {
        self.context.metrics.state_failures.inc();
        self.report_store(Some(error.to_string()));
    }

    /// Who has settled the last it was told goes; not while some of that is not even in the Journal.
    async fn take_drained(&mut self) {
        if self.outbox.is_empty()
            && self.followers.take_drained(&self.journal).await
            && let Some(keeper) = &mut self.keeper
        {
            keeper.note();
        }
    }

    /// What follows waits until what changed now is stored.
    fn must_store(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.must_store();
        }
    }

    fn report_store(&self, trouble: Option<String>) {
        self.report.send_if_modified(|report| {
            let new = report.store != trouble;
            if let Some(trouble) = trouble.as_ref().filter(|_| new) {
                tracing::error!(kind = %self.name.kind, %trouble, "unable to store the state; trying again");
            }
            report.store = trouble;
            new
        });
    }

    /// Says where the Watch stands.
    fn progress(&self, connection: &Connection) {
        let position = self.machine.position();
        let joining = self.followers.joining();
        let filtered: BTreeMap<_, _> =
            self.followers.filtered().map(|(lane, filtered)| (lane, filtered.clone())).collect();
        self.context.metrics.journal_memory(self.journal.memory().used());
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
                || report.joining != joining
                || report.filtered != filtered;
            report.filtered = filtered;
            report.lanes = lanes;
            if self.machine.is_reading() {
                report.trouble = None;
            }
            (report.state, report.position, report.joining) = (state, position, joining);
            changed
        });
    }
}
