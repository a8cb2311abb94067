//! The store: one SQLite database in WAL mode, used by one process.
//!
//! A commit is one transaction of a few rows: the record of the Watch, a run of what changed in Known, and chunks with
//! the entries of the Journal. A crash of the process loses nothing that was committed; a crash of the machine may
//! lose the last commits, but never the middle of one (`synchronous=NORMAL`).

pub(crate) mod chunks;
pub(crate) mod contents;
pub(crate) mod files;
mod merge;
pub(crate) mod open;
mod page;
mod reserve;
mod runs;

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::blob;
use super::record::{CHUNK_BYTES, Commit, Flushed, JournalRecord, StoredWatch, WatchName, WatchRecord};
use super::{Error, Store};
use files::{Files, Trouble};
use reserve::Reserve;
use runs::{Fresh, Runs};

/// State in a SQLite database.
pub struct SqliteStore {
    db: Connection,
    files: Files,
    reserve: Reserve,
    tuning: Tuning,
    watches: HashMap<WatchName, Known>,
    next_run: i64,
    /// A merge found this after its commit was made: nothing is written any more.
    damage: Option<String>,
    /// After the database, which is closed first.
    _lock: open::Lock,
}

/// A Watch that is in the database.
struct Known {
    id: i64,
    runs: Runs,
}

/// Sizes, smaller in tests.
#[derive(Clone, Copy, Debug)]
struct Tuning {
    /// A page of SQLite.
    database_page: i64,
    /// The log is put into the database when it is longer than this.
    log_bytes: i64,
    /// SQLite's cache.
    cache_bytes: i64,
    /// What is stored as one chunk of a Journal.
    chunk_bytes: usize,
    /// A page of a run.
    page_bytes: usize,
    /// So many runs besides the oldest one are merged.
    most_runs: usize,
    /// At once.
    most_merged: usize,
    /// What a commit merges at least.
    least_merge: usize,
    /// What it merges for each byte of its own.
    pace: usize,
    /// A larger file is not read through at the start, only what is needed to start: the bodies of a Journal can be many
    /// gigabytes, and each has a checksum that is looked at when it is read.
    checked_whole: u64,
    /// Pages of SQLite that one commit gives back to the disk.
    shrink_pages: i64,
}

/// Pages that are given back at once when the disk is full; a bound for the time it takes.
const MOST_SHRUNK: i64 = 16_384;

// === impl SqliteStore ===

impl SqliteStore {
    /// Opens the state in `folder`, which is made if need be, for this process alone.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(folder.as_ref(), Tuning::default())
    }

    fn open_with(folder: &Path, tuning: Tuning) -> Result<Self, Error> {
        let files = Files::new(folder);
        open::folder(&files)?;
        let lock = open::lock(&files)?;
        let db = open::open(&files, &tuning)?;
        let next_run = db.query_row("SELECT coalesce(max(id), 0) + 1 FROM run", [], |row| row.get(0));
        let next_run = next_run.map_err(|error| files.error("read", error.into()))?;
        let reserve = Reserve::find(&files);
        let watches = HashMap::new();
        Ok(Self { db, files, reserve, tuning, watches, next_run, damage: None, _lock: lock })
    }

    fn error(&self, action: &'static str) -> impl Fn(Trouble) -> Error {
        let files = self.files.clone();
        move |trouble| files.error(action, trouble)
    }

    /// Reads what there is of a Watch, once.
    fn find(&mut self, name: &WatchName) -> Result<Option<&mut Known>, Trouble> {
        if !self.watches.contains_key(name) {
            let find = "SELECT id FROM watch WHERE name = ?";
            let mut find = self.db.prepare_cached(find)?;
            let id = find.query_row([blob::encode(name)?], |row| row.get(0)).optional()?;
            if let Some(id) = id {
                let runs = Runs::read(&self.db, id)?;
                self.watches.insert(name.clone(), Known { id, runs });
            }
        }
        Ok(self.watches.get_mut(name))
    }

    fn read_watch(&mut self, name: &WatchName) -> Result<Option<StoredWatch>, Trouble> {
        if self.find(name)?.is_none() {
            return Ok(None);
        }
        let (db, Some(Known { id, runs })) = (&self.db, self.watches.get(name)) else { return Ok(None) };
        let mut record = db.prepare_cached("SELECT record FROM watch WHERE id = ?")?;
        let record: Vec<u8> = record.query_row([id], |row| row.get(0))?;
        let record: WatchRecord = blob::decode(&record)?;
        let saved = runs.load(db)?;
        let chunks = chunks::records(db, *id, &record)?;
        Ok(Some(StoredWatch { record, saved, chunks }))
    }

    fn write(&mut self, commit: &Commit) -> Result<Flushed, Trouble> {
        let Commit { watch, record, difference, journal } = commit;
        let encoded = blob::encode(record)?;
        let fresh = Fresh::of(difference, &self.tuning)?;
        let merge = fresh.as_ref().map_or(0, Fresh::bytes) * self.tuning.pace;

        let found = self.find(watch)?.map(|known| known.id);
        let transaction = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
        let id = if let Some(id) = found {
            let update = "UPDATE watch SET record = ? WHERE id = ?";
            transaction.prepare_cached(update)?.execute((&encoded, id))?;
            id
        } else {
            let insert = "INSERT INTO watch (name, record) VALUES (?, ?)";
            transaction.prepare_cached(insert)?.execute((blob::encode(watch)?, &encoded))?;
            transaction.last_insert_rowid()
        };
        let none = Known { id, runs: Runs::new(id) };
        let runs = &self.watches.get(watch).unwrap_or(&none).runs;
        let added = fresh.map(|fresh| fresh.write(&transaction, runs, id, self.next_run)).transpose()?;
        let flushed = chunks::flush(&transaction, id, record, journal, self.tuning.chunk_bytes)?;
        transaction.commit()?;

        let known = self.watches.entry(watch.clone()).or_insert(none);
        if let Some(added) = added {
            known.runs.added(added);
            self.next_run += 1;
        }
        self.tidy(watch, merge, journal.entries.is_empty());
        Ok(flushed)
    }

    /// What follows a commit, which stands whatever comes of it.
    fn tidy(&mut self, watch: &WatchName, merge: usize, quiet: bool) {
        let Some(known) = self.watches.get_mut(watch) else { return };
        let budget = merge.max(self.tuning.least_merge);
        let result = if merge > 0 && known.runs.is_due(&self.tuning) {
            let id = self.next_run;
            self.next_run += 1;
            known.runs.merge(&self.db, id, budget, &self.tuning)
        } else {
            Ok(())
        };
        let result = result.and_then(|()| if quiet { self.shrink() } else { Ok(()) });
        // Whatever else it is, it is begun again with the next commit.
        if let Err(Error::Damaged { problem, .. }) =
            result.map_err(|trouble| self.files.error("write", trouble))
        {
            self.damage = Some(problem);
        }
    }

    /// Gives pages that are free back to the disk, when they are many: after an outage was drained.
    fn shrink(&self) -> Result<(), Trouble> {
        let value = |name| self.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (free, all) = (value("freelist_count")?, value("page_count")?);
        if free > (all / 4).max(self.tuning.log_bytes / self.tuning.database_page) {
            self.vacuum(self.tuning.shrink_pages)?;
        }
        Ok(())
    }

    fn vacuum(&self, pages: i64) -> Result<(), Trouble> {
        // Each step frees one page.
        let mut statement = self.db.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut steps = statement.query([])?;
        while steps.next()?.is_some() {}
        Ok(())
    }

    /// Gives free pages and the room of the log back. The pages first: while they count, the file would have to grow
    /// before the log can be put into it.
    fn make_room(&self) {
        // On a full disk each may fail, and whoever needs the room is told. Bit by bit: what does not fit into the cache
        // is written to the log first.
        for _ in 0..MOST_SHRUNK / self.tuning.shrink_pages {
            let free = self.db.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0));
            if free.is_ok_and(|free| free == 0) || self.vacuum(self.tuning.shrink_pages).is_err() {
                break;
            }
        }
        let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }

    /// What is refused before it is tried.
    fn usable(&self) -> Result<(), Error> {
        match &self.damage {
            Some(problem) => Err(Error::Damaged { file: self.files.database(), problem: problem.clone() }),
            None => Ok(()),
        }
    }
}

impl Store for SqliteStore {
    fn cluster(&mut self) -> Result<Option<String>, Error> {
        let cluster = "SELECT value FROM state WHERE name = 'cluster'";
        let cluster = self.db.query_row(cluster, [], |row| row.get(0)).optional();
        cluster.map_err(|error| self.files.error("read", error.into()))
    }

    fn set_cluster(&mut self, uid: &str) -> Result<(), Error> {
        self.usable()?;
        let set = self.db.execute("INSERT OR REPLACE INTO state VALUES ('cluster', ?)", [uid]);
        set.map(drop).map_err(|error| self.files.error("write", error.into()))
    }

    fn watches(&mut self) -> Result<Vec<(WatchName, WatchRecord)>, Error> {
        let read = || {
            let mut statement = self.db.prepare("SELECT name, record FROM watch ORDER BY id")?;
            let mut rows = statement.query([])?;
            let mut watches = Vec::new();
            while let Some(row) = rows.next()? {
                let (name, record): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
                watches.push((blob::decode(&name)?, blob::decode(&record)?));
            }
            Ok(watches)
        };
        read().map_err(self.error("read"))
    }

    fn load(&mut self, watch: &WatchName) -> Result<Option<StoredWatch>, Error> {
        self.read_watch(watch).map_err(self.error("read"))
    }

    fn commit(&mut self, commit: &Commit) -> Result<Flushed, Error> {
        self.usable()?;
        let mut result = self.write(commit).map_err(self.error("write"));
        if matches!(result, Err(Error::Full { .. })) {
            self.make_room();
            result = self.write(commit).map_err(self.error("write"));
        }
        if matches!(result, Err(Error::Full { .. }))
            && commit.journal.entries.is_empty()
            && self.reserve.release(&self.files)
        {
            // Removing has to be written down before anything is free; until then the log, which is put into the
            // database by itself, must not take what was held for it.
            let _ = open::checkpoints(&self.db, 0);
            result = self.write(commit).map_err(self.error("write"));
            self.make_room();
            let _ = open::checkpoints(&self.db, self.tuning.log_bytes / self.tuning.database_page);
        }
        if result.is_ok() && !commit.journal.entries.is_empty() {
            self.reserve.hold(&self.files);
        }
        result
    }

    fn read(&mut self, watch: &WatchName, chunk: u64) -> Result<Vec<JournalRecord>, Error> {
        let read = || {
            let Some(Known { id, .. }) = self.find(watch)? else { return Err(blob::Problem::Missing.into()) };
            let id = *id;
            chunks::read(&self.db, id, chunk)
        };
        let result: Result<_, Trouble> = { read }();
        result.map_err(self.error("read"))
    }

    fn forget(&mut self, watch: &WatchName) -> Result<(), Error> {
        self.usable()?;
        let mut forget = || {
            let Some(Known { id, .. }) = self.find(watch)? else { return Ok(()) };
            let id = *id;
            let transaction = self.db.unchecked_transaction()?;
            runs::forget(&transaction, id)?;
            transaction.execute("DELETE FROM chunk WHERE id >= ? AND id < ?", contents::chunks_of(id))?;
            transaction.execute("DELETE FROM watch WHERE id = ?", [id])?;
            transaction.commit()?;
            self.watches.remove(watch);
            Ok(())
        };
        let result: Result<_, Trouble> = forget();
        result.map_err(self.error("write"))
    }

    fn size(&mut self) -> Result<u64, Error> {
        Ok(self.files.size())
    }
}

// === impl Tuning ===

impl Default for Tuning {
    fn default() -> Self {
        Self {
            database_page: 8192,
            log_bytes: 16 << 20,
            cache_bytes: 4 << 20,
            chunk_bytes: CHUNK_BYTES,
            page_bytes: 256 << 10,
            most_runs: 16,
            most_merged: 128,
            least_merge: 64 << 10,
            pace: 4,
            checked_whole: 256 << 20,
            shrink_pages: 256,
        }
    }
}

#[cfg(test)]
mod tests;
