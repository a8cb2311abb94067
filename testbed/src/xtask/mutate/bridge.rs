//! Mistakes between the API server and the sinks.

use super::Mutation;

const DRIVER: &str = "bridge/src/watch/driver.rs";
const COMMAND: &str = "bridge/src/watch/driver/command.rs";
const LISTS: &str = "bridge/src/watch/lists.rs";
const READER: &str = "bridge/src/watch/reader.rs";
const LANE: &str = "bridge/src/deliver/lane.rs";
const SHUT: &str = "bridge/src/deliver/lane/shut.rs";
const TAIL: &str = "bridge/src/journal/tail.rs";
const ANSWERS: &str = "bridge/src/deliver/lane/answers.rs";
const REDRIVE: &str = "bridge/src/redrive.rs";

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "settle-before-ack",
        breaks: "a cursor moves by the broker's word only",
        file: ANSWERS,
        find: "Verdict::Retrying { reason, .. } => {",
        put: "Verdict::Retrying { reason, entry } => {
                    done(&mut usize::MAX.clone(), &entry);",
        test: "-p tidings-bridge --test watch a_sink_that_fails_for_a_while_loses_nothing_and_keeps_order",
    },
    Mutation {
        name: "dead-letter-settled-early",
        breaks: "a dead letter is settled when its sink has it",
        file: ANSWERS,
        find: "self.put_aside(&entry, &reason, attempts);",
        put: "self.put_aside(&entry, &reason, attempts);
                    done(&mut usize::MAX.clone(), &entry);",
        test: "-p tidings-bridge --lib a_dead_letter_is_settled_when_its_sink_has_it_and_says_why_it_is_there",
    },
    Mutation {
        name: "what-was-given-back-comes-later",
        breaks: "what is asked for again comes before whatever follows it",
        file: TAIL,
        find: "if !comes_next {",
        put: "if !comes_next && records.is_empty() {",
        test: "-p tidings-bridge --lib what_is_asked_for_while_a_later_chunk_is_read_comes_first",
    },
    Mutation {
        name: "shut-key-forgotten",
        breaks: "what waits on a key that is opened is taken again",
        file: SHUT,
        find: "each_source(sources, changes, |source, numbers| source.journal.ask_again(source.slot, numbers));",
        put: "let _ = (sources, changes);",
        test: "-p tidings-bridge --lib what_waits_behind_a_refused_event_is_not_in_memory_and_comes_in_order_afterwards",
    },
    Mutation {
        name: "dead-letter-consumed-though-refused",
        breaks: "a dead letter is consumed when the sink has the Event",
        file: REDRIVE,
        find: "(Fate::Left, End::Refused(reason.to_string()))",
        put: "(Fate::Consumed, End::Refused(reason.to_string()))",
        test: "-p tidings-bridge --lib only_what_the_sink_has_is_consumed",
    },
    Mutation {
        name: "dead-letters-of-a-key-together",
        breaks: "of one key, one dead letter goes after the other",
        file: REDRIVE,
        find: "if batch.len() == BATCH || batch.iter().any(|other| other.event.key == sending.event.key) {",
        put: "if batch.len() == BATCH {",
        test: "-p tidings-bridge --lib of_one_key_one_goes_after_the_other",
    },
    Mutation {
        name: "expired-taken-for-ended",
        breaks: "410 is lost history, not the end of a stream",
        file: DRIVER,
        find: "(_, Trouble::Expired) => self.step(connection, Input::Expired, now),",
        put: "",
        test: "-p tidings-bridge --test watch a_gap_is_marked_counted_and_reported",
    },
    Mutation {
        name: "leave-before-the-last-words",
        breaks: "a Subscription is handed what it is told before it leaves a Watch",
        file: COMMAND,
        find: "self.followers.set_leaving(slot, Leaving::Draining);",
        put: "self.leave(slot);",
        test: "-p tidings-bridge --test watch a_kind_that_is_not_selected_any_more_is_left_and_its_watch_ends",
    },
    Mutation {
        name: "page-taken-for-the-whole",
        breaks: "a LIST is complete with its last page",
        file: READER,
        find: "if page.next.is_none() {",
        put: "if page.version.0 > 0 {",
        test: "-p tidings-bridge --test watch a_server_that_does_not_stream_the_state_is_listed_by_pages",
    },
    Mutation {
        name: "page-of-a-join-taken-for-the-whole",
        breaks: "a Subscription has joined with the last page of its LIST",
        file: LISTS,
        find: "if page.next.is_none() {",
        put: "if page.version.0 > 0 {",
        test: "-p tidings-bridge --test watch a_second_subscription_shares_the_watch",
    },
    Mutation {
        name: "stop-without-delivering",
        breaks: "a bridge that is stopped awaits what is under way, and repeats nothing",
        file: LANE,
        find: "if farewell.is_some_and(|farewell| self.is_done(farewell)) {",
        put: "if farewell.is_some() {",
        test: "-p tidings-e2e --test faults a_bridge_that_is_stopped_repeats_nothing",
    },
];
