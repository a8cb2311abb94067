//! An API server as `facts/kubernetes-watch.md` describes it (the numbers K1 to K20 are from there): one revision for
//! everything, a bounded watch history per kind, and every way in which it fails.

#[path = "api_server/answer.rs"]
pub(crate) mod answer;
#[path = "api_server/body.rs"]
pub(crate) mod body;
#[path = "api_server/lists.rs"]
pub(crate) mod lists;
#[path = "api_server/shown.rs"]
pub(crate) mod shown;
#[path = "api_server/streams.rs"]
pub(crate) mod streams;
#[path = "api_server/upheavals.rs"]
pub(crate) mod upheavals;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use crate::etcd::{Etcd, Version};
use crate::trace::Trace;
use shown::Shown;
use streams::{End, Line, Watcher};

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct ApiServer(Arc<Mutex<Inner>>);

pub(crate) struct Inner {
    pub(crate) etcd: Etcd,
    pub(crate) caches: [Cache; 2],
    pub(crate) weather: Weather,
    pub(crate) trace: Trace,
    rng: Rng,
    watchers: BTreeMap<u64, Watcher>,
    next_watcher: u64,
    /// Kinds that nobody opened a stream on since the last rewind. Nothing is written while `held`.
    unnoticed: [bool; 2],
    held: bool,
}

/// The watch cache of one kind.
pub(crate) struct Cache {
    /// Its CRD is there.
    pub(crate) served: bool,
    /// A watch from before this revision gets 410 (K4: what the cache was filled at, or the newest it dropped).
    floor: u64,
    /// Most events that are kept (K2).
    window: usize,
    ring: VecDeque<u64>,
    pub(crate) shown: Shown,
}

/// How bad it is.
pub(crate) struct Weather {
    /// The part of requests and streams that something happens to.
    pub(crate) rate: f64,
    pub(crate) down: bool,
    /// The cache is being filled (K15).
    unready_until: Instant,
    pub(crate) streaming: Streaming,
}

/// What the server makes of `sendInitialEvents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streaming {
    /// It does it.
    Done,
    /// 422: the feature is off.
    Refused,
    /// It is too old to know the parameter, and streams without the mark.
    NotUnderstood,
}

// === impl ApiServer ===

impl ApiServer {
    pub(crate) fn new(mut rng: Rng, trace: Trace) -> Self {
        let etcd = Etcd::new();
        let window = rng.usize(5..60);
        let streaming = match rng.u32(0..10) {
            0..7 => Streaming::Done,
            7..9 => Streaming::Refused,
            _ => Streaming::NotUnderstood,
        };
        let cache = || Cache {
            served: true,
            floor: etcd.revision,
            window,
            ring: VecDeque::new(),
            shown: Shown::default(),
        };
        let caches = [cache(), cache()];
        let weather = Weather { rate: 0.0, down: false, unready_until: Instant::now(), streaming };
        let (watchers, next_watcher) = (BTreeMap::new(), 0);
        Self(Arc::new(Mutex::new(Inner {
            etcd,
            caches,
            weather,
            trace,
            rng,
            watchers,
            next_watcher,
            unnoticed: [false; 2],
            held: false,
        })))
    }

    /// Never held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Bookmarks, timeouts, and what befalls streams; for ever.
    pub(crate) async fn tick(self) {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            self.lock().tick();
        }
    }

    /// Goes down, and comes back with empty caches (K4). Another server may take writes meanwhile.
    pub(crate) fn restart(&self, after: Duration) {
        self.lock().go_down();
        let server = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            server.lock().come_up();
        });
    }

    /// The CRD goes, with every object, and comes back (K5).
    pub(crate) fn replace_crd(&self, kind: usize, after: Duration) {
        self.lock().remove_crd(kind);
        let server = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            server.lock().bring_crd(kind);
        });
    }
}

// === impl Inner ===

impl Inner {
    pub(crate) fn put(&mut self, kind: usize, namespace: &'static str, name: &'static str, spec: &str) {
        if self.caches[kind].served && !self.held {
            let version = self.etcd.put(kind, namespace, name, spec);
            self.publish(&version);
        }
    }

    pub(crate) fn delete(&mut self, kind: usize, key: &str) {
        if !self.held
            && let Some(version) = self.etcd.delete(kind, key)
        {
            self.publish(&version);
        }
    }

    /// Something else in the cluster changes.
    pub(crate) fn write_elsewhere(&mut self) {
        if !self.held {
            self.etcd.revision += 1;
        }
    }

    /// Hands a version to who watches.
    fn publish(&mut self, version: &Arc<Version>) {
        let verb = match version {
            version if version.deleted => "DELETED",
            version if version.created => "ADDED",
            _ => "MODIFIED",
        };
        self.trace.written();
        self.trace.say(|| {
            let Version { kind, key, uid, revision, .. } = &**version;
            format!("write {verb} {kind} {key} {} at {revision}", crate::short(uid))
        });
        let cache = &mut self.caches[version.kind];
        cache.ring.push_back(version.revision);
        cache.trim();
        let line = Line::object(verb, version);
        let ids = self.watchers.iter().filter(|(_, watcher)| watcher.wants(version));
        let ids: Vec<_> = ids.map(|(id, _)| *id).collect();
        for id in ids {
            self.push(id, line.clone());
        }
    }

    fn tick(&mut self) {
        let ids: Vec<_> = self.watchers.keys().copied().collect();
        for id in ids {
            let revision = self.etcd.revision;
            let Some(watcher) = self.watchers.get(&id) else { continue };
            if watcher.is_over() {
                self.end(id, End::Cleanly);
            } else if self.rng.f64() < self.weather.rate * 0.2 {
                self.befall(id);
            } else if self.rng.u32(0..4) == 0 {
                let line = Line::bookmark(watcher.kind, revision, false);
                self.push(id, line);
            }
        }
    }

    /// Whether something happens to this request, by the weather.
    fn strikes(&mut self) -> bool {
        self.rng.f64() < self.weather.rate
    }
}

// === impl Cache ===

impl Cache {
    /// A new cache, filled at this revision.
    fn refill(&mut self, revision: u64) {
        self.floor = revision;
        self.ring.clear();
    }

    fn trim(&mut self) {
        while self.ring.len() > self.window {
            self.floor = self.floor.max(self.ring.pop_front().unwrap_or_default());
        }
    }
}
