//! The labels of namespaces, for Sinks that choose by them whom they let in. Looked at only while there is such a Sink.
//!
//! Before: bridge/src/connections.rs

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{ListParams, PartialObjectMeta};
use kube::core::{Selector, SelectorExt as _};
use kube::{Api, ResourceExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use tidings_config::chain::chain;

/// Between two looks.
const AGAIN: Duration = Duration::from_secs(5);

/// Labels by namespace.
type Labels = BTreeMap<String, BTreeMap<String, String>>;

/// What is known of namespaces.
pub(super) struct Namespaces {
    client: kube::Client,
    shared: Arc<Shared>,
    /// Nothing while nobody asks.
    task: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    labels: Mutex<Labels>,
    changed: Notify,
}

// === impl Namespaces ===

impl Namespaces {
    /// Nothing is known yet.
    pub(super) fn new(client: kube::Client) -> Self {
        Self { client, shared: Arc::default(), task: None }
    }

    /// Whether somebody asks.
    pub(super) fn want(&mut self, wanted: bool) {
        if !wanted {
            if let Some(task) = self.task.take() {
                task.abort();
            }
        } else if self.task.is_none() {
            let (client, shared) = (self.client.clone(), self.shared.clone());
            self.task = Some(tokio::spawn(shared.look(client)));
        }
    }

    /// Whether the namespace has such labels, as far as is known.
    pub(super) fn matches(&self, namespace: &str, selector: &LabelSelector) -> bool {
        let Ok(selector) = Selector::try_from(selector.clone()) else { return false };
        self.shared.lock().get(namespace).is_some_and(|labels| selector.matches(labels))
    }

    /// Comes back when others are known than before.
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.want(false);
    }
}

// === impl Shared ===

impl Shared {
    async fn look(self: Arc<Self>, client: kube::Client) {
        loop {
            let api = Api::<Namespace>::all(client.clone());
            match api.list_metadata(&ListParams::default()).await {
                Ok(list) => {
                    let labels = |namespace: PartialObjectMeta<Namespace>| {
                        (namespace.name_any(), namespace.metadata.labels.unwrap_or_default())
                    };
                    let labels: Labels = list.items.into_iter().map(labels).collect();
                    let before = std::mem::replace(&mut *self.lock(), labels.clone());
                    if before != labels {
                        self.changed.notify_one();
                    }
                }
                Err(error) => tracing::warn!(
                    error = chain(&error),
                    help = "the bridge needs list on namespaces",
                    "unable to see the labels of namespaces; trying again"
                ),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Labels> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
