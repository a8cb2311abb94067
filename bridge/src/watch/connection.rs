//! The connection to one resource: which job runs, and which comes next.
//!
//! Before: bridge/src/watch/driver.rs
//! Next: bridge/src/watch/reader.rs

use std::time::Duration;

use tidings_core::known::Slot;
use tidings_core::route::Resource;
use tidings_core::watch::backfill::Ask;
use tidings_core::watch::{Input, Plan, Watch};
use tokio::task::AbortHandle;

use super::WatchContext;
use super::backfill::Asks;
use super::lists::Lists;
use super::reader::{Job, Reader};
use super::request::Endpoint;
use super::ring::RingSender;
use super::scan::TypeMeta;
use crate::clock;
use crate::metrics::WatchMetrics;

/// The connection to one resource.
pub(super) struct Connection {
    endpoint: Endpoint,
    type_meta: TypeMeta,
    pub(super) metrics: WatchMetrics,
    ring: RingSender,
    pub(super) lists: Lists,
    pub(super) asks: Asks,
    reader: Option<AbortHandle>,
    pub(super) job: Job,
    pub(super) run: u64,
    /// Failures in a row.
    pub(super) failures: u32,
    /// The position was compared with the server's since the last stream ended.
    pub(super) probed: bool,
    /// The next snapshot is read by pages.
    pub(super) by_pages: bool,
    /// The server does not know how to stream the present state.
    pub(super) never_streams: bool,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(context: &WatchContext, resource: &Resource, ring: RingSender, lists: Lists) -> Self {
        let namespace = context.namespace.as_deref().filter(|_| resource.namespaced);
        let endpoint = Endpoint::new(context.client.clone(), resource, namespace);
        let type_meta = TypeMeta { api_version: resource.api_version(), kind: resource.kind.clone() };
        Self {
            asks: Asks::new(endpoint.clone(), type_meta.clone(), context.settings),
            endpoint,
            type_meta,
            metrics: context.metrics.watch(&resource.to_string()),
            ring,
            lists,
            reader: None,
            job: Job::Stream,
            run: 0,
            failures: 0,
            probed: false,
            by_pages: false,
            never_streams: false,
        }
    }

    /// Starts what the machine's plan asks for, in the place of a job that may be under way. `after` is the server's
    /// own wish.
    pub(super) fn start(&mut self, machine: &Watch, context: &WatchContext, after: Duration) {
        let settings = context.settings;
        let (job, backoff) = match machine.plan() {
            Plan::Resume(version) if self.probed => (Job::Resume(version), settings.reconnect),
            Plan::Resume(_) => (Job::Probe { since: machine.newest() }, settings.reconnect),
            Plan::Snapshot if self.never_streams || self.by_pages => (Job::List, settings.relist),
            Plan::Snapshot => (Job::Stream, settings.relist),
        };
        // What follows a probe follows at once: the probe has waited, and its answer does not stay true.
        let at_once = self.failures == 0 || matches!(job, Job::Resume(_));
        let delay = if at_once { Duration::ZERO } else { backoff.delay(self.failures, clock::jitter()) };
        self.run += 1;
        self.job = job;
        let reader = Reader {
            endpoint: self.endpoint.clone(),
            type_meta: self.type_meta.clone(),
            settings,
            ring: self.ring.clone(),
            run: self.run,
        };
        if let Some(previous) = self.reader.take() {
            previous.abort();
        }
        self.reader = Some(tokio::spawn(reader.run(job, delay.max(after))).abort_handle());
    }

    pub(super) fn list(&mut self, slot: Slot, list: u32, context: &WatchContext) {
        self.lists.start(slot, list, self.endpoint.clone(), self.type_meta.clone(), context.settings);
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        self.metrics.backfill_requests.inc();
        self.asks.push(ask);
    }

    /// Something came: the server is well, and this is counted.
    pub(super) fn note(&mut self, input: &Input) {
        match input {
            Input::Present(_) | Input::Deleted(_) => {
                self.metrics.received.inc();
                self.failures = 0;
            }
            Input::Bookmark(_) | Input::SnapshotComplete(_) => self.failures = 0,
            _ => {}
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}
