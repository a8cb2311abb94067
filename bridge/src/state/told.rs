//! The told log: what Subscriptions may have been told since the last flush of a Watch, so that nobody keeps an object
//! of which the process knows nothing after a crash.
//!
//! Two small files take turns. While a flush is under way one holds what came before it and the other takes what comes
//! meanwhile; when the flush is done the first is emptied. Nothing waits for the disk: the log is for a crash of the
//! process, which loses nothing that was written.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tidings_core::watch::saved::Doubt;

use super::record::WatchName;
use super::shared::Disk;
use super::sqlite::files::{Files, MODE};

/// The told log of one Watch.
#[derive(Debug)]
pub struct ToldLog {
    files: [Half; 2],
    /// Which of the two takes what is told now; the other holds what the flush makes superfluous.
    current: usize,
    /// The number of the next record: at least that of the next Change in the Journal.
    next: u64,
    disk: Option<Arc<dyn Disk>>,
}

/// One of the two files.
#[derive(Debug)]
struct Half {
    path: PathBuf,
    file: Option<File>,
    /// Where the next record goes. What may lie behind is what is left of one that was not written whole.
    length: u64,
}

/// The number of a record, and its doubts.
type Record = (u64, Vec<Doubt>);

/// A record is its length, its checksum, its number and the doubts.
const HEADER: usize = 16;

/// Names of kinds and namespaces have none but these; `.` stands in groups and versions.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.');

// === impl ToldLog ===

impl ToldLog {
    /// The log of a Watch in the folder of the store, and what it holds, in the order in which it was told. What was
    /// told before the Change with the number `stored` was decided is in the store: the process only died before it
    /// could clear the log.
    pub fn open(folder: &Path, watch: &WatchName, stored: u64) -> io::Result<(Self, Vec<Doubt>)> {
        let [first, second] = paths(folder, watch);
        let ((first, mut records), (second, more)) = (Half::read(first)?, Half::read(second)?);
        let newest = |records: &[Record]| records.last().map(|(number, _)| *number);
        let current = usize::from(newest(&more) > newest(&records));
        records.extend(more);
        // What was put together with something older is there twice after a crash in between.
        records.sort_by_key(|(number, _)| *number);
        records.dedup_by_key(|(number, _)| *number);
        let next = newest(&records).map_or(1, |newest| newest + 1);
        records.retain(|(number, _)| *number >= stored);
        let doubts = records.into_iter().flat_map(|(_, doubts)| doubts).collect();
        Ok((Self { files: [first, second], current, next, disk: None }, doubts))
    }

    /// The same behind `disk`, if there is one.
    pub(super) fn behind(self, disk: Option<Arc<dyn Disk>>) -> Self {
        Self { disk, ..self }
    }

    /// Notes what will be told next, in Changes from the number `first` on. When this fails it must not be told.
    pub fn append(&mut self, first: u64, doubts: &[Doubt]) -> io::Result<()> {
        if doubts.is_empty() {
            return Ok(());
        }
        // A process before may have noted more than it stored, and what is newer must have a higher number.
        let number = self.next.max(first);
        let record = encode(number, doubts)?;
        self.may_write()?;
        self.files[self.current].write(&record)?;
        self.next = number + 1;
        Ok(())
    }

    /// A flush begins that will hold everything noted until now.
    pub fn begin_flush(&mut self) -> io::Result<()> {
        let [current, other] = [self.current, 1 - self.current];
        if self.files[current].length == 0 {
            return Ok(());
        }
        self.may_write()?;
        if self.files[other].length > 0 {
            // The last flush failed: what it would have held goes together with what came since.
            let since = self.files[current].content()?;
            self.files[other].write(&since)?;
            self.files[current].empty()?;
            return Ok(());
        }
        self.current = other;
        Ok(())
    }

    /// The flush that began last is done: what was noted before it is not needed any more.
    pub fn end_flush(&mut self) -> io::Result<()> {
        self.may_write()?;
        self.files[1 - self.current].empty()
    }

    /// Removes the log of a Watch that is not needed any more.
    pub fn remove(self) -> io::Result<()> {
        self.may_write()?;
        for Half { path, .. } in self.files {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn may_write(&self) -> io::Result<()> {
        self.disk.as_ref().map_or(Ok(()), |disk| disk.note())
    }
}

// === impl Half ===

impl Half {
    /// What the file holds, with its numbers, up to the first record that is not whole.
    fn read(path: PathBuf) -> io::Result<(Self, Vec<Record>)> {
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Self { path, file: None, length: 0 }, Vec::new()));
            }
            Err(error) => return Err(error),
        };
        let content = fs::read(&path)?;
        let mut rest = content.as_slice();
        let mut records = Vec::new();
        while let Some((record, more)) = decode(rest) {
            records.push(record);
            rest = more;
        }
        let length = (content.len() - rest.len()) as u64;
        Ok((Self { path, file: Some(file), length }, records))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(&self.path)?),
        };
        file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn content(&self) -> io::Result<Vec<u8>> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let length = usize::try_from(self.length).map_err(io::Error::other)?;
        let mut content = vec![0; length];
        file.read_exact_at(&mut content, 0)?;
        Ok(content)
    }

    fn empty(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file
            && self.length > 0
        {
            file.set_len(0)?;
            self.length = 0;
        }
        Ok(())
    }
}

/// Groups can be as long as a file's name, so they are folders.
fn paths(folder: &Path, watch: &WatchName) -> [PathBuf; 2] {
    let WatchName { kind, namespace } = watch;
    let plain = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
    // A group is a name in DNS, so none is called like this.
    let group =
        if kind.group.is_empty() { "_core".to_owned() } else { plain(&kind.group).replace("..", "%2E%2E") };
    let namespace = namespace.as_deref().map(plain).unwrap_or_default();
    let name = format!("{}_{}_{namespace}", plain(&kind.version), plain(&kind.kind));
    let folder = Files::new(folder).told().join(group);
    [folder.join(format!("{name}.a")), folder.join(format!("{name}.b"))]
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)
}

fn encode(number: u64, doubts: &[Doubt]) -> io::Result<Vec<u8>> {
    let mut record = postcard::to_extend(doubts, vec![0; HEADER]).map_err(io::Error::other)?;
    let length = u32::try_from(record.len() - HEADER).map_err(io::Error::other)?;
    record[8..HEADER].copy_from_slice(&number.to_le_bytes());
    let checksum = crc32fast::hash(&record[8..]);
    record[..4].copy_from_slice(&length.to_le_bytes());
    record[4..8].copy_from_slice(&checksum.to_le_bytes());
    Ok(record)
}

/// The first record and what follows it; nothing when it is not whole.
fn decode(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    let checksum = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let end = HEADER.checked_add(length)?;
    let content = bytes.get(8..end)?;
    if crc32fast::hash(content) != checksum {
        return None;
    }
    let (number, doubts) = content.split_first_chunk()?;
    let doubts = postcard::from_bytes(doubts).ok()?;
    Some(((u64::from_le_bytes(*number), doubts), &bytes[end..]))
}

#[cfg(test)]
mod tests;
