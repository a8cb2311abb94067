//! The bridge: from the API server to the brokers, as Subscriptions say. The modules are listed in the order
//! one event goes through them; `pipeline` draws the way.

pub mod admin;
pub mod chain;
pub mod clock;
pub mod discovery;
pub mod follow;
mod identity;
pub mod metrics;
mod settings;

pub mod subscriptions;

pub mod pipeline;

pub mod watch;

pub mod journal;

pub mod state;

pub mod deliver;

mod status;

use std::time::Duration;

use tidings_config::process::BridgeSettings;
use tokio_util::sync::CancellationToken;

/// Why the bridge ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The admin port cannot be served.
    #[error("failed to serve the admin port")]
    Admin(#[source] admin::Error),
    /// What to follow could not be found.
    #[error("failed to find the resource")]
    Resource(#[source] discovery::Error),
    /// What to follow may not be read.
    #[error("failed to watch: {0}")]
    Forbidden(String),
}

/// Serves the Subscriptions of a cluster until `shutdown`.
pub async fn run(
    client: kube::Client,
    settings: BridgeSettings,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (metrics, readiness) = (metrics::Metrics::default(), admin::Readiness::default());
    let served =
        admin::serve(settings.admin_address, metrics.clone(), readiness.clone(), shutdown.child_token());
    served.await.map_err(Error::Admin)?;
    let Some(cluster) = identified(&client, &settings, &shutdown).await else { return Ok(()) };
    tracing::info!(%cluster, "serving the Subscriptions of the cluster");
    let context = settings::watch_context(client.clone(), cluster, metrics, clock::Clock::start(), &settings);
    let controller = subscriptions::Controller::new(client, pipeline::Pipeline::new(context), &settings);
    controller.run(readiness, shutdown, settings.shutdown_deadline.get()).await;
    Ok(())
}

/// The name of the cluster, as soon as the API server can be asked for it; nothing when it is too late.
async fn identified(
    client: &kube::Client,
    settings: &BridgeSettings,
    shutdown: &CancellationToken,
) -> Option<std::sync::Arc<str>> {
    let mut failures = 0;
    loop {
        match identity::of_cluster(client, settings).await {
            Ok(cluster) => return Some(cluster),
            Err(error) => tracing::warn!(%error, "unable to tell which cluster this is"),
        }
        failures += 1;
        let wait = settings::backoff(settings.list_backoff).delay(failures, clock::jitter());
        tokio::select! {
            () = tokio::time::sleep(wait.max(Duration::from_millis(100))) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}
