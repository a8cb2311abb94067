//! `test`: every check there is, in tiers that can be run alone.

use std::fs;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum as _};

use super::{chaos, in_ci, install, root, table};
use crate::binaries;
use crate::receiver::Kind;

mod deny;
mod run;
mod scripts;
mod tier;

use run::Counts;
use tier::{Step, Tier};

#[derive(Debug, Args)]
pub(super) struct Test {
    /// Which tiers; all when none is named
    tiers: Vec<Tier>,
    /// Install what is missing (Debian packages where run as root, cargo-deny), as CI=true does too
    #[arg(long)]
    install: bool,
    /// Only this kind of sink: of the tier broker what it is held to, and the whole way through the bridge with it; of
    /// chaos that what happens to it
    #[arg(long, value_enum, value_name = "KIND")]
    sink: Option<Kind>,
    #[command(flatten)]
    chaos: chaos::Chaos,
}

/// How a tier went.
struct Report {
    tier: Tier,
    counts: Counts,
    time: Duration,
    notes: Vec<String>,
}

/// What a step needs to know of the call.
struct Context {
    install: bool,
    sink: Option<Kind>,
    chaos: chaos::Chaos,
    color: bool,
}

/// Fails when any test of any tier fails.
pub(super) fn test(Test { tiers, install, sink, chaos }: Test) -> Result<ExitCode> {
    let has_kinds = |tier: &Tier| matches!(tier, Tier::Broker | Tier::Chaos);
    let is_for_kinds = !tiers.is_empty() && tiers.iter().all(has_kinds);
    anyhow::ensure!(
        sink.is_none() || is_for_kinds,
        "--sink is for `cargo xtask test broker` and `test chaos`"
    );
    let tiers = if tiers.is_empty() { Tier::value_variants() } else { tiers.as_slice() };
    let context = Context { install: install || in_ci(), sink, chaos, color: io::stdout().is_terminal() };
    if context.install {
        install::prerequisites()?;
    }

    let mut reports = Vec::new();
    for &tier in tiers {
        reports.push(tier.run(&context));
    }

    println!();
    let rows: Vec<_> = reports.iter().map(Report::row).collect();
    table::print(
        ["tier", "passed", "failed", "skipped", "time", ""],
        &["passed", "failed", "skipped", "time"],
        &rows,
    );
    for Report { tier, notes, .. } in &reports {
        for note in notes {
            println!("{}: {note}", tier.name());
        }
    }
    let total = reports.iter().fold(Counts::default(), |total, report| total + report.counts);
    // Read by machines: keep the form, and keep it last.
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

// === impl Tier ===

impl Tier {
    fn run(self, context: &Context) -> Report {
        println!("\n=== {} ===", self.name());
        let started = Instant::now();
        let mut report =
            Report { tier: self, counts: Counts::default(), time: Duration::ZERO, notes: Vec::new() };
        // First, so that no test waits minutes for a build, and every test finds the same.
        let servers = if self.needs_servers() { binaries::ensure_usual() } else { Ok(()) };
        let mut others = self.needs_too(context.sink).iter();
        let servers = servers.and_then(|()| others.try_for_each(|binary| binary.ensure().map(drop)));
        match servers {
            Ok(()) => {
                for step in self.steps(context.sink) {
                    if let Err(error) = step.run(context, &mut report) {
                        report.fail(format!("{error:#}"));
                    }
                }
            }
            Err(error) if in_ci() => report.fail(format!("no servers to test with: {error:#}")),
            Err(error) => report.skip(format!("no servers to test with: {error:#}")),
        }
        report.time = started.elapsed();
        report
    }
}

// === impl Step ===

impl Step {
    fn run(self, context: &Context, report: &mut Report) -> Result<()> {
        match self {
            Self::Check(name, arguments) => {
                if run::check(&arguments)? {
                    report.counts.passed += 1;
                } else {
                    report.fail(format!("{name} failed"));
                }
            }
            Self::Tests(arguments) => run::tests(&arguments, context.color, report)?,
            Self::Integration(folder, names) => {
                let all = integration_tests(folder)?;
                if names.is_empty() && all.is_empty() {
                    return Ok(());
                }
                integration(folder, if names.is_empty() { &["*"] } else { names }, context, report)?;
            }
            Self::Others(folder, names) => {
                let all = integration_tests(folder)?;
                let others = all.iter().map(String::as_str).filter(|name| !names.contains(name));
                integration(folder, &others.collect::<Vec<_>>(), context, report)?;
            }
            Self::With(binaries, folder, names) => {
                match binaries.iter().try_for_each(|binary| binary.ensure().map(drop)) {
                    Ok(()) => Self::Integration(folder, names).run(context, report)?,
                    Err(error) if in_ci() => report.fail(format!("{error:#}")),
                    Err(error) => report.skip(format!("{names:?} of {folder}: {error:#}")),
                }
            }
            Self::Deny => deny::check(context.install, report)?,
            Self::Scripts => scripts::check(report)?,
            Self::Chaos => {
                let runtime = tokio::runtime::Runtime::new()?;
                let sinks = match (context.sink, context.chaos.rounds) {
                    (Some(sink), _) => vec![sink],
                    (None, Some(_)) => vec![Kind::Nats],
                    (None, None) => Kind::ALL.to_vec(),
                };
                for sink in sinks {
                    if runtime.block_on(chaos::run(&context.chaos, sink))? {
                        report.counts.passed += 1;
                    } else {
                        report.fail(format!("chaos found something with {}", sink.name()));
                    }
                }
            }
            Self::Demo => {
                if run::demo()? {
                    report.counts.passed += 1;
                } else {
                    report.fail("`cargo xtask demo --once` failed".to_owned());
                }
            }
        }
        Ok(())
    }
}

// === impl Report ===

impl Report {
    fn fail(&mut self, note: String) {
        self.counts.failed += 1;
        self.notes.push(note);
    }

    fn skip(&mut self, note: String) {
        self.counts.skipped += 1;
        self.notes.push(format!("skipped: {note}"));
    }

    fn row(&self) -> [String; 6] {
        let Counts { passed, failed, skipped } = self.counts;
        let verdict = match (passed, failed) {
            (_, 1..) => "FAILED",
            (0, 0) => "nothing tested",
            _ => "ok",
        };
        let numbers = [passed, failed, skipped].map(|number| number.to_string());
        let [passed, failed, skipped] = numbers;
        let time = format!("{:.1} s", self.time.as_secs_f64());
        [self.tier.name().to_owned(), passed, failed, skipped, time, verdict.to_owned()]
    }
}

/// Runs the integration tests `names` of the crate in `folder`.
fn integration(folder: &str, names: &[&str], context: &Context, report: &mut Report) -> Result<()> {
    let manifest = format!("{folder}/Cargo.toml");
    let mut arguments = vec!["--manifest-path", &manifest];
    for name in names {
        arguments.extend(["--test", name]);
    }
    run::tests(&arguments, context.color, report)
}

/// The integration tests of the crate in `folder`; cargo takes it for a mistake to ask for those of one that has none.
fn integration_tests(folder: &str) -> Result<Vec<String>> {
    let folder = root()?.join(folder).join("tests");
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").exists() {
            let name = path.file_stem().context("a test without a name")?;
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
