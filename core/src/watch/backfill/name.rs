//! One name that waits: what was seen of it, and the stretches of its history that are still to be searched.
//!
//! Whatever a snapshot or the stream showed of a name is kept until it is told, also when history is lost once more: what
//! is lost is one more stretch, which begins at what was seen last.

use std::sync::Arc;

use super::search::{Answer, Moment, Question, Search};
use crate::object::{Object, ResourceVersion, Uid};

/// Which life, in which version.
pub(super) type Life = (Uid, ResourceVersion);

/// A name that waits.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// The oldest first; there is one at least.
    stretches: Vec<Stretch>,
    /// What is under the name after all of that.
    life: Option<Life>,
    /// Nothing that is not later is news.
    newest: ResourceVersion,
    /// The snapshot attempt that showed it last.
    seen: u32,
    bytes: usize,
    /// An answer is under way.
    pub(super) asking: bool,
}

/// A stretch of history that could not be read, and what came after it.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) search: Search,
    pub(super) held: Vec<Moment>,
}

// === impl Name ===

impl Name {
    /// A name under which `life` is known at `newest`, or nothing is.
    pub(super) fn new(life: Option<Life>, newest: ResourceVersion) -> Self {
        Self { stretches: Vec::new(), life, newest, seen: 0, bytes: 0, asking: false }
    }

    /// A snapshot shows it, and everything up to `position` came in before.
    pub(super) fn show(&mut self, object: &Arc<Object>, position: ResourceVersion, seen: u32) {
        let meta = &object.meta;
        let search = Search::of_present(self.life.take(), position.max(self.newest), object);
        self.stretches.push(Stretch { search, held: Vec::new() });
        self.life = Some((meta.uid.clone(), meta.resource_version));
        (self.newest, self.seen) = (meta.resource_version, seen);
        self.bytes += object.size();
    }

    /// A complete snapshot of `until` does not show it, and everything up to `position` came in before.
    pub(super) fn miss(&mut self, position: ResourceVersion, until: ResourceVersion) {
        let floor = position.max(self.newest);
        if let Some(life) = self.life.take() {
            self.stretches.push(Stretch { search: Search::of_gone(life, floor, until), held: Vec::new() });
        }
        self.newest = until;
    }

    /// Somebody was told of this by a LIST.
    pub(super) fn pass(&mut self, life: Life, position: ResourceVersion) {
        let search = Search::of_told(self.life.take(), position.max(self.newest), &life);
        self.stretches.push(Stretch { search, held: Vec::new() });
        self.newest = life.1;
        self.life = Some(life);
    }

    /// The stream brings what comes next.
    pub(super) fn hold(&mut self, moment: Moment) {
        let meta = &moment.object().meta;
        self.newest = meta.resource_version;
        self.life = match &moment {
            Moment::Present(_) => Some((meta.uid.clone(), meta.resource_version)),
            Moment::Deleted(_) => None,
        };
        self.bytes += moment.object().size();
        if let Some(stretch) = self.stretches.last_mut() {
            stretch.held.push(moment);
        }
    }

    /// A snapshot shows it as it was seen last.
    pub(super) fn see(&mut self, seen: u32) {
        self.seen = seen;
    }

    /// What is under the name, as far as it was seen.
    pub(super) fn life(&self) -> Option<&Life> {
        self.life.as_ref()
    }

    pub(super) fn newest(&self) -> ResourceVersion {
        self.newest
    }

    pub(super) fn seen(&self) -> u32 {
        self.seen
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is to be asked next: of the oldest stretch first, because the server forgets that one first.
    pub(super) fn question(&self) -> Option<Question> {
        self.stretches.iter().find_map(|stretch| stretch.search.question())
    }

    /// Takes in the answer to that question.
    pub(super) fn answer(&mut self, answer: Answer) {
        self.bytes += answer.size();
        if let Some(stretch) = self.stretches.iter_mut().find(|stretch| stretch.search.question().is_some()) {
            stretch.search = stretch.search.clone().answer(answer);
        }
    }

    pub(super) fn into_stretches(self) -> Vec<Stretch> {
        self.stretches
    }
}
