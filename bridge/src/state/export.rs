//! The state as JSON, one object a line, for people and for whatever else is to be made of it.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::value::RawValue;
use tidings_core::change::{Change, Content};
use tidings_core::known::{Entry, Slot};
use tidings_core::object::{Meta, ObjectKey, ResourceVersion, Uid};
use tidings_core::watch::saved::Told;

use super::inspect::StateReader;
use super::record::{JournalRecord, Recipient, WatchName, WatchRecord};

/// One line.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    /// What is said once.
    State { schema: u32, cluster: Option<String> },
    /// A Watch; without a record when that cannot be read.
    Watch { watch: &'a WatchName, record: Option<&'a WatchRecord> },
    /// An object that is known.
    Known { watch: &'a WatchName, key: &'a ObjectKey, entry: &'a Entry },
    /// What one Subscription was told of an object.
    View { watch: &'a WatchName, slot: Slot, key: &'a ObjectKey, told: &'a Told },
    /// A Change that somebody has not settled.
    Change(ChangeLine<'a>),
    /// What cannot be read.
    Damage { problem: &'a str },
}

/// A Change with its object as JSON instead of bytes.
#[derive(Serialize)]
struct ChangeLine<'a> {
    watch: &'a WatchName,
    number: u64,
    change: &'static str,
    reason: &'static str,
    epoch: u64,
    gap: bool,
    key: &'a ObjectKey,
    uid: &'a Uid,
    version: ResourceVersion,
    meta: Option<&'a Meta>,
    to: &'a [Recipient],
    before: Option<ResourceVersion>,
    decided: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
}

/// Writes everything that can be read, with the objects themselves only where `bodies` are wanted; they may hold what
/// not everybody is to see.
pub fn export(reader: &mut StateReader, bodies: bool, output: &mut dyn Write) -> io::Result<()> {
    let cluster = reader.cluster();
    write(output, &Line::State { schema: reader.schema(), cluster })?;
    for contents in reader.watches() {
        let watch = &contents.name;
        write(output, &Line::Watch { watch, record: contents.record.as_ref() })?;
        let saved = reader.saved(&contents);
        for (key, entry) in &saved.known {
            write(output, &Line::Known { watch, key, entry })?;
        }
        for (slot, key, told) in &saved.views {
            write(output, &Line::View { watch, slot: *slot, key, told })?;
        }
        for chunk in reader.chunks(&contents) {
            for entry in reader.entries(&contents, chunk.chunk) {
                write(output, &Line::Change(ChangeLine::of(watch, &entry, bodies)))?;
            }
        }
    }
    for problem in reader.damage() {
        write(output, &Line::Damage { problem })?;
    }
    output.flush()
}

// === impl ChangeLine ===

impl<'a> ChangeLine<'a> {
    fn of(watch: &'a WatchName, entry: &'a JournalRecord, bodies: bool) -> Self {
        let JournalRecord { number, change, to, before, decided } = entry;
        Self {
            watch,
            number: *number,
            change: change.kind.as_str(),
            reason: change.reason.as_str(),
            epoch: change.epoch.0,
            gap: change.gap,
            key: change.key(),
            uid: change.uid(),
            version: change.resource_version(),
            meta: change.meta(),
            to,
            before: *before,
            decided: *decided,
            body: if bodies { body(change) } else { None },
        }
    }
}

/// What is no JSON, which no API server sends, is left out.
fn body(change: &Change) -> Option<Box<RawValue>> {
    let Content::Object(object) = &change.content else { return None };
    RawValue::from_string(String::from_utf8(object.body.to_vec()).ok()?).ok()
}

fn write(output: &mut dyn Write, line: &Line<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *output, line)?;
    output.write_all(b"\n")
}
