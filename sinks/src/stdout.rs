//! Standard output, for people who look: one line for each Event.
//!
//! *Acked* means that the line was handed to the operating system, whole. Whether anybody reads it, nobody knows.

pub mod encode;

pub mod client;

mod classify;

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;

use tidings_config::sink::stdout::ValidStdout;

use self::client::StdoutSink;
use self::encode::StdoutEncoder;
use crate::{Encoder, Target};

/// Lines for this process's standard output, coloured when that is a terminal.
pub fn to_stdout(valid: ValidStdout) -> Target {
    to_writer(valid, io::stdout().is_terminal(), Box::new(io::stdout()))
}

/// Lines for `writer`, coloured when `colour` says so.
pub fn to_writer(valid: ValidStdout, colour: bool, writer: Box<dyn Write + Send>) -> Target {
    let ValidStdout { format } = valid;
    Target {
        encoder: Encoder::Stdout(StdoutEncoder::new(format, colour)),
        sink: Arc::new(StdoutSink::new(writer)),
        ordered: true,
    }
}
