//! Writes lines.
//!
//! Before: sinks/src/stdout/encode.rs
//! Next: sinks/src/stdout/classify.rs

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tidings_core::delivery::Outcome;

use super::classify;
use crate::message::Message;
use crate::sink::{NotReady, Sink, retry};

/// Standard output, or any other writer.
pub struct StdoutSink {
    output: Arc<Mutex<Output>>,
}

struct Output {
    /// Nothing once it is closed.
    writer: Option<Box<dyn Write + Send>>,
    /// What the last write said.
    last: Result<(), NotReady>,
}

// === impl StdoutSink ===

impl StdoutSink {
    /// Writes to `writer`.
    pub fn new(writer: Box<dyn Write + Send>) -> Self {
        Self { output: Arc::new(Mutex::new(Output { writer: Some(writer), last: Ok(()) })) }
    }

    /// Works on the output where it may block: a pipe that nobody reads holds up nothing else.
    async fn with_output<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Output) -> T + Send + 'static,
    ) -> Option<T> {
        let output = self.output.clone();
        let task = move || work(&mut output.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(task).await.ok()
    }
}

#[async_trait]
impl Sink for StdoutSink {
    async fn check(&self) -> Result<(), NotReady> {
        // Not behind a writer that blocks: that one is ready, just slow.
        self.output.try_lock().map_or(Ok(()), |output| output.last.clone())
    }

    async fn deliver(&self, messages: &[Message]) -> Vec<Outcome> {
        let lines: Vec<_> = messages.iter().map(|message| message.body.clone()).collect();
        let written = self.with_output(move |output| output.write(&lines)).await;
        let outcome = match written {
            Some(Ok(())) => Outcome::Acked,
            // How much of it was written is not known.
            Some(Err(error)) => classify::write(&error),
            None => retry("the write was broken off"),
        };
        vec![outcome; messages.len()]
    }

    async fn close(&self, deadline: Duration) {
        let closing = self.with_output(|output| {
            output.writer = None;
            output.last = Err(NotReady::new("Closed", "the sink is closed"));
        });
        // A writer that blocks for longer keeps its line, and is closed afterwards.
        let _ = tokio::time::timeout(deadline, closing).await;
    }
}

// === impl Output ===

impl Output {
    fn write(&mut self, lines: &[bytes::Bytes]) -> io::Result<()> {
        let Some(writer) = &mut self.writer else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the sink is closed"));
        };
        let result = writer.write_all(&lines.concat()).and_then(|()| writer.flush());
        self.last = result.as_ref().map(|&()| ()).map_err(classify::not_ready);
        result
    }
}

#[cfg(test)]
#[path = "client/tests.rs"]
mod tests;
