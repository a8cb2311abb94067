//! All objects of one of our kinds, in the whole cluster: read as they change, and their status written.
//!
//! Before: bridge/src/subscriptions.rs

use std::marker::PhantomData;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Resource};
use serde_json::Value;

use tidings_config::chain::chain;

/// The objects of the kind `K`, as they are: what they hold may be malformed.
pub(super) struct Resources<K> {
    client: kube::Client,
    resource: ApiResource,
    events: BoxStream<'static, Result<watcher::Event<DynamicObject>, watcher::Error>>,
    store: reflector::Store<DynamicObject>,
    /// The list was complete once.
    listed: bool,
    kind: PhantomData<fn() -> K>,
}

// === impl Resources ===

impl<K: Resource<DynamicType = ()>> Resources<K> {
    /// None is known yet.
    pub(super) fn new(client: kube::Client) -> Self {
        let resource = ApiResource::erase::<K>(&());
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let writer = reflector::store::Writer::new(resource.clone());
        let store = writer.as_reader();
        let events = watcher(api, watcher::Config::default()).default_backoff();
        let events = reflector::reflector(writer, events).boxed();
        Self { client, resource, events, store, listed: false, kind: PhantomData }
    }

    /// Comes back when others exist than before, once all are known. Nothing is lost when this is given up.
    pub(super) async fn changed(&mut self) {
        loop {
            match self.events.try_next().await {
                Ok(Some(watcher::Event::InitDone)) => {
                    self.listed = true;
                    return;
                }
                Ok(Some(watcher::Event::Apply(_) | watcher::Event::Delete(_))) if self.listed => return,
                // Before the list is complete the store has what was there before.
                Ok(_) => {}
                Err(error) => tracing::warn!(
                    kinds = %K::plural(&()), error = chain(&error), help = self.advice(&error),
                    "unable to watch our resources; trying again"
                ),
            }
        }
    }

    /// What exists.
    pub(super) fn all(&self) -> Vec<Arc<DynamicObject>> {
        self.store.state()
    }

    /// Writes these members of the status of one of them. Says whether that worked; why not is logged.
    pub(super) async fn write_status(&self, namespace: &str, name: &str, status: &Value) -> bool {
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &self.resource);
        let patch = Patch::Merge(serde_json::json!({ "status": status }));
        match api.patch_status(name, &PatchParams::default(), &patch).await {
            Ok(_) => true,
            // It is gone, and the watch will say so.
            Err(kube::Error::Api(answer)) if answer.code == 404 => false,
            Err(error) => {
                let (kind, object) = (K::kind(&()), format!("{namespace}/{name}"));
                tracing::warn!(%kind, object, error = chain(&error), "unable to write a status");
                false
            }
        }
    }

    /// What a person can do about objects that cannot be read.
    fn advice(&self, error: &watcher::Error) -> Option<String> {
        let (watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
        else {
            return None;
        };
        match status.code {
            404 => Some("install the CRDs: tidings crds | kubectl apply -f -".to_owned()),
            403 => {
                let ApiResource { group, plural, .. } = &self.resource;
                Some(format!(
                    "the bridge needs list and watch on {plural}.{group}, and patch on their status"
                ))
            }
            _ => None,
        }
    }
}
