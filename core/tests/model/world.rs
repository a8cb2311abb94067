//! The cluster, the machine, the connection between them, and three consumers.

use std::collections::VecDeque;
use std::sync::Arc;

use tidings_core::change::ChangeKinds;
use tidings_core::known::Slot;
use tidings_core::object::{Object, ResourceVersion};
use tidings_core::route::{Namespaces, Selection};
use tidings_core::watch::{Effect, Input, Plan, Watch};

use crate::cluster::{Cluster, key};
use crate::consumer::Consumer;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Create or update an object.
    Write(usize),
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
    now: u64,
    /// The next line is garbled, and whether it can still be named.
    garbled: Option<bool>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            cluster: Cluster::new(),
            machine: Watch::default(),
            connection: Connection::Closed,
            consumers: [None, None, None],
            lists: [None, None, None],
            now: 1_790_000_000,
            garbled: None,
        }
    }
}

fn selection(which: usize) -> Selection {
    let only = |namespace: &str| Namespaces::Only([namespace.to_owned()].into());
    let namespaces = [Namespaces::All, only("shop"), only("farm"), Namespaces::Only([].into())];
    Selection { namespaces: namespaces[which].clone() }
}

impl World {
    pub(crate) fn act(&mut self, action: Action) {
        self.now += 1;
        match action {
            Action::Write(index) => self.cluster.write(&key(index)),
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
                    self.consumers[who] = Some(Consumer::new(selection(what)));
                    let (slot, on) = (Slot(who), ChangeKinds::ALL);
                    self.step(Input::Join { slot, selection: selection(what), on });
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
                }
            }
            Action::Garble(named) => self.garbled = Some(named),
        }
    }

    /// Brings everything to rest, and compares.
    pub(crate) fn settle(&mut self) {
        self.garbled = None;
        for _ in 0..2_000 {
            self.act(Action::Read);
            for who in 0..3 {
                self.act(Action::ReadList(who));
            }
        }
        self.act(Action::Bookmark);
        // A line that could not be named leaves its object behind until history is compared again.
        self.step(Input::Expired);
        self.connection = Connection::Closed;
        for _ in 0..100 {
            self.act(Action::Read);
        }
        assert!(self.lists.iter().all(Option::is_none), "a LIST is still wanted");
        assert_eq!(self.machine.position(), Some(ResourceVersion(self.cluster.version)));
        for consumer in self.consumers.iter().flatten() {
            let expected: Vec<_> = self
                .cluster
                .objects
                .values()
                .filter(|object| consumer.selection.selects(&object.meta.key))
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
            self.step(Input::Probed(ResourceVersion(self.cluster.version)));
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

    fn read_list(&mut self, who: usize) {
        let Some(List { number, pages }) = &mut self.lists[who] else { return };
        let (slot, list) = (Slot(who), *number);
        let (rest, version) = pages
            .get_or_insert_with(|| (self.cluster.objects.values().cloned().collect(), self.cluster.version));
        let input = if let Some(object) = rest.pop_front() {
            Input::Listed { slot, list, object }
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
        self.end();
        for list in self.lists.iter_mut().flatten() {
            list.pages = None;
        }
        self.cluster.rewind(by);
        self.step(Input::Probed(ResourceVersion(self.cluster.version)));
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
        for effect in self.machine.step(input, self.now) {
            match effect {
                Effect::Emit { change, to } => {
                    for slot in to {
                        let consumer = self.consumers[slot.0].as_mut().expect("only who follows is told");
                        consumer.hear(&change, &self.cluster.history);
                    }
                }
                Effect::Close => self.connection = Connection::Closed,
                Effect::List { slot, list } => self.lists[slot.0] = Some(List { number: list, pages: None }),
                Effect::StopList(slot) => self.lists[slot.0] = None,
                Effect::Joined(_) | Effect::Gap { .. } | Effect::Rewound(_) | Effect::Skipped { .. } => {}
            }
        }
    }
}
