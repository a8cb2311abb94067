//! No change is lost: every committed version is told, or lies in a gap that was said aloud.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_core::change::ChangeKind;

use crate::api_server::shown::Shown;
use crate::etcd::{Etcd, NAMESPACES, Version};
use crate::event::Event;
use crate::topic::Topic;

/// What a Subscription is owed of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Owed {
    pub(crate) kind: usize,
    /// It was told everything that existed at this revision; none while it still is.
    pub(crate) joined: Option<u64>,
    /// It was seen to be joined once.
    pub(crate) seen_joined: bool,
    /// Namespaces that were selected since it joined, without a break.
    pub(crate) steady: Vec<&'static str>,
}

/// Says what is missing in `topic` up to and including the revision `up_to`.
pub(crate) fn missing(
    topic: &Topic,
    owed: &Owed,
    etcd: &Etcd,
    shown: &Shown,
    up_to: u64,
) -> Result<(), String> {
    let none = Vec::new();
    let mut written: BTreeMap<&str, Vec<&Arc<Version>>> = BTreeMap::new();
    for version in etcd.log.iter().filter(|version| version.kind == owed.kind) {
        written.entry(&version.key).or_default().push(version);
    }
    for ((_, key), told) in topic.told.iter().filter(|((kind, _), _)| *kind == owed.kind) {
        for pair in told.windows(2) {
            follows(&pair[0], &pair[1], told, etcd)?;
        }
        if let Some(first) = told.first() {
            begins(first, etcd)?;
        }
        written.entry(key).or_default();
    }
    let Some(joined) = owed.joined else { return Ok(()) };
    for (key, versions) in written {
        if owed.steady.iter().any(|namespace| key.starts_with(&format!("{namespace}/"))) {
            let told = topic.told.get(&(owed.kind, key.to_owned())).unwrap_or(&none);
            complete(told, &versions, joined.max(first_told(told)), up_to, shown)?;
        }
    }
    Ok(())
}

/// The namespaces, for a selection.
pub(crate) fn selected(selects: impl Fn(&str) -> bool) -> Vec<&'static str> {
    NAMESPACES.into_iter().filter(|namespace| selects(namespace)).collect()
}

/// From here on a name is owed whatever happens to it: before, the Subscription joined.
fn first_told(told: &[Event]) -> u64 {
    told.first().map_or(0, |first| if first.enters() { first.revision } else { 0 })
}

/// What claims no gap follows directly on what was told of the same life before, but for what was `told` still earlier: a
/// crash can make it go back to what comes before that.
fn follows(before: &Event, event: &Event, told: &[Event], etcd: &Etcd) -> Result<(), String> {
    if event.gap || event.enters() || event.change == ChangeKind::Left {
        return Ok(());
    }
    if event.change == ChangeKind::Added {
        return begins(event, etcd);
    }
    if before.epoch != event.epoch || before.uid != event.uid {
        return Ok(());
    }
    let has = |history: &Vec<Arc<Version>>, event: &Event| {
        history.iter().any(|version| version.uid == event.uid && version.text == event.data)
    };
    let Some(history) = etcd.histories().find(|history| has(history, before) && has(history, event)) else {
        return Ok(());
    };
    let is_told = |version: &Version| {
        told.iter().any(|told| told.uid == version.uid && told.revision == version.revision)
    };
    let between = |version: &&Arc<Version>| {
        let between = (before.revision + 1..event.revision).contains(&version.revision);
        version.uid == event.uid && between && !is_told(version)
    };
    match history.iter().find(between) {
        Some(skipped) => {
            Err(format!("{} was skipped without a word between {before} and {event}", skipped.revision))
        }
        None => Ok(()),
    }
}

/// What is told as new, with no gap, is new.
fn begins(event: &Event, etcd: &Etcd) -> Result<(), String> {
    if event.change != ChangeKind::Added || event.gap || event.enters() {
        return Ok(());
    }
    if etcd.find(&event.uid, event.revision).iter().any(|version| version.created) {
        return Ok(());
    }
    Err(format!("{event} is not the first version of its life, and claims no gap"))
}

/// Every version after `joined` is told, or followed by an Event that says that something is missing, or belongs to
/// a life that came and went in a stretch of history nobody could show.
fn complete(
    told: &[Event],
    versions: &[&Arc<Version>],
    joined: u64,
    up_to: u64,
    shown: &Shown,
) -> Result<(), String> {
    // A life that a rewind brought back, and that nobody was told of again, begins with what happened to it then.
    let ended = |uid: &str| told.iter().any(|event| event.uid == uid && event.change == ChangeKind::Deleted);
    // What was told of a history that was given up says nothing about this one.
    let is_present = |event: &&Event| {
        let mut same = versions.iter().filter(|version| version.revision == event.revision);
        event.concluded || same.any(|version| version.uid == event.uid && version.text == event.data)
    };
    let present: Vec<_> = told.iter().filter(is_present).collect();
    for version in versions.iter().filter(|version| version.revision > joined && version.revision <= up_to) {
        let is_told = |event: &&Event| {
            event.uid == version.uid
                && (event.revision == version.revision && !event.concluded
                    || event.change == ChangeKind::Deleted && version.deleted)
        };
        if present.iter().copied().any(|event| is_told(&event)) {
            continue;
        }
        let next = present.iter().filter(|event| event.revision >= version.revision || event.concluded);
        let mut next = next.filter(|event| event.uid == version.uid || event.revision >= version.revision);
        if next.next().is_some_and(|event| event.gap) {
            continue;
        }
        let life = || versions.iter().filter(|other| other.uid == version.uid);
        let first = life().next().map_or(0, |version| version.revision);
        let first = if ended(&version.uid) { version.revision } else { first };
        let last = life().find(|version| version.deleted).map_or(u64::MAX, |version| version.revision);
        if shown.may_have_missed(first, last) {
            continue;
        }
        return Err(format!(
            "version {} of {} is lost; told: {}",
            version.revision,
            version.key,
            list(&present)
        ));
    }
    Ok(())
}

fn list(told: &[&Event]) -> String {
    told.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
