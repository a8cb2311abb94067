//! A cluster, a broker, the bridge between them, and the Subscriptions it serves.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use tidings_core::object::ResourceVersion;
use tidings_core::route::Namespaces;

use crate::api_server::ApiServer;
use crate::broker::Broker;
use crate::coverage;
use crate::disk::Disk;
use crate::etcd::KINDS;
use crate::process::{Order, Process, Sizes};
use crate::subscription::{Subscription, selections};
use crate::topic::Topic;
use crate::trace::{Fault, Trace};

/// When every schedule begins, in milliseconds since 1970: epochs are made of it.
const BEGINNING: u64 = 1_790_000_000_000;

/// Memory for everything a schedule can bring, in bytes.
const PLENTY: usize = 8 << 20;

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) server: ApiServer,
    pub(crate) broker: Broker,
    pub(crate) subscriptions: BTreeMap<usize, Subscription>,
    pub(crate) process: Option<Process>,
    pub(crate) disk: Disk,
    sizes: Sizes,
    lives: u64,
}

// === impl World ===

impl World {
    pub(crate) fn new(mut rng: Rng, trace: Trace, server: ApiServer, broker: Broker) -> Self {
        let tight = rng.u32(0..3) == 0;
        let sizes = Sizes {
            journal: if tight { rng.usize(4..24) << 10 } else { PLENTY },
            ring: if rng.u32(0..4) == 0 { rng.usize(1..8) << 10 } else { 1 << 20 },
            page: rng.u32(2..8),
            window: rng.usize(1..64),
            requests: [0, 3, 20, 1000, 1000, 1000][rng.usize(0..6)],
            patience: Duration::from_millis(if rng.u32(0..4) == 0 { rng.u64(100..3000) } else { 30_000 }),
        };
        trace.say(|| format!("{sizes:?}"));
        let disk = Disk::new(rng.fork(), trace.clone(), 4 << 30);
        let (subscriptions, process, lives) = (BTreeMap::new(), None, 0);
        Self { rng, trace, server, broker, subscriptions, process, disk, sizes, lives }
    }

    /// So many Messages may be under way, from the next process on.
    pub(crate) fn set_window(&mut self, window: usize) {
        self.sizes.window = window;
    }

    /// Starts a process, and has it serve what there is. `clean`: the one before ended in good order.
    pub(crate) fn start(&mut self, clean: bool) {
        let now = BEGINNING + u64::try_from(self.trace.elapsed().as_millis()).unwrap();
        self.trace.say(|| "the bridge starts".to_owned());
        let exist = self.subscriptions.values().map(|subscription| subscription.uid.clone()).collect();
        let trace = self.trace.clone();
        let process = Process::start(&self.server, &self.disk, self.sizes, now, exist, trace);
        for subscription in self.subscriptions.values() {
            let target = self.broker.target(&subscription.uid, self.sizes.window, &process.fence);
            process.order(Order::Add(subscription.route(), target));
        }
        let inner = &mut *self.server.lock();
        for (kind, cache) in inner.caches.iter_mut().enumerate() {
            cache.shown.restart(self.disk.position(kind));
        }
        self.broker.restart(clean, inner.etcd.revision);
        for owed in self.subscriptions.values_mut().flat_map(|subscription| &mut subscription.owed) {
            owed.seen_joined = false;
        }
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
        self.process = Some(process);
    }

    /// A Subscription is created.
    pub(crate) fn join(&mut self, index: usize) {
        let selections = selections(&mut self.rng);
        self.join_as(index, selections);
    }

    /// The same, which selects this.
    pub(crate) fn join_as(&mut self, index: usize, selections: BTreeMap<usize, Namespaces>) {
        self.lives += 1;
        let (uid, name) = (format!("uid-{index}-{}", self.lives).into(), format!("test/s{index}"));
        let mut subscription =
            Subscription { uid, name, generation: 1, selections, owed: Vec::new(), left: Vec::new() };
        subscription.owe();
        self.trace.fault(Fault::Join, || subscription.to_string());
        if let Some(process) = &self.process {
            let target = self.broker.target(&subscription.uid, self.sizes.window, &process.fence);
            process.order(Order::Add(subscription.route(), target));
        }
        self.subscriptions.insert(index, subscription);
    }

    /// Its owner selects something else.
    pub(crate) fn edit(&mut self, index: usize) {
        if self.subscriptions.contains_key(&index) {
            let selections = selections(&mut self.rng);
            self.edit_to(index, selections);
        }
    }

    /// Its owner selects this.
    pub(crate) fn edit_to(&mut self, index: usize, selections: BTreeMap<usize, Namespaces>) {
        let Some(subscription) = self.subscriptions.get_mut(&index) else { return };
        subscription.generation += 1;
        let before = std::mem::replace(&mut subscription.selections, selections);
        for kind in before.into_keys().filter(|kind| !subscription.selections.contains_key(kind)) {
            subscription.left.push(kind);
        }
        subscription.owe();
        self.trace.fault(Fault::Edit, || subscription.to_string());
        if let Some(process) = &self.process {
            process.order(Order::Edit(subscription.route(), None));
        }
        self.note_left();
    }

    /// The connection to the broker is made anew, to the same place.
    pub(crate) fn retarget(&mut self, index: usize) {
        let Some(subscription) = self.subscriptions.get_mut(&index) else { return };
        let Some(process) = &self.process else { return };
        subscription.generation += 1;
        self.trace.fault(Fault::Retarget, || subscription.to_string());
        let target = self.broker.target(&subscription.uid, self.sizes.window, &process.fence);
        process.order(Order::Edit(subscription.route(), Some(target)));
    }

    /// It is deleted.
    pub(crate) fn leave(&mut self, index: usize) {
        let Some(subscription) = self.subscriptions.remove(&index) else { return };
        self.trace.fault(Fault::Leave, || subscription.to_string());
        self.note_left();
        if let Some(process) = &self.process {
            process.order(Order::Remove(subscription.uid));
        }
    }

    fn note_left(&self) {
        let inner = &mut *self.server.lock();
        for (kind, cache) in inner.caches.iter_mut().enumerate() {
            if self.subscriptions.values().all(|subscription| !subscription.selections.contains_key(&kind)) {
                cache.shown.left();
            }
        }
    }

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

    /// Whether memory may be full at times.
    pub(crate) fn is_tight(&self) -> bool {
        self.sizes.journal < PLENTY
    }

    /// From now on nothing that is written reaches the disk.
    pub(crate) fn hold_back(&self) {
        self.disk.hold_back();
        self.broker.with_topics(Topic::hold_back);
    }

    /// What was written since is gone. Whoever was told since that they have everything may have to be told anew.
    pub(crate) fn lose(&mut self) {
        self.disk.lose();
        self.broker.with_topics(Topic::lose);
        for owed in self.subscriptions.values_mut().flat_map(|subscription| &mut subscription.owed) {
            owed.joined = None;
        }
    }

    /// Etcd is restored from a backup.
    pub(crate) fn rewind(&mut self, back: u64) {
        let inner = &mut *self.server.lock();
        inner.rewind(back);
        for owed in self.subscriptions.values_mut().flat_map(|subscription| &mut subscription.owed) {
            owed.joined = owed.joined.map(|joined| joined.min(inner.etcd.revision));
        }
    }

    /// Whether every Watch has asked again since the last rewind.
    pub(crate) fn has_noticed(&self) -> bool {
        let inner = self.server.lock();
        let mut kinds = self.subscriptions.values().flat_map(|subscription| subscription.selections.keys());
        kinds.all(|kind| inner.has_noticed(*kind))
    }

    /// Waits, unless the process dies meanwhile.
    pub(crate) async fn pause(&mut self, pause: Duration) {
        let sleep = tokio::time::sleep(pause);
        match &self.process {
            None => sleep.await,
            Some(process) => tokio::select! {
                biased;
                () = process.fence.closed() => {}
                () = sleep => {}
            },
        }
    }
}
