//! LISTs: by pages of one revision, probes, and exact reads of the past.

use std::sync::Arc;

use super::Inner;
use super::answer::{Answer, Question, status, whole};
use crate::etcd::{KINDS, Version};
use crate::trace::Fault;

// === impl Inner ===

impl Inner {
    /// Answers a LIST: of the present; of a past revision, until etcd is compacted; or the next page of one.
    pub(super) fn list(&mut self, question: &Question) -> Answer {
        let exact = question.get("resourceVersionMatch") == Some("Exact");
        let (revision, offset) = match question.get("continue").and_then(|token| token.split_once('.')) {
            Some((revision, offset)) => (revision.parse().unwrap(), offset.parse().unwrap()),
            None if exact => (question.number("resourceVersion").unwrap_or_default(), 0),
            None => (self.etcd.revision, 0),
        };
        if revision > self.etcd.revision {
            if exact {
                return status(504, "Timeout", "Too large resource version");
            }
            // The token is of a history that there is no more.
            return status(410, "Expired", "the provided continue parameter is too old");
        }
        if exact && revision >= self.etcd.compacted && self.rng.f64() < self.weather.rate / 4.0 {
            // Etcd is compacted just now, behind what is asked or before it.
            self.compact();
        }
        // The server may well have compacted more than was said here.
        let forgotten = offset > 0 && self.rng.f64() < self.weather.rate / 4.0;
        if revision < self.etcd.compacted || forgotten {
            if offset > 0 {
                self.trace.fault(Fault::ContinueExpired, String::new);
            }
            return status(410, "Expired", "the resourceVersion is too old");
        }
        let limit = question.number("limit").map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
        if limit > 1 && offset == 0 && !exact {
            self.caches[question.kind].shown.snapshot(revision, false);
        }
        let name = question.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
        let objects = self.etcd.at(question.kind, revision);
        let wanted = |object: &&Arc<Version>| {
            question.namespace.as_deref().is_none_or(|namespace| namespace == object.namespace)
                && name.is_none_or(|name| name == object.name)
        };
        let mut rest = objects.values().filter(wanted).skip(offset).peekable();
        let mut items = Vec::new();
        while items.len() < limit
            && let Some(object) = rest.next()
        {
            items.push(String::from_utf8_lossy(&object.text).into_owned());
        }
        let next = match rest.peek() {
            Some(_) => format!(",\"continue\":\"{revision}.{}\"", offset + items.len()),
            None => String::new(),
        };
        let (kind, items) = (&KINDS[question.kind], items.join(","));
        let text = format!(
            "{{\"apiVersion\":\"{}/v1\",\"items\":[{items}],\"kind\":\"{}List\",\
             \"metadata\":{{\"resourceVersion\":\"{revision}\"{next}}}}}",
            kind.group, kind.name
        );
        if self.strikes() {
            self.trace.fault(Fault::TornList, String::new);
            let after = self.rng.usize(0..text.len());
            return Answer::Torn { text, after };
        }
        whole(text)
    }
}
