//! Mistakes towards brokers.

use super::Mutation;

const BATCH: &str = "sinks/src/nats/batch.rs";
const ENCODE: &str = "sinks/src/nats/encode.rs";
const CLASSIFY: &str = "sinks/src/nats/classify.rs";

const RABBITMQ_CONNECTION: &str = "sinks/src/rabbitmq/connection.rs";
const RABBITMQ_BATCH: &str = "sinks/src/rabbitmq/batch.rs";
const DECODE: &str = "sinks/src/decode.rs";
const PROGRESS: &str = "sinks/src/kafka/letters/progress.rs";
const HTTP_CLIENT: &str = "sinks/src/http/client.rs";

/// The sink against a real NATS.
const BROKER: &str = "-p tidings-sinks --test nats";
/// The sink against a real RabbitMQ.
const RABBITMQ: &str = "-p tidings-sinks --test rabbitmq --test rabbitmq_connection";
/// The sink against a server of HTTP.
const HTTP: &str = "-p tidings-sinks --test http";

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "password-in-the-log",
        breaks: "no credential is ever logged",
        file: RABBITMQ_CONNECTION,
        find: "    // Brackets around an address of IPv6 belong to the URL.",
        put: "    tracing::debug!(password, \"connecting\");",
        test: "-p tidings-e2e --test conformance rabbitmq::secured::what_is_acked_is_there_once",
    },
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
    Mutation {
        name: "returned-messages-told-by-their-confirm",
        breaks: "what no queue took is not acked, whichever confirm the client hands it to",
        file: RABBITMQ_BATCH,
        find: "if let Some(text) = self.ids.get(&message.id) {",
        put: "if let (Some(text), true) = (self.ids.get(&message.id), confirmed.returned.is_some()) {",
        test: RABBITMQ,
    },
    Mutation {
        name: "publish-without-mandatory",
        breaks: "what no queue takes is not acked",
        file: RABBITMQ_BATCH,
        find: "mandatory: true",
        put: "mandatory: false",
        test: RABBITMQ,
    },
    Mutation {
        name: "silence-of-rabbitmq-taken-for-a-confirm",
        breaks: "a Message without a confirm is not acked",
        file: RABBITMQ_BATCH,
        find: "(Reply::Silence(reason), _) => Some(Answer::retry(reason)),",
        put: "(Reply::Silence(_), _) => Some(Outcome::Acked.into()),",
        test: RABBITMQ,
    },
    Mutation {
        name: "silence-of-a-receiver-taken-for-an-answer",
        breaks: "a request without an answer is not acked",
        file: HTTP_CLIENT,
        find: "answer.unwrap_or_else(silence)",
        put: "answer.unwrap_or_else(|| Outcome::Acked.into())",
        test: HTTP,
    },
    Mutation {
        name: "redriven-as-something-else",
        breaks: "a dead letter that cannot be sent as it was is not sent",
        file: DECODE,
        find: "self.differs(&event).map_or(Ok(event), |name| Err(Error::Attribute(name)))",
        put: "self.differs(&event).map_or(Ok(event.clone()), |_| Ok(event))",
        test: "-p tidings-sinks --lib what_could_not_be_sent_as_it_was_is_refused_by_name",
    },
    Mutation {
        name: "offset-over-a-letter-that-stays",
        breaks: "a group of Kafka stores no offset above what is not consumed",
        file: PROGRESS,
        find: "let floor = self.open.first().copied().unwrap_or(self.next);",
        put: "let floor = self.next;",
        test: "-p tidings-sinks --lib what_is_done_with_is_not_given_again_though_something_before_it_stays",
    },
];
