//! Accounts for every event of a replay: when the broker stored it, which are missing, and which came out of order.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, consumer, stream};
use futures::StreamExt;

use crate::replay::{Replay, START};

/// Nothing may stand still for longer.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two words on the terminal.
const WORD: Duration = Duration::from_secs(2);

/// What a stream holds of the events of a replay.
pub(super) struct Account {
    /// When each was stored first, in nanoseconds since 1970, by its number from 0; 0 is never.
    stored: Vec<u64>,
    /// Copies of what was there before.
    pub(super) repeated: u64,
    /// Events that came, for the first time, after a later one of the same object.
    pub(super) disordered: u64,
}

// === impl Account ===

impl Account {
    /// Reads the whole stream, its headers only, which has to hold events of `events` versions and `objects` objects.
    pub(super) async fn of(
        client: &async_nats::Client,
        stream: &str,
        events: u64,
        objects: u64,
    ) -> Result<Self> {
        let mut found = find(client, stream).await?;
        let messages = found.info().await?.state.messages;
        let config = consumer::pull::OrderedConfig { headers_only: true, ..Default::default() };
        let mut reading = found.create_consumer(config).await?.messages().await?;
        let mut account = Self { stored: vec![0; usize::try_from(events)?], repeated: 0, disordered: 0 };
        let mut newest = vec![0; usize::try_from(objects)?];
        let mut said = Instant::now();
        for number in 0..messages {
            let message = tokio::time::timeout(PATIENCE, reading.next()).await;
            let message = message.context("the stream does not give what it has")?.context("it ended")??;
            let info = message.info().map_err(|error| anyhow::anyhow!(error.to_string()))?;
            let stored = u64::try_from(info.published.unix_timestamp_nanos())?;
            let headers = message.headers.as_ref().context("a message without headers")?;
            let sequence = headers.get("ce-sequence").context("no sequence")?.as_str();
            let version: u64 = sequence.get(13..33).context("a short sequence")?.parse()?;
            account.take(version, stored, &mut newest).with_context(|| format!("version {version}"))?;
            if said.elapsed() > WORD {
                eprintln!("  checked {number} of {messages}");
                said = Instant::now();
            }
        }
        Ok(account)
    }

    fn take(&mut self, version: u64, at: u64, newest: &mut [u64]) -> Result<()> {
        let index = version.checked_sub(START + 1).context("before the first one")?;
        let objects = newest.len() as u64;
        let newest = newest.get_mut(usize::try_from(index % objects)?).context("no such object")?;
        let first = self.stored.get_mut(usize::try_from(index)?).context("was never written")?;
        if *first > 0 {
            self.repeated += 1;
            return Ok(());
        }
        *first = at;
        self.disordered += u64::from(*newest > version);
        *newest = version.max(*newest);
        Ok(())
    }

    /// How many of these are not there.
    pub(super) fn lost(&self, events: Range<u64>) -> u64 {
        self.stored(events).filter(|stored| *stored == 0).count() as u64
    }

    /// When the last of these was stored.
    pub(super) fn last(&self, events: Range<u64>) -> u64 {
        self.stored(events).max().unwrap_or_default()
    }

    /// When the first was that came after `moment`.
    pub(super) fn first_after(&self, moment: u64) -> Option<u64> {
        self.stored.iter().copied().filter(|stored| *stored > moment).min()
    }

    /// From written to stored: what this share of these events does not exceed.
    pub(super) fn latency(&self, replay: &Replay, events: Range<u64>, share: f64) -> Duration {
        let waited = events.clone().zip(self.stored(events)).filter_map(|(index, stored)| {
            Some(stored.saturating_sub(replay.written(START + 1 + index)?)).filter(|_| stored > 0)
        });
        let mut waited: Vec<_> = waited.collect();
        waited.sort_unstable();
        Duration::from_nanos(quantile(&waited, share))
    }

    fn stored(&self, events: Range<u64>) -> impl Iterator<Item = u64> {
        let [start, end] = [events.start, events.end]
            .map(|index| usize::try_from(index).unwrap_or(usize::MAX).min(self.stored.len()));
        self.stored.get(start..end).unwrap_or_default().iter().copied()
    }
}

/// Waits until the stream has taken `count` messages, and says how far it is.
pub(super) async fn until_holds(client: &async_nats::Client, stream: &str, count: u64) -> Result<()> {
    let mut found = find(client, stream).await?;
    let (mut said, mut moved, mut before) = (Instant::now(), Instant::now(), 0);
    loop {
        let messages = found.info().await?.state.messages;
        if messages >= count {
            return Ok(());
        }
        if messages != before {
            (moved, before) = (Instant::now(), messages);
        }
        ensure!(moved.elapsed() < PATIENCE, "{stream} stands at {messages} of {count}");
        if said.elapsed() > WORD {
            eprintln!("  {stream} has {messages} of {count}");
            said = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn find(client: &async_nats::Client, stream: &str) -> Result<stream::Stream> {
    jetstream::new(client.clone()).get_stream(stream).await.context("find the stream")
}

/// The value that this share of sorted ones does not exceed.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index from a share in 0..1"
)]
fn quantile(sorted: &[u64], share: f64) -> u64 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_repeated_or_out_of_order_is_counted() {
        let mut account = Account { stored: vec![0; 6], repeated: 0, disordered: 0 };
        let mut newest = vec![0; 2];
        // Of two objects in turn: 1, 3, 5 and 2, 4, 6.
        for (version, at) in [(1, 10), (2, 20), (5, 30), (3, 40), (5, 50), (4, 60)] {
            account.take(START + version, at, &mut newest).unwrap();
        }
        assert_eq!((account.repeated, account.disordered, account.lost(0..6)), (1, 1, 1));
        assert_eq!((account.last(0..6), account.first_after(30)), (60, Some(40)));
        let error = account.take(START + 7, 70, &mut newest).unwrap_err();
        assert_eq!(error.to_string(), "was never written");
    }
}
