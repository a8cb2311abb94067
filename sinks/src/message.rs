//! An Event written for one protocol.
//!
//! Before: core/src/event.rs
//! Next: sinks/src/sink.rs

use std::borrow::Cow;

use bytes::Bytes;
use tidings_core::object::ObjectKey;

/// An Event written for one protocol, ready to be sent as often as it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The same for every attempt, and unique within whatever the broker could confuse it with.
    pub id: String,
    /// Where it goes inside the broker: a subject of NATS, an exchange and a routing key of RabbitMQ (a line each), a path
    /// of HTTP; empty where a sink has only one place.
    pub destination: String,
    /// The object it is about: order holds among Messages of one key.
    pub key: ObjectKey,
    /// What a record of Kafka has as its key; other protocols have none, and leave it empty.
    pub record_key: String,
    /// An empty Message of the same record key belongs to it: both are acked, or neither.
    pub tombstone: bool,
    /// Names and values, as the protocol writes them. Names that begin with `:` are properties of the message beside its
    /// headers, where a protocol has such.
    pub headers: Headers,
    /// The body, never empty.
    pub body: Bytes,
}

/// Headers, in order. All values are in one text: an Event has nearly twenty of them, and what each would cost by itself adds
/// up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Each name, and where its value ends.
    names: Vec<(Cow<'static, str>, usize)>,
    values: String,
}

// === impl Message ===

impl Message {
    /// What headers and body take on the wire, in bytes, with four between and after each name and value.
    pub fn size(&self) -> usize {
        self.body.len() + self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>()
    }
}

// === impl Headers ===

impl Headers {
    /// None yet, with room for so many, and so many bytes of values.
    pub fn with_capacity(headers: usize, values: usize) -> Self {
        Self { names: Vec::with_capacity(headers), values: String::with_capacity(values) }
    }

    /// Adds one.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: &str) {
        self.push_with(name, |values| values.push_str(value));
    }

    /// Adds one whose value is what `write` appends.
    pub fn push_with(&mut self, name: impl Into<Cow<'static, str>>, write: impl FnOnce(&mut String)) {
        write(&mut self.values);
        self.names.push((name.into(), self.values.len()));
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&Cow<'static, str>, &str)> {
        self.names.iter().scan(0, |start, (name, end)| {
            let value = self.values.get(std::mem::replace(start, *end)..*end)?;
            Some((name, value))
        })
    }

    /// The value of the first one that is called `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(header, _)| *header == name).map(|(_, value)| value)
    }
}

impl<N: Into<Cow<'static, str>>, V: AsRef<str>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let mut all = Self::default();
        for (name, value) in headers {
            all.push(name, value.as_ref());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_header_has_its_own_value() {
        let mut headers: Headers = [("a", "1"), ("b", ""), ("c", "23")].into_iter().collect();
        headers.push_with("d", |values| values.push('4'));
        let all: Vec<_> = headers.iter().map(|(name, value)| (&**name, value)).collect();
        assert_eq!(all, [("a", "1"), ("b", ""), ("c", "23"), ("d", "4")]);
        assert_eq!((headers.get("c"), headers.get("e"), headers.len()), (Some("23"), None, 4));
    }
}
