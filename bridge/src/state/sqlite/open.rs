//! Opening: whose file it is, whether it is whole, and bringing it to the newest schema. Until all of that is known,
//! nothing is written.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::Tuning;
use super::files::{Files, MODE, Trouble};
use crate::state::Error;

/// `TIDG`: what `PRAGMA application_id` says of our files.
pub(crate) const APPLICATION: u32 = 0x5449_4447;

/// What brings a file from one schema to the next, the first from nothing to schema 1. Published ones are never
/// changed.
const MIGRATIONS: [&str; 2] = [include_str!("schema-1.sql"), include_str!("schema-2.sql")];

/// The schema of this program.
#[allow(clippy::cast_possible_truncation, reason = "they are counted on fingers")]
pub(crate) const SCHEMA: u32 = MIGRATIONS.len() as u32;

/// What of a file's header says whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) schema: u32,
}

/// The folder's lock; it is free again when this is dropped.
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that was just forked still has the file, until it is another program.
        let _ = self.0.unlock();
    }
}

/// Takes the folder's lock, or says at once that another process has it.
pub(crate) fn lock(files: &Files) -> Result<Lock, Error> {
    let path = files.lock();
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(&path);
    let file = file.map_err(|source| files.io("open", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { folder: files.folder.clone() }),
        Err(TryLockError::Error(source)) => Err(files.io("lock", &path, source)),
    }
}

/// Opens what is there, or makes it. The folder has to be locked.
pub(super) fn open(files: &Files, tuning: &Tuning) -> Result<Connection, Error> {
    if header(files)?.is_none() {
        create(files, tuning)?;
    }
    let had_log = files.log().exists();
    let opened = connect(files, tuning).and_then(|db| {
        migrate(&db, tuning).map_err(|trouble| files.error("open", trouble))?;
        Ok(db)
    });
    if opened.is_err() && !had_log {
        files.remove_empty_log();
    }
    opened
}

/// Makes the folder, only for its owner, where it is missing.
pub(super) fn folder(files: &Files) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&files.folder);
    made.map_err(|source| files.io("create", &files.folder, source))
}

/// What the file says it is; nothing when there is none. Reads it without SQLite, which might write to what is not
/// ours: <https://www.sqlite.org/fileformat2.html#the_database_header>.
pub(crate) fn header(files: &Files) -> Result<Option<Header>, Error> {
    let file = files.database();
    let mut header = [0; 100];
    match File::open(&file).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if files.log().exists() {
                let problem = "its log is there, and the file itself is not".to_owned();
                return Err(Error::Damaged { file, problem });
            }
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Error::Foreign { file }),
        Err(source) => return Err(files.io("read", &file, source)),
    }
    let word = |at: usize| header[at..].first_chunk().map_or(0, |word| u32::from_be_bytes(*word));
    if !header.starts_with(b"SQLite format 3\0") || word(68) != APPLICATION {
        return Err(Error::Foreign { file });
    }
    newer(files, word(60))?;
    Ok(Some(Header { schema: word(60) }))
}

/// Opens a file that is ours, alone, and checks that it is whole. Nothing is written by it, nor when it is closed.
fn connect(files: &Files, tuning: &Tuning) -> Result<Connection, Error> {
    let sql = |error: rusqlite::Error| files.error("open", error.into());
    let db = attach(files).map_err(sql)?;
    let schema: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sql)?;
    // The header may be older than what the log has.
    newer(files, schema)?;
    let small = files.size() <= tuning.checked_whole;
    let checks: &[&str] = if small {
        &["PRAGMA quick_check(1)"]
    } else {
        &[
            "PRAGMA quick_check(state)",
            "PRAGMA quick_check(watch)",
            "PRAGMA quick_check(run)",
            "PRAGMA quick_check(page)",
        ]
    };
    for check in checks {
        let said: String = db.query_row(check, [], |row| row.get(0)).map_err(sql)?;
        if said != "ok" {
            return Err(Error::Damaged { file: files.database(), problem: said });
        }
    }
    // From here on it is ours to write to.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(sql)?;
    Ok(db)
}

/// A connection that keeps everybody else away, and so needs no shared memory, and writes nothing by itself.
pub(crate) fn attach(files: &Files) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(files.database(), flags)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    Ok(db)
}

/// Makes an empty state under another name, so that there is either none or a whole one.
fn create(files: &Files, tuning: &Tuning) -> Result<(), Error> {
    let (file, unfinished) = (files.database(), files.unfinished());
    let io = |source| files.io("create", &file, source);
    for leftover in [unfinished.clone(), unfinished.with_extension("new-journal")] {
        match fs::remove_file(leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(&unfinished).map_err(io)?;
    let made = (|| {
        let db = Connection::open_with_flags(&unfinished, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.pragma_update(None, "page_size", tuning.database_page)?;
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        db.pragma_update(None, "application_id", APPLICATION)?;
        apply(&db, 0)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.close().map_err(|(_, error)| Trouble::from(error))
    })();
    made.map_err(|trouble: Trouble| files.error("create", trouble))?;
    fs::rename(&unfinished, &file).map_err(io)?;
    File::open(&files.folder).and_then(|folder| folder.sync_all()).map_err(io)
}

/// Brings the file to the newest schema, and sets the connection up.
fn migrate(db: &Connection, tuning: &Tuning) -> Result<(), Trouble> {
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "journal_size_limit", tuning.log_bytes)?;
    checkpoints(db, tuning.log_bytes / tuning.database_page)?;
    db.pragma_update(None, "cache_size", -(tuning.cache_bytes >> 10))?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    let schema: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    apply(db, schema)
}

/// The log is put into the database when it has so many pages; zero is never.
pub(super) fn checkpoints(db: &Connection, pages: i64) -> Result<(), Trouble> {
    Ok(db.pragma_update(None, "wal_autocheckpoint", pages)?)
}

/// All migrations that are due, or none.
fn apply(db: &Connection, schema: u32) -> Result<(), Trouble> {
    let due = MIGRATIONS.iter().skip(schema as usize).copied().collect::<Vec<_>>();
    if due.is_empty() {
        return Ok(());
    }
    let transaction = db.unchecked_transaction()?;
    for migration in due {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()?;
    Ok(())
}

fn newer(files: &Files, found: u32) -> Result<(), Error> {
    if found > SCHEMA {
        return Err(Error::TooNew { file: files.database(), found, known: SCHEMA });
    }
    Ok(())
}
