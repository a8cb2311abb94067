//! The chunks of a Journal in the database: each is written and read by itself, so that no more than one is in memory
//! besides what is in it.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::contents::{chunk_of, chunks_of, row};
use super::files::Trouble;
use crate::state::blob::{self, Encoder, Problem};
use crate::state::record::{ChunkIndex, ChunkRecord, Flush, Flushed, JournalRecord, WatchRecord};

/// Writes what a flush changes, as part of a transaction. `limit` is what one chunk holds, but for a single larger entry.
pub(super) fn flush(
    db: &Connection,
    watch: i64,
    record: &WatchRecord,
    flush: &Flush,
    limit: usize,
) -> Result<Flushed, Trouble> {
    let Flush { entries, chunk, merge: merged, dead } = flush;
    for chunk in dead {
        remove(db, watch, *chunk)?;
    }
    let mut flushed = Flushed::default();
    let mut encoder = Encoder::default();
    let mut chunk = *chunk;
    let mut rest = entries.as_slice();
    while !rest.is_empty() {
        let (part, more) = rest.split_at(fitting(rest, limit));
        flushed.chunks.extend(write(db, watch, chunk, part, &mut encoder)?);
        chunk += 1;
        rest = more;
    }
    if !merged.is_empty() {
        (flushed.merged, flushed.into) = merge(db, watch, record, merged, chunk, limit)?;
    }
    Ok(flushed)
}

/// The entries of a chunk, in order.
pub(super) fn read(db: &Connection, watch: i64, chunk: u64) -> Result<Vec<JournalRecord>, Trouble> {
    let mut statement = db.prepare_cached("SELECT body FROM chunk WHERE id = ?")?;
    let decode = |found: &rusqlite::Row<'_>| {
        let body = found.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        Ok(blob::decode_entries(body))
    };
    Ok(statement.query_row([row(watch, chunk)?], decode).optional()?.ok_or(Problem::Missing)??)
}

/// What there is of the Journal of a Watch, in the order of what is in it.
pub(super) fn records(
    db: &Connection,
    watch: i64,
    record: &WatchRecord,
) -> Result<Vec<ChunkRecord>, Trouble> {
    let is_open = record.is_open();
    let mut statement = db.prepare_cached(
        "SELECT id, length(contents) + length(body), contents FROM chunk WHERE id >= ? AND id < ?",
    )?;
    let mut rows = statement.query(chunks_of(watch))?;
    let mut chunks = Vec::new();
    while let Some(found) = rows.next()? {
        let bytes = usize::try_from(found.get::<_, i64>(1)?).unwrap_or(usize::MAX);
        let index: ChunkIndex = blob::decode(found.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?)?;
        let chunk = chunk_of(watch, found.get(0)?);
        chunks.push(ChunkRecord::of(chunk, &index, bytes, &is_open).ok_or(Problem::Content)?);
    }
    chunks.sort_by_key(|chunk| chunk.last);
    Ok(chunks)
}

/// How many of the first entries make a chunk: at least one.
fn fitting(entries: &[Arc<JournalRecord>], limit: usize) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Arc<JournalRecord>| {
        bytes += entry.change.size();
        bytes <= limit
    };
    entries.iter().take_while(fits).count().max(1)
}

fn write(
    db: &Connection,
    watch: i64,
    chunk: u64,
    entries: &[Arc<JournalRecord>],
    encoder: &mut Encoder,
) -> Result<Option<ChunkRecord>, Trouble> {
    let slots = |entry: &JournalRecord| entry.to.iter().map(|to| to.slot).collect();
    let index: ChunkIndex = entries.iter().map(|entry| (entry.number, slots(entry))).collect();
    let (contents, body) = (blob::encode(&index)?, encoder.entries(entries)?);
    let insert = "INSERT INTO chunk VALUES (?, ?, ?)";
    db.prepare_cached(insert)?.execute((row(watch, chunk)?, &contents, body))?;
    Ok(ChunkRecord::of(chunk, &index, contents.len() + body.len(), |_, _| true))
}

fn remove(db: &Connection, watch: i64, chunk: u64) -> Result<(), Trouble> {
    db.prepare_cached("DELETE FROM chunk WHERE id = ?")?.execute([row(watch, chunk)?])?;
    Ok(())
}

/// Makes one chunk of as many of the first ones as fit; says which these were.
fn merge(
    db: &Connection,
    watch: i64,
    record: &WatchRecord,
    chunks: &[u64],
    into: u64,
    limit: usize,
) -> Result<(Vec<u64>, Option<ChunkRecord>), Trouble> {
    let is_open = record.is_open();
    let (mut merged, mut entries, mut bytes) = (Vec::new(), Vec::new(), 0);
    for chunk in chunks {
        let mut kept = read(db, watch, *chunk)?;
        for entry in &mut kept {
            entry.to.retain(|to| is_open(to.slot, entry.number));
        }
        kept.retain(|entry| !entry.to.is_empty());
        bytes += kept.iter().map(|entry| entry.change.size()).sum::<usize>();
        if bytes > limit && !merged.is_empty() {
            break;
        }
        merged.push(*chunk);
        entries.extend(kept.into_iter().map(Arc::new));
    }
    for chunk in &merged {
        remove(db, watch, *chunk)?;
    }
    if entries.is_empty() {
        return Ok((merged, None));
    }
    let into = write(db, watch, into, &entries, &mut Encoder::default())?;
    Ok((merged, into))
}
