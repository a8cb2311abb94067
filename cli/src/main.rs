//! The binary `tidings`: reads the command line, and calls what does the work.

mod args;
mod bridge;
mod check;
mod cluster;
mod explain;
mod logs;
mod memory;
mod output;
mod redrive;
mod shutdown;
mod state;
mod subscription;
mod watch;
mod webhook;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};
use tidings_config::process::load;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    memory::give_back();
    // More than one TLS implementation is compiled in, and rustls refuses to choose. An error says that one is
    // installed, which is what is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<output::Told>() => ExitCode::FAILURE,
        Err(error) => {
            output::error(&error, error.downcast_ref::<cluster::Error>().map(cluster::Error::advice));
            // Settings are part of the usage, wherever they are given, and so are names of files.
            if error.is::<load::Error>() || error.is::<check::Error>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Bridge(args) => bridge::run(args),
        Command::Webhook(args) => webhook::run(args),
        Command::Watch(args) => watch::run(args),
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(args),
        Command::State(args) => state::run(args),
        Command::Subscription(args) => subscription::run(args),
        Command::Redrive(args) => redrive::run(args),
        Command::Crds => output::print(tidings_crds::print::yaml()?.as_bytes()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidings", &mut script);
            output::print(&script)
        }
    }
}
