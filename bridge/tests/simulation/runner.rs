//! Runs many schedules, on as many threads as there are cores, and says which one broke a promise.

use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::schedule;
use crate::trace::{Counts, Fault, Outcome};

/// How many failures are looked for before the rest is not worth the time.
const ENOUGH: usize = 8;
/// Lines of a trace that are printed, from the end.
const LINES: usize = 400;

/// Which schedules to run.
pub(crate) struct Seeds {
    first: u64,
    count: u64,
}

/// What came of them.
#[derive(Default)]
pub(crate) struct Summary {
    pub(crate) counts: Counts,
    schedules: u64,
    written: u64,
    delivered: u64,
    took: Duration,
}

thread_local! {
    /// The panics of this thread: tokio keeps those of tasks to itself.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Runs them; panics with the story of the first one that broke a promise.
pub(crate) fn run(seeds: &Seeds) -> Summary {
    listen();
    let start = Instant::now().into_std();
    let (next, failed) = (AtomicU64::new(seeds.first), Mutex::new(Vec::new()));
    let summary = Mutex::new(Summary::default());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.first + seeds.count || failed.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                    let outcome = one(seed, false);
                    if let Some(complaint) = &outcome.broken {
                        failed.lock().unwrap().push((seed, complaint.clone()));
                    }
                    summary.lock().unwrap().add(outcome);
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    if let Some((seed, complaint)) = failed.first() {
        tell(*seed, complaint);
        let all: Vec<_> =
            failed.iter().map(|(seed, complaint)| format!("seed {seed}: {complaint}")).collect();
        let all = all.join(
            "
  ",
        );
        panic!(
            "a promise is broken:\n  {all}\nthe story of the first is above; again:\n  \
             TIDINGS_SIMULATION_SEED={seed} cargo test -p tidings-bridge --test simulation"
        );
    }
    let mut summary = summary.into_inner().unwrap();
    summary.took = start.elapsed();
    summary
}

/// Runs one; a panic anywhere in it is a broken promise, too.
fn one(seed: u64, lines: bool) -> Outcome {
    PANICS.with_borrow_mut(Vec::clear);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| schedule::run(seed, lines)));
    let mut outcome = outcome.unwrap_or_else(|_| Outcome::default());
    if let Some(panic) = PANICS.with_borrow_mut(std::mem::take).into_iter().next() {
        outcome.broken.get_or_insert(panic);
    }
    outcome
}

/// The same once more, with all its lines.
fn tell(seed: u64, complaint: &str) {
    let outcome = one(seed, true);
    let skipped = outcome.lines.len().saturating_sub(LINES);
    println!("seed {seed}; {skipped} lines before this:");
    let all = std::env::var_os("TIDINGS_SIMULATION_SEED").is_some();
    for line in outcome.lines.iter().skip(if all { 0 } else { skipped }) {
        println!("{line}");
    }
    if outcome.broken.as_deref() != Some(complaint) {
        println!("it is not repeatable: the second time {:?}", outcome.broken);
    }
}

/// Notes panics of threads that run schedules.
fn listen() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
        before(info);
    }));
}

// === impl Seeds ===

impl Seeds {
    /// One, or some, as the environment says, else as many as usual.
    pub(crate) fn wanted(usual: u64) -> Self {
        let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
        match (number("TIDINGS_SIMULATION_SEED"), number("TIDINGS_SIMULATION_SEEDS")) {
            (Some(seed), None) => Self { first: seed, count: 1 },
            (first, count) => Self { first: first.unwrap_or(0), count: count.unwrap_or(usual) },
        }
    }

    /// Enough for everything to happen.
    pub(crate) fn are_many(&self) -> bool {
        self.count >= 500
    }
}

// === impl Summary ===

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        let Outcome { lines: _, counts, written, delivered, broken: _ } = outcome;
        for (fault, count) in counts {
            *self.counts.entry(fault).or_default() += count;
        }
        self.schedules += 1;
        self.written += written;
        self.delivered += delivered;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counts, schedules, written, delivered, took } = self;
        let each = took.as_secs_f64() / f64::from(u32::try_from(*schedules).unwrap_or(u32::MAX));
        writeln!(f, "{schedules} schedules in {took:.1?} ({:.0}/s)", 1.0 / each)?;
        writeln!(f, "{written} versions written, {delivered} events stored")?;
        for fault in Fault::ALL {
            writeln!(f, "{:>8}  {fault:?}", counts.get(&fault).copied().unwrap_or_default())?;
        }
        Ok(())
    }
}
