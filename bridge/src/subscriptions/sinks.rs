//! The Sinks of the cluster: read, and reported on.
//!
//! Before: bridge/src/subscriptions.rs
//! Next: bridge/src/connections.rs

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tidings_config::field_error::FieldErrors;
use tidings_crds::conditions::{self, set};
use tidings_crds::sink::{Sink, SinkSpec, SinkStatus};
use tidings_crds::validate::{self, ValidSubscription};
use tidings_sinks::sink::NotReady;

use super::resources::Resources;
use crate::connections::{Connections, SinkName};
use crate::{clock, status};

/// The Sinks that exist.
pub(super) struct Sinks {
    resources: Resources<Sink>,
    /// What was written last.
    written: BTreeMap<SinkName, SinkStatus>,
}

// === impl Sinks ===

impl Sinks {
    /// None is known yet.
    pub(super) fn new(client: kube::Client) -> Self {
        Self { resources: Resources::new(client), written: BTreeMap::new() }
    }

    /// Comes back when others exist than before, once all are known.
    pub(super) async fn changed(&mut self) {
        self.resources.changed().await;
    }

    /// What they say.
    pub(super) fn specs(&self) -> Vec<(SinkName, Result<SinkSpec, FieldErrors>)> {
        let spec = |object: &DynamicObject| validate::read::<Sink>(object).map(|sink| sink.spec);
        self.resources.all().iter().map(|object| (name_of(object), spec(object))).collect()
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
        let sinks = self.resources.all();
        self.written.retain(|name, _| sinks.iter().any(|sink| name_of(sink) == *name));
        for object in sinks {
            let name = name_of(&object);
            let read = || validate::read::<Sink>(&object).ok().and_then(|sink| sink.status);
            let before = self.written.get(&name).cloned().or_else(read).unwrap_or_default();
            let (broker, health) = connections.check(&name);
            let subscriptions = users.get(&name).copied().unwrap_or_default();
            let status = status_of(&before, object.metadata.generation, broker, health, subscriptions);
            let (namespace, sink) = &name;
            if self.written.get(&name) != Some(&status)
                && self.resources.write_status(namespace, sink, &patch(&status)).await
            {
                self.written.insert(name, status);
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

/// The members of a status: what is not there any more is removed.
fn patch(status: &SinkStatus) -> Value {
    let SinkStatus { conditions, observed_generation, broker, subscriptions } = status;
    json!({
        "conditions": conditions, "observedGeneration": observed_generation,
        "broker": broker, "subscriptions": subscriptions,
    })
}
