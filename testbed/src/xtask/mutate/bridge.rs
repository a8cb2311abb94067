//! Mistakes between the API server and the sinks.

use super::Mutation;

const DRIVER: &str = "bridge/src/watch/driver.rs";
const LANE: &str = "bridge/src/deliver/lane.rs";

/// The bridge against a real API server.
const API: &str = "-p tidings-bridge --test watch";

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "settle-before-ack",
        breaks: "a cursor moves by the broker's word only",
        file: LANE,
        find: "self.metrics.sent.inc_by(batch.len() as u64);",
        put: "self.metrics.sent.inc_by(batch.len() as u64);
            for (_, opened) in &batch {
                if let Some(cursor) = self.cursors.get_mut(&opened.watch) {
                    cursor.settle(opened.ticket);
                }
            }",
        test: "-p tidings-bridge --test watch a_sink_that_fails_for_a_while_loses_nothing_and_keeps_order",
    },
    Mutation {
        name: "expired-taken-for-ended",
        breaks: "410 is lost history, not the end of a stream",
        file: DRIVER,
        find: "(_, Trouble::Expired) => self.step(connection, Input::Expired, now).await,",
        put: "",
        test: API,
    },
    Mutation {
        name: "leave-before-the-last-words",
        breaks: "a Subscription is handed what it is told before it leaves a Watch",
        file: DRIVER,
        find: "self.hand_over().await;\n            self.followers.remove(&slot);",
        put: "self.followers.remove(&slot);",
        test: API,
    },
];
