//! An Event as one line of text.
//!
//! Before: sinks/src/encode.rs
//! Next: sinks/src/stdout/client.rs

use bytes::Bytes;
use tidings_config::sink::stdout::StdoutFormat;
use tidings_core::change::ChangeKind;
use tidings_core::event::Event;

use crate::encode::structured;
use crate::message::{Headers, Message};

/// Turns Events into lines, each with its line break.
#[derive(Clone, Debug)]
pub struct StdoutEncoder {
    format: StdoutFormat,
    colour: bool,
}

// === impl StdoutEncoder ===

impl StdoutEncoder {
    /// `colour` marks the kind of Change with the escape codes of a terminal; only a summary has colours.
    pub fn new(format: StdoutFormat, colour: bool) -> Self {
        Self { format, colour }
    }

    /// The Message that tells `event`.
    pub fn encode(&self, event: &Event) -> Message {
        let body = match self.format {
            StdoutFormat::Summary => self.summary(event).into(),
            StdoutFormat::Json => line(&structured(event)),
            StdoutFormat::Object => line(&event.data),
        };
        Message {
            id: event.id.clone(),
            destination: String::new(),
            key: event.key.clone(),
            record_key: String::new(),
            tombstone: false,
            headers: Headers::default(),
            body,
        }
    }

    /// Columns: time, change, resource, object, reason, id, and what is missing before it.
    fn summary(&self, event: &Event) -> String {
        let resource = &event.context.resource;
        let (colour, end) = if self.colour { (colour(event.change), "\x1b[0m") } else { ("", "") };
        let (key, reason, id) = (&event.key, event.reason.as_str(), &event.id);
        let mut what = format!("{resource}  {key}  {reason}  {id}");
        match (event.gap, event.gap_missed) {
            (false, _) => {}
            (true, 0) => what.push_str("  gap"),
            (true, missed) => what += &format!("  gap of {missed}"),
        }
        // A name must not be able to steer the terminal.
        what.retain(|character| !character.is_control());
        let (time, change) = (event.time.as_deref().unwrap_or("-"), event.change.as_str());
        format!("{time:<20}  {colour}{change:<8}{end}  {what}\n")
    }
}

fn colour(change: ChangeKind) -> &'static str {
    match change {
        ChangeKind::Snapshot => "\x1b[36m",
        ChangeKind::Added => "\x1b[32m",
        ChangeKind::Updated => "\x1b[33m",
        ChangeKind::Deleted => "\x1b[31m",
        ChangeKind::Left => "\x1b[35m",
    }
}

/// Line breaks in JSON are white space between tokens, never inside a string, so they can be spaces.
fn line(json: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(json.len() + 1);
    line.extend_from_slice(json);
    while let Some(at) = memchr::memchr2(b'\n', b'\r', &line) {
        line[at] = b' ';
    }
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
#[path = "encode/tests.rs"]
mod tests;
