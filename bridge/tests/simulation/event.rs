//! An Event as a consumer reads it off the wire.

use std::fmt;

use bytes::Bytes;
use tidings_core::change::ChangeKind;
use tidings_sinks::message::Message;

use crate::etcd::{Etcd, KINDS};

#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Index in [`KINDS`].
    pub(crate) kind: usize,
    pub(crate) id: String,
    pub(crate) change: ChangeKind,
    /// `namespace/name`.
    pub(crate) key: String,
    pub(crate) uid: String,
    pub(crate) sequence: String,
    pub(crate) epoch: u64,
    /// The version in the sequence.
    pub(crate) revision: u64,
    /// The delete was concluded.
    pub(crate) concluded: bool,
    pub(crate) reason: String,
    pub(crate) gap: bool,
    pub(crate) data: Bytes,
}

// === impl Event ===

impl Event {
    /// Reads it, or says what about it is not as the design says.
    pub(crate) fn read(message: &Message) -> Result<Self, String> {
        let find = |name: &str| message.headers.get(name).map(str::to_owned);
        let attribute =
            |name: &str| find(&format!("ce-{name}")).ok_or_else(|| format!("no {name} in {message:?}"));
        let wrong = |what: &str| format!("{what} is malformed in {message:?}");
        let event_type = attribute("type")?;
        let source = attribute("source")?;
        let kind =
            KINDS.iter().position(|kind| source.ends_with(&format!("/{}/{}", kind.group, kind.plural)));
        let change = ChangeKind::ALL.into_iter().find(|change| event_type.ends_with(change.as_str()));
        let sequence = attribute("sequence")?;
        let (epoch, rest) = sequence.split_once('.').ok_or_else(|| wrong("sequence"))?;
        let (digits, concluded) = match rest.strip_suffix(".d") {
            Some(digits) => (digits, true),
            None => (rest, false),
        };
        let key = attribute("subject")?;
        if attribute("partitionkey")? != key {
            return Err(wrong("partitionkey"));
        }
        Ok(Self {
            kind: kind.ok_or_else(|| wrong("source"))?,
            id: attribute("id")?,
            change: change.ok_or_else(|| wrong("type"))?,
            key,
            uid: attribute("k8suid")?,
            epoch: epoch.parse().map_err(|_| wrong("sequence"))?,
            revision: digits.parse().map_err(|_| wrong("sequence"))?,
            concluded,
            sequence: sequence.clone(),
            reason: attribute("reason")?,
            gap: find("ce-gap").is_some(),
            data: message.body.clone(),
        })
    }

    /// Whether it puts an object, or removes one.
    pub(crate) fn puts(&self) -> bool {
        !matches!(self.change, ChangeKind::Deleted | ChangeKind::Left)
    }

    /// It says nothing about what was before it in the Subscription.
    pub(crate) fn enters(&self) -> bool {
        self.change == ChangeKind::Snapshot || self.change == ChangeKind::Added && self.reason == "selection"
    }

    /// Nothing is invented: what it carries was committed, byte for byte, and who is said to be gone is gone.
    pub(crate) fn check_truth(&self, etcd: &Etcd) -> Result<(), String> {
        let data = std::str::from_utf8(&self.data).unwrap();
        if self.change == ChangeKind::Deleted && !etcd.is_gone(&self.uid) {
            return Err(format!("{self} is told, and it lives"));
        }
        if self.concluded {
            let kind = &KINDS[self.kind];
            let (namespace, name) = self.key.split_once('/').unwrap_or_default();
            let version =
                data.split_once("\"resourceVersion\":\"").and_then(|(_, rest)| rest.split_once('"'));
            let version = version.map_or("", |(version, _)| version);
            let expected = format!(
                "{{\"apiVersion\":\"{}/v1\",\"kind\":\"{}\",\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"{namespace}\",\
                 \"resourceVersion\":\"{version}\",\"uid\":\"{}\"}}}}",
                kind.group, kind.name, self.uid
            );
            let known = version.parse().is_ok_and(|version| !etcd.find(&self.uid, version).is_empty());
            return if known && data == expected {
                Ok(())
            } else {
                Err(format!("{self} has the data {data}"))
            };
        }
        let deleted = self.change == ChangeKind::Deleted;
        let versions = etcd.find(&self.uid, self.revision).iter();
        let mut same = versions.filter(|version| {
            version.deleted == deleted && version.key == self.key && version.text == self.data
        });
        if same.next().is_none() {
            return Err(format!("{self} was never committed: {data}"));
        }
        Ok(())
    }

    /// The id is what the design derives, and nothing else.
    pub(crate) fn check_id(&self) -> Result<(), String> {
        let (uid, revision) = (&self.uid, self.revision);
        let epoch = if self.epoch == 0 { String::new() } else { format!("e{}.", self.epoch) };
        let generation =
            || self.id.rsplit(".s").next().and_then(|rest| rest.split('.').next()).unwrap_or_default();
        let expected = match self.change {
            ChangeKind::Deleted => format!("{epoch}{uid}.deleted"),
            ChangeKind::Left => format!("{epoch}{uid}.{revision}.s{}.left", generation()),
            _ if self.enters() => format!("{epoch}{uid}.{revision}.s{}", generation()),
            _ => format!("{epoch}{uid}.{revision}"),
        };
        if self.id == expected { Ok(()) } else { Err(format!("{self} should have the id {expected}")) }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, change, key, uid, sequence, reason, gap, .. } = self;
        let gap = if *gap { " gap" } else { "" };
        write!(f, "{change} {kind} {key} {} {sequence} {reason}{gap}", crate::short(uid))
    }
}
