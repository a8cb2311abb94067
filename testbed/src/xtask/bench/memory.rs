//! How much memory the bridge takes in the cases that its design names, beside the formula there; and how long a start
//! takes that knows 100,000 objects.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::{mebibytes, number};
use crate::memory::{Case, Done, TAIL, until_holds};
use crate::replay::Load;
use crate::tidings::{Profile, build};
use crate::usage::Usage;
use crate::xtask::report::{Goal, Row, publish};

const SCENARIO: &str = "memory";
const KNOWN: &str = "100,000 objects of 1 KiB";
const MEGABYTE: f64 = 1e6 / (1 << 20) as f64;
/// Steady changes after the start that knows everything.
const STEADY: u64 = 2500;

#[derive(Debug, Args)]
pub(super) struct Memory {
    /// All cases so many times smaller, to see whether they run
    #[arg(long, default_value_t = 1)]
    smaller: u64,
    /// Only the cases whose names have this in them
    #[arg(long, default_value = "")]
    only: String,
    /// Room for the Journal's tail in bytes
    #[arg(long, default_value_t = TAIL)]
    tail: u64,
    /// Write the figures there too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) async fn run(Memory { smaller, only, tail, json }: Memory) -> Result<ExitCode> {
    let program = build(Profile::Release)?;
    let load = |objects: u64, size, changes: u64, in_flight| {
        let objects = (objects / smaller).max(1);
        Load { events: objects * changes, objects, size, in_flight }
    };
    let many = load(100_000, 1024, 2, 1024);
    // Room for what comes after the second start.
    let many = Load { events: many.events + STEADY, ..many };
    let mut rows = Vec::new();
    if KNOWN.contains(&*only) {
        rows.extend(known(&program, many, tail).await?);
    }
    for (name, load, subscriptions, dead) in [
        ("200 objects of 1 MB, 5 times each", load(200, 1_000_000, 5, 1024), 1, false),
        ("a dead sink, 300,000 changes of 1 KiB", load(10_000, 1024, 30, 1024), 1, true),
        ("64 Subscriptions, 20,000 changes of 1 KiB", load(10_000, 1024, 2, 128), 64, false),
    ] {
        if !name.contains(&*only) {
            continue;
        }
        eprintln!("{name}");
        let case = Case { load, subscriptions, dead, tail };
        let Done { usage, .. } = case.run(&program).await?;
        rows.push(peak(name, usage, &case));
    }
    println!();
    publish(&rows, json.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

/// Many objects: while they come, after a start that knows them, and how long that takes.
async fn known(program: &Path, load: Load, tail: u64) -> Result<Vec<Row>> {
    let name = KNOWN;
    eprintln!("{name}");
    let case = Case { load, subscriptions: 1, dead: false, tail };
    let before = Case { load: Load { events: load.events - STEADY, ..load }, ..case };
    let Done { mut bridge, nats, replay, usage } = case.run_until(program, before.load.events).await?;
    let client = nats.client().await?;
    // What is known is stored within an interval; SIGTERM makes sure, and the second start is after SIGKILL.
    bridge.stop().await?;
    bridge.start_again().await?;
    replay.all_delivering().await?;
    bridge.kill()?;
    let killed = Instant::now();
    let again = bridge.start_again();
    again.await?;
    let ready = killed.elapsed();
    replay.write(before.load.events + 1, None);
    until_holds(&client, before.load.events + 1).await?;
    let first = killed.elapsed();
    replay.write(load.events, Some(500));
    until_holds(&client, load.events).await?;
    let typical = Usage::of(bridge.process().pid)?;
    let row = |variant, metric, value, unit, goal| Row::new(SCENARIO, variant, metric, value, unit, goal);
    let two = Some(Goal::AtMost(2000.0));
    let after = "100,000 known objects, after SIGKILL";
    Ok(vec![
        peak(name, usage, &case),
        row(
            name,
            "peak, the bound in all",
            mebibytes(usage.peak),
            "MiB",
            Some(Goal::AtMost(150.0 * MEGABYTE)),
        ),
        row(after, "until ready", millis(ready), "ms", two),
        row(after, "until the first new event", millis(first), "ms", two),
        row(
            after,
            "peak at 500 changes a second",
            mebibytes(typical.peak),
            "MiB",
            Some(Goal::AtMost(80.0 * MEGABYTE)),
        ),
        row(after, "per known object", number(typical.peak) / number(load.objects), "bytes", None),
    ])
}

fn peak(name: &str, usage: Usage, case: &Case) -> Row {
    let goal = Some(Goal::AtMost(mebibytes(case.bound())));
    Row::new(SCENARIO, name, "peak", mebibytes(usage.peak), "MiB", goal)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
