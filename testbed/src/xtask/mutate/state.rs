//! Mistakes in what survives the process.

use super::Mutation;

const KEEPER: &str = "bridge/src/watch/keeper.rs";
const DRIVER: &str = "bridge/src/watch/driver.rs";
const TAIL: &str = "bridge/src/journal/tail.rs";
const TOLD: &str = "bridge/src/state/told.rs";
const BLOB: &str = "bridge/src/state/blob.rs";
const CHUNKS: &str = "bridge/src/state/sqlite/chunks.rs";
const SAVED: &str = "core/src/watch/saved.rs";
const COMPACTION: &str = "core/src/compaction.rs";

/// The real bridge and its store, with crashes under virtual time.
const SIMULATION: &str = "-p tidings-bridge --test simulation no_schedule_breaks_a_promise";
const MODEL: &str = "-p tidings-core --test model";
const UNIT: &str = "-p tidings-bridge --lib";

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "skip-told-log",
        breaks: "who may have been told just before a crash is told how it ended",
        file: KEEPER,
        find: "            let Some(told) = Told::by(&record.change) else { continue };\n",
        put: "            let Some(told) = Told::by(&record.change).filter(|_| false) else { continue };\n",
        test: SIMULATION,
    },
    Mutation {
        name: "told-log-cleared-too-early",
        breaks: "the told log is needed until the flush that began after it is done",
        file: TOLD,
        find: "        self.current = other;\n        Ok(())",
        put: "        self.current = other;\n        self.files[current].empty()",
        test: UNIT,
    },
    Mutation {
        name: "doubts-forgotten",
        breaks: "what may have been told before a crash is in doubt after it",
        file: SAVED,
        find: "let doubts = older.into_iter().chain(doubts).filter(|doubt| follows(doubt.slot));",
        put: "let doubts = older.into_iter().chain(doubts).filter(|doubt| follows(doubt.slot) && false);",
        test: MODEL,
    },
    Mutation {
        name: "known-ahead-of-the-journal",
        breaks: "what is known on disk is settled or in the Journal on disk",
        file: KEEPER,
        find: "        journal.write_flush(flush, !self.failed);\n",
        put: "        journal.write_flush(flush, !self.failed);\n        flush.entries.clear();\n",
        test: SIMULATION,
    },
    Mutation {
        name: "reconciling-forgotten",
        breaks: "a Reconcile that a crash interrupts begins again",
        file: SAVED,
        find: "            reconciling: self.position().is_none(),",
        put: "            reconciling: false,",
        test: SIMULATION,
    },
    Mutation {
        name: "epoch-told-before-it-is-stored",
        breaks: "nobody is told anything of a new history before it is stored that there is one",
        file: DRIVER,
        find: "is known on disk that there is one.\n                self.must_store();",
        put: "is known on disk that there is one.",
        test: SIMULATION,
    },
    Mutation {
        name: "settled-while-stored-kept-for-ever",
        breaks: "what is settled while it is being stored keeps no chunk alive",
        file: TAIL,
        find: "            self.settled.push((slot, number));",
        put: "",
        test: UNIT,
    },
    Mutation {
        name: "one-more-taken-for-settled",
        breaks: "a restart takes again what was not settled",
        file: "core/src/cursor.rs",
        find: "number >= self.next || self.unsettled.binary_search(&number).is_ok()",
        put: "number >= self.next",
        test: UNIT,
    },
    Mutation {
        name: "quota-without-a-word",
        breaks: "what is left out of a backlog is marked",
        file: COMPACTION,
        find: "        Change { kind, gap: true, ..change.clone() }",
        put: "        Change { kind, ..change.clone() }",
        test: "-p tidings-core --lib",
    },
    Mutation {
        name: "damage-taken-for-content",
        breaks: "a flipped bit is noticed",
        file: BLOB,
        find: "if crc32fast::hash(content).to_le_bytes() != header[1..] {",
        put: "if crc32fast::hash(content).to_le_bytes() != header[1..] && false {",
        test: UNIT,
    },
    Mutation {
        name: "only-one-chunk-written",
        breaks: "every entry of a flush is stored",
        file: CHUNKS,
        find: "        rest = more;\n",
        put: "        rest = &more[..0];\n",
        test: UNIT,
    },
];
