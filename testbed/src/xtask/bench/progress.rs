//! Waiting for something to be done: for a number to be reached, with a word on the terminal now and then, or for a program to
//! end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process::{Lifetime, Process, Program};
use crate::usage::Usage;

/// Nothing may stand still for longer.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);
/// Between two words.
const WORD: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// How far something is.
pub(super) struct Progress {
    what: String,
    goal: u64,
    at: u64,
    moved: Instant,
    said: Instant,
}

// === impl Progress ===

impl Progress {
    /// `what` is on its way to `goal`.
    pub(super) fn new(what: impl Into<String>, goal: u64) -> Self {
        let now = Instant::now();
        Self { what: what.into(), goal, at: 0, moved: now, said: now }
    }

    /// It is there now; fails when it has not moved for too long.
    pub(super) fn is_at(&mut self, at: u64) -> Result<()> {
        let Self { what, goal, .. } = self;
        if at != self.at {
            (self.at, self.moved) = (at, Instant::now());
        }
        ensure!(self.moved.elapsed() < PATIENCE, "{what}: stands at {at} of {goal}");
        if self.said.elapsed() > WORD {
            eprintln!("  {what}: {at} of {goal}");
            self.said = Instant::now();
        }
        Ok(())
    }

    /// Before the next look.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Runs `program` to its end; answers what it wrote, and the CPU time that it took, but for the last moments.
pub(super) async fn run_to_end(program: &Program) -> Result<(String, Duration)> {
    let mut process = Process::spawn(program, Lifetime::Owner)?;
    let (pid, mut cpu, began) = (process.id().pid, Duration::ZERO, Instant::now());
    while !process.ended_within(LOOK).await {
        // It may be gone by now.
        cpu = Usage::of(pid).map_or(cpu, |usage| usage.cpu);
        ensure!(began.elapsed() < PATIENCE, "{} does not end", program.path.display());
    }
    Ok((std::fs::read_to_string(&program.log).context("read what it wrote")?, cpu))
}
