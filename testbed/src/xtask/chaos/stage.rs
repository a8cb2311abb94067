//! What chaos happens to: a cluster, a broker behind a network, a bridge, writers, and three Subscriptions.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::chaos::check::{Checker, Findings, Round, Suffered};
use crate::chaos::record::{Confirmed, Record};
use crate::chaos::writer::Writer;
use crate::consumer::Received;
use crate::control_plane::ControlPlane;
use crate::disk::Disk;
use crate::proxy::{Link, Proxy};
use crate::receiver::broker::{Broker, USER};
use crate::receiver::ear::Ear;
use crate::receiver::way::Way;
use crate::receiver::{Kind, Security};
use crate::tidings::{Bridge, Profile, build};
use crate::wait::eventually;
use crate::{kubectl, root, shared};

/// How long anything may take until it is at rest again.
const REST: Duration = Duration::from_secs(90);
/// How long a server may take to end.
const GOODBYE: Duration = Duration::from_secs(5);
/// The Subscription that is edited and made again.
const CHANGING: &str = "changing";
const WRITERS: usize = 6;
const NAMES_OF_A_WRITER: usize = 20;
pub(super) struct Stage {
    // Dropped in this order: whoever uses something goes before it.
    pub(super) bridge: Bridge,
    disk: Option<Disk>,
    proxy: Proxy,
    pub(super) broker: Broker,
    /// How the Subscription that changes sends.
    changing: Way,
    pub(super) control_plane: ControlPlane,
    client: Client,
    namespaces: Vec<String>,
    subscriptions: Vec<Subscription>,
    /// Nobody else's, and at rest between rounds.
    pub(super) writers: Vec<Writer>,
    marker: Writer,
    pub(super) record: Arc<Record>,
    crd_edits: u32,
}

/// A Subscription, whose place in the broker has its name.
struct Subscription {
    name: &'static str,
    ear: Ear,
    /// The only one it selects; all, where there is none.
    namespace: Option<String>,
    /// How many events of what was heard were checked.
    checked: usize,
    checker: Checker,
}

/// What one Subscription was told in a round, and what is to be said of it.
pub(super) struct Heard {
    pub(super) subscription: &'static str,
    pub(super) events: Vec<Received>,
    pub(super) findings: Findings,
}

// === impl Stage ===

impl Stage {
    /// Starts everything with a broker of this kind; the writers wait.
    pub(super) async fn set(kind: Kind, seed: u64) -> Result<Self> {
        let program = tokio::task::spawn_blocking(|| build(Profile::Dev)).await??;
        let (control_plane, broker) = tokio::try_join!(ControlPlane::start(), Broker::start(kind))?;
        let client = control_plane.client().await?;
        let kubeconfig = control_plane.kubeconfig().to_owned();
        let crds = Command::new(&program).arg("crds").output().context("run tidings crds")?;
        kubectl::apply(&kubeconfig, "default", &String::from_utf8(crds.stdout)?)?;
        kubectl::apply(&kubeconfig, "default", &todo_crd()?)?;
        let mut namespaces = Vec::new();
        for _ in 0..3 {
            namespaces.push(shared::namespace(&client, "chaos").await?);
        }
        eventually(REST, "established CRDs", || async {
            todos(&client).list(&ListParams::default()).await?;
            subscriptions(&client, &namespaces[0]).list(&ListParams::default()).await.map(drop)
        })
        .await?;

        let proxy = broker.proxy(Security::Plain).await?;
        // One over the network that breaks; another on the same Watch with a way of its own, which must not notice.
        // And one that is edited and made again.
        let one = Some(namespaces[0].clone());
        let mut told = Vec::new();
        for (name, proxy, namespace) in
            [("all", Some(&proxy), None), ("one", None, one), (CHANGING, None, None)]
        {
            broker.create(Security::Plain, name, None).await?;
            let way = broker.way(Security::Plain, USER, name, proxy)?;
            let (secret, subscription) =
                (way.yaml(&namespaces[0]), subscription(name, &way, namespace.is_none()));
            kubectl::apply(&kubeconfig, &namespaces[0], &format!("{secret}---\n{subscription}"))?;
            let ear = broker.listen(Security::Plain, name).await?;
            told.push(Subscription { name, ear, namespace, checked: 0, checker: Checker::default() });
        }
        let changing = broker.way(Security::Plain, USER, CHANGING, None)?;
        let disk = Disk::mount()?;
        let bridge = start_bridge(&program, &kubeconfig, disk.as_ref()).await?;

        let record = Arc::<Record>::default();
        let writer = |index: usize, names| {
            let random = fastrand::Rng::with_seed(seed ^ (index as u64) << 32);
            Writer::new(client.clone(), todo(), names, record.clone(), random)
        };
        let writers = (0..WRITERS).map(|index| writer(index, names(index, &namespaces))).collect();
        let marker = writer(WRITERS, vec![(namespaces[0].clone(), "marker".to_owned())]);
        let mut stage = Self {
            bridge,
            disk,
            proxy,
            broker,
            changing,
            control_plane,
            client,
            namespaces,
            subscriptions: told,
            writers,
            marker,
            record,
            crd_edits: 0,
        };
        // A bridge that is ready has not told the first snapshot yet, and nobody is owed what was written before that.
        stage.rest().await.context("the first snapshot")?;
        Ok(stage)
    }

    /// What the network before the broker is like from now on.
    #[allow(clippy::unnecessary_wraps, reason = "a fault is something that may fail")]
    pub(super) fn network(&self, link: Link) -> Result<()> {
        self.proxy.set(link);
        Ok(())
    }

    /// Lets the Subscription that changes select only one namespace, or all again.
    pub(super) async fn select(&self, all: bool) -> Result<()> {
        let namespaces = if all { json!({"all": true}) } else { json!({"names": [self.namespaces[1]]}) };
        let sources =
            json!([{"apiVersion": "k8sasbackend.com/v1", "kind": "Todo", "namespaces": namespaces}]);
        let patch = Patch::Merge(json!({ "spec": { "sources": sources } }));
        let api = subscriptions(&self.client, &self.namespaces[0]);
        api.patch(CHANGING, &PatchParams::default(), &patch).await.map(drop).context("edit the Subscription")
    }

    /// Removes the Subscription that changes, and makes it again at once.
    pub(super) fn recreate(&self) -> Result<()> {
        let subscription = subscription(CHANGING, &self.changing, true).to_string();
        let kubeconfig = self.control_plane.kubeconfig();
        kubectl::run(
            kubeconfig,
            &["delete", "--namespace", &self.namespaces[0], "--filename", "-"],
            &subscription,
        )?;
        kubectl::apply(kubeconfig, &self.namespaces[0], &subscription).map(drop)
    }

    /// Edits the schema: the API server ends the watches, and forgets what they could resume at.
    pub(super) fn edit_crd(&mut self) -> Result<()> {
        self.crd_edits += 1;
        let description = format!("Something to be done, edit {}.", self.crd_edits);
        let crd = todo_crd()?.replace("Something to be done.", &description);
        kubectl::apply(self.control_plane.kubeconfig(), "default", &crd).map(drop)
    }

    /// Removes the CRD, and with it every object, and makes it again.
    pub(super) async fn remove_crd(&mut self) -> Result<()> {
        let kubeconfig = self.control_plane.kubeconfig();
        kubectl::run(kubeconfig, &["delete", "--filename", "-"], &todo_crd()?)?;
        kubectl::apply(kubeconfig, "default", &todo_crd()?)?;
        let todos = todos(&self.client);
        eventually(REST, "the CRD again", || async { todos.list(&ListParams::default()).await.map(drop) })
            .await
    }

    /// Compacts etcd while the API server, which has its own copy of the recent history, is down.
    pub(super) async fn forget_history(&mut self) -> Result<()> {
        self.control_plane.api_server.kill()?;
        self.control_plane.etcd.compact().await?;
        self.control_plane.api_server.restart().await
    }

    /// The polite way, by which clients are told.
    pub(super) async fn restart_api_server(&mut self) -> Result<()> {
        // It serves nobody any more, and sometimes does not end for a minute.
        self.control_plane.api_server.stop_within(GOODBYE).await?;
        self.control_plane.api_server.restart().await
    }

    /// Whether the bridge's disk is one that can be filled.
    pub(super) fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    pub(super) fn fill_disk(&self) -> Result<()> {
        self.disk.as_ref().map_or(Ok(()), Disk::fill)
    }

    pub(super) fn free_disk(&self) -> Result<()> {
        self.disk.as_ref().map_or(Ok(()), Disk::free)
    }

    /// Waits until everything that was written is settled, by the Subscriptions' own words, and was heard.
    pub(super) async fn rest(&mut self) -> Result<()> {
        self.settled().await?;
        // What is sent after everything else was acknowledged is heard after everything else.
        let last = self.settled().await?.to_string();
        for Subscription { name, ear, .. } in &self.subscriptions {
            let is_last = |event: &Received| event.data["metadata"]["resourceVersion"] == *last;
            self.broker.told(ear, name, is_last).await?;
        }
        Ok(())
    }

    /// Waits until everything that was written is settled. Says which version was the last.
    async fn settled(&mut self) -> Result<u64> {
        let marker = self.marker.mark().await?;
        ensure!(self.bridge.is_running(), "the bridge has ended");
        let api = subscriptions(&self.client, &self.namespaces[0]);
        for Subscription { name, .. } in &self.subscriptions {
            eventually(REST, &format!("Subscription {name} at rest at version {marker}"), || async {
                let status = api.get(name).await?.data["status"].take();
                let position = status["positions"][0]["resourceVersion"].as_str();
                let position = position.and_then(|version| version.parse::<u64>().ok());
                let conditions = status["conditions"].as_array().into_iter().flatten();
                let delivers =
                    conditions.filter(|c| c["type"] == "Delivering" && c["reason"] == "Synchronized");
                ensure!(position >= Some(marker) && status["lag"]["changes"] == 0, "its status is {status}");
                ensure!(delivers.count() == 1, "its status is {status}");
                Ok(())
            })
            .await?;
        }
        Ok(marker)
    }

    /// Checks what was confirmed, published and held since the last time. To be called at rest.
    pub(super) async fn check(&mut self, suffered: Suffered) -> Result<(Vec<Confirmed>, Vec<Heard>)> {
        let list = todos(&self.client).list(&ListParams::default()).await?;
        for writer in self.writers.iter_mut().chain([&mut self.marker]) {
            writer.review(&list.items)?;
        }
        let confirmed = self.record.take();
        let objects = list.items.iter().map(|object| Ok((key_of(object), serde_json::to_value(object)?)));
        let objects = objects.collect::<Result<BTreeMap<_, _>>>()?;
        let mut heard = Vec::new();
        for Subscription { name, ear, namespace, checked, checker } in &mut self.subscriptions {
            let events = ear.heard().split_off(*checked);
            *checked += events.len();
            let selected = |key: &str| {
                let of = key.split('/').next();
                namespace.is_none() || of == namespace.as_deref()
            };
            let confirmed: Vec<_> = confirmed.iter().filter(|c| selected(&c.key)).cloned().collect();
            let suffered = if *name == CHANGING { suffered } else { suffered.of_others() };
            let held = objects.iter().filter(|(key, _)| selected(key));
            let held = held.map(|(key, object)| (key.clone(), object.clone())).collect();
            let round = Round { confirmed: &confirmed, events: &events, held: &held, suffered };
            let findings = checker.check(&round);
            heard.push(Heard { subscription: name, events, findings });
        }
        Ok((confirmed, heard))
    }
}

async fn start_bridge(program: &Path, kubeconfig: &Path, disk: Option<&Disk>) -> Result<Bridge> {
    let state = disk.map(|disk| format!("--state-dir={}", disk.path().display()));
    let arguments: Vec<_> = state.iter().map(String::as_str).collect();
    Bridge::start(program, kubeconfig, &arguments).await
}

fn subscription(name: &str, way: &Way, all: bool) -> Value {
    let mut source = json!({"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"});
    if all {
        source["namespaces"] = json!({"all": true});
    }
    json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription", "metadata": {"name": name},
        "spec": {
            "sources": [source],
            "sink": way.inline(),
        }
    })
}

/// Names of one writer, over all namespaces; some with a dot, which subjects replace.
fn names(writer: usize, namespaces: &[String]) -> Vec<(String, String)> {
    let name = |index: usize| {
        let separator = if index.is_multiple_of(5) { '.' } else { '-' };
        (namespaces[index % namespaces.len()].clone(), format!("w{writer}{separator}{index}"))
    };
    (0..NAMES_OF_A_WRITER).map(name).collect()
}

fn key_of(object: &DynamicObject) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

fn todo() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("k8sasbackend.com", "v1", "Todo"), "todos")
}

fn todos(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &todo())
}

fn subscriptions(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("tidings.dev", "v1alpha1", "Subscription");
    let resource = ApiResource::from_gvk_with_plural(&kind, "subscriptions");
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn todo_crd() -> Result<String> {
    let path = root()?.join("examples/todo/crd.yaml");
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}
