//! What goes to the terminal, other than events and logs.

use std::error::Error;
use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};

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

/// An error and its causes, each said once: some libraries repeat a cause in their own text.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let words = source.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_repeated_is_said_once() {
        let error =
            anyhow::anyhow!("refused").context("unable to connect: refused").context("failed to start");
        assert_eq!(chain(error.as_ref()), "failed to start: unable to connect: refused");
    }
}
