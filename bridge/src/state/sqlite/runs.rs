//! Known and the views of one Watch on disk: each commit adds a small sorted *run*, and runs are merged bit by bit, so
//! that neither what is read at the start nor what lies on disk grows with the number of commits.
//!
//! One row per object would be simpler, and costs a flush of 10,000 objects 30 ms. Writing everything anew once in a
//! while would be simpler too, and costs a pause and a second copy in memory. So a merge reads its runs page by page,
//! and each commit drives it on by a multiple of what the commit itself brought: no commit waits long, and no backlog
//! builds up.

use std::collections::BTreeSet;
use std::ops::Range;

use rusqlite::{Connection, OptionalExtension};
use tidings_core::watch::saved::{Difference, Saved};

use super::Tuning;
use super::files::Trouble;
use super::merge::{Input, Merge};
use super::page::{self, Builder};
use crate::state::blob;

/// The runs of one Watch.
pub(super) struct Runs {
    watch: i64,
    /// From the oldest, which holds most, to the newest.
    sorted: Vec<Run>,
    /// The merge that is under way.
    job: Option<Job>,
}

/// What a commit adds, ready to be written.
pub(super) struct Fresh {
    pages: Vec<Vec<u8>>,
    bytes: usize,
    emptied: BTreeSet<u32>,
}

#[derive(Clone, Debug)]
struct Run {
    input: Input,
    age: i64,
    bytes: usize,
}

struct Job {
    merge: Merge,
    builder: Builder,
    /// What is being written.
    output: i64,
    pages: i64,
    /// What is being merged, by id.
    inputs: Vec<i64>,
    /// The oldest run is among them: nothing older is left that a name could be gone from.
    whole: bool,
}

/// The most pages of a run.
const PAGES: i64 = 1 << 20;

// === impl Fresh ===

impl Fresh {
    /// Nothing when there is no difference.
    pub(super) fn of(difference: &Difference, tuning: &Tuning) -> Result<Option<Self>, Trouble> {
        let emptied =
            difference.emptied.iter().map(|slot| page::space_of(*slot)).collect::<Result<_, _>>()?;
        let (pages, bytes) = page::of_difference(difference, tuning.page_bytes)?;
        let fresh = Self { pages, bytes, emptied };
        Ok((!fresh.pages.is_empty() || !fresh.emptied.is_empty()).then_some(fresh))
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes it as the run `id`. What comes back goes to [`Runs::added`] when it is committed.
    pub(super) fn write(self, db: &Connection, runs: &Runs, watch: i64, id: i64) -> Result<Added, Trouble> {
        let Self { pages, bytes, emptied } = self;
        let age = runs.sorted.last().map_or(0, |run| run.age) + 1;
        for (number, body) in (0..).zip(&pages) {
            write_page(db, id, number, body)?;
        }
        let input = Input { run: id, pages: number(pages.len()), emptied };
        let run = Run { input, age, bytes };
        run.write(db, watch, true)?;
        Ok(Added(run))
    }
}

/// A run that was written and is not committed yet.
pub(super) struct Added(Run);

// === impl Run ===

impl Run {
    fn write(&self, db: &Connection, watch: i64, complete: bool) -> Result<(), Trouble> {
        let Self { input: Input { run, pages, emptied }, age, bytes } = self;
        db.prepare_cached("INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?, ?, ?, ?)")?.execute((
            run,
            watch,
            age,
            pages,
            number(*bytes),
            blob::encode(emptied)?,
            complete,
        ))?;
        Ok(())
    }
}

// === impl Runs ===

impl Runs {
    /// Of a Watch that has none.
    pub(super) fn new(watch: i64) -> Self {
        Self { watch, sorted: Vec::new(), job: None }
    }

    /// What the database has.
    pub(super) fn read(db: &Connection, watch: i64) -> Result<Self, Trouble> {
        let mut statement = db.prepare_cached(
            "SELECT id, age, pages, bytes, emptied FROM run WHERE watch = ? AND complete ORDER BY age",
        )?;
        let mut rows = statement.query([watch])?;
        let mut sorted = Vec::new();
        while let Some(row) = rows.next()? {
            let input = Input {
                run: row.get(0)?,
                pages: row.get(2)?,
                emptied: blob::decode(row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?)?,
            };
            let bytes = usize::try_from(row.get::<_, i64>(3)?).unwrap_or(usize::MAX);
            sorted.push(Run { input, age: row.get(1)?, bytes });
        }
        Ok(Self { watch, sorted, job: None })
    }

    /// A run that was written is committed.
    pub(super) fn added(&mut self, Added(run): Added) {
        self.sorted.push(run);
    }

    /// Everything the runs hold.
    pub(super) fn load(&self, db: &Connection) -> Result<Saved, Trouble> {
        let mut merge = Merge::new(self.sorted.iter().map(|run| run.input.clone()));
        let mut saved = Saved::default();
        let (mut name, mut value) = (Vec::new(), Vec::new());
        while merge.next(&mut name, &mut value, &mut |run, number| read_page(db, run, number))? {
            if !value.is_empty() {
                page::restore(&name, &value, &mut saved)?;
            }
        }
        Ok(saved)
    }

    /// Whether there is something to merge.
    pub(super) fn is_due(&self, tuning: &Tuning) -> bool {
        self.job.is_some() || self.due(tuning).is_some()
    }

    /// Reads about `budget` bytes more of what is to be merged and writes what they come to; with the last ones the
    /// merged run takes the place of the others. `id` is that of a new run. After an error the merge begins anew, and
    /// nothing is lost by it.
    pub(super) fn merge(
        &mut self,
        db: &Connection,
        id: i64,
        budget: usize,
        tuning: &Tuning,
    ) -> Result<(), Trouble> {
        let job = match self.job.take() {
            Some(job) => job,
            None => match self.due(tuning) {
                Some(range) => self.begin(db, range, id, tuning)?,
                None => return Ok(()),
            },
        };
        let transaction = db.unchecked_transaction()?;
        let (job, done) = self.advance(db, job, budget)?;
        transaction.commit()?;
        match done {
            None => self.job = Some(job),
            Some(merged) => {
                self.sorted.retain(|run| !job.inputs.contains(&run.input.run));
                self.sorted.push(merged);
                self.sorted.sort_by_key(|run| run.age);
            }
        }
        Ok(())
    }

    /// Which runs are to be merged: when they are many, the newest ones that are about equally large; else all of them,
    /// when the others have outgrown the oldest.
    fn due(&self, tuning: &Tuning) -> Option<Range<usize>> {
        let (oldest, others) = self.sorted.split_first()?;
        if others.len() < tuning.most_runs {
            let sum: usize = others.iter().map(|run| run.bytes).sum();
            let outgrown = !others.is_empty() && sum >= oldest.bytes.max(tuning.page_bytes);
            return outgrown.then_some(0..self.sorted.len());
        }
        // Half of them stay at most, so that there is time for the oldest one too.
        let least = others.len() - tuning.most_runs / 2;
        let mut count = 0;
        let mut sum = 0;
        for run in others.iter().rev().take(tuning.most_merged) {
            if count >= least && run.bytes > sum {
                break;
            }
            sum += run.bytes;
            count += 1;
        }
        Some(self.sorted.len() - count..self.sorted.len())
    }

    fn begin(&self, db: &Connection, range: Range<usize>, id: i64, tuning: &Tuning) -> Result<Job, Trouble> {
        self.sweep(db)?;
        let whole = range.start == 0;
        let chosen = &self.sorted[range];
        let merge = Merge::new(chosen.iter().map(|run| run.input.clone()));
        let inputs = chosen.iter().map(|run| run.input.run).collect();
        let builder = Builder::new(tuning.page_bytes);
        Ok(Job { merge, builder, output: id, pages: 0, inputs, whole })
    }

    /// Removes what a merge left that was not finished.
    fn sweep(&self, db: &Connection) -> Result<(), Trouble> {
        let unfinished = "SELECT id FROM run WHERE watch = ? AND NOT complete";
        let find = |db: &Connection| -> Result<Option<i64>, Trouble> {
            Ok(db.prepare_cached(unfinished)?.query_row([self.watch], |row| row.get(0)).optional()?)
        };
        while let Some(run) = find(db)? {
            let transaction = db.unchecked_transaction()?;
            remove(db, run)?;
            transaction.commit()?;
        }
        Ok(())
    }

    fn advance(&self, db: &Connection, mut job: Job, budget: usize) -> Result<(Job, Option<Run>), Trouble> {
        let last = job.inputs.iter().rev().find_map(|id| self.sorted.iter().find(|run| run.input.run == *id));
        let age = last.map_or(0, |run| run.age);
        let (mut name, mut value) = (Vec::new(), Vec::new());
        let enough = job.merge.read + budget;
        while job.merge.read < enough {
            if !job.merge.next(&mut name, &mut value, &mut |run, number| read_page(db, run, number))? {
                if let Some(page) = job.builder.finish() {
                    job.put(db, &page)?;
                }
                let emptied = if job.whole { BTreeSet::new() } else { job.merge.emptied() };
                let input = Input { run: job.output, pages: job.pages, emptied };
                for run in &job.inputs {
                    remove(db, *run)?;
                }
                let merged = Run { input, age, bytes: job.builder.bytes };
                merged.write(db, self.watch, true)?;
                return Ok((job, Some(merged)));
            }
            if job.whole && value.is_empty() {
                continue;
            }
            if let Some(page) = job.builder.push(&name, &value) {
                job.put(db, &page)?;
            }
        }
        let input = Input { run: job.output, pages: job.pages, emptied: BTreeSet::new() };
        Run { input, age, bytes: job.builder.bytes }.write(db, self.watch, false)?;
        Ok((job, None))
    }
}

// === impl Job ===

impl Job {
    fn put(&mut self, db: &Connection, page: &[u8]) -> Result<(), Trouble> {
        write_page(db, self.output, self.pages, page)?;
        self.pages += 1;
        Ok(())
    }
}

/// Removes all runs of a Watch.
pub(super) fn forget(db: &Connection, watch: i64) -> Result<(), Trouble> {
    let mut statement = db.prepare_cached("SELECT id FROM run WHERE watch = ?")?;
    let runs = statement.query_map([watch], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    runs.into_iter().try_for_each(|run| remove(db, run))
}

/// As SQLite counts.
fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn remove(db: &Connection, run: i64) -> Result<(), Trouble> {
    let pages = (run * PAGES, (run + 1) * PAGES);
    db.prepare_cached("DELETE FROM page WHERE id >= ? AND id < ?")?.execute(pages)?;
    db.prepare_cached("DELETE FROM run WHERE id = ?")?.execute([run])?;
    Ok(())
}

/// What the complete runs of a Watch are, from the oldest to the newest.
pub(super) fn inputs(db: &Connection, watch: i64) -> Result<Vec<Input>, Trouble> {
    Ok(Runs::read(db, watch)?.sorted.into_iter().map(|run| run.input).collect())
}

fn write_page(db: &Connection, run: i64, number: i64, body: &[u8]) -> Result<(), Trouble> {
    db.prepare_cached("INSERT INTO page VALUES (?, ?)")?.execute((run * PAGES + number, body))?;
    Ok(())
}

pub(super) fn read_page(db: &Connection, run: i64, number: i64) -> Result<Vec<u8>, Trouble> {
    let mut statement = db.prepare_cached("SELECT body FROM page WHERE id = ?")?;
    Ok(statement.query_row([run * PAGES + number], |row| row.get(0))?)
}
