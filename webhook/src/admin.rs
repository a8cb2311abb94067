//! What operators and Kubernetes ask the process: `/livez`, `/readyz`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Whether the API server should ask this process: it is to be asked once it can show a certificate, and until it is to
/// stop.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// Why the port cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}, as admin_address says")]
pub struct Error {
    address: SocketAddr,
    source: std::io::Error,
}

const STARTING: u8 = 0;
const READY: u8 = 1;
const STOPPING: u8 = 2;

// === impl Readiness ===

impl Readiness {
    /// There is a certificate to show.
    pub fn set(&self) {
        // Whoever is stopping stays so.
        let _ = self.0.compare_exchange(STARTING, READY, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// It is to stop: whoever sends requests here should send them elsewhere.
    pub fn stopping(&self) {
        self.0.store(STOPPING, Ordering::Relaxed);
    }

    fn answer(&self) -> (StatusCode, &'static str) {
        match self.0.load(Ordering::Relaxed) {
            STARTING => (StatusCode::SERVICE_UNAVAILABLE, "there is no certificate yet\n"),
            READY => (StatusCode::OK, "ok\n"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "it is stopping\n"),
        }
    }
}

/// Serves until `shutdown`; the port is taken when this returns.
pub(crate) async fn serve(
    address: SocketAddr,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind(address).await.map_err(|source| Error { address, source })?;
    let address = listener.local_addr().map_err(|source| Error { address, source })?;
    let content_type = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { readiness.answer() }))
        .route("/metrics", get(move || async move { (content_type, metrics.render()) }));
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the admin port is not served any more");
        }
    });
    tracing::info!(%address, "serving the admin port");
    Ok(address)
}
