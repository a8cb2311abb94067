//! An Event as a record of Kafka, by the `CloudEvents` Kafka binding 1.0.
//!
//! Before: sinks/src/encode.rs
//! Next: sinks/src/kafka/client.rs

use std::borrow::Cow;

use tidings_config::sink::ContentMode;
use tidings_config::sink::kafka::{ValidKafkaAddress, topic};
use tidings_config::sink::template::Template;
use tidings_core::change::ChangeKind;
use tidings_core::event::{DATA_CONTENT_TYPE, Event};

use crate::encode::{VALUES, fill, structured};
use crate::message::{Headers, Message};

/// The binding's own words, with the character set that HTTP leaves out.
const STRUCTURED_CONTENT_TYPE: &str = "application/cloudevents+json; charset=UTF-8";

/// Turns Events into records of Kafka.
#[derive(Clone, Debug)]
pub struct KafkaEncoder {
    topic: Template,
    key: Option<Template>,
    tombstones: bool,
    mode: ContentMode,
}

// === impl KafkaEncoder ===

impl KafkaEncoder {
    /// The encoder of a Subscription with these settings.
    pub fn new(valid: &ValidKafkaAddress, mode: ContentMode) -> Self {
        let ValidKafkaAddress { topic, key, tombstones, create_topic: _, may_create_topics: _ } = valid;
        Self { topic: topic.clone(), key: key.clone(), tombstones: *tombstones, mode }
    }

    /// The Message that tells `event`.
    pub fn encode(&self, event: &Event) -> Message {
        let mut headers = Headers::with_capacity(16, VALUES);
        let body = match self.mode {
            ContentMode::Binary => {
                headers.push("content-type", DATA_CONTENT_TYPE);
                // Values are UTF-8 as they are; what describes the data is the header above.
                let attributes = event.attributes();
                for (name, value) in attributes.iter().filter(|(name, _)| *name != "datacontenttype") {
                    headers.push(header_name(name), value);
                }
                event.data.clone()
            }
            ContentMode::Structured => {
                headers.push("content-type", STRUCTURED_CONTENT_TYPE);
                structured(event)
            }
        };
        Message {
            id: event.id.clone(),
            destination: fill(&self.topic, event, push_name),
            key: event.key.clone(),
            record_key: match &self.key {
                Some(key) => fill(key, event, |value, text| text.push_str(value)),
                None => event.key.as_str().to_owned(),
            },
            tombstone: self.tombstones && event.change == ChangeKind::Deleted,
            headers,
            body,
        }
    }
}

/// `value` as a part of a topic's name, so that different values stay different: what is not legal there becomes `_` and
/// two hexadecimal digits, and so does `_` itself. Almost all names of Kubernetes have nothing but letters, digits, `-` and `.`.
fn push_name(value: &str, topic: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if topic::is_legal(byte) && byte != b'_' {
            topic.push(char::from(byte));
        } else {
            topic.push('_');
            topic.push(char::from(HEX[usize::from(byte >> 4)]));
            topic.push(char::from(HEX[usize::from(byte & 0xf)]));
        }
    }
}

/// The header of an attribute. Those that Events have today cost nothing.
fn header_name(attribute: &str) -> Cow<'static, str> {
    Cow::Borrowed(match attribute {
        "specversion" => "ce_specversion",
        "id" => "ce_id",
        "source" => "ce_source",
        "type" => "ce_type",
        "subject" => "ce_subject",
        "time" => "ce_time",
        "partitionkey" => "ce_partitionkey",
        "sequence" => "ce_sequence",
        "subscription" => "ce_subscription",
        "k8suid" => "ce_k8suid",
        "k8sgeneration" => "ce_k8sgeneration",
        "reason" => "ce_reason",
        "gap" => "ce_gap",
        "gapmissed" => "ce_gapmissed",
        "traceparent" => "ce_traceparent",
        other => return Cow::Owned(format!("ce_{other}")),
    })
}

#[cfg(test)]
#[path = "encode/tests.rs"]
mod tests;
