//! The Sinks of the cluster: read, and reported on.
//!
//! Before: bridge/src/subscriptions.rs
//! Next: bridge/src/connections.rs

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, ResourceExt as _};
use tidings_config::field_error::FieldErrors;
use tidings_crds::conditions::{self, set};
use tidings_crds::sink::{Sink, SinkSpec, SinkStatus};
use tidings_crds::validate::{self, ValidSubscription};
use tidings_sinks::sink::NotReady;

use crate::chain::chain;
use crate::connections::{Connections, SinkName};
use crate::{clock, status};

/// The Sinks that exist.
pub(super) struct Sinks {
    client: kube::Client,
    resource: ApiResource,
    events: BoxStream<'static, Result<watcher::Event<DynamicObject>, watcher::Error>>,
    store: reflector::Store<DynamicObject>,
    /// The list was complete once.
    listed: bool,
    /// What was written last.
    written: BTreeMap<SinkName, SinkStatus>,
}

// === impl Sinks ===

impl Sinks {
    /// None is known yet.
    pub(super) fn new(client: kube::Client) -> Self {
        let resource = ApiResource::erase::<Sink>(&());
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let writer = reflector::store::Writer::new(resource.clone());
        let store = writer.as_reader();
        let events = watcher(api, watcher::Config::default()).default_backoff();
        let events = reflector::reflector(writer, events).boxed();
        Self { client, resource, events, store, listed: false, written: BTreeMap::new() }
    }

    /// Comes back when others exist than before, once all are known.
    pub(super) async fn changed(&mut self) {
        loop {
            match self.events.try_next().await {
                Ok(Some(watcher::Event::InitDone)) => {
                    self.listed = true;
                    return;
                }
                Ok(Some(watcher::Event::Apply(_) | watcher::Event::Delete(_))) if self.listed => return,
                Ok(_) => {}
                Err(error) => tracing::warn!(
                    error = chain(&error),
                    help = "install the CRDs (tidings crds | kubectl apply -f -); the bridge needs list and watch on \
                            sinks.tidings.dev, and patch on their status",
                    "unable to watch Sinks; trying again"
                ),
            }
        }
    }

    /// What they say.
    pub(super) fn specs(&self) -> Vec<(SinkName, Result<SinkSpec, FieldErrors>)> {
        let spec = |object: &DynamicObject| validate::read::<Sink>(object).map(|sink| sink.spec);
        self.store.state().iter().map(|object| (name_of(object), spec(object))).collect()
    }

    /// Writes the status of each whose status changed.
    pub(super) async fn report<'a>(
        &mut self,
        connections: &mut Connections,
        served: impl Iterator<Item = &'a ValidSubscription>,
    ) {
        let mut users: BTreeMap<SinkName, i64> = BTreeMap::new();
        for valid in served {
            let named: BTreeSet<_> = valid.sinks().collect();
            for (namespace, name) in named {
                *users.entry((namespace.to_owned(), name.to_owned())).or_default() += 1;
            }
        }
        let sinks = self.store.state();
        self.written.retain(|name, _| sinks.iter().any(|sink| name_of(sink) == *name));
        for object in sinks {
            let name = name_of(&object);
            let read = || validate::read::<Sink>(&object).ok().and_then(|sink| sink.status);
            let before = self.written.get(&name).cloned().or_else(read).unwrap_or_default();
            let (broker, health) = connections.check(&name);
            let subscriptions = users.get(&name).copied().unwrap_or_default();
            let status = status_of(&before, object.metadata.generation, broker, health, subscriptions);
            if self.written.get(&name) != Some(&status) && self.write(&name, &status).await {
                self.written.insert(name, status);
            }
        }
    }

    async fn write(&self, (namespace, name): &SinkName, status: &SinkStatus) -> bool {
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &self.resource);
        let patch = Patch::Merge(serde_json::json!({ "status": status }));
        match api.patch_status(name, &PatchParams::default(), &patch).await {
            Ok(_) => true,
            // It is gone, and the watch will say so.
            Err(kube::Error::Api(answer)) if answer.code == 404 => false,
            Err(error) => {
                let sink = format!("{namespace}/{name}");
                tracing::warn!(%sink, error = chain(&error), "unable to write a status");
                false
            }
        }
    }
}

fn name_of(object: &DynamicObject) -> SinkName {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn status_of(
    before: &SinkStatus,
    generation: Option<i64>,
    broker: Option<String>,
    health: Option<Result<(), NotReady>>,
    subscriptions: i64,
) -> SinkStatus {
    let now: Time = status::time(clock::unix_seconds());
    let (verdict, reason, message) = match health {
        Some(Ok(())) => (Some(true), conditions::CONNECTED.to_owned(), String::new()),
        Some(Err(NotReady { reason, message })) => (Some(false), reason, message),
        None => (None, conditions::PENDING.to_owned(), "the broker was not asked yet".to_owned()),
    };
    let mut conditions = before.conditions.clone();
    set(&mut conditions, conditions::REACHABLE, verdict, &reason, &message, generation, &now);
    SinkStatus { conditions, observed_generation: generation, broker, subscriptions: Some(subscriptions) }
}
