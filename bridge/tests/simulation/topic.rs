//! One topic, and the consumer that reads it: it checks every Event as it comes, and folds them by key.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidings_core::change::ChangeKind;

use crate::etcd::Etcd;
use crate::event::Event;

/// Kind and key.
pub(crate) type Place = (usize, String);

/// What one Subscription was told.
#[derive(Default)]
pub(crate) struct Topic {
    /// The first delivery of each id, in order, by place.
    pub(crate) told: BTreeMap<Place, Vec<Event>>,
    ids: BTreeMap<String, Identity>,
    /// What was told for the first time since the last crash, by place.
    stretch: BTreeMap<Place, Vec<Event>>,
    /// What a consumer holds that was told each id once: the rules of a life are checked against it.
    holds: BTreeMap<Place, String>,
    /// A process crashed once: what it told last is told again by the next one.
    crashed: bool,
    /// Places at which nothing was told as new again since the last crash.
    doubtful: BTreeSet<Place>,
    /// Last told as `left`.
    left: BTreeSet<Place>,
    /// The broker said, and the process heard, that it has these.
    acked: BTreeSet<String>,
    /// They are stored as settled: they are not told again.
    settled: BTreeSet<String>,
    /// What a consumer holds that knows nothing of ids, and goes by `sequence`.
    folded: BTreeMap<Place, Folded>,
    /// Events, with repeats.
    pub(crate) stored: usize,
    /// How often history had gone back when a place was told of last.
    rewinds: BTreeMap<Place, usize>,
}

/// What an id stands for.
#[derive(PartialEq, Eq, Debug)]
struct Identity {
    change: ChangeKind,
    key: String,
    uid: String,
    /// None for a delete: it may have been seen once, and concluded once.
    revision: Option<u64>,
}

struct Folded {
    sequence: String,
    data: Option<Bytes>,
}

// === impl Topic ===

impl Topic {
    /// An empty one. `crashed`: a process did before.
    pub(crate) fn new(crashed: bool) -> Self {
        Self { crashed, ..Self::default() }
    }

    /// A process ended, and another one begins. After a clean end it repeats nothing. After a crash it goes on from what
    /// was stored: a stretch is told again, in order, and what was in it may be told otherwise.
    pub(crate) fn restart(&mut self, clean: bool) {
        if clean {
            self.settled.append(&mut self.acked);
            return;
        }
        self.crashed = true;
        // Whether it could store that it heard this is not known.
        self.acked.clear();
        self.stretch.clear();
        self.doubtful = self.holds.keys().cloned().collect();
    }

    /// The process heard that the broker has it.
    pub(crate) fn acked(&mut self, id: &str) {
        self.acked.insert(id.to_owned());
    }

    /// Takes an Event in, or says which promise it breaks.
    pub(crate) fn hear(&mut self, event: Event, etcd: &Etcd) -> Result<(), String> {
        self.stored += 1;
        event.check_truth(etcd)?;
        event.check_id()?;
        self.fold(&event);
        let deleted = event.change == ChangeKind::Deleted;
        let identity = Identity {
            change: event.change,
            key: event.key.clone(),
            uid: event.uid.clone(),
            revision: (!deleted).then_some(event.revision),
        };
        let known = self.ids.get(&event.id);
        if let Some(known) = known
            && !(known.is_same(&identity, self.crashed))
        {
            return Err(format!("{event} has the id of {known:?}"));
        }
        // A version may be told once more, to say that there is a gap before it.
        if self.settled.contains(&event.id) && !event.gap {
            return Err(format!("{event} is told again, and was settled when the process before ended well"));
        }
        if known.is_some() {
            return Ok(());
        }
        self.ids.insert(event.id.clone(), identity);
        let place = (event.kind, event.key.clone());
        // In another history lives begin and end at other times, and some of it is told before that is noticed: in the
        // epoch before, which a consumer ignores.
        let rewinds = self.rewinds.insert(place.clone(), etcd.rewinds());
        let rewound = rewinds.is_some_and(|rewinds| rewinds < etcd.rewinds());
        if !rewound {
            self.check_order(&event)?;
        }
        self.check_life(&event, rewound)?;
        self.stretch.entry(place.clone()).or_default().push(event.clone());
        self.told.entry(place).or_default().push(event);
        Ok(())
    }

    /// What a consumer holds in the end: the data by place.
    pub(crate) fn state(&self) -> BTreeMap<Place, Bytes> {
        let held =
            self.folded.iter().filter_map(|(place, folded)| Some((place.clone(), folded.data.clone()?)));
        held.collect()
    }

    /// Design, section 4: per key ignore a lower sequence; equal: order of arrival.
    fn fold(&mut self, event: &Event) {
        let place = (event.kind, event.key.clone());
        if self.folded.get(&place).is_some_and(|folded| event.sequence < folded.sequence) {
            return;
        }
        let data = event.puts().then(|| event.data.clone());
        self.folded.insert(place, Folded { sequence: event.sequence.clone(), data });
    }

    /// Per name in order since the last crash, and nothing of an old life after a new one.
    fn check_order(&self, event: &Event) -> Result<(), String> {
        let place = (event.kind, event.key.clone());
        let Some(told) = self.stretch.get(&place) else { return Ok(()) };
        let Some(last) = told.last() else { return Ok(()) };
        // The object is as it was: it left the selection, or came back into it.
        let same = event.change == ChangeKind::Left || self.left.contains(&place) || event.concluded;
        // Where a LIST was ahead of the Watch it is not known what lay between, so the version is told once more.
        let same = same || event.change == ChangeKind::Updated && event.gap;
        let same = same || event.change == ChangeKind::Added && self.doubtful.contains(&place);
        if event.sequence < last.sequence || event.sequence == last.sequence && !same {
            return Err(format!("{event} is told after {last}"));
        }
        let earlier = told.iter().any(|told| told.epoch == event.epoch && told.uid == event.uid);
        if last.uid != event.uid && last.epoch == event.epoch && earlier {
            return Err(format!("{event} is told after the next life began with {last}"));
        }
        Ok(())
    }

    /// A life begins, changes and ends, once each.
    fn check_life(&mut self, event: &Event, rewound: bool) -> Result<(), String> {
        let place = (event.kind, event.key.clone());
        let held = self.holds.get(&place);
        let last = self.told.get(&place).and_then(|told| told.last());
        let rewound = rewound || last.is_some_and(|last| last.epoch != event.epoch);
        let same = held == Some(&event.uid);
        let again =
            matches!(event.change, ChangeKind::Snapshot | ChangeKind::Added) && self.doubtful.remove(&place);
        let fits = match event.change {
            _ if self.crashed && !self.stretch.contains_key(&place) => {
                // It may begin with what was told already, and a consumer ignores.
                let late = last.is_some_and(|last| event.sequence <= last.sequence);
                match event.change {
                    ChangeKind::Snapshot | ChangeKind::Added => true,
                    ChangeKind::Updated => same || self.left.contains(&place) || late,
                    ChangeKind::Deleted => held.is_none() || same || late || event.concluded,
                    ChangeKind::Left => held.is_none() || same || late,
                }
            }
            ChangeKind::Snapshot | ChangeKind::Added => held.is_none() || again,
            // EXCEPTION: of several lives that one name had since the last flush before a crash, only the last is
            // remembered as told; the end of the ones before goes without saying.
            ChangeKind::Deleted if self.crashed && event.concluded => true,
            ChangeKind::Updated | ChangeKind::Deleted | ChangeKind::Left => same,
        };
        if !fits && !rewound {
            return Err(format!("{event} is told, while {held:?} is held"));
        }
        if event.puts() {
            self.holds.insert(place.clone(), event.uid.clone());
        } else {
            self.holds.remove(&place);
        }
        if event.change == ChangeKind::Left {
            self.left.insert(place);
        } else {
            self.left.remove(&place);
        }
        Ok(())
    }
}

// === impl Identity ===

impl Identity {
    /// Whether it stands for the same. Nobody knows after a crash whether an object was told that was told just before:
    /// one that exists is told as `added` once more (`docs/guarantees.md`, "The bridge restarts").
    fn is_same(&self, other: &Self, crashed: bool) -> bool {
        let Self { change, key, uid, revision } = self;
        let puts = |change| matches!(change, ChangeKind::Snapshot | ChangeKind::Added | ChangeKind::Updated);
        let same = *change == other.change || crashed && puts(*change) && puts(other.change);
        same && (key, uid, revision) == (&other.key, &other.uid, &other.revision)
    }
}
