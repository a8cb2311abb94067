//! An Event as a request of HTTP.
//!
//! Before: sinks/src/encode.rs
//! Next: sinks/src/http/client.rs

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tidings_config::sink::ContentMode;
use tidings_config::sink::http::ValidHttpAddress;
use tidings_config::sink::template::Template;
use tidings_core::event::Event;

use crate::encode::{STRUCTURED_CONTENT_TYPE, VALUES, fill, header_name, percent_encode, structured};
use crate::message::{Headers, Message};

/// The content type of a body that [`batch`] wrote.
pub(super) const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";
/// Whatever is not certain to stand for itself in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Turns Events into requests.
#[derive(Clone, Debug)]
pub struct HttpEncoder {
    path: Template,
    mode: ContentMode,
    /// Each Message is an element of a batch.
    in_batches: bool,
}

// === impl HttpEncoder ===

impl HttpEncoder {
    /// The encoder of a Subscription with these settings.
    pub fn new(valid: &ValidHttpAddress, mode: ContentMode) -> Self {
        let ValidHttpAddress { path, max_batch, retry_on: _, reject_on: _ } = valid;
        Self { path: path.clone(), mode, in_batches: max_batch.is_some() }
    }

    /// The Message that tells `event`.
    pub fn encode(&self, event: &Event) -> Message {
        let mut headers = Headers::default();
        let body = match self.mode {
            // An element of a batch says by the content type of the batch what it is.
            _ if self.in_batches => structured(event),
            ContentMode::Structured => {
                headers.push("content-type", STRUCTURED_CONTENT_TYPE);
                structured(event)
            }
            ContentMode::Binary => {
                headers = Headers::with_capacity(16, VALUES);
                for (name, value) in event.attributes() {
                    match name {
                        "datacontenttype" => headers.push("content-type", &value),
                        name => headers.push_with(header_name(name), |values| percent_encode(&value, values)),
                    }
                }
                event.data.clone()
            }
        };
        let destination = fill(&self.path, event, push_segment);
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
}

/// The body of one request for several Messages.
pub(super) fn batch<'a>(messages: impl ExactSizeIterator<Item = &'a Message> + Clone) -> Bytes {
    let room = messages.clone().map(|message| message.body.len() + 1).sum::<usize>() + 2;
    let mut body = Vec::with_capacity(room);
    body.push(b'[');
    for (index, message) in messages.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&message.body);
    }
    body.push(b']');
    body.into()
}

fn push_segment(value: &str, path: &mut String) {
    path.extend(utf8_percent_encode(value, SEGMENT));
}

#[cfg(test)]
#[path = "encode/tests.rs"]
mod tests;
