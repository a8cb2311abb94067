//! What consumers of all brokers have in common: the end, and what is printed.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use clap::Args;
use cloudevents::{AttributesReader, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::fold::{Fold, change};

/// How many Events are taken in at once, and how many may wait here: what bounds the memory.
pub(crate) const BATCH: usize = 50;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// SQLite file of what is folded
    #[arg(long, global = true, default_value = "todos.db", value_name = "FILE")]
    database: PathBuf,
    /// End after so many Events (or none), and print what is folded as JSON
    #[arg(long, global = true)]
    count: Option<usize>,
    /// Print whole Events, in the JSON format of CloudEvents
    #[arg(long, global = true)]
    json: bool,
}

/// One run of a consumer: until SIGTERM or Ctrl-C, or until `--count` Events were taken in.
pub(crate) struct Consumer {
    count: Option<usize>,
    json: bool,
    progress: Mutex<Progress>,
    stop: CancellationToken,
}

struct Progress {
    fold: Fold,
    taken: usize,
}

// === impl Consumer ===

impl Consumer {
    /// Listens to signals from now on.
    pub(crate) fn start(Options { database, count, json }: Options) -> Result<Self> {
        let stop = CancellationToken::new();
        for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
            let (mut signals, stop) = (signal(kind)?, stop.clone());
            tokio::spawn(async move {
                signals.recv().await;
                stop.cancel();
            });
        }
        if count == Some(0) {
            stop.cancel();
        }
        let progress = Mutex::new(Progress { fold: Fold::open(&database)?, taken: 0 });
        Ok(Self { count, json, progress, stop })
    }

    /// Is cancelled when the consumer is to end: nothing more is to be read then.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// How many Events to take at most next.
    pub(crate) fn remaining(&self) -> usize {
        self.count.map_or(BATCH, |count| BATCH.min(count.saturating_sub(self.progress().taken)))
    }

    /// Folds and prints. What was read may be acknowledged when this has returned well, and not before. It blocks for as
    /// long as a commit of `SQLite` takes.
    pub(crate) fn take(&self, events: &[Event]) -> Result<()> {
        let mut progress = self.progress();
        let news = progress.fold.take(events)?;
        let mut stdout = std::io::stdout().lock();
        for (event, news) in events.iter().zip(news) {
            if self.json {
                writeln!(stdout, "{}", serde_json::to_string(event)?)?;
            } else {
                let change = if news { change(event) } else { "known" };
                writeln!(stdout, "{change:<8} {}", event.subject().unwrap_or_default())?;
            }
        }
        progress.taken += events.len();
        if self.count.is_some_and(|count| count <= progress.taken) {
            self.stop.cancel();
        }
        Ok(())
    }

    /// To be called when everything is acknowledged.
    pub(crate) fn finish(&self) -> Result<()> {
        let progress = self.progress();
        if self.count.is_some_and(|count| count <= progress.taken) {
            println!("{}", serde_json::Value::Object(progress.fold.objects()?));
        }
        Ok(())
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        // Whoever panicked has rolled back.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
