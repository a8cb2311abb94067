//! An application that hears everything that arrives at one place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::stream::{self, Stream, StreamExt as _};
use percent_encoding::percent_decode_str;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::consumer::{self, Received};

/// What was heard at a place. It listens until it is dropped.
pub struct Ear {
    log: Arc<Log>,
    /// A receiver of HTTP is told.
    reader: Option<JoinHandle<()>>,
}

/// What was heard, in order of arrival.
#[derive(Default)]
pub(super) struct Log {
    events: Mutex<Vec<Received>>,
    grown: Notify,
}

/// Between attempts of an application whose broker is away.
pub(super) const AGAIN: Duration = Duration::from_millis(200);
/// For one look into a stream; a server that is held says nothing.
const LOOK: Duration = Duration::from_secs(5);

// === impl Ear ===

impl Ear {
    pub(super) fn new(log: Arc<Log>, reader: Option<JoinHandle<()>>) -> Self {
        Self { log, reader }
    }

    /// One that hears nothing.
    pub(super) fn deaf() -> Self {
        Self::new(Arc::default(), None)
    }

    /// What arrives in a stream of NATS.
    pub(super) fn of_stream(client: async_nats::Client, place: String) -> Self {
        let log = Arc::new(Log::default());
        let heard = log.clone();
        let reader = tokio::spawn(async move {
            loop {
                let read = consumer::read_after(&client, &place, heard.len());
                if let Ok(Ok(events)) = tokio::time::timeout(LOOK, read).await {
                    for event in events {
                        heard.add(event);
                    }
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        Self::new(log, Some(reader))
    }

    /// Everything that was heard so far.
    pub fn heard(&self) -> Vec<Received> {
        self.log.lock().clone()
    }

    /// Everything from the first on, going on with what comes.
    pub fn events(&self) -> impl Stream<Item = Received> + use<> {
        stream::unfold((self.log.clone(), 0), |(log, next)| async move {
            loop {
                let grown = log.grown.notified();
                if let Some(event) = log.lock().get(next).cloned() {
                    return Some((event, (log.clone(), next + 1)));
                }
                grown.await;
            }
        })
        .boxed()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

// === impl Log ===

impl Log {
    pub(super) fn add(&self, event: Received) {
        self.lock().push(event);
        self.grown.notify_waiters();
    }

    fn len(&self) -> u64 {
        self.lock().len() as u64
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Received>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An Event in binary mode: its attributes are the headers that begin with `prefix`.
pub(super) fn binary<'a>(
    subject: &str,
    prefix: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: &[u8],
) -> Result<Received> {
    let attributes = headers.filter_map(|(name, value)| {
        let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
        Some((name.strip_prefix(prefix)?.to_owned(), value))
    });
    let attributes: BTreeMap<_, _> = attributes.collect();
    let data = serde_json::from_slice(body).context("the data is not JSON")?;
    Ok(Received { subject: subject.to_owned(), attributes, data, stored: 0 })
}
