//! What the state store costs. The measuring is a benchmark of the bridge (`bridge/benches/store.rs`), because nothing of
//! ours is imported here; this runs it and says what the figures should be.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;

use crate::xtask::cargo;
use crate::xtask::report::{Goal, Row, publish};

const SCENARIO: &str = "store";

#[derive(Debug, Args)]
pub(super) struct Store {
    /// Where the files are made, instead of the folder for temporary ones: a disk such as the state would lie on
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Write the figures there too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the benchmark prints.
#[derive(Debug, Deserialize)]
struct Figure {
    variant: String,
    metric: String,
    value: f64,
    unit: String,
}

pub(super) fn run(Store { folder, json }: Store) -> Result<ExitCode> {
    eprintln!("building for release (minutes the first time), then measuring");
    let mut cargo = cargo()?;
    cargo.args(["bench", "--quiet", "--package", "tidings-bridge", "--bench", "store"]);
    if let Some(folder) = folder {
        cargo.env("TIDINGS_BENCH_DIR", folder);
    }
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("run cargo")?;
    anyhow::ensure!(output.status.success(), "the benchmark failed");
    let figures: Vec<Figure> =
        serde_json::from_slice(&output.stdout).context("read what the benchmark printed")?;
    let rows: Vec<_> = figures.into_iter().map(Figure::into_row).collect();
    println!();
    publish(&rows, json.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

// === impl Figure ===

impl Figure {
    fn into_row(self) -> Row {
        let goal = self.goal();
        let Self { variant, metric, value, unit } = self;
        Row::new(SCENARIO, variant, metric, value, unit, goal)
    }

    fn goal(&self) -> Option<Goal> {
        match (self.variant.as_str(), self.metric.as_str()) {
            (variant, "CPU per event") if variant.starts_with("store") => Some(Goal::AtMost(5.0)),
            (_, "open, check and load") => Some(Goal::AtMost(2000.0)),
            (_, "CPU of a commit of 10000") => Some(Goal::AtMost(30.0)),
            _ => None,
        }
    }
}
