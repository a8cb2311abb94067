//! The files of a store, and what their errors mean.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::state::Error;
use crate::state::blob::Problem;

/// The folder of a store, and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) folder: PathBuf,
}

/// Why a piece of work on the database failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// SQLite says so.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// What is stored is not what was stored.
    #[error("something in it is damaged: {0}")]
    Blob(#[from] Problem),
}

/// Only the owner reads and writes what is in here: bodies of objects, Secrets among them.
pub(crate) const MODE: u32 = 0o600;

/// What is written to learn whether there is room: more than the rest of a block that is allocated anyway.
const PROBE: usize = 64 << 10;

// === impl Files ===

impl Files {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The database.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("state.db")
    }

    /// What SQLite has committed and not yet put into the database.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("state.db-wal")
    }

    /// The database while it is made.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.folder.join("state.db.new")
    }

    /// Locked by the process that uses the store.
    pub(crate) fn lock(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// Room that is given back when the disk is full.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.folder.join("reserve")
    }

    /// The folder of the told logs.
    pub(crate) fn told(&self) -> PathBuf {
        self.folder.join("told")
    }

    /// Everything that is state, in the order in which it is to be moved: a log without its database is refused, a
    /// database without its log would be taken for a whole one.
    pub(crate) fn state(&self) -> [PathBuf; 3] {
        [self.database(), self.log(), self.told()]
    }

    /// Removes the log that SQLite makes only to look whether there is something in it.
    pub(crate) fn remove_empty_log(&self) {
        if fs::metadata(self.log()).is_ok_and(|log| log.len() == 0) {
            // It does no harm.
            let _ = fs::remove_file(self.log());
        }
    }

    /// Bytes on disk.
    pub(crate) fn size(&self) -> u64 {
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        length(self.database()) + length(self.log())
    }

    /// What went wrong, in the store's own terms.
    pub(crate) fn error(&self, action: &'static str, trouble: Trouble) -> Error {
        let file = self.database();
        let error = match trouble {
            Trouble::Blob(problem) => return Error::Damaged { file, problem: problem.to_string() },
            Trouble::Sql(error) => error,
        };
        // What is asked never changes, so an answer of another form comes from a file that did.
        if matches!(
            error,
            rusqlite::Error::SqlInputError { .. }
                | rusqlite::Error::QueryReturnedNoRows
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::Utf8Error(..)
        ) {
            return Error::Damaged { file, problem: error.to_string() };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Error::Full { folder: self.folder.clone() },
            // SQLite tells a full disk from a quota that is used up, and has no code for the second.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if self.is_full() => {
                Error::Full { folder: self.folder.clone() }
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Error::Damaged { file, problem: error.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Error::Locked { folder: self.folder.clone() }
            }
            _ => Error::Io { action, path: file, source: io::Error::other(error) },
        }
    }

    /// What went wrong with a file.
    pub(crate) fn io(&self, action: &'static str, path: &Path, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::Full { folder: self.folder.clone() }
            }
            _ => Error::Io { action, path: path.to_owned(), source },
        }
    }

    fn is_full(&self) -> bool {
        let path = self.folder.join("probe");
        let probe = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&path);
        let written =
            probe.and_then(|mut file| file.write_all(&vec![1; PROBE]).and_then(|()| file.sync_all()));
        // A probe that stays is written over by the next one.
        let _ = fs::remove_file(&path);
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        written.is_err_and(|error| full.contains(&error.kind()))
    }
}
