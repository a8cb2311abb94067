//! Mistakes towards brokers.

use super::Mutation;

const BATCH: &str = "sinks/src/nats/batch.rs";
const ENCODE: &str = "sinks/src/nats/encode.rs";
const CLASSIFY: &str = "sinks/src/nats/classify.rs";

/// The sink against a real NATS.
const BROKER: &str = "-p tidings-sinks --test nats";

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "silence-taken-for-an-ack",
        breaks: "a Message without an acknowledgement is not acked",
        file: BATCH,
        find: "retry(\"no acknowledgement in time\")",
        put: "Outcome::Acked",
        test: BROKER,
    },
    Mutation {
        name: "lost-connection-taken-for-an-ack",
        breaks: "what was under way when the connection was lost is sent again",
        file: CLASSIFY,
        find: "PublishErrorKind::BrokenPipe => retry(\"the connection was lost before the acknowledgement\"),",
        put: "PublishErrorKind::BrokenPipe => Outcome::Acked,",
        test: BROKER,
    },
    Mutation {
        name: "message-ids-shared-by-subscriptions",
        breaks: "a broker that knows a Message takes nobody else's for it",
        file: ENCODE,
        find: "format!(\"{}/{}\", event.context.subscription_uid, event.id)",
        put: "event.id.clone()",
        test: BROKER,
    },
];
