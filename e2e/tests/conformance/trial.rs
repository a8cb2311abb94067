//! One case with one broker: a namespace, a place in the broker, a Subscription, a writer who remembers what was confirmed,
//! and an application that hears what arrives.

#![allow(dead_code, reason = "each test file uses its part")]

#[path = "checks.rs"]
mod checks;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DeleteParams, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tidings_crds::sink::Sink;
use tidings_testbed::chaos::record::{Confirmed, Record, What};
use tidings_testbed::chaos::writer::Writer;
use tidings_testbed::proxy::{Link, Proxy};
use tidings_testbed::receiver::broker::USER;
use tidings_testbed::receiver::ear::Ear;
use tidings_testbed::receiver::way::{SECRET, Way};
use tidings_testbed::receiver::{Kind, Security};
use tidings_testbed::tidings::Bridge;
use tidings_testbed::wait::eventually;
use tokio::sync::{Mutex, MutexGuard};

use crate::leaks;
use crate::support::{SOON, Stage};
use crate::world::{Held, Manner, Running, World};

/// The Subscription of each case.
pub(crate) const ORDERS: &str = "orders";
/// The Sink of each case that is secured.
pub(crate) const COMPANY: &str = "company";
/// Names that the writer writes under.
const NAMES: usize = 6;

/// One case with one broker.
pub(crate) struct Trial<'a> {
    pub(crate) stage: Stage,
    pub(crate) kind: Kind,
    pub(crate) security: Security,
    pub(crate) broker: Held,
    pub(crate) bridge: Running,
    /// The stream, topic, exchange or path; it is called like the namespace.
    pub(crate) place: String,
    world: &'static World,
    network: Option<(Proxy, MutexGuard<'a, ()>)>,
    ear: Option<Ear>,
    record: Arc<Record>,
    /// What the API server confirmed, so far as it was taken from the record.
    confirmed: Mutex<Vec<Confirmed>>,
    writer: Arc<Mutex<Writer>>,
    /// Versions that nobody is to be told: they were left out by order, or are dead letters.
    excused: BTreeSet<u64>,
    /// What must be seen nowhere.
    credentials: Vec<String>,
}

// === impl Trial ===

impl Trial<'static> {
    /// With nothing but a namespace.
    pub(crate) async fn begin(world: &'static World, security: Security, manner: Manner) -> Result<Self> {
        let broker = world.broker(manner).await?;
        let kind = broker.kind();
        let prefix = format!("{}-{}", kind.field(), security.name());
        let (stage, bridge) = Running::on_stage(manner, &prefix).await?;
        let record = Arc::<Record>::default();
        let names = (0..NAMES).map(|number| (stage.namespace.clone(), format!("todo-{number}"))).collect();
        let todo = GroupVersionKind::gvk("k8sasbackend.com", "v1", "Todo");
        let todos = ApiResource::from_gvk_with_plural(&todo, "todos");
        let client = stage.cluster.client.clone();
        let writer = Writer::new(client, todos, names, record.clone(), fastrand::Rng::with_seed(1));
        let place = stage.namespace.clone();
        Ok(Self {
            stage,
            kind,
            security,
            broker,
            bridge,
            place,
            world,
            network: None,
            ear: None,
            record,
            confirmed: Mutex::default(),
            writer: Arc::new(Mutex::new(writer)),
            excused: BTreeSet::new(),
            credentials: Vec::new(),
        })
    }

    /// From now on there is a network between the bridge and the broker that can be made bad.
    pub(crate) async fn through_network(&mut self) -> Result<()> {
        let turn = self.world.network(self.security).await;
        // The one before may take a moment to be gone.
        let proxy = || self.broker.proxy(self.security);
        let proxy = eventually(SOON, "a network", proxy).await?;
        self.network = Some((proxy, turn));
        Ok(())
    }
}

impl Trial<'_> {
    /// Makes the network like this.
    pub(crate) fn network(&self, link: Link) {
        if let Some((proxy, _)) = &self.network {
            proxy.set(link);
        }
    }

    /// Makes the place, which takes messages of so many bytes, listens there, and has a Subscription that delivers.
    pub(crate) async fn open(&mut self, largest: Option<usize>, delivery: Value) -> Result<()> {
        self.create(largest).await?;
        let way = self.way(USER)?;
        self.subscribe(&way, delivery).await?;
        self.delivers().await
    }

    /// Makes the place and listens there.
    pub(crate) async fn create(&mut self, largest: Option<usize>) -> Result<()> {
        self.broker.create(self.security, &self.place, largest).await?;
        self.ear = Some(self.broker.listen(self.security, &self.place).await?);
        Ok(())
    }

    /// How `user` sends to the place.
    pub(crate) fn way(&self, user: &str) -> Result<Way> {
        let proxy = self.network.as_ref().map(|(proxy, _)| proxy);
        self.broker.way(self.security, user, &self.place, proxy)
    }

    /// A Subscription to the Todos: with a connection of its own where that is plain, else by a Sink.
    pub(crate) async fn subscribe(&mut self, way: &Way, delivery: Value) -> Result<()> {
        let namespace = self.stage.namespace.clone();
        let sink = match self.security {
            Security::Plain => {
                let yaml = way.yaml(&namespace);
                if !yaml.is_empty() {
                    self.stage.cluster.apply(&namespace, &yaml);
                }
                way.inline()
            }
            Security::Secured => {
                if !way.credentials.is_empty() {
                    self.put_secret(way).await?;
                }
                let sink = json!({
                    "apiVersion": "tidings.dev/v1alpha1", "kind": "Sink", "metadata": {"name": COMPANY},
                    "spec": way.sink()
                });
                let sinks = Api::<Sink>::namespaced(self.stage.cluster.client.clone(), &namespace);
                sinks.create(&PostParams::default(), &serde_json::from_value(sink)?).await?;
                way.by_sink(COMPANY)
            }
        };
        self.credentials.extend(leaks::credentials_of(way));
        self.stage
            .subscribe(ORDERS, |spec| {
                spec["sink"] = sink;
                spec["delivery"] = delivery;
            })
            .await;
        Ok(())
    }

    /// From now on the Sink has this connection.
    pub(crate) async fn edit_sink(&self, way: &Way) -> Result<()> {
        let sinks = Api::<Sink>::namespaced(self.stage.cluster.client.clone(), &self.stage.namespace);
        let patch = Patch::Merge(json!({ "spec": way.sink() }));
        sinks.patch(COMPANY, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// The Secret with the credentials, as they are in `way`; none without any.
    pub(crate) async fn put_secret(&mut self, way: &Way) -> Result<()> {
        self.credentials.extend(leaks::credentials_of(way));
        let client = self.stage.cluster.client.clone();
        let secrets = Api::<Secret>::namespaced(client, &self.stage.namespace);
        let patch = Patch::Merge(json!({ "stringData": way.credentials }));
        if secrets.get_opt(SECRET).await?.is_some() {
            secrets.patch(SECRET, &PatchParams::default(), &patch).await?;
        } else {
            secrets.create(&PostParams::default(), &way.secret()).await?;
        }
        Ok(())
    }

    /// Waits until the Subscription says that it delivers.
    pub(crate) async fn delivers(&self) -> Result<()> {
        self.stage.says(ORDERS, "Delivering", "True", "Synchronized").await;
        Ok(())
    }

    /// Makes so many changes, one after another, to a few objects.
    pub(crate) async fn write(&self, changes: usize) -> Result<()> {
        self.writing(changes).await
    }

    /// The same, while something is done to the broker.
    pub(crate) fn writing(&self, changes: usize) -> impl Future<Output = Result<()>> + use<> {
        let writer = self.writer.clone();
        async move {
            let mut writer = writer.lock().await;
            for _ in 0..changes {
                writer.change().await?;
            }
            Ok(())
        }
    }

    /// The bridge, where the case has one of its own.
    pub(crate) fn own_bridge(&mut self) -> Result<&mut Bridge> {
        self.bridge.own()
    }

    /// Waits until so many more changes were made.
    pub(crate) async fn grows(&self, more: u64) -> Result<()> {
        self.record.grows(more, SOON).await
    }

    /// Creates or updates the object `name`, which is nobody else's; the version it got.
    pub(crate) async fn put(&self, name: &str, message: &str) -> Result<u64> {
        self.stage.write(name, message).await;
        self.confirm(name).await
    }

    /// The same, with a status of so many bytes, which no compression makes much smaller.
    pub(crate) async fn put_large(&self, name: &str, bytes: usize) -> Result<u64> {
        let mut random = fastrand::Rng::with_seed(1);
        let bulk: String = (0..bytes).map(|_| random.alphanumeric()).collect();
        self.stage.write_status(name, &bulk).await;
        self.confirm(name).await
    }

    async fn confirm(&self, name: &str) -> Result<u64> {
        let todo = self.stage.todos().get(name).await?;
        let version = todo.resource_version().context("an object without version")?.parse()?;
        let uid = todo.uid().context("an object without uid")?;
        self.record.add(Confirmed { key: self.key(name), uid, what: What::Version(version) });
        Ok(version)
    }

    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.stage.namespace)
    }

    /// Nobody is to be told of this version.
    pub(crate) fn excuse(&mut self, version: u64) {
        self.excused.insert(version);
    }

    /// Looks for the credentials in everything that the bridge says, and clears away what would go on. Whatever went wrong
    /// before is said with what the bridge said last.
    pub(crate) async fn end(mut self, outcome: Result<()>) -> Result<()> {
        if let (Err(_), Ok(broker)) = (&outcome, self.broker.alone()) {
            // Others come after it.
            broker.resume()?;
            broker.restart().await?;
        }
        let outcome = match outcome {
            Ok(()) => leaks::search(&self.stage, &self.bridge, &self.credentials).await,
            Err(error) => {
                let status = self.stage.subscriptions().get_opt(ORDERS).await;
                let status = status.ok().flatten().and_then(|subscription| subscription.status);
                let tail = self.bridge.log_about(&self.stage.namespace);
                Err(error.context(format!("{status:#?}\n{tail}")))
            }
        };
        let params = DeleteParams::default();
        self.stage.subscriptions().delete(ORDERS, &params).await.ok();
        let sinks = Api::<Sink>::namespaced(self.stage.cluster.client.clone(), &self.stage.namespace);
        sinks.delete(COMPANY, &params).await.ok();
        outcome
    }
}
