//! The yardstick: what one writes in an afternoon. Every event is parsed into a `Value`, and published and awaited
//! before the next one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use async_nats::jetstream;
use clap::Args;
use futures::TryStreamExt;
use kube::api::WatchEvent;
use serde_json::Value;

use crate::api_server;

#[derive(Debug, Args)]
pub(super) struct Naive {
    #[arg(long)]
    kubeconfig: PathBuf,
    #[arg(long)]
    nats: String,
    #[arg(long)]
    events: u64,
}

pub(super) async fn run(Naive { kubeconfig, nats, events }: Naive) -> Result<ExitCode> {
    let client = api_server::client(&kubeconfig).await?;
    let jetstream = jetstream::new(async_nats::connect(nats).await?);
    let request = http::Request::get("/apis/k8sasbackend.com/v1/todos?watch=true&resourceVersion=1000")
        .body(Vec::new())?;
    let mut stream = std::pin::pin!(client.request_events::<Value>(request).await?);
    for _ in 0..events {
        let event = stream.try_next().await?.context("the stream ended")?;
        let (kind, mut object) = match event {
            WatchEvent::Added(object) => ("added", object),
            WatchEvent::Modified(object) => ("updated", object),
            WatchEvent::Deleted(object) => ("deleted", object),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => anyhow::bail!("{status:?}"),
        };
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let text =
            |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, version) = (text("/metadata/name"), text("/metadata/resourceVersion"));
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("ce-specversion", "1.0");
        headers.insert("ce-id", format!("{}.{version}", text("/metadata/uid")));
        headers.insert("ce-type", format!("com.k8sasbackend.todo.{kind}"));
        headers.insert("ce-source", "/clusters/replayed/apis/k8sasbackend.com/todos");
        headers.insert("ce-subject", format!("bench/{name}"));
        headers.insert("ce-sequence", format!("{:012}.{version:0>20}", 0));
        let subject = format!("naive.bench.{name}.{kind}");
        let payload = serde_json::to_vec(&object)?.into();
        jetstream.publish_with_headers(subject, headers, payload).await?.await?;
    }
    // Stays, so that what it used can be read.
    std::future::pending::<()>().await;
    Ok(ExitCode::SUCCESS)
}
