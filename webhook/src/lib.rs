//! The validating admission webhook: the API server asks it about each Subscription and Sink that somebody writes, and it
//! tells every mistake with its path, and who may not read what.
//!
//! ```text
//! kube-apiserver ──► server ──► review ◄──► cluster ──► kube-apiserver
//!                    TLS,       decides     kinds, rights, Sinks
//!                    bounds
//!                      ▲
//!                 certificates ──► configuration ──► ValidatingWebhookConfiguration
//!                 in a Secret      caBundle, and Fail while the address answers
//! ```
//!
//! Nothing else waits for it: without it, the bridge checks the same, and says what is wrong in status.

mod clock;
mod metrics;
mod objects;

pub mod admin;

mod server;

pub mod review;

mod cluster;

pub mod certificates;

pub mod configuration;

use std::sync::Arc;
use std::time::Duration;

use tidings_config::process::webhook::WebhookSettings;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::certificates::serving::Shown;
use crate::configuration::controller::Controller;
use crate::configuration::{Endpoint, Wanted};
use crate::metrics::Metrics;

/// Why the webhook ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The admin port cannot be served.
    #[error("failed to serve the admin port")]
    Admin(#[source] admin::Error),
    /// The port for the API server cannot be served.
    #[error("failed to listen on {address}, as address says")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no namespace to work in.
    #[error("failed to find out in which namespace the webhook runs: say it as the setting namespace")]
    Namespace,
    /// The address for the API server is none.
    #[error("failed to understand the setting url")]
    Url(#[source] configuration::NoEndpoint),
}

/// Answers the API server until `shutdown`, and a little longer, so that nobody is turned away.
pub async fn run(
    client: kube::Client,
    settings: WebhookSettings,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let WebhookSettings { address, admin_address, shutdown_delay, shutdown_deadline, .. } = settings;
    let namespace = settings.namespace.clone().ok_or(Error::Namespace)?;
    let endpoint = Endpoint::of(&settings, &namespace).map_err(Error::Url)?;
    tracing::info!(%namespace, "what is written in this namespace is not checked; everything else is");
    let (metrics, readiness) = (Metrics::default(), admin::Readiness::default());
    // It ends with everything else, and not before.
    let end = CancellationToken::new();
    let _end = end.clone().drop_guard();
    let admin = admin::serve(admin_address, metrics.clone(), readiness.clone(), end.clone());
    admin.await.map_err(Error::Admin)?;
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.map_err(|source| Error::Listen { address, source })?;

    let shown = Arc::new(Shown::default());
    let (bundle, bundles) = watch::channel(None);
    let (trusted, trust) = watch::channel(Vec::new());
    let keeper = certificates::Keeper {
        client: client.clone(),
        settings: settings.certificates.clone(),
        namespace: namespace.clone(),
        names: endpoint.names(),
        shown: shown.clone(),
        bundle,
        trust,
        readiness: readiness.clone(),
        metrics: metrics.clone(),
    };
    let keeper = tokio::spawn(keeper.run());
    let replica: Arc<str> = format!("{:016x}", fastrand::u64(..)).into();
    let server = server::Server::new(&settings, client.clone(), shown, metrics.clone(), replica.clone());
    let (closing, answering) = (CancellationToken::new(), server.clone());
    let served = tokio::spawn(answering.serve(listener, closing.clone()));

    let wanted = Wanted::new(&settings, namespace, endpoint);
    let controller = Controller::new(client, wanted, &settings, bundles, trusted, replica, metrics);
    let leaving = CancellationToken::new();
    let controller = tokio::spawn(controller.run(leaving.clone()));

    shutdown.cancelled().await;
    tracing::info!(delay = ?shutdown_delay.get(), "shutting down; answering until nobody asks any more");
    readiness.stopping();
    server.drain();
    tokio::time::sleep(shutdown_delay.get()).await;
    // Nobody is to be refused because of a webhook that is not there any more.
    leaving.cancel();
    if tokio::time::timeout(LEAVE, controller).await.is_err() {
        tracing::warn!("the failure policy is left as it is: the API server did not answer in time");
    }
    closing.cancel();
    if tokio::time::timeout(shutdown_deadline.get(), served).await.is_err() {
        tracing::warn!("not everything was answered within shutdown_deadline");
    }
    keeper.abort();
    Ok(())
}

/// At the end, for what is to be said to the API server.
const LEAVE: Duration = Duration::from_secs(5);
