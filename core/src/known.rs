//! The set of objects the bridge believes exist, and which Subscriptions were told of each.

mod table;

use serde::{Deserialize, Serialize};

use self::table::Table;
use crate::change::Epoch;
use crate::object::{Meta, ObjectKey, ResourceVersion, Uid};

/// The index of a Subscription on one Watch. Small, because Known keeps one bit per slot and object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub usize);

/// Key → uid and version of every object that was seen and not yet seen to go.
#[derive(Clone, Debug, Default)]
pub struct Known {
    objects: Table,
    /// What changed since the last difference was taken. Nothing is noted where nobody takes any.
    noted: Option<Vec<ObjectKey>>,
}

#[derive(Clone, Debug)]
struct Kept {
    entry: Entry,
    /// Its key is in `noted`.
    noted: bool,
}

/// What is remembered of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which life of the name.
    pub uid: Uid,
    /// The newest version that was decided.
    pub version: ResourceVersion,
    /// The history that version belongs to: versions of two epochs do not compare.
    pub epoch: Epoch,
    /// Its generation, zero where the resource has none.
    pub generation: u64,
    /// Who was told that it exists.
    pub told: Slots,
    /// The snapshot attempt that saw it last.
    #[serde(skip)]
    pub seen: u32,
    /// A version since the last one told could not be decoded.
    pub skipped: bool,
}

/// A set of slots: one word for the first 64, more only where there are more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    low: u64,
    /// A pointer is all it costs an object where there are no more.
    #[serde(with = "words")]
    #[expect(clippy::box_collection, reason = "three words less of each object")]
    high: Option<Box<Vec<u64>>>,
}

// === impl Known ===

impl Known {
    /// What was stored, from which differences are taken on.
    pub fn restore(entries: impl IntoIterator<Item = (ObjectKey, Entry)>) -> Self {
        // Attempts are counted anew.
        let mut objects = Table::default();
        for (key, entry) in entries {
            objects.add(key, Kept { entry: Entry { seen: 0, ..entry }, noted: false });
        }
        Self { objects, noted: Some(Vec::new()) }
    }

    /// What changed since this was asked last, with the present value; a key may come twice.
    pub fn take_difference(&mut self) -> Vec<(ObjectKey, Option<Entry>)> {
        let Some(noted) = &mut self.noted else { return Vec::new() };
        let present = |key: ObjectKey| {
            let kept = self.objects.get_mut(&key);
            let entry = kept.map(|kept| {
                kept.noted = false;
                kept.entry.clone()
            });
            (key, entry)
        };
        std::mem::take(noted).into_iter().map(present).collect()
    }

    /// How many objects changed since differences were taken last.
    pub fn changed(&self) -> usize {
        self.noted.as_ref().map_or(0, Vec::len)
    }

    /// How many objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.len() == 0
    }

    /// Every object, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Entry)> {
        self.objects.iter().map(|(key, kept)| (key, &kept.entry))
    }

    /// What is known under the name.
    pub fn get(&self, key: &ObjectKey) -> Option<&Entry> {
        self.objects.get(key).map(|kept| &kept.entry)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut Entry> {
        let kept = self.objects.get_mut(key)?;
        Some(kept.change(key, &mut self.noted))
    }

    /// Puts an entry in the place of whatever was there.
    pub fn insert(&mut self, key: ObjectKey, entry: Entry) {
        if let Some(present) = self.get_mut(&key) {
            *present = entry;
        } else {
            self.add(key, entry);
        }
    }

    /// Forgets the name.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Entry> {
        let kept = self.objects.remove(key)?;
        if let Some(noted) = self.noted.as_mut().filter(|_| !kept.noted) {
            noted.push(key.clone());
        }
        Some(kept.entry)
    }

    /// Puts this version in the place of whatever was there. Of the same life, who was told is kept.
    pub fn put(&mut self, meta: &Meta, epoch: Epoch, seen: u32) -> &mut Entry {
        let fresh = || Entry {
            uid: meta.uid.clone(),
            version: meta.resource_version,
            epoch,
            generation: meta.generation.unwrap_or_default(),
            told: Slots::default(),
            seen,
            skipped: false,
        };
        let kept = self.objects.get_or_add(&meta.key, || Kept { entry: fresh(), noted: false });
        let entry = kept.change(&meta.key, &mut self.noted);
        if entry.uid == meta.uid {
            entry.version = meta.resource_version;
            entry.epoch = epoch;
            entry.generation = meta.generation.unwrap_or_default();
            entry.seen = seen;
        } else {
            *entry = fresh();
        }
        entry
    }

    /// Forgets that `slot` was told of anything, and returns what it was told of, in no order.
    pub fn take_told(&mut self, slot: Slot) -> Vec<(ObjectKey, Entry)> {
        let mut told = Vec::new();
        for (key, kept) in self.objects.iter_mut().filter(|(_, kept)| kept.entry.told.contains(slot)) {
            let entry = kept.change(key, &mut self.noted);
            entry.told.remove(slot);
            told.push((key.clone(), entry.clone()));
        }
        told
    }

    /// Says of every object that `attempt` did not see that it may have missed a version.
    pub fn doubt_unseen(&mut self, attempt: u32) {
        for (key, kept) in self.objects.iter_mut().filter(|(_, kept)| kept.entry.seen != attempt) {
            kept.change(key, &mut self.noted).skipped = true;
        }
    }

    /// Forgets every object that `attempt` did not see, and returns them sorted by key.
    pub fn take_unseen(&mut self, attempt: u32) -> Vec<(ObjectKey, Entry)> {
        let unseen = self.objects.take(|kept| kept.entry.seen != attempt);
        let mut unseen: Vec<_> = unseen.into_iter().map(|(key, kept)| (key, kept.entry)).collect();
        unseen.sort_by(|left, right| left.0.cmp(&right.0));
        if let Some(noted) = &mut self.noted {
            noted.extend(unseen.iter().map(|(key, _)| key.clone()));
        }
        unseen
    }

    fn add(&mut self, key: ObjectKey, entry: Entry) {
        let noted = self.noted.as_mut().map(|noted| noted.push(key.clone())).is_some();
        self.objects.add(key, Kept { entry, noted });
    }
}

// === impl Kept ===

impl Kept {
    /// The entry, to be changed, which is noted.
    fn change(&mut self, key: &ObjectKey, noted: &mut Option<Vec<ObjectKey>>) -> &mut Entry {
        if let Some(noted) = noted.as_mut().filter(|_| !self.noted) {
            noted.push(key.clone());
            self.noted = true;
        }
        &mut self.entry
    }
}

// === impl Slots ===

impl Slots {
    /// Whether `slot` is in the set.
    pub fn contains(&self, slot: Slot) -> bool {
        match slot.0.checked_sub(64) {
            None => self.low & 1 << slot.0 != 0,
            Some(high) => self.high().get(high / 64).is_some_and(|word| word & 1 << (high % 64) != 0),
        }
    }

    /// Whether there is one.
    pub fn any(&self) -> bool {
        self.low != 0 || self.high().iter().any(|word| *word != 0)
    }

    /// Adds `slot`.
    pub fn insert(&mut self, slot: Slot) {
        match slot.0.checked_sub(64) {
            None => self.low |= 1 << slot.0,
            Some(high) => {
                let words = self.high.get_or_insert_default();
                if words.len() <= high / 64 {
                    words.resize(high / 64 + 1, 0);
                }
                words[high / 64] |= 1 << (high % 64);
            }
        }
    }

    /// Takes `slot` out.
    pub fn remove(&mut self, slot: Slot) {
        match slot.0.checked_sub(64) {
            None => self.low &= !(1 << slot.0),
            Some(high) => {
                if let Some(word) = self.high.as_mut().and_then(|words| words.get_mut(high / 64)) {
                    *word &= !(1 << (high % 64));
                }
            }
        }
    }

    fn high(&self) -> &[u64] {
        self.high.as_deref().map_or(&[], Vec::as_slice)
    }
}

/// How the rest of a set is stored: as a list, which may be empty.
mod words {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, clippy::box_collection, reason = "the field as it is")]
    pub(super) fn serialize<S: Serializer>(
        words: &Option<Box<Vec<u64>>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        words.as_deref().map_or(&[][..], Vec::as_slice).serialize(serializer)
    }

    #[expect(clippy::box_collection, reason = "the field as it is")]
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Box<Vec<u64>>>, D::Error> {
        let words = Vec::deserialize(deserializer)?;
        Ok((!words.is_empty()).then(|| Box::new(words)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_takes_about_a_hundred_bytes() {
        // What the formula of the bound on memory counts with, and the name.
        assert!(size_of::<(ObjectKey, Kept)>() <= 96, "{} bytes", size_of::<(ObjectKey, Kept)>());
    }

    #[test]
    fn slots_hold_more_than_one_word() {
        let mut slots = Slots::default();
        for slot in [0, 63, 64, 127, 128, 300] {
            assert!(!slots.contains(Slot(slot)));
            slots.insert(Slot(slot));
            assert!(slots.contains(Slot(slot)));
        }
        slots.remove(Slot(64));
        slots.remove(Slot(1000));
        assert!(!slots.contains(Slot(64)));
        assert!(slots.contains(Slot(63)) && slots.contains(Slot(127)));
    }
}
