//! The Changes of one object, gathered so that Subscriptions that are told the same share them.

use std::sync::Arc;

use super::Effect;
use crate::change::{Change, ChangeKind, Content, Epoch, Reason};
use crate::known::Slot;
use crate::object::{ObjectKey, ResourceVersion, Uid};

/// The Changes of one object that several Subscriptions share: one body, however many are told.
pub(super) struct Telling {
    pub(super) epoch: Epoch,
    changes: Vec<(Change, Vec<Slot>)>,
}

// === impl Telling ===

impl Telling {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, changes: Vec::new() }
    }

    /// Adds a listener to a Change, or a Change.
    pub(super) fn add(
        &mut self,
        slot: Slot,
        kind: ChangeKind,
        reason: Reason,
        gap: bool,
        gap_missed: u64,
        content: Content,
    ) {
        self.put(slot, Change { kind, reason, epoch: self.epoch, gap, gap_missed, content });
    }

    pub(super) fn put(&mut self, slot: Slot, change: Change) {
        match self.changes.iter_mut().find(|(other, _)| other.is_same_telling(&change)) {
            Some((_, slots)) => slots.push(slot),
            None => self.changes.push((change, vec![slot])),
        }
    }

    pub(super) fn finish(mut self, effects: &mut Vec<Effect>) {
        // One Subscription may hear only of the new life, another of the end of the old one before it.
        self.changes.sort_by_key(|(change, _)| change.kind != ChangeKind::Deleted);
        effects
            .extend(self.changes.into_iter().map(|(change, to)| Effect::Emit { change: change.into(), to }));
    }
}

impl Change {
    /// Equal in everything but the content, which is compared by identity: a body is never looked at.
    fn is_same_telling(&self, other: &Self) -> bool {
        (self.kind, self.reason, self.epoch, self.gap, self.gap_missed)
            == (other.kind, other.reason, other.epoch, other.gap, other.gap_missed)
            && match (&self.content, &other.content) {
                (Content::Object(left), Content::Object(right)) => Arc::ptr_eq(left, right),
                (left @ Content::Identity { .. }, right @ Content::Identity { .. }) => left == right,
                _ => false,
            }
    }
}

impl Content {
    pub(super) fn identity(
        key: &ObjectKey,
        uid: &Uid,
        resource_version: ResourceVersion,
        gone_at: ResourceVersion,
    ) -> Self {
        Self::Identity { key: key.clone(), uid: uid.clone(), resource_version, gone_at }
    }
}
