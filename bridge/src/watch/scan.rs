//! Reads an object's metadata from the prefix of its JSON and cuts out what is not forwarded, without
//! building a DOM: everything behind the metadata is copied as it is.
//!
//! The API server writes keys sorted (custom resources) or in the order of the Go type (built-in ones), so
//! `metadata` comes before `spec` and `status` either way. What the scanner does not understand is left to a
//! full parse, which gives the same answer, only slower; a property test holds the two against each other.
//!
//! Before: bridge/src/watch/line.rs
//! Next: bridge/src/watch/decode.rs

use std::ops::Range;

use tidings_core::object::{Meta, NotComparable, Object, ObjectKey, ResourceVersion, Uid};
use tidings_core::selection::Labels;

use super::cursor::{Cursor, Unexpected};

/// The annotation in which `kubectl apply` keeps a copy of the object: noise, and a place where secrets leak.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The annotation that carries a trace to the Event (W3C Trace Context).
pub(super) const TRACEPARENT: &str = "traceparent";

/// What list items of built-in kinds leave out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TypeMeta {
    /// `group/version`.
    pub(super) api_version: String,
    /// The kind.
    pub(super) kind: String,
}

/// Why an object could not be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It is not the JSON of an object.
    #[error("the object is not valid JSON")]
    Json(#[from] serde_json::Error),
    /// A field that every object has is missing or of another type.
    #[error("metadata.{0} is missing or of another type")]
    Field(&'static str),
    /// The version has no order.
    #[error(transparent)]
    NotComparable(#[from] NotComparable),
}

/// The metadata as it was found, and the parts of the text that are not forwarded.
#[derive(Default)]
struct Found<'a> {
    name: Option<&'a str>,
    namespace: Option<&'a str>,
    uid: Option<&'a str>,
    resource_version: Option<&'a str>,
    generation: Option<u64>,
    created: Option<&'a str>,
    modified: Option<&'a str>,
    deleted: Option<&'a str>,
    traceparent: Option<&'a str>,
    labels: Option<&'a str>,
    cuts: Vec<Range<usize>>,
    has_type: bool,
}

/// Reads the object in `text`. `type_meta` is written into it where it has none.
pub(super) fn scan(text: &[u8], type_meta: &TypeMeta) -> Result<Object, Error> {
    match find(text) {
        Ok(found) if found.is_plain() => {
            let meta = found.meta()?;
            Ok(Object { meta, body: found.body(text, type_meta).into() })
        }
        _ => super::full::parse(text, type_meta),
    }
}

/// Reads as much metadata as the beginning of an object gives: for objects that are cut off.
pub(super) fn scan_prefix(text: &[u8]) -> Option<Meta> {
    find(text).ok()?.meta().ok()
}

/// Walks the top-level keys up to the end of `metadata`.
fn find(text: &[u8]) -> Result<Found<'_>, Unexpected> {
    let mut found = Found::default();
    let mut cursor = Cursor::new(text);
    cursor.expect(b'{')?;
    let (mut api_version, mut kind) = (false, false);
    loop {
        match cursor.key()? {
            "metadata" => break,
            key => {
                api_version |= key == "apiVersion";
                kind |= key == "kind";
                cursor.skip_value()?;
            }
        }
        cursor.expect(b',')?;
    }
    found.has_type = api_version && kind;
    found.read_metadata(&mut cursor)?;
    Ok(found)
}

// === impl Found ===

impl<'a> Found<'a> {
    fn read_metadata(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Unexpected> {
        cursor.members(|cursor, member| {
            match member.key {
                "name" => self.name = Some(cursor.text()?),
                "namespace" => self.namespace = Some(cursor.text()?),
                "uid" => self.uid = Some(cursor.text()?),
                "resourceVersion" => self.resource_version = Some(cursor.text()?),
                "creationTimestamp" => self.created = cursor.text_or_null()?,
                "deletionTimestamp" => self.deleted = cursor.text_or_null()?,
                "labels" => self.labels = Some(cursor.raw_value()?),
                "generation" => self.generation = Some(cursor.number()?),
                "annotations" if self.read_annotations(cursor)? => {
                    self.cuts.push(member.range_to(cursor));
                }
                "annotations" => {}
                "managedFields" => {
                    self.read_managed_fields(cursor)?;
                    self.cuts.push(member.range_to(cursor));
                }
                _ => cursor.skip_value()?,
            }
            Ok(())
        })
    }

    /// True when nothing is left of the annotations, so that they go as a whole.
    fn read_annotations(&mut self, cursor: &mut Cursor<'a>) -> Result<bool, Unexpected> {
        let (mut count, mut cut) = (0, None);
        cursor.members(|cursor, member| {
            count += 1;
            match member.key {
                LAST_APPLIED => {
                    cursor.skip_value()?;
                    cut = Some(member.range_to(cursor));
                }
                TRACEPARENT => self.traceparent = Some(cursor.text()?),
                _ => cursor.skip_value()?,
            }
            Ok(())
        })?;
        if count == 1 {
            return Ok(cut.is_some());
        }
        self.cuts.extend(cut);
        Ok(false)
    }

    fn read_managed_fields(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Unexpected> {
        cursor.elements(|cursor| {
            cursor.members(|cursor, member| {
                if member.key == "time" {
                    // All times are UTC in the same form, so that text order is time order.
                    self.modified = self.modified.max(cursor.text_or_null()?);
                    Ok(())
                } else {
                    cursor.skip_value()
                }
            })
        })
    }

    /// Cuts that touch would need care about who owns the comma between them; a full parse needs none.
    fn is_plain(&self) -> bool {
        self.cuts.windows(2).all(|pair| pair[0].end < pair[1].start)
    }

    fn meta(&self) -> Result<Meta, Error> {
        let name = self.name.ok_or(Error::Field("name"))?;
        Ok(Meta {
            key: ObjectKey::new(self.namespace, name),
            uid: Uid::new(self.uid.ok_or(Error::Field("uid"))?),
            resource_version: self
                .resource_version
                .ok_or(Error::Field("resourceVersion"))?
                .parse::<ResourceVersion>()?,
            generation: self.generation,
            created: self.created.map(Into::into),
            modified: self.modified.map(Into::into),
            deleted: self.deleted.map(Into::into),
            traceparent: self.traceparent.map(Into::into),
            labels: self.labels.map(Labels::from_json).unwrap_or_default(),
        })
    }

    fn body(&self, text: &[u8], type_meta: &TypeMeta) -> Vec<u8> {
        let types = if self.has_type { String::new() } else { format!("{{{},", type_meta.to_json()) };
        let mut from = usize::from(!self.has_type);
        let cut: usize = self.cuts.iter().map(Range::len).sum();
        // Exactly what it takes: it may wait in the Journal for long, which counts its length.
        let mut body = Vec::with_capacity(types.len() + text.len() - from - cut);
        body.extend_from_slice(types.as_bytes());
        for cut in &self.cuts {
            body.extend_from_slice(&text[from..cut.start]);
            from = cut.end;
        }
        body.extend_from_slice(&text[from..]);
        body
    }
}

// === impl TypeMeta ===

impl TypeMeta {
    /// The two members, without braces. Neither has a character that JSON would escape.
    fn to_json(&self) -> String {
        format!(r#""apiVersion":"{}","kind":"{}""#, self.api_version, self.kind)
    }
}

#[cfg(test)]
#[path = "scan/tests.rs"]
mod tests;
