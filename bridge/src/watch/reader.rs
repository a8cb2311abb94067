//! Reads one stream, or one LIST, and hardly ever waits while it reads a stream of changes: the API server closes a
//! watch that does not drain within about 100 ms, so before that the reader closes it itself, in good order.
//!
//! Before: bridge/src/watch.rs
//! Next: bridge/src/watch/line.rs

use std::time::Duration;

use http_body_util::BodyExt;
use kube::client::Body;
use tidings_core::object::ResourceVersion;
use tidings_core::watch::Input;

use super::WatchSettings;
use super::decode::{self, Decoded};
use super::line::LineSplitter;
use super::request::{Endpoint, Trouble};
use super::ring::{News, RingSender};
use super::scan::TypeMeta;
use tidings_config::chain::chain;

/// How long a stream of changes may wait for room in the ring. The server's own patience is shared by all its
/// watches, and socket buffers add to ours.
const PATIENCE: Duration = Duration::from_millis(50);

/// What a reader is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Ask for the newest version, which cannot be older than `since`.
    Probe { since: ResourceVersion },
    /// Stream changes after this version.
    Resume(ResourceVersion),
    /// Stream the present state and what follows.
    Stream,
    /// Page through the present state.
    List,
}

/// One run of a job.
pub(super) struct Reader {
    pub(super) endpoint: Endpoint,
    pub(super) type_meta: TypeMeta,
    pub(super) settings: WatchSettings,
    pub(super) ring: RingSender,
    /// Tells what this run reads from what earlier ones left in the ring.
    pub(super) run: u64,
}

/// What came in, gathered until it is handed over.
#[derive(Default)]
struct Batch {
    inputs: Vec<Input>,
    complaints: Vec<String>,
    size: usize,
}

// === impl Reader ===

impl Reader {
    /// Does `job` after `delay`, and says in the end why it ended.
    pub(super) async fn run(self, job: Job, delay: Duration) {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut received = false;
        let ended = match job {
            Job::Probe { since } => self.probe(since).await,
            Job::Resume(version) => self.resume(version, &mut received).await,
            Job::Stream => self.stream().await,
            Job::List => self.list().await,
        };
        let why = ended.err().unwrap_or(Trouble::Ended);
        self.ring.send(self.run, News::Ended { why, empty: !received }, 0).await;
    }

    async fn probe(&self, since: ResourceVersion) -> Result<(), Trouble> {
        let version = self.in_time(self.endpoint.probe()).await?;
        self.send(Batch::of(Input::Probed { version, since })).await;
        Ok(())
    }

    async fn resume(&self, version: ResourceVersion, received: &mut bool) -> Result<(), Trouble> {
        let body = self.in_time(self.endpoint.watch(version, self.settings.watch_timeout)).await?;
        self.send(Batch::of(Input::Resumed)).await;
        self.pump(body, true, received).await
    }

    async fn stream(&self) -> Result<(), Trouble> {
        let body = self.in_time(self.endpoint.watch_from_start(self.settings.watch_timeout)).await?;
        self.send(Batch::of(Input::SnapshotStarted)).await;
        self.pump(body, false, &mut false).await
    }

    /// Reads lines until the stream ends. Before it is `live`, it waits for room instead of giving up: what a
    /// snapshot brings again would be the same.
    async fn pump(&self, mut body: Body, mut live: bool, received: &mut bool) -> Result<(), Trouble> {
        let mut lines = LineSplitter::new(self.settings.max_object_bytes);
        loop {
            let silence = self.settings.silence_limit;
            let frame =
                tokio::time::timeout(silence, body.frame()).await.map_err(|_| Trouble::Silent(silence))?;
            let frame = match frame {
                None => return Ok(()),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(Trouble::Broken { reason: chain(&error) }),
            };
            let Ok(chunk) = frame.into_data() else { continue };
            let mut batch = Batch::default();
            let mut trouble = None;
            let mut completed = false;
            lines.feed(&chunk, |line| {
                if trouble.is_some() {
                    return;
                }
                match decode::line(line, &self.type_meta) {
                    Decoded::InitialEventsEnd(version) => {
                        completed = true;
                        batch.push(Input::SnapshotComplete(version));
                    }
                    Decoded::Input(Input::Bookmark(_)) if !live && !completed => {
                        // A server that streams changes already did not understand what it was asked.
                        let reason = "the server does not know sendInitialEvents".to_owned();
                        trouble = Some(Trouble::Refused { reason });
                    }
                    Decoded::Input(input) => batch.push(input),
                    Decoded::Undecodable(input, why) => batch.complain(input, why),
                    Decoded::Trouble(why) => trouble = Some(why),
                    Decoded::Nothing => {}
                }
            });
            *received |= !batch.inputs.is_empty();
            if !batch.inputs.is_empty() {
                if live {
                    self.send_soon(batch).await?;
                } else {
                    self.send(batch).await;
                }
            }
            live |= completed;
            if let Some(trouble) = trouble {
                return Err(trouble);
            }
        }
    }

    async fn list(&self) -> Result<(), Trouble> {
        self.send(Batch::of(Input::SnapshotStarted)).await;
        let mut pages = Pages::new(&self.endpoint, &self.settings);
        while let Some(page) = self.in_time(pages.next(&self.type_meta)).await? {
            let mut batch = Batch::default();
            for item in page.items {
                match item {
                    Decoded::Input(input) => batch.push(input),
                    Decoded::Undecodable(input, why) => batch.complain(input, why),
                    _ => {}
                }
            }
            if page.next.is_none() {
                batch.push(Input::SnapshotComplete(page.version));
            }
            self.send(batch).await;
        }
        Ok(())
    }

    /// An answer has to begin within the silence limit, else the connection is dead.
    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let limit = self.settings.silence_limit;
        tokio::time::timeout(limit, answer).await.unwrap_or(Err(Trouble::Silent(limit)))
    }

    async fn send(&self, batch: Batch) {
        let Batch { inputs, complaints, size } = batch;
        self.ring.send(self.run, News::Batch { inputs, complaints }, size).await;
    }

    /// Waits for room, but not so long that the server would close the watch.
    async fn send_soon(&self, batch: Batch) -> Result<(), Trouble> {
        let sent = tokio::time::timeout(PATIENCE, self.send(batch)).await;
        sent.map_err(|_| Trouble::Full)
    }
}

// === impl Batch ===

impl Batch {
    fn of(input: Input) -> Self {
        Self { inputs: vec![input], complaints: Vec::new(), size: 0 }
    }

    fn push(&mut self, input: Input) {
        if let Input::Present(object) | Input::Deleted(object) = &input {
            self.size += object.body.len() + 256;
        }
        self.inputs.push(input);
    }

    fn complain(&mut self, input: Input, why: String) {
        self.inputs.push(input);
        self.complaints.push(why);
    }
}

/// Walks through the pages of a LIST, all of one version.
pub(super) struct Pages<'a> {
    endpoint: &'a Endpoint,
    /// Halved where pages turn out too large to be held at once.
    size: u32,
    limit: usize,
    next: Option<String>,
    done: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(endpoint: &'a Endpoint, settings: &WatchSettings) -> Self {
        let limit = settings.max_object_bytes.saturating_mul(2);
        Self { endpoint, size: settings.page_size, limit, next: None, done: false }
    }

    /// The next page; none after the last.
    pub(super) async fn next(&mut self, type_meta: &TypeMeta) -> Result<Option<decode::Page>, Trouble> {
        if self.done {
            return Ok(None);
        }
        let text = loop {
            match self.endpoint.page(self.size, self.next.as_deref(), self.limit).await {
                Err(Trouble::TooLarge { .. }) if self.size > 1 => self.size = self.size.div_ceil(4),
                answer => break answer?,
            }
        };
        let page =
            decode::page(&text, type_meta).map_err(|error| Trouble::Broken { reason: chain(&error) })?;
        self.next.clone_from(&page.next);
        self.done = page.next.is_none();
        Ok(Some(page))
    }
}
