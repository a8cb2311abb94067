//! What the state store costs, beside an append-only file with the same entries: commits as an outage makes them, and
//! the start. Prints figures as JSON; `cargo xtask bench store` runs it and compares them with the goals.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
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
use tidings_core::watch::saved::Difference;

/// As the program has it; the C library's gives large buffers back to the kernel after each commit, which doubles the
/// cost of both.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Entries of a commit: few as at a low rate, many as at full speed.
const SIZES: [usize; 3] = [100, 1000, 10_000];
/// Objects that are known before anything is measured, and at the start.
const KNOWN: usize = 100_000;
/// Objects that change in turn.
const CHANGING: usize = 10_000;
/// Events of one run.
const EVENTS: usize = 200_000;
/// Length of an object as JSON.
const LENGTH: usize = 1024;

fn main() -> Result<()> {
    // `cargo test --benches` runs it too; there is nothing to prove then.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let parent = std::env::var_os("TIDINGS_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::Builder::new().prefix("tidings-bench-").tempdir_in(parent)?;
    let mut rows = Vec::new();
    for size in SIZES {
        rows.extend(store(&folder.path().join(format!("store-{size}")), size)?);
        rows.extend(log(&folder.path().join(format!("log-{size}")), size)?);
    }
    rows.extend(churn(&folder.path().join("churn"))?);
    rows.extend(start(&folder.path().join("start"))?);
    println!("{}", serde_json::to_string(&rows)?);
    Ok(())
}

fn row(variant: &str, metric: &str, value: f64, unit: &str) -> Value {
    json!({"variant": variant, "metric": metric, "value": value, "unit": unit})
}

/// Commits of an outage: each with entries and what they changed in Known.
fn store(folder: &Path, size: usize) -> Result<Vec<Value>> {
    let variant = format!("store, {size} a commit");
    let mut store = SqliteStore::open(folder)?;
    let mut work = Work::new();
    store.commit(&work.known(KNOWN))?;
    let before = store.size()?;
    let mut spent = Spent::default();
    let mut bytes = 0;
    let mut chunks = Vec::new();
    for _ in 0..EVENTS / size {
        let commit = work.commit(size, Vec::new());
        let flushed = spent.measure(|| store.commit(&commit))?;
        bytes += flushed.chunks.iter().map(|chunk| chunk.bytes).sum::<u64>();
        chunks.extend(flushed.chunks.into_iter().map(|chunk| chunk.chunk));
    }
    let disk = (store.size()? - before) as f64;
    let (mut read, mut entries) = (Spent::default(), 0);
    for chunk in &chunks {
        entries += read.measure(|| store.read(&name(), *chunk))?.len();
    }
    anyhow::ensure!(entries == EVENTS / size * size, "an entry is missing");
    let mut drain = Spent::default();
    for dead in chunks.chunks(8) {
        let commit = Commit { difference: Difference::default(), ..work.commit(0, dead.to_vec()) };
        drain.measure(|| store.commit(&commit))?;
    }
    let events = (EVENTS / size * size) as f64;
    Ok(vec![
        row(&variant, "CPU per event", spent.micros() / events, "µs"),
        row(&variant, "longest commit", spent.longest.as_secs_f64() * 1e3, "ms"),
        row(&variant, "compressed entry", bytes as f64 / events, "B"),
        row(&variant, "disk per event", disk / events, "B"),
        row(&variant, "CPU per event, read", read.micros() / events, "µs"),
        row(&variant, "CPU per event, settled", drain.micros() / events, "µs"),
        row(&variant, "longest settling", drain.longest.as_secs_f64() * 1e3, "ms"),
    ])
}

/// The yardstick: the same entries, encoded the same way, each with its checksum behind the other in a file.
fn log(folder: &Path, size: usize) -> Result<Vec<Value>> {
    let variant = format!("log, {size} a commit");
    fs::create_dir(folder)?;
    let path = folder.join("log");
    let mut file = File::create(&path)?;
    let mut work = Work::new();
    let mut spent = Spent::default();
    for _ in 0..EVENTS / size {
        let commit = work.commit(size, Vec::new());
        spent.measure(|| -> Result<()> {
            let mut records = Vec::new();
            for entry in &commit.journal.entries {
                let start = records.len();
                records.extend([0; 8]);
                records = postcard::to_extend(&**entry, records)?;
                let checksum = crc32fast::hash(&records[start + 8..]);
                let length = u32::try_from(records.len() - start - 8)?;
                records[start..start + 4].copy_from_slice(&length.to_le_bytes());
                records[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
            }
            Ok(file.write_all(&records)?)
        })?;
    }
    let events = (EVENTS / size * size) as f64;
    Ok(vec![
        row(&variant, "CPU per event", spent.micros() / events, "µs"),
        row(&variant, "disk per event", fs::metadata(path)?.len() as f64 / events, "B"),
    ])
}

/// Everything known changes again and again, with healthy sinks: nothing but Known is written.
fn churn(folder: &Path) -> Result<Vec<Value>> {
    let variant = "store, Known only";
    let mut store = SqliteStore::open(folder)?;
    let mut work = Work::new();
    store.commit(&work.known(KNOWN))?;
    let mut spent = Spent::default();
    let mut largest = 0;
    for round in 0..500 {
        let commit = work.changed(round * 1000 % KNOWN, 1000);
        spent.measure(|| store.commit(&commit))?;
        largest = largest.max(store.size()?);
    }
    let many = work.changed(0, 10_000);
    let mut once = Spent::default();
    once.measure(|| store.commit(&many))?;
    let objects = 500_000.0;
    Ok(vec![
        row(variant, "CPU per object", spent.micros() / objects, "µs"),
        row(variant, "longest commit of 1000", spent.longest.as_secs_f64() * 1e3, "ms"),
        row(variant, "CPU of a commit of 10000", once.micros() / 1e3, "ms"),
        row(variant, "largest file and log", largest as f64 / f64::from(1 << 20), "MiB"),
    ])
}

/// A start with everything there is at the worst moment: many runs, and a Journal.
fn start(folder: &Path) -> Result<Vec<Value>> {
    let variant = "start, 100000 known";
    let mut store = SqliteStore::open(folder)?;
    let mut work = Work::new();
    store.commit(&work.known(KNOWN))?;
    for _ in 0..1000 {
        store.commit(&work.commit(100, Vec::new()))?;
    }
    let size = store.size()?;
    drop(store);
    let started = Instant::now();
    let mut store = SqliteStore::open(folder)?;
    let opened = started.elapsed();
    let stored = store.load(&name())?.context("nothing was stored")?;
    let loaded = started.elapsed();
    anyhow::ensure!(stored.saved.known.len() == KNOWN && stored.chunks.len() == 1000, "something is missing");
    Ok(vec![
        row(variant, "open and check", opened.as_secs_f64() * 1e3, "ms"),
        row(variant, "open, check and load", loaded.as_secs_f64() * 1e3, "ms"),
        row(variant, "file", size as f64 / f64::from(1 << 20), "MiB"),
    ])
}

/// CPU time of this thread, and the longest single piece of work.
#[derive(Default)]
struct Spent {
    cpu: Duration,
    longest: Duration,
}

impl Spent {
    fn measure<T, E: Into<anyhow::Error>>(&mut self, work: impl FnOnce() -> Result<T, E>) -> Result<T> {
        let (cpu, started) = (thread_cpu()?, Instant::now());
        let result = work();
        self.longest = self.longest.max(started.elapsed());
        self.cpu += thread_cpu()?.saturating_sub(cpu);
        result.map_err(Into::into)
    }

    fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6
    }
}

/// By the kernel's own count, in the kernel and outside.
fn thread_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split_whitespace().next().context("no CPU time in schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// Makes commits: Todos in turn, with names, uids, times and words of their own.
struct Work {
    random: fastrand::Rng,
    number: u64,
    chunk: u64,
    object: usize,
}

impl Work {
    fn new() -> Self {
        Self { random: fastrand::Rng::with_seed(1), number: 0, chunk: 0, object: 0 }
    }

    /// All objects come to be known.
    fn known(&mut self, count: usize) -> Commit {
        self.changed(0, count)
    }

    /// Objects change, and everybody has settled that.
    fn changed(&mut self, first: usize, count: usize) -> Commit {
        let known = (first..first + count).map(|object| {
            self.number += 1;
            (key(object), Some(entry(object, self.number)))
        });
        let difference = Difference { known: known.collect(), ..Difference::default() };
        Commit { difference, ..self.commit(0, Vec::new()) }
    }

    fn commit(&mut self, count: usize, dead: Vec<u64>) -> Commit {
        let mut known = Vec::new();
        let mut entries = Vec::new();
        for _ in 0..count {
            self.number += 1;
            self.object = (self.object + 1) % CHANGING;
            known.push((key(self.object), Some(entry(self.object, self.number))));
            entries.push(Arc::new(self.change()));
        }
        // A commit makes several.
        self.chunk += 1000;
        let subscription = SubscriptionRecord {
            slot: Slot(0),
            uid: "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0".into(),
            subscription: "shop/orders".into(),
            place: "nats://broker:4222/orders".to_owned(),
            generation: 3,
            cursor: SavedCursor { next: self.number, unsettled: Vec::new(), marks: Vec::new() },
        };
        let record = WatchRecord {
            next: self.number + 1,
            subscriptions: vec![subscription],
            ..WatchRecord::default()
        };
        let difference = Difference { known, ..Difference::default() };
        let journal = Flush { entries, chunk: self.chunk, dead, merge: Vec::new() };
        Commit { watch: name(), record, difference, journal }
    }

    fn change(&mut self) -> JournalRecord {
        let meta = Meta {
            generation: Some(self.number),
            created: Some("2026-11-21T08:15:00Z".into()),
            modified: Some(
                format!("2026-11-21T12:{:02}:{:02}Z", self.number / 60 % 60, self.number % 60).into(),
            ),
            ..Meta::new(key(self.object), uid(self.object), ResourceVersion(self.number + 1000))
        };
        let body = self.body(&meta).into_bytes().into();
        let change = Change::watched(ChangeKind::Updated, Object { meta, body });
        JournalRecord {
            number: self.number,
            change: Arc::new(change),
            to: vec![Recipient { slot: Slot(0), generation: 3 }],
            before: Some(ResourceVersion(self.number + 999)),
            decided: 1_795_000_000_000 + self.number,
        }
    }

    fn body(&mut self, meta: &Meta) -> String {
        let (team, assignee, done) = (self.word(), self.word(), self.random.bool());
        let mut body = format!(
            "{{\"apiVersion\":\"k8sasbackend.com/v1\",\"kind\":\"Todo\",\"metadata\":{{\"creationTimestamp\":\"{}\",\
             \"generation\":{},\"labels\":{{\"app.kubernetes.io/part-of\":\"todos\",\"team\":\"{}\"}},\"name\":\"{}\",\
             \"namespace\":\"bench\",\"resourceVersion\":\"{}\",\"uid\":\"{}\"}},\"spec\":{{\"assignee\":\"{}\",\
             \"done\":{},\"message\":\"",
            meta.created.as_deref().unwrap_or_default(),
            self.number,
            team,
            meta.key.name(),
            meta.resource_version,
            meta.uid,
            assignee,
            done,
        );
        while body.len() < LENGTH - 4 {
            body += &self.word();
            body.push(' ');
        }
        body.truncate(LENGTH - 3);
        body + "\"}}"
    }

    /// Of few letters and some thousand words, as people write.
    fn word(&mut self) -> String {
        let mut letters = fastrand::Rng::with_seed(self.random.u64(..4000));
        (0..letters.usize(2..10)).map(|_| letters.lowercase()).collect()
    }
}

fn name() -> WatchName {
    WatchName { kind: Kind::new("k8sasbackend.com/v1", "Todo"), namespace: None }
}

fn key(object: usize) -> ObjectKey {
    ObjectKey::new(Some("bench"), &format!("todo-{object:06}"))
}

fn uid(object: usize) -> Uid {
    let number = fastrand::Rng::with_seed(object as u64).u128(..);
    Uid::new(&format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        number >> 96,
        number >> 80 & 0xffff,
        number >> 64 & 0xffff,
        number >> 48 & 0xffff,
        number & 0xffff_ffff_ffff
    ))
}

fn entry(object: usize, version: u64) -> Entry {
    let mut told = Slots::default();
    told.insert(Slot(0));
    Entry {
        uid: uid(object),
        version: ResourceVersion(version + 1000),
        epoch: Epoch(0),
        generation: version,
        told,
        seen: 0,
        skipped: false,
    }
}
