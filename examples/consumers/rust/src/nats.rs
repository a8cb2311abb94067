//! Folds the Events of a stream of NATS JetStream.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use async_nats::jetstream::{self, Message, consumer::pull};
use clap::Args;
use cloudevents::Event;
use futures::TryStreamExt;

use crate::consumer::{BATCH, Consumer};
use crate::wire::Wire;

#[derive(Debug, Args)]
pub(crate) struct Nats {
    #[arg(long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222")]
    server: String,
    #[arg(long, default_value = "todos")]
    stream: String,
    #[arg(long, default_value = "todos-example")]
    durable: String,
}

/// How long the server waits for the first message of a batch.
const PATIENCE: Duration = Duration::from_secs(1);

/// Until the consumer is to stop.
pub(crate) async fn consume(consumer: &Consumer, Nats { server, stream, durable }: Nats) -> Result<()> {
    let client = async_nats::connect(&server).await.context("failed to connect to NATS")?;
    let stream = jetstream::new(client.clone()).get_stream(&stream).await.context("find the stream")?;
    let config = pull::Config {
        durable_name: Some(durable.clone()),
        max_ack_pending: i64::try_from(BATCH)?,
        ..pull::Config::default()
    };
    // The server keeps under this name how far we are.
    let reader =
        stream.get_or_create_consumer(&durable, config).await.context("make the durable consumer")?;
    while !consumer.stop().is_cancelled() {
        let batch = reader.batch().max_messages(consumer.remaining()).expires(PATIENCE).messages().await?;
        let messages = batch.try_collect::<Vec<_>>().await.map_err(|error| anyhow!(error))?;
        consumer.take(&messages.iter().map(read).collect::<Result<Vec<_>>>()?)?;
        for message in &messages {
            message.ack().await.map_err(|error| anyhow!(error))?;
        }
    }
    // Not before the acknowledgements are sent.
    client.drain().await?;
    Ok(())
}

fn read(message: &Message) -> Result<Event> {
    let info = message.info().map_err(|error| anyhow!(error))?;
    let place = format!("stream {}, message {}", info.stream, info.stream_sequence);
    let headers = message.headers.iter().flat_map(async_nats::HeaderMap::iter);
    let headers = headers.filter_map(|(name, values)| Some((name.as_ref(), values.first()?.as_str())));
    Wire::percent_encoded(headers, &message.payload)?.event(&place)
}
