//! Recovering what lies in a gap: the versions between what was told of a name and what a snapshot showed.
//!
//! While the snapshot of a Reconcile comes in, names that changed are *gathered* instead of told. When it is complete,
//! the server is asked about each of them (`search.rs`), and what is found is told as the stream would have told it.
//! What the stream brings of such a name waits until then; other names do not. Nothing of a name enters Known before it
//! is told, so that whenever this is given up, a snapshot that is compared with Known finds everything again. Until the
//! last name is told, the position is the one before the gap.

mod search;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decide::Source;
use super::follower::{Follower, Phase};
use super::saved::Told;
use super::telling::Telling;
use super::{Effect, Stream, Watch};
use crate::known::{Entry, Slot};
use crate::object::{Object, ObjectKey, ResourceVersion};
pub use search::Answer;
use search::{Moment, Question, Search};

/// So often in a row a backfill begins anew because history was lost once more, before the net difference is told.
const ATTEMPTS: u32 = 3;

/// How much is recovered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per gap. None: nothing is recovered.
    pub requests: u32,
    /// Objects that wait, in bytes.
    pub bytes: usize,
}

/// What the server is to be asked: what the object of this name was at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Tells the answers apart.
    pub number: u64,
    /// Which name.
    pub key: ObjectKey,
    /// At which version.
    pub at: ResourceVersion,
    /// The object ended at this version, and is to carry it as if a watch had brought its end.
    pub died: Option<ResourceVersion>,
}

/// What is being recovered.
#[derive(Clone, Debug, Default)]
pub(super) struct Backfill {
    limits: Limits,
    stage: Stage,
    names: BTreeMap<ObjectKey, Name>,
    asked: BTreeMap<u64, Ask>,
    numbers: u64,
    /// Requests of this gap.
    requests: u32,
    bytes: usize,
    /// The newest version the server said it has forgotten.
    forgotten: ResourceVersion,
    /// Attempts in a row that came to nothing.
    failures: u32,
}

/// How far it is. `since` is the position before the gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing is recovered.
    #[default]
    Off,
    /// A snapshot comes in. Interrupted → `Off`. Complete → `Asking`.
    Gathering { since: ResourceVersion },
    /// The names are asked for. All told → `Off`; history is lost again → `Off`.
    Asking { since: ResourceVersion },
}

/// A name that waits.
#[derive(Clone, Debug)]
struct Name {
    search: Search,
    /// What the snapshot showed, or that it showed nothing, and what came since.
    newest: ResourceVersion,
    held: Vec<Moment>,
    bytes: usize,
}

impl Watch {
    /// Recovers within these limits from now on.
    pub fn set_backfill(&mut self, limits: Limits) {
        self.backfill.limits = limits;
    }

    /// The position before a gap that is being recovered.
    pub(super) fn recovering_since(&self) -> Option<ResourceVersion> {
        match self.backfill.stage {
            Stage::Asking { since } => Some(since),
            Stage::Off | Stage::Gathering { .. } => None,
        }
    }

    /// What was asked and not answered, for a caller that lost it.
    pub(super) fn asks(&self) -> impl Iterator<Item = Effect> {
        self.backfill.asked.values().cloned().map(Effect::Ask)
    }

    /// A snapshot begins. Who does not follow yet, or is between two selections, is listed when it is complete, as if
    /// it came in the middle: what is gathered is told only as the continuation of what was told before.
    pub(super) fn gather(&mut self) {
        let follows = |(_, follower): (Slot, &Follower)| follower.is_continued();
        let backfill = &mut self.backfill;
        if backfill.limits.requests == 0 || self.blind || !self.followers.iter().any(follows) {
            return;
        }
        if backfill.failures >= ATTEMPTS {
            backfill.failures = 0;
            return;
        }
        let Some(since) = self.position else { return };
        let Backfill { limits, numbers, failures, .. } = *backfill;
        *backfill =
            Backfill { limits, numbers, failures, stage: Stage::Gathering { since }, ..Backfill::default() };
        for slot in self.followers.slots() {
            let Some(follower) = self.followers.get_mut(slot) else { continue };
            match &mut follower.phase {
                Phase::Following if follower.fresh => {
                    let (floor, view) = (ResourceVersion::default(), self.told_view(slot));
                    if let Some(follower) = self.followers.get_mut(slot) {
                        follower.phase = Phase::Seam { floor, view, relist: true };
                    }
                }
                Phase::Seam { relist, .. } => *relist = true,
                Phase::Following | Phase::Listing { .. } => {}
            }
        }
    }

    /// Whether the name of this object, which a snapshot shows in another version than is known, waits now.
    pub(super) fn gathers(&mut self, object: &Arc<Object>) -> bool {
        let Stage::Gathering { since } = self.backfill.stage else { return false };
        let meta = &object.meta;
        let before = self.known.get(&meta.key).cloned();
        let floor = before.as_ref().map_or(since, |entry| since.max(entry.version));
        let selected = |(_, follower): (Slot, &Follower)| {
            follower.is_continued() && follower.selection.selects(&meta.key)
        };
        let wanted = self.followers.iter().any(selected);
        if !wanted
            || meta.resource_version <= floor
            || !self.may_gather(&meta.key, before.as_ref(), object.size())
        {
            return false;
        }
        let base = before.map(|entry| (entry.uid, entry.version));
        let search = Search::of_present(base, floor, object);
        self.put_name(meta.key.clone(), search, meta.resource_version, object.size());
        true
    }

    fn may_gather(&self, key: &ObjectKey, before: Option<&Entry>, bytes: usize) -> bool {
        let Backfill { limits, names, .. } = &self.backfill;
        let doubtful = self.followers.slots().any(|slot| self.doubts.contains_key(&(slot, key.clone())));
        // Each name takes a request at least.
        let room = names.len() < limits.requests as usize && self.backfill.bytes + bytes <= limits.bytes;
        room && !doubtful && before.is_none_or(|entry| entry.epoch == self.epoch)
    }

    fn put_name(&mut self, key: ObjectKey, search: Search, newest: ResourceVersion, bytes: usize) {
        if let Some(entry) = self.known.get_mut(&key) {
            entry.seen = self.attempt;
        }
        self.backfill.bytes += bytes;
        self.backfill.names.insert(key, Name { search, newest, held: Vec::new(), bytes });
    }

    /// The snapshot is complete at `version`: what it did not show, if that means something, waits too.
    pub(super) fn gather_gone(&mut self, sound: bool, version: ResourceVersion) {
        let Stage::Gathering { since } = self.backfill.stage else { return };
        let attempt = self.attempt;
        let unseen =
            self.known.iter().filter(|(_, entry)| sound && entry.seen != attempt && entry.told.any());
        let mut gone: Vec<_> = unseen.map(|(key, entry)| (key.clone(), entry.clone())).collect();
        gone.sort_by(|left, right| left.0.cmp(&right.0));
        for (key, entry) in gone {
            let floor = since.max(entry.version);
            if floor < version && self.may_gather(&key, Some(&entry), 0) {
                let search = Search::of_gone((entry.uid, entry.version), floor, version);
                self.put_name(key, search, version, 0);
            }
        }
        self.backfill.stage = Stage::Asking { since };
    }

    /// Asks for everything that waits.
    pub(super) fn ask_all(&mut self, effects: &mut Vec<Effect>) {
        if self.recovering_since().is_none() {
            return;
        }
        let keys: Vec<_> = self.backfill.names.keys().cloned().collect();
        for key in keys {
            self.ask(&key, effects);
        }
        self.end_backfill(effects);
    }

    /// Whether this waits, because what came before it under its name is being recovered.
    pub(super) fn waits(&self, key: &ObjectKey) -> bool {
        self.backfill.names.contains_key(key)
    }

    /// Keeps what came of a name that waits. Where there is no room, the name does not wait any longer, and this is false.
    pub(super) fn hold(
        &mut self,
        object: &Arc<Object>,
        deleted: bool,
        now: u64,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let limit = self.backfill.limits.bytes;
        let Some(name) = self.backfill.names.get_mut(&object.meta.key) else { return false };
        let version = object.meta.resource_version;
        let live = matches!(self.stream, Stream::Live { .. });
        if version <= name.newest {
            // What is older than the stream, and older than what was seen already, is of another history.
            if version < name.newest && matches!(self.stream, Stream::Live { since } if version <= since) {
                self.rewind(now, effects);
            }
            return true;
        }
        if self.backfill.bytes + object.size() > limit {
            self.give_up(&object.meta.key.clone(), effects);
            return false;
        }
        name.newest = version;
        name.bytes += object.size();
        self.backfill.bytes += object.size();
        name.held.push(if deleted {
            Moment::Deleted(object.clone())
        } else {
            Moment::Present(object.clone())
        });
        self.newest = self.newest.max(version);
        if live {
            self.advance(version, effects);
        }
        true
    }

    /// An answer came.
    pub(super) fn answered(&mut self, number: u64, answer: Answer, effects: &mut Vec<Effect>) {
        let Some(Ask { key, at, .. }) = self.backfill.asked.remove(&number) else { return };
        if let Answer::Compacted = answer {
            self.backfill.forgotten = self.backfill.forgotten.max(at);
        }
        let Some(name) = self.backfill.names.get_mut(&key) else { return };
        name.search = name.search.clone().answer(answer);
        self.ask(&key, effects);
        self.end_backfill(effects);
    }

    /// Nothing more is to be asked: what is known is told.
    pub(super) fn asked_enough(&mut self, effects: &mut Vec<Effect>) {
        if self.recovering_since().is_some() {
            let keys: Vec<_> = self.backfill.names.keys().cloned().collect();
            for key in keys {
                self.conclude(&key, effects);
            }
            self.end_backfill(effects);
        }
    }

    /// The name does not wait any longer.
    pub(super) fn give_up(&mut self, key: &ObjectKey, effects: &mut Vec<Effect>) {
        self.conclude(key, effects);
        self.end_backfill(effects);
    }

    /// Whatever waits is forgotten: the next snapshot shows it again, and Known is as it was.
    pub(super) fn forget_backfill(&mut self, effects: &mut Vec<Effect>) {
        if let Stage::Asking { since } = self.backfill.stage {
            self.position = Some(since);
            self.backfill.failures += 1;
            effects.push(Effect::StopAsking);
        }
        let Backfill { limits, numbers, failures, .. } = self.backfill;
        self.backfill = Backfill { limits, numbers, failures, ..Backfill::default() };
    }

    /// Asks the next question about a name, or tells what was found.
    fn ask(&mut self, key: &ObjectKey, effects: &mut Vec<Effect>) {
        loop {
            let Backfill { limits, names, asked, numbers, requests, forgotten, .. } = &mut self.backfill;
            let Some(name) = names.get_mut(key) else { return };
            let Some(Question { at, died }) = name.search.question() else {
                return self.conclude(key, effects);
            };
            if at <= *forgotten {
                name.search = name.search.clone().answer(Answer::Compacted);
            } else if *requests >= limits.requests {
                name.search = name.search.clone().answer(Answer::Failed);
            } else {
                (*requests, *numbers) = (*requests + 1, *numbers + 1);
                let ask = Ask { number: *numbers, key: key.clone(), at, died };
                asked.insert(ask.number, ask.clone());
                return effects.push(Effect::Ask(ask));
            }
        }
    }

    /// Tells what was found of a name, and then what waited for that.
    fn conclude(&mut self, key: &ObjectKey, effects: &mut Vec<Effect>) {
        let Some(Name { search, held, bytes, newest: _ }) = self.backfill.names.remove(key) else { return };
        self.backfill.bytes -= bytes;
        self.backfill.asked.retain(|_, ask| ask.key != *key);
        let outcome = search.finish();
        effects.push(Effect::Recovered { versions: outcome.moments.len(), whole: outcome.whole });
        if let Some(gone_by) = outcome.gone_by {
            self.tell_ended(key, gone_by, effects);
        }
        let mut marked = !outcome.whole;
        for moment in outcome.moments {
            self.tell_moment(&moment, Source::Backfill, std::mem::take(&mut marked), effects);
        }
        for moment in held {
            self.tell_moment(&moment, Source::Stream, false, effects);
        }
    }

    fn tell_moment(&mut self, moment: &Moment, source: Source, marked: bool, effects: &mut Vec<Effect>) {
        if marked && let Some(entry) = self.known.get_mut(&moment.object().meta.key) {
            entry.skipped = true;
        }
        match moment {
            Moment::Present(object) => self.decide_present(object, source, true, marked, effects),
            Moment::Deleted(object) => self.decide_deleted(object, source, effects),
        }
    }

    /// It is gone, and nothing else is known: who was told that it exists is told so.
    fn tell_ended(&mut self, key: &ObjectKey, gone_by: ResourceVersion, effects: &mut Vec<Effect>) {
        let Some(entry) = self.known.remove(key) else { return };
        let mut telling = Telling::new(self.epoch);
        for slot in self.followers.slots() {
            let epoch = self.epoch;
            let Some(follower) = self.followers.get_mut(slot) else { continue };
            let was = match &mut follower.phase {
                Phase::Following => entry.told.contains(slot).then(|| Told::of(&entry)),
                Phase::Seam { view, .. } | Phase::Listing { view, .. } => {
                    let earlier =
                        view.get(key).is_some_and(|was| (was.epoch, was.version) < (epoch, gone_by));
                    if earlier { view.end(key) } else { None }
                }
            };
            if let Some(was) = was {
                self.tell_gone(slot, key, &was, gone_by, &mut telling);
            }
        }
        telling.finish(effects);
    }

    /// When the last name was told, the Watch stands where its stream does.
    fn end_backfill(&mut self, effects: &mut Vec<Effect>) {
        if self.recovering_since().is_none() || !self.backfill.names.is_empty() {
            return;
        }
        let Backfill { limits, numbers, .. } = self.backfill;
        self.backfill = Backfill { limits, numbers, ..Backfill::default() };
        effects.push(Effect::StopAsking);
        if let Some(position) = self.position {
            self.close_seams(position, effects);
        }
    }
}

#[cfg(test)]
mod tests;
