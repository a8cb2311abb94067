//! `test chaos`: everything real is broken at random while writers run, and nothing may be lost.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

mod evidence;
mod faults;
mod report;
mod stage;

use crate::binaries;
use crate::chaos::check::Suffered;
use crate::chaos::writer::Working;
use crate::receiver::Kind;
use faults::{Fault, choose};
use report::Report;
use stage::{Heard, Stage};

/// How long chaos is, and which.
#[derive(Debug, Args)]
#[command(next_help_heading = "Chaos")]
pub(super) struct Chaos {
    /// Rounds, with NATS unless --sink says otherwise; as many of each kind as fit into two minutes when not given, one for sinks other than NATS
    #[arg(long, value_name = "N")]
    pub(super) rounds: Option<u64>,
    /// The seed of the first round; that of each following one is one higher
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Write the figures there too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Without a number of rounds.
const BUDGET: Duration = Duration::from_mins(2);
/// The same for sinks that share everything but the last step with NATS.
const BUDGET_OF_OTHERS: Duration = Duration::from_mins(1);
/// No stretch of writing may take longer, faults included.
const PATIENCE: Duration = Duration::from_mins(2);

/// How a round went.
struct Outcome {
    faults: Vec<&'static Fault>,
    changes: usize,
    heard: Vec<Heard>,
}

/// Runs rounds until one fails or all are done. True when nothing was lost and nothing else was wrong.
pub(super) async fn run(Chaos { rounds, seed, json }: &Chaos, sink: Kind) -> Result<bool> {
    binaries::ensure_usual()?;
    let started = Instant::now();
    println!("starting etcd, kube-apiserver, {} and the bridge", sink.name());
    let mut stage = Stage::set(sink, *seed).await?;
    let mut report = Report::default();
    let mut whole = true;
    let budget = if sink == Kind::Nats { BUDGET } else { BUDGET_OF_OTHERS };
    let due = |round: u64| rounds.map_or_else(|| started.elapsed() < budget, |rounds| round < rounds);
    for seed in (0..).take_while(|round| due(*round)).map(|round| seed + round) {
        let begun = Instant::now();
        whole = match round(&mut stage, seed).await {
            Ok(outcome) => {
                let sound = report.add(&outcome, seed, begun.elapsed());
                sound || {
                    evidence(&mut stage, seed, &outcome.heard)?;
                    false
                }
            }
            Err(error) => {
                println!("round {seed}: {error:#}");
                report.broken();
                evidence(&mut stage, seed, &[])?;
                false
            }
        };
        if !whole {
            println!("again: cargo xtask test chaos --sink {} --rounds 1 --seed {seed}", sink.field());
            break;
        }
    }
    report.publish(started.elapsed(), json.as_deref())?;
    Ok(whole)
}

/// Breaks one or two things while writers run, puts them right, and checks what came of it.
async fn round(stage: &mut Stage, seed: u64) -> Result<Outcome> {
    let mut random = fastrand::Rng::with_seed(seed);
    let faults = choose(seed, &mut random, stage);
    let names: Vec<_> = faults.iter().map(|fault| fault.name).collect();
    print!("round {seed}: {:<40} ", names.join(", "));
    std::io::Write::flush(&mut std::io::stdout())?;

    let mut writers = std::mem::take(&mut stage.writers);
    for writer in &mut writers {
        writer.reseed(random.fork());
    }
    let working = Working::start(writers);
    let broken = break_and_heal(stage, &faults, &mut random).await;
    // Writers that wait for what could not be healed would only say so, after a long time.
    broken?;
    stage.writers = working.stop().await?;

    stage.rest().await?;
    let suffered = faults.iter().fold(Suffered::default(), |all, fault| all.and(fault.suffered));
    let (confirmed, heard) = stage.check(suffered).await?;
    Ok(Outcome { faults, changes: confirmed.len(), heard })
}

/// Time between the steps is counted in changes, so that it is busy on any machine.
async fn break_and_heal(
    stage: &mut Stage,
    faults: &[&'static Fault],
    random: &mut fastrand::Rng,
) -> Result<()> {
    stage.record.grows(random.u64(20..200), PATIENCE).await?;
    for fault in faults {
        (fault.inject)(stage).await.with_context(|| format!("inject {}", fault.name))?;
        stage.record.grows(random.u64(1..500), PATIENCE).await?;
    }
    let mut order: Vec<_> = faults.iter().collect();
    random.shuffle(&mut order);
    for fault in order {
        (fault.heal)(stage).await.with_context(|| format!("heal {}", fault.name))?;
        stage.record.grows(random.u64(1..200), PATIENCE).await?;
    }
    Ok(())
}

fn evidence(stage: &mut Stage, seed: u64, heard: &[Heard]) -> Result<()> {
    let folder: &Path = &crate::cache::folder("chaos")?.join(format!("seed-{seed}"));
    evidence::keep(stage, heard, folder).with_context(|| format!("keep the logs in {}", folder.display()))?;
    println!("logs: {}", folder.display());
    Ok(())
}
