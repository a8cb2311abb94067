//! What the tests share: a cluster with our CRDs and the rights that the chart gives, a broker, a bridge, and a namespace of
//! each test's own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "support of tests, which may panic")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tidings_crds::subscription::Subscription;
use tidings_testbed::consumer::{self, Fold, Received};
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::nats::Nats;
use tidings_testbed::tidings::{Bridge, Profile, build};
use tidings_testbed::wait::eventually;
use tidings_testbed::{api_server, helm, kubectl, shared};
use tokio::sync::OnceCell;

pub(crate) const SOON: Duration = Duration::from_mins(1);

/// Where the chart is installed, as far as it is.
pub(crate) const HOME: &str = "tidings";
/// The service account that it makes for the bridge.
pub(crate) const ACCOUNT: &str = "tidings-bridge";

/// A cluster with our CRDs and Todos.
pub(crate) struct Cluster {
    /// Of somebody who may do everything.
    pub(crate) kubeconfig: PathBuf,
    pub(crate) client: Client,
    /// Of the bridge's service account, with the rights of the chart and no others.
    bridge: Option<PathBuf>,
}

/// One test's namespace, stream and Todos.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) namespace: String,
    pub(crate) nats_url: String,
    pub(crate) nats: async_nats::Client,
}

/// The program, built once per test process.
pub(crate) async fn program() -> &'static Path {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    let build = || async { tokio::task::spawn_blocking(|| build(Profile::Dev)).await.unwrap().unwrap() };
    PROGRAM.get_or_init(build).await
}

/// The cluster, broker and bridge that tests share which break none of them.
pub(crate) async fn stage(prefix: &str) -> Stage {
    stage_with(prefix, &[]).await.0
}

/// The same, whose bridge has more `arguments`: all that ask in one process must ask for the same.
pub(crate) async fn stage_with(prefix: &str, arguments: &[&str]) -> (Stage, &'static Bridge) {
    static BRIDGE: OnceCell<Bridge> = OnceCell::const_new();
    let testbed = shared::testbed().await.unwrap();
    let start = || async {
        let cluster = Cluster::install(&testbed.control_plane).await;
        Bridge::start(program().await, cluster.bridge(), arguments).await.unwrap()
    };
    let bridge = BRIDGE.get_or_init(start).await;
    (Stage::set(Cluster::of(&testbed.control_plane).await, &testbed.nats, prefix).await, bridge)
}

impl Cluster {
    pub(crate) async fn of(control_plane: &ControlPlane) -> Self {
        let kubeconfig = control_plane.kubeconfig().to_owned();
        let client = api_server::client(&kubeconfig).await.unwrap();
        Self { kubeconfig, client, bridge: None }
    }

    /// The kubeconfig to run the bridge with.
    pub(crate) fn bridge(&self) -> &Path {
        self.bridge.as_deref().expect("a cluster that something was installed in")
    }

    /// The same, after our CRDs were installed as people install them, and the bridge was given its rights.
    pub(crate) async fn install(control_plane: &ControlPlane) -> Self {
        let mut cluster = Self::of(control_plane).await;
        let crds = std::process::Command::new(program().await).arg("crds").output().unwrap();
        cluster.apply("default", &String::from_utf8(crds.stdout).unwrap());
        cluster.apply("default", include_str!("../../../examples/todo/crd.yaml"));
        eventually(SOON, "established CRDs", || async {
            let todos = cluster.api("default", "k8sasbackend.com", "v1", "Todo", "todos");
            todos.list(&ListParams::default()).await?;
            Api::<Subscription>::all(cluster.client.clone()).list(&ListParams::default()).await.map(drop)
        })
        .await
        .unwrap();
        cluster.give_rights();
        cluster.bridge = Some(control_plane.kubeconfig_of(HOME, ACCOUNT).await.unwrap());
        cluster
    }

    /// Applies what the chart has for the rights of the bridge.
    fn give_rights(&self) {
        let todos = json!({"sources": [{"apiGroups": ["k8sasbackend.com"], "resources": ["todos"]}]});
        let objects = helm::template(HOME, &todos).unwrap();
        let rights = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
        let mut items = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})];
        items.extend(objects.into_iter().filter(|object| rights.iter().any(|kind| object["kind"] == *kind)));
        items.push(bound("tidings-bridge-source-values"));
        self.apply(HOME, &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
    }

    /// Lets the bridge read another kind, as people do for kinds of theirs.
    pub(crate) fn let_read(&self, group: &str, plural: &str) {
        let name = format!("tidings-reads-{plural}.{group}");
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": {"tidings.dev/aggregate-to-bridge": "true"}},
            "rules": [{"apiGroups": [group], "resources": [plural], "verbs": ["list", "watch"]}]
        });
        let items = [role, bound(&name)];
        self.apply(HOME, &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
    }

    pub(crate) fn apply(&self, namespace: &str, yaml: &str) {
        kubectl::apply(&self.kubeconfig, namespace, yaml).unwrap();
    }

    pub(crate) fn api(
        &self,
        namespace: &str,
        group: &str,
        version: &str,
        kind: &str,
        plural: &str,
    ) -> Api<DynamicObject> {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }
}

/// Where there is no controller manager nobody puts the role of the sources together: this binds a part of it by itself.
fn bound(role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("without-controllers-{role}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": HOME}]
    })
}

impl Stage {
    pub(crate) async fn set(cluster: Cluster, nats: &Nats, prefix: &str) -> Self {
        let namespace = shared::namespace(&cluster.client, prefix).await.unwrap();
        let client = nats.client().await.unwrap();
        Self { cluster, namespace, nats_url: nats.url(), nats: client }
    }

    /// Makes the stream of this test.
    pub(crate) async fn create_stream(&self) {
        consumer::create_stream(&self.nats, &self.namespace).await.unwrap();
    }

    pub(crate) fn subscriptions(&self) -> Api<Subscription> {
        Api::namespaced(self.cluster.client.clone(), &self.namespace)
    }

    /// A Subscription called `name` to the Todos of this namespace, with `change` made to its spec.
    pub(crate) async fn subscribe(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut subscription = json!({
            "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "sources": [{"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"}],
                "sink": {"nats": {
                    "servers": [self.nats_url],
                    "subject": format!("{}.{{name}}.{{change}}", self.namespace)
                }}
            }
        });
        change(&mut subscription["spec"]);
        let subscription = serde_json::from_value(subscription).unwrap();
        self.subscriptions().create(&PostParams::default(), &subscription).await.unwrap();
    }

    pub(crate) async fn edit(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.subscriptions().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until the condition of the Subscription has this status and reason, for its present generation, and
    /// answers its message.
    pub(crate) async fn says(&self, name: &str, condition: &str, status: &str, reason: &str) -> String {
        eventually(SOON, &format!("{condition}={status} because of {reason}"), || async {
            let subscription = self.subscriptions().get(name).await?;
            let generation = subscription.metadata.generation;
            let status_of = subscription.status.unwrap_or_default();
            let found = status_of.conditions.iter().find(|found| found.type_ == condition);
            match found {
                Some(found)
                    if (found.status.as_str(), found.reason.as_str()) == (status, reason)
                        && status_of.observed_generation == generation =>
                {
                    Ok(found.message.clone())
                }
                _ => anyhow::bail!("{status_of:#?}"),
            }
        })
        .await
        .unwrap()
    }

    /// Waits until a Kubernetes Event of this reason is there about the Subscription, and answers its note.
    pub(crate) async fn announces(&self, name: &str, reason: &str) -> String {
        let events = self.cluster.api(&self.namespace, "events.k8s.io", "v1", "Event", "events");
        eventually(SOON, &format!("a Kubernetes Event {reason}"), || async {
            let all = events.list(&ListParams::default()).await?.items;
            let about = |event: &&DynamicObject| {
                let Value::Object(fields) = &event.data else { return false };
                fields["reason"] == reason && fields["regarding"]["name"] == name
            };
            let found = all.iter().find(about).map(|event| event.data["note"].clone());
            found.ok_or_else(|| anyhow::anyhow!("there are {all:#?}"))
        })
        .await
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
    }

    pub(crate) fn todos(&self) -> Api<DynamicObject> {
        self.cluster.api(&self.namespace, "k8sasbackend.com", "v1", "Todo", "todos")
    }

    /// Creates or updates a Todo; the version it got.
    pub(crate) async fn write(&self, name: &str, message: &str) -> u64 {
        let todo = json!({
            "apiVersion": "k8sasbackend.com/v1", "kind": "Todo", "metadata": {"name": name},
            "spec": {"when": "2026-12-24T18:00:00Z", "message": message}
        });
        let params = PatchParams::apply("e2e").force();
        let written = self.todos().patch(name, &params, &Patch::Apply(todo)).await.unwrap();
        written.resource_version().unwrap().parse().unwrap()
    }

    /// Puts so much into the status of a Todo; how many bytes that are.
    pub(crate) async fn write_status(&self, name: &str, bulk: &str) -> u64 {
        let status = Patch::Merge(json!({"status": {"bulk": bulk}}));
        self.todos().patch_status(name, &PatchParams::default(), &status).await.unwrap();
        bulk.len() as u64
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.todos().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Everything that is in the stream now.
    pub(crate) async fn events(&self) -> Vec<Received> {
        consumer::read_all(&self.nats, &self.namespace).await.unwrap()
    }

    /// Waits until there are `count` events in the stream, and answers them.
    pub(crate) async fn hears(&self, count: usize) -> Vec<Received> {
        eventually(SOON, &format!("{count} events"), || async {
            let context = async_nats::jetstream::new(self.nats.clone());
            let mut stream = context.get_stream(&self.namespace).await?;
            let stored = stream.info().await?.state.messages;
            anyhow::ensure!(stored >= count as u64, "there are {stored}");
            Ok(())
        })
        .await
        .unwrap();
        self.events().await
    }

    /// Waits until what a consumer folds is what the API server holds.
    pub(crate) async fn agrees(&self) {
        let agreed = eventually(SOON, "the same on both sides", || async {
            let mut fold = Fold::default();
            consumer::read_all(&self.nats, &self.namespace).await?.iter().for_each(|event| fold.take(event));
            let held = self.held().await;
            let folded: BTreeMap<_, _> =
                fold.objects.iter().map(|(key, data)| (key.clone(), version_of(data))).collect();
            anyhow::ensure!(folded == held, "the consumer holds {folded:#?}, the API server {held:#?}");
            Ok(())
        });
        agreed.await.unwrap();
    }

    /// The versions of the Todos that the API server holds.
    async fn held(&self) -> BTreeMap<String, String> {
        let list = self.todos().list(&ListParams::default()).await.unwrap();
        let versions = list.items.into_iter().map(|todo| {
            (format!("{}/{}", self.namespace, todo.name_any()), todo.resource_version().unwrap())
        });
        versions.collect()
    }
}

fn version_of(data: &Value) -> String {
    data["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

/// `added milk`, for comparing.
pub(crate) fn lines(events: &[Received]) -> Vec<String> {
    let name =
        |event: &Received| event.attribute("subject").rsplit('/').next().unwrap_or_default().to_owned();
    events.iter().map(|event| format!("{} {}", event.change(), name(event))).collect()
}
