//! The cache folder: everything the testbed keeps between runs lives here, and nothing of it in the checkout.
//!
//! `bin/` built components, `run/` folders of running tests, `up/` what `cargo xtask up` started, `tools/` cargo tools.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The cache folder: `TIDINGS_CACHE`, else `$XDG_CACHE_HOME/tidings`, else `~/.cache/tidings`. Created when missing.
pub fn root() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = set("TIDINGS_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("tidings")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/tidings")))
        .context("no place for the cache: set TIDINGS_CACHE to a folder")?;
    // Components run in their own folders, so a relative path would mean another place to each of them.
    let root = std::path::absolute(&root).with_context(|| format!("cache folder {}", root.display()))?;
    subfolder(&root)
}

/// A folder of the cache, created when missing.
pub fn folder(name: &str) -> Result<PathBuf> {
    subfolder(&root()?.join(name))
}

/// Takes the exclusive lock on `path`, creating the file. When somebody else has it, waits, after saying `waiting` on
/// stderr where that may take long. The lock is held until the returned file is dropped or the process dies.
pub fn lock(path: &Path, waiting: Option<&str>) -> Result<File> {
    let describe = || format!("lock {}", path.display());
    let file = File::create(path).with_context(describe)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            if let Some(waiting) = waiting {
                eprintln!("{waiting}");
            }
            file.lock().with_context(describe)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(describe),
    }
    Ok(file)
}

fn subfolder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).with_context(|| format!("create folder {}", path.display()))?;
    Ok(path.to_owned())
}
