//! The Subscriptions of the cluster: read, validated, served, and reported on.
//!
//! Level-triggered: whatever happened, what is served is made equal to what exists. One that is malformed
//! concerns no other; one that is edited into something malformed is served on as it was last valid.
//!
//! Next: bridge/src/connections.rs

mod orders;
mod resources;
mod sinks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{ApiResource, DynamicObject};
use kube::{Resource, ResourceExt};
use tidings_config::field_error::FieldErrors;
use tidings_config::process::BridgeSettings;
use tidings_core::delivery::Backoff;
use tidings_crds::subscription::Subscription;
use tidings_crds::subscription::status::SubscriptionStatus;
use tidings_crds::validate::{self, ValidDelivery, ValidSubscription};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::resources::Resources;
use self::sinks::Sinks;
use crate::admin::Readiness;
use crate::announce::{Announced, Announcer};
use crate::connections::{Bases, Connections};
use crate::deliver::{DeliverySettings, Orders};
use crate::pipeline::{self, Pipeline};
use crate::{settings, status};

/// How long a Subscription that was deleted, or that got another sink, may deliver what it has.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves what Subscriptions say.
pub struct Controller {
    resources: Resources<Subscription>,
    pipeline: Pipeline,
    announcer: Announcer,
    connections: Connections,
    sinks: Sinks,
    served: BTreeMap<String, Served>,
    /// What was stored is taken up.
    restored: bool,
    backoff: Backoff,
    status_interval: Duration,
}

/// What is known of one Subscription, by its uid.
struct Served {
    namespace: String,
    name: String,
    generation: i64,
    /// What is being served; nothing before it was valid for the first time.
    valid: Option<ValidSubscription>,
    /// What its targets are made of.
    bases: Option<Bases>,
    /// What a person orders for what is blocked.
    orders: Orders,
    /// What is wrong with the present generation.
    mistakes: FieldErrors,
    /// What was written last.
    status: SubscriptionStatus,
    /// What was said in Kubernetes Events.
    announced: Announced,
    /// What these are about.
    reference: ObjectReference,
}

// === impl Controller ===

impl Controller {
    /// Nothing is served yet.
    pub fn new(client: kube::Client, pipeline: Pipeline, settings: &BridgeSettings) -> Self {
        Self {
            announcer: Announcer::new(client.clone()),
            connections: Connections::new(client.clone(), settings),
            sinks: Sinks::new(client.clone()),
            resources: Resources::new(client),
            pipeline,
            served: BTreeMap::new(),
            restored: false,
            backoff: settings::backoff(settings.retry_backoff),
            status_interval: settings.status_interval.get(),
        }
    }

    /// Serves until `shutdown`, then gives what is under way `deadline` to be delivered. Returns how many Changes
    /// were left over.
    pub async fn run(
        mut self,
        readiness: Readiness,
        shutdown: CancellationToken,
        deadline: Duration,
    ) -> Result<u64, pipeline::Error> {
        let mut tick = tokio::time::interval(self.status_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.resources.changed() => {
                    let exist = self.resources.all();
                    self.restore(&exist).await?;
                    self.reconcile(&exist).await;
                    readiness.set();
                }
                () = self.sinks.changed() => {
                    self.connections.describe(self.sinks.specs());
                    self.reconnect();
                }
                () = self.connections.changed() => self.reconnect(),
                _ = tick.tick() => self.report().await,
                () = shutdown.cancelled() => break,
            }
        }
        tracing::info!("shutting down; delivering what is under way");
        let left = self.pipeline.shut_down(deadline).await;
        left.iter().filter(|(_, count)| *count > 0).for_each(|(subscription, count)| {
            tracing::info!(%subscription, count, "changes are not delivered yet; they are stored");
        });
        Ok(left.into_iter().map(|(_, count)| count).sum())
    }

    /// Goes on with what was stored, once it is known which Subscriptions exist.
    async fn restore(&mut self, exist: &[Arc<DynamicObject>]) -> Result<(), pipeline::Error> {
        if !std::mem::replace(&mut self.restored, true) {
            let filter = |object: &DynamicObject| {
                let valid =
                    validate::read::<Subscription>(object).and_then(|found| validate::validate(&found));
                valid.map(|valid| valid.route.filter).unwrap_or_default()
            };
            let exist = exist.iter().filter_map(|object| Some((object.uid()?, filter(object))));
            let filters: BTreeMap<_, _> = exist.collect();
            self.pipeline.restore(|uid| filters.get(uid).cloned()).await?;
        }
        Ok(())
    }

    /// Makes what is served equal to what exists.
    async fn reconcile(&mut self, exist: &[Arc<DynamicObject>]) {
        let gone: Vec<_> = {
            let uids: Vec<_> = exist.iter().filter_map(|object| object.uid()).collect();
            self.served.keys().filter(|uid| !uids.contains(uid)).cloned().collect()
        };
        for uid in gone {
            self.remove(&uid).await;
        }
        for object in exist {
            let (Some(uid), generation) = (object.uid(), object.metadata.generation.unwrap_or_default())
            else {
                continue;
            };
            if self.served.get(&uid).is_none_or(|served| served.generation != generation) {
                self.apply(&uid, generation, object).await;
            }
            let orders = orders::of(object);
            if let Some(served) = self.served.get_mut(&uid).filter(|served| served.orders != orders) {
                served.orders = orders;
                self.pipeline.order(&uid, served.orders.clone());
            }
        }
    }

    async fn remove(&mut self, uid: &str) {
        if let Some(Served { namespace, name, mut announced, reference, .. }) = self.served.remove(uid) {
            let left = self.pipeline.remove(uid, FAREWELL).await;
            let subscription = format!("{namespace}/{name}");
            if left > 0 {
                tracing::warn!(subscription, left, "subscription removed before everything was delivered");
                announced.leave(left, "the Subscription was deleted before its sink took them");
                self.announcer.send(&mut announced, &reference).await;
            } else {
                tracing::info!(subscription, "subscription removed");
            }
        }
    }

    /// Takes in a new Subscription, or a new generation of one.
    async fn apply(&mut self, uid: &str, generation: i64, object: &DynamicObject) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let subscription = format!("{namespace}/{name}");
        let read = validate::read::<Subscription>(object);
        let written = read.as_ref().ok().and_then(|subscription| subscription.status.clone());
        let mut served = self.served.remove(uid).unwrap_or_else(|| Served {
            namespace,
            name,
            generation,
            valid: None,
            bases: None,
            orders: Orders::default(),
            mistakes: FieldErrors::new(),
            status: written.unwrap_or_default(),
            announced: Announced::new(made(object)),
            reference: object.object_ref(&ApiResource::erase::<Subscription>(&())),
        });
        served.generation = generation;
        match read.and_then(|subscription| validate::validate(&subscription)) {
            Ok(valid) => {
                served.bases = Some(self.serve(&valid, &mut served).await);
                tracing::info!(%subscription, generation, "serving");
                (served.valid, served.mistakes) = (Some(valid), FieldErrors::new());
            }
            Err(mistakes) => served.mistakes = mistakes,
        }
        for mistake in &served.mistakes {
            tracing::warn!(%subscription, generation, %mistake, "the subscription is not valid");
        }
        self.served.insert(uid.to_owned(), served);
    }

    /// Serves `valid`, in the place of what was served before. Another sink, or the same at another place, starts
    /// anew; everything else is taken over as it is. Says what its targets are made of.
    async fn serve(&mut self, valid: &ValidSubscription, served: &mut Served) -> Bases {
        let ValidSubscription { route, sink, .. } = valid;
        let settings = self.delivery(valid);
        let before = served.valid.as_ref();
        let bases = self.connections.bases(valid);
        let place = sink.place(&served.namespace);
        if before.is_none_or(|before| before.sink.place(&served.namespace) != place) {
            let left = self.pipeline.remove(&route.uid, FAREWELL).await;
            if left > 0 {
                let subscription = &route.subscription;
                tracing::warn!(
                    %subscription, left,
                    "the sink was left before everything was delivered; the new one is told what exists"
                );
                let why =
                    "the sink was changed before the old one took them; the new one is told what exists";
                served.announced.leave(left, why);
            }
            let targets = self.connections.targets(valid);
            self.pipeline.add(route.clone(), targets, place.into(), settings).await;
            self.pipeline.order(&route.uid, served.orders.clone());
        } else {
            let shape = |valid: &ValidSubscription| {
                let dead_letter = valid.dead_letter.as_ref().map(|sink| sink.address.clone());
                (valid.sink.address.clone(), dead_letter, valid.mode)
            };
            let same = before.is_some_and(|before| shape(before) == shape(valid))
                && served.bases.as_ref() == Some(&bases);
            let targets = (!same).then(|| self.connections.targets(valid));
            self.pipeline.edit(route.clone(), targets, settings).await;
        }
        bases
    }

    /// Gives those another target whose Sink, or whose credentials, are not what they were.
    fn reconnect(&mut self) {
        let mut served = std::mem::take(&mut self.served);
        for Served { valid, bases, .. } in served.values_mut() {
            let Some(valid) = valid else { continue };
            let present = Some(self.connections.bases(valid));
            if *bases != present {
                tracing::info!(subscription = %valid.route.subscription, "sending by another connection");
                let targets = self.connections.targets(valid);
                self.pipeline.retarget(&valid.route.uid, targets, self.delivery(valid));
                *bases = present;
            }
        }
        self.served = served;
    }

    fn delivery(&self, valid: &ValidSubscription) -> DeliverySettings {
        let ValidDelivery { max_in_flight, oversize, on_reject, max_attempts, max_age } = valid.delivery;
        DeliverySettings {
            max_in_flight,
            oversize,
            on_reject,
            max_attempts,
            max_age,
            suspended: valid.suspend,
            backoff: self.backoff,
        }
    }

    /// Writes the status of every Subscription whose status changed, and sends what is to be said once.
    async fn report(&mut self) {
        self.pipeline.drop_unused().await;
        self.connections.retain(self.served.values().filter_map(|served| served.valid.as_ref()));
        self.sinks.report(&mut self.connections, self.served.values().filter_map(|s| s.valid.as_ref())).await;
        for (uid, served) in &mut self.served {
            let report = self.pipeline.report(uid);
            if let Some(report) = &report {
                served.announced.note(report);
                self.announcer.send(&mut served.announced, &served.reference).await;
            }
            let status = status::of(&status::Facts {
                before: &served.status,
                generation: served.generation,
                valid: served.valid.as_ref(),
                mistakes: &served.mistakes,
                report: report.as_ref(),
            });
            if status == served.status {
                continue;
            }
            let patch = status::patch(&status);
            if self.resources.write_status(&served.namespace, &served.name, &patch).await {
                served.status = status;
            }
        }
    }
}

/// When the object was made, in Unix seconds.
fn made(object: &DynamicObject) -> u64 {
    let seconds = object.creation_timestamp().map_or(0, |made| made.0.as_second());
    u64::try_from(seconds).unwrap_or_default()
}
