//! The `CloudEvent` made from a Change, with nothing random in it: the same Change gives the same Event,
//! whoever makes it and however often.
//!
//! Before: core/src/route.rs
//! Next: core/src/delivery.rs

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use crate::change::{Change, ChangeKind, Content, Epoch, Reason};
use crate::delivery::Rejection;
use crate::object::{ObjectKey, ResourceVersion, Uid};
use crate::route::Resource;

/// The version of `CloudEvents`.
const SPEC_VERSION: &str = "1.0";
/// The content type of every Event's data.
pub const DATA_CONTENT_TYPE: &str = "application/json";

/// The attributes that Events have when they are told, in the order of [`Event::attributes`].
pub const ATTRIBUTES: [&str; 16] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "partitionkey",
    "sequence",
    "subscription",
    "k8suid",
    "k8sgeneration",
    "reason",
    "gap",
    "gapmissed",
    "traceparent",
];

/// What types begin with, each once for every kind of Change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Types([String; 5]);

/// What all Events of one Subscription on one resource have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventContext {
    /// `/clusters/<cluster>/apis/<group>/<plural>`.
    pub source: String,
    /// `<group reversed>.<kind lower>.<change>` for each kind of Change.
    pub types: Types,
    /// `namespace/name` of the Subscription.
    pub subscription: Arc<str>,
    /// The uid of the Subscription.
    pub subscription_uid: Arc<str>,
    /// What is watched.
    pub resource: Resource,
}

/// A `CloudEvent` 1.0, not yet encoded for any protocol. Every attribute stays within printable ASCII without
/// space, quote and percent sign, so that raw and percent-encoded forms are equal; but those of a dead letter, which quote
/// a broker.
#[derive(Clone, Debug)]
pub struct Event {
    /// What it shares with other Events of its Subscription.
    pub context: Arc<EventContext>,
    /// `id`: derived from the object's uid and version, see `docs/guarantees.md`.
    pub id: String,
    /// What happened; the last part of `type`.
    pub change: ChangeKind,
    /// `time`, RFC 3339, of the change itself; omitted where Kubernetes does not tell it.
    pub time: Option<Box<str>>,
    /// `subject`, `partitionkey` and the key that order is kept for.
    pub key: ObjectKey,
    /// `sequence`: per key, a lower one is older.
    pub sequence: String,
    /// `k8suid`.
    pub uid: Uid,
    /// The version the data is of; of a concluded delete the last one known.
    pub resource_version: ResourceVersion,
    /// `k8sgeneration`, where the resource has one.
    pub generation: Option<u64>,
    /// `reason`.
    pub reason: Reason,
    /// `gap`: versions before this one may be missing.
    pub gap: bool,
    /// `gapmissed`: how many generations; zero where none or unknown.
    pub gap_missed: u64,
    /// `traceparent`, W3C Trace Context.
    pub traceparent: Box<str>,
    /// The data: JSON, never empty.
    pub data: Bytes,
    /// It was not delivered where it should have been.
    pub death: Option<Arc<Death>>,
}

/// Why an Event went to the dead letters, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// `deadletterreason`: [`Rejection::word`].
    pub reason: &'static str,
    /// `deadlettererror`: the same in words, printable, at most [`MAX_ERROR`] bytes.
    pub error: String,
    /// `deadletterattempts`: how often it was tried.
    pub attempts: u32,
    /// `deadlettersink`: which sink did not take it.
    pub sink: Arc<str>,
    /// `deadletterplace`: where behind that it was to go.
    pub place: String,
}

/// The longest error that a dead letter carries, in bytes.
pub const MAX_ERROR: usize = 512;

// === impl Death ===

impl Death {
    /// What is said of an Event that `sink` did not take at `place`.
    pub fn new(reason: &Rejection, attempts: u32, sink: Arc<str>, place: &str) -> Self {
        let printable = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let mut error = printable(&reason.to_string());
        error.truncate(error.floor_char_boundary(MAX_ERROR));
        Self { reason: reason.word(), error, attempts, sink, place: printable(place) }
    }
}

// === impl Types ===

impl Types {
    /// Those that begin with `<group reversed>.<kind lower>`.
    pub fn new(prefix: &str) -> Self {
        Self(ChangeKind::ALL.map(|change| format!("{prefix}.{change}")))
    }
}

// === impl EventContext ===

impl EventContext {
    /// The context of the Events on `resource` that the Subscription called `subscription`, with this uid, has in the cluster
    /// called `cluster` (a configured name or the uid of kube-system).
    pub fn new(cluster: &str, subscription: &Arc<str>, uid: &Arc<str>, resource: &Resource) -> Self {
        let source = if resource.group.is_empty() {
            format!("/clusters/{cluster}/apis/core/{}", resource.plural)
        } else {
            format!("/clusters/{cluster}/apis/{}/{}", resource.group, resource.plural)
        };
        let mut type_prefix = if resource.group.is_empty() {
            "io.k8s.core.".to_owned()
        } else {
            resource.group.rsplit('.').fold(String::new(), |prefix, part| prefix + part + ".")
        };
        type_prefix.push_str(&resource.kind.to_lowercase());
        Self {
            source,
            types: Types::new(&type_prefix),
            subscription: subscription.clone(),
            subscription_uid: uid.clone(),
            resource: resource.clone(),
        }
    }
}

// === impl Event ===

impl Event {
    /// The Event that tells `change` to the Subscription of `context`, which had the `metadata.generation`
    /// `generation` when that was decided.
    pub fn new(context: &Arc<EventContext>, generation: u64, change: &Change) -> Self {
        let meta = change.meta();
        let id = event_id(change, generation);
        let traceparent = match meta.and_then(|meta| meta.traceparent.as_deref()) {
            Some(given) if is_traceparent(given) => given.into(),
            _ => derived_traceparent(&id),
        };
        let time = meta.and_then(|meta| match change.kind {
            ChangeKind::Added => meta.created.clone(),
            ChangeKind::Deleted => meta.deleted.clone(),
            ChangeKind::Updated | ChangeKind::Snapshot | ChangeKind::Left => {
                meta.modified.clone().or_else(|| meta.created.clone())
            }
        });
        Self {
            id,
            change: change.kind,
            time,
            key: change.key().clone(),
            sequence: sequence(change),
            uid: change.uid().clone(),
            resource_version: change.resource_version(),
            generation: meta.and_then(|meta| meta.generation),
            reason: change.reason,
            gap: change.gap,
            gap_missed: change.gap_missed,
            traceparent,
            data: match &change.content {
                Content::Object(object) => object.body.clone(),
                Content::Identity { key, uid, resource_version, gone_at: _ } => {
                    identity(&context.resource, key, uid, *resource_version)
                }
            },
            death: None,
            context: context.clone(),
        }
    }

    /// `type`, e.g. `com.k8sasbackend.todo.added`.
    pub fn event_type(&self) -> &str {
        &self.context.types.0[self.change as usize]
    }

    /// One of [`ATTRIBUTES`], where this Event has it.
    pub fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        let borrowed = |text| Some(Cow::Borrowed(text));
        match name {
            "specversion" => borrowed(SPEC_VERSION),
            "id" => borrowed(&self.id),
            "source" => borrowed(&self.context.source),
            "type" => borrowed(self.event_type()),
            "subject" | "partitionkey" => borrowed(self.key.as_str()),
            "time" => self.time.as_deref().map(Cow::Borrowed),
            "datacontenttype" => borrowed(DATA_CONTENT_TYPE),
            "sequence" => borrowed(&self.sequence),
            "subscription" => borrowed(&self.context.subscription),
            "k8suid" => Some(Cow::Owned(self.uid.to_string())),
            "k8sgeneration" => self.generation.map(|generation| Cow::Owned(generation.to_string())),
            "reason" => borrowed(self.reason.as_str()),
            "gap" => self.gap.then_some(Cow::Borrowed("true")),
            "gapmissed" => (self.gap_missed > 0).then(|| Cow::Owned(self.gap_missed.to_string())),
            "traceparent" => borrowed(&self.traceparent),
            _ => None,
        }
    }

    /// Every attribute but the data, in a fixed order, required ones first, as encoders write them.
    pub fn attributes(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        let mut attributes = Vec::with_capacity(ATTRIBUTES.len());
        attributes.extend(ATTRIBUTES.iter().filter_map(|name| Some((*name, self.attribute(name)?))));
        if let Some(death) = &self.death {
            attributes.extend([
                ("deadletterreason", Cow::Borrowed(death.reason)),
                ("deadlettererror", Cow::Borrowed(&*death.error)),
                ("deadletterattempts", Cow::Owned(death.attempts.to_string())),
                ("deadlettersink", Cow::Borrowed(&*death.sink)),
                ("deadletterplace", Cow::Borrowed(&*death.place)),
            ]);
        }
        attributes
    }

    /// The same Event as a dead letter.
    #[must_use]
    pub fn to_dead_letter(self, death: Arc<Death>) -> Self {
        Self { death: Some(death), ..self }
    }

    /// The same Event with only the identity of the object as data, for a broker that cannot take all of it.
    #[must_use]
    pub fn to_reference(&self) -> Self {
        let data = identity(&self.context.resource, &self.key, &self.uid, self.resource_version);
        Self { data, ..self.clone() }
    }
}

/// `<uid>.<rv>`, and where something else than the object's own change caused it, what that was.
fn event_id(change: &Change, subscription_generation: u64) -> String {
    let uid = change.uid();
    let version = change.resource_version();
    let mut id = String::with_capacity(64);
    let epoch = match change.epoch {
        Epoch(0) => Ok(()),
        Epoch(epoch) => write!(id, "e{epoch}."),
    };
    let rest = match (change.kind, change.reason) {
        (ChangeKind::Deleted, _) => write!(id, "{uid}.deleted"),
        (ChangeKind::Left, _) => write!(id, "{uid}.{version}.s{subscription_generation}.left"),
        (ChangeKind::Snapshot, _) | (_, Reason::Selection) => {
            write!(id, "{uid}.{version}.s{subscription_generation}")
        }
        (ChangeKind::Added | ChangeKind::Updated, _) => write!(id, "{uid}.{version}"),
    };
    debug_assert!(epoch.and(rest).is_ok(), "writing to a String does not fail");
    id
}

/// Compared as text.
fn sequence(change: &Change) -> String {
    let (epoch, version, concluded) = change.order();
    let mut sequence = String::with_capacity(36);
    let end = if concluded { ".d" } else { "" };
    let written = write!(sequence, "{:012}.{:020}{end}", epoch.0, version.0);
    debug_assert!(written.is_ok(), "writing to a String does not fail");
    sequence
}

/// What stands for an object whose content is not known or not sent. Never empty: no data in Kafka's binary
/// mode would be a tombstone.
fn identity(resource: &Resource, key: &ObjectKey, uid: &Uid, version: ResourceVersion) -> Bytes {
    // Names, kinds, groups and uids have no character that JSON would escape.
    let (api_version, kind, name) = (resource.api_version(), &resource.kind, key.name());
    let namespace =
        key.namespace().map(|namespace| format!(r#","namespace":"{namespace}""#)).unwrap_or_default();
    format!(
        r#"{{"apiVersion":"{api_version}","kind":"{kind}","metadata":{{"name":"{name}"{namespace},"resourceVersion":"{version}","uid":"{uid}"}}}}"#
    )
    .into()
}

/// `00-<32 hex>-<16 hex>-<2 hex>`; anything else in the annotation is not passed on.
fn is_traceparent(text: &str) -> bool {
    let lengths = [2, 32, 16, 2];
    let mut parts = text.split('-');
    lengths.iter().all(|length| {
        parts.next().is_some_and(|part| {
            part.len() == *length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    }) && parts.next().is_none()
}

/// A trace that repeats of the same Event share, not sampled by us.
fn derived_traceparent(id: &str) -> Box<str> {
    let trace = fnv1a_128(id.as_bytes());
    // Two numbers of 64 bits are written several times as fast as one of 128.
    let [high, low] =
        [trace >> 64, trace].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0));
    let low_of_trace = if trace == 0 { 1 } else { low };
    let mut text = String::with_capacity(55);
    let written = write!(text, "00-{high:016x}{low_of_trace:016x}-{:016x}-00", low.max(1));
    debug_assert!(written.is_ok(), "writing to a String does not fail");
    text.into()
}

/// FNV-1a with 128 bits: stable for ever, which `std`'s hashers do not promise.
fn fnv1a_128(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

#[cfg(test)]
#[path = "event/tests.rs"]
mod tests;
