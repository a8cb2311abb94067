//! What goes to the terminal, other than events and logs.

use std::io::{self, ErrorKind, IsTerminal, Write};

use anyhow::{Context, Result};
use tidings_config::chain::chain;

/// What makes something stand out on a terminal, and nothing elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    pub(crate) bold: &'static str,
    pub(crate) red: &'static str,
    pub(crate) yellow: &'static str,
    pub(crate) plain: &'static str,
}

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

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

// === impl Style ===

impl Style {
    /// For where there are no colours.
    pub(crate) const NONE: Self = Self { bold: "", red: "", yellow: "", plain: "" };

    pub(crate) fn of_stdout() -> Self {
        if io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) {
            Self { bold: "\x1b[1m", red: "\x1b[31m", yellow: "\x1b[33m", plain: "\x1b[0m" }
        } else {
            Self::NONE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
