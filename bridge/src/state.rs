//! What survives the process: positions, Known, the Journal and the cursors of every Watch, in one store that
//! changes in one transaction per Watch; and beside it the told log.
//!
//! Before: bridge/src/journal.rs

mod blob;
pub mod export;
pub mod inspect;
pub mod record;
pub mod shared;
pub mod sqlite;
pub mod told;

use std::io;
use std::path::PathBuf;

pub use shared::{Chunks, Disk, State};

use record::{Commit, Flushed, JournalRecord, StoredWatch, WatchName, WatchRecord};

/// Where state is kept. Calls block; whoever calls from async code moves them to a thread that may.
pub trait Store: Send {
    /// The uid of the cluster the state is of, once there is one.
    fn cluster(&mut self) -> Result<Option<String>, Error>;

    /// From now on the state is of this cluster.
    fn set_cluster(&mut self, uid: &str) -> Result<(), Error>;

    /// The Watches there are, without what is large.
    fn watches(&mut self) -> Result<Vec<(WatchName, WatchRecord)>, Error>;

    /// Everything of one Watch but the entries of its Journal; nothing when it was never stored.
    fn load(&mut self, watch: &WatchName) -> Result<Option<StoredWatch>, Error>;

    /// Stores a difference: all of it or, with an error, nothing. Says what was made of its flush.
    fn commit(&mut self, commit: &Commit) -> Result<Flushed, Error>;

    /// The entries of one chunk, in order.
    fn read(&mut self, watch: &WatchName, chunk: u64) -> Result<Vec<JournalRecord>, Error>;

    /// Removes everything of one Watch.
    fn forget(&mut self, watch: &WatchName) -> Result<(), Error>;

    /// Bytes on disk.
    fn size(&mut self) -> Result<u64, Error>;
}

/// Why the store does not do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no room. What was asked did not happen, and may work later.
    #[error("there is no room in {}: free some, or give the volume more; nothing is lost", .folder.display())]
    Full {
        /// The folder of the store.
        folder: PathBuf,
    },
    /// Another process uses the store.
    #[error("the state in {} is in use by another process: stop that one, or choose another folder", .folder.display())]
    Locked {
        /// The folder of the store.
        folder: PathBuf,
    },
    /// The file is not ours.
    #[error(
        "{} is not a state file of Tidings, and is left as it is: move it away, or choose another folder",
        .file.display()
    )]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// The file is of a later version of Tidings.
    #[error(
        "{} was written by a later version of Tidings (schema {found}, this one knows {known}): run that version, or \
         begin anew with `tidings state reset`",
        .file.display()
    )]
    TooNew {
        /// The file.
        file: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema this program knows.
        known: u32,
    },
    /// The file is damaged.
    #[error(
        "{} is damaged ({problem}), and is left as it is: look with `tidings state inspect`, save what can be read with \
         `tidings state export`, begin anew with `tidings state reset`",
        .file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The folder or a file in it cannot be used.
    #[error("failed to {action} {}", .path.display())]
    Io {
        /// What was tried: `open`, `create`, …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}
