//! The Todos that are replayed, and the lines that tell of them.

use std::fmt::Write;

use super::START;

/// Objects are padded from a text of at least this length, so that a compressor finds no object in another one.
const TEXT: usize = 1 << 20;
/// Different words in it.
const WORDS: usize = 4096;

/// So many Todos of one size, which change in turn.
pub(super) struct Todos {
    objects: u64,
    text: String,
    /// How much of the text is in an object.
    padding: usize,
}

// === impl Todos ===

impl Todos {
    /// `objects` of about `size` bytes.
    pub(super) fn new(objects: u64, size: usize) -> Self {
        let mut bare = String::new();
        write_object(&mut bare, 0, 1, START, "");
        let padding = size.saturating_sub(bare.len());
        Self { objects: objects.max(1), text: text(TEXT.max(padding * 2)), padding }
    }

    /// The line of the event at `index`. Written in one go: the server must not be what is measured.
    pub(super) fn event(&self, kind: &str, index: u64) -> String {
        let mut line = String::with_capacity(self.padding + 1024);
        line.push_str(r#"{"type":""#);
        line.push_str(kind);
        line.push_str(r#"","object":"#);
        self.write(&mut line, index);
        line.push_str("}\n");
        line
    }

    /// The object after the event at `index`.
    pub(super) fn object(&self, index: u64) -> String {
        let mut text = String::with_capacity(self.padding + 1024);
        self.write(&mut text, index);
        text
    }

    fn write(&self, text: &mut String, index: u64) {
        let (number, generation) = (index % self.objects, index / self.objects + 1);
        let version = START + index + 1;
        write_object(text, number, generation, version, self.padding(version));
    }

    /// Another piece of the text for each version.
    fn padding(&self, version: u64) -> &str {
        let room = (self.text.len() - self.padding) as u64;
        let from = usize::try_from(version.wrapping_mul(9973) % room.max(1)).unwrap_or_default();
        self.text.get(from..from + self.padding).unwrap_or_default()
    }
}

/// Words in a row, always the same: it compresses about as prose does.
fn text(length: usize) -> String {
    let mut random = fastrand::Rng::with_seed(1);
    let mut word = || -> String { (0..random.usize(2..10)).map(|_| random.lowercase()).collect() };
    let words: Vec<_> = (0..WORDS).map(|_| word()).collect();
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        // The smaller of two: some words are more frequent than others.
        let index = random.usize(0..WORDS).min(random.usize(0..WORDS));
        text.push_str(&words[index]);
        text.push(' ');
    }
    text
}

fn write_object(text: &mut String, number: u64, generation: u64, version: u64, padding: &str) {
    let written = write!(
        text,
        r#"{{"apiVersion":"k8sasbackend.com/v1","kind":"Todo","metadata":{{"creationTimestamp":"2026-01-01T00:00:00Z","generation":{generation},"labels":{{"app":"shop","tier":"gold"}},"managedFields":[{{"apiVersion":"k8sasbackend.com/v1","fieldsType":"FieldsV1","fieldsV1":{{"f:spec":{{".":{{}},"f:message":{{}},"f:when":{{}}}}}},"manager":"bench","operation":"Update","time":"2026-01-02T00:00:00Z"}}],"name":"todo-{number}","namespace":"bench","resourceVersion":"{version}","uid":"00000000-0000-4000-8000-{number:012x}"}},"spec":{{"message":""#
    );
    debug_assert!(written.is_ok(), "writing to a String does not fail");
    text.push_str(padding);
    text.push_str(r#"","when":"2026-12-24T18:00:00Z"}}"#);
}
