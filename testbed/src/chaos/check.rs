//! What must hold of the events of one Subscription, whatever happened meanwhile.
//!
//! It is checked at rest: when the writers have stopped, what was broken is whole again, and everything is delivered.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::record::{Confirmed, What};
use crate::consumer::{Fold, Received};

mod coverage;

/// Follows one Subscription from its first round to its last.
#[derive(Debug, Default)]
pub struct Checker {
    lives: HashMap<String, Life>,
    /// What each id was the first time.
    ids: HashMap<String, First>,
    /// The newest sequence, by key.
    sequences: HashMap<String, String>,
    fold: Fold,
}

/// What happened since the last rest.
#[derive(Debug)]
pub struct Round<'a> {
    /// What the API server confirmed of objects that are selected.
    pub confirmed: &'a [Confirmed],
    /// What was published, in order.
    pub events: &'a [Received],
    /// What the API server holds of what is selected, by key.
    pub held: &'a BTreeMap<String, Value>,
    /// What was done to it.
    pub suffered: Suffered,
}

/// What excuses what.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each can happen by itself, or with any other")]
pub struct Suffered {
    /// The API server may have refused to tell the history after some version: gaps are no mistake.
    pub lost_history: bool,
    /// The Subscription was made again, and began with what exists: what it had not been told, and deletes of that time,
    /// are excused.
    pub forgot: bool,
    /// For some time it selected less: what happened to the rest meanwhile is excused.
    pub edited: bool,
    /// The bridge was killed. Who it was about to tell of an object may have been told or not: if that is gone by the next start,
    /// its end is told, to who never heard of it as well.
    pub killed: bool,
}

/// How a round went.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Events that were published, with repeats.
    pub events: usize,
    /// Events whose id was published before.
    pub repeated: usize,
    /// Events that say that versions before them may be missing.
    pub gaps: usize,
    /// Confirmed versions that were not published, and lie before an event that says so.
    pub in_gaps: usize,
    /// Confirmed versions and deletions of which nobody was told, without a word.
    pub lost: Vec<String>,
    /// Everything else that must not be.
    pub wrong: Vec<String>,
}

/// One life of a name.
#[derive(Debug, Default)]
struct Life {
    key: String,
    versions: HashSet<u64>,
    ended: bool,
    told: LastTold,
}

/// What was told of a life last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LastTold {
    #[default]
    Nothing,
    /// That it exists.
    Exists,
    /// That it left the selection.
    Left,
    /// That it is over, whatever came after that.
    Ended,
}

/// The first event with an id.
#[derive(Debug)]
struct First {
    event_type: String,
    version: Option<u64>,
}

/// An event of this round whose id was not published before, as the rules see it.
struct Told<'a> {
    event: &'a Received,
    sequence: &'a str,
    uid: &'a str,
}

// === impl Checker ===

impl Checker {
    /// Checks one round. `Findings` name what is wrong; what was published is taken as told all the same.
    pub fn check(&mut self, round: &Round<'_>) -> Findings {
        let mut findings = Findings { events: round.events.len(), ..Findings::default() };
        self.confirm(round.confirmed);
        let mut told = Vec::new();
        for event in round.events {
            self.fold.take(event);
            if event.attribute("gap") == "true" {
                findings.gaps += 1;
            }
            if self.is_first(event, &mut findings) {
                told.push(Told {
                    event,
                    sequence: event.attribute("sequence"),
                    uid: event.attribute("k8suid"),
                });
            }
        }
        for told in &told {
            self.order(told, round.suffered, &mut findings);
            self.nothing_invented(told, round.suffered, &mut findings);
        }
        self.coverage(round, &told, &mut findings);
        self.ends(round, &mut findings);
        let Suffered { lost_history, forgot, edited, killed: _ } = round.suffered;
        if !(lost_history || forgot || edited) && findings.gaps + findings.in_gaps > 0 {
            let (gaps, versions) = (findings.gaps, findings.in_gaps);
            findings.wrong.push(format!("{gaps} gaps ({versions} versions), and no history was lost"));
        }
        self.agreement(round.held, &mut findings);
        findings
    }

    fn confirm(&mut self, confirmed: &[Confirmed]) {
        for Confirmed { key, uid, what } in confirmed {
            let life = self.lives.entry(uid.clone()).or_default();
            life.key.clone_from(key);
            match what {
                What::Version(version) => drop(life.versions.insert(*version)),
                What::Ended => life.ended = true,
            }
        }
    }

    /// The same id is the same type and, but for a deletion, which may be observed or concluded, the same version.
    fn is_first(&mut self, event: &Received, findings: &mut Findings) -> bool {
        let (id, event_type) = (event.attribute("id"), event.attribute("type"));
        let version = (event.change() != "deleted").then(|| version(&event.data)).flatten();
        let Some(first) = self.ids.get(id) else {
            self.ids.insert(id.to_owned(), First { event_type: event_type.to_owned(), version });
            return true;
        };
        findings.repeated += 1;
        if first.event_type != event_type || first.version != version {
            let (was, was_version) = (&first.event_type, first.version);
            findings.wrong.push(format!("id {id} is {was} {was_version:?} and {event_type} {version:?}"));
        }
        false
    }

    /// What is told for the first time is told in order. A Subscription that was made again may be followed by what the
    /// one before it had on the way.
    fn order(&mut self, told: &Told<'_>, suffered: Suffered, findings: &mut Findings) {
        let key = told.event.attribute("subject");
        let newest = self.sequences.entry(key.to_owned()).or_default();
        if told.sequence >= newest.as_str() {
            told.sequence.clone_into(newest);
        } else if !suffered.forgot {
            findings.wrong.push(format!("{key}: {} was told after {newest}", told.sequence));
        }
    }

    /// Every event is of a version that was written; a deletion, of a life that was told and is over.
    fn nothing_invented(&mut self, told: &Told<'_>, suffered: Suffered, findings: &mut Findings) {
        let (key, id) = (told.event.attribute("subject"), told.event.attribute("id"));
        let Some(life) = self.lives.get_mut(told.uid).filter(|life| life.key == key) else {
            return findings.wrong.push(format!("{key}: {id} is of an object that was never there"));
        };
        if told.event.change() == "deleted" {
            if !life.ended {
                findings.wrong.push(format!("{key}: {id}, and it lives"));
            }
            let in_doubt = suffered.killed && told.sequence.split('.').nth(2).is_some();
            if life.told == LastTold::Nothing && !in_doubt {
                findings.wrong.push(format!("{key}: {id}, and nobody knew it"));
            }
            life.told = LastTold::Ended;
            return;
        }
        if life.told != LastTold::Ended {
            let left = told.event.change() == "left";
            life.told = if left { LastTold::Left } else { LastTold::Exists };
        }
        let version = version(&told.event.data);
        if version.is_none_or(|version| !life.versions.contains(&version)) {
            findings.wrong.push(format!("{key}: {id} has version {version:?}, which was not written"));
        }
        if version != sequence_version(told.sequence) {
            findings.wrong.push(format!("{key}: {id} has sequence {} and {version:?}", told.sequence));
        }
    }

    /// Whoever was told of a life is told of its end, or that it left.
    fn ends(&mut self, round: &Round<'_>, findings: &mut Findings) {
        for Confirmed { key, uid, what } in round.confirmed {
            let told = self.lives.get(uid).is_some_and(|life| life.told == LastTold::Exists);
            if *what != What::Ended || !told {
                continue;
            }
            if round.suffered.forgot {
                findings.in_gaps += 1;
                // What a consumer sweeps after a snapshot.
                if self.fold.objects.get(key).is_some_and(|held| held["metadata"]["uid"] == **uid) {
                    self.fold.objects.remove(key);
                }
            } else {
                findings.lost.push(format!("{key}: the end of {uid}"));
            }
        }
    }

    /// What a consumer folds is what the API server holds.
    fn agreement(&self, held: &BTreeMap<String, Value>, findings: &mut Findings) {
        let keys: HashSet<_> = held.keys().chain(self.fold.objects.keys()).collect();
        for key in keys {
            let (holds, folded) = (held.get(key), self.fold.objects.get(key));
            if holds.cloned().map(bare) != folded.cloned().map(bare) {
                let version = |object: Option<&Value>| {
                    object.map(|object| (object["metadata"]["uid"].clone(), self::version(object)))
                };
                let (holds, folded) = (version(holds), version(folded));
                findings.wrong.push(format!("{key}: the consumer has {folded:?}, the API server {holds:?}"));
            }
        }
    }
}

/// Without what every item of a list would repeat and lists leave out, and what Events leave out.
fn bare(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.remove("apiVersion");
        members.remove("kind");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    object
}

fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

/// The version in a sequence, `<epoch>.<version>`; of a concluded deletion the last one that was known.
fn sequence_version(sequence: &str) -> Option<u64> {
    sequence.split('.').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests;
