//! A receiver of HTTP.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
    rules: Arc<Rules>,
}

#[derive(Clone)]
struct Shared {
    log: Arc<Log>,
    rules: Arc<Rules>,
}

/// What is not taken.
#[derive(Default)]
struct Rules {
    /// Anything: with 503.
    refuses: AtomicBool,
    /// What is posted to a path that ends like this: with 422.
    rejects: Mutex<BTreeSet<String>>,
}

// === impl Endpoint ===

impl Endpoint {
    /// Listens on a free port.
    pub(super) async fn start(log: Arc<Log>) -> Result<(Self, JoinHandle<()>)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let rules = Arc::<Rules>::default();
        let shared = Shared { log, rules: rules.clone() };
        let router = Router::new().fallback(post).with_state(shared);
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok((Self { port, rules }, task))
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/events", self.port)
    }

    /// Whether everything is answered with 503.
    pub(super) fn refuse(&self, refuses: bool) {
        self.rules.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Whether what is posted to a path that ends with `end` is answered with 422.
    pub(super) fn reject(&self, end: &str, rejects: bool) {
        let mut ends = self.rules.rejects.lock().unwrap_or_else(PoisonError::into_inner);
        if rejects {
            ends.insert(end.to_owned());
        } else {
            ends.remove(end);
        }
    }
}

async fn post(State(shared): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Rules { refuses, rejects } = &*shared.rules;
    if refuses.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    if rejects.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|end| uri.path().ends_with(end)) {
        return StatusCode::UNPROCESSABLE_ENTITY;
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
