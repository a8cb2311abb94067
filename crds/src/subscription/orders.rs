//! What a person orders for what is blocked, as annotations of a Subscription: whoever may edit it may order.
//!
//! Orders are kept where everybody sees them, and a bridge that starts again knows them: what is to be skipped is named by
//! the `id` of its Event, so that nothing else is ever skipped by it.

use std::collections::BTreeMap;

/// To try what is blocked again: any text, which is another one for each order, and then, if only one object is meant, a
/// space and its `namespace/name`.
pub const RETRY: &str = "tidings.dev/retry";
/// To leave out Events that are refused: their ids, separated by commas.
pub const SKIP: &str = "tidings.dev/skip";

/// The most ids that are kept: older ones were skipped long ago.
pub const MAX_SKIP: usize = 100;

/// The order to try again: what tells it from others, and which object.
pub fn retry(annotations: &BTreeMap<String, String>) -> Option<(&str, Option<&str>)> {
    let order = annotations.get(RETRY)?.trim();
    Some(match order.split_once(' ') {
        Some((token, key)) => (token, Some(key.trim())),
        None => (order, None),
    })
}

/// The ids of Events that are to be left out, in the order in which they were given.
pub fn skip(annotations: &BTreeMap<String, String>) -> Vec<&str> {
    let ids = annotations.get(SKIP).map_or("", String::as_str);
    ids.split(',').map(str::trim).filter(|id| !id.is_empty()).collect()
}

/// [`SKIP`] with one more id.
pub fn skip_also(annotations: &BTreeMap<String, String>, id: &str) -> String {
    let mut ids = skip(annotations);
    ids.retain(|known| *known != id);
    ids.push(id);
    ids[ids.len().saturating_sub(MAX_SKIP)..].join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_retry_is_for_everything_or_for_one_object() {
        assert_eq!(retry(&annotations("other", "x")), None);
        assert_eq!(retry(&annotations(RETRY, "now")), Some(("now", None)));
        assert_eq!(retry(&annotations(RETRY, "now shop/milk ")), Some(("now", Some("shop/milk"))));
    }

    #[test]
    fn the_newest_ids_are_kept() {
        let mut order = BTreeMap::new();
        for number in 0..MAX_SKIP + 5 {
            order.insert(SKIP.to_owned(), skip_also(&order, &format!("u.{number}")));
        }
        assert_eq!(skip(&order).len(), MAX_SKIP);
        assert_eq!((skip(&order)[0], skip(&order)[MAX_SKIP - 1]), ("u.5", "u.104"));
        assert_eq!(skip(&annotations(SKIP, " a, b,,")), ["a", "b"]);
        assert_eq!(skip_also(&annotations(SKIP, "a,b"), "a"), "b,a");
    }
}
