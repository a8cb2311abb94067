//! `bench`: scenarios that measure, and print a ratio to something run beside them.
//!
//! Everything measured is compiled for release: the command builds a release copy of itself and hands over.

mod account;
mod filters;
mod memory;
mod meter;
mod naive;
mod outage;
mod pipeline;
mod progress;
mod sinks;
mod store;
mod stream;
mod webhook;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::tidings::{Profile, build_binary};

#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// A replay API server → the bridge → JetStream, beside a naive bridge
    Pipeline(pipeline::Pipeline),
    /// Subscriptions that select or filter by labels, attributes and CEL, on one resource
    Filters(filters::Filters),
    /// Resident memory, beside the formula that bounds it, and a start that knows 100,000 objects
    Memory(memory::Memory),
    /// A broker that is gone while everything goes on at full speed, and that comes back
    Outage(outage::Outage),
    /// Every kind of sink into its real broker, beside the broker's own load tool or a bare loop
    Sinks(sinks::Sinks),
    /// The state store, beside an append-only file
    Store(store::Store),
    /// The webhook, asked as the API server does
    Webhook(webhook::Webhook),
    /// The naive bridge, as a process of its own
    #[command(hide = true)]
    Naive(naive::Naive),
    /// Whoever shows what a broker takes, as a process of its own
    #[command(hide = true)]
    Load(sinks::LoadArguments),
}

pub(super) async fn bench(Bench { scenario }: Bench) -> Result<ExitCode> {
    match scenario {
        Scenario::Naive(naive) => naive::run(naive).await,
        Scenario::Load(load) => sinks::load(load).await,
        Scenario::Store(store) => store::run(store),
        Scenario::Filters(_)
        | Scenario::Memory(_)
        | Scenario::Outage(_)
        | Scenario::Pipeline(_)
        | Scenario::Sinks(_)
        | Scenario::Webhook(_)
            if cfg!(debug_assertions) =>
        {
            hand_over()
        }
        Scenario::Filters(filters) => filters::run(filters).await,
        Scenario::Memory(memory) => memory::run(memory).await,
        Scenario::Outage(outage) => outage::run(outage).await,
        Scenario::Sinks(sinks) => sinks::run(sinks).await,
        Scenario::Pipeline(pipeline) => pipeline::run(pipeline).await,
        Scenario::Webhook(webhook) => webhook::run(webhook).await,
    }
}

/// Runs the same command in a release build of ourselves.
fn hand_over() -> Result<ExitCode> {
    eprintln!("building for release (minutes the first time)");
    let mut command = Command::new(build_binary(Profile::Release, "xtask")?);
    command.args(std::env::args_os().skip(1));
    let status = command.status().context("run the release build")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The binary that runs now.
fn own_binary() -> Result<PathBuf> {
    std::env::current_exe().context("find the running binary")
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn number(count: u64) -> f64 {
    count as f64
}

fn mebibytes(bytes: u64) -> f64 {
    number(bytes) / f64::from(1 << 20)
}

fn per_second(events: u64, time: Duration) -> f64 {
    number(events) / time.as_secs_f64()
}
