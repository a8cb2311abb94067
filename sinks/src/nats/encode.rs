//! An Event as a message of NATS, by the `CloudEvents` NATS binding 1.0.
//!
//! Before: sinks/src/encode.rs
//! Next: sinks/src/nats/client.rs

use tidings_config::sink::ContentMode;
use tidings_config::sink::nats::ValidNatsAddress;
use tidings_config::sink::template::{Part, Placeholder, Template};
use tidings_core::event::{DATA_CONTENT_TYPE, Event};

use crate::encode::{
    STRUCTURED_CONTENT_TYPE, VALUES, fill, header_name, percent_encode, push_token, structured,
};
use crate::message::{Headers, Message};

/// By this the server knows a repeat.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// A stream of another name refuses the Message.
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// Turns Events into messages of NATS.
#[derive(Clone, Debug)]
pub struct NatsEncoder {
    subject: Template,
    stream: Option<String>,
    mode: ContentMode,
}

// === impl NatsEncoder ===

impl NatsEncoder {
    /// The encoder of a Subscription with these settings.
    pub fn new(valid: &ValidNatsAddress, mode: ContentMode) -> Self {
        Self { subject: valid.subject.clone(), stream: valid.stream.clone(), mode }
    }

    /// The Message that tells `event`.
    pub fn encode(&self, event: &Event) -> Message {
        // The server tells repeats apart by this alone, per stream: with the Event's id only, it would swallow
        // what a second Subscription says of the same Change, and acknowledge it.
        let mut id = format!("{}/{}", event.context.subscription_uid, event.id);
        if event.death.is_some() {
            // In the stream of the Events it would keep the Event from coming back there.
            id.push_str("/deadletter");
        }
        let mut headers = Headers::with_capacity(20, VALUES);
        headers.push_with(MESSAGE_ID, |values| percent_encode(&id, values));
        if let Some(stream) = &self.stream {
            headers.push(EXPECTED_STREAM, stream);
        }
        let body = match self.mode {
            ContentMode::Binary => {
                headers.push("content-type", DATA_CONTENT_TYPE);
                for (name, value) in event.attributes() {
                    headers.push_with(header_name(name), |values| percent_encode(&value, values));
                }
                event.data.clone()
            }
            ContentMode::Structured => {
                // Names of headers have a case in NATS, and readers look for either.
                for name in ["content-type", "Content-Type"] {
                    headers.push(name, STRUCTURED_CONTENT_TYPE);
                }
                structured(event)
            }
        };
        Message {
            id,
            destination: fill(&self.subject, event, push_token),
            key: event.key.clone(),
            record_key: String::new(),
            tombstone: false,
            headers,
            body,
        }
    }
}

/// A subject with wildcards that all subjects of `template` match.
pub(crate) fn wildcards(template: &Template) -> String {
    pattern(template, "*")
}

/// The same, for one Subscription.
pub(crate) fn wildcards_of(template: &Template, subscription: &str) -> String {
    let mut token = String::new();
    push_token(&subscription.replacen('/', ".", 1), &mut token);
    pattern(template, &token)
}

fn pattern(template: &Template, subscription: &str) -> String {
    let marked: String = template
        .parts()
        .iter()
        .map(|part| match part {
            Part::Literal(literal) => literal,
            Part::Value(Placeholder::Subscription) => subscription,
            Part::Value(_) => "*",
        })
        .collect();
    let tokens = marked.split('.').map(|token| if token.contains('*') { "*" } else { token });
    tokens.collect::<Vec<_>>().join(".")
}

/// Whether `subject` is one of those that `pattern`, with wildcards for whole tokens, stands for.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let (mut patterns, mut tokens) = (pattern.split('.'), subject.split('.'));
    loop {
        match (patterns.next(), tokens.next()) {
            (None, None) => return true,
            (Some(pattern), Some(token)) if pattern == "*" || pattern == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
#[path = "encode/tests.rs"]
mod tests;
