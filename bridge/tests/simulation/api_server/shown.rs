//! What the bridge was shown of one kind, as far as the server can tell: which stretches of history it may have
//! missed, and whether it gives up a position without need.

/// Per kind, for the present process.
#[derive(Default)]
pub(crate) struct Shown {
    /// Everything up to here went down a stream, or was asked to be skipped.
    edge: Option<u64>,
    /// Stretches (after, up to) of which only the present state was shown.
    gaps: Vec<(u64, u64)>,
    /// A stream could be resumed: nothing the server said takes the position away.
    resumable: bool,
    /// Streams in a row that ended without a line.
    empty: u32,
    /// The next snapshot may come without need: nobody follows the kind any more, so its Watch may end, and another one
    /// begin; or history went back.
    left: bool,
}

/// So many empty streams in a row are a reason to doubt a position.
const EMPTY_STREAMS: u32 = 5;

// === impl Shown ===

impl Shown {
    /// Another process begins, with this position, if it has one that it could go on from.
    pub(crate) fn restart(&mut self, position: Option<u64>) {
        self.edge = position.or(self.edge);
        self.resumable = false;
        self.empty = 0;
    }

    /// The last one who follows the kind leaves.
    pub(crate) fn left(&mut self) {
        self.left = true;
    }

    /// A stream after `revision` begins.
    pub(super) fn resumed(&mut self, revision: u64) {
        self.edge = Some(revision);
        self.resumable = true;
    }

    /// The position cannot be used any more: 410, 404.
    pub(super) fn lost(&mut self) {
        self.resumable = false;
    }

    /// The history after this revision is gone.
    pub(super) fn expired(&mut self, after: u64) {
        self.lost();
        self.edge = Some(after);
    }

    /// History is what it was up to `revision`, and other things come after it.
    pub(super) fn rewound(&mut self, revision: u64) {
        self.lost();
        // It may be noticed only when the next snapshot is complete.
        self.left = true;
        self.edge = self.edge.map(|edge| edge.min(revision));
        for (_, up_to) in &mut self.gaps {
            *up_to = (*up_to).min(revision);
        }
    }

    /// The state at `revision` is going to be streamed or listed. Says whether that was without need.
    pub(super) fn snapshot(&mut self, revision: u64, streamed: bool) -> bool {
        if let Some(edge) = self.edge.filter(|edge| *edge < revision) {
            match self.gaps.last_mut().filter(|(_, up_to)| *up_to >= edge) {
                Some((after, up_to)) => (*after, *up_to) = ((*after).min(edge), (*up_to).max(revision)),
                None => self.gaps.push((edge, revision)),
            }
        }
        let needless = streamed && std::mem::take(&mut self.resumable);
        needless && !std::mem::take(&mut self.left)
    }

    /// The stream of the state at `revision` is complete.
    pub(super) fn complete(&mut self, revision: u64) {
        self.edge = Some(revision);
        self.resumable = true;
    }

    /// Everything up to `revision` went down the stream.
    pub(super) fn reached(&mut self, revision: u64) {
        self.edge = Some(self.edge.unwrap_or_default().max(revision));
        self.empty = 0;
    }

    /// A stream of changes ended.
    pub(super) fn ended(&mut self, empty: bool) {
        self.empty = if empty { self.empty + 1 } else { 0 };
        if self.empty >= EMPTY_STREAMS {
            self.lost();
            self.empty = 0;
        }
    }

    /// Whether a life from `first` to `last` may have passed unseen.
    pub(crate) fn may_have_missed(&self, first: u64, last: u64) -> bool {
        self.gaps.iter().any(|(after, up_to)| *after < first && last <= *up_to)
    }
}
