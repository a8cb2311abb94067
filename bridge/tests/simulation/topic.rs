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
    /// What a consumer holds that was told each id once: the rules of a life are checked against it.
    holds: BTreeMap<Place, String>,
    /// Last told as `left`.
    left: BTreeSet<Place>,
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
    /// Whoever reads has swept: without a state store, a new process tells the present state from the beginning, and
    /// cannot know what was deleted meanwhile.
    pub(crate) fn sweep(&mut self) {
        *self = Self { stored: self.stored, ..Self::default() };
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
        match self.ids.get(&event.id) {
            Some(known) if *known == identity => return Ok(()),
            Some(known) => return Err(format!("{event} has the id of {known:?}")),
            None => {}
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

    /// Per name in order, and nothing of an old life after a new one.
    fn check_order(&self, event: &Event) -> Result<(), String> {
        let place = (event.kind, event.key.clone());
        let Some(told) = self.told.get(&place) else { return Ok(()) };
        let Some(last) = told.last() else { return Ok(()) };
        // The object is as it was: it left the selection, or came back into it.
        let same = event.change == ChangeKind::Left || self.left.contains(&place) || event.concluded;
        // Where a LIST was ahead of the Watch it is not known what lay between, so the version is told once more.
        let same = same || event.change == ChangeKind::Updated && event.gap;
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
        let fits = match event.change {
            ChangeKind::Snapshot | ChangeKind::Added => held.is_none(),
            ChangeKind::Updated | ChangeKind::Deleted | ChangeKind::Left => held == Some(&event.uid),
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
