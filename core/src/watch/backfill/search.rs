//! What became of one name in a gap, found by asking what it was at single versions, from the newest back.
//!
//! A version is walked back from by asking for the moment before it. Where the name was absent, its life began; where
//! an earlier life is known to have ended, the moment of that is bisected. Every answer that cannot be ends the search:
//! what was found until then still holds, and only what came before it is not known.

use std::sync::Arc;

use crate::object::{Object, ResourceVersion, Uid};

/// What the server says of a name at one version.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It was this object.
    Present(Arc<Object>),
    /// There was none.
    Absent,
    /// 410: the server does not know any more, of this version and of older ones.
    Compacted,
    /// There is no answer to be had.
    Failed,
}

/// One version of a name, or the end of a life with its last content and the version of the deletion.
#[derive(Clone, Debug)]
pub(super) enum Moment {
    Present(Arc<Object>),
    Deleted(Arc<Object>),
}

/// What is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) at: ResourceVersion,
    /// The answer is the last content of a life that ended at this version, and is to carry it.
    pub(super) died: Option<ResourceVersion>,
}

/// The search for one name.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// What was told: which life, in which version. It existed at `floor`; where there is none, nothing did.
    base: Option<(Uid, ResourceVersion)>,
    floor: ResourceVersion,
    /// The newest first.
    found: Vec<Moment>,
    /// By then it was gone, if that is all that is known.
    gone_by: Option<ResourceVersion>,
    step: Step,
}

/// What came of a search.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The oldest first.
    pub(super) moments: Vec<Moment>,
    /// Nothing is missing between what was told and the first of them.
    pub(super) whole: bool,
    /// It is gone since this version at the latest, if that is all that was found.
    pub(super) gone_by: Option<ResourceVersion>,
}

/// What is looked for.
#[derive(Clone, Debug)]
enum Step {
    /// What was before this version of this life. The version before that → `Walk`; nothing → `Bisect`, if an earlier
    /// life was told.
    Walk { uid: Uid, from: ResourceVersion },
    /// When a life ended: it was over at `until`, and was not at `since`, if that is known. Found → `Content`.
    Bisect { since: Since, until: ResourceVersion },
    /// The last content of a life that ended at `died`, as the watch would have shown it → `Walk`.
    Content { at: ResourceVersion, died: ResourceVersion, last: Option<Arc<Object>> },
    /// There is nothing more to be found.
    Over { whole: bool },
}

/// The lower end of a bisection.
#[derive(Clone, Debug)]
enum Since {
    /// What was told existed at the floor.
    Told(ResourceVersion),
    /// This existed there.
    Seen(ResourceVersion, Arc<Object>),
    /// Nobody knows any more what existed there.
    Forgotten(ResourceVersion),
}

// === impl Answer ===

impl Answer {
    /// What it takes to keep it, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Present(object) => object.size(),
            Self::Absent | Self::Compacted | Self::Failed => 0,
        }
    }
}

// === impl Search ===

impl Search {
    /// For a name that is `object` now.
    pub(super) fn of_present(
        base: Option<(Uid, ResourceVersion)>,
        floor: ResourceVersion,
        object: &Arc<Object>,
    ) -> Self {
        let step = Step::Walk { uid: object.meta.uid.clone(), from: object.meta.resource_version };
        let found = vec![Moment::Present(object.clone())];
        Self { base, floor, found, gone_by: None, step }.skip_ahead()
    }

    /// For a name that was this once, as somebody was told.
    pub(super) fn of_told(
        base: Option<(Uid, ResourceVersion)>,
        floor: ResourceVersion,
        (uid, version): &(Uid, ResourceVersion),
    ) -> Self {
        let step = Step::Walk { uid: uid.clone(), from: ResourceVersion(version.0 + 1) };
        Self { base, floor, found: Vec::new(), gone_by: None, step }.skip_ahead()
    }

    /// For a name under which this was told, and nothing is at `until`.
    pub(super) fn of_gone(
        base: (Uid, ResourceVersion),
        floor: ResourceVersion,
        until: ResourceVersion,
    ) -> Self {
        let step = Step::Bisect { since: Since::Told(floor), until };
        Self { base: Some(base), floor, found: Vec::new(), gone_by: Some(until), step }.skip_ahead()
    }

    /// What is to be asked next; nothing when the search is over.
    pub(super) fn question(&self) -> Option<Question> {
        match &self.step {
            Step::Walk { from, .. } => Some(Question { at: from.previous(), died: None }),
            Step::Bisect { since, until } => {
                let at = since.version().0.midpoint(until.0);
                Some(Question { at: ResourceVersion(at), died: None })
            }
            Step::Content { at, died, .. } => Some(Question { at: *at, died: Some(*died) }),
            Step::Over { .. } => None,
        }
    }

    /// Takes in the answer to the question.
    pub(super) fn answer(self, answer: Answer) -> Self {
        let Self { base, floor, mut found, mut gone_by, step } = self;
        let step = match (step, answer) {
            (Step::Walk { uid, from }, Answer::Present(object)) => {
                let version = object.meta.resource_version;
                if object.meta.uid != uid || version >= from {
                    Step::Over { whole: false }
                } else if version > floor {
                    found.push(Moment::Present(object));
                    Step::Walk { uid, from: version }
                } else {
                    Step::Over { whole: base.as_ref() == Some(&(uid, version)) }
                }
            }
            (Step::Walk { uid, from }, Answer::Absent) => match &base {
                // Unless it is not even what somebody was told.
                None => Step::Over { whole: !found.is_empty() },
                Some((told, _)) if *told == uid => Step::Over { whole: false },
                Some(_) => Step::Bisect { since: Since::Told(floor), until: from.previous() },
            },
            (Step::Bisect { since, until }, answer) => {
                let at = ResourceVersion(since.version().0.midpoint(until.0));
                match answer {
                    Answer::Present(object) if object.meta.resource_version <= at => {
                        Step::Bisect { since: Since::Seen(at, object), until }
                    }
                    Answer::Absent => {
                        gone_by = gone_by.map(|_| at);
                        Step::Bisect { since, until: at }
                    }
                    Answer::Compacted => Step::Bisect { since: Since::Forgotten(at), until },
                    Answer::Present(_) | Answer::Failed => Step::Over { whole: false },
                }
            }
            (Step::Content { last, .. }, Answer::Present(object)) => {
                let uid = object.meta.uid.clone();
                let ended = last.as_ref().map(|last| &last.meta.uid);
                if ended.or(base.as_ref().map(|(told, _)| told)) == Some(&uid) {
                    gone_by = None;
                    found.push(Moment::Deleted(object));
                    Self::before_end(base.as_ref(), floor, uid, last, &mut found)
                } else {
                    Step::Over { whole: false }
                }
            }
            (Step::Walk { .. } | Step::Content { .. } | Step::Over { .. }, _) => Step::Over { whole: false },
        };
        Self { base, floor, found, gone_by, step }.skip_ahead()
    }

    /// What to look for when the end of a life was found, which was last seen as `last`.
    fn before_end(
        base: Option<&(Uid, ResourceVersion)>,
        floor: ResourceVersion,
        uid: Uid,
        last: Option<Arc<Object>>,
        found: &mut Vec<Moment>,
    ) -> Step {
        let Some(last) = last else { return Step::Over { whole: true } };
        let from = last.meta.resource_version;
        if from > floor {
            found.push(Moment::Present(last));
            Step::Walk { uid, from }
        } else {
            Step::Over { whole: base == Some(&(uid, from)) }
        }
    }

    /// What was found until now.
    pub(super) fn finish(self) -> Outcome {
        let Self { found, gone_by, step, base: _, floor: _ } = self;
        let whole = matches!(step, Step::Over { whole: true });
        Outcome { moments: found.into_iter().rev().collect(), whole, gone_by }
    }

    /// Answers what is known without asking.
    fn skip_ahead(mut self) -> Self {
        self.step = match self.step {
            Step::Walk { uid, from } if from.previous() <= self.floor => {
                // At the floor is what was told; two lives cannot follow without a version between them.
                let whole = self.base.as_ref().is_none_or(|(told, _)| *told == uid);
                Step::Over { whole: whole && from > self.floor }
            }
            Step::Bisect { since, until } if until.0.saturating_sub(since.version().0) <= 1 => match since {
                Since::Told(at) => Step::Content { at, died: until, last: None },
                Since::Seen(at, last) => Step::Content { at, died: until, last: Some(last) },
                Since::Forgotten(_) => Step::Over { whole: false },
            },
            step => step,
        };
        self
    }
}

// === impl Since ===

impl Since {
    fn version(&self) -> ResourceVersion {
        match self {
            Self::Told(at) | Self::Seen(at, _) | Self::Forgotten(at) => *at,
        }
    }
}

// === impl Moment ===

impl Moment {
    pub(super) fn object(&self) -> &Arc<Object> {
        match self {
            Self::Present(object) | Self::Deleted(object) => object,
        }
    }
}
