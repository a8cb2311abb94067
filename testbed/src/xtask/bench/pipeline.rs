//! The whole way at full speed and at a steady rate, beside the naive bridge in the same run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::jetstream;
use clap::Args;
use serde_json::json;

use super::meter::{Stretch, micros_per_event};
use super::stream::{account, until_holds};
use super::{mebibytes, own_binary};
use crate::consumer;
use crate::folder::Folder;
use crate::nats::Nats;
use crate::process::{Lifetime, Process, Program};
use crate::proxy::{Link, Proxy};
use crate::replay::{Load, Replay, START};
use crate::tidings::{Bridge, Profile, build};
use crate::usage::Usage;
use crate::xtask::report::{Goal, Row, publish};

const SCENARIO: &str = "pipeline";

#[derive(Debug, Args)]
pub(super) struct Pipeline {
    /// Events at full speed
    #[arg(long, default_value_t = 300_000)]
    events: u64,
    /// Different objects
    #[arg(long, default_value_t = 10_000)]
    objects: u64,
    /// Length of an object in bytes
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Events per second of the steady run
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Write the figures there too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What one run measured.
struct Measured {
    /// From the first event written to the last one stored, and with the start of whoever is measured.
    stretch: Stretch,
    /// What the broker and the replay server used beside it, on the same cores.
    others: Duration,
    /// A question to the broker and its answer, the median.
    round_trip: Duration,
    /// From written to stored, of half of the events, and of 99 in 100, at the most.
    latencies: [Duration; 2],
}

/// Who is measured.
#[derive(Clone, Copy)]
enum Variant {
    Tidings,
    Naive,
}

pub(super) async fn run(arguments: Pipeline) -> Result<ExitCode> {
    let Pipeline { events, objects, size, rate, json } = arguments;
    let load = |events, rate| (Load { events, objects: objects.min(events), size, in_flight: 1024 }, rate);
    let program = build(Profile::Release)?;
    let away = Some(Duration::from_millis(1));

    eprintln!("naive bridge, {} events at full speed", events / 20);
    let naive = measure(Variant::Naive, &program, load(events / 20, None), None).await?;
    eprintln!("tidings, {events} events at full speed");
    let full = measure(Variant::Tidings, &program, load(events, None), None).await?;
    eprintln!("naive bridge, {} events, broker a network away", events / 100);
    let naive_away = measure(Variant::Naive, &program, load(events / 100, None), away).await?;
    eprintln!("tidings, {events} events, broker a network away");
    let full_away = measure(Variant::Tidings, &program, load(events, None), away).await?;
    eprintln!("tidings, {rate} events a second for 10 s");
    let steady = measure(Variant::Tidings, &program, load(rate * 10, Some(rate)), None).await?;

    let (budget, ten) = (Some(Goal::AtMost(25.0)), Some(Goal::AtLeast(10.0)));
    let mut rows = full_speed("naive", &naive, None);
    rows.extend(full_speed("tidings", &full, budget));
    let ratio = full.stretch.per_second() / naive.stretch.per_second();
    rows.push(Row::new(SCENARIO, "tidings", "throughput to naive", ratio, "x", ten));
    rows.extend(full_speed("naive, broker away", &naive_away, None));
    rows.extend(full_speed("tidings, broker away", &full_away, budget));
    let ratio = full_away.stretch.per_second() / naive_away.stretch.per_second();
    rows.push(Row::new(SCENARIO, "tidings, broker away", "throughput to naive", ratio, "x", ten));
    let steadily = "tidings, steady";
    let [half, most] = steady.latencies.map(|latency| latency.as_secs_f64() * 1000.0);
    rows.extend([
        Row::new(SCENARIO, steadily, "written to stored, p50", half, "ms", Some(Goal::AtMost(5.0))),
        Row::new(SCENARIO, steadily, "written to stored, p99", most, "ms", Some(Goal::AtMost(20.0))),
        Row::new(SCENARIO, steadily, "CPU per event", steady.stretch.micros_per_event(), "µs", None),
        Row::new(SCENARIO, steadily, "peak memory", mebibytes(steady.stretch.peak), "MiB", None),
    ]);
    println!();
    publish(&rows, json.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

/// What a run at full speed is measured by.
fn full_speed(variant: &'static str, measured: &Measured, budget: Option<Goal>) -> Vec<Row> {
    let row = |metric, value, unit, goal| Row::new(SCENARIO, variant, metric, value, unit, goal);
    let others = micros_per_event(measured.others, measured.stretch.events);
    vec![
        row("round trip to the broker", measured.round_trip.as_secs_f64() * 1000.0, "ms", None),
        row("throughput", measured.stretch.per_second(), "events/s", None),
        row("CPU per event", measured.stretch.micros_per_event(), "µs", budget),
        row("CPU per event, server and broker", others, "µs", None),
        row("peak memory", mebibytes(measured.stretch.peak), "MiB", None),
    ]
}

/// One run. `away` is the delay to the broker in each direction.
async fn measure(
    variant: Variant,
    program: &std::path::Path,
    (load, rate): (Load, Option<u64>),
    away: Option<Duration>,
) -> Result<Measured> {
    let events = load.events;
    let nats = Nats::start().await?;
    let client = nats.client().await?;
    let name = match variant {
        Variant::Tidings => "bench",
        Variant::Naive => "naive",
    };
    consumer::create_stream(&client, name).await?;
    let proxy = match away {
        None => None,
        Some(delay) => Some(Proxy::start(nats.url().replace("nats://", ""), Link::delayed(delay)).await?),
    };
    let url = proxy.as_ref().map_or_else(|| nats.url(), |proxy| format!("nats://{}", proxy.address()));
    let round_trip = round_trip(&url).await?;
    let sink =
        json!({"nats": {"servers": [url], "subject": format!("{name}.{{namespace}}.{{name}}.{{change}}")}});
    let replay = Replay::start(load, &[("bench", sink)]).await?;
    replay.write(events, rate);
    let before = Usage::of(std::process::id())?.cpu;
    let (bridge, naive);
    let pid = match variant {
        Variant::Tidings => {
            bridge = Bridge::start(program, replay.kubeconfig(), &["--log-level=warn"]).await?;
            bridge.process().pid
        }
        Variant::Naive => {
            naive = start_naive(&replay, &url, events)?;
            naive.0.id().pid
        }
    };
    let finished = until_holds(&client, name, events).await?;
    let Usage { cpu, peak, file: _ } = Usage::of(pid)?;
    let others =
        Usage::of(nats.process().pid)?.cpu + Usage::of(std::process::id())?.cpu.saturating_sub(before);
    let account = account(&client, name, events, load.objects).await?;
    account.check(0..events)?;
    let latencies = [0.50, 0.99].map(|share| account.latency(&replay, 0..events, share));
    let first = replay.written(START + 1).context("nothing was written")?;
    let elapsed = Duration::from_nanos(finished.saturating_sub(first));
    Ok(Measured { stretch: Stretch { events, elapsed, cpu, peak }, others, round_trip, latencies })
}

/// How long the broker behind `url` takes to answer, the median of a few times.
async fn round_trip(url: &str) -> Result<Duration> {
    let context = jetstream::new(async_nats::connect(url).await?);
    let mut times = Vec::new();
    for _ in 0..21 {
        let asked = Instant::now();
        context.query_account().await?;
        times.push(asked.elapsed());
    }
    times.sort();
    times.get(times.len() / 2).copied().context("nothing was measured")
}

/// The naive bridge, as a process, with its folder.
fn start_naive(replay: &Replay, nats: &str, events: u64) -> Result<(Process, Folder)> {
    let folder = Folder::temporary("naive")?;
    let arguments = ["bench", "naive", "--kubeconfig"].map(str::to_owned).into_iter();
    let arguments = arguments.chain([
        replay.kubeconfig().display().to_string(),
        format!("--nats={nats}"),
        format!("--events={events}"),
    ]);
    let program = Program {
        path: own_binary()?,
        arguments: arguments.collect(),
        folder: folder.path().to_owned(),
        log: folder.path().join("naive.log"),
    };
    Ok((Process::spawn(&program, Lifetime::Owner)?, folder))
}
