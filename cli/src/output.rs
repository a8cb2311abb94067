//! What goes to the terminal, other than events and logs.

use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};
use tidings_bridge::chain::chain;

/// It failed, and what was printed says why.
#[derive(Debug, thiserror::Error)]
#[error("it failed as the output says")]
pub(crate) struct Told;

/// Writes `bytes` to standard output. A reader that has gone, as `head` does, has read enough.
pub(crate) fn print(bytes: &[u8]) -> Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("failed to write the output")
        }
        _ => Ok(()),
    }
}

/// Writes an error with its causes, and what can be done about it, to standard error.
pub(crate) fn error(error: &anyhow::Error, advice: Option<&str>) {
    let advice = advice.map(|advice| format!("\n  help: {advice}")).unwrap_or_default();
    // Nobody is left to be told of a failure to tell.
    let _ = writeln!(io::stderr(), "error: {}{advice}", chain(error.as_ref()));
}
