//! A cluster, a broker, the bridge between them, and the Subscriptions it serves.

#[path = "world/checks.rs"]
mod checks;

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use tidings_core::selection::Namespaces;

use crate::api_server::ApiServer;
use crate::broker::Broker;
use crate::disk::Disk;
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
    /// Processes crash.
    pub(crate) mortal: bool,
    sizes: Sizes,
    lives: u64,
    /// The newest revision when the last process began after a crash.
    begun: u64,
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
            waiting: if tight { rng.usize(8..64) << 10 } else { 16 << 20 },
            requests: [0, 3, 20, 1000, 1000, 1000][rng.usize(0..6)],
            patience: Duration::from_millis(if rng.u32(0..4) == 0 { rng.u64(100..3000) } else { 30_000 }),
        };
        trace.say(|| format!("{sizes:?}"));
        let disk = Disk::new(rng.fork(), trace.clone(), 4 << 30);
        let (subscriptions, process, mortal, lives) = (BTreeMap::new(), None, true, 0);
        Self { rng, trace, server, broker, subscriptions, process, disk, mortal, sizes, lives, begun: 0 }
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
        let mut guard = self.server.lock();
        let inner = &mut *guard;
        if !clean {
            self.begun = inner.etcd.revision;
        }
        for (kind, cache) in inner.caches.iter_mut().enumerate() {
            cache.shown.restart(self.disk.position(kind));
        }
        self.broker.restart(clean, inner.etcd.revision);
        for owed in self.subscriptions.values_mut().flat_map(|subscription| &mut subscription.owed) {
            owed.seen_joined = false;
        }
        drop(guard);
        self.check_stored();
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

    /// Whether memory may be full at times.
    pub(crate) fn is_tight(&self) -> bool {
        self.sizes.journal < PLENTY
    }

    /// From now on nothing that is written reaches the disk.
    pub(crate) fn hold_back(&self) {
        self.disk.hold_back();
        for subscription in self.subscriptions.values() {
            // Also where nothing was told yet.
            self.broker.with_topic(&subscription.uid, |_| ());
        }
        self.broker.with_topics(Topic::hold_back);
    }

    /// What was written since is gone. Whoever was told since that they have everything may have to be told anew.
    pub(crate) fn lose(&mut self) {
        let with_told = self.disk.lose();
        self.broker.with_topics(|topic| topic.lose(with_told));
        for owed in self.subscriptions.values_mut().flat_map(|subscription| &mut subscription.owed) {
            owed.joined = None;
        }
    }

    /// Whether everything is stored that may have been told before the last crash.
    pub(crate) fn has_recovered(&self) -> bool {
        let mut kinds = self.subscriptions.values().flat_map(|subscription| subscription.selections.keys());
        kinds.all(|kind| self.disk.position(*kind).is_some_and(|position| position >= self.begun))
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
