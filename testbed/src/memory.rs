//! What the memory of a bridge is bounded by, and cases that come near it: the formula of its design, `25 MB + ring +
//! Journal's tail + n · (100 B + name) + what lanes hold + a few of the largest objects`.

use std::iter::Sum;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::component::Home;
use crate::consumer;
use crate::nats::{Nats, NatsOptions};
use crate::replay::{Load, Replay};
use crate::tidings::Bridge;
use crate::usage::Usage;
use crate::wait::eventually;

/// Code, stacks, connections and what the allocator keeps.
const BASE: u64 = 25_000_000;
/// `ring_bytes`, unless set.
const RING: u64 = 4 << 20;
/// `journal_bytes`, unless set.
pub const TAIL: u64 = 64 << 20;
/// Of an object that is known, besides its name.
const OBJECT: u64 = 100;
/// The length of `bench/todo-12345`.
const NAME: u64 = 16;
/// A lane takes no more when it holds so much.
const LANE: u64 = 8 << 20;
/// Or so many Changes for each that may be unacked.
const HELD: u64 = 4;
/// Of the store, what a lane that is behind reads at once: packed, and unpacked.
const CHUNK: u64 = 2 * (2 << 20);
/// Copies of the largest objects: read, decided, encoded, sent.
const FEW: u64 = 4;

/// How long a case may take.
const PATIENCE: Duration = Duration::from_mins(5);
const STREAM: &str = "memory";

/// What a bridge has to do.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What happens in the cluster, all of it as fast as it is read.
    pub load: Load,
    /// Subscriptions on it, which share a broker.
    pub subscriptions: u64,
    /// The broker goes when they are connected.
    pub dead: bool,
    /// `journal_bytes`.
    pub tail: u64,
}

/// A bridge that has done it.
pub struct Done {
    /// Still running.
    pub bridge: Bridge,
    /// Its broker, dead or alive, with one stream.
    pub nats: Nats,
    /// Its cluster.
    pub replay: Replay,
    /// What it took.
    pub usage: Usage,
}

// === impl Case ===

impl Case {
    /// The most memory it may take, in bytes.
    pub fn bound(&self) -> u64 {
        let Self { load: Load { objects, size, in_flight, .. }, subscriptions, tail, .. } = *self;
        let size = size as u64;
        // One object more than there is room for, because there was room before it came.
        let lane = (HELD * in_flight * size).min(LANE + size) + CHUNK;
        BASE + RING + tail + objects * (OBJECT + NAME) + subscriptions * lane + FEW * size
    }

    /// Runs it: until everything is delivered or, where the broker is dead, read and stored.
    pub async fn run(&self, program: &Path) -> Result<Done> {
        self.run_until(program, self.load.events).await
    }

    /// The same with the first `events`.
    pub async fn run_until(&self, program: &Path, events: u64) -> Result<Done> {
        let options =
            NatsOptions { max_payload: Some(self.load.size * 2 + (64 << 10)), ..NatsOptions::default() };
        let mut nats = Nats::start_with(&Home::Temporary, options).await?;
        let client = nats.client().await?;
        consumer::create_stream(&client, STREAM).await?;
        let names: Vec<_> = (0..self.subscriptions).map(|number| format!("s{number}")).collect();
        let sink = |name: &String| {
            let subject = format!("{STREAM}.{name}.{{namespace}}.{{name}}.{{change}}");
            json!({"nats": {"servers": [nats.url()], "subject": subject}})
        };
        let sinks: Vec<_> = names.iter().map(|name| (name.as_str(), sink(name))).collect();
        let replay = Replay::start(self.load, &sinks).await?;
        let tail = format!("--journal-bytes={}", self.tail);
        let arguments = ["--log-level=error", &tail];
        let bridge = Bridge::start(program, replay.kubeconfig(), &arguments).await?;
        replay.all_delivering().await?;
        if self.dead {
            nats.stop().await?;
        }
        replay.write(events, None);
        if self.dead {
            until_stored(&bridge, events).await?;
        } else {
            until_holds(&client, events * self.subscriptions).await?;
        }
        let usage = Usage::of(bridge.process().pid)?;
        Ok(Done { bridge, nats, replay, usage })
    }
}

/// Everything was read, and memory holds none of it any more.
async fn until_stored(bridge: &Bridge, events: u64) -> Result<()> {
    let stored = eventually(PATIENCE, "everything in the store", || async {
        let metrics = bridge.metrics().await?;
        let received: u64 = value(&metrics, "tidings_received_total");
        let tail: u64 = value(&metrics, "tidings_journal_memory_bytes");
        anyhow::ensure!(received >= events && tail == 0, "{received} received, {tail} bytes in memory");
        Ok(())
    });
    stored.await
}

/// Waits until the stream holds `count` messages.
pub async fn until_holds(client: &async_nats::Client, count: u64) -> Result<()> {
    let stream =
        async_nats::jetstream::new(client.clone()).get_stream(STREAM).await.context("find the stream")?;
    let holds = eventually(PATIENCE, "all messages", || async {
        let messages = stream.get_info().await?.state.messages;
        anyhow::ensure!(messages >= count, "{messages} of {count}");
        Ok(())
    });
    holds.await
}

/// The sum over all labels.
pub(crate) fn value<T: FromStr + Sum>(metrics: &str, name: &str) -> T {
    let of_name = metrics.lines().filter(|line| line.starts_with(name));
    of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<T>().ok()).sum()
}
