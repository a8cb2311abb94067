//! A consumer of a queue.

use std::sync::Arc;

use anyhow::{Context, Result};
use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ExchangeKind};

use super::ear::{AGAIN, Log, binary};
use crate::consumer::Received;
use crate::rabbitmq::connect;

/// Makes the exchange `place` and a queue of the same name that gets everything of it; both survive the broker.
pub(crate) async fn declare(connection: &Connection, place: &str) -> Result<()> {
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(place.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(place.into(), durable, FieldTable::default()).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(place.into(), place.into(), "#".into(), bind, FieldTable::default()).await?;
    Ok(())
}

/// Takes what comes, and connects again whenever the connection is lost.
pub(super) async fn listen(url: String, queue: String, log: Arc<Log>) {
    loop {
        let _ = take(&url, &queue, &log).await;
        tokio::time::sleep(AGAIN).await;
    }
}

async fn take(url: &str, queue: &str, log: &Log) -> Result<()> {
    let connection = connect(url, OwnedTLSConfig::default()).await?;
    // As applications do whenever they connect: a broker that is killed may forget a queue that was bound a moment before.
    declare(&connection, queue).await?;
    let channel = connection.create_channel().await?;
    let options = BasicConsumeOptions::default();
    let mut messages = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        log.add(read(&message)?);
        message.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

fn read(message: &Delivery) -> Result<Received> {
    let headers = message.properties.headers().as_ref().context("no headers")?;
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        _ => None,
    };
    let headers: Vec<_> =
        headers.into_iter().filter_map(|(name, value)| Some((name.as_str(), text(value)?))).collect();
    let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
    binary(message.routing_key.as_str(), "ce-", headers, &message.data)
}
