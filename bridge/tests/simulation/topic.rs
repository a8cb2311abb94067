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
    /// Places at which a life ended that was not the one that was told last.
    unsure: BTreeSet<Place>,
    /// Places that were told of since nothing reaches the disk.
    held_back: Option<BTreeSet<Place>>,
    /// Places that were told of by a machine that lost power, and with it that it had.
    pub(crate) ghosts: BTreeSet<Place>,
    /// The newest revision when the last process began: what is told up to it may have been told before.
    begun: u64,
    /// The life that was told last of what came too late to count.
    late: BTreeMap<Place, String>,
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
    pub(crate) fn restart(&mut self, clean: bool, revision: u64) {
        if clean {
            self.settled.append(&mut self.acked);
            return;
        }
        self.crashed = true;
        // Whether it could store that it heard this is not known.
        self.acked.clear();
        self.stretch.clear();
        self.begun = revision;
    }

    /// Nothing reaches the disk any more.
    pub(crate) fn hold_back(&mut self) {
        self.held_back = Some(BTreeSet::new());
    }

    /// What was written since is lost; with the told logs, also that something was told before that no commit has.
    pub(crate) fn lose(&mut self, with_told: bool) {
        self.settled.clear();
        self.unsure = self.told.keys().cloned().collect();
        self.ghosts.extend(self.held_back.take().unwrap_or_default());
        if with_told {
            self.ghosts.extend(self.told.keys().cloned());
        }
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
        if let Some(held_back) = &mut self.held_back {
            held_back.insert((event.kind, event.key.clone()));
        }
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
        if self.is_late(&event) {
            if event.puts() {
                self.late.insert(place.clone(), event.uid.clone());
            }
            self.told.entry(place).or_default().push(event);
            return Ok(());
        }
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

    /// After a crash a stretch is told again in which a LIST or a snapshot was ahead of the stream: some of it is told for
    /// the first time, and a consumer ignores it because of its sequence.
    fn is_late(&self, event: &Event) -> bool {
        let place = (event.kind, event.key.clone());
        let newer = |told: &Event| told.sequence > event.sequence;
        self.crashed
            && event.revision <= self.begun
            && self.told.get(&place).is_some_and(|told| told.iter().any(newer))
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
        // After a crash it is told as new once more.
        let same = same || event.change == ChangeKind::Added && last.uid == event.uid && self.crashed;
        if event.sequence < last.sequence || event.sequence == last.sequence && !same {
            return Err(format!("{event} is told after {last}"));
        }
        let earlier = told.iter().any(|told| told.epoch == event.epoch && told.uid == event.uid);
        // Each of two lives may be found to be over in its own way.
        let over = self.crashed && event.concluded;
        if last.uid != event.uid && last.epoch == event.epoch && earlier && !over {
            return Err(format!("{event} is told after the next life began with {last}"));
        }
        Ok(())
    }

    /// A life begins, changes and ends, once each.
    ///
    /// After a crash it is not known whether an object was told that was told just before it, or that it left. One that
    /// exists is told as new once more, and the end of one that does not is told whether or not it had been told of
    /// (`docs/guarantees.md`, "The bridge restarts").
    ///
    /// EXCEPTION: of several lives that one name had since the last flush before a crash, only the last is known to be in
    /// doubt, so the end of the ones before is not told.
    fn check_life(&mut self, event: &Event, rewound: bool) -> Result<(), String> {
        let place = (event.kind, event.key.clone());
        let held = self.holds.get(&place);
        let last = self.told.get(&place).and_then(|told| told.last());
        let rewound = rewound || last.is_some_and(|last| last.epoch != event.epoch);
        // It may have begun in what was told too late to count.
        let same = held == Some(&event.uid) || self.late.get(&place) == Some(&event.uid);
        let again = self.crashed && (event.revision <= self.begun || !self.stretch.contains_key(&place));
        let fits = match event.change {
            ChangeKind::Snapshot | ChangeKind::Added => held.is_none() || again,
            // That it was deleted is not known any more, and in the history before a rewind it was not.
            ChangeKind::Updated if event.gap && event.epoch > 0 && held.is_none() && self.crashed => true,
            ChangeKind::Updated => same || again && self.left.contains(&place),
            ChangeKind::Deleted => same || self.crashed && (event.gap || self.left.contains(&place)),
            ChangeKind::Left => same || self.crashed,
        };
        let fits = fits || self.unsure.remove(&place);
        if !event.puts() && !same && held.is_some() {
            self.unsure.insert(place.clone());
        }
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
