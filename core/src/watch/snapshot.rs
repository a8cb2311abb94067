//! Comparing the present state with what was told, at the start and after history was lost.

use super::follower::Phase;
use super::telling::Telling;
use super::view::View;
use super::{Effect, Stream, Watch};
use crate::known::Slot;
use crate::object::ResourceVersion;

impl Watch {
    /// A new attempt: marks of an earlier one count for nothing, and every Subscription takes part.
    pub(super) fn snapshot_started(&mut self, effects: &mut Vec<Effect>) {
        self.gathered(effects);
        self.attempt += 1;
        self.stream = Stream::Snapshot { sound: true };
        for slot in self.followers.slots() {
            let Some(follower) = self.followers.get_mut(slot) else { continue };
            match &mut follower.phase {
                Phase::Following => {}
                Phase::Seam { relist, .. } => *relist = false,
                Phase::Listing { .. } => {
                    // The snapshot shows what the LIST would have shown. Changes that waited continue the
                    // names it was told already; other names come with the snapshot.
                    effects.push(Effect::StopList(slot));
                    self.release(slot, Phase::EVERYWHERE, effects);
                }
            }
        }
        self.gather(effects);
    }

    /// Everything that exists was seen: what was told and not seen is gone.
    pub(super) fn snapshot_complete(
        &mut self,
        version: ResourceVersion,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Stream::Snapshot { sound } = self.stream else { return };
        if version < self.newest {
            return self.rewind(now, effects);
        }
        self.gather_gone(sound, version, effects);
        if sound {
            self.conclude_deletes(version, effects);
        } else {
            // What was not seen may have been what could not be named: its next version has a gap before it.
            self.known.doubt_unseen(self.attempt);
        }
        for slot in self.followers.slots() {
            self.snapshot_complete_for(slot, sound, version, effects);
        }
        self.blind = !sound;
        self.empty_streams = 0;
        self.position = Some(version);
        self.newest = version;
        self.stream = Stream::Live { since: version };
        self.gathered(effects);
    }

    fn conclude_deletes(&mut self, version: ResourceVersion, effects: &mut Vec<Effect>) {
        for (key, entry) in self.known.take_unseen(self.attempt) {
            let mut telling = Telling::new(self.epoch);
            self.tell_over(&key, &entry, version, &mut telling);
            telling.finish(effects);
        }
    }

    /// The view of a Subscription becomes bits; in a complete snapshot what it holds and Known does not is
    /// gone. Who came after the start still has to see what came before; everybody else has joined, also who had before:
    /// it may have waited for a LIST that this snapshot made needless.
    fn snapshot_complete_for(
        &mut self,
        slot: Slot,
        sound: bool,
        version: ResourceVersion,
        effects: &mut Vec<Effect>,
    ) {
        let Some(follower) = self.followers.get_mut(slot) else { return };
        let Phase::Seam { view, floor, relist } = &mut follower.phase else {
            follower.fresh = false;
            if sound {
                self.conclude_doubts(slot, version, effects);
            }
            effects.push(Effect::Joined(slot));
            return;
        };
        let (mut view, floor, relist) = (std::mem::take(view), *floor, *relist);
        let recovering = self.recovering_since().is_some();
        if sound && (relist || recovering) {
            self.conclude_view(slot, &mut view, version, effects);
        }
        // Known may lack what the view has from a LIST, and then cannot say that a version of it may be missing.
        if !sound && (relist || recovering) {
            view.miss_all();
        }
        if relist {
            view.begin_list();
            let list = self.next_list(slot, effects);
            self.enter(slot, Phase::listing(list, version, view));
            return;
        }
        if recovering {
            // Known is behind the view until everything is told.
            self.enter(slot, Phase::Seam { floor, view, relist });
        } else {
            self.enter(slot, Phase::Following);
            self.put_told(slot, view, sound, version, effects);
        }
        if sound {
            self.conclude_doubts(slot, version, effects);
        }
        // The last word, because who parts hears nothing after it.
        effects.push(Effect::Joined(slot));
    }

    fn enter(&mut self, slot: Slot, phase: Phase) {
        if let Some(follower) = self.followers.get_mut(slot) {
            follower.fresh &= !matches!(phase, Phase::Following);
            follower.phase = phase;
        }
    }

    /// Takes out of a view, and tells, what the snapshot showed to be gone.
    fn conclude_view(
        &mut self,
        slot: Slot,
        view: &mut View,
        version: ResourceVersion,
        effects: &mut Vec<Effect>,
    ) {
        let gone = view.take_if(|key, told| {
            !self.waits(key) && self.known.get(key).is_none_or(|entry| entry.uid != told.uid)
        });
        let mut telling = Telling::new(self.epoch);
        for (key, told) in gone {
            let next = self.known.get(&key).map(|entry| entry.version.previous());
            self.tell_gone(slot, &key, &told, next.unwrap_or(version), &mut telling);
        }
        telling.finish(effects);
    }
}
