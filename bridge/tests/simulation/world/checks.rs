//! What has to hold of the whole world, while it runs and at rest.

use std::collections::BTreeMap;

use tidings_core::object::ResourceVersion;

use super::World;
use crate::coverage;
use crate::etcd::KINDS;

// === impl World ===

impl World {
    /// Looks at what the process says of itself, and holds it against the truth.
    pub(crate) fn observe(&mut self, thoroughly: bool) {
        let Some(process) = &self.process else { return };
        let inner = self.server.lock();
        for subscription in self.subscriptions.values_mut() {
            let Some(report) = process.report(&subscription.uid) else { continue };
            for source in &report.watches {
                let index = KINDS.iter().position(|kind| kind.group == source.kind.group);
                let Some(owed) = subscription.owed.iter_mut().find(|owed| Some(owed.kind) == index) else {
                    continue;
                };
                let (settled, position) = (source.settled, source.watch.position);
                if settled.is_some()
                    && !source.joining
                    && owed.joined.is_none()
                    && !subscription.left.contains(&owed.kind)
                {
                    // The second look: the first may have been before it was taken in. What was told and not stored
                    // is told anew after a crash, as it is then.
                    if owed.seen_joined && self.disk.has_joined(owed.kind, &subscription.uid) {
                        owed.joined = Some(inner.etcd.revision);
                    }
                    owed.seen_joined = true;
                }
                if inner.etcd.rewinds() > 0 {
                    // Versions of two histories do not compare.
                    continue;
                }
                let newest = ResourceVersion(inner.etcd.revision);
                if settled.max(position) > Some(newest) {
                    self.trace.complain(format!(
                        "{settled:?} or {position:?} is later than the newest version {newest}"
                    ));
                }
                if thoroughly && let Some(settled) = settled {
                    let shown = &inner.caches[owed.kind].shown;
                    let missing = self.broker.with_topic(&subscription.uid, |topic| {
                        coverage::missing(topic, owed, &inner.etcd, shown, settled.0)
                    });
                    if let Err(missing) = missing {
                        self.trace.complain(format!(
                            "{}: everything up to {settled} is said to be settled: {missing}",
                            subscription.uid
                        ));
                    }
                }
            }
        }
    }

    /// Whether everything is told and settled; what is still under way, if not.
    pub(crate) fn at_rest(&self) -> Result<(), String> {
        let process = self.process.as_ref().ok_or("no process runs")?;
        let inner = self.server.lock();
        let follow =
            |kind: &usize| self.subscriptions.values().filter(|s| s.selections.contains_key(kind)).count();
        let followed = (0..KINDS.len()).filter(|kind| follow(kind) > 0).count();
        if process.watches() != followed {
            return Err(format!("{} Watches run, and {followed} kinds are followed", process.watches()));
        }
        for subscription in self.subscriptions.values() {
            let report = process.report(&subscription.uid).ok_or("no report")?;
            if report.lane.pending > 0
                || report.lane.oldest.is_some()
                || report.watches.len() != subscription.selections.len()
            {
                return Err(format!("{subscription}: {report:?}"));
            }
            for source in &report.watches {
                let kind = KINDS.iter().position(|kind| kind.group == source.kind.group);
                let last = inner.etcd.log.iter().rev().find(|version| Some(version.kind) == kind);
                let last = ResourceVersion(last.map_or(0, |version| version.revision));
                let followers = kind.map_or(0, |kind| follow(&kind));
                if source.joining
                    || source.watch.lanes != followers
                    || source.settled.is_none_or(|settled| settled < last)
                    || source.settled != source.watch.position
                {
                    return Err(format!("{subscription}: {source:?}, and the last version is {last}"));
                }
            }
        }
        if process.memory.used() > 0 {
            return Err(format!("the journal holds {} bytes", process.memory.used()));
        }
        Ok(())
    }

    /// What has to hold at rest: nothing is missing, and who folds the topic holds what the cluster holds.
    pub(crate) fn check(&self) -> Result<(), String> {
        let inner = self.server.lock();
        for subscription in self.subscriptions.values() {
            let uid = &subscription.uid;
            for owed in &subscription.owed {
                let shown = &inner.caches[owed.kind].shown;
                let check = |topic: &mut _| coverage::missing(topic, owed, &inner.etcd, shown, u64::MAX);
                self.broker.with_topic(uid, check).map_err(|missing| format!("{uid}: {missing}"))?;
            }
            let expected = inner
                .etcd
                .objects
                .iter()
                .filter(|((kind, _), object)| subscription.selects(*kind, object.namespace));
            let expected: BTreeMap<_, _> =
                expected.map(|(place, object)| (place.clone(), object.text.clone())).collect();
            let mut held = self.broker.with_topic(uid, |topic| topic.state());
            // Nobody knows any more that this was told.
            let ghosts = self.broker.with_topic(uid, |topic| topic.ghosts.clone());
            held.retain(|place, _| expected.contains_key(place) || !ghosts.contains(place));
            for place in expected.keys().chain(held.keys()) {
                let (expected, held) = (expected.get(place), held.get(place));
                if expected != held {
                    return Err(format!(
                        "{uid}: of {place:?} the cluster holds {expected:?}, and a consumer {held:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// What is stored as settled was told.
    pub(super) fn check_stored(&self) {
        let inner = &*self.server.lock();
        if inner.etcd.rewinds() == 0 {
            for (kind, cache) in inner.caches.iter().enumerate() {
                for (uid, settled) in self.disk.settled(kind) {
                    let mut subscriptions = self.subscriptions.values();
                    let subscription = subscriptions.find(|subscription| subscription.uid == uid);
                    let owed = subscription.and_then(|s| s.owed.iter().find(|owed| owed.kind == kind));
                    let (Some(owed), Some(settled)) = (owed, settled) else { continue };
                    let missing = self.broker.with_topic(&uid, |topic| {
                        coverage::missing(topic, owed, &inner.etcd, &cache.shown, settled.0)
                    });
                    if let Err(missing) = missing {
                        self.trace.complain(format!("{uid}: {settled} is stored as settled: {missing}"));
                    }
                }
            }
        }
    }
}
