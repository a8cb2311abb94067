//! Every version that was written is published, or lies where the stream says that something is missing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Checker, Findings, LastTold, Round, Suffered, Told, sequence_version};
use crate::chaos::record::{Confirmed, What};
use crate::consumer::Received;

impl Checker {
    pub(super) fn coverage(&self, round: &Round<'_>, told: &[Told<'_>], findings: &mut Findings) {
        let mut by_key: BTreeMap<&str, Vec<&Told<'_>>> = BTreeMap::new();
        for told in told {
            by_key.entry(told.event.attribute("subject")).or_default().push(told);
        }
        for events in by_key.values_mut() {
            events.sort_by_key(|told| told.sequence);
        }
        let published: HashSet<_> = told
            .iter()
            .filter(|told| told.event.change() != "deleted")
            .map(|told| (told.uid, sequence_version(told.sequence)))
            .collect();
        // What was read live, in order, from the whole of the history at that time.
        let live: BTreeSet<_> = told
            .iter()
            .filter(|told| told.event.attribute("reason") == "watch")
            .filter_map(|told| sequence_version(told.sequence))
            .collect();
        for Confirmed { key, uid, what } in round.confirmed {
            let What::Version(version) = *what else { continue };
            if published.contains(&(uid.as_str(), Some(version))) {
                continue;
            }
            let events = by_key.get(key.as_str()).map_or(&[][..], Vec::as_slice);
            let suffered = round.suffered;
            if announced(events, uid, version, suffered) || self.unseen(uid, &live, suffered) {
                findings.in_gaps += 1;
            } else {
                let around = around(events, version);
                findings.lost.push(format!("{key}: version {version} of {uid}; around it {around}"));
            }
        }
    }

    /// A life that began and ended where history was lost, so that nobody was ever told of it: nothing that happened
    /// during it was read live. A Subscription that was made again, or did not select it, does not know either that a life
    /// it was told of is over.
    fn unseen(&self, uid: &str, live: &BTreeSet<u64>, suffered: Suffered) -> bool {
        let Some(life) = self.lives.get(uid).filter(|life| life.ended && life.told != LastTold::Ended) else {
            return false;
        };
        let (Some(first), Some(last)) = (life.versions.iter().min(), life.versions.iter().max()) else {
            return false;
        };
        suffered.forgot
            || suffered.edited
            || (life.told == LastTold::Nothing && live.range(first..=last).next().is_none())
    }
}

/// Whether what comes next under the name says that something is missing before it, or the end of the life does.
fn announced(events: &[&Told<'_>], uid: &str, version: u64, suffered: Suffered) -> bool {
    let says = |event: &Received| {
        event.attribute("gap") == "true"
            || (suffered.forgot && event.change() == "snapshot")
            || (suffered.edited && event.attribute("reason") == "selection")
    };
    let next = events.iter().find(|told| sequence_version(told.sequence) > Some(version));
    let end = events.iter().find(|told| told.uid == uid && told.event.change() == "deleted");
    next.is_some_and(|told| says(told.event)) || end.is_some_and(|told| says(told.event))
}

/// The events before and after a version, for people.
fn around(events: &[&Told<'_>], version: u64) -> String {
    let split = events.partition_point(|told| sequence_version(told.sequence) < Some(version));
    let show = |told: &&Told<'_>| {
        let gap = if told.event.attribute("gap") == "true" { " gap" } else { "" };
        format!(
            "{} {} by {}{gap}",
            told.event.change(),
            told.event.attribute("id"),
            told.event.attribute("reason")
        )
    };
    let before = split.checked_sub(1).and_then(|before| events.get(before)).map_or("nothing".into(), show);
    let after = events.get(split).map_or("nothing".into(), show);
    format!("({before}) and ({after})")
}
