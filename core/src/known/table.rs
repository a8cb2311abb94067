//! A map that grows a little at a time: what it holds lies in blocks that never move, beside an index of small numbers.
//!
//! One table of the standard library would be copied whenever it is full, so that for a moment there are two, and has up to
//! half of its places free. With a row of a hundred bytes and a hundred thousand of them that is more than all the rest.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

use super::Kept;
use crate::object::ObjectKey;

/// Rows of a block.
const BLOCK: usize = 512;

type Row = (ObjectKey, Kept);

/// Rows by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// The number of each row that is there.
    index: HashTable<u32>,
    hasher: RandomState,
    /// All of them but the last have as many rows as they may.
    blocks: Vec<Vec<Option<Row>>>,
    /// Rows that are free.
    free: Vec<u32>,
}

// === impl Table ===

impl Table {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Kept> {
        let number = self.find(key)?;
        row(&self.blocks, number).map(|(_, kept)| kept)
    }

    pub(super) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut Kept> {
        let number = self.find(key)?;
        place(&mut self.blocks, number)?.as_mut().map(|(_, kept)| kept)
    }

    pub(super) fn get_or_add(&mut self, key: &ObjectKey, fresh: impl Fn() -> Kept) -> &mut Kept {
        let number = self.find(key).unwrap_or_else(|| self.add(key.clone(), fresh())) as usize;
        let place = &mut self.blocks[number / BLOCK][number % BLOCK];
        &mut place.get_or_insert_with(|| (key.clone(), fresh())).1
    }

    /// Adds a row for a key that has none, and says its number.
    pub(super) fn add(&mut self, key: ObjectKey, kept: Kept) -> u32 {
        let hash = self.hasher.hash_one(&key);
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(place) = place(&mut self.blocks, number) {
                    *place = Some((key, kept));
                }
                number
            }
            None => self.append((key, kept)),
        };
        let Self { index, hasher, blocks, .. } = self;
        let hash_of = |number: &u32| row(blocks, *number).map_or(0, |(key, _)| hasher.hash_one(key));
        index.insert_unique(hash, number, hash_of);
        number
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Kept> {
        let blocks = &self.blocks;
        let entry = self.index.find_entry(self.hasher.hash_one(key), |number| is(blocks, *number, key));
        let (number, _) = entry.ok()?.remove();
        self.free.push(number);
        place(&mut self.blocks, number)?.take().map(|(_, kept)| kept)
    }

    /// Takes out what `wanted` says.
    pub(super) fn take(&mut self, wanted: impl Fn(&Kept) -> bool) -> Vec<Row> {
        let keys = self.iter().filter(|(_, kept)| wanted(kept)).map(|(key, _)| key.clone());
        let keys: Vec<_> = keys.collect();
        keys.into_iter().filter_map(|key| self.remove(&key).map(|kept| (key, kept))).collect()
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.blocks.iter().flatten().flatten()
    }

    /// In no order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&ObjectKey, &mut Kept)> {
        self.blocks.iter_mut().flatten().flatten().map(|(key, kept)| (&*key, kept))
    }

    fn find(&self, key: &ObjectKey) -> Option<u32> {
        self.index.find(self.hasher.hash_one(key), |number| is(&self.blocks, *number, key)).copied()
    }

    fn append(&mut self, row: Row) -> u32 {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let before = (self.blocks.len() - 1) * BLOCK;
        let Some(block) = self.blocks.last_mut() else { return 0 };
        block.push(Some(row));
        // Four thousand million objects do not fit into an API server either.
        u32::try_from(before + block.len() - 1).unwrap_or(u32::MAX)
    }
}

fn is(blocks: &[Vec<Option<Row>>], number: u32, key: &ObjectKey) -> bool {
    row(blocks, number).is_some_and(|(present, _)| present == key)
}

fn row(blocks: &[Vec<Option<Row>>], number: u32) -> Option<&Row> {
    let number = number as usize;
    blocks.get(number / BLOCK)?.get(number % BLOCK)?.as_ref()
}

fn place(blocks: &mut [Vec<Option<Row>>], number: u32) -> Option<&mut Option<Row>> {
    let number = number as usize;
    blocks.get_mut(number / BLOCK)?.get_mut(number % BLOCK)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::change::Epoch;
    use crate::known::{Entry, Slots};
    use crate::object::{ResourceVersion, Uid};

    fn kept(version: u64) -> Kept {
        let (uid, version) = (Uid::new("u"), ResourceVersion(version));
        let told = Slots::default();
        let entry = Entry { uid, version, epoch: Epoch(0), generation: 0, told, seen: 0, skipped: false };
        Kept { entry, noted: false }
    }

    #[test]
    fn it_holds_what_a_map_of_the_standard_library_holds() {
        let mut random = 7_u64;
        let (mut table, mut model) = (Table::default(), BTreeMap::new());
        for version in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = ObjectKey::new(Some("shop"), &format!("milk-{}", (random >> 33) % 3000));
            if random >> 63 == 0 {
                match table.get_mut(&key) {
                    Some(present) => *present = kept(version),
                    None => drop(table.add(key.clone(), kept(version))),
                }
                model.insert(key, version);
            } else {
                let removed = table.remove(&key).map(|kept| kept.entry.version.0);
                assert_eq!(removed, model.remove(&key));
            }
            assert_eq!(table.len(), model.len());
        }
        let held: BTreeMap<_, _> =
            table.iter().map(|(key, kept)| (key.clone(), kept.entry.version.0)).collect();
        assert_eq!(held, model);
        assert!(held.iter().all(|(key, version)| table.get(key).unwrap().entry.version.0 == *version));

        let taken = table.take(|kept| kept.entry.version.0 % 2 == 0);
        let (even, odd): (BTreeMap<_, _>, BTreeMap<_, _>) =
            model.into_iter().partition(|(_, version)| version % 2 == 0);
        assert_eq!(taken.len(), even.len());
        assert!(taken.iter().all(|(key, _)| even.contains_key(key) && table.get(key).is_none()));
        assert_eq!(table.iter().count(), odd.len());
    }

    #[test]
    fn rows_that_are_free_are_taken_again() {
        let mut table = Table::default();
        let key = |number: usize| ObjectKey::new(None, &number.to_string());
        for round in 0..10 {
            for number in 0..2 * BLOCK {
                table.add(key(round * 2 * BLOCK + number), kept(1));
            }
            assert_eq!(table.take(|_| true).len(), 2 * BLOCK);
        }
        assert_eq!((table.len(), table.blocks.len()), (0, 2));
    }
}
