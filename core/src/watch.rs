//! The machine of one Watch: what the API server said goes in, what changed and for whom comes out.
//!
//! It is told of the stream in [`Input`]s, in the order they happened, and asked with [`Watch::plan`] how to
//! connect next. It believes nothing from absence before a snapshot is complete, and tells each Subscription
//! by what *that* Subscription was told before, so that joins, edits and lost history are one mechanism.
//!
//! Before: bridge/src/watch.rs
//! Next: core/src/route.rs

pub mod backfill;
mod decide;
mod follower;
mod listing;
pub mod saved;
mod snapshot;
mod tell;
mod telling;
mod view;

use std::sync::Arc;

use crate::change::{Change, ChangeKinds, Epoch};
use crate::known::{Known, Slot};
use crate::object::{Meta, Object, ObjectKey, ResourceVersion};
use crate::selection::Selection;
use backfill::{Answer, Ask, Backfill};
use follower::{Followers, Phase};
use saved::Doubts;

/// After so many streams in a row that ended without a line, the position is not trusted any more: a stale
/// one may be answered with an empty stream instead of 410 (kubernetes/kubernetes#104171).
const EMPTY_STREAMS: u32 = 5;

/// What the machine is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// A consistent read answered with this version: the newest of the cluster.
    Probed {
        /// That version.
        version: ResourceVersion,
        /// [`Watch::newest`] when it was asked: it cannot be older, unless history went back. What was seen since may
        /// well be newer.
        since: ResourceVersion,
    },
    /// A stream of the initial state, or the first page of a LIST, begins.
    SnapshotStarted,
    /// An object of the snapshot, or an ADDED or MODIFIED of the stream.
    Present(Arc<Object>),
    /// DELETED, with the last content and the version of the deletion.
    Deleted(Arc<Object>),
    /// A line or list item that could not be decoded.
    Undecodable {
        /// As much as could be read.
        meta: Option<Meta>,
        /// It was a DELETED.
        deleted: bool,
    },
    /// The snapshot is complete at this version; changes after it follow.
    SnapshotComplete(ResourceVersion),
    /// A stream of changes after the position begins.
    Resumed,
    /// Nothing happened up to this version.
    Bookmark(ResourceVersion),
    /// The stream ended, whoever ended it.
    Ended {
        /// Not a single line had come.
        empty: bool,
    },
    /// 410: the history after the position is gone.
    Expired,
    /// A Subscription joins under a slot that is free.
    Join {
        /// Its slot from now on.
        slot: Slot,
        /// What it selects.
        selection: Selection,
        /// What it wants to hear of.
        on: ChangeKinds,
    },
    /// The Subscription of this slot was edited.
    Edit {
        /// Its slot.
        slot: Slot,
        /// What it selects from now on.
        selection: Selection,
        /// What it wants to hear of from now on.
        on: ChangeKinds,
    },
    /// The Subscription of this slot is gone; the slot is free again.
    Leave(Slot),
    /// An object of the LIST that [`Effect::List`] asked for.
    Listed {
        /// For whom.
        slot: Slot,
        /// Which LIST.
        list: u32,
        /// The version of its pages.
        version: ResourceVersion,
        /// The object.
        object: Arc<Object>,
    },
    /// That LIST is complete; all its pages were of this version.
    ListComplete {
        /// For whom.
        slot: Slot,
        /// Which LIST.
        list: u32,
        /// The version of its pages.
        version: ResourceVersion,
    },
    /// The answer to what [`Effect::Ask`] asked.
    Answered {
        /// Which.
        number: u64,
        /// What the server said.
        answer: Answer,
    },
    /// There will be no more answers.
    AskedEnough,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell these Subscriptions.
    Emit {
        /// What happened.
        change: Arc<Change>,
        /// Whom to tell.
        to: Vec<Slot>,
    },
    /// Close the stream and ask for the plan: what it says cannot be used.
    Close,
    /// Read the present state consistently (all pages of one version) for one Subscription, as often as it
    /// takes. A List for the same slot replaces the one before.
    List {
        /// For whom.
        slot: Slot,
        /// Tells this LIST from others before.
        list: u32,
    },
    /// The LIST for this slot is not needed any more.
    StopList(Slot),
    /// This Subscription has been told everything that exists.
    Joined(Slot),
    /// Ask the server what an object was.
    Ask(Ask),
    /// Nothing that was asked needs an answer any more.
    StopAsking,
    /// What was to be found of one name in a gap was found.
    Recovered {
        /// How many versions and deletions, with the one that exists.
        versions: usize,
        /// None is missing.
        whole: bool,
    },
    /// The watch cannot bring the history between this version and the present any more.
    Gap {
        /// The last version that was decided.
        since: ResourceVersion,
    },
    /// The cluster's history went backwards; everything from now on belongs to this epoch.
    Rewound(Epoch),
    /// A version of an object could not be decoded and is not told.
    Skipped {
        /// Which object, where that could be read.
        key: Option<ObjectKey>,
    },
}

/// How to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Watch from this version, after a probe.
    Resume(ResourceVersion),
    /// Stream or list the present state.
    Snapshot,
}

/// One resource in one scope, followed by any number of Subscriptions.
#[derive(Clone, Debug)]
pub struct Watch {
    known: Known,
    /// Everything up to here is decided. None before the first snapshot is complete.
    position: Option<ResourceVersion>,
    /// The newest version the server is known to have had, wherever it was seen.
    newest: ResourceVersion,
    epoch: Epoch,
    stream: Stream,
    /// Counts snapshot attempts, so that marks of an interrupted one are not taken for this one's.
    attempt: u32,
    /// The last snapshot held something that could not even be named, so Known may lack it.
    blind: bool,
    empty_streams: u32,
    lists: u32,
    followers: Followers,
    /// What may have been told before the process ended, and is neither confirmed nor taken back yet.
    doubts: Doubts,
    /// Slots whose stored views nobody needs any more.
    emptied: Vec<Slot>,
    backfill: Backfill,
}

/// What is open towards the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// Nothing; the next one resumes at the position. Expired → `Lost`.
    Closed,
    /// Nothing, and no position to resume at: the next one must be a snapshot.
    Lost,
    /// A snapshot comes in. Ended or Expired → `Lost`, nothing is concluded. Complete → `Live`.
    Snapshot {
        /// Every object of it could at least be named: absence means something.
        sound: bool,
    },
    /// Changes come in, in order. Ended → `Closed`; Expired or a rewind → `Lost`.
    Live {
        /// The version it was opened at: what is older than that is no repeat of this stream.
        since: ResourceVersion,
    },
}

// === impl Watch ===

impl Default for Watch {
    fn default() -> Self {
        Self {
            known: Known::default(),
            position: None,
            newest: ResourceVersion::default(),
            epoch: Epoch::default(),
            stream: Stream::Lost,
            attempt: 0,
            blind: false,
            empty_streams: 0,
            lists: 0,
            followers: Followers::default(),
            doubts: Doubts::new(),
            emptied: Vec::new(),
            backfill: Backfill::default(),
        }
    }
}

impl Watch {
    /// Takes in what happened at `now` (Unix seconds) and says what is to be done, in order.
    pub fn step(&mut self, input: Input, now: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Probed { version, since } => {
                if version < since.min(self.newest) {
                    self.rewind(now, &mut effects);
                }
            }
            Input::SnapshotStarted => self.snapshot_started(&mut effects),
            Input::SnapshotComplete(version) => self.snapshot_complete(version, now, &mut effects),
            Input::Present(object) => self.present(&object, now, &mut effects),
            Input::Deleted(object) => self.deleted(&object, now, &mut effects),
            Input::Undecodable { meta, deleted } => self.undecodable(meta, deleted, now, &mut effects),
            Input::Resumed => {
                if let Some(position) = self.position {
                    self.stream = Stream::Live { since: position };
                }
            }
            Input::Bookmark(version) => {
                if matches!(self.stream, Stream::Live { .. }) {
                    self.advance(version, &mut effects);
                }
            }
            Input::Ended { empty } => self.ended(empty, &mut effects),
            Input::Expired => self.expired(&mut effects),
            Input::Join { slot, selection, on } => self.join(slot, selection, on, &mut effects),
            Input::Edit { slot, selection, on } => self.edit(slot, selection, on, &mut effects),
            Input::Leave(slot) => self.leave(slot, &mut effects),
            Input::Listed { slot, list, version, object } => {
                self.listed(slot, list, version, &object, now, &mut effects);
            }
            Input::ListComplete { slot, list, version } => {
                self.list_complete(slot, list, version, now, &mut effects);
            }
            Input::Answered { number, answer } => self.answered(number, answer, &mut effects),
            Input::AskedEnough => self.give_up_all(&mut effects),
        }
        effects
    }

    /// How the next stream is to be opened.
    pub fn plan(&self) -> Plan {
        match (self.stream, self.position) {
            (Stream::Closed | Stream::Live { .. }, Some(position)) => Plan::Resume(position),
            _ => Plan::Snapshot,
        }
    }

    /// Everything up to here is decided; none before the first snapshot is complete, nor while a later one
    /// or what it showed to have changed is under way.
    pub fn position(&self) -> Option<ResourceVersion> {
        match self.stream {
            _ if self.recovering_since().is_some() => None,
            Stream::Closed | Stream::Live { .. } => self.position,
            Stream::Lost | Stream::Snapshot { .. } => None,
        }
    }

    /// The newest version the server is known to have had.
    pub fn newest(&self) -> ResourceVersion {
        self.newest
    }

    /// Whether a stream or a snapshot is being read.
    pub fn is_reading(&self) -> bool {
        matches!(self.stream, Stream::Live { .. } | Stream::Snapshot { .. })
    }

    /// Asks again for the LISTs that are under way, and for answers, for a caller that lost them.
    pub fn restart_lists(&mut self) -> Vec<Effect> {
        let mut effects: Vec<_> = self.asks().collect();
        for (slot, follower) in self.followers.iter_mut() {
            if let Phase::Listing { list, .. } = &mut follower.phase {
                self.lists += 1;
                *list = self.lists;
                effects.push(Effect::List { slot, list: self.lists });
            }
        }
        effects
    }

    /// The objects believed to exist.
    pub fn known(&self) -> &Known {
        &self.known
    }

    fn ended(&mut self, empty: bool, effects: &mut Vec<Effect>) {
        match self.stream {
            Stream::Live { .. } => {
                self.empty_streams = if empty { self.empty_streams + 1 } else { 0 };
                self.stream = if self.empty_streams < EMPTY_STREAMS { Stream::Closed } else { Stream::Lost };
            }
            Stream::Snapshot { .. } => {
                self.stream = Stream::Lost;
                self.gathered(effects);
            }
            Stream::Closed | Stream::Lost => {}
        }
        if self.stream == Stream::Lost {
            self.empty_streams = 0;
        }
    }

    fn expired(&mut self, effects: &mut Vec<Effect>) {
        if matches!(self.stream, Stream::Live { .. } | Stream::Closed)
            && let Some(since) = self.position
        {
            effects.push(Effect::Gap { since });
        }
        self.stream = Stream::Lost;
        self.gathered(effects);
    }

    /// The history that was decided is not the cluster's any more.
    fn rewind(&mut self, now: u64, effects: &mut Vec<Effect>) {
        self.stream = Stream::Lost;
        self.abandon_backfill(effects);
        self.epoch = Epoch(now.max(self.epoch.0 + 1));
        (self.position, self.newest) = (None, ResourceVersion::default());
        effects.extend([Effect::Rewound(self.epoch), Effect::Close]);
    }

    /// Moves the position, never backwards, and ends the seams it has passed.
    fn advance(&mut self, version: ResourceVersion, effects: &mut Vec<Effect>) {
        let position = self.position.map_or(version, |position| position.max(version));
        self.position = Some(position);
        self.newest = self.newest.max(position);
        self.close_seams(effects);
    }
}

#[cfg(test)]
mod tests;
