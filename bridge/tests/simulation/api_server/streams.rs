//! The streams of a watch, as bytes: chunks that end anywhere, and streams that end badly.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Inner;
use crate::etcd::{KINDS, Version};
use crate::trace::Fault;

/// A watcher that has this many changes waiting is closed (K8).
const SLOTS: usize = 20;

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As when its time is up.
    Cleanly,
    /// The connection breaks between two lines.
    Broken,
    /// The body ends inside a line, and the connection too, or not.
    Torn { broken: bool },
}

/// One line.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) text: Bytes,
    /// Who has read it has everything up to here.
    pub(super) reaches: Option<u64>,
    /// It ends the initial state.
    pub(super) completes: bool,
    /// It came after the stream was opened.
    pub(super) live: bool,
}

/// One open stream, as the server sees it.
pub(super) struct Watcher {
    pub(super) kind: usize,
    namespace: Option<String>,
    /// Only what is later is sent, also where this lies in the future (K7).
    after: u64,
    pub(super) queue: VecDeque<Line>,
    pub(super) end: Option<End>,
    pub(super) waker: Option<Waker>,
    deadline: Instant,
    /// Pause between two chunks.
    pub(super) pace: Duration,
    pub(super) stalled_until: Instant,
    /// Nothing more is ever sent.
    pub(super) silent: bool,
    /// It resumes, and has sent nothing yet.
    pub(super) empty: Option<bool>,
}

// === impl Line ===

impl Line {
    /// As it comes live; initial ones are made of it.
    pub(super) fn object(verb: &str, version: &Version) -> Self {
        let text = std::str::from_utf8(&version.text).unwrap();
        let text = format!("{{\"type\":\"{verb}\",\"object\":{text}}}\n").into();
        Self { text, reaches: Some(version.revision), completes: false, live: true }
    }

    /// An object of the initial state, or of the replayed history.
    pub(super) fn early(self, reaches: bool) -> Self {
        Self { live: false, reaches: self.reaches.filter(|_| reaches), ..self }
    }

    pub(super) fn bookmark(kind: usize, revision: u64, completes: bool) -> Self {
        let (group, name) = (KINDS[kind].group, KINDS[kind].name);
        let mark = if completes { r#","annotations":{"k8s.io/initial-events-end":"true"}"# } else { "" };
        let text = format!(
            "{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"{name}\",\"apiVersion\":\"{group}/v1\",\"metadata\":{{\
             \"resourceVersion\":\"{revision}\",\"creationTimestamp\":null{mark}}}}}}}\n"
        );
        Self { text: text.into(), reaches: Some(revision), completes, live: false }
    }
}

// === impl Watcher ===

impl Watcher {
    pub(super) fn wants(&self, version: &Version) -> bool {
        self.kind == version.kind
            && version.revision > self.after
            && self.namespace.as_deref().is_none_or(|namespace| namespace == version.namespace)
    }

    pub(super) fn is_over(&self) -> bool {
        self.deadline <= Instant::now() && self.end.is_none() && !self.silent
    }

    /// It would keep everything waiting for long.
    pub(super) fn is_bad(&self) -> bool {
        self.silent || !self.pace.is_zero()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

// === impl Inner ===

impl Inner {
    /// Opens a stream that begins with `lines`. What resumes counts as empty until something is sent.
    pub(super) fn open(
        &mut self,
        kind: usize,
        namespace: Option<&str>,
        after: u64,
        lines: VecDeque<Line>,
        timeout: Duration,
        resumes: bool,
    ) -> u64 {
        self.next_watcher += 1;
        self.unnoticed[kind] = false;
        let (id, now) = (self.next_watcher, Instant::now());
        let slow = self.strikes() && self.rng.bool();
        let pace = if slow { Duration::from_millis(self.rng.u64(5..150)) } else { Duration::ZERO };
        let namespace = namespace.map(ToOwned::to_owned);
        let (deadline, waker, end) = (now + timeout, None, None);
        let (queue, silent, empty) = (lines, false, resumes.then_some(true));
        let watcher = Watcher {
            kind,
            namespace,
            after,
            queue,
            end,
            waker,
            deadline,
            pace,
            stalled_until: now,
            silent,
            empty,
        };
        self.watchers.insert(id, watcher);
        if self.strikes() {
            self.befall(id);
            if let Some(watcher) = self.watchers.get_mut(&id)
                && (watcher.end.is_some() || watcher.silent)
            {
                // Somewhere in what it begins with.
                let keep = self.rng.usize(0..=watcher.queue.len());
                watcher.queue.truncate(keep);
            }
        }
        id
    }

    /// Sends a line, or ends a stream that has too much waiting.
    pub(super) fn push(&mut self, id: u64, line: Line) {
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        if watcher.silent || watcher.end.is_some() {
            return;
        }
        if line.live && watcher.queue.iter().filter(|line| line.live).count() >= SLOTS {
            self.trace.fault(Fault::SlowWatcher, || format!("stream {id}"));
            return self.end(id, End::Cleanly);
        }
        watcher.queue.push_back(line);
        watcher.wake();
    }

    /// Something happens to a stream.
    pub(super) fn befall(&mut self, id: u64) {
        let (what, broken) = (self.rng.u32(0..10), self.rng.bool());
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        if watcher.end.is_some() || watcher.silent {
            return;
        }
        let detail = || format!("stream {id}");
        match what {
            0..2 => {
                self.trace.fault(Fault::StreamEnds, detail);
                self.end(id, End::Cleanly);
            }
            2..4 => {
                self.trace.fault(Fault::StreamBreaks, detail);
                self.end(id, End::Broken);
            }
            4..7 => {
                self.trace.fault(Fault::TornLine, detail);
                self.end(id, End::Torn { broken });
            }
            7 => {
                self.trace.fault(Fault::StreamSilent, detail);
                watcher.silent = true;
            }
            _ => {
                self.trace.fault(Fault::StreamStalls, detail);
                let pause = Duration::from_millis(self.rng.u64(20..3000));
                watcher.stalled_until = Instant::now() + pause;
            }
        }
    }

    /// Ends the streams that `which` says, some well and some badly, with or without what is on its way.
    pub(super) fn end_streams(&mut self, which: impl Fn(&Watcher) -> bool) {
        let ids = self.watchers.iter().filter(|(_, watcher)| which(watcher)).map(|(id, _)| *id);
        let ids: Vec<_> = ids.collect();
        for id in ids {
            let end = match self.rng.u32(0..4) {
                0 => End::Broken,
                1 => End::Torn { broken: true },
                _ => End::Cleanly,
            };
            let length = self.watchers[&id].queue.len();
            let keep = self.rng.usize(0..=length);
            if let Some(watcher) = self.watchers.get_mut(&id) {
                watcher.queue.truncate(keep);
                watcher.silent = false;
            }
            self.end(id, end);
        }
    }

    pub(super) fn end(&mut self, id: u64, end: End) {
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        watcher.silent = false;
        watcher.end.get_or_insert(end);
        watcher.wake();
    }

    /// A stream is gone, whoever ended it.
    pub(super) fn forget(&mut self, id: u64) {
        if let Some(watcher) = self.watchers.remove(&id)
            && let Some(empty) = watcher.empty
        {
            self.caches[watcher.kind].shown.ended(empty);
        }
    }
}

/// Lines for the versions of the history that the kind's cache has, after `revision`.
pub(super) fn replay(log: &[Arc<Version>], kind: usize, revision: u64) -> VecDeque<Line> {
    let versions = log.iter().filter(|version| version.kind == kind && version.revision > revision);
    versions
        .map(|version| {
            let verb = match &**version {
                version if version.deleted => "DELETED",
                version if version.created => "ADDED",
                _ => "MODIFIED",
            };
            Line::object(verb, version).early(true)
        })
        .collect()
}
