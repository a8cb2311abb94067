//! What waits to be recovered: the names that a snapshot shows, or does not show, otherwise than they are known.

use std::sync::Arc;

use super::name::Name;
use super::{Backfill, Stage};
use crate::known::{Entry, Slot};
use crate::object::{Object, ObjectKey, ResourceVersion, Uid};
use crate::watch::follower::{Follower, Phase};
use crate::watch::{Effect, Watch};

impl Watch {
    /// A snapshot begins. Who does not follow yet, or is between two selections, is listed when it is complete, as if
    /// it came in the middle: what is gathered is told only as the continuation of what was told before.
    pub(in crate::watch) fn gather(&mut self, effects: &mut Vec<Effect>) {
        let follows = |(_, follower): (Slot, &Follower)| follower.is_continued();
        let wanted = self.backfill.limits.requests > 0 && self.followers.iter().any(follows);
        let since = self.position.filter(|_| wanted && !self.blind);
        let Some(since) = since else { return self.give_up_all(effects) };
        let since = self.recovering_since().unwrap_or(since);
        self.backfill.stage = Stage::Gathering { since };
        for slot in self.followers.slots() {
            let Some(follower) = self.followers.get_mut(slot).filter(|follower| !follower.is_continued())
            else {
                continue;
            };
            match &mut follower.phase {
                Phase::Following => {
                    let view = self.told_view(slot);
                    if let Some(follower) = self.followers.get_mut(slot) {
                        follower.phase = Phase::Seam { floor: Phase::NOWHERE, view, relist: true };
                    }
                }
                Phase::Seam { relist, .. } => *relist = true,
                Phase::Listing { .. } => {}
            }
        }
    }

    /// Whether the name of this object, which a snapshot shows in another version than is known, waits now.
    pub(in crate::watch) fn gathers(&mut self, object: &Arc<Object>) -> bool {
        let Some(position) = self.gathering_from() else { return false };
        let meta = &object.meta;
        let before = self.known.get(&meta.key);
        let floor = before.map_or(position, |entry| position.max(entry.version));
        let selected = |(_, follower): (Slot, &Follower)| {
            follower.is_continued() && follower.selection.may_select(&meta.key)
        };
        let wanted = meta.resource_version > floor && self.followers.iter().any(selected);
        if !wanted || !self.may_gather(&meta.key, before, object.size()) {
            return false;
        }
        let mut name = Name::new(before.map(|entry| (entry.uid.clone(), entry.version)), floor);
        self.pass_told(&mut name, &meta.key, Some(&meta.uid), floor);
        name.show(object, floor, self.attempt);
        self.put_name(meta.key.clone(), name);
        true
    }

    /// Everything up to here was decided, or waits, when the snapshot that gathers began.
    pub(super) fn gathering_from(&self) -> Option<ResourceVersion> {
        self.position.filter(|_| matches!(self.backfill.stage, Stage::Gathering { .. }))
    }

    fn may_gather(&self, key: &ObjectKey, before: Option<&Entry>, bytes: usize) -> bool {
        let Backfill { limits, names, .. } = &self.backfill;
        let doubtful = self.followers.slots().any(|slot| self.doubts.contains_key(&(slot, key.clone())));
        // Each name takes a request at least.
        let room = names.len() < limits.requests as usize && self.backfill.bytes + bytes <= limits.bytes;
        let mut views = self.followers.iter().filter_map(|(_, follower)| follower.view()?.get(key));
        let present = before.is_none_or(|entry| entry.epoch == self.epoch);
        room && !doubtful && present && views.all(|told| told.epoch == self.epoch)
    }

    /// Takes into account what LISTs told of the name ahead of the Watch, but for the life that is shown `next`.
    pub(super) fn pass_told(
        &self,
        name: &mut Name,
        key: &ObjectKey,
        next: Option<&Uid>,
        position: ResourceVersion,
    ) {
        let views = self.followers.iter().filter_map(|(_, follower)| follower.view()?.get(key));
        let mut ahead: Vec<_> = views.filter(|told| Some(&told.uid) != next).collect();
        ahead.sort_by_key(|told| told.version);
        for told in ahead {
            if told.version > name.newest() && name.life().is_none_or(|(uid, _)| *uid != told.uid) {
                name.pass((told.uid.clone(), told.version), position);
            }
        }
    }

    fn put_name(&mut self, key: ObjectKey, name: Name) {
        self.backfill.bytes += name.bytes();
        self.backfill.names.insert(key, name);
    }

    /// The snapshot is complete at `version`: what it did not show, if that means something, waits too.
    pub(in crate::watch) fn gather_gone(
        &mut self,
        sound: bool,
        version: ResourceVersion,
        effects: &mut Vec<Effect>,
    ) {
        let Some(position) = self.gathering_from() else { return };
        let attempt = self.attempt;
        for key in self.names() {
            let Some(mut name) = self.backfill.names.get(&key).filter(|name| name.seen() != attempt).cloned()
            else {
                continue;
            };
            if !sound || position >= version {
                self.give_up(&key, effects);
                continue;
            }
            self.pass_told(&mut name, &key, None, position);
            name.miss(position, version);
            self.backfill.names.insert(key, name);
        }
        let unseen = self.known.iter().filter(|(_, entry)| entry.seen != attempt && entry.told.any());
        let unseen = unseen.filter(|(key, _)| sound && !self.waits(key));
        let mut gone: Vec<_> = unseen.map(|(key, entry)| (key.clone(), entry.clone())).collect();
        gone.sort_by(|left, right| left.0.cmp(&right.0));
        for (key, entry) in gone {
            let floor = position.max(entry.version);
            if floor < version && self.may_gather(&key, Some(&entry), 0) {
                let mut name = Name::new(Some((entry.uid, entry.version)), floor);
                self.pass_told(&mut name, &key, None, floor);
                name.miss(floor, version);
                self.put_name(key, name);
            }
        }
        // What is to be concluded of those is concluded when they are told.
        for key in self.backfill.names.keys() {
            if let Some(entry) = self.known.get_mut(key) {
                entry.seen = attempt;
            }
        }
    }
}
