//! Folds the Events of a queue of RabbitMQ.

use anyhow::{Context, Result};
use clap::Args;
use cloudevents::Event;
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};

use crate::consumer::{BATCH, Consumer};
use crate::wire::Wire;

#[derive(Debug, Args)]
pub(crate) struct Rabbitmq {
    #[arg(
        long,
        env = "AMQP_URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672"
    )]
    server: String,
    /// Made if it is not there
    #[arg(long, default_value = "todos-example")]
    queue: String,
    /// Of which the queue gets everything
    #[arg(long, default_value = "todos")]
    exchange: String,
}

/// Until the consumer is to stop.
pub(crate) async fn consume(
    consumer: &Consumer,
    Rabbitmq { server, queue, exchange }: Rabbitmq,
) -> Result<()> {
    let connection = Connection::connect(&server, ConnectionProperties::default()).await;
    let connection = connection.context("failed to connect to RabbitMQ")?;
    let channel = connection.create_channel().await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await?;
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(queue.as_str().into(), exchange.into(), "#".into(), bind, FieldTable::default())
        .await?;
    // How many wait here unacknowledged.
    channel.basic_qos(u16::try_from(BATCH)?, BasicQosOptions::default()).await?;
    // Alone: two consumers of one queue have Events of one object at the same time. The fold copes, an application may not.
    let alone = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
    let mut messages =
        channel.basic_consume(queue.as_str().into(), "".into(), alone, FieldTable::default()).await?;
    loop {
        let message = tokio::select! {
            // What is here and was not taken goes back into the queue.
            () = consumer.stop().cancelled() => break,
            message = messages.next() => message.context("RabbitMQ ended the consumer")??,
        };
        consumer.take(&[read(&queue, &message)?])?;
        message.ack(BasicAckOptions::default()).await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

fn read(queue: &str, message: &Delivery) -> Result<Event> {
    let properties = &message.properties;
    let place = format!("queue {queue}, message {:?}", properties.message_id());
    let mut headers = Vec::new();
    for (name, value) in properties.headers().iter().flatten() {
        if let AMQPValue::LongString(value) = value {
            headers.push((name.as_str(), std::str::from_utf8(value.as_bytes())?));
        }
    }
    headers.extend(properties.content_type().as_ref().map(|kind| ("content-type", kind.as_str())));
    Wire::new("ce-", headers, &message.data).event(&place)
}
