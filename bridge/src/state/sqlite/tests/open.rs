//! What is opened and what is refused, and that what is refused stays as it is.

use std::os::unix::fs::PermissionsExt;

use tidings_core::watch::saved::Difference;

use super::*;
use crate::state::record::Flush;

/// Every file but the lock, by length and checksum.
fn files(folder: &Path) -> Vec<(std::path::PathBuf, usize, u32)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| !path.ends_with("lock"))
        .map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path, bytes.len(), crc32fast::hash(&bytes))
        })
        .collect();
    files.sort();
    files
}

/// A commit with many objects and entries.
fn commit(chunk: u64) -> Commit {
    let known = (0..200).map(|number| (sample::key(number), Some(sample::entry(chunk * 1000)))).collect();
    Commit {
        watch: sample::watch("Order"),
        record: WatchRecord { next: chunk, ..WatchRecord::default() },
        difference: Difference { known, ..Difference::default() },
        journal: Flush {
            entries: (1..50).map(|number| sample::change(chunk * 1000 + number, 500)).collect(),
            chunk: chunk * 100,
            ..Flush::default()
        },
    }
}

fn refused(folder: &Path) -> Error {
    let before = files(folder);
    let error = SqliteStore::open(folder).err().expect("it is refused");
    assert_eq!(files(folder), before, "something was written");
    error
}

#[test]
fn only_the_owner_can_read_it() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/b");
    let mut store = SqliteStore::open(&folder).unwrap();
    store.commit(&commit(1)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_second_user_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    assert!(matches!(SqliteStore::open(folder.path()), Err(Error::Locked { .. })));
    drop(store);
    SqliteStore::open(folder.path()).unwrap();
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    for content in ["", "a letter", &"SQLite format 3\0".repeat(20)] {
        fs::write(&file, content).unwrap();
        let error = refused(folder.path());
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }
    fs::remove_file(&file).unwrap();
    let other = Connection::open(&file).unwrap();
    other.execute_batch("CREATE TABLE addresses (name TEXT)").unwrap();
    drop(other);
    assert!(matches!(refused(folder.path()), Error::Foreign { .. }));
}

#[test]
fn what_a_later_version_wrote_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(folder.path()).unwrap());
    let later = |db: &Connection| {
        db.pragma_update(None, "user_version", crate::state::sqlite::open::SCHEMA + 1).unwrap();
    };
    // In the log only, as after a crash of that version.
    let db = Connection::open(folder.path().join("state.db")).unwrap();
    later(&db);
    let copy = crashed(folder.path());
    fs::remove_file(copy.path().join("state.db-shm")).unwrap();
    assert!(copy.path().join("state.db-wal").exists());
    assert!(matches!(refused(copy.path()), Error::TooNew { found: 3, known: 2, .. }));
    drop(db);
    let error = refused(folder.path());
    assert!(matches!(error, Error::TooNew { found: 3, known: 2, .. }), "{error}");
    assert!(error.to_string().contains("tidings state reset"), "{error}");
}

#[test]
fn a_log_without_its_database_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(folder.path()).unwrap();
    store.commit(&commit(1)).unwrap();
    let copy = crashed(folder.path());
    fs::remove_file(copy.path().join("state.db")).unwrap();
    assert!(matches!(refused(copy.path()), Error::Damaged { .. }));
}

#[test]
fn a_start_that_was_interrupted_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("state.db.new"), "half").unwrap();
    fs::write(folder.path().join("state.db.new-journal"), "half").unwrap();
    let mut store = SqliteStore::open(folder.path()).unwrap();
    assert_eq!(store.watches().unwrap(), []);
}

/// Wherever the file is damaged or cut, either that is noticed, or everything is as it was: never something else.
#[test]
fn damage_is_noticed_and_never_changes_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open_with(folder.path(), tiny()).unwrap();
    for chunk in 1..4 {
        store.commit(&commit(chunk)).unwrap();
    }
    let read = |store: &mut SqliteStore| -> Result<_, Error> {
        let watches = store.watches()?;
        let loaded = store.load(&sample::watch("Order"))?;
        let chunks = loaded.iter().flat_map(|stored| &stored.chunks).map(|chunk| chunk.chunk);
        let chunks = chunks.map(|chunk| store.read(&sample::watch("Order"), chunk));
        let chunks = chunks.collect::<Result<Vec<_>, _>>()?;
        Ok((watches, loaded, chunks))
    };
    let expected = read(&mut store).unwrap();
    drop(store);
    let whole = fs::read(folder.path().join("state.db")).unwrap();

    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join("state.db");
    let (mut noticed, mut tried) = (0, 0);
    let mut look = |content: &[u8], checked_whole, what: &str| {
        fs::write(&file, content).unwrap();
        let before = files(copy.path());
        let tuning = Tuning { checked_whole, ..tiny() };
        match SqliteStore::open_with(copy.path(), tuning) {
            Ok(mut store) => match read(&mut store) {
                Ok(found) => assert!(found == expected, "{what} is read as something else"),
                Err(Error::Damaged { .. }) => noticed += 1,
                Err(error) => panic!("{what}: {error:?}"),
            },
            Err(Error::Damaged { .. } | Error::Foreign { .. } | Error::TooNew { .. }) => {
                noticed += 1;
                assert_eq!(files(copy.path()), before, "{what} was written to");
            }
            Err(error) => panic!("{what}: {error:?}"),
        }
        tried += 1;
        for log in ["state.db-wal", "state.db-journal"] {
            let _ = fs::remove_file(copy.path().join(log));
        }
    };
    for at in (0..whole.len()).step_by((whole.len() / 300) | 1) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        // Every other one as if it were too large to be read through.
        let checked_whole = if at % 2 == 0 { u64::MAX } else { 0 };
        look(&flipped, checked_whole, &format!("with a flipped bit in byte {at} it"));
    }
    for length in (1..whole.len()).step_by(whole.len() / 30) {
        look(&whole[..length], u64::MAX, &format!("cut at {length} it"));
    }
    // The rest hits what is free.
    assert!(noticed * 5 > tried, "only {noticed} of {tried}");
}
