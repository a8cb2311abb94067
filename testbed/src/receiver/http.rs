//! A receiver of HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Log, binary};

/// Where Events are posted to.
pub(super) struct Endpoint {
    port: u16,
    refuses: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Shared {
    log: Arc<Log>,
    refuses: Arc<AtomicBool>,
}

// === impl Endpoint ===

impl Endpoint {
    /// Listens on a free port.
    pub(super) async fn start(log: Arc<Log>) -> Result<(Self, JoinHandle<()>)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let refuses = Arc::new(AtomicBool::new(false));
        let shared = Shared { log, refuses: refuses.clone() };
        let router = Router::new().fallback(post).with_state(shared);
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok((Self { port, refuses }, task))
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/events", self.port)
    }

    /// Whether everything is answered with 503.
    pub(super) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }
}

async fn post(State(shared): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    if shared.refuses.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    match binary(uri.path(), "ce-", headers, &body) {
        Ok(event) => {
            shared.log.add(event);
            StatusCode::NO_CONTENT
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}
