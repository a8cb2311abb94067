//! Dead letters in a queue of RabbitMQ: taken one by one, and acknowledged when they are done with. What is not comes back
//! into the queue when the channel ends, however it ends.
//!
//! Before: sinks/src/letters.rs
//! Next: sinks/src/decode.rs

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lapin::Channel;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::types::{AMQPValue, FieldTable};
use tidings_config::sink::rabbitmq::{RabbitmqSettings, ValidRabbitmqAddress, ValidRabbitmqConnection};
use tokio::time::timeout;

use super::classify;
use super::connection::{Connection, Credentials, REQUEST_TIMEOUT};
use crate::SinkContext;
use crate::decode::{Content, Error};
use crate::letters::{Fate, Letter, Letters, Reader, Receipt};
use crate::sink::NotReady;

/// What headers may begin with, whatever the settings say today.
const PREFIXES: [&str; 3] = [RabbitmqSettings::DEFAULT_HEADER_PREFIX, "cloudEvents:", "cloudEvents_"];
/// For the channel to end, with all that goes back.
const FAREWELL: Duration = Duration::from_secs(10);

/// Dead letters in a queue.
pub(crate) struct RabbitmqLetters {
    connection: Connection,
    channel: Channel,
    queue: String,
    /// What headers begin with, as the settings say it.
    prefix: String,
    given: u64,
    /// Those behind the last one that were there when the first was taken; nothing before that.
    behind: Option<u32>,
}

// === impl RabbitmqLetters ===

impl RabbitmqLetters {
    /// Opens those that are there.
    pub(crate) async fn open(
        valid: ValidRabbitmqConnection,
        address: &ValidRabbitmqAddress,
        context: SinkContext,
        reader: &Reader,
    ) -> Result<Self, NotReady> {
        let queue = queue(address, reader)?;
        let ValidRabbitmqConnection { servers, virtual_host, auth, tls } = valid;
        let SinkContext { secrets, owner } = context;
        let client_name = format!("tidings redrive {owner}");
        let credentials = Credentials { client_name, virtual_host, auth, tls, secrets };
        let mut opened = Err(NotReady::new("Unreachable", "there is no server to connect to"));
        for server in &servers {
            opened = Connection::open(server, &credentials).await;
            if opened.is_ok() {
                break;
            }
        }
        let connection = opened?;
        let channel = connection.new_channel().await;
        let channel = channel.map_err(|error| classify::look(&error, "a channel", "Unreachable"))?;
        let prefix = address.header_prefix.clone();
        Ok(Self { connection, channel, queue, prefix, given: 0, behind: None })
    }

    fn letter(&mut self, message: BasicGetMessage) -> Letter {
        self.given += 1;
        let number = message.delivery_tag;
        let (queue, place) = (&self.queue, self.given);
        Letter {
            receipt: Receipt(number),
            place: format!("message {place} of the queue {queue}"),
            content: self.read(message),
        }
    }

    fn read(&self, message: BasicGetMessage) -> Result<Content, Error> {
        let delivery = message.delivery;
        let body = Bytes::from(delivery.data);
        let properties = delivery.properties;
        let kind = properties.content_type().as_ref().map(ToString::to_string);
        let headers: Vec<_> = properties.headers().iter().flat_map(FieldTable::inner).collect();
        let headers: Vec<_> =
            headers.into_iter().filter_map(|(name, value)| Some((name.as_str(), text(value)?))).collect();
        let headers = || headers.iter().map(|(name, value)| (*name, value.as_str()));
        let read = |prefix: &str| Content::read(prefix, kind.as_deref(), headers(), &body);
        // With the first that is its own.
        let prefixes = std::iter::once(self.prefix.as_str()).chain(PREFIXES);
        prefixes.map(read).reduce(Result::or).unwrap_or(Err(Error::NotCloudEvent))
    }

    fn lost(&self, error: &lapin::Error) -> NotReady {
        classify::look(error, &format!("what is in the queue {}", self.queue), "QueueNotFound")
    }
}

#[async_trait]
impl Letters for RabbitmqLetters {
    async fn next(&mut self) -> Result<Option<Letter>, NotReady> {
        if self.behind == Some(0) {
            return Ok(None);
        }
        let got = self.channel.basic_get(self.queue.as_str().into(), BasicGetOptions::default());
        let silent = |_| NotReady::new("Unreachable", "the broker does not answer in time");
        let got = timeout(REQUEST_TIMEOUT, got).await.map_err(silent)?.map_err(|error| self.lost(&error))?;
        self.behind = match (&got, self.behind) {
            (None, _) => Some(0),
            // What comes while this one reads is for the next.
            (Some(message), None) => Some(message.message_count),
            (Some(_), Some(behind)) => Some(behind - 1),
        };
        Ok(got.map(|message| self.letter(message)))
    }

    async fn settle(&mut self, Receipt(number): Receipt, fate: Fate) -> Result<(), NotReady> {
        match fate {
            Fate::Consumed => self
                .channel
                .basic_ack(number, BasicAckOptions::default())
                .await
                .map_err(|error| self.lost(&error)),
            // Not before the end: it would be given again at once.
            Fate::Left | Fate::Passed => Ok(()),
        }
    }

    async fn close(&mut self) -> Result<(), NotReady> {
        let all = BasicNackOptions { multiple: true, requeue: true };
        let ended = timeout(FAREWELL, async {
            self.channel.basic_nack(0, all).await?;
            // Answered when everything before it was done.
            self.channel.close(REPLY_SUCCESS, "OK".into()).await
        });
        let ended = ended.await;
        self.connection.close().await;
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(_elapsed) => Err(NotReady::new("Unreachable", "the broker does not answer in time")),
        }
    }
}

/// The queue that a person named, or the only one that can be meant.
fn queue(address: &ValidRabbitmqAddress, reader: &Reader) -> Result<String, NotReady> {
    if let Some(queue) = &reader.queue {
        return Ok(queue.clone());
    }
    if let (Some(""), Some(queue)) = (address.exchange.as_literal(), address.routing_key.as_literal()) {
        return Ok(queue.to_owned());
    }
    let message = format!(
        "the dead letters go to the exchange {:?}, which routes them to queues: name the one they are in with --queue",
        address.exchange.to_string()
    );
    Err(NotReady::new("QueueUnknown", message))
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}
