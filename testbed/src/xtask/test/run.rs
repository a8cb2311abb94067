//! Running cargo and counting what it says.

use std::io::{self, BufRead, BufReader, Write};
use std::ops::Add;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::Report;
use crate::xtask::cargo;

/// How many tests did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

/// Runs a cargo command; whether it succeeded.
pub(super) fn check(arguments: &[&str]) -> Result<bool> {
    announce(arguments);
    let mut command = cargo()?;
    // For `cargo doc` only; changing RUSTFLAGS would compile every dependency again.
    command.args(arguments).env("RUSTDOCFLAGS", "-D warnings").stdin(Stdio::null());
    Ok(command.status().context("run cargo")?.success())
}

/// Runs the demo unattended; whether everything arrived.
pub(super) fn demo() -> Result<bool> {
    // Not this very program: the tests before may have compiled it anew, with other features of its dependencies.
    check(&["xtask", "demo", "--once"])
}

/// Runs `cargo test` and adds what it counted to `report`, passing its output on.
pub(super) fn tests(arguments: &[&str], color: bool, report: &mut Report) -> Result<()> {
    let color = if color { "always" } else { "auto" };
    let mut all = vec!["test", "--no-fail-fast"];
    all.extend(arguments);
    announce(&all);
    all.extend(["--color", color, "--", "--color", color]);
    let mut command = cargo()?;
    let mut child =
        command.args(&all).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("run cargo test")?;

    let mut counts = Counts::default();
    let mut output = BufReader::new(child.stdout.take().context("cargo has no stdout")?);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        io::stdout().write_all(&line)?;
        io::stdout().flush()?;
        counts = counts + summary(&String::from_utf8_lossy(&line)).unwrap_or_default();
        line.clear();
    }
    let status = child.wait().context("wait for cargo test")?;
    if !status.success() {
        report.notes.push(format!("`cargo test {}` failed", arguments.join(" ")));
        // It did not compile, or a test program crashed before it could count.
        counts.failed = counts.failed.max(1);
    }
    report.counts = report.counts + counts;
    Ok(())
}

// === impl Counts ===

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

fn announce(arguments: &[&str]) {
    println!("--- cargo {}", arguments.join(" "));
}

/// What one test program counted: `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
fn summary(line: &str) -> Option<Counts> {
    let (_, numbers) = line.split_once("test result: ")?;
    let number = |name: &str| {
        let before = numbers.split(';').find_map(|part| part.trim().strip_suffix(name))?;
        before.split_whitespace().next_back()?.parse().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_counted_with_and_without_colour() {
        let counts = Counts { passed: 5, failed: 2, skipped: 1 };
        let plain = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        assert_eq!(summary(plain), Some(counts));
        let coloured = plain.replace("FAILED", "\u{1b}[31mFAILED\u{1b}(B\u{1b}[m");
        assert_eq!(summary(&coloured), Some(counts));
        assert_eq!(summary("test known::tests::a_result_is_kept ... ok\n"), None);
    }
}
