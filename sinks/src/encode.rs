//! What the encoders of all protocols share.
//!
//! Before: core/src/event.rs
//! Next: sinks/src/message.rs

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tidings_config::sink::template::{Part, Placeholder, Template};
use tidings_core::event::Event;

/// The content type of a body that [`structured`] wrote.
pub const STRUCTURED_CONTENT_TYPE: &str = "application/cloudevents+json";

/// Everything outside U+0021–U+007E, and `"` and `%`.
const HEADER_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Bytes that the values of an Event's headers take, about.
pub(crate) const VALUES: usize = 640;

/// Appends an attribute as a header's value, by the rule of the `CloudEvents` HTTP binding (3.1.3.2), which NATS and others
/// share: what is not printable ASCII, and space, `"` and `%`, are percent-encoded in UTF-8. Nothing else is
/// touched.
pub fn percent_encode(value: &str, values: &mut String) {
    values.extend(utf8_percent_encode(value, HEADER_VALUE));
}

/// The Event as one JSON document, the `CloudEvents` JSON format 1.0. The data is copied as it is, not parsed: it
/// is JSON already.
pub fn structured(event: &Event) -> Bytes {
    let attributes = event.attributes();
    let room = attributes.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>();
    let mut json = Vec::with_capacity(room + event.data.len() + 16);
    json.push(b'{');
    for (name, value) in &attributes {
        json.push(b'"');
        json.extend_from_slice(name.as_bytes());
        json.extend_from_slice(b"\":");
        write_json_string(&mut json, value);
        json.push(b',');
    }
    json.extend_from_slice(b"\"data\":");
    json.extend_from_slice(&event.data);
    json.push(b'}');
    json.into()
}

/// `template` filled with what `event` is about, each value as `escape` writes it. Values are never empty.
pub(crate) fn fill(template: &Template, event: &Event, escape: fn(&str, &mut String)) -> String {
    let mut text = String::with_capacity(128);
    let resource = &event.context.resource;
    for part in template.parts() {
        let placeholder = match part {
            Part::Literal(literal) => {
                text.push_str(literal);
                continue;
            }
            Part::Value(placeholder) => placeholder,
        };
        match placeholder {
            // As in the attribute `source`.
            Placeholder::Group if resource.group.is_empty() => escape("core", &mut text),
            Placeholder::Group => escape(&resource.group, &mut text),
            Placeholder::Version => escape(&resource.version, &mut text),
            Placeholder::Kind => escape(&resource.kind, &mut text),
            Placeholder::Plural => escape(&resource.plural, &mut text),
            Placeholder::Namespace => match event.key.namespace() {
                Some(namespace) => escape(namespace, &mut text),
                // No namespace can be called that, and no escape is needed.
                None => text.push_str("_cluster"),
            },
            Placeholder::Name => escape(event.key.name(), &mut text),
            Placeholder::Change => text.push_str(event.change.as_str()),
            Placeholder::Uid => {
                let mut uid = String::with_capacity(36);
                let _ = write!(uid, "{}", event.uid); // writing to a String does not fail
                escape(&uid, &mut text);
            }
            // `namespace.name`: a namespace has no dot, so the first one always parts them.
            Placeholder::Subscription => escape(&event.context.subscription.replacen('/', ".", 1), &mut text),
        }
    }
    text
}

/// `value` as (a part of) one token of a subject or one word of a routing key, so that different values stay different: `.` becomes `_`, and
/// what a token cannot hold is percent-encoded, and so are `_` and `%` themselves. Almost all names of Kubernetes
/// have nothing but letters, digits, `-` and `.`; those of RBAC have anything but `/` and `%`.
pub(crate) fn push_token(value: &str, token: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if value.is_empty() {
        // No value is; still, two dots in a row would make a server of NATS close the connection.
        token.push('_');
    }
    for byte in value.bytes() {
        match byte {
            b'.' => token.push('_'),
            b'_' | b'*' | b'>' | b'%' | b'$' | b'"' | b'\\' | ..=0x20 | 0x7f.. => {
                token.push('%');
                token.push(char::from(HEX[usize::from(byte >> 4)]));
                token.push(char::from(HEX[usize::from(byte & 0xf)]));
            }
            _ => token.push(char::from(byte)),
        }
    }
}

/// The header of an attribute, as most protocols write it. Those that Events have today cost nothing.
pub(crate) fn header_name(attribute: &str) -> Cow<'static, str> {
    Cow::Borrowed(match attribute {
        "specversion" => "ce-specversion",
        "id" => "ce-id",
        "source" => "ce-source",
        "type" => "ce-type",
        "subject" => "ce-subject",
        "time" => "ce-time",
        "datacontenttype" => "ce-datacontenttype",
        "partitionkey" => "ce-partitionkey",
        "sequence" => "ce-sequence",
        "subscription" => "ce-subscription",
        "k8suid" => "ce-k8suid",
        "k8sgeneration" => "ce-k8sgeneration",
        "reason" => "ce-reason",
        "gap" => "ce-gap",
        "gapmissed" => "ce-gapmissed",
        "traceparent" => "ce-traceparent",
        other => return Cow::Owned(format!("ce-{other}")),
    })
}

/// Attributes are printable ASCII almost always, and then need no escape.
fn write_json_string(json: &mut Vec<u8>, value: &str) {
    let plain = value.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\'));
    if plain {
        json.push(b'"');
        json.extend_from_slice(value.as_bytes());
        json.push(b'"');
    } else {
        // The only way to fail is a failing writer, and a Vec is none.
        let _ = serde_json::to_writer(json, value);
    }
}

#[cfg(test)]
#[path = "encode/tests.rs"]
pub(crate) mod tests;
