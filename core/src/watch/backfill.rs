//! Recovering what lies in a gap: the versions between what was told of a name and what a snapshot showed.
//!
//! While the snapshot of a Reconcile comes in, names that changed are *gathered* instead of told (`gather.rs`). When it is complete,
//! the server is asked about each of them (`search.rs`), and what is found is told as the stream would have told it.
//! What the stream brings of such a name waits until then; other names do not. When history is lost meanwhile, a name
//! goes on waiting, with one more stretch to be searched (`name.rs`): what was seen is never forgotten. What cannot be
//! found, or would take too much, is given up name by name: what is known is told, with the gap marked.
//!
//! Nothing of a name enters Known before it is told, and until the last one is told, the position that is stored is the
//! one before the gap: a process that ends before begins again from there.

mod gather;
mod name;
mod search;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decide::Source;
use super::follower::Phase;
use super::saved::Told;
use super::telling::Telling;
use super::{Effect, Stream, Watch};
use crate::object::{Object, ObjectKey, ResourceVersion};
use name::{Name, Stretch};
pub use search::Answer;
use search::{Moment, Question};

/// How much is recovered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per gap. None: nothing is recovered.
    pub requests: u32,
    /// Objects that wait, and versions of them that were found, in bytes.
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
    /// Requests since nothing was recovered.
    requests: u32,
    bytes: usize,
    /// The newest version the server said it has forgotten.
    forgotten: ResourceVersion,
}

/// How far it is. `since` is the position before the first gap of which something is not told yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing is recovered.
    #[default]
    Off,
    /// A snapshot comes in, and what changed is gathered. Complete or interrupted → `Asking`.
    Gathering { since: ResourceVersion },
    /// The names are asked for. All told → `Off`; another snapshot → `Gathering`.
    Asking { since: ResourceVersion },
}

impl Watch {
    /// Recovers within these limits from now on.
    pub fn set_backfill(&mut self, limits: Limits) {
        self.backfill.limits = limits;
    }

    /// The position before a gap that is being recovered.
    pub(super) fn recovering_since(&self) -> Option<ResourceVersion> {
        match self.backfill.stage {
            Stage::Gathering { since } | Stage::Asking { since } => Some(since),
            Stage::Off => None,
        }
    }

    /// What was asked and not answered, for a caller that lost it.
    pub(super) fn asks(&self) -> impl Iterator<Item = Effect> {
        self.backfill.asked.values().cloned().map(Effect::Ask)
    }

    /// The snapshot is over, complete or not: what it gathered is kept.
    pub(super) fn gathered(&mut self, effects: &mut Vec<Effect>) {
        if let Stage::Gathering { since } = self.backfill.stage {
            self.backfill.stage = Stage::Asking { since };
            for key in self.names() {
                self.ask(&key, effects);
            }
            self.end_backfill(effects);
        }
    }

    /// The history that was lost is not the cluster's any more: what is known of it is told.
    pub(super) fn abandon_backfill(&mut self, effects: &mut Vec<Effect>) {
        if let Some(since) = self.recovering_since() {
            self.backfill.stage = Stage::Asking { since };
            self.give_up_all(effects);
        }
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
        let (position, attempt) = (self.gathering_from(), self.attempt);
        let Some(name) = self.backfill.names.get(&object.meta.key) else { return false };
        let meta = &object.meta;
        let (uid, version) = (&meta.uid, meta.resource_version);
        match self.stream {
            Stream::Snapshot { .. } if name.life() == Some(&(uid.clone(), version)) => {
                if let Some(name) = self.backfill.names.get_mut(&meta.key) {
                    name.see(attempt);
                }
                return true;
            }
            // A complete view up to the position has exactly what was seen up to it; and what is older than the stream, and
            // older than what was seen already, is of another history.
            Stream::Snapshot { .. } if position.is_some_and(|position| version <= position) => {
                self.rewind(now, effects);
                return true;
            }
            Stream::Snapshot { .. } if version <= name.newest() => {
                self.rewind(now, effects);
                return true;
            }
            Stream::Live { since } if version < name.newest() && version <= since => {
                self.rewind(now, effects);
                return true;
            }
            _ if version <= name.newest() => return true,
            _ => {}
        }
        let unknown = position.is_some() && deleted;
        let full = self.backfill.bytes + object.size() > self.backfill.limits.bytes;
        if unknown || full {
            self.give_up(&meta.key, effects);
            return false;
        }
        let Some(mut name) = self.backfill.names.remove(&meta.key) else { return false };
        self.backfill.bytes += object.size();
        match position {
            Some(position) => {
                self.pass_told(&mut name, &meta.key, Some(uid), position);
                name.show(object, position, attempt);
            }
            None if deleted => name.hold(Moment::Deleted(object.clone())),
            None => name.hold(Moment::Present(object.clone())),
        }
        self.backfill.names.insert(meta.key.clone(), name);
        self.newest = self.newest.max(version);
        if matches!(self.stream, Stream::Live { .. }) {
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
        let Backfill { limits, names, bytes, .. } = &mut self.backfill;
        let Some(name) = names.get_mut(&key) else { return };
        name.asking = false;
        let size = answer.size();
        if *bytes + size > limits.bytes {
            // What was found so far is told, with the gap before it.
            name.answer(Answer::Failed);
        } else {
            *bytes += size;
            name.answer(answer);
        }
        self.ask(&key, effects);
        self.end_backfill(effects);
    }

    /// Nothing more is to be asked: what is known is told.
    pub(super) fn give_up_all(&mut self, effects: &mut Vec<Effect>) {
        for key in self.names() {
            self.conclude(&key, effects);
        }
        self.end_backfill(effects);
    }

    fn names(&self) -> Vec<ObjectKey> {
        self.backfill.names.keys().cloned().collect()
    }

    /// The name does not wait any longer.
    pub(super) fn give_up(&mut self, key: &ObjectKey, effects: &mut Vec<Effect>) {
        self.conclude(key, effects);
        self.end_backfill(effects);
    }

    /// Asks the next question about a name, or tells what was found.
    fn ask(&mut self, key: &ObjectKey, effects: &mut Vec<Effect>) {
        loop {
            let Backfill { limits, names, asked, numbers, requests, forgotten, .. } = &mut self.backfill;
            let Some(name) = names.get_mut(key).filter(|name| !name.asking) else { return };
            let Some(Question { at, died }) = name.question() else {
                return self.conclude(key, effects);
            };
            if at <= *forgotten {
                name.answer(Answer::Compacted);
            } else if *requests >= limits.requests {
                name.answer(Answer::Failed);
            } else {
                (*requests, *numbers) = (*requests + 1, *numbers + 1);
                let ask = Ask { number: *numbers, key: key.clone(), at, died };
                name.asking = true;
                asked.insert(ask.number, ask.clone());
                return effects.push(Effect::Ask(ask));
            }
        }
    }

    /// Tells what was found of a name, and then what waited for that.
    fn conclude(&mut self, key: &ObjectKey, effects: &mut Vec<Effect>) {
        let Some(name) = self.backfill.names.remove(key) else { return };
        self.backfill.bytes -= name.bytes();
        self.backfill.asked.retain(|_, ask| ask.key != *key);
        let seen = name.seen();
        let (mut versions, mut whole, mut marked) = (0, true, false);
        for Stretch { search, held } in name.into_stretches() {
            let outcome = search.finish();
            (versions, whole) = (versions + outcome.moments.len(), whole && outcome.whole);
            if let Some(gone_by) = outcome.gone_by {
                self.tell_ended(key, gone_by, effects);
            }
            marked |= !outcome.whole;
            for moment in outcome.moments {
                self.tell_moment(&moment, Source::Backfill, std::mem::take(&mut marked), effects);
            }
            for moment in held {
                self.tell_moment(&moment, Source::Stream, std::mem::take(&mut marked), effects);
            }
        }
        effects.push(Effect::Recovered { versions, whole });
        // What is told now says nothing about whether the present snapshot showed it.
        if let Some(entry) = self.known.get_mut(key) {
            entry.seen = seen;
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
        if !matches!(self.backfill.stage, Stage::Asking { .. }) || !self.backfill.names.is_empty() {
            return;
        }
        let Backfill { limits, numbers, .. } = self.backfill;
        self.backfill = Backfill { limits, numbers, ..Backfill::default() };
        effects.push(Effect::StopAsking);
        self.close_seams(effects);
    }
}

#[cfg(test)]
mod tests;
