//! The body of a watch, as it is read: chunks that end anywhere.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use tokio::time::{Instant, Sleep};

use super::ApiServer;
use super::streams::End;
use crate::fence::{Edge, Fence};

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
