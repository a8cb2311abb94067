//! One of two brokers is gone while everything goes on at full speed, and comes back. The Journal holds what it did
//! not take; nobody else may notice, and nothing may be missing in the end.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::meter::{Meter, Stretch, micros_per_event};
use super::stream::{account, until_holds};
use super::{mebibytes, number, per_second};
use crate::consumer;
use crate::memory::{Case, TAIL, value};
use crate::nats::Nats;
use crate::replay::{Load, Replay, now};
use crate::tidings::{Bridge, Profile, build};
use crate::usage::{Usage, forget_peak};
use crate::xtask::report::{Goal, Row, publish};

const SCENARIO: &str = "outage";
/// Steady events before the outage, per event a second.
const BEFORE: u64 = 10;
/// The same while the broker takes what it missed, at the most.
const MEANWHILE: u64 = 600;
/// The runs beside it are so much shorter.
const SHARE: u64 = 6;
/// What the replay server's Subscriptions allow.
const IN_FLIGHT: u64 = 1024;

#[derive(Debug, Args)]
pub(super) struct Outage {
    /// Changes while the broker is gone: an hour of 500 a second
    #[arg(long, default_value_t = 1_800_000)]
    events: u64,
    /// Different objects
    #[arg(long, default_value_t = 10_000)]
    objects: u64,
    /// Length of an object in bytes
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Changes a second in the pair of runs that says what the Journal costs: few enough that the well one takes them
    /// at once, so that only what the dead one does not take is stored
    #[arg(long, default_value_t = 10_000)]
    pace: u64,
    /// Changes a second before the outage and after it
    #[arg(long, default_value_t = 500)]
    rate: u64,
    /// Write the figures there too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is running. Dropped in this order: whoever uses something goes before it.
struct Stage {
    bridge: Bridge,
    /// The brokers, whose streams are `well` and `ill`.
    well: Nats,
    ill: Option<Nats>,
    replay: Replay,
    load: Load,
    rate: u64,
    /// What the store took of the CPU in the last stretch.
    store: Duration,
}

/// Who is served besides `well`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nobody,
    /// Another one that is well.
    Well,
    /// One that is gone.
    Dead,
}

pub(super) async fn run(arguments: Outage) -> Result<ExitCode> {
    let Outage { events, objects, size, pace, rate, json } = arguments;
    let program = build(Profile::Release)?;
    let steady = rate * (BEFORE + MEANWHILE);
    let load = |events: u64| Load {
        events: events + steady,
        objects: objects.min(events),
        size,
        in_flight: IN_FLIGHT,
    };
    let mut rows = Vec::new();
    let short = events / SHARE;
    for (beside, name) in [(Beside::Nobody, "one well"), (Beside::Well, "two well")] {
        eprintln!("{name}: {short} events at full speed");
        let mut stage = Stage::set(&program, load(short), rate, beside).await?;
        let stretch = stage.stretch(short, None, beside).await?;
        rows.extend(speed(name, &stretch, stage.store));
    }
    let mut costs = Vec::new();
    for (beside, name) in [(Beside::Nobody, "one well, paced"), (Beside::Dead, "one dead, paced")] {
        eprintln!("{name}: {short} events, {pace} a second");
        let mut stage = Stage::set(&program, load(short), rate, beside).await?;
        stage.stop_ill().await?;
        let stretch = stage.stretch(short, Some(pace), beside).await?;
        costs.push(stretch.micros_per_event());
        rows.extend(speed(name, &stretch, stage.store));
    }
    let beside = costs[1] - costs[0];
    let metric = "CPU per event more than with one well alone";
    rows.push(Row::new(SCENARIO, "one dead, paced", metric, beside, "µs", None));
    eprintln!("one dead: {events} events at full speed");
    let stage = Stage::set(&program, load(events), rate, Beside::Dead).await?;
    rows.extend(stage.outage(events).await?);
    println!();
    publish(&rows, json.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

// === impl Stage ===

impl Stage {
    /// Starts everything, with steady events for a while.
    async fn set(program: &Path, load: Load, rate: u64, beside: Beside) -> Result<Self> {
        let well = broker("well").await?;
        let ill = if beside == Beside::Nobody { None } else { Some(broker("ill").await?) };
        let mut sinks = vec![("well", sink("well", &well))];
        sinks.extend(ill.as_ref().map(|ill| ("ill", sink("ill", ill))));
        let replay = Replay::start(load, &sinks).await?;
        let bridge = Bridge::start(program, replay.kubeconfig(), &["--log-level=error"]).await?;
        replay.all_delivering().await?;
        let stage = Self { bridge, well, ill, replay, load, rate, store: Duration::ZERO };
        let before = rate * BEFORE;
        stage.replay.write(before, Some(rate));
        until_holds(&stage.well.client().await?, "well", before).await?;
        if let Some(ill) = &stage.ill {
            until_holds(&ill.client().await?, "ill", before).await?;
        }
        Ok(stage)
    }

    /// The broker of the other one is gone, if there is one.
    async fn stop_ill(&mut self) -> Result<()> {
        match &mut self.ill {
            Some(ill) => ill.stop().await,
            None => Ok(()),
        }
    }

    /// `events`, so many a second or as fast as they are read, until everybody who is well has them.
    async fn stretch(&mut self, events: u64, pace: Option<u64>, beside: Beside) -> Result<Stretch> {
        let pid = self.bridge.process().pid;
        let store = self.store_cpu().await?;
        let meter = Meter::start(pid)?;
        let until = self.replay.newest() + events;
        self.replay.write(until, pace);
        until_holds(&self.well.client().await?, "well", until).await?;
        if let Some(ill) = self.ill.as_ref().filter(|_| beside == Beside::Well) {
            until_holds(&ill.client().await?, "ill", until).await?;
        }
        let stretch = meter.stop(events)?;
        self.store = self.store_cpu().await?.saturating_sub(store);
        Ok(stretch)
    }

    /// What the bridge says of the CPU time of its store.
    async fn store_cpu(&self) -> Result<Duration> {
        let metrics = self.bridge.metrics().await?;
        Ok(Duration::from_secs_f64(value(&metrics, "tidings_state_cpu_seconds_total")))
    }

    async fn outage(mut self, events: u64) -> Result<Vec<Row>> {
        let pid = self.bridge.process().pid;
        let steady = self.replay.newest();
        forget_peak(pid)?;
        self.stop_ill().await?;
        let stretch = self.stretch(events, None, Beside::Dead).await?;
        let store = self.store;
        let (disk, dead) = (self.bridge.state_bytes()?, Usage::of(pid)?);

        let backlog = self.replay.newest();
        eprintln!("draining {events} events, and {} more a second", self.rate);
        self.replay.write(u64::MAX, Some(self.rate));
        self.ill.as_mut().context("no broker to start")?.restart().await?;
        let back = now();
        let ill = self.ill.as_ref().context("no broker")?.client().await?;
        until_holds(&ill, "ill", backlog).await?;
        let drained = Usage::of(pid)?;
        let all = self.replay.hold();
        let well = self.well.client().await?;
        for (client, name) in [(&well, "well"), (&ill, "ill")] {
            until_holds(client, name, all).await?;
        }
        let of_well = account(&well, "well", all, self.load.objects).await?;
        let of_ill = account(&ill, "ill", all, self.load.objects).await?;

        let took = Duration::from_nanos(of_ill.last(steady..backlog).saturating_sub(back));
        let first = of_ill.first_after(back).unwrap_or_default().saturating_sub(back);
        let drain = per_second(events, took);
        let p99 = |events| of_well.latency(&self.replay, events, 0.99).as_secs_f64() * 1000.0;
        let case = Case { load: self.load, subscriptions: 2, dead: true, tail: TAIL };
        let bound = Some(Goal::AtMost(mebibytes(case.bound())));
        let (none, prompt) = (Some(Goal::AtMost(0.0)), Some(Goal::AtMost(20.0)));
        let row = |variant, metric, value, unit, goal| Row::new(SCENARIO, variant, metric, value, unit, goal);
        let mut rows = speed("one dead", &stretch, store);
        #[rustfmt::skip]
        rows.extend([
            row("one dead", "disk per event", number(disk) / number(events), "bytes", None),
            row("one dead", "disk", mebibytes(disk), "MiB", None),
            row("one dead", "peak memory", mebibytes(dead.peak), "MiB", bound),
            row("drain", "until the first event", number(first) / 1e9, "s", None),
            row("drain", "rate", drain, "events/s", Some(Goal::AtLeast(5000.0))),
            row("drain", "rate to what comes in", drain / number(self.rate), "x", Some(Goal::AtLeast(10.0))),
            row("drain", "CPU per event", micros_per_event(drained.cpu.saturating_sub(dead.cpu), events), "µs", None),
            row("drain", "peak memory", mebibytes(drained.peak), "MiB", bound),
            row("drain", "disk when all is done", mebibytes(self.bridge.state_bytes()?), "MiB", None),
            row("well, before", "written to stored, p99", p99(0..steady), "ms", prompt),
            row("well, while the other drains", "written to stored, p99", p99(backlog..all), "ms", prompt),
        ]);
        for (name, account) in [("well", of_well), ("ill", of_ill)] {
            rows.extend([
                row(name, "lost", number(account.lost(0..all)), "events", none),
                row(name, "out of order", number(account.disordered), "events", none),
                row(name, "repeated", number(account.repeated), "events", None),
            ]);
        }
        Ok(rows)
    }
}

/// How fast many events went, and what each cost, with what the store took of that.
fn speed(variant: &str, stretch: &Stretch, store: Duration) -> Vec<Row> {
    let store = store.as_secs_f64() * 1e6 / number(stretch.events);
    let five = Some(Goal::AtMost(5.0));
    vec![
        Row::new(SCENARIO, variant, "throughput", stretch.per_second(), "events/s", None),
        Row::new(SCENARIO, variant, "CPU per event", stretch.micros_per_event(), "µs", None),
        Row::new(SCENARIO, variant, "CPU per event, of it the store", store, "µs", five),
    ]
}

async fn broker(stream: &str) -> Result<Nats> {
    let nats = Nats::start().await?;
    consumer::create_stream(&nats.client().await?, stream).await?;
    Ok(nats)
}

fn sink(stream: &str, nats: &Nats) -> Value {
    json!({"nats": {"servers": [nats.url()], "subject": format!("{stream}.{{namespace}}.{{name}}.{{change}}")}})
}
