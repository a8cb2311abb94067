//! An Event as a message of AMQP 0-9-1.
//!
//! There is no `CloudEvents` binding for this version of AMQP. Attributes are headers with a prefix, in UTF-8, and
//! `datacontenttype` is the property `content_type`, as Knative's specification for RabbitMQ has it
//! (<https://github.com/knative-extensions/eventing-rabbitmq/blob/main/cloudevents-protocol-spec/spec.md>). With the prefix
//! `cloudEvents:`, who reads through AMQP 1.0 finds what the official binding says, since RabbitMQ translates headers.
//!
//! Before: sinks/src/encode.rs
//! Next: sinks/src/rabbitmq/client.rs

use std::borrow::Cow;

use jiff::Timestamp;
use tidings_config::sink::ContentMode;
use tidings_config::sink::rabbitmq::{RabbitmqSettings, ValidRabbitmqAddress};
use tidings_config::sink::template::Template;
use tidings_core::event::{DATA_CONTENT_TYPE, Event};

use crate::encode::{STRUCTURED_CONTENT_TYPE, VALUES, fill, header_name, push_token, structured};
use crate::message::{Headers, Message};

/// The property `content_type`, among the headers of a [`Message`].
pub(super) const CONTENT_TYPE: &str = ":content-type";
/// The property `type`.
pub(super) const TYPE: &str = ":type";
/// The property `timestamp`, in Unix seconds.
pub(super) const TIMESTAMP: &str = ":timestamp";
/// The longest property, in bytes.
pub(super) const MAX_PROPERTY: usize = 255;
/// Between exchange and routing key, which have no control characters.
const SEPARATOR: char = '\n';

/// Turns Events into messages of AMQP.
#[derive(Clone, Debug)]
pub struct RabbitmqEncoder {
    exchange: Template,
    routing_key: Template,
    prefix: String,
    mode: ContentMode,
}

/// Where a Message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
}

// === impl RabbitmqEncoder ===

impl RabbitmqEncoder {
    /// The encoder of a Subscription with these settings.
    pub fn new(valid: &ValidRabbitmqAddress, mode: ContentMode) -> Self {
        let ValidRabbitmqAddress { exchange, routing_key, declare: _, header_prefix } = valid;
        Self {
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
            prefix: header_prefix.clone(),
            mode,
        }
    }

    /// The Message that tells `event`.
    pub fn encode(&self, event: &Event) -> Message {
        let mut headers = Headers::with_capacity(20, VALUES);
        let attributes = event.attributes();
        for (name, value) in &attributes {
            match *name {
                // The header has it, whatever its length.
                "type" if value.len() <= MAX_PROPERTY => {
                    headers.push(TYPE, value);
                }
                "time" => {
                    if let Ok(time) = value.parse::<Timestamp>() {
                        headers.push(TIMESTAMP, &time.as_second().to_string());
                    }
                }
                _ => {}
            }
        }
        let (content_type, body) = match self.mode {
            ContentMode::Binary => {
                for (name, value) in attributes.iter().filter(|(name, _)| *name != "datacontenttype") {
                    headers.push(self.header(name), value);
                }
                (DATA_CONTENT_TYPE, event.data.clone())
            }
            ContentMode::Structured => (STRUCTURED_CONTENT_TYPE, structured(event)),
        };
        headers.push(CONTENT_TYPE, content_type);
        let mut destination = fill(&self.exchange, event, push_token);
        destination.push(SEPARATOR);
        destination.push_str(&fill(&self.routing_key, event, push_token));
        Message {
            id: event.id.clone(),
            destination,
            key: event.key.clone(),
            record_key: String::new(),
            tombstone: false,
            headers,
            body,
        }
    }

    /// The header of an attribute. Those that Events have today cost nothing with the usual prefix.
    fn header(&self, attribute: &str) -> Cow<'static, str> {
        if self.prefix == RabbitmqSettings::DEFAULT_HEADER_PREFIX {
            header_name(attribute)
        } else {
            Cow::Owned(format!("{}{attribute}", self.prefix))
        }
    }
}

// === impl Route ===

impl<'a> Route<'a> {
    /// Where `message` goes, which [`RabbitmqEncoder`] wrote.
    pub(super) fn of(message: &'a Message) -> Self {
        let (exchange, routing_key) = message.destination.split_once(SEPARATOR).unwrap_or_default();
        Self { exchange, routing_key }
    }
}

/// `the exchange "a" with the routing key "b"`.
impl std::fmt::Display for Route<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { exchange, routing_key } = self;
        match *exchange {
            "" => write!(f, "the queue {routing_key:?}"),
            exchange => write!(f, "the exchange {exchange:?} with the routing key {routing_key:?}"),
        }
    }
}

#[cfg(test)]
#[path = "encode/tests.rs"]
mod tests;
