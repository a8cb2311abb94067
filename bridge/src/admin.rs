//! What operators and Kubernetes ask the process: `/livez`, `/readyz`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Set once the Subscriptions that exist are being served.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

/// Why the port cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}, as admin_address says")]
pub struct Error {
    address: SocketAddr,
    source: std::io::Error,
}

// === impl Readiness ===

impl Readiness {
    /// From now on the process is ready.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves until `shutdown`; the port is taken when this returns.
pub async fn serve(
    address: SocketAddr,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind(address).await.map_err(|source| Error { address, source })?;
    let address = listener.local_addr().map_err(|source| Error { address, source })?;
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                if readiness.get() {
                    (StatusCode::OK, "ok\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "the Subscriptions are not read yet\n")
                }
            }),
        )
        .route("/metrics", get(move || async move { render(&metrics) }));
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the admin port is not served any more");
        }
    });
    tracing::info!(%address, "serving the admin port");
    Ok(address)
}

fn render(metrics: &Metrics) -> impl IntoResponse + use<> {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], metrics.render())
}
