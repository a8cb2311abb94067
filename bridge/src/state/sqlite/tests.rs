//! The store against a plain model, and what it does with files that are not as it left them.

mod full;
mod golden;
mod model;
mod open;
mod sample;

use std::fs;
use std::path::Path;

use super::*;

/// Sizes at which a few commits already merge, split pages and shrink.
fn tiny() -> Tuning {
    Tuning {
        database_page: 512,
        log_bytes: 8 << 10,
        cache_bytes: 16 << 10,
        chunk_bytes: 2048,
        page_bytes: 256,
        most_runs: 8,
        most_merged: 12,
        least_merge: 64,
        pace: 4,
        checked_whole: u64::MAX,
        shrink_pages: 4,
    }
}

/// What a crash at this moment leaves: a copy of the files of a store that is still open.
fn crashed(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    copy
}
