//! What is said of a Subscription as Kubernetes Events (`kubectl describe`): what its consumers, or who runs the bridge,
//! should hear of once. Each is sent when it begins or ends, never again while it lasts.
//!
//! Before: bridge/src/status.rs

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};
use tidings_core::route::Kind;

use crate::pipeline::{Report, SourceReport};
use crate::status::not_stored;
use tidings_config::chain::chain;

/// History was lost; the net difference was sent in its place.
pub(crate) const HISTORY_LOST: &str = "HistoryLost";
/// The state cannot be stored.
pub(crate) const STATE_NOT_STORED: &str = tidings_crds::conditions::STATE_NOT_STORED;
/// The state can be stored again.
pub(crate) const STATE_STORED: &str = "StateStored";
/// What was decided was not delivered before nobody was left to deliver it to.
pub(crate) const NOT_DELIVERED: &str = "NotDelivered";

/// Who sends them.
const CONTROLLER: &str = "tidings.dev/bridge";
/// What the API server takes as a note, in bytes.
const MAX_NOTE: usize = 1024;

/// What was said of one Subscription, and what is still to be said.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    /// When the Subscription was made, in Unix seconds: what was lost before is none of its business.
    since: u64,
    /// Gaps that were said, per kind.
    gaps: BTreeMap<Kind, u64>,
    /// It was said that the state cannot be stored.
    not_stored: bool,
    /// By reason: what is not sent yet is said with its latest words.
    waiting: BTreeMap<&'static str, Notice>,
}

/// A Kubernetes Event to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    reason: &'static str,
    note: String,
}

/// Sends Kubernetes Events.
pub(crate) struct Announcer {
    recorder: Recorder,
}

// === impl Announced ===

impl Announced {
    /// Nothing was said yet of a Subscription that was made at `since`, in Unix seconds.
    pub(crate) fn new(since: u64) -> Self {
        Self { since, ..Self::default() }
    }

    /// Takes note of what began and what ended since the last time.
    pub(crate) fn note(&mut self, report: &Report) {
        for source in &report.watches {
            if let Some(notice) = self.gap(source) {
                self.waiting.insert(notice.reason, notice);
            }
        }
        let trouble = report.watches.iter().find_map(|source| source.watch.store.as_deref());
        let notice = match (self.not_stored, trouble) {
            (false, Some(trouble)) => Notice { reason: STATE_NOT_STORED, note: not_stored(trouble) },
            (true, None) => Notice { reason: STATE_STORED, note: "the state is stored again".to_owned() },
            _ => return,
        };
        self.not_stored = trouble.is_some();
        self.waiting.insert(notice.reason, notice);
    }

    /// Takes note that `left` Changes were given up because of `why`.
    pub(crate) fn leave(&mut self, left: u64, why: &str) {
        let note = format!("{left} changes were not delivered: {why}");
        self.waiting.insert(NOT_DELIVERED, Notice { reason: NOT_DELIVERED, note });
    }

    /// The gaps of this source that were not said.
    fn gap(&mut self, source: &SourceReport) -> Option<Notice> {
        let SourceReport { kind, watch, .. } = source;
        let (since, at) = watch.last_gap?;
        let said = self.gaps.insert(kind.clone(), watch.gaps).unwrap_or_default();
        let new = watch.gaps.saturating_sub(said);
        let resource = watch.resource.as_ref().map_or_else(|| kind.to_string(), ToString::to_string);
        (new > 0 && at >= self.since).then(|| Notice {
            reason: HISTORY_LOST,
            note: format!(
                "the history of {resource} after resourceVersion {since} was gone, and what could be found of it was \
                 sent with the gap marked; gaps since the bridge started: {}",
                watch.gaps
            ),
        })
    }
}

// === impl Announcer ===

impl Announcer {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { recorder: Recorder::new(client, CONTROLLER.into()) }
    }

    /// Sends what waits. What the API server does not take now is tried again with the next call; what it refuses is
    /// given up, because status and metrics say it too.
    pub(crate) async fn send(&self, announced: &mut Announced, regarding: &ObjectReference) {
        for (reason, notice) in std::mem::take(&mut announced.waiting) {
            let Err(error) = self.recorder.publish(&notice.event(), regarding).await else { continue };
            let subscription = regarding.name.as_deref();
            let refused = matches!(&error, kube::Error::Api(answer) if (400..500).contains(&answer.code));
            tracing::warn!(
                subscription,
                reason,
                error = chain(&error),
                refused,
                help = "the bridge needs create and patch on events.events.k8s.io",
                "unable to send a Kubernetes Event"
            );
            if !refused {
                announced.waiting.insert(reason, notice);
            }
        }
    }
}

// === impl Notice ===

impl Notice {
    fn event(&self) -> Event {
        let (type_, action) = match self.reason {
            HISTORY_LOST => (EventType::Warning, "Reconcile"),
            STATE_STORED => (EventType::Normal, "Store"),
            NOT_DELIVERED => (EventType::Warning, "Remove"),
            _ => (EventType::Warning, "Store"),
        };
        let end = self.note.floor_char_boundary(MAX_NOTE);
        let (reason, note) = (self.reason.to_owned(), Some(self.note[..end].to_owned()));
        Event { type_, reason, note, action: action.to_owned(), secondary: None }
    }
}

#[cfg(test)]
mod tests;
