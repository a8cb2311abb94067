//! What the tests of the bridge against a real API server share: Todos, and a sink that remembers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "support of tests, which may panic")]
#![allow(dead_code, reason = "not every test uses everything")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tidings_bridge::clock::Clock;
use tidings_bridge::deliver::DeliverySettings;
use tidings_bridge::journal::Memory;
use tidings_bridge::metrics::Metrics;
use tidings_bridge::pipeline::Pipeline;
use tidings_bridge::watch::{BackfillSettings, WatchContext, WatchSettings, WatchState};
use tidings_config::sink::stdout::StdoutFormat;
use tidings_core::change::ChangeKinds;
use tidings_core::delivery::{Backoff, Outcome};
use tidings_core::route::{Kind, Route};
use tidings_core::selection::{Namespaces, Selection};
use tidings_sinks::message::Message;
use tidings_sinks::sink::{NotReady, Sink};
use tidings_sinks::stdout::encode::StdoutEncoder;
use tidings_sinks::{Encoder, Target};
use tidings_testbed::wait::eventually;

pub(crate) const SOON: Duration = Duration::from_secs(30);
/// Where the Events of every test go.
pub(crate) const PLACE: &str = "recorder";

/// Remembers what it acked, and fails when told to.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    events: Vec<Value>,
    failing: bool,
}

impl Recorder {
    pub(crate) fn target(&self) -> Target {
        let encoder = Encoder::Stdout(StdoutEncoder::new(StdoutFormat::Json, false));
        Target { encoder, sink: Arc::new(self.clone()), ordered: false }
    }

    pub(crate) fn fail(&self, failing: bool) {
        self.0.lock().unwrap().failing = failing;
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.0.lock().unwrap().events.clone()
    }

    /// `added shop/milk` for each event, with ` gap` where that is marked.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.events().iter().map(line).collect()
    }

    /// Waits until exactly these lines have come, in any order between objects.
    pub(crate) async fn hears(&self, expected: &[&str]) {
        let wanted = sorted(expected.iter().map(ToString::to_string).collect());
        let heard = eventually(SOON, "the expected events", || async {
            let heard = sorted(self.lines());
            if heard == wanted { Ok(()) } else { Err(format!("heard {heard:#?}, expected {wanted:#?}")) }
        });
        heard.await.unwrap();
    }

    /// What a consumer ends up with: object by key.
    pub(crate) fn fold(&self) -> BTreeMap<String, Value> {
        let mut state = BTreeMap::new();
        for event in self.events() {
            let key = event["subject"].as_str().unwrap().to_owned();
            match change(&event) {
                "deleted" | "left" => drop(state.remove(&key)),
                _ => drop(state.insert(key, event["data"].clone())),
            }
        }
        state
    }
}

#[async_trait]
impl Sink for Recorder {
    async fn check(&self) -> Result<(), NotReady> {
        Ok(())
    }

    async fn deliver(&self, messages: &[Message]) -> Vec<Outcome> {
        let mut recorded = self.0.lock().unwrap();
        if recorded.failing {
            return vec![Outcome::Retry { reason: "told to fail".into(), after: None }; messages.len()];
        }
        for message in messages {
            recorded.events.push(serde_json::from_slice(&message.body).unwrap());
        }
        vec![Outcome::Acked; messages.len()]
    }

    async fn close(&self, _deadline: Duration) {}
}

/// `added`, `updated`, …
pub(crate) fn change(event: &Value) -> &str {
    event["type"].as_str().unwrap().rsplit('.').next().unwrap()
}

pub(crate) fn version(event: &Value) -> u64 {
    event["sequence"].as_str().unwrap()[13..33].parse().unwrap()
}

fn line(event: &Value) -> String {
    let name = event["subject"].as_str().unwrap().rsplit('/').next().unwrap();
    let gap = if event.get("gap").is_some() { " gap" } else { "" };
    format!("{} {name}{gap}", change(event))
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// A pipeline on `client` with the settings of a test.
pub(crate) fn pipeline(client: &Client, change: impl FnOnce(&mut WatchSettings)) -> Pipeline {
    pipeline_with(client, 64 << 20, change).0
}

/// The same with a Journal of `journal` bytes, and the metrics.
pub(crate) fn pipeline_with(
    client: &Client,
    journal: usize,
    change: impl FnOnce(&mut WatchSettings),
) -> (Pipeline, Metrics) {
    let backoff = Backoff { first: Duration::from_millis(25), max: Duration::from_secs(1) };
    let mut settings = WatchSettings {
        ring_bytes: 4 << 20,
        max_object_bytes: 8 << 20,
        page_size: 500,
        watch_timeout: Duration::from_secs(290),
        silence_limit: Duration::from_secs(150),
        reconnect: backoff,
        relist: backoff,
        backfill: BackfillSettings {
            requests: 1000,
            at_once: 4,
            per_second: 50,
            time: Duration::from_secs(30),
            bytes: 16 << 20,
        },
    };
    change(&mut settings);
    let metrics = Metrics::default();
    let context = WatchContext {
        client: client.clone(),
        cluster: "test".into(),
        memory: Memory::new(journal),
        state: None,
        metrics: metrics.clone(),
        clock: Clock::start(),
        settings,
        namespace: None,
    };
    (Pipeline::new(context), metrics)
}

pub(crate) fn delivery() -> DeliverySettings {
    let backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(100) };
    DeliverySettings::new(64, backoff)
}

pub(crate) fn todo_kind(group: &str) -> Kind {
    Kind::new(&format!("{group}/v1"), "Todo")
}

/// A Subscription called `name` on the Todos of `group` in `namespaces`.
pub(crate) fn route(name: &str, group: &str, namespaces: &[&str]) -> Route {
    let namespaces = Namespaces::Only(namespaces.iter().map(ToString::to_string).collect());
    Route {
        subscription: format!("test/{name}").into(),
        filter: Arc::default(),
        uid: format!("uid-{name}").into(),
        generation: 1,
        selections: BTreeMap::from([(todo_kind(group), Selection::of(namespaces))]),
        on: ChangeKinds::ALL,
    }
}

/// The Todos of one test: a kind of its own, so that no other test writes any.
#[derive(Clone)]
pub(crate) struct Todos {
    pub(crate) client: Client,
    pub(crate) group: String,
}

impl Todos {
    /// Makes the kind. `group` has to be the test's own.
    pub(crate) async fn install(client: &Client, group: &str) -> Self {
        let todos = Self { client: client.clone(), group: format!("{group}.example.com") };
        todos.install_crd().await;
        todos
    }

    pub(crate) async fn install_crd(&self) {
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        let crd = serde_json::from_value(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("todos.{}", self.group)},
            "spec": {
                "group": self.group, "scope": "Namespaced",
                "names": {"plural": "todos", "singular": "todo", "kind": "Todo"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": {"type": "object",
                        "x-kubernetes-preserve-unknown-fields": true}}}}}]
            }
        }));
        crds.create(&PostParams::default(), &crd.unwrap()).await.unwrap();
        eventually(SOON, "an established CRD", || async {
            self.api("default").list(&kube::api::ListParams::default()).await.map(drop)
        })
        .await
        .unwrap();
    }

    pub(crate) async fn remove_crd(&self) {
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        let name = format!("todos.{}", self.group);
        crds.delete(&name, &DeleteParams::default()).await.unwrap();
        eventually(SOON, "the end of the CRD", || async {
            match crds.get_opt(&name).await {
                Ok(None) => Ok(()),
                other => Err(format!("it is there: {:?}", other.map(|crd| crd.map(|crd| crd.metadata)))),
            }
        })
        .await
        .unwrap();
    }

    pub(crate) fn api(&self, namespace: &str) -> Api<DynamicObject> {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&self.group, "v1", "Todo"), "todos");
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// Creates or updates; the version it got.
    pub(crate) async fn write(&self, namespace: &str, name: &str, message: &str) -> u64 {
        let object = json!({
            "apiVersion": format!("{}/v1", self.group), "kind": "Todo",
            "metadata": {"name": name}, "spec": {"message": message}
        });
        let params = PatchParams::apply("test").force();
        let written = self.api(namespace).patch(name, &params, &Patch::Apply(object)).await.unwrap();
        written.metadata.resource_version.unwrap().parse().unwrap()
    }

    pub(crate) async fn delete(&self, namespace: &str, name: &str) {
        self.api(namespace).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// What the API server holds: object by key, as Events carry it.
    pub(crate) async fn held(&self, namespace: &str) -> BTreeMap<String, Value> {
        let list = self.api(namespace).list(&kube::api::ListParams::default()).await.unwrap();
        let object = |mut object: DynamicObject| {
            object.metadata.managed_fields = None;
            let key = format!("{namespace}/{}", object.metadata.name.clone().unwrap());
            let mut value = serde_json::to_value(object).unwrap();
            value["apiVersion"] = format!("{}/v1", self.group).into();
            value["kind"] = "Todo".into();
            (key, value)
        };
        list.items.into_iter().map(object).collect()
    }
}

/// Waits until the Watch is in `state`.
pub(crate) async fn reaches(pipeline: &Pipeline, kind: &Kind, state: WatchState) {
    let mut report = pipeline.watch_report(kind).expect("a Watch runs");
    let reached = tokio::time::timeout(SOON, report.wait_for(|report| report.state == state)).await;
    let reached = reached.map(|report| report.map(|_| ()));
    assert!(matches!(reached, Ok(Ok(()))), "{state:?} was not reached; {:?}", report_of(pipeline, kind));
}

pub(crate) fn report_of(pipeline: &Pipeline, kind: &Kind) -> tidings_bridge::watch::WatchReport {
    pipeline.watch_report(kind).expect("a Watch runs").borrow().clone()
}
