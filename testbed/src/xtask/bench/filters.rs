//! What it costs not to hear of something: Subscriptions that select or filter by labels, attributes and CEL, on one resource.
//!
//! Nothing passes, so that no sink is measured: what is left is deciding. Beside it, in the same run, a Subscription to another
//! namespace, which shows what reading costs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::meter::{Meter, micros_per_event};
use super::number;
use crate::memory::value;
use crate::nats::Nats;
use crate::replay::{Load, Replay};
use crate::tidings::{Bridge, Profile, build};
use crate::wait::eventually;
use crate::xtask::report::{Goal, Row, publish};

const SCENARIO: &str = "filters";
/// For a run to come to an end.
const PATIENCE: Duration = Duration::from_mins(5);

#[derive(Debug, Args)]
pub(super) struct Filters {
    /// Events of each run; with 64 Subscriptions an eighth of it
    #[arg(long, default_value_t = 200_000)]
    events: u64,
    /// Different objects
    #[arg(long, default_value_t = 10_000)]
    objects: u64,
    /// Length of an object in bytes
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Write the figures there too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How events are told apart.
struct Way {
    name: &'static str,
    spec: Value,
    /// CPU time for each event and Subscription, in microseconds.
    goal: f64,
}

pub(super) async fn run(Filters { events, objects, size, json }: Filters) -> Result<ExitCode> {
    let program = build(Profile::Release)?;
    let load = |events| Load { events, objects, size, in_flight: 1024 };
    let source = |more: Value| {
        let mut source = json!({"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"});
        more.as_object().into_iter().flatten().for_each(|(field, value)| source[field] = value.clone());
        json!({ "sources": [source] })
    };
    let elsewhere = source(json!({"namespaces": {"names": ["elsewhere"]}}));
    eprintln!("reading, {events} events");
    let reading = measure(&program, load(events), 1, &elsewhere).await?;
    let mut rows = vec![Row::new(SCENARIO, "reading", "CPU per event", reading, "µs", None)];
    for Way { name, spec, goal } in ways(source) {
        for subscriptions in [1, 8, 64] {
            let events = if subscriptions == 64 { events / 8 } else { events };
            let variant = format!("{name}, {subscriptions} Subscriptions");
            eprintln!("{variant}, {events} events");
            let taken = measure(&program, load(events), subscriptions, &spec).await?;
            let each = (taken - reading) / number(subscriptions);
            let row = |metric, value, goal| Row::new(SCENARIO, &variant, metric, value, "µs", goal);
            rows.push(row("CPU per event", taken, None));
            rows.push(row("CPU per event and Subscription", each, Some(Goal::AtMost(goal))));
        }
    }
    println!();
    publish(&rows, json.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

fn ways(source: impl Fn(Value) -> Value) -> [Way; 3] {
    let typical = "object.metadata.labels.tier == 'gold' && object.spec.message.startsWith('no word begins so') && \
                   change.kind != 'Deleted'";
    [
        Way {
            name: "labels",
            spec: source(json!({"labelSelector": {"matchLabels": {"app": "shop", "tier": "silver"}}})),
            goal: 2.0,
        },
        Way { name: "attributes", spec: json!({"filters": [{"prefix": {"subject": "farm/"}}]}), goal: 2.0 },
        Way { name: "CEL", spec: json!({"filters": [{"cel": typical}]}), goal: 20.0 },
    ]
}

/// CPU time of the bridge for each event, in microseconds.
async fn measure(program: &Path, load: Load, subscriptions: u64, spec: &Value) -> Result<f64> {
    let nats = Nats::start().await?;
    crate::consumer::create_stream(&nats.client().await?, "bench").await?;
    let mut spec = spec.clone();
    spec["sink"] = json!({"nats": {"servers": [nats.url()], "subject": "bench.{namespace}.{name}.{change}"}});
    let names: Vec<_> = (0..subscriptions).map(|number| format!("s{number}")).collect();
    let specs: Vec<_> = names.iter().map(|name| (name.as_str(), spec.clone())).collect();
    let replay = Replay::start_specs(load, &specs, &BTreeMap::new()).await?;
    let bridge = Bridge::start(program, replay.kubeconfig(), &["--log-level=error"]).await?;
    replay.all_delivering().await?;
    let meter = Meter::start(bridge.process().pid)?;
    replay.write(load.events, None);
    let read = eventually(PATIENCE, "everything read", || async {
        let received: u64 = value(&bridge.metrics().await?, "tidings_received_total");
        ensure!(received >= load.events, "{received}");
        Ok(())
    });
    read.await?;
    let stretch = meter.stop(load.events)?;
    let told: u64 = value(&bridge.metrics().await?, "tidings_routed_total");
    ensure!(told == 0, "{told} Events were told");
    Ok(micros_per_event(stretch.cpu, stretch.events))
}
