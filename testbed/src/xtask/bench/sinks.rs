//! Every kind of sink into its real broker, beside what the broker takes of its own load tool, or of a bare loop, in the same
//! run.

mod broker;
mod http;
mod kafka;
mod load;
mod nats;
mod rabbitmq;
mod variant;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

pub(super) use self::load::{LoadArguments, run as load};

use self::broker::{Broker, Holdings};
use self::variant::{Pace, Variant};
use super::mebibytes;
use super::meter::{Meter, Stretch, micros_per_event};
use super::progress::Progress;
use crate::receiver::Kind;
use crate::replay::{Replay, START, now};
use crate::tidings::{Bridge, Profile, build};
use crate::usage::Usage;
use crate::xtask::report::{Goal, Row, publish};

const SCENARIO: &str = "sinks";
/// No events are written at full speed after this time, so that a slow machine comes to an end too.
const LIMIT: Duration = Duration::from_secs(12);

#[derive(Debug, Args)]
pub(super) struct Sinks {
    /// Only these kinds of sinks
    #[arg(long, value_enum)]
    sink: Vec<Kind>,
    /// Only the variants whose names have this in them, such as "100 KB"
    #[arg(long, default_value = "")]
    only: String,
    /// Events of 1 KB at full speed; a fortieth of it of 100 KB, and a tenth of one object
    #[arg(long, default_value_t = 200_000)]
    events: u64,
    /// Different objects
    #[arg(long, default_value_t = 10_000)]
    objects: u64,
    /// Events per second of the steady runs
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Write the figures there too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What one run of the bridge measured.
struct Measured {
    stretch: Stretch,
    /// CPU time of the broker, where it is another process.
    broker: Option<Duration>,
    /// CPU time of this process: the API server, and the receiver of HTTP.
    own: Duration,
    /// From written to stored, of half of the events, and of 99 in 100, at the most.
    latencies: [Duration; 2],
    holdings: Holdings,
}

pub(super) async fn run(arguments: Sinks) -> Result<ExitCode> {
    let Sinks { sink, only, events, objects, rate, json } = arguments;
    let program = build(Profile::Release)?;
    let kinds = if sink.is_empty() { Kind::value_variants().to_vec() } else { sink };
    let mut rows = Vec::new();
    for (kind, secured) in kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let variants = Variant::all(kind, secured, events, objects, rate).into_iter();
        let variants: Vec<_> = variants.filter(|variant| variant.name.contains(&*only)).collect();
        if variants.is_empty() {
            continue;
        }
        let broker = Broker::start(kind, secured).await?;
        for variant in variants {
            let measured = variant.measure(&program, &broker).await.with_context(|| variant.name.clone())?;
            // All of it takes minutes, and one may end it before.
            for Row { metric, value, unit, .. } in &measured {
                eprintln!("  {metric}: {value:.1} {unit}");
            }
            rows.extend(measured);
        }
    }
    println!();
    publish(&rows, json.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

// === impl Variant ===

impl Variant {
    /// Runs the bridge, and beside it whoever shows what would be possible.
    async fn measure(&self, program: &Path, broker: &Broker) -> Result<Vec<Row>> {
        let Self { name, load, pace, max_batch, budget } = self;
        eprintln!("{name}: {} events{}", load.events, pace.words());
        broker.make("bench").await?;
        if *pace != Pace::Full {
            broker.listen("bench").await?;
        }
        let measured = self.bridge(program, broker, "bench").await?;
        broker.remove("bench").await?;

        let row = |metric, value, unit, goal| Row::new(SCENARIO, name, metric, value, unit, goal);
        let Measured { stretch, broker: others, own, latencies, holdings } = measured;
        let micros = |cpu| micros_per_event(cpu, stretch.events);
        let mut rows = Vec::new();
        match pace {
            Pace::Steady(_) => {
                let [half, most] = latencies.map(|latency| latency.as_secs_f64() * 1000.0);
                rows.push(row("written to stored, p50", half, "ms", None));
                rows.push(row("written to stored, p99", most, "ms", Some(Goal::AtMost(20.0))));
                rows.push(row("CPU per event", stretch.micros_per_event(), "µs", None));
            }
            Pace::Full | Pace::OneKey => {
                rows.push(row("throughput", stretch.per_second(), "events/s", None));
                rows.push(row("CPU per event", stretch.micros_per_event(), "µs", budget.map(Goal::AtMost)));
                rows.push(row("CPU per event, server", micros(own), "µs", None));
                rows.extend(others.map(|cpu| row("CPU per event, broker", micros(cpu), "µs", None)));
            }
        }
        rows.push(row("peak memory", mebibytes(stretch.peak), "MiB", None));
        // A bare loop packs nothing.
        if *pace == Pace::Full && max_batch.is_none() {
            broker.make("ceiling").await?;
            let load = broker.load("ceiling").run(broker, stretch.events, holdings.bytes, self.window());
            let ceiling = load.await?;
            broker.remove("ceiling").await?;
            let share = stretch.per_second() / ceiling.per_second * 100.0;
            rows.push(row("message with headers", super::number(holdings.bytes), "B", None));
            rows.push(row("ceiling", ceiling.per_second, "events/s", None));
            rows.push(row("throughput to ceiling", share, "%", Some(Goal::AtLeast(70.0))));
            rows.push(row("ceiling, CPU per event", micros(ceiling.cpu), "µs", None));
            let cpu = ceiling.broker;
            rows.extend(cpu.map(|cpu| row("ceiling, CPU per event, broker", micros(cpu), "µs", None)));
        }
        Ok(rows)
    }

    async fn bridge(&self, program: &Path, broker: &Broker, place: &str) -> Result<Measured> {
        let Self { load, pace, max_batch, .. } = self;
        let sink = broker.sink(place, *max_batch);
        let replay = Replay::start_with(*load, &[("bench", sink)], &broker.secret()).await?;
        let journal = format!("--journal-bytes={}", self.journal_bytes());
        let arguments = ["--log-level=warn", &journal];
        let bridge = Bridge::start(program, replay.kubeconfig(), &arguments).await?;
        replay.all_delivering().await.with_context(|| bridge.log_tail())?;

        let cpu = |pid: Option<u32>| pid.map(|pid| Usage::of(pid).map(|usage| usage.cpu)).transpose();
        let (before, own) = (cpu(broker.pid())?, Usage::of(std::process::id())?.cpu);
        let meter = Meter::start(bridge.process().pid)?;
        replay.write(load.events, pace.rate());
        let all = until_holds(broker, place, load.events);
        let events = match (pace, tokio::time::timeout(LIMIT, all).await) {
            (_, Ok(done)) => done.map(|()| load.events)?,
            (Pace::Steady(_), Err(_elapsed)) => load.events,
            (Pace::Full | Pace::OneKey, Err(_elapsed)) => replay.hold(),
        };
        until_holds(broker, place, events).await?;
        let ended = now();
        let mut stretch = meter.stop(events)?;
        let broker_cpu = cpu(broker.pid())?.zip(before).map(|(after, before)| after.saturating_sub(before));
        let own = Usage::of(std::process::id())?.cpu.saturating_sub(own);
        let first = replay.written(START + 1).context("nothing was written")?;
        stretch.elapsed = Duration::from_nanos(ended.saturating_sub(first));

        let holdings = broker.holdings(place, load.events, load.objects).await?;
        holdings.account.check(0..events)?;
        let latencies = [0.50, 0.99].map(|share| holdings.account.latency(&replay, 0..events, share));
        Ok(Measured { stretch, broker: broker_cpu, own, latencies, holdings })
    }
}

/// Waits until `place` has taken `count` messages.
async fn until_holds(broker: &Broker, place: &str, count: u64) -> Result<()> {
    let mut progress = Progress::new(place, count);
    loop {
        let held = broker.count(place).await?;
        if held >= count {
            return Ok(());
        }
        progress.is_at(held)?;
        progress.pause().await;
    }
}
