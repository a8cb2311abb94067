//! Folds the Events that are posted to it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use clap::Args;
use cloudevents::Event;
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use crate::consumer::Consumer;
use crate::wire::Wire;

#[derive(Debug, Args)]
pub(crate) struct Http {
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: SocketAddr,
}

/// Larger than any object of Kubernetes, and enough for a batch of usual ones.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// Until the consumer is to stop, and what is under way is answered.
pub(crate) async fn consume(consumer: Consumer, Http { address }: Http) -> Result<()> {
    let consumer = Arc::new(consumer);
    let router = Router::new()
        .fallback(post(take))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(consumer.clone());
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}"))?;
    axum::serve(listener, router).with_graceful_shutdown(consumer.stop().clone().cancelled_owned()).await?;
    consumer.finish()
}

/// A status of 2xx is the acknowledgement.
async fn take(
    State(consumer): State<Arc<Consumer>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    if consumer.stop().is_cancelled() {
        // It is sent again, when somebody is here.
        return (StatusCode::SERVICE_UNAVAILABLE, String::new());
    }
    match read(&headers, &body) {
        Ok(events) => match consumer.take(&events) {
            Ok(()) => (StatusCode::NO_CONTENT, String::new()),
            Err(error) => {
                eprintln!("unable to take in what came: {error:#}");
                (StatusCode::SERVICE_UNAVAILABLE, String::new())
            }
        },
        // It will not be better the next time.
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}")),
    }
}

/// The Events of a request in binary, structured or batched mode.
fn read(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Event>> {
    let headers = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let headers: Vec<_> = headers.collect();
    let kind = headers.iter().find(|(name, _)| *name == "content-type").map_or("", |(_, value)| *value);
    if !kind.to_ascii_lowercase().starts_with("application/cloudevents-batch+json") {
        return Ok(vec![Wire::percent_encoded(headers, body)?.event("the request")?]);
    }
    // The SDK knows no batches.
    let elements: Vec<&RawValue> =
        serde_json::from_slice(body).context("the request is no batch of Events")?;
    let structured = [("content-type", "application/cloudevents+json")];
    let elements = elements.into_iter();
    elements
        .map(|element| Wire::new("ce-", structured, element.get().as_bytes()).event("an element"))
        .collect()
}
