//! The streams of a watch, as bytes: chunks that end anywhere, and streams that end badly.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio::time::{Instant, Sleep};

use super::{ApiServer, Inner};
use crate::etcd::{KINDS, Version};
use crate::fence::{Edge, Fence};
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
    queue: VecDeque<Line>,
    end: Option<End>,
    waker: Option<Waker>,
    deadline: Instant,
    /// Pause between two chunks.
    pace: Duration,
    stalled_until: Instant,
    /// Nothing more is ever sent.
    silent: bool,
    /// It resumes, and has sent nothing yet.
    empty: Option<bool>,
}

/// The body of the answer.
pub(super) struct Body {
    server: ApiServer,
    fence: Fence,
    id: u64,
    sleep: Option<Pin<Box<Sleep>>>,
    /// What is left of a chunk, and what holds when it is sent.
    rest: Bytes,
    marks: Vec<(Option<u64>, bool)>,
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
    fn forget(&mut self, id: u64) {
        if let Some(watcher) = self.watchers.remove(&id)
            && let Some(empty) = watcher.empty
        {
            self.caches[watcher.kind].shown.ended(empty);
        }
    }
}

// === impl Body ===

impl Body {
    pub(super) fn new(server: ApiServer, fence: Fence, id: u64) -> Self {
        Self { server, fence, id, sleep: None, rest: Bytes::new(), marks: Vec::new() }
    }
}

impl Stream for Body {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.fence.is_closed() {
            return Poll::Pending;
        }
        let server = this.server.clone();
        let inner = &mut *server.lock();
        let Some(watcher) = inner.watchers.get_mut(&this.id) else { return Poll::Ready(None) };
        watcher.waker = Some(context.waker().clone());
        if watcher.silent {
            return Poll::Pending;
        }
        if watcher.stalled_until > Instant::now() {
            let mut sleep = Box::pin(tokio::time::sleep_until(watcher.stalled_until));
            if sleep.as_mut().poll(context).is_pending() {
                this.sleep = Some(sleep);
                return Poll::Pending;
            }
        }
        this.sleep = None;
        if this.rest.is_empty() {
            let mut chunk = Vec::new();
            let most = inner.rng.usize(1..8);
            while this.marks.len() < most
                && let Some(line) = watcher.queue.pop_front()
            {
                chunk.extend_from_slice(&line.text);
                this.marks.push((line.reaches, line.completes));
            }
            this.rest = chunk.into();
        }
        if this.rest.is_empty() {
            let Some(end) = watcher.end.take() else { return Poll::Pending };
            let broken =
                || io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by the simulation");
            return Poll::Ready(match end {
                End::Torn { broken } => {
                    watcher.end = Some(if broken { End::Broken } else { End::Cleanly });
                    Some(Ok(Bytes::from_static(br#"{"type":"MODIFIED","object":{"apiVersion":"k8sas"#)))
                }
                End::Broken => {
                    inner.forget(this.id);
                    Some(Err(broken()))
                }
                End::Cleanly => {
                    inner.forget(this.id);
                    None
                }
            });
        }
        if !this.fence.pass(Edge::Any) {
            return Poll::Pending;
        }
        watcher.stalled_until = Instant::now() + watcher.pace;
        let whole = this.rest.len() == 1 || inner.rng.u32(0..6) > 0;
        let length = if whole { this.rest.len() } else { inner.rng.usize(1..this.rest.len()) };
        let chunk = this.rest.split_to(length);
        if this.rest.is_empty() {
            let kind = watcher.kind;
            watcher.empty = watcher.empty.map(|_| false);
            for (reaches, completes) in this.marks.drain(..) {
                match reaches {
                    Some(revision) if completes => inner.caches[kind].shown.complete(revision),
                    Some(revision) => inner.caches[kind].shown.reached(revision),
                    None => {}
                }
            }
        }
        Poll::Ready(Some(Ok(chunk)))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.server.lock().forget(self.id);
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
