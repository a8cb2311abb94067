//! The cluster, the machine, the connection between them, and three consumers.

use std::collections::VecDeque;
use std::sync::Arc;

use tidings_core::change::ChangeKinds;
use tidings_core::known::Slot;
use tidings_core::object::{Object, ResourceVersion};
use tidings_core::selection::{LabelSelector, Namespaces, Operator, Requirement, Scope, Selection};
use tidings_core::watch::backfill::{Answer, Ask, Limits};
use tidings_core::watch::saved::{Head, Saved};
use tidings_core::watch::{Effect, Input, Plan, Watch};

use crate::cluster::{Cluster, key};
use crate::consumer::Consumer;
use crate::disk::Disk;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Create or update an object.
    Write(usize),
    /// Create or update an object with another label.
    Relabel(usize),
    Delete(usize),
    /// Delete and create under the same name.
    Recreate(usize),
    /// Another resource changes: only the version moves.
    WriteElsewhere,
    /// The watch connection brings one thing, or is opened.
    Read,
    /// The LIST of a consumer brings one object, or is begun.
    ReadList(usize),
    /// The watch connection ends.
    Break,
    /// The LIST of a consumer fails and is begun again.
    BreakList(usize),
    /// The watch history up to now is gone; a running stream goes on.
    Compact,
    /// So are versions before the present one.
    CompactVersions,
    /// Something that was asked is answered, whether the answer is still wanted or not.
    Answer(usize),
    /// What was asked first is not answered.
    FailAnswer,
    /// Nothing is answered any more.
    AskedEnough,
    /// The cluster is restored from a backup; the stream ends.
    Rewind(u64),
    Bookmark,
    /// The stream brings its last line again.
    Repeat,
    Join(usize, usize),
    Edit(usize, usize),
    Leave(usize),
    /// The next line of the stream cannot be decoded; it can still be named, or not.
    Garble(bool),
    /// A consumer hears what was decided for it first.
    Deliver(usize),
    /// Everything up to now is stored.
    Flush,
    /// The process ends without a word, and another one goes on from what was stored.
    Crash,
}

/// What is open towards the cluster.
enum Connection {
    Closed,
    /// Everything after this version is still to come.
    Live {
        at: u64,
        last: Option<Input>,
        empty: bool,
    },
    Snapshot {
        rest: VecDeque<Arc<Object>>,
        version: u64,
    },
}

/// The LIST of one consumer: its number, and its pages once the first was read.
struct List {
    number: u32,
    pages: Option<(VecDeque<Arc<Object>>, u64)>,
}

pub(crate) struct World {
    cluster: Cluster,
    machine: Watch,
    connection: Connection,
    consumers: [Option<Consumer>; 3],
    lists: [Option<List>; 3],
    asked: VecDeque<Ask>,
    /// What was asked, and needs no answer any more.
    unwanted: VecDeque<Ask>,
    limits: Limits,
    now: u64,
    /// The next line is garbled, and whether it can still be named.
    garbled: Option<bool>,
    /// In a world where processes crash, consumers hear of things some time after they are decided.
    disk: Option<Disk>,
    /// The version of the cluster at the last crash.
    crashed_at: u64,
}

impl Default for World {
    fn default() -> Self {
        Self {
            cluster: Cluster::new(),
            machine: Watch::default(),
            connection: Connection::Closed,
            consumers: [None, None, None],
            lists: [None, None, None],
            asked: VecDeque::new(),
            unwanted: VecDeque::new(),
            limits: Limits::default(),
            now: 1_790_000_000,
            garbled: None,
            disk: None,
            crashed_at: 0,
        }
    }
}

fn selection(which: usize) -> Selection {
    let only = |namespace: &str| Namespaces::Only([namespace.to_owned()].into());
    let labels = |operator| LabelSelector::new([Requirement { key: "color".to_owned(), operator }]);
    let red = || labels(Operator::In(["red".to_owned()].into()));
    match which {
        0 => Selection::of(Namespaces::All),
        1 => Selection::of(only("shop")),
        2 => Selection::of(only("farm")),
        3 => Selection::of(Namespaces::Only([].into())),
        4 => Scope { labels: red(), ..Scope::of(Namespaces::All) }.into(),
        5 => Scope { labels: labels(Operator::DoesNotExist), ..Scope::of(only("shop")) }.into(),
        // Two sources, which name some objects twice.
        _ => {
            let named = Scope { names: Some(["a".to_owned()].into()), ..Scope::of(Namespaces::All) };
            let red = Scope { labels: red(), ..Scope::of(only("shop")) };
            Selection::from(named).union(red.into())
        }
    }
}

impl World {
    /// A world in which so many requests may be made about what lies in a gap.
    pub(crate) fn new(requests: u32) -> Self {
        let mut world = Self { limits: Limits { requests, bytes: 1 << 20 }, ..Self::default() };
        world.machine.set_backfill(world.limits);
        world
    }

    /// The same, in which the process may crash.
    pub(crate) fn mortal(requests: u32) -> Self {
        let mut machine = Watch::restore(Head::default(), Saved::default(), []);
        let world = Self::new(requests);
        machine.set_backfill(world.limits);
        Self { machine, disk: Some(Disk::default()), ..world }
    }

    /// The same, in which everything can be recovered, with somebody who follows everything from the beginning.
    pub(crate) fn strict() -> Self {
        let mut world = Self::new(u32::MAX);
        world.act(Action::Join(0, 0));
        // What exists before the first snapshot is complete has no history to be told.
        (0..2).for_each(|_| world.act(Action::Read));
        for consumer in world.consumers.iter_mut().flatten() {
            consumer.strict = true;
        }
        world
    }

    /// Everything that happens, and then rest.
    pub(crate) fn live(mut self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            self.act(action);
        }
        self.settle();
    }

    fn act(&mut self, action: Action) {
        self.now += 1;
        match action {
            Action::Write(index) => self.cluster.write(&key(index)),
            Action::Relabel(index) => self.cluster.relabel(&key(index)),
            Action::Delete(index) => self.cluster.delete(&key(index)),
            Action::Recreate(index) => {
                self.cluster.delete(&key(index));
                self.cluster.write(&key(index));
            }
            Action::WriteElsewhere => self.cluster.version += 1,
            Action::Read => self.read(),
            Action::ReadList(who) => self.read_list(who),
            Action::Break => self.end(),
            Action::BreakList(who) => {
                if let Some(list) = &mut self.lists[who] {
                    list.pages = None;
                }
            }
            Action::Compact => self.cluster.oldest = self.cluster.version,
            Action::CompactVersions => self.cluster.compacted = self.cluster.version,
            Action::Answer(which) => self.answer(which, false),
            Action::FailAnswer => self.answer(0, true),
            Action::AskedEnough => self.step(Input::AskedEnough),
            Action::Rewind(by) => self.rewind(by),
            Action::Bookmark => {
                if let Connection::Live { at, empty, .. } = &mut self.connection
                    && self.cluster.history.last().is_none_or(|event| event.version() <= *at)
                {
                    (*at, *empty) = (self.cluster.version, false);
                    self.step(Input::Bookmark(ResourceVersion(self.cluster.version)));
                }
            }
            Action::Repeat => {
                if let Connection::Live { last: Some(last), .. } = &self.connection {
                    self.step(last.clone());
                }
            }
            Action::Join(who, what) => {
                if self.consumers[who].is_none() {
                    let forgiving = self.disk.is_some();
                    self.consumers[who] = Some(Consumer::new(selection(what), forgiving));
                    let (slot, on) = (Slot(who), ChangeKinds::ALL);
                    self.step(Input::Join { slot, selection: selection(what), on });
                    // Slots and who is behind them are stored before anybody is told anything.
                    self.flush();
                }
            }
            Action::Edit(who, what) => {
                if let Some(consumer) = &mut self.consumers[who] {
                    consumer.selection = selection(what);
                    let (slot, on) = (Slot(who), ChangeKinds::ALL);
                    self.step(Input::Edit { slot, selection: selection(what), on });
                }
            }
            Action::Leave(who) => {
                if self.consumers[who].take().is_some() {
                    self.step(Input::Leave(Slot(who)));
                    if let Some(disk) = &mut self.disk {
                        disk.forget(Slot(who));
                    }
                    self.flush();
                }
            }
            Action::Garble(named) => self.garbled = Some(named),
            Action::Deliver(who) => drop(self.deliver(who)),
            Action::Flush => self.flush(),
            Action::Crash => self.crash(),
        }
    }

    /// Whether there was something to hear.
    fn deliver(&mut self, who: usize) -> bool {
        let change = self.disk.as_mut().and_then(|disk| disk.deliver(Slot(who)));
        let (Some(change), Some(consumer)) = (change, &mut self.consumers[who]) else { return false };
        consumer.hear(&change, &self.cluster.history);
        true
    }

    fn flush(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.flush(&mut self.machine);
        }
    }

    /// The next process takes what was stored, and is then shown the Subscriptions there are.
    fn crash(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        self.machine = disk.crash();
        self.machine.set_backfill(self.limits);
        self.asked.clear();
        self.unwanted.clear();
        self.crashed_at = self.cluster.version;
        self.connection = Connection::Closed;
        self.lists = [None, None, None];
        let lists = self.machine.restart_lists();
        self.carry_out(lists);
        for who in 0..3 {
            if let Some(consumer) = &mut self.consumers[who] {
                let (slot, selection) = (Slot(who), consumer.selection.clone());
                self.step(Input::Edit { slot, selection, on: ChangeKinds::ALL });
            }
        }
    }

    /// Brings everything to rest, and compares.
    fn settle(&mut self) {
        self.garbled = None;
        for _ in 0..500 {
            self.act(Action::Read);
            for who in 0..3 {
                self.act(Action::ReadList(who));
            }
            self.act(Action::Answer(0));
        }
        self.act(Action::Bookmark);
        // A line that could not be named leaves its object behind until history is compared again.
        self.step(Input::Expired);
        self.connection = Connection::Closed;
        for _ in 0..100 {
            self.act(Action::Read);
            self.act(Action::Answer(0));
        }
        for who in 0..3 {
            // Who was between two selections was listed again.
            (0..20).for_each(|_| self.act(Action::ReadList(who)));
        }
        assert!(self.asked.is_empty(), "answers are still wanted");
        for who in 0..3 {
            while self.deliver(who) {}
        }
        assert!(self.lists.iter().all(Option::is_none), "a LIST is still wanted");
        assert_eq!(self.machine.position(), Some(ResourceVersion(self.cluster.version)));
        for consumer in self.consumers.iter().flatten() {
            let expected: Vec<_> = self
                .cluster
                .objects
                .values()
                .filter(|object| consumer.selection.selects(&object.meta))
                .collect();
            let held: Vec<_> = consumer.holds.values().collect();
            assert_eq!(held, expected, "a consumer holds something else than the cluster");
        }
    }

    fn read(&mut self) {
        match &mut self.connection {
            Connection::Closed => self.connect(),
            Connection::Snapshot { rest, version } => {
                let version = ResourceVersion(*version);
                if let Some(object) = rest.pop_front() {
                    let input = self.garble(Input::Present(object));
                    self.step(input);
                } else {
                    self.connection = Connection::Live { at: version.0, last: None, empty: false };
                    self.step(Input::SnapshotComplete(version));
                }
            }
            Connection::Live { at, .. } => {
                let at = *at;
                let Some(event) = self.cluster.history.iter().find(|event| event.version() > at).cloned()
                else {
                    return;
                };
                let object = event.object.clone();
                let plain = if event.deleted { Input::Deleted(object) } else { Input::Present(object) };
                let input = self.garble(plain);
                let last = Some(input.clone()).filter(|input| !matches!(input, Input::Undecodable { .. }));
                self.connection = Connection::Live { at: event.version(), last, empty: false };
                self.step(input);
            }
        }
    }

    fn connect(&mut self) {
        if let Plan::Resume(_) = self.machine.plan() {
            let (version, since) = (ResourceVersion(self.cluster.version), self.machine.newest());
            self.step(Input::Probed { version, since });
        }
        match self.machine.plan() {
            Plan::Resume(version) if version.0 < self.cluster.oldest => self.step(Input::Expired),
            Plan::Resume(version) => {
                self.connection = Connection::Live { at: version.0, last: None, empty: true };
                self.step(Input::Resumed);
            }
            Plan::Snapshot => {
                let rest = self.cluster.objects.values().cloned().collect();
                self.connection = Connection::Snapshot { rest, version: self.cluster.version };
                self.step(Input::SnapshotStarted);
            }
        }
    }

    fn answer(&mut self, which: usize, fails: bool) {
        let under_way = self.asked.len() + self.unwanted.len();
        let which = which.checked_rem(under_way).unwrap_or_default();
        let ask =
            self.asked.remove(which).or_else(|| self.unwanted.remove(which.saturating_sub(self.asked.len())));
        let Some(Ask { number, key, at, died }) = ask else { return };
        let answer = if fails { Answer::Failed } else { self.cluster.read(&key, at, died) };
        self.step(Input::Answered { number, answer });
    }

    fn read_list(&mut self, who: usize) {
        let Some(List { number, pages }) = &mut self.lists[who] else { return };
        let (slot, list) = (Slot(who), *number);
        let (rest, version) = pages
            .get_or_insert_with(|| (self.cluster.objects.values().cloned().collect(), self.cluster.version));
        let input = if let Some(object) = rest.pop_front() {
            Input::Listed { slot, list, version: ResourceVersion(*version), object }
        } else {
            let version = ResourceVersion(*version);
            self.lists[who] = None;
            Input::ListComplete { slot, list, version }
        };
        self.step(input);
    }

    fn end(&mut self) {
        let empty = matches!(self.connection, Connection::Live { empty: true, .. });
        if !matches!(self.connection, Connection::Closed) {
            self.connection = Connection::Closed;
            self.step(Input::Ended { empty });
        }
    }

    /// A backup is restored while nothing runs: every connection ends, and the next one probes before
    /// anything is written. LISTs begin again.
    fn rewind(&mut self, by: u64) {
        // Restoring a backup takes longer than the time between two flushes, and a process that crashed just before
        // is back by then: what was told of the other history is stored.
        let back = self.machine.position().is_some_and(|position| position.0 >= self.crashed_at);
        if self.crashed_at > 0 && !back {
            return;
        }
        self.flush();
        self.end();
        for list in self.lists.iter_mut().flatten() {
            list.pages = None;
        }
        self.cluster.rewind(by);
        // Before anybody has noticed.
        self.answer(0, false);
        let (version, since) = (ResourceVersion(self.cluster.version), self.machine.newest());
        self.step(Input::Probed { version, since });
    }

    fn garble(&mut self, input: Input) -> Input {
        let (object, deleted) = match &input {
            Input::Present(object) => (object, false),
            Input::Deleted(object) => (object, true),
            _ => return input,
        };
        match self.garbled.take() {
            None => input,
            Some(named) => Input::Undecodable { meta: named.then(|| object.meta.clone()), deleted },
        }
    }

    fn step(&mut self, input: Input) {
        let effects = self.machine.step(input, self.now);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Emit { change, to } if self.disk.is_some() => {
                    if let Some(disk) = &mut self.disk {
                        disk.decided(&change, &to);
                    }
                }
                Effect::Emit { change, to } => {
                    for slot in to {
                        let consumer = self.consumers[slot.0].as_mut().expect("only who follows is told");
                        consumer.hear(&change, &self.cluster.history);
                    }
                }
                Effect::Close => self.connection = Connection::Closed,
                Effect::List { slot, list } => self.lists[slot.0] = Some(List { number: list, pages: None }),
                Effect::StopList(slot) => self.lists[slot.0] = None,
                // Nobody is told anything of the new epoch before it is stored.
                Effect::Rewound(_) => self.flush(),
                Effect::Ask(ask) => self.asked.push_back(ask),
                Effect::StopAsking => self.unwanted.extend(self.asked.drain(..)),
                Effect::Recovered { .. }
                | Effect::Joined(_)
                | Effect::Gap { .. }
                | Effect::Skipped { .. } => {}
            }
        }
    }
}
