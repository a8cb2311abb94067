//! What `tidings state` shows, saves and moves.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it is made of")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use support::{stderr, stdout, tidings};
use tidings_bridge::state::Store;
use tidings_bridge::state::record::{
    Commit, Flush, JournalRecord, Recipient, SubscriptionRecord, WatchName, WatchRecord,
};
use tidings_bridge::state::sqlite::SqliteStore;
use tidings_core::change::{Change, ChangeKind, Epoch};
use tidings_core::cursor::SavedCursor;
use tidings_core::known::{Entry, Slot, Slots};
use tidings_core::object::{Meta, Object, ObjectKey, ResourceVersion, Uid};
use tidings_core::route::Kind;
use tidings_core::watch::saved::{Difference, Head};

/// A state with 1500 objects and two Changes, of which the one Subscription has settled the first.
fn store(folder: &Path) -> SqliteStore {
    let mut store = SqliteStore::open(folder).unwrap();
    store.set_cluster("uid-of-kube-system").unwrap();
    let key = |number: u64| ObjectKey::new(Some("shop"), &format!("order-{number}"));
    let uid = |number: u64| Uid::new(&format!("0f1e2d3c-4b5a-6978-8796-{number:012x}"));
    let known = (0..1500).map(|number| {
        let version = ResourceVersion(number);
        let (epoch, told) = (Epoch(0), Slots::default());
        let entry = Entry { uid: uid(number), version, epoch, generation: 1, told, seen: 0, skipped: false };
        (key(number), Some(entry))
    });
    let entry = |number: u64| {
        let meta = Meta::new(key(number), uid(number), ResourceVersion(4000 + number));
        let body = format!("{{\"spec\":{{\"password\":\"secret-{number}\"}}}}").into_bytes().into();
        let change = Change::watched(ChangeKind::Updated, Object { meta, body });
        let to = vec![Recipient { slot: Slot(0), generation: 1 }];
        Arc::new(JournalRecord { number, change: Arc::new(change), to, before: None, decided: 1 })
    };
    let subscription = SubscriptionRecord {
        slot: Slot(0),
        uid: "uid".into(),
        subscription: "shop/orders".into(),
        place: "nats://broker:4222/orders".to_owned(),
        generation: 1,
        cursor: SavedCursor { next: 2, unsettled: Vec::new(), marks: Vec::new() },
    };
    let head = Head { position: Some(ResourceVersion(4711)), reconciling: true, ..Head::default() };
    let commit = Commit {
        watch: WatchName { kind: Kind::new("example.com/v1", "Order"), namespace: None },
        record: WatchRecord { head, next: 3, subscriptions: vec![subscription], resource: None },
        difference: Difference { known: known.collect(), ..Difference::default() },
        journal: Flush { entries: vec![entry(1), entry(2)], chunk: 1, ..Flush::default() },
    };
    store.commit(&commit).unwrap();
    store
}

/// Runs `tidings state` on `folder`; the exit code and what was said.
fn state(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = tidings([&["state"], arguments].concat());
    let output = command.arg("--state-dir").arg(folder).output().unwrap();
    (output.status.code(), stdout(&output), stderr(&output))
}

/// The lines of an export.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn count(lines: &[Value], kind: &str) -> usize {
    lines.iter().filter(|line| line["type"] == kind).count()
}

#[test]
fn inspect_answers_what_an_operator_asks() {
    let folder = tempfile::tempdir().unwrap();
    drop(store(folder.path()));
    let (code, told, error) = state(folder.path(), &["inspect"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    for part in [
        "schema   2",
        "cluster  uid-of-kube-system",
        "damage   none",
        "Order (example.com/v1)",
        "reconciling from 4711",
        "1,500 objects",
        "2 changes in 1 chunks",
        "shop/orders  1 changes not settled",
        "nats://broker:4222/orders",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    assert!(!told.contains('\x1b'), "colours are only for terminals");
}

#[test]
fn export_has_everything_and_bodies_only_on_request() {
    let folder = tempfile::tempdir().unwrap();
    drop(store(folder.path()));
    let (code, told, _) = state(folder.path(), &["export"]);
    assert_eq!(code, Some(0));
    assert!(!told.contains("secret-1"));
    let plain = lines(&told);
    assert_eq!((count(&plain, "watch"), count(&plain, "known"), count(&plain, "change")), (1, 1500, 2));
    assert_eq!(plain[0]["cluster"], "uid-of-kube-system");
    let (_, told, _) = state(folder.path(), &["export", "--bodies"]);
    let full = lines(&told);
    let change = full.iter().find(|line| line["type"] == "change").unwrap();
    assert_eq!(change["body"]["spec"]["password"], "secret-1");
    assert_eq!(change["key"], "shop/order-1");
}

#[test]
fn looking_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    drop(store(folder.path()));
    let files = || {
        let paths = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        files.sort();
        files
    };
    let before = files();
    state(folder.path(), &["inspect"]);
    state(folder.path(), &["export"]);
    assert!(files() == before, "something was written");
}

#[test]
fn of_a_damaged_state_the_rest_is_shown_and_saved() {
    let folder = tempfile::tempdir().unwrap();
    drop(store(folder.path()));
    let file = folder.path().join("state.db");
    let mut bytes = fs::read(&file).unwrap();
    // Of the second body the compression keeps only what is not in the first.
    let body = b"secret-1";
    let found = bytes.windows(body.len()).position(|window| window == body).unwrap();
    bytes[found] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (code, told, error) = state(folder.path(), &["export", "--bodies"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("a chunk of the Journal: its checksum does not match"), "{error}");
    let lines = lines(&told);
    assert_eq!((count(&lines, "known"), count(&lines, "change"), count(&lines, "damage")), (1500, 0, 1));

    // Half of the file.
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let (code, told, error) = state(folder.path(), &["inspect"]);
    assert_eq!(code, Some(1));
    assert!(error.starts_with("error: the state is damaged: "), "{error}");
    assert!(told.contains("schema   2"), "{told}");
}

#[test]
fn what_a_bridge_uses_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    for arguments in [["inspect"].as_slice(), &["export"], &["reset", "--yes"]] {
        let (code, told, error) = state(folder.path(), arguments);
        assert_eq!((code, told.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(error.contains("is in use by another process"), "{error}");
    }
    drop(store);
}

#[test]
fn reset_asks_and_moves_everything_aside() {
    let folder = tempfile::tempdir().unwrap();
    drop(store(folder.path()));
    let (code, _, error) = state(folder.path(), &["reset"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("needs --yes"), "{error}");
    let before = fs::read(folder.path().join("state.db")).unwrap();

    let (code, told, error) = state(folder.path(), &["reset", "--yes"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(!folder.path().join("state.db").exists());
    let aside =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    let aside = aside.unwrap();
    assert!(told.contains(&aside.display().to_string()), "{told}");
    assert_eq!(fs::read(aside.join("state.db")).unwrap(), before);
    assert_eq!(SqliteStore::open(folder.path()).unwrap().watches().unwrap(), []);
}

#[test]
fn where_there_is_no_state_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, error) = state(folder.path(), &["inspect"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("failed to find the state"), "{error}");
    let (code, told, _) = state(folder.path(), &["reset", "--yes"]);
    assert_eq!(code, Some(0));
    assert!(told.starts_with("There is no state in "), "{told}");
}
