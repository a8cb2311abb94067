//! Small values of everything that is stored.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::change::{Change, ChangeKind, Content, Epoch};
use tidings_core::known::{Entry, Slot, Slots};
use tidings_core::object::{Meta, Object, ObjectKey, ResourceVersion, Uid};
use tidings_core::route::Kind;
use tidings_core::watch::saved::Told;

use crate::state::record::{JournalRecord, Recipient, WatchName};

pub(super) fn watch(kind: &str) -> WatchName {
    WatchName { kind: Kind::new("example.com/v1", kind), namespace: None }
}

pub(super) fn key(number: u8) -> ObjectKey {
    ObjectKey::new(Some("shop"), &format!("order-{number}"))
}

pub(super) fn uid(number: u64) -> Uid {
    Uid::new(&format!("0f1e2d3c-4b5a-6978-8796-{number:012x}"))
}

pub(super) fn slot(number: u64) -> Slot {
    Slot(usize::try_from(number % 3).unwrap())
}

pub(super) fn entry(version: u64) -> Entry {
    let mut told = Slots::default();
    told.insert(Slot(usize::try_from(version % 70).unwrap()));
    Entry {
        uid: uid(version),
        version: ResourceVersion(version),
        epoch: Epoch(version % 3),
        generation: version / 2,
        told,
        seen: 0,
        skipped: version.is_multiple_of(5),
    }
}

pub(super) fn told(version: u64) -> Told {
    Told { uid: uid(version), version: ResourceVersion(version), epoch: Epoch(0), generation: 1 }
}

pub(super) fn change(number: u64, length: usize) -> Arc<JournalRecord> {
    let meta = Meta {
        generation: Some(1),
        created: Some("2026-11-21T12:00:00Z".into()),
        ..Meta::new(key(number.to_le_bytes()[0]), uid(number), ResourceVersion(number))
    };
    let body = format!("{{\"spec\":\"{}\"}}", "x".repeat(length));
    let gone = number.is_multiple_of(4).then(|| Content::Identity {
        key: meta.key.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version,
        gone_at: meta.resource_version,
    });
    let mut change = Change::watched(ChangeKind::Updated, Object { meta, body: Bytes::from(body) });
    change.content = gone.unwrap_or(change.content);
    Arc::new(JournalRecord {
        number,
        change: Arc::new(change),
        to: vec![Recipient { slot: slot(number), generation: 1 }],
        before: Some(ResourceVersion(number - 1)),
        decided: 1_795_000_000_000 + number,
    })
}
