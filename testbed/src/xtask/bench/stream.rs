//! A stream of JetStream that a benchmark fills: how far it is, and what it holds.

use anyhow::{Context, Result};
use async_nats::jetstream::{self, consumer, stream};
use futures::StreamExt;

use super::account::Account;
use super::progress::{PATIENCE, Progress};

/// Reads the whole stream, its headers only, which has to hold events of `events` versions and `objects` objects.
pub(super) async fn account(
    client: &async_nats::Client,
    stream: &str,
    events: u64,
    objects: u64,
) -> Result<Account> {
    let mut found = find(client, stream).await?;
    let messages = found.info().await?.state.messages;
    let config = consumer::pull::OrderedConfig { headers_only: true, ..Default::default() };
    let mut reading = found.create_consumer(config).await?.messages().await?;
    let mut account = Account::new(events, objects)?;
    let mut progress = Progress::new(format!("checked of {stream}"), messages);
    for number in 0..messages {
        let message = tokio::time::timeout(PATIENCE, reading.next()).await;
        let message = message.context("the stream does not give what it has")?.context("it ended")??;
        let info = message.info().map_err(|error| anyhow::anyhow!(error.to_string()))?;
        let stored = u64::try_from(info.published.unix_timestamp_nanos())?;
        let headers = message.headers.as_ref().context("a message without headers")?;
        account.take(headers.get("ce-sequence").context("no sequence")?.as_str(), stored)?;
        progress.is_at(number)?;
    }
    Ok(account)
}

/// Waits until the stream has taken `count` messages, and says how far it is. Answers when it stored the last one, in
/// nanoseconds since 1970.
pub(super) async fn until_holds(client: &async_nats::Client, stream: &str, count: u64) -> Result<u64> {
    let mut found = find(client, stream).await?;
    let mut progress = Progress::new(stream, count);
    loop {
        let state = &found.info().await?.state;
        if state.messages >= count {
            return Ok(u64::try_from(state.last_timestamp.unix_timestamp_nanos())?);
        }
        progress.is_at(state.messages)?;
        progress.pause().await;
    }
}

/// The stream of this name.
pub(super) async fn find(client: &async_nats::Client, stream: &str) -> Result<stream::Stream> {
    jetstream::new(client.clone()).get_stream(stream).await.context("find the stream")
}
