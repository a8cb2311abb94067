//! Follows one resource with nothing installed in the cluster, for `tidings watch`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_config::process::BridgeSettings;
use tidings_core::change::ChangeKinds;
use tidings_core::route::Route;
use tidings_core::selection::{Namespaces, Selection};
use tidings_sinks::Target;
use tokio_util::sync::CancellationToken;

use crate::deliver::DeliverySettings;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::watch::WatchState;
use crate::{Error, clock, discovery, identity, settings};

/// What to follow.
pub struct FollowOptions {
    /// A resource as `kubectl` takes it: `todos.k8sasbackend.com`, `todos`, `Todo`, or a short name.
    pub resource: String,
    /// One namespace; all of them without it.
    pub namespace: Option<String>,
    /// Where the Events go.
    pub target: Target,
}

/// Follows until `shutdown`. What keeps it from going on is logged and waited out, but for what waiting does
/// not mend.
pub async fn follow(
    client: kube::Client,
    options: FollowOptions,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let FollowOptions { resource, namespace, target } = options;
    let settings = BridgeSettings::default();
    let resource = discovery::resolve(&client, &resource).await.map_err(Error::Resource)?;
    let namespace = namespace.filter(|_| resource.namespaced);
    // Whoever may not read kube-system sees events all the same.
    let cluster = identity::of_cluster(&client, &settings).await;
    let cluster = cluster.map_or_else(|_| "unknown".into(), |cluster| cluster.name);
    let namespaces = match &namespace {
        Some(namespace) => Namespaces::Only([namespace.clone()].into()),
        None => Namespaces::All,
    };
    let kind = resource.to_kind();
    let route = Route {
        subscription: "-/watch".into(),
        filter: Arc::default(),
        uid: "watch".into(),
        generation: 1,
        selections: BTreeMap::from([(kind.clone(), Selection::of(namespaces))]),
        on: ChangeKinds::ALL,
    };
    let context =
        settings::watch_context(client, cluster, Metrics::default(), clock::Clock::start(), None, &settings);
    let mut pipeline = Pipeline::new(crate::watch::WatchContext { namespace, ..context });
    let delivery = DeliverySettings::new(1024, settings::backoff(settings.retry_backoff));
    pipeline.add(route, target, "terminal".into(), delivery).await;
    let mut report = pipeline.watch_report(&kind);
    let forbidden = async {
        let Some(report) = &mut report else { return std::future::pending().await };
        match report.wait_for(|report| report.state == WatchState::Forbidden).await {
            Ok(report) => report.trouble.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        trouble = forbidden => Err(Error::Forbidden(trouble)),
    };
    pipeline.shut_down(Duration::from_secs(2)).await;
    outcome
}
