//! What happens to the whole server, or to a kind: restarts, CRDs that change or go, history that is lost or goes back.

use std::time::Duration;

use tokio::time::Instant;

use super::Inner;
use super::streams::End;
use crate::trace::Fault;

// === impl Inner ===

impl Inner {
    pub(crate) fn shrink_window(&mut self, kind: usize, to: usize) {
        self.trace.fault(Fault::WindowShrinks, || format!("kind {kind} to {to}"));
        self.caches[kind].window = to;
        self.caches[kind].trim();
    }

    pub(crate) fn compact(&mut self) {
        let to = self.rng.u64(self.etcd.compacted..=self.etcd.revision);
        self.trace.fault(Fault::Compaction, || format!("to {to}"));
        self.etcd.compacted = to;
    }

    /// The CRD is edited: its watchers are ended, its cache is made anew (K5).
    pub(crate) fn edit_crd(&mut self, kind: usize) {
        if !self.caches[kind].served {
            return;
        }
        self.trace.fault(Fault::CrdEdited, || format!("kind {kind}"));
        self.etcd.revision += 1;
        self.end_streams(|watcher| watcher.kind == kind);
        self.caches[kind].refill(self.etcd.revision);
    }

    /// Etcd is restored from a backup of `back` revisions ago. Nothing is written before [`Inner::resume_writes`].
    pub(crate) fn rewind(&mut self, back: u64) {
        let to = self.etcd.revision.saturating_sub(back).max(100);
        self.trace.fault(Fault::Rewind, || format!("from {} to {to}", self.etcd.revision));
        self.end_streams(|_| true);
        (self.unnoticed, self.held) = ([true; 2], true);
        self.etcd.rewind(to);
        for cache in &mut self.caches {
            cache.refill(to);
            cache.shown.rewound(to);
        }
    }

    /// Whether a stream was opened on the kind since the last rewind.
    pub(crate) fn has_noticed(&self, kind: usize) -> bool {
        !self.unnoticed[kind]
    }

    /// Writes are taken again after a rewind.
    pub(crate) fn resume_writes(&mut self) {
        self.held = false;
    }

    /// Everything works from now on.
    pub(crate) fn calm(&mut self) {
        self.weather.rate = 0.0;
        if self.weather.down {
            self.come_up();
        }
        for kind in 0..self.caches.len() {
            self.bring_crd(kind);
        }
        let streams: Vec<_> = self.watchers.iter().filter(|(_, w)| w.is_bad()).map(|(id, _)| *id).collect();
        for id in streams {
            self.end(id, End::Cleanly);
        }
    }

    pub(super) fn go_down(&mut self) {
        if !self.weather.down {
            self.trace.fault(Fault::ApiServerRestart, String::new);
            self.weather.down = true;
            self.end_streams(|_| true);
        }
    }

    pub(super) fn come_up(&mut self) {
        if self.weather.down {
            let unready = Duration::from_millis(self.rng.u64(0..1500));
            self.weather.down = false;
            self.weather.unready_until = Instant::now() + unready;
            for cache in &mut self.caches {
                cache.refill(self.etcd.revision);
            }
            self.trace.say(|| format!("api server is up at {}", self.etcd.revision));
        }
    }

    pub(super) fn remove_crd(&mut self, kind: usize) {
        if !self.caches[kind].served {
            return;
        }
        self.trace.fault(Fault::CrdRemoved, || format!("kind {kind}"));
        if self.rng.bool() {
            // Nobody sees the deletes.
            self.end_streams(|watcher| watcher.kind == kind);
        }
        let keys = self.etcd.objects.keys().filter(|(of, _)| *of == kind);
        let keys: Vec<_> = keys.map(|(_, key)| key.clone()).collect();
        for key in keys {
            self.delete(kind, &key);
        }
        self.caches[kind].served = false;
        self.end_streams(|watcher| watcher.kind == kind);
    }

    pub(super) fn bring_crd(&mut self, kind: usize) {
        if !self.caches[kind].served {
            self.caches[kind].served = true;
            self.caches[kind].refill(self.etcd.revision);
            self.trace.say(|| format!("the CRD of kind {kind} is back"));
        }
    }
}
