//! What lies in a gap is recovered from a real API server, as long as its etcd has it.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it is made of")]

mod common;

use common::{PLACE, Recorder, Todos, change, delivery, pipeline_with, reaches, route, todo_kind, version};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tidings_bridge::metrics::Metrics;
use tidings_bridge::pipeline::Pipeline;
use tidings_bridge::watch::{WatchSettings, WatchState};
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::proxy::{Link, Proxy};

/// A bridge that can be cut off from its API server.
struct Severable {
    control_plane: ControlPlane,
    proxy: Proxy,
    todos: Todos,
    recorder: Recorder,
    pipeline: Pipeline,
    metrics: Metrics,
}

impl Severable {
    /// Told of `names`, which exist.
    async fn start(group: &str, names: &[&str], settings: impl FnOnce(&mut WatchSettings)) -> Self {
        let control_plane = ControlPlane::start().await.unwrap();
        let client = control_plane.client().await.unwrap();
        let todos = Todos::install(&client, group).await;
        for name in names {
            todos.write("default", name, "before").await;
        }
        let kubeconfig = Kubeconfig::read_from(control_plane.kubeconfig()).unwrap();
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let upstream = config.cluster_url.authority().unwrap().to_string();
        let proxy = Proxy::start(upstream, Link::GOOD).await.unwrap();
        config.cluster_url = format!("https://{}", proxy.address()).parse().unwrap();
        let (mut pipeline, metrics) = pipeline_with(&Client::try_from(config).unwrap(), 64 << 20, settings);
        let recorder = Recorder::default();
        pipeline
            .add(route("s", &todos.group, &["default"]), recorder.target(), PLACE.into(), delivery())
            .await;
        let snapshot: Vec<_> = names.iter().map(|name| format!("snapshot {name}")).collect();
        recorder.hears(&snapshot.iter().map(String::as_str).collect::<Vec<_>>()).await;
        reaches(&pipeline, &todo_kind(&todos.group), WatchState::Live).await;
        Self { control_plane, proxy, todos, recorder, pipeline, metrics }
    }

    /// The API server comes back with no history of watches, and only then the bridge does.
    async fn rejoin(&mut self) {
        self.control_plane.api_server.kill().unwrap();
        self.control_plane.api_server.restart().await.unwrap();
        self.proxy.set(Link::GOOD);
    }

    /// What was heard of one name, with versions.
    fn heard(&self, name: &str) -> Vec<(String, u64)> {
        let subject = format!("default/{name}");
        let events = self.recorder.events();
        let named = events.iter().filter(|event| event["subject"] == subject.as_str());
        named.map(|event| (change(event).to_owned(), version(event))).collect()
    }
}

fn of(change: &str, version: u64) -> (String, u64) {
    (change.to_owned(), version)
}

#[tokio::test]
async fn every_version_in_a_gap_is_recovered_while_etcd_has_it() {
    let mut world = Severable::start("recover", &["changes", "goes", "returns", "stays"], |_| ()).await;
    world.proxy.set(Link::Cut);
    let todos = world.todos.clone();
    let mut updates = Vec::new();
    for round in 0..5 {
        updates.push(todos.write("default", "changes", &round.to_string()).await);
    }
    let last = todos.write("default", "goes", "last words").await;
    todos.delete("default", "goes").await;
    todos.delete("default", "returns").await;
    let added = todos.write("default", "returns", "again").await;
    let updated = todos.write("default", "returns", "and again").await;
    let created = todos.write("default", "appears", "one").await;
    let changed = todos.write("default", "appears", "two").await;
    world.rejoin().await;
    let mut expected: Vec<_> =
        ["changes", "goes", "returns", "stays"].iter().map(|name| format!("snapshot {name}")).collect();
    expected.extend(vec!["updated changes".to_owned(); 5]);
    let rest = ["updated goes", "deleted goes", "deleted returns", "added returns", "updated returns"];
    expected.extend(rest.map(str::to_owned));
    expected.extend(["added appears", "updated appears"].map(str::to_owned));
    world.recorder.hears(&expected.iter().map(String::as_str).collect::<Vec<_>>()).await;

    let told: Vec<_> = world.heard("changes").into_iter().skip(1).collect();
    assert_eq!(told, updates.iter().map(|version| of("updated", *version)).collect::<Vec<_>>());
    assert_eq!(world.heard("goes")[1..], [of("updated", last), of("deleted", last + 1)]);
    let returns = world.heard("returns");
    assert_eq!(returns[1..], [of("deleted", last + 2), of("added", added), of("updated", updated)]);
    assert_eq!(world.heard("appears"), [of("added", created), of("updated", changed)]);

    let events = world.recorder.events();
    let gone = events.iter().find(|event| event["subject"] == "default/goes" && change(event) == "deleted");
    let gone = gone.unwrap();
    assert_eq!(gone["data"]["spec"]["message"], "last words");
    assert_eq!(gone["data"]["metadata"]["resourceVersion"], (last + 1).to_string());
    assert_eq!(gone["id"], format!("{}.deleted", gone["k8suid"].as_str().unwrap()));
    assert_eq!(world.recorder.fold(), todos.held("default").await);

    // What comes after that is told as ever.
    todos.write("default", "changes", "live").await;
    expected.push("updated changes".to_owned());
    world.recorder.hears(&expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let text = world.metrics.render();
    assert!(
        text.contains("tidings_unrecovered_objects_total{resource=\"todos.v1.recover.example.com\"} 0"),
        "{text}"
    );
    assert_eq!(world.pipeline.watches(), 1);
}

#[tokio::test]
async fn what_etcd_has_forgotten_is_marked() {
    let mut world = Severable::start("forgotten", &["changes", "goes"], |_| ()).await;
    world.proxy.set(Link::Cut);
    let todos = world.todos.clone();
    todos.write("default", "changes", "zero").await;
    todos.write("default", "changes", "one").await;
    todos.delete("default", "goes").await;
    world.control_plane.etcd.compact().await.unwrap();
    let two = todos.write("default", "changes", "two").await;
    let three = todos.write("default", "changes", "three").await;
    world.rejoin().await;
    let expected = ["snapshot changes", "snapshot goes", "deleted goes gap"];
    // The version at the compaction is there, as the oldest of all.
    let recovered = ["updated changes gap", "updated changes", "updated changes"];
    world.recorder.hears(&[&expected[..], &recovered[..]].concat()).await;
    assert_eq!(world.heard("changes")[2..], [of("updated", two), of("updated", three)]);
}

#[tokio::test]
async fn with_no_requests_the_difference_is_told_and_marked() {
    let mut world = Severable::start("off", &["changes", "goes"], |settings| {
        settings.backfill.requests = 0;
    })
    .await;
    world.proxy.set(Link::Cut);
    let todos = world.todos.clone();
    todos.write("default", "changes", "one").await;
    todos.write("default", "changes", "two").await;
    todos.delete("default", "goes").await;
    world.rejoin().await;
    let expected = ["snapshot changes", "snapshot goes", "updated changes gap", "deleted goes gap"];
    world.recorder.hears(&expected).await;
    let text = world.metrics.render();
    assert!(
        text.contains("tidings_backfill_requests_total{resource=\"todos.v1.off.example.com\"} 0"),
        "{text}"
    );
}
