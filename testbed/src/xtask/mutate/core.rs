//! Mistakes in what decides.

use super::Mutation;

const WATCH: &str = "core/src/watch.rs";
const DECIDE: &str = "core/src/watch/decide.rs";
const TELL: &str = "core/src/watch/tell.rs";
const FOLLOWER: &str = "core/src/watch/follower.rs";
const VIEW: &str = "core/src/watch/view.rs";
const LISTING: &str = "core/src/watch/listing.rs";
const SNAPSHOT: &str = "core/src/watch/snapshot.rs";
const EVENT: &str = "core/src/event.rs";
const DELIVERY: &str = "core/src/delivery.rs";
const CURSOR: &str = "core/src/cursor.rs";

/// The core against the naive model.
const MODEL: &str = "-p tidings-core --test model";
/// What the model does not reach.
const RULES: &str = "-p tidings-core --test rules";
/// The tests beside the code.
const UNIT: &str = "-p tidings-core --lib";

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "forget-index-at-410",
        breaks: "after lost history, what is known is compared with what exists",
        file: WATCH,
        find: "effects.push(Effect::Gap { since });",
        put: "effects.push(Effect::Gap { since });\n            self.known = Known::default();",
        test: MODEL,
    },
    Mutation {
        name: "skip-probe",
        breaks: "a position that the cluster has not reached is a rewind",
        file: WATCH,
        find: "if version < since.min(self.newest) {",
        put: "if version < since.min(self.newest) && false {",
        test: MODEL,
    },
    Mutation {
        name: "interrupted-snapshot-taken-for-complete",
        breaks: "absence from a snapshot that broke off means nothing",
        file: WATCH,
        find: "Input::Ended { empty } => self.ended(empty, &mut effects),",
        put: "Input::Ended { empty } => {
                self.snapshot_complete(self.newest, now, &mut effects);
                self.ended(empty, &mut effects);
            }",
        test: MODEL,
    },
    Mutation {
        name: "marks-of-an-earlier-attempt",
        breaks: "what only an interrupted snapshot saw may be gone",
        file: SNAPSHOT,
        find: "self.attempt += 1;",
        put: "self.attempt = self.attempt.max(1);",
        test: MODEL,
    },
    Mutation {
        name: "resume-from-the-newest-seen",
        breaks: "a stream resumes at what was decided, not at what was heard of",
        file: WATCH,
        find: "(Stream::Closed | Stream::Live { .. }, Some(position)) => Plan::Resume(position),",
        put: "(Stream::Closed | Stream::Live { .. }, Some(_)) => Plan::Resume(self.newest),",
        test: MODEL,
    },
    Mutation {
        name: "trust-empty-streams",
        breaks: "a position whose streams are always empty is not trusted",
        file: WATCH,
        find: "if self.empty_streams < EMPTY_STREAMS {",
        put: "if self.empty_streams < u32::MAX {",
        test: UNIT,
    },
    Mutation {
        name: "bookmark-in-a-snapshot",
        breaks: "a position is taken only from a stream of changes",
        file: WATCH,
        find: "if matches!(self.stream, Stream::Live { .. }) {\n                    self.advance(version, &mut effects);",
        put: "{\n                    self.stream = Stream::Live { since: version };\n                    self.advance(version, &mut effects);",
        test: RULES,
    },
    Mutation {
        name: "epoch-stays",
        breaks: "a history that went backwards begins an epoch",
        file: WATCH,
        find: "self.epoch = Epoch(now.max(self.epoch.0 + 1));",
        put: "let _ = now;",
        test: MODEL,
    },
    Mutation {
        name: "drop-the-epoch-of-the-sequence",
        breaks: "what follows a rewind sorts after what came before it",
        file: EVENT,
        find: "{:020}{end}\", epoch.0, version.0);",
        put: "{:020}{end}\", epoch.0.min(0), version.0);",
        test: UNIT,
    },
    Mutation {
        name: "drop-the-epoch-of-the-id",
        breaks: "versions of two histories have different ids",
        file: EVENT,
        find: "Epoch(epoch) => write!(id, \"e{epoch}.\"),",
        put: "Epoch(_) => Ok(()),",
        test: UNIT,
    },
    Mutation {
        name: "random-ids",
        breaks: "the same Change has the same id whenever it is told",
        file: EVENT,
        find: "let mut id = String::with_capacity(64);",
        put: "let mut id = format!(\"{change:p}\");",
        test: UNIT,
    },
    Mutation {
        name: "concluded-delete-sorts-with-its-version",
        breaks: "a concluded deletion sorts after the last version that was told",
        file: EVENT,
        find: "if concluded { \".d\" }",
        put: "if concluded { \"\" }",
        test: UNIT,
    },
    Mutation {
        name: "second-life-as-update",
        breaks: "another uid under a name is the end of one life and the beginning of another",
        file: TELL,
        find: "Some(was) if was.uid == meta.uid => {",
        put: "Some(was) if was.uid == meta.uid || selected => {",
        test: MODEL,
    },
    Mutation {
        name: "told-stays-after-left",
        breaks: "who was told that an object left was told all there is about it",
        file: TELL,
        find: "if selected { entry.told.insert(slot) } else { entry.told.remove(slot) }",
        put: "if selected { entry.told.insert(slot) }",
        test: MODEL,
    },
    Mutation {
        name: "gap-without-a-word",
        breaks: "a difference found after lost history is marked",
        file: TELL,
        find: "let gap = !live || skipped;",
        put: "let gap = skipped;",
        test: MODEL,
    },
    Mutation {
        name: "undecodable-without-a-word",
        breaks: "a version that could not be decoded marks the next one",
        file: DECIDE,
        find: "self.known.put(&meta, self.epoch, self.attempt).skipped = true;",
        put: "self.known.put(&meta, self.epoch, self.attempt);",
        test: MODEL,
    },
    Mutation {
        name: "delete-of-an-older-life",
        breaks: "a deletion ends only a life that began before it",
        file: DECIDE,
        find: "self.known.get(&meta.key).is_some_and(|entry| entry.version < meta.resource_version);",
        put: "self.known.get(&meta.key).is_some();",
        test: RULES,
    },
    Mutation {
        name: "seam-without-floor",
        breaks: "a name that the LIST of a joining Subscription did not show begins after it",
        file: TELL,
        find: "None if live && meta.resource_version <= *floor",
        put: "None if live && meta.resource_version < *floor && floor.0 == 0",
        test: RULES,
    },
    Mutation {
        name: "seam-closed-early",
        breaks: "a view becomes bits only when the Watch has passed its LIST",
        file: LISTING,
        find: "Phase::Seam { floor, view, .. } if *floor <= position => {",
        put: "Phase::Seam { view, .. } => {",
        test: RULES,
    },
    Mutation {
        name: "slot-with-a-past",
        breaks: "who takes a slot was told nothing of what its predecessor was told",
        file: FOLLOWER,
        find: "self.known.take_told(slot);\n        self.doubts",
        put: "self.doubts",
        test: MODEL,
    },
    Mutation {
        name: "order-lost-after-a-failure",
        breaks: "what failed is tried again before anything later of its key",
        file: DELIVERY,
        find: "let delay = delay.max(after.unwrap_or_default());",
        put: "let delay = delay.max(after.unwrap_or_default());\n                    queue.entries.rotate_left(1);",
        test: UNIT,
    },
    Mutation {
        name: "failure-taken-for-an-ack",
        breaks: "only the broker's word settles",
        file: DELIVERY,
        find: "            Outcome::Acked => None,\n",
        put: "            Outcome::Acked | Outcome::Retry { after: None, .. } => None,\n",
        test: UNIT,
    },
    Mutation {
        name: "two-of-a-key-under-way",
        breaks: "one attempt of a key is under way at a time",
        file: DELIVERY,
        find: "let of_key = of_key.min(most - batch.len());",
        put: "let of_key = of_key.min(most - batch.len());\n                self.waiting.insert((now, key.clone()));",
        test: UNIT,
    },
    Mutation {
        name: "past-though-streamed",
        breaks: "what the stream goes on with is told, however old it is",
        file: VIEW,
        find: "let streamed = continued.contains(key) || open.contains(key);",
        put: "let streamed = open.contains(key);",
        test: UNIT,
    },
    Mutation {
        name: "cursor-over-the-unsettled",
        breaks: "the watermark stops before the oldest entry that is not settled",
        file: CURSOR,
        find: "self.watermark = oldest.before;",
        put: "let _ = oldest;
            self.watermark = position;",
        test: UNIT,
    },
    Mutation {
        name: "labels-decide-and-the-stream-is-trusted",
        breaks: "where labels decide, what the stream shows of the time before a LIST is past",
        file: VIEW,
        find: "if selection.has_labels() && !steady.is_empty() {",
        put: "if false && selection.has_labels() && !steady.is_empty() {",
        test: MODEL,
    },
    Mutation {
        name: "left-by-labels-while-listed",
        breaks: "who left by its labels while a LIST is under way is not told from the LIST",
        file: TELL,
        find: "drop(view.end(&meta.key));",
        put: "drop(view.remove(&meta.key));",
        test: MODEL,
    },
    Mutation {
        name: "left-in-a-list-and-brought-back",
        breaks: "what a LIST shows to have left is not brought back by older versions in the stream",
        file: VIEW,
        find: "self.streamed.continued.remove(key);",
        put: "",
        test: MODEL,
    },
    Mutation {
        name: "unsound-snapshot-marks-no-view",
        breaks: "what a snapshot could not name has a gap before its next version",
        file: SNAPSHOT,
        find: "if !sound && (relist || recovering) {",
        put: "if !sound && recovering {",
        test: MODEL,
    },
    Mutation {
        name: "filter-that-fails-drops",
        breaks: "an Event of which a filter cannot say whether it is wanted is told",
        file: "bridge/src/watch/followers.rs",
        find: "metrics.filter_failures.inc();\n                }\n                true",
        put: "metrics.filter_failures.inc();\n                }\n                false",
        test: "-p tidings-e2e --test selecting filters_leave_out_events_and_say_how_many",
    },
];
