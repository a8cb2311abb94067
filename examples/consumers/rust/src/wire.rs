//! A message of any broker as an Event, by what the SDK offers for bindings that it does not have. (Those that it has
//! want older clients of Kafka and NATS, and do not decode percent-encoding, as the binding of HTTP demands.)

use anyhow::{Context, Result};
use cloudevents::event::SpecVersion;
use cloudevents::message::{
    self, BinaryDeserializer, BinarySerializer, Encoding, Error, MessageAttributeValue, MessageDeserializer,
    StructuredDeserializer, StructuredSerializer,
};
use cloudevents::{AttributesReader, Data, Event};
use percent_encoding::percent_decode_str;

use crate::fold::Says;

/// Headers and body of a message.
pub(crate) struct Wire {
    /// Names in lower case.
    headers: Vec<(String, String)>,
    prefix: &'static str,
    body: Vec<u8>,
}

const CONTENT_TYPE: &str = "content-type";

// === impl Wire ===

impl Wire {
    /// A message whose attributes are headers that begin with `prefix`.
    pub(crate) fn new<'a>(
        prefix: &'static str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: &[u8],
    ) -> Self {
        let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        Self { headers: headers.collect(), prefix, body: body.to_owned() }
    }

    /// The same, where values are percent-encoded: HTTP and NATS.
    pub(crate) fn percent_encoded<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: &[u8],
    ) -> Result<Self> {
        let mut wire = Self::new("ce-", headers, body);
        for (name, value) in &mut wire.headers {
            if name.starts_with(wire.prefix) {
                *value =
                    percent_decode_str(value).decode_utf8().context("a header is not UTF-8")?.into_owned();
            }
        }
        Ok(wire)
    }

    /// The Event, with data that is JSON as JSON. Fails where it is none of Tidings; `place` says where it lies.
    pub(crate) fn event(self, place: &str) -> Result<Event> {
        let read = || {
            let mut event = MessageDeserializer::into_event(self)?;
            let json = event.datacontenttype().is_none_or(|kind| kind.starts_with("application/json"));
            if let Some(Data::Binary(bytes)) = event.data()
                && json
            {
                let value: serde_json::Value =
                    serde_json::from_slice(bytes).context("the data is not JSON")?;
                event.set_data_unchecked(value);
            }
            Says::of(&event)?;
            Ok(event)
        };
        // Nobody may skip it: a person has to look, and what comes after it waits.
        let event: Result<Event> = read();
        event.with_context(|| format!("{place} is no Event that can be read"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

impl MessageDeserializer for Wire {
    fn encoding(&self) -> Encoding {
        let kind = self.header(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        if kind.starts_with("application/cloudevents+json") {
            Encoding::STRUCTURED
        } else if self.header(&format!("{}specversion", self.prefix)).is_some() {
            Encoding::BINARY
        } else {
            Encoding::UNKNOWN
        }
    }
}

impl StructuredDeserializer for Wire {
    fn deserialize_structured<R: Sized, V: StructuredSerializer<R>>(self, visitor: V) -> message::Result<R> {
        visitor.set_structured_event(self.body)
    }
}

impl BinaryDeserializer for Wire {
    fn deserialize_binary<R: Sized, V: BinarySerializer<R>>(self, mut visitor: V) -> message::Result<R> {
        let version = self.header(&format!("{}specversion", self.prefix)).ok_or(Error::WrongEncoding {})?;
        let version = SpecVersion::try_from(version)?;
        visitor = visitor.set_spec_version(version.clone())?;
        if let Some(kind) = self.header(CONTENT_TYPE) {
            visitor =
                visitor.set_attribute("datacontenttype", MessageAttributeValue::String(kind.to_owned()))?;
        }
        for (name, value) in self.headers {
            let value = MessageAttributeValue::String(value);
            visitor = match name.strip_prefix(self.prefix) {
                // NATS has the latter beside the content type.
                None | Some("specversion" | "datacontenttype") => visitor,
                Some(name) if version.attribute_names().contains(&name) => {
                    visitor.set_attribute(name, value)?
                }
                Some(name) => visitor.set_extension(name, value)?,
            };
        }
        visitor.end_with_data(self.body)
    }
}
