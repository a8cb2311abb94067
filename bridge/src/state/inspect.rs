//! Reading the state without changing it, as far as it can be read: for `tidings state inspect` and `export`, and for
//! moving it away.
//!
//! The store refuses a file in which anything is damaged. A person wants to see the rest of it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tidings_core::watch::saved::Saved;

use super::record::{ChunkIndex, ChunkRecord, JournalRecord, SubscriptionRecord, WatchName, WatchRecord};
use super::sqlite::files::{Files, Trouble};
use super::sqlite::{contents, open};
use super::{Error, blob};

/// The state in a folder, opened to be read.
pub struct StateReader {
    /// Taken when it is closed.
    db: Option<Connection>,
    files: Files,
    schema: u32,
    damage: Vec<String>,
    had_log: bool,
    _lock: Option<open::Lock>,
}

/// A Watch in the state.
#[derive(Clone, Debug)]
pub struct WatchContents {
    id: i64,
    /// Which.
    pub name: WatchName,
    /// Its record; nothing when that cannot be read.
    pub record: Option<WatchRecord>,
}

/// What one Subscription has not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// How many Changes.
    pub changes: u64,
    /// Their share of the chunks they lie in.
    pub bytes: u64,
}

// === impl StateReader ===

impl StateReader {
    /// Opens what is in `folder`. An error when that is in use, is not ours, or is newer than this program.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let files = Files::new(folder);
        let Some(header) = open::header(&files)? else {
            let source = io::Error::from(io::ErrorKind::NotFound);
            return Err(Error::Io { action: "find the state", path: files.database(), source });
        };
        // Whoever may not write to the folder cannot lock it either; nor did a bridge that ran as the same user.
        let lock = match open::lock(&files) {
            Ok(lock) => Some(lock),
            Err(Error::Locked { folder }) => return Err(Error::Locked { folder }),
            Err(_) => None,
        };
        let had_log = files.log().exists();
        let (schema, damage) = (header.schema, Vec::new());
        let mut reader = Self { db: None, files, schema, damage, had_log, _lock: lock };
        match reader.attach() {
            Ok(db) => reader.db = Some(db),
            Err(error) => reader.damage.push(error.to_string()),
        }
        reader.check();
        Ok(reader)
    }

    /// The version of the form of the file.
    pub fn schema(&self) -> u32 {
        self.schema
    }

    /// Bytes on disk.
    pub fn size(&self) -> u64 {
        self.files.size()
    }

    /// What was found to be wrong until now.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// The uid of the cluster.
    pub fn cluster(&mut self) -> Option<String> {
        let read = |db: &Connection| {
            let cluster = "SELECT value FROM state WHERE name = 'cluster'";
            Ok(db.query_row(cluster, [], |row| row.get(0)).optional()?)
        };
        self.read("the cluster", read).flatten()
    }

    /// The Watches whose names can be read.
    pub fn watches(&mut self) -> Vec<WatchContents> {
        let ids = self.ids(
            "the Watches",
            "SELECT id FROM watch WHERE id >= ? AND id < ? ORDER BY id",
            (0, i64::MAX),
        );
        let mut watches = Vec::new();
        for id in ids {
            let name = self.blob("the name of a Watch", "SELECT name FROM watch WHERE id = ?", id);
            let record = self.blob("the record of a Watch", "SELECT record FROM watch WHERE id = ?", id);
            let name = name.and_then(|name| self.keep("the name of a Watch", blob::decode(&name)));
            let Some(name) = name else { continue };
            let record = record.and_then(|record| self.keep("the record of a Watch", blob::decode(&record)));
            watches.push(WatchContents { id, name, record });
        }
        watches
    }

    /// Known and the views of a Watch, without the pages that cannot be read.
    pub fn saved(&mut self, watch: &WatchContents) -> Saved {
        let loaded = self.db.as_ref().map(|db| contents::load(db, watch.id));
        let (saved, problems) = loaded.unwrap_or_default();
        self.damage
            .extend(problems.into_iter().map(|problem| format!("Known of {}: {problem}", watch.name.kind)));
        saved
    }

    /// The chunks of the Journal of a Watch whose index can be read, in the order of what is in them.
    pub fn chunks(&mut self, watch: &WatchContents) -> Vec<ChunkRecord> {
        let ids = "SELECT id FROM chunk WHERE id >= ? AND id < ? ORDER BY id";
        let ids = self.ids("the Journal", ids, contents::chunks_of(watch.id));
        let mut chunks = Vec::new();
        for id in ids {
            let what = "the index of a chunk";
            let Some(index) = self.blob(what, "SELECT contents FROM chunk WHERE id = ?", id) else {
                continue;
            };
            let bytes = self.read(what, |db| {
                let bytes = "SELECT length(contents) + length(body) FROM chunk WHERE id = ?";
                Ok(db.query_row(bytes, [id], |row| row.get::<_, i64>(0))?)
            });
            let Some(index) = self.keep::<ChunkIndex, _>(what, blob::decode(&index)) else { continue };
            let bytes = usize::try_from(bytes.unwrap_or_default()).unwrap_or_default();
            let is_open = watch.record.as_ref().map(WatchRecord::is_open);
            let is_open = |slot, number| is_open.as_ref().is_some_and(|is_open| is_open(slot, number));
            chunks.extend(ChunkRecord::of(contents::chunk_of(watch.id, id), &index, bytes, is_open));
        }
        chunks.sort_by_key(|chunk| chunk.last);
        chunks
    }

    /// The entries of a chunk, when it can be read.
    pub fn entries(&mut self, watch: &WatchContents, chunk: u64) -> Vec<JournalRecord> {
        let what = "a chunk of the Journal";
        let id = contents::row(watch.id, chunk);
        let Some(id) = self.keep(what, id) else { return Vec::new() };
        let body = self.blob(what, "SELECT body FROM chunk WHERE id = ?", id);
        body.and_then(|body| self.keep(what, blob::decode_entries(&body))).unwrap_or_default()
    }

    /// A connection that does not write. Where even that is refused, one that reads the file as it is.
    fn attach(&mut self) -> Result<Connection, rusqlite::Error> {
        let usable = |db: &Connection| {
            db.pragma_update(None, "query_only", true)?;
            db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        };
        let attached = open::attach(&self.files).and_then(|db| usable(&db).map(|()| db));
        let error = match attached {
            Ok(db) => return Ok(db),
            Err(error) => error,
        };
        let path = self.files.database();
        let path = path
            .to_string_lossy()
            .split('/')
            .map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string())
            .collect::<Vec<_>>()
            .join("/");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let db = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)?;
        usable(&db).map_err(|_| error)?;
        if fs::metadata(self.files.log()).is_ok_and(|log| log.len() > 0) {
            self.damage
                .push("what was committed last cannot be read from here, only what was before".to_owned());
        }
        Ok(db)
    }

    /// What SQLite itself finds wrong.
    fn check(&mut self) {
        let found = self.read("the file", |db| {
            let mut statement = db.prepare("PRAGMA quick_check(20)")?;
            let found = statement.query_map([], |row| row.get(0))?;
            Ok(found.collect::<Result<Vec<String>, _>>()?)
        });
        self.damage.extend(found.into_iter().flatten().filter(|said| said != "ok"));
    }

    /// As many as can be read.
    fn ids(&mut self, what: &str, query: &str, range: (i64, i64)) -> Vec<i64> {
        let mut ids = Vec::new();
        self.read(what, |db| {
            let mut statement = db.prepare_cached(query)?;
            let mut rows = statement.query(range)?;
            while let Some(row) = rows.next()? {
                ids.push(row.get(0)?);
            }
            Ok(())
        });
        ids
    }

    fn blob(&mut self, what: &str, query: &str, id: i64) -> Option<Vec<u8>> {
        self.read(what, |db| Ok(db.prepare_cached(query)?.query_row([id], |row| row.get(0))?))
    }

    fn read<T>(&mut self, what: &str, read: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Option<T> {
        let result = read(self.db.as_ref()?);
        self.keep(what, result)
    }

    fn keep<T, E: std::fmt::Display>(&mut self, what: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.damage.push(format!("{what}: {error}"))).ok()
    }
}

impl Drop for StateReader {
    fn drop(&mut self) {
        drop(self.db.take());
        if !self.had_log {
            self.files.remove_empty_log();
        }
    }
}

// === impl Unsettled ===

impl Unsettled {
    /// What one Subscription has not settled of the chunks of its Watch.
    pub fn of(subscription: &SubscriptionRecord, chunks: &[ChunkRecord]) -> Self {
        let mut unsettled = Self::default();
        for chunk in chunks {
            let open = chunk.open(subscription.slot);
            unsettled.changes += open;
            unsettled.bytes += chunk.share(open);
        }
        unsettled
    }
}

/// Moves the state in `folder` into a folder `name` below it, where it can be looked at; says where it is, or that there
/// is none. Nothing is deleted.
pub fn set_aside(folder: &Path, name: &str) -> Result<Option<PathBuf>, Error> {
    let files = Files::new(folder);
    let present: Vec<_> = files.state().into_iter().filter(|path| path.exists()).collect();
    if present.is_empty() {
        return Ok(None);
    }
    let _lock = open::lock(&files)?;
    let aside = folder.join(name);
    DirBuilder::new().mode(0o700).create(&aside).map_err(|source| files.io("create", &aside, source))?;
    for path in present {
        let Some(name) = path.file_name() else { continue };
        fs::rename(&path, aside.join(name)).map_err(|source| files.io("move", &path, source))?;
    }
    Ok(Some(aside))
}
