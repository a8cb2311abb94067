//! What a process takes for many events.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{number, per_second};
use crate::usage::Usage;

/// Measures from its making on.
pub(super) struct Meter {
    pid: u32,
    began: Instant,
    before: Duration,
}

/// Many events, one after another.
pub(super) struct Stretch {
    pub(super) events: u64,
    pub(super) elapsed: Duration,
    pub(super) cpu: Duration,
    /// The most memory that the process had since it began, in bytes.
    pub(super) peak: u64,
}

// === impl Meter ===

impl Meter {
    /// Of the process `pid`.
    pub(super) fn start(pid: u32) -> Result<Self> {
        Ok(Self { pid, began: Instant::now(), before: Usage::of(pid)?.cpu })
    }

    /// So many events were that.
    pub(super) fn stop(self, events: u64) -> Result<Stretch> {
        let Self { pid, began, before } = self;
        let elapsed = began.elapsed();
        let Usage { cpu, peak, file: _ } = Usage::of(pid)?;
        Ok(Stretch { events, elapsed, cpu: cpu.saturating_sub(before), peak })
    }
}

// === impl Stretch ===

impl Stretch {
    pub(super) fn per_second(&self) -> f64 {
        per_second(self.events, self.elapsed)
    }

    pub(super) fn micros_per_event(&self) -> f64 {
        micros_per_event(self.cpu, self.events)
    }
}

/// CPU time in microseconds for each of `events`.
pub(super) fn micros_per_event(cpu: Duration, events: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / number(events)
}
