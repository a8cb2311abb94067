//! A consumer of CloudEvents from a JetStream stream, as an application would write one: it reads in order, ignores
//! what is older than what it has, and folds the rest by key.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream::{self, consumer, stream};
use futures::StreamExt;
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// For everything in a stream.
const READ: Duration = Duration::from_mins(1);

/// A CloudEvent in binary mode, as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Where it was published.
    pub subject: String,
    /// The attributes, by their names without `ce-`.
    pub attributes: BTreeMap<String, String>,
    /// The data.
    pub data: Value,
    /// When the server stored it, in nanoseconds since 1970.
    pub stored: i128,
}

/// What a consumer knows.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    /// What exists, by key.
    pub objects: BTreeMap<String, Value>,
    /// How many events it was given.
    pub heard: usize,
    /// The newest sequence, by key.
    sequences: BTreeMap<String, String>,
}

/// Makes the stream `name` for everything below `<name>.`, in memory of the server's disk.
pub async fn create_stream(client: &async_nats::Client, name: &str) -> Result<()> {
    let config = stream::Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        ..stream::Config::default()
    };
    jetstream::new(client.clone()).create_stream(config).await.context("create the stream")?;
    Ok(())
}

/// What is in the stream, from its first message on, in order; it goes on with what comes.
pub async fn read(
    client: &async_nats::Client,
    name: &str,
) -> Result<impl futures::Stream<Item = Result<Received>> + use<>> {
    let stream = jetstream::new(client.clone()).get_stream(name).await.context("find the stream")?;
    let config = consumer::pull::OrderedConfig {
        deliver_policy: consumer::DeliverPolicy::All,
        ..consumer::pull::OrderedConfig::default()
    };
    let messages = stream.create_consumer(config).await?.messages().await?;
    Ok(messages.map(|message| Received::stored(&message.context("read the stream")?)))
}

/// Everything that is in the stream now.
pub async fn read_all(client: &async_nats::Client, name: &str) -> Result<Vec<Received>> {
    read_after(client, name, 0).await
}

/// Everything that is in the stream now, without its first `known` messages.
pub async fn read_after(client: &async_nats::Client, name: &str, known: u64) -> Result<Vec<Received>> {
    let mut stream = jetstream::new(client.clone()).get_stream(name).await.context("find the stream")?;
    let count = stream.info().await?.state.last_sequence.saturating_sub(known);
    if count == 0 {
        return Ok(Vec::new());
    }
    let config = consumer::pull::Config {
        deliver_policy: consumer::DeliverPolicy::ByStartSequence { start_sequence: known + 1 },
        ack_policy: consumer::AckPolicy::None,
        ..consumer::pull::Config::default()
    };
    let mut reader = stream.create_consumer(config).await?;
    let messages = reader.messages().await?.take(usize::try_from(count)?);
    let messages = messages.map(|message| Received::stored(&message.context("read the stream")?));
    let messages = tokio::time::timeout(READ, messages.collect::<Vec<_>>()).await;
    // Somebody who waits for something asks often, and a server has only so many consumers.
    let reader = reader.info().await?.name.clone();
    stream.delete_consumer(&reader).await?;
    messages.context("the stream does not give what it has")?.into_iter().collect()
}

// === impl Received ===

impl Received {
    fn stored(message: &jetstream::Message) -> Result<Self> {
        let info = message.info().map_err(|error| anyhow::anyhow!(error.to_string()))?;
        Self::of(message, info.published.unix_timestamp_nanos())
    }

    fn of(message: &async_nats::Message, stored: i128) -> Result<Self> {
        let headers = message.headers.iter().flat_map(|headers| headers.iter());
        let attributes = headers.filter_map(|(name, values)| {
            let name = name.to_string();
            let value = percent_decode_str(values.first()?.as_str()).decode_utf8_lossy().into_owned();
            Some((name.strip_prefix("ce-")?.to_owned(), value))
        });
        Ok(Self {
            subject: message.subject.to_string(),
            attributes: attributes.collect(),
            data: serde_json::from_slice(&message.payload).context("the data is not JSON")?,
            stored,
        })
    }

    /// An attribute, empty when there is none.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// `added`, `updated`, …: the last part of the type.
    pub fn change(&self) -> &str {
        self.attribute("type").rsplit('.').next().unwrap_or_default()
    }
}

// === impl Fold ===

impl Fold {
    /// Takes in one event, by the consumer's rule: per key ignore a lower sequence; equal: order of arrival.
    pub fn take(&mut self, event: &Received) {
        self.heard += 1;
        let (key, sequence) = (event.attribute("subject"), event.attribute("sequence"));
        if self.sequences.get(key).is_some_and(|newest| newest.as_str() > sequence) {
            return;
        }
        self.sequences.insert(key.to_owned(), sequence.to_owned());
        match event.change() {
            "deleted" | "left" => drop(self.objects.remove(key)),
            _ => drop(self.objects.insert(key.to_owned(), event.data.clone())),
        }
    }
}
