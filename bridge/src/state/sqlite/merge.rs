//! Several runs, each sorted by name, read as one: of each name what the newest run says.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::files::Trouble;
use super::page::{Reader, space};

/// One run that is merged.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// Which.
    pub(super) run: i64,
    /// How many pages it has.
    pub(super) pages: i64,
    /// The spaces whose older entries it makes void.
    pub(super) emptied: BTreeSet<u32>,
}

/// Reads runs by page, so that memory is bounded by a page for each, and can be left at any name and gone on with.
pub(super) struct Merge {
    cursors: Vec<Cursor>,
    /// The next name of each cursor; of equal names the newest run's first.
    heap: BinaryHeap<Reverse<(Vec<u8>, Reverse<usize>)>>,
    started: bool,
    /// Bytes that were read.
    pub(super) read: usize,
}

struct Cursor {
    input: Input,
    /// Spaces that a newer run has emptied.
    void: BTreeSet<u32>,
    next_page: i64,
    reader: Option<Reader>,
    value: Vec<u8>,
}

// === impl Merge ===

impl Merge {
    /// Merges `inputs`, given from the oldest to the newest.
    pub(super) fn new(inputs: impl IntoIterator<Item = Input>) -> Self {
        let mut cursors: Vec<_> = inputs
            .into_iter()
            .map(|input| Cursor {
                input,
                void: BTreeSet::new(),
                next_page: 0,
                reader: None,
                value: Vec::new(),
            })
            .collect();
        let mut void = BTreeSet::new();
        for cursor in cursors.iter_mut().rev() {
            cursor.void.clone_from(&void);
            void.extend(cursor.input.emptied.iter().copied());
        }
        Self { cursors, heap: BinaryHeap::new(), started: false, read: 0 }
    }

    /// The spaces that any of the runs empties.
    pub(super) fn emptied(&self) -> BTreeSet<u32> {
        self.cursors.iter().flat_map(|cursor| cursor.input.emptied.iter().copied()).collect()
    }

    /// Puts the next name and its value in the place of what is in `name` and `value`; says whether there was one.
    /// `page` reads a page of a run.
    pub(super) fn next(
        &mut self,
        name: &mut Vec<u8>,
        value: &mut Vec<u8>,
        page: &mut impl FnMut(i64, i64) -> Result<Vec<u8>, Trouble>,
    ) -> Result<bool, Trouble> {
        if !self.started {
            for index in 0..self.cursors.len() {
                self.advance(index, Vec::new(), page)?;
            }
            self.started = true;
        }
        let Some(Reverse((next, Reverse(index)))) = self.heap.pop() else { return Ok(false) };
        std::mem::swap(value, &mut self.cursors[index].value);
        name.clone_from(&next);
        self.advance(index, next, page)?;
        // What older runs say of the name.
        while let Some(Reverse((older, _))) = self.heap.peek()
            && older == name
        {
            let Some(Reverse((older, Reverse(index)))) = self.heap.pop() else { break };
            self.advance(index, older, page)?;
        }
        Ok(true)
    }

    /// Moves a cursor to its next name that counts. `buffer` is reused.
    fn advance(
        &mut self,
        index: usize,
        mut buffer: Vec<u8>,
        page: &mut impl FnMut(i64, i64) -> Result<Vec<u8>, Trouble>,
    ) -> Result<(), Trouble> {
        let cursor = &mut self.cursors[index];
        loop {
            let place = match &mut cursor.reader {
                Some(reader) => reader.next()?,
                None => None,
            };
            match (place, &cursor.reader) {
                (Some(place), Some(reader)) => {
                    let name = reader.bytes(&place.name);
                    self.read += place.name.len() + place.value.len();
                    if cursor.void.contains(&space(name)) {
                        continue;
                    }
                    buffer.clear();
                    buffer.extend_from_slice(name);
                    cursor.value.clear();
                    cursor.value.extend_from_slice(reader.bytes(&place.value));
                    self.heap.push(Reverse((buffer, Reverse(index))));
                    return Ok(());
                }
                _ if cursor.next_page < cursor.input.pages => {
                    let page = page(cursor.input.run, cursor.next_page)?;
                    cursor.reader = Some(Reader::new(page)?);
                    cursor.next_page += 1;
                }
                _ => {
                    cursor.reader = None;
                    return Ok(());
                }
            }
        }
    }
}
