//! What is where in the database, for the store and for whoever reads as much of a damaged one as there is.

use std::collections::BTreeMap;

use rusqlite::Connection;
use tidings_core::watch::saved::Saved;

use super::files::Trouble;
use super::page::{self, Reader};
use super::runs;
use crate::state::blob::Problem;

/// The most chunks of a Watch, and the distance between the first ones of two.
const CHUNKS: i64 = 1 << 40;

/// The rows of a Watch's chunks: from the first to before the second.
pub(crate) fn chunks_of(watch: i64) -> (i64, i64) {
    (watch.saturating_mul(CHUNKS), watch.saturating_add(1).saturating_mul(CHUNKS))
}

/// The row of a chunk.
pub(crate) fn row(watch: i64, chunk: u64) -> Result<i64, Problem> {
    let chunk = i64::try_from(chunk).ok().filter(|chunk| *chunk < CHUNKS);
    watch.checked_mul(CHUNKS).zip(chunk).map(|(first, chunk)| first + chunk).ok_or(Problem::Content)
}

/// The chunk of a row.
pub(crate) fn chunk_of(watch: i64, row: i64) -> u64 {
    row.saturating_sub(watch.saturating_mul(CHUNKS)).unsigned_abs()
}

/// Known and the views of a Watch as far as they can be read, and what cannot be.
pub(crate) fn load(db: &Connection, watch: i64) -> (Saved, Vec<String>) {
    let mut problems = Vec::new();
    let mut names: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let inputs = runs::inputs(db, watch).unwrap_or_else(|trouble| {
        problems.push(trouble.to_string());
        Vec::new()
    });
    for input in inputs {
        names.retain(|name, _| !input.emptied.contains(&page::space(name)));
        for number in 0..input.pages {
            let read = runs::read_page(db, input.run, number).and_then(|page| {
                let mut reader = Reader::new(page)?;
                while let Some(place) = reader.next()? {
                    let (name, value) = (reader.bytes(&place.name), reader.bytes(&place.value));
                    names.insert(name.to_vec(), value.to_vec());
                }
                Ok::<_, Trouble>(())
            });
            problems.extend(read.err().map(|trouble| trouble.to_string()));
        }
    }
    let mut saved = Saved::default();
    for (name, value) in names.into_iter().filter(|(_, value)| !value.is_empty()) {
        problems.extend(page::restore(&name, &value, &mut saved).err().map(|problem| problem.to_string()));
    }
    (saved, problems)
}
