//! Mistakes in what recovers the versions in a gap.

use super::Mutation;

const BACKFILL: &str = "core/src/watch/backfill.rs";
const GATHER: &str = "core/src/watch/backfill/gather.rs";
const SEARCH: &str = "core/src/watch/backfill/search.rs";
const TELL: &str = "core/src/watch/tell.rs";
const VIEW: &str = "core/src/watch/view.rs";
const LISTING: &str = "core/src/watch/listing.rs";

/// The core against the naive model.
const MODEL: &str = "-p tidings-core --test model";
/// The tests beside the code.
const UNIT: &str = "-p tidings-core --lib";

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "position-after-what-is-recovered",
        breaks: "while versions are recovered, a restart reconciles again from before the gap",
        file: BACKFILL,
        find: "Stage::Gathering { since } | Stage::Asking { since } => Some(since),",
        put: "Stage::Gathering { .. } | Stage::Asking { .. } => None,",
        test: MODEL,
    },
    Mutation {
        name: "recovered-without-bound",
        breaks: "versions that are recovered are held within the bound",
        file: BACKFILL,
        find: "if *bytes + size > limits.bytes {",
        put: "if *bytes > limits.bytes {",
        test: UNIT,
    },
    Mutation {
        name: "live-before-recovered",
        breaks: "what comes live waits until what came before it under its name is recovered",
        file: BACKFILL,
        find: "self.backfill.names.contains_key(key)",
        put: "self.backfill.names.contains_key(key) && false",
        test: MODEL,
    },
    Mutation {
        name: "unknown-taken-for-absent",
        breaks: "a version that the server has forgotten is not one at which nothing existed",
        file: SEARCH,
        find: "Answer::Compacted => Step::Bisect { since: Since::Forgotten(at), until },",
        put: "Answer::Compacted => Step::Bisect { since, until: at },",
        test: UNIT,
    },
    Mutation {
        name: "answer-of-another-life",
        breaks: "an answer that cannot be in the history of what is asked about ends the search",
        file: SEARCH,
        find: "if object.meta.uid != uid || version >= from {",
        put: "if version >= from {",
        test: UNIT,
    },
    Mutation {
        name: "ask-for-what-is-forgotten",
        breaks: "what the server has forgotten of one name it has forgotten of all",
        file: BACKFILL,
        find: "if at <= *forgotten {",
        put: "if at <= *forgotten && false {",
        test: UNIT,
    },
    Mutation {
        name: "recovered-taken-for-whole",
        breaks: "what could not be recovered is marked",
        file: BACKFILL,
        find: "marked |= !outcome.whole;",
        put: "marked |= false && !outcome.whole;",
        test: MODEL,
    },
    Mutation {
        name: "requests-without-end",
        breaks: "so many requests are made about a gap, and no more",
        file: BACKFILL,
        find: "} else if *requests >= limits.requests {",
        put: "} else if *requests >= u32::MAX {",
        test: UNIT,
    },
    Mutation {
        name: "forget-what-waits",
        breaks: "what was seen of a name is told, though history is lost again before it is recovered",
        file: GATHER,
        find: "let since = self.recovering_since().unwrap_or(since);",
        put: "let since = self.recovering_since().unwrap_or(since);
        self.backfill.names.clear();",
        test: UNIT,
    },
    Mutation {
        name: "recovered-taken-for-seen",
        breaks: "what is told while a snapshot comes in was not shown by it",
        file: BACKFILL,
        find: "entry.seen = seen;",
        put: "let _ = seen;",
        test: MODEL,
    },
    Mutation {
        name: "forget-what-lists-told",
        breaks: "a life that only a LIST told ends, too",
        file: GATHER,
        find: "name.pass((told.uid.clone(), told.version), position);",
        put: "let _ = position;",
        test: UNIT,
    },
    Mutation {
        name: "recovered-told-from-the-middle",
        breaks: "who is going to be shown what exists is not told of an object from the middle of its life",
        file: TELL,
        find: "if catches_up && !goes_on {",
        put: "if catches_up && !goes_on && false {",
        test: UNIT,
    },
    Mutation {
        name: "told-what-went-before-a-list",
        breaks: "who is edited behind a LIST is not told what came and went before it",
        file: VIEW,
        find: "is_some_and(|since| version <= since)",
        put: "is_some_and(|since| version < since.min(version))",
        test: UNIT,
    },
    Mutation {
        name: "seams-close-while-history-is-lost",
        breaks: "what was selected anew while history is lost waits for the next snapshot",
        file: LISTING,
        find: "let Some(position) = self.position() else { return };",
        put: "let Some(position) = self.position else { return };",
        test: MODEL,
    },
];
