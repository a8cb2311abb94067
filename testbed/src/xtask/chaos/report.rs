//! What chaos did and found, round by round and in all.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::Outcome;
use super::faults::FAULTS;
use crate::chaos::check::Findings;
use crate::xtask::report::{Goal, Row, publish};

const SCENARIO: &str = "chaos";
/// Mistakes that are printed of one Subscription; all of them are kept.
const SHOWN: usize = 5;

/// What all rounds have in common.
#[derive(Default)]
pub(super) struct Report {
    rounds: usize,
    faults: BTreeMap<&'static str, usize>,
    changes: usize,
    events: usize,
    repeated: usize,
    gaps: usize,
    in_gaps: usize,
    lost: usize,
    wrong: usize,
}

// === impl Report ===

impl Report {
    /// Adds and prints a round; whether it was sound.
    pub(super) fn add(&mut self, outcome: &Outcome, seed: u64, took: Duration) -> bool {
        let Outcome { faults, changes, heard } = outcome;
        self.rounds += 1;
        for fault in faults {
            *self.faults.entry(fault.name).or_default() += 1;
        }
        self.changes += changes;
        let mut round = Self::default();
        for heard in heard {
            let Findings { events, repeated, gaps, in_gaps, lost, wrong } = &heard.findings;
            round.events += events;
            round.repeated += repeated;
            round.gaps += gaps;
            round.in_gaps += in_gaps;
            round.lost += lost.len();
            round.wrong += wrong.len();
        }
        let Self { events, repeated, gaps, in_gaps, lost, wrong, .. } = round;
        self.events += events;
        self.repeated += repeated;
        self.gaps += gaps;
        self.in_gaps += in_gaps;
        self.lost += lost;
        self.wrong += wrong;
        let sound = lost + wrong == 0;
        println!(
            "{changes:>5} changes {events:>5} events {repeated:>4} repeated {gaps:>4} gaps {in_gaps:>5} versions in them  \
             {:>5.1} s  {}",
            took.as_secs_f64(),
            if sound { "ok" } else { "FAILED" }
        );
        for heard in heard {
            let Findings { lost, wrong, .. } = &heard.findings;
            let (name, all) = (heard.subscription, lost.len() + wrong.len());
            lost.iter().take(SHOWN).for_each(|lost| println!("round {seed}, {name}: LOST {lost}"));
            wrong.iter().take(SHOWN).for_each(|wrong| println!("round {seed}, {name}: WRONG {wrong}"));
            if all > 2 * SHOWN {
                println!("round {seed}, {name}: {all} in all");
            }
        }
        sound
    }

    /// A round did not come to its end.
    pub(super) fn broken(&mut self) {
        self.rounds += 1;
        self.wrong += 1;
    }

    /// Prints what there was in all, and writes it to `json` where that is given.
    pub(super) fn publish(&self, took: Duration, json: Option<&Path>) -> Result<()> {
        let row = |variant, metric, value: usize, goal| {
            #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            Row::new(SCENARIO, variant, metric, value as f64, "", goal)
        };
        let Self { rounds, faults, changes, events, repeated, gaps, in_gaps, lost, wrong } = self;
        let mut rows = vec![row("all", "rounds", *rounds, None)];
        for fault in FAULTS {
            rows.push(row(fault.name, "times", faults.get(fault.name).copied().unwrap_or_default(), None));
        }
        rows.extend([
            row("all", "changes written", *changes, None),
            row("all", "events", *events, None),
            row("all", "repeated", *repeated, None),
            row("all", "gaps", *gaps, None),
            row("all", "versions in gaps", *in_gaps, None),
            row("all", "lost", *lost, Some(Goal::AtMost(0.0))),
            row("all", "otherwise wrong", *wrong, Some(Goal::AtMost(0.0))),
            Row::new(SCENARIO, "all", "wall time", took.as_secs_f64(), "s", None),
        ]);
        println!();
        publish(&rows, json)
    }
}
