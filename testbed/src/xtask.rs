//! The commands of `cargo xtask`.

use std::env;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::root;

mod bench;
mod chaos;
mod demo;
mod install;
mod mutate;
mod report;
mod table;
mod test;
mod up;

/// Everything a contributor does besides writing code.
#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo xtask",
    about,
    after_help = "The folder of TIDINGS_CACHE (default: ~/.cache/tidings) keeps what is built and started."
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start etcd, kube-apiserver, NATS and other brokers for working by hand, and leave them running
    Up(up::Up),
    /// Stop what `up` started and remove its data
    Down,
    /// Show what `up` started
    Status,
    /// Print what a shell needs to use it: eval "$(cargo xtask env)"
    Env,
    /// Measure, beside something to compare with
    Bench(bench::Bench),
    /// Show the whole way: Todos change in Kubernetes, CloudEvents arrive from NATS
    Demo(demo::Demo),
    /// Break the code on purpose, one mistake at a time, and demand that a test fails
    Mutate(mutate::Mutate),
    /// Run tests; all tiers, or those named
    Test(test::Test),
}

/// What `cargo xtask` runs. Prints errors itself.
pub fn main() -> ExitCode {
    let Arguments { task } = Arguments::parse();
    match run(task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("start the async runtime")?;
    match task {
        Task::Up(arguments) => runtime.block_on(up::up(arguments)),
        Task::Down => runtime.block_on(up::down()),
        Task::Status => up::status(),
        Task::Env => up::env(),
        Task::Bench(arguments) => runtime.block_on(bench::bench(arguments)),
        Task::Demo(arguments) => runtime.block_on(demo::demo(arguments)),
        // These block; they need no runtime.
        Task::Mutate(arguments) => mutate::mutate(arguments),
        Task::Test(arguments) => test::test(arguments),
    }
}

/// Whether this runs where nobody watches: then what is missing fails instead of being skipped, and may be installed.
fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| matches!(value.as_str(), "true" | "1"))
}

/// The cargo that runs us, in the root of the checkout.
fn cargo() -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}
