//! `mutate`: shows that the tests can fail, by breaking the code on purpose, one mistake at a time.
//!
//! The checkout is copied, each mutation is put into the copy, and the test that holds its rule must fail.

use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

mod backfill;
mod bridge;
mod chart;
mod copy;
mod core;
mod sinks;
mod state;
mod webhook;

use super::table;
use copy::Copy;

#[derive(Debug, Args)]
pub(super) struct Mutate {
    /// Which mutations, by their names or beginnings of them; all when none is named
    names: Vec<String>,
    /// Only say what there is
    #[arg(long)]
    list: bool,
}

/// A mistake, and the test that must not let it pass.
#[derive(Debug)]
struct Mutation {
    name: &'static str,
    /// The rule it breaks, in words.
    breaks: &'static str,
    file: &'static str,
    /// Stands in the file exactly once.
    find: &'static str,
    /// Stands there instead.
    put: &'static str,
    /// Arguments of the `cargo test` that has to fail.
    test: &'static str,
}

/// What became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The test failed, as it should.
    Killed,
    /// The test was not done in time: with some mistakes it waits for ever, but a slow machine looks the same.
    Hung,
    /// The test passed.
    Survived,
    /// The text is not there, or more than once.
    DoesNotApply,
    /// With the mutation the code does not compile, which proves nothing.
    DoesNotCompile,
    /// The test fails without it too.
    FailsAnyway,
}

/// How a run of a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Passed,
    Failed,
    Hung,
    DidNotCompile,
}

/// A test that hangs has not passed.
const PATIENCE_SECONDS: &str = "300";
/// What coreutils' timeout answers when it had to end the test.
const TIMED_OUT: i32 = 124;

/// Those of one crate, or of one matter, each.
fn mutations() -> impl Iterator<Item = &'static Mutation> {
    let decided = core::MUTATIONS.iter().chain(backfill::MUTATIONS);
    let served = bridge::MUTATIONS.iter().chain(state::MUTATIONS).chain(sinks::MUTATIONS);
    decided.chain(served).chain(chart::MUTATIONS).chain(webhook::MUTATIONS)
}

/// Fails when a mutation survives, or cannot be tried.
pub(super) fn mutate(Mutate { names, list }: Mutate) -> Result<ExitCode> {
    let wanted = |mutation: &&Mutation| {
        names.is_empty() || names.iter().any(|name| mutation.name.starts_with(name.as_str()))
    };
    let chosen: Vec<_> = mutations().filter(wanted).collect();
    if chosen.is_empty() {
        bail!("no mutation has such a name; `cargo xtask mutate --list` names them");
    }
    if list {
        let rows: Vec<_> = chosen.iter().map(|m| [m.name, m.breaks, m.file].map(str::to_owned)).collect();
        table::print(["mutation", "breaks", "in"], &[], &rows);
        return Ok(ExitCode::SUCCESS);
    }
    let copy = Copy::make()?;
    let mut rows = Vec::new();
    let mut whole = true;
    for (test, mutations) in by_test(&chosen) {
        println!("cargo test {test}");
        let sound = run(&copy, test)? == Run::Passed;
        for mutation in mutations {
            let started = Instant::now();
            let fate = if sound { try_one(&copy, mutation)? } else { Fate::FailsAnyway };
            let took = format!("{:.0} s", started.elapsed().as_secs_f64());
            println!("  {:<40} {} after {took}", mutation.name, fate.words());
            whole &= matches!(fate, Fate::Killed | Fate::Hung);
            rows.push([mutation.name.to_owned(), mutation.breaks.to_owned(), fate.words().to_owned(), took]);
        }
    }
    println!();
    table::print(["mutation", "breaks", "", "time"], &["time"], &rows);
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Those of one test stand together, so that it is run only once without any.
fn by_test<'a>(chosen: &[&'a Mutation]) -> Vec<(&'a str, Vec<&'a Mutation>)> {
    let mut tests: Vec<(&str, Vec<&Mutation>)> = Vec::new();
    for mutation in chosen {
        match tests.iter_mut().find(|(test, _)| *test == mutation.test) {
            Some((_, mutations)) => mutations.push(mutation),
            None => tests.push((mutation.test, vec![mutation])),
        }
    }
    tests
}

fn try_one(copy: &Copy, mutation: &Mutation) -> Result<Fate> {
    let path = copy.tree().join(mutation.file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", mutation.file))?;
    let Some(mutated) = mutation.apply(&text) else { return Ok(Fate::DoesNotApply) };
    std::fs::write(&path, mutated)?;
    let run = run(copy, mutation.test);
    std::fs::write(&path, text)?;
    Ok(match run? {
        Run::Passed => Fate::Survived,
        Run::Failed => Fate::Killed,
        Run::Hung => Fate::Hung,
        Run::DidNotCompile => Fate::DoesNotCompile,
    })
}

/// Runs `cargo test` in the copy. What it prints is of no interest: it is meant to fail.
fn run(copy: &Copy, test: &str) -> Result<Run> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // To compile may take long the first time.
    let status = |patience: &str, before: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", patience]).arg(&cargo).args(["test", "--quiet"]);
        command.args(before).args(test.split(' ')).current_dir(copy.tree());
        command.env("CARGO_TARGET_DIR", copy.target()).env_remove("CARGO_MANIFEST_DIR");
        // The first example is enough; no smaller one is looked for.
        command.env("PROPTEST_MAX_SHRINK_ITERS", "0").env("RUST_BACKTRACE", "0");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().context("run cargo (through coreutils' timeout)")
    };
    if !status("0", &["--no-run"])?.success() {
        return Ok(Run::DidNotCompile);
    }
    Ok(ended(status(PATIENCE_SECONDS, &[])?))
}

/// How a test ended that coreutils' timeout has run. What does not stop when it is asked to is killed, and the timeout with it, which then
/// answers nothing.
fn ended(timeout: ExitStatus) -> Run {
    match timeout.code() {
        Some(0) => Run::Passed,
        Some(TIMED_OUT) | None => Run::Hung,
        Some(_) => Run::Failed,
    }
}

// === impl Mutation ===

impl Mutation {
    /// `text` with the mistake in it, if its place is there exactly once.
    fn apply(&self, text: &str) -> Option<String> {
        (text.matches(self.find).count() == 1).then(|| text.replacen(self.find, self.put, 1))
    }
}

// === impl Fate ===

impl Fate {
    fn words(self) -> &'static str {
        match self {
            Self::Killed => "found",
            Self::Hung => "found, by not being done in time",
            Self::Survived => "SURVIVED",
            Self::DoesNotApply => "DOES NOT APPLY",
            Self::DoesNotCompile => "DOES NOT COMPILE",
            Self::FailsAnyway => "THE TEST FAILS WITHOUT IT",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::root;

    #[test]
    fn every_mutation_still_applies() {
        let root = root().unwrap();
        let lost = mutations().filter(|mutation| {
            let text = std::fs::read_to_string(root.join(mutation.file)).unwrap_or_default();
            mutation.apply(&text).is_none_or(|mutated| mutated == text)
        });
        let lost: Vec<_> = lost.map(|mutation| format!("{} in {}", mutation.name, mutation.file)).collect();
        assert!(lost.is_empty(), "their text is not there exactly once: {lost:#?}");
    }

    #[test]
    fn a_test_that_is_not_done_in_time_hangs_however_it_is_ended() {
        for (test, expected) in [
            ("exit 0", Run::Passed),
            ("exit 101", Run::Failed),
            ("sleep 60", Run::Hung),
            ("trap '' TERM; while :; do sleep 1; done", Run::Hung),
        ] {
            let mut timeout = Command::new("timeout");
            let end = timeout.args(["--kill-after=0.2", "2", "sh", "-c", test]).status().unwrap();
            assert_eq!(ended(end), expected, "{test}");
        }
    }

    #[test]
    fn every_mutation_has_a_name_of_its_own() {
        let names: BTreeSet<_> = mutations().map(|mutation| mutation.name).collect();
        assert_eq!(names.len(), mutations().count());
    }
}
