//! How what is stored looks inside the database: a byte that says the format, a checksum, the content. SQLite's own
//! pages have no checksum, and a flipped bit must not become another Kubernetes object.

use std::sync::Arc;

use lz4_flex::block::CompressTable;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::JournalRecord;

/// Packs entries of Journals. What it needs for that it keeps for the next ones.
#[derive(Default)]
pub(super) struct Encoder {
    blob: Vec<u8>,
    block: Vec<u8>,
    table: CompressTable,
}

/// Why bytes are not what was stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// It is not there.
    #[error("it is missing")]
    Missing,
    /// There is less than a header.
    #[error("it is cut off")]
    Short,
    /// A format that is not known.
    #[error("its format {0} is not known")]
    Format(u8),
    /// It is not what was written.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum matches, and it still cannot be read.
    #[error("it cannot be read")]
    Content,
}

/// A value in postcard's encoding.
const VALUE: u8 = 1;
/// Entries of a Journal in blocks, each compressed with LZ4.
const BLOCKS: u8 = 2;
/// Names with their values, sorted.
pub(super) const PAGE: u8 = 3;

/// The format and the checksum of what follows.
const HEADER: usize = 5;

/// What is compressed at once. Bounds memory, and stays in the CPU's cache.
const BLOCK: usize = 256 << 10;

// === impl Encoder ===

impl Encoder {
    /// Entries of a Journal as they are stored.
    pub(super) fn entries(&mut self, entries: &[Arc<JournalRecord>]) -> Result<&[u8], Problem> {
        self.blob.clear();
        self.blob.resize(HEADER, 0);
        for entry in entries {
            self.block = append(std::mem::take(&mut self.block), &**entry)?;
            if self.block.len() >= BLOCK {
                self.pack()?;
            }
        }
        self.pack()?;
        stamp(BLOCKS, &mut self.blob);
        Ok(&self.blob)
    }

    fn pack(&mut self) -> Result<(), Problem> {
        let Self { blob, block, table } = self;
        if block.is_empty() {
            return Ok(());
        }
        let start = blob.len();
        let room = lz4_flex::block::get_maximum_output_size(block.len());
        blob.resize(start + 8 + room, 0);
        let packed = lz4_flex::block::compress_into_with_table(block, &mut blob[start + 8..], table);
        let packed = packed.map_err(|_| Problem::Content)?;
        blob.truncate(start + 8 + packed);
        for (at, length) in [(start, block.len()), (start + 4, packed)] {
            let length = u32::try_from(length).map_err(|_| Problem::Content)?;
            blob[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        block.clear();
        Ok(())
    }
}

/// One value.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Problem> {
    Ok(seal(VALUE, append(begin(), value)?))
}

/// The value.
pub(super) fn decode<T: DeserializeOwned>(blob: &[u8]) -> Result<T, Problem> {
    postcard::from_bytes(unseal(VALUE, blob)?).map_err(|_| Problem::Content)
}

/// The entries, in order.
pub(super) fn decode_entries(blob: &[u8]) -> Result<Vec<JournalRecord>, Problem> {
    let mut rest = unseal(BLOCKS, blob)?;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (lengths, packed) = rest.split_at_checked(8).ok_or(Problem::Short)?;
        let (raw, length) = (word(lengths)?, word(&lengths[4..])?);
        let (packed, more) = packed.split_at_checked(length).ok_or(Problem::Short)?;
        // A block is as long as its longest entry allows; the checksum says that the length is what was written.
        let block = lz4_flex::block::decompress(packed, raw).map_err(|_| Problem::Content)?;
        let mut block = block.as_slice();
        while !block.is_empty() {
            let (entry, more) = postcard::take_from_bytes(block).map_err(|_| Problem::Content)?;
            entries.push(entry);
            block = more;
        }
        rest = more;
    }
    Ok(entries)
}

/// An empty blob, whose header is filled in at the end.
pub(super) fn begin() -> Vec<u8> {
    vec![0; HEADER]
}

/// The blob, to be stored.
pub(super) fn seal(format: u8, mut blob: Vec<u8>) -> Vec<u8> {
    stamp(format, &mut blob);
    blob
}

fn stamp(format: u8, blob: &mut [u8]) {
    let checksum = crc32fast::hash(&blob[HEADER..]);
    blob[0] = format;
    blob[1..HEADER].copy_from_slice(&checksum.to_le_bytes());
}

/// The content of a stored blob, when it is what was stored.
pub(super) fn unseal(format: u8, blob: &[u8]) -> Result<&[u8], Problem> {
    let (header, content) = blob.split_at_checked(HEADER).ok_or(Problem::Short)?;
    if header[0] != format {
        return Err(Problem::Format(header[0]));
    }
    if crc32fast::hash(content).to_le_bytes() != header[1..] {
        return Err(Problem::Checksum);
    }
    Ok(content)
}

/// Puts a value behind what is there.
pub(super) fn append<T: Serialize + ?Sized>(bytes: Vec<u8>, value: &T) -> Result<Vec<u8>, Problem> {
    postcard::to_extend(value, bytes).map_err(|_| Problem::Content)
}

fn word(bytes: &[u8]) -> Result<usize, Problem> {
    let bytes: [u8; 4] = bytes.get(..4).and_then(|bytes| bytes.try_into().ok()).ok_or(Problem::Short)?;
    Ok(u32::from_le_bytes(bytes) as usize)
}

#[cfg(test)]
mod tests {
    use super::super::record::WatchRecord;
    use super::*;

    #[test]
    fn any_flipped_bit_is_noticed() {
        let blob = encode(&WatchRecord { next: 7, ..WatchRecord::default() }).unwrap();
        assert_eq!(decode::<WatchRecord>(&blob).unwrap().next, 7);
        for bit in 0..blob.len() * 8 {
            let mut flipped = blob.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<WatchRecord>(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..blob.len() {
            assert!(decode::<WatchRecord>(&blob[..length]).is_err(), "cut at {length}");
        }
    }
}
