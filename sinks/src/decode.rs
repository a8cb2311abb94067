//! What was encoded, read back: a message of any protocol as the Event it tells. The data is the bytes that were sent, in
//! structured mode too (the SDK of `CloudEvents` would parse them, and write them anew).
//!
//! Before: sinks/src/letters.rs
//! Next: core/src/event.rs

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_core::change::{ChangeKind, Reason};
use tidings_core::event::{DATA_CONTENT_TYPE, Event, EventContext, Types};
use tidings_core::object::{ObjectKey, ResourceVersion, Uid};
use tidings_core::route::{Kind, Resource};

use crate::encode::STRUCTURED_CONTENT_TYPE;

/// What attributes of dead letters begin with.
const DEATH: &str = "deadletter";

/// A `CloudEvent` as it lay at a broker: nothing but its attributes and its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The attributes by their names, with those of a dead letter.
    pub attributes: BTreeMap<String, String>,
    /// The data, byte by byte.
    pub data: Bytes,
}

/// The Subscription that Events were told to.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// `namespace/name`.
    pub subscription: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// What it selects, for Events whose data does not say what it is.
    pub kinds: Vec<Kind>,
}

/// Why a message is no Event that could be told again as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It says so itself, or nothing at all.
    #[error("it is no CloudEvent")]
    NotCloudEvent,
    /// A header, or the structured form, is not what it should be.
    #[error("its {0} cannot be read")]
    Malformed(&'static str),
    /// It is a `CloudEvent` of somebody else, or of another version of Tidings.
    #[error("its attribute {0} is not what this version of Tidings would send")]
    Attribute(String),
}

/// What is read of the data.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Said {
    api_version: String,
    kind: String,
    metadata: SaidMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SaidMetadata {
    resource_version: String,
}

// === impl Content ===

impl Content {
    /// Of a message whose attributes are `headers` that begin with `prefix` in any case, or all of which is in the body: its
    /// content type tells.
    pub(crate) fn read<'a>(
        prefix: &str,
        content_type: Option<&str>,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: &Bytes,
    ) -> Result<Self, Error> {
        let kind = content_type.unwrap_or_default();
        if starts_with(kind, STRUCTURED_CONTENT_TYPE) {
            return Self::structured(body);
        }
        let mut attributes = BTreeMap::new();
        for (name, value) in headers {
            let attribute = if starts_with(name, prefix) { &name[prefix.len()..] } else { continue };
            // Other names are no attribute's, whatever they begin with.
            if attribute.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                attributes.insert(attribute.to_ascii_lowercase(), value.to_owned());
            }
        }
        if !attributes.contains_key("specversion") {
            return Err(Error::NotCloudEvent);
        }
        attributes.entry("datacontenttype".to_owned()).or_insert_with(|| kind.to_owned());
        Ok(Self { attributes, data: body.clone() })
    }

    /// The same, where values are percent-encoded, as in NATS.
    pub(crate) fn decoded(mut self) -> Result<Self, Error> {
        for value in self.attributes.values_mut() {
            let decoded = percent_decode_str(value).decode_utf8().map_err(|_| Error::Malformed("headers"))?;
            *value = decoded.into_owned();
        }
        Ok(self)
    }

    fn structured(body: &Bytes) -> Result<Self, Error> {
        let malformed = |_| Error::Malformed("structured form");
        let mut members: BTreeMap<String, &RawValue> = serde_json::from_slice(body).map_err(malformed)?;
        let data = members.remove("data").ok_or(Error::Malformed("structured form"))?;
        let data = body.slice_ref(data.get().as_bytes());
        let mut attributes = BTreeMap::new();
        for (name, value) in members {
            let value = match value.get() {
                text if text.starts_with('"') => serde_json::from_str(text).map_err(malformed)?,
                other => other.to_owned(),
            };
            attributes.insert(name, value);
        }
        if !attributes.contains_key("specversion") {
            return Err(Error::NotCloudEvent);
        }
        Ok(Self { attributes, data })
    }

    /// An attribute; empty when there is none.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// Whether it is a dead letter of a Subscription.
    pub fn is_dead_letter_of(&self, subscription: &str) -> bool {
        self.attributes.contains_key("deadletterreason") && self.attribute("subscription") == subscription
    }

    /// The Event as it was before it became a dead letter: encoded anew, it has the same attributes and the same data.
    pub fn event(&self, recipient: &Recipient) -> Result<Event, Error> {
        let wrong = |name: &str| Error::Attribute(name.to_owned());
        let text = |name| self.attributes.get(name).map(String::as_str);
        let needed = |name| text(name).ok_or_else(|| wrong(name));
        let (prefix, change) = needed("type")?.rsplit_once('.').ok_or_else(|| wrong("type"))?;
        let change = ChangeKind::ALL.into_iter().find(|kind| kind.as_str() == change);
        let key = needed("subject")?;
        let key = match key.split_once('/') {
            Some((namespace, name)) => ObjectKey::new(Some(namespace), name),
            None => ObjectKey::new(None, key),
        };
        // Data that is no object of Kubernetes is found to be wrong by what is compared below, or does no harm.
        let said: Said = serde_json::from_slice(&self.data).unwrap_or_default();
        let sequence = needed("sequence")?;
        let version = said.metadata.resource_version.parse().ok();
        let number = |name| text(name).map(|text| text.parse::<u64>().map_err(|_| wrong(name))).transpose();
        let event = Event {
            context: Arc::new(EventContext {
                source: needed("source")?.to_owned(),
                types: Types::new(prefix),
                subscription: recipient.subscription.clone(),
                subscription_uid: recipient.uid.clone(),
                resource: resource(needed("source")?, prefix, said, &key, recipient)
                    .ok_or_else(|| wrong("source"))?,
            }),
            id: needed("id")?.to_owned(),
            change: change.ok_or_else(|| wrong("type"))?,
            time: text("time").map(Into::into),
            resource_version: version.or_else(|| version_of(sequence)).ok_or_else(|| wrong("sequence"))?,
            sequence: sequence.to_owned(),
            key,
            uid: Uid::new(needed("k8suid")?),
            generation: number("k8sgeneration")?,
            reason: reason(needed("reason")?).ok_or_else(|| wrong("reason"))?,
            gap: text("gap").is_some(),
            gap_missed: number("gapmissed")?.unwrap_or_default(),
            traceparent: needed("traceparent")?.into(),
            data: self.data.clone(),
            death: None,
        };
        self.differs(&event).map_or(Ok(event), |name| Err(Error::Attribute(name)))
    }

    /// An attribute that would be another one if `event` were sent.
    fn differs(&self, event: &Event) -> Option<String> {
        let mut kept: BTreeMap<&str, &str> =
            self.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        kept.retain(|name, _| !name.starts_with(DEATH));
        for (name, value) in event.attributes() {
            let before = kept.remove(name);
            let same = match before {
                // With parameters, or not: it says the same.
                Some(kind) if name == "datacontenttype" => starts_with(kind, DATA_CONTENT_TYPE),
                before => before == Some(&*value),
            };
            if !same {
                return Some(name.to_owned());
            }
        }
        kept.keys().next().map(|name| (*name).to_owned())
    }
}

/// Whatever case it is in.
fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
}

fn reason(word: &str) -> Option<Reason> {
    let all = [Reason::Watch, Reason::Snapshot, Reason::Reconcile, Reason::Selection];
    all.into_iter().find(|reason| reason.as_str() == word)
}

/// `<epoch>.<version>`, and for some deletes `.d`.
fn version_of(sequence: &str) -> Option<ResourceVersion> {
    sequence.split('.').nth(1)?.parse().ok()
}

/// What the object is one of, by the source of its Event (`…/<group>/<plural>`), the beginning of its type, and its data.
fn resource(
    source: &str,
    prefix: &str,
    said: Said,
    key: &ObjectKey,
    recipient: &Recipient,
) -> Option<Resource> {
    let mut parts = source.rsplit('/');
    let (plural, group) = (parts.next()?.to_owned(), parts.next()?);
    let group = if group == "core" { "" } else { group }.to_owned();
    let lower = prefix.rsplit('.').next()?;
    let is_of = |kind: &str| kind.to_lowercase() == lower;
    let kind = match said {
        Said { api_version, kind, .. } if is_of(&kind) && !api_version.is_empty() => {
            Kind::new(&api_version, &kind)
        }
        _ => recipient.kinds.iter().find(|known| known.group == group && is_of(&known.kind))?.clone(),
    };
    let Kind { version, kind, .. } = kind;
    Some(Resource { group, version, kind, plural, namespaced: key.namespace().is_some() })
}

#[cfg(test)]
#[path = "decode/tests.rs"]
mod tests;
