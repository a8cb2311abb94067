//! Pages: names with their values, in the order of the names, as they are stored of Known and the views.
//!
//! A *name* is the space (zero is Known, a view is its slot and one) and the object's key, so that they sort by
//! space first. An empty value says that the name is gone.

use std::ops::Range;

use tidings_core::known::{Entry, Slot};
use tidings_core::object::ObjectKey;
use tidings_core::watch::saved::{Difference, Saved};

use crate::state::blob::{self, Problem};

/// Puts names and values into pages, and hands over each one that is full.
pub(super) struct Builder {
    page: Vec<u8>,
    limit: usize,
    /// Bytes of all pages.
    pub(super) bytes: usize,
}

/// Reads a page from its beginning.
pub(super) struct Reader {
    page: Vec<u8>,
    next: usize,
}

/// Where a name and its value are in a page.
pub(super) struct Place {
    pub(super) name: Range<usize>,
    pub(super) value: Range<usize>,
}

/// The length of the space in a name.
const SPACE: usize = 4;

/// What a Known entry is stored as; the view's is the core's own.
const KNOWN: u32 = 0;

// === impl Builder ===

impl Builder {
    /// Pages of about `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { page: blob::begin(), limit, bytes: 0 }
    }

    /// Puts in a name, greater than the one before; a page that is full comes back.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        length(&mut self.page, name.len());
        self.page.extend_from_slice(name);
        length(&mut self.page, value.len());
        self.page.extend_from_slice(value);
        if self.page.len() >= self.limit { self.finish() } else { None }
    }

    /// The last page, when there is something in it.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        let empty = blob::begin();
        if self.page.len() == empty.len() {
            return None;
        }
        self.bytes += self.page.len();
        Some(blob::seal(blob::PAGE, std::mem::replace(&mut self.page, empty)))
    }
}

// === impl Reader ===

impl Reader {
    /// Reads what was stored; an error when it is not what was.
    pub(super) fn new(page: Vec<u8>) -> Result<Self, Problem> {
        let length = blob::unseal(blob::PAGE, &page)?.len();
        Ok(Self { next: page.len() - length, page })
    }

    /// Where the next name is, until there is none.
    pub(super) fn next(&mut self) -> Result<Option<Place>, Problem> {
        if self.next == self.page.len() {
            return Ok(None);
        }
        let name = self.part()?;
        let value = self.part()?;
        if name.len() < SPACE {
            return Err(Problem::Content);
        }
        Ok(Some(Place { name, value }))
    }

    /// The bytes of a name or a value.
    pub(super) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.page[range.clone()]
    }

    fn part(&mut self) -> Result<Range<usize>, Problem> {
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let byte = *self.page.get(self.next).ok_or(Problem::Short)?;
            self.next += 1;
            length |= usize::from(byte & 0x7f).checked_shl(shift).ok_or(Problem::Content)?;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let end =
            self.next.checked_add(length).filter(|end| *end <= self.page.len()).ok_or(Problem::Short)?;
        let part = self.next..end;
        self.next = end;
        Ok(part)
    }
}

/// The pages of a difference, each of about `limit` bytes, and the bytes of all.
pub(super) fn of_difference(difference: &Difference, limit: usize) -> Result<(Vec<Vec<u8>>, usize), Problem> {
    let Difference { known, emptied: _, views } = difference;
    let mut builder = Builder::new(limit);
    let mut pages = Vec::new();
    let mut value = Vec::new();

    let mut sorted: Vec<_> = known.iter().map(|(key, entry)| (key.as_str(), entry)).collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    sorted.dedup_by_key(|(key, _)| *key);
    for (key, entry) in sorted {
        value.clear();
        if let Some(entry) = entry {
            value = blob::append(value, entry)?;
        }
        pages.extend(builder.push(&name(KNOWN, key), &value));
    }

    let mut sorted: Vec<_> = views.iter().map(|(slot, key, told)| ((*slot, key.as_str()), told)).collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    sorted.dedup_by_key(|(name, _)| *name);
    for ((slot, key), told) in sorted {
        value.clear();
        if let Some(told) = told {
            value = blob::append(value, told)?;
        }
        pages.extend(builder.push(&name(space_of(slot)?, key), &value));
    }

    pages.extend(builder.finish());
    Ok((pages, builder.bytes))
}

/// Puts what is stored under a name where it belongs. An empty value is no entry.
pub(super) fn restore(name: &[u8], value: &[u8], saved: &mut Saved) -> Result<(), Problem> {
    let key = std::str::from_utf8(&name[SPACE..]).map_err(|_| Problem::Content)?;
    // The text of a key is the key.
    let key = ObjectKey::new(None, key);
    match space(name) {
        KNOWN => {
            let entry: Entry = postcard::from_bytes(value).map_err(|_| Problem::Content)?;
            saved.known.push((key, entry));
        }
        view => {
            let told = postcard::from_bytes(value).map_err(|_| Problem::Content)?;
            saved.views.push((Slot(view as usize - 1), key, told));
        }
    }
    Ok(())
}

/// Known, or a view.
pub(super) fn space(name: &[u8]) -> u32 {
    name.first_chunk().map_or(KNOWN, |space| u32::from_be_bytes(*space))
}

/// The space of the view of a slot.
pub(super) fn space_of(slot: Slot) -> Result<u32, Problem> {
    u32::try_from(slot.0 + 1).map_err(|_| Problem::Content)
}

fn name(space: u32, key: &str) -> Vec<u8> {
    let mut name = Vec::with_capacity(SPACE + key.len());
    name.extend_from_slice(&space.to_be_bytes());
    name.extend_from_slice(key.as_bytes());
    name
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn length(page: &mut Vec<u8>, mut length: usize) {
    while let [low, ..] = length.to_le_bytes()
        && length >= 0x80
    {
        page.push(low | 0x80);
        length >>= 7;
    }
    page.push(length.to_le_bytes()[0]);
}
