//! Accounts for every event of a replay: when the broker stored it, which are missing, and which came out of order.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::replay::{Replay, START};

/// What a broker holds of the events of a replay.
pub(super) struct Account {
    /// When each was stored first, in nanoseconds since 1970, by its number from 0; 0 is never.
    stored: Vec<u64>,
    /// The newest version of each object so far.
    newest: Vec<u64>,
    /// Copies of what was there before.
    pub(super) repeated: u64,
    /// Events that came, for the first time, after a later one of the same object.
    pub(super) disordered: u64,
}

// === impl Account ===

impl Account {
    /// Of a broker that has nothing yet, and is to have `events` versions of `objects` objects.
    pub(super) fn new(events: u64, objects: u64) -> Result<Self> {
        let (stored, newest) = (vec![0; usize::try_from(events)?], vec![0; usize::try_from(objects)?]);
        Ok(Self { stored, newest, repeated: 0, disordered: 0 })
    }

    /// The broker holds an Event of this `sequence`, which it stored `at` this moment. To be called in the broker's order.
    pub(super) fn take(&mut self, sequence: &str, at: u64) -> Result<()> {
        let version: u64 = sequence.get(13..33).context("a short sequence")?.parse()?;
        self.take_version(version, at).with_context(|| format!("version {version}"))
    }

    fn take_version(&mut self, version: u64, at: u64) -> Result<()> {
        let index = version.checked_sub(START + 1).context("before the first one")?;
        let objects = self.newest.len() as u64;
        let newest = self.newest.get_mut(usize::try_from(index % objects)?).context("no such object")?;
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

    /// Fails unless all of these are there, in order.
    pub(super) fn check(&self, events: Range<u64>) -> Result<()> {
        let (lost, disordered) = (self.lost(events), self.disordered);
        ensure!(lost == 0 && disordered == 0, "{lost} events are lost, and {disordered} out of order");
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

/// The value that this share of sorted ones does not exceed.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index from a share in 0..1"
)]
pub(super) fn quantile(sorted: &[u64], share: f64) -> u64 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_repeated_or_out_of_order_is_counted() {
        let mut account = Account::new(6, 2).unwrap();
        // Of two objects in turn: 1, 3, 5 and 2, 4, 6.
        for (version, at) in [(1, 10), (2, 20), (5, 30), (3, 40), (5, 50), (4, 60)] {
            account.take(&format!("{:012}.{:020}", 0, START + version), at).unwrap();
        }
        assert_eq!((account.repeated, account.disordered, account.lost(0..6)), (1, 1, 1));
        assert_eq!((account.last(0..6), account.first_after(30)), (60, Some(40)));
        let error = account.take_version(START + 7, 70).unwrap_err();
        assert_eq!(error.to_string(), "was never written");
        assert_eq!(account.check(0..6).unwrap_err().to_string(), "1 events are lost, and 1 out of order");
    }
}
