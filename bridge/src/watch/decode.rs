//! One line of a watch, or one page of a LIST, as the core's Input.
//!
//! Before: bridge/src/watch/scan.rs
//! Next: core/src/watch.rs

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_core::object::ResourceVersion;
use tidings_core::watch::Input;

use super::line::Line;
use super::request::{Status, Trouble};
use super::scan::{self, TypeMeta};

/// Marks the bookmark after the last object of the initial state.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What a line says.
#[derive(Debug)]
pub(super) enum Decoded {
    /// Something for the core.
    Input(Input),
    /// The same, but what came could not be decoded; why is said for people.
    Undecodable(Input, String),
    /// A bookmark after the last object of the initial state.
    InitialEventsEnd(ResourceVersion),
    /// The server gives up this stream.
    Trouble(Trouble),
    /// An empty line, or a type of event that a later Kubernetes may have.
    Nothing,
}

/// A page of a LIST.
pub(super) struct Page {
    /// The version of the whole LIST.
    pub(super) version: ResourceVersion,
    /// Where the next page begins, unless this is the last.
    pub(super) next: Option<String>,
    /// Its objects, or why one could not be decoded.
    pub(super) items: Vec<Decoded>,
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct RawBookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawList<'a> {
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue", default)]
    next: String,
}

/// Reads one line of a watch.
pub(super) fn line(line: Line<'_>, type_meta: &TypeMeta) -> Decoded {
    match line {
        Line::Whole([]) => Decoded::Nothing,
        Line::Whole(text) => event(text, type_meta),
        Line::TooLong { prefix, length } => {
            let (event_type, object) = match split_event(prefix) {
                Some((event_type, object)) => (event_type, Some(object)),
                None => ("", None),
            };
            let meta = object.and_then(scan::scan_prefix);
            let input = Input::Undecodable { meta, deleted: event_type == "DELETED" };
            Decoded::Undecodable(input, format!("the object has {length} bytes, more than maxObjectBytes"))
        }
    }
}

/// Reads a page of a LIST.
pub(super) fn page(text: &[u8], type_meta: &TypeMeta) -> Result<Page, scan::Error> {
    page_with(text, type_meta, Cow::Borrowed)
}

/// The same, of which each object is read as `change` makes it.
pub(super) fn page_with<'a>(
    text: &'a [u8],
    type_meta: &TypeMeta,
    change: impl Fn(&'a [u8]) -> Cow<'a, [u8]>,
) -> Result<Page, scan::Error> {
    let list: RawList<'_> = serde_json::from_slice(text)?;
    let items = list.items.unwrap_or_default();
    Ok(Page {
        version: list.metadata.resource_version.parse::<ResourceVersion>()?,
        next: Some(list.metadata.next).filter(|next| !next.is_empty()),
        items: items
            .into_iter()
            .map(|item| object(&change(item.get().as_bytes()), false, type_meta))
            .collect(),
    })
}

fn event(text: &[u8], type_meta: &TypeMeta) -> Decoded {
    if let Some((event_type, object)) = split_event(text)
        && let Some(object) = object.strip_suffix(b"}")
    {
        return decode(event_type, object, type_meta);
    }
    match serde_json::from_slice::<RawEvent<'_>>(text) {
        Ok(event) => decode(event.event_type, event.object.get().as_bytes(), type_meta),
        Err(error) => {
            Decoded::Undecodable(Input::Undecodable { meta: None, deleted: false }, error.to_string())
        }
    }
}

/// The type and the beginning of the object, where they are written as the API server does.
fn split_event(text: &[u8]) -> Option<(&str, &[u8])> {
    let rest = text.strip_prefix(br#"{"type":""#)?;
    let end = memchr::memchr(b'"', rest.get(..32.min(rest.len()))?)?;
    let object = rest[end..].strip_prefix(br#"","object":"#)?;
    Some((std::str::from_utf8(&rest[..end]).ok()?, object))
}

fn decode(event_type: &str, text: &[u8], type_meta: &TypeMeta) -> Decoded {
    match event_type {
        "ADDED" | "MODIFIED" => object(text, false, type_meta),
        "DELETED" => object(text, true, type_meta),
        "BOOKMARK" => bookmark(text),
        "ERROR" => Decoded::Trouble(match serde_json::from_slice::<Status>(text) {
            Ok(status) => status.into_trouble(None),
            Err(_) => Trouble::Broken { reason: "the server sent an error without a status".into() },
        }),
        _ => Decoded::Nothing,
    }
}

fn object(text: &[u8], deleted: bool, type_meta: &TypeMeta) -> Decoded {
    match scan::scan(text, type_meta) {
        Ok(object) if deleted => Decoded::Input(Input::Deleted(Arc::new(object))),
        Ok(object) => Decoded::Input(Input::Present(Arc::new(object))),
        Err(error) => {
            let meta = scan::scan_prefix(text);
            Decoded::Undecodable(Input::Undecodable { meta, deleted }, error.to_string())
        }
    }
}

fn bookmark(text: &[u8]) -> Decoded {
    let Ok(RawBookmark { metadata }) = serde_json::from_slice(text) else { return Decoded::Nothing };
    let Ok(version) = metadata.resource_version.parse() else { return Decoded::Nothing };
    if metadata.annotations.get(INITIAL_EVENTS_END).is_some_and(|value| value == "true") {
        Decoded::InitialEventsEnd(version)
    } else {
        Decoded::Input(Input::Bookmark(version))
    }
}

impl Status {
    /// What this answer means for the Watch. `retry_after` is the header, where there was one.
    pub(super) fn into_trouble(self, retry_after: Option<Duration>) -> Trouble {
        let reason = if self.message.is_empty() { self.reason.clone() } else { self.message };
        let after = retry_after.or(self.details.and_then(|d| d.retry_after_seconds).map(Duration::from_secs));
        match self.code {
            410 => Trouble::Expired,
            404 => Trouble::NotFound { reason },
            401 | 403 => Trouble::Forbidden { reason },
            400 | 422 => Trouble::Refused { reason },
            // The future version is the caller's to notice: a probe comes first.
            _ => Trouble::Unavailable { reason, after },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn todo_type() -> TypeMeta {
        TypeMeta { api_version: "k8sasbackend.com/v1".into(), kind: "Todo".into() }
    }

    fn whole(text: &str) -> Decoded {
        line(Line::Whole(text.as_bytes()), &todo_type())
    }

    const OBJECT: &str =
        r#"{"apiVersion":"v1","kind":"X","metadata":{"name":"n","resourceVersion":"7","uid":"u"},"spec":{}}"#;

    #[test]
    fn each_type_of_event_is_known() {
        let Decoded::Input(Input::Present(object)) =
            whole(&format!(r#"{{"type":"ADDED","object":{OBJECT}}}"#))
        else {
            panic!("not an object")
        };
        assert_eq!(object.body, OBJECT);
        assert!(matches!(
            whole(&format!(r#"{{"type":"DELETED","object":{OBJECT}}}"#)),
            Decoded::Input(Input::Deleted(_))
        ));
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"X","metadata":{"resourceVersion":"9"}}}"#;
        assert!(matches!(whole(bookmark), Decoded::Input(Input::Bookmark(ResourceVersion(9)))));
        let end = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        assert!(matches!(whole(end), Decoded::InitialEventsEnd(ResourceVersion(9))));
        assert!(matches!(whole(r#"{"type":"FUTURE","object":{}}"#), Decoded::Nothing));
        assert!(matches!(whole(""), Decoded::Nothing));
    }

    #[test]
    fn expired_comes_as_an_event_in_a_good_answer() {
        let error = r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","code":410,"message":"too old"}}"#;
        assert!(matches!(whole(error), Decoded::Trouble(Trouble::Expired)));
    }

    #[test]
    fn the_order_of_type_and_object_does_not_matter() {
        let Decoded::Input(Input::Deleted(object)) =
            whole(&format!(r#"{{ "object":{OBJECT}, "type":"DELETED" }}"#))
        else {
            panic!("not a deletion")
        };
        assert_eq!(object.body, OBJECT);
    }

    #[test]
    fn an_undecodable_object_is_named_as_far_as_it_can_be() {
        let broken =
            r#"{"type":"DELETED","object":{"metadata":{"name":"n","resourceVersion":"x7","uid":"u"}}}"#;
        let Decoded::Undecodable(Input::Undecodable { meta: None, deleted: true }, why) = whole(broken)
        else {
            panic!("it was decoded")
        };
        assert!(why.contains("is not a number"), "{why}");
        let prefix = format!(r#"{{"type":"MODIFIED","object":{}"#, &OBJECT[..95]);
        let too_long = Line::TooLong { prefix: prefix.as_bytes(), length: 9 };
        let Decoded::Undecodable(Input::Undecodable { meta: Some(meta), deleted: false }, _) =
            line(too_long, &todo_type())
        else {
            panic!("not named")
        };
        assert_eq!(meta.key.as_str(), "n");
        assert!(matches!(whole("{\"type\":\"ADD"), Decoded::Undecodable(..)));
    }

    #[test]
    fn a_page_has_a_version_items_and_a_next_one() {
        let text = format!(
            r#"{{"apiVersion":"v1","items":[{OBJECT},{{"no":"metadata"}}],"kind":"XList","metadata":{{"continue":"abc","resourceVersion":"12"}}}}"#
        );
        let page = page(text.as_bytes(), &todo_type()).unwrap();
        assert_eq!((page.version, page.next.as_deref()), (ResourceVersion(12), Some("abc")));
        assert!(matches!(page.items[0], Decoded::Input(Input::Present(_))));
        assert!(matches!(page.items[1], Decoded::Undecodable(..)));
        let empty = br#"{"items":null,"metadata":{"resourceVersion":"12"}}"#;
        assert!(super::page(empty, &todo_type()).unwrap().items.is_empty());
    }
}
