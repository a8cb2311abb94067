//! What the core knows of a Kubernetes object: who it is, which version, and its bytes.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::selection::Labels;

/// What an object takes in memory besides its body, with what is kept around it while it waits, in bytes.
pub(crate) const AROUND: usize = 640;
/// Of a body, what an allocator adds at most by rounding up.
const ROUNDED: usize = 8;

/// The name of an object inside its resource: `namespace/name`, or `name` when it is cluster-scoped.
/// Cheap to clone. It is also the ordering key and, unchanged, the `subject` of every Event.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectKey(Arc<str>);

/// The identity of one life of an object: two objects of the same name have different uids.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(UidForm);

/// A UUID takes 16 bytes instead of 36 and an allocation: Known holds one per object. Bytes, because a number of that
/// size wants to lie at a multiple of 16, and makes everything around it larger.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum UidForm {
    Uuid(#[serde(with = "as_number")] [u8; 16]),
    Other(Arc<str>),
}

/// A version of the cluster's history. Comparable since Kubernetes 1.35 (KEP-5504), within one cluster and
/// one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceVersion(pub u64);

/// The metadata that decisions and Events are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Which life of that name this is.
    pub uid: Uid,
    /// The version; of a deletion, the version at which the object went.
    pub resource_version: ResourceVersion,
    /// Counts changes of the desired state; some resources have none.
    pub generation: Option<u64>,
    /// `metadata.creationTimestamp`, RFC 3339.
    pub created: Option<Box<str>>,
    /// The newest time in `metadata.managedFields`, RFC 3339: a lower bound, because removing a field does
    /// not move it.
    pub modified: Option<Box<str>>,
    /// `metadata.deletionTimestamp`, RFC 3339.
    pub deleted: Option<Box<str>>,
    /// The annotation `traceparent` (W3C Trace Context), when the writer of the object set one.
    pub traceparent: Option<Box<str>>,
    /// `metadata.labels`. Nobody needs them when it is decided who is told, so they are not stored.
    #[serde(skip)]
    pub labels: Labels,
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Who and which version.
    pub meta: Meta,
    /// The object as JSON, without `managedFields` and without the last-applied annotation.
    pub body: Bytes,
}

/// A resourceVersion that is not a decimal number, as some aggregated APIs have: their order is unknown, so
/// they cannot be watched without loss.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("resourceVersion {0:?} is not a number, so versions of this API cannot be ordered")]
pub struct NotComparable(pub String);

// === impl Meta ===

impl Meta {
    /// The least there is to say of an object.
    pub fn new(key: ObjectKey, uid: Uid, resource_version: ResourceVersion) -> Self {
        Self {
            key,
            uid,
            resource_version,
            generation: None,
            created: None,
            modified: None,
            deleted: None,
            traceparent: None,
            labels: Labels::default(),
        }
    }
}

// === impl Object ===

impl Object {
    /// What it takes in memory, in bytes, for budgets.
    pub fn size(&self) -> usize {
        self.body.len() + self.body.len() / ROUNDED + AROUND
    }
}

// === impl ObjectKey ===

impl ObjectKey {
    /// The key of `name` in `namespace`, or of the cluster-scoped `name`.
    pub fn new(namespace: Option<&str>, name: &str) -> Self {
        match namespace {
            Some(namespace) if !namespace.is_empty() => {
                let mut text = String::with_capacity(namespace.len() + 1 + name.len());
                text.push_str(namespace);
                text.push('/');
                text.push_str(name);
                Self(text.into())
            }
            _ => Self(name.into()),
        }
    }

    /// The namespace, unless the object is cluster-scoped.
    pub fn namespace(&self) -> Option<&str> {
        self.0.split_once('/').map(|(namespace, _)| namespace)
    }

    /// The name without the namespace.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// `namespace/name` or `name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Uid ===

impl Uid {
    /// Any text is a uid; what is not a canonical UUID just takes more room.
    pub fn new(text: &str) -> Self {
        Self(match parse_uuid(text) {
            Some(uuid) => UidForm::Uuid(uuid.to_be_bytes()),
            None => UidForm::Other(text.into()),
        })
    }
}

/// Where a UUID has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Only the canonical lower-case form with hyphens, so that printing gives the same text back.
fn parse_uuid(text: &str) -> Option<u128> {
    let bytes: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut value = 0u128;
    for (index, byte) in bytes.iter().enumerate() {
        let digit = match (index, byte) {
            (8 | 13 | 18 | 23, b'-') => continue,
            (8 | 13 | 18 | 23, _) => return None,
            (_, b'0'..=b'9') => byte - b'0',
            (_, b'a'..=b'f') => byte - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u128::from(digit);
    }
    Some(value)
}

/// How a UUID is stored.
mod as_number {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(uuid: &[u8; 16], serializer: S) -> Result<S::Ok, S::Error> {
        u128::from_be_bytes(*uuid).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
        u128::deserialize(deserializer).map(u128::to_be_bytes)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uuid = match &self.0 {
            UidForm::Other(text) => return f.write_str(text),
            UidForm::Uuid(uuid) => uuid,
        };
        // Every Event has it twice, and five numbers with their widths take several times as long.
        let mut text = [b'-'; 36];
        let digits = (0..).zip(&mut text).filter(|(index, _)| !HYPHENS.contains(index));
        let values = uuid.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        for ((_, digit), value) in digits.zip(values) {
            *digit = HEX[usize::from(value)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// As text where people read it, in its short form where the state is kept.
impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Uid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer).map(|text| Self::new(&text))
        } else {
            UidForm::deserialize(deserializer).map(Self)
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl ResourceVersion ===

impl ResourceVersion {
    /// The one before: whatever was under a name before a version of it was gone by then.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl std::str::FromStr for ResourceVersion {
    type Err = NotComparable;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| NotComparable(text.to_owned()))
    }
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_keeps_namespace_and_name_apart() {
        let key = ObjectKey::new(Some("shop"), "order-1");
        assert_eq!((key.namespace(), key.name(), key.as_str()), (Some("shop"), "order-1", "shop/order-1"));
        let cluster = ObjectKey::new(None, "node-1");
        assert_eq!((cluster.namespace(), cluster.name()), (None, "node-1"));
    }

    #[test]
    fn uid_prints_what_was_read() {
        for text in ["0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0", "x", ""]
        {
            assert_eq!(Uid::new(text).to_string(), text);
        }
    }

    #[test]
    fn resource_version_must_be_a_number() {
        assert_eq!("42".parse(), Ok(ResourceVersion(42)));
        assert!("4a".parse::<ResourceVersion>().is_err());
        assert!("".parse::<ResourceVersion>().is_err());
    }
}
