//! What each error of librdkafka and the brokers means. Everything that somebody can put right, or that may go away by
//! itself, is a retry; only what is wrong with the Message itself is a rejection.
//!
//! Before: sinks/src/kafka/batch.rs
//! Next: core/src/delivery.rs

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tidings_config::sink::kafka::topic::MAX_NAME;
use tidings_core::delivery::{Outcome, Rejection};

use super::config::MAX_RECORD;
use super::events::Trouble;
use super::topics::Weakest;
use crate::message::Message;
use crate::sink::{NotReady, retry, unclassified};

/// Around the records of a batch of the current format.
const BATCH_OVERHEAD: usize = 61;

/// What is known beside the report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// What the topic takes, as the brokers count it, where that is known.
    pub(super) limit: Option<usize>,
    /// A record with more shares its request with no other.
    pub(super) batch_bytes: usize,
    /// Whether sizes on the wire are not those of the records.
    pub(super) compressed: bool,
}

/// Why a Message is not even tried, where that is so.
pub(super) fn before(message: &Message, circumstances: Circumstances) -> Option<Outcome> {
    let Circumstances { limit, batch_bytes: _, compressed } = circumstances;
    let (size, length) = (wire_size(message), message.destination.len());
    // How small a record gets by compression is known to the brokers only.
    let limit = limit.filter(|_| !compressed).unwrap_or(MAX_RECORD).min(MAX_RECORD);
    if size > limit {
        return Some(too_large(size, limit));
    }
    if length > MAX_NAME || matches!(&*message.destination, "" | "." | "..") {
        let reason = format!("the topic's name has {length} characters, and 1 to {MAX_NAME} are possible");
        return Some(Outcome::Rejected { reason: Rejection::Refused(reason) });
    }
    None
}

/// What became of a Message of which some record failed.
pub(super) fn report(code: Code, message: &Message, circumstances: Circumstances) -> Outcome {
    let topic = &message.destination;
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            let size = wire_size(message);
            if is_crowded(code, message, circumstances) {
                return retry("its request was too large, in which there were others");
            }
            too_large(size, circumstances.limit.unwrap_or(size).min(size.saturating_sub(1)))
        }
        Code::InvalidTopic => refused(format!("the brokers take nothing for a topic called {topic}")),
        Code::InvalidRecord => refused(format!("the topic {topic} does not take such records")),
        _ if is_missing(code) => retry(format!("there is no topic {topic}")),
        _ if is_denied(code) => retry(denied(topic)),
        Code::ClusterAuthorizationFailed => retry(CLUSTER_DENIED),
        Code::QueueFull => retry("the brokers take nothing more"),
        // Purged is what was given up.
        Code::PurgeQueue
        | Code::PurgeInflight
        | Code::MessageTimedOut
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::RequestTimedOut => retry("no acknowledgement in time"),
        Code::Fatal
        | Code::GaplessGuarantee
        | Code::Fenced
        | Code::ProducerFenced
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::UnknownProducerId => retry(format!("the producer has to begin anew: {code}")),
        Code::BrokerTransportFailure
        | Code::BrokerDestroy
        | Code::DestroyBroker
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::SSL
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::UnknownBroker
        | Code::NetworkException => retry(format!("the connection was lost: {code}")),
        // The partition has no leader just now, too few replicas, a broken disk, or a limit of its own.
        Code::UnknownPartition
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::NotController
        | Code::StaleBrokerEpoch
        | Code::ListenerNotFound
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::ISRInsufficient
        | Code::PreferredLeaderNotAvailable
        | Code::EligibleLeadersNotAvailable
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::KafkaStorageError
        | Code::LogDirNotFound
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::ThrottlingQuotaExceeded
        | Code::PolicyViolation => retry(format!("the topic {topic} takes nothing now: {code}")),
        // Somebody has to change the topic, the brokers, the clock, or the compression.
        Code::InvalidTimestamp
        | Code::InvalidRequiredAcks
        | Code::InvalidRequest
        | Code::InvalidMessage
        | Code::BadCompression
        | Code::UnsupportedCompressionType
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedForMessageFormat => retry(format!("the brokers do not take it: {code}")),
        Code::CriticalSystemResource | Code::Interrupted | Code::WaitCache | Code::Retry => {
            retry(format!("librdkafka cannot send it now: {code}"))
        }
        _ => unclassified(&code),
    }
}

/// Whether a Message was refused that may be small enough alone.
pub(super) fn is_crowded(code: Code, message: &Message, circumstances: Circumstances) -> bool {
    let too_large =
        matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize);
    too_large && wire_size(message) <= circumstances.batch_bytes
}

/// Whether there is no such topic.
pub(super) fn is_missing(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownTopicId)
}

/// Whether the topic is not for us.
pub(super) fn is_denied(code: Code) -> bool {
    code == Code::TopicAuthorizationFailed
}

/// What people read when a topic may not be written to.
pub(super) fn denied(topic: &str) -> String {
    format!("the user may not write to the topic {topic}")
}

const CLUSTER_DENIED: &str = "the user may write to no topic, and may not write idempotently to the cluster";

/// Why there is no producer.
pub(super) fn creation(error: &KafkaError) -> NotReady {
    match error {
        // The value is left out: it may be a credential.
        KafkaError::ClientConfig(_, problem, name, _) => {
            NotReady::new("InvalidCredentials", format!("librdkafka does not take {name}: {problem}"))
        }
        KafkaError::ClientCreation(problem) if problem.contains("ssl.") || problem.contains("SSL") => {
            NotReady::new("TlsFailed", format!("TLS cannot be set up: {problem}"))
        }
        other => NotReady::new("OutOfResources", format!("librdkafka cannot be started: {other}")),
    }
}

/// Why a producer is over.
pub(super) fn fatal(code: Code, reason: &str) -> NotReady {
    match code {
        Code::ClusterAuthorizationFailed => NotReady::new("PermissionDenied", CLUSTER_DENIED),
        Code::UnsupportedFeature => {
            NotReady::new("Unsupported", "the brokers know no idempotent producers: they are older than 0.11")
        }
        _ => NotReady::new("Restarting", format!("the producer begins anew: {code}: {reason}")),
    }
}

/// Why no broker answers.
pub(super) fn connection(trouble: Option<&Trouble>, brokers: &[String]) -> NotReady {
    let names = brokers.join(", ");
    let Some(Trouble { code, reason, .. }) = trouble else {
        return NotReady::new("Unreachable", format!("{names} does not answer"));
    };
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed if reason.contains("OAUTHBEARER token") => {
            NotReady::new(
                "Unauthorized",
                format!("{names} cannot be shown a token: there is none that holds"),
            )
        }
        Code::Authentication | Code::SaslAuthenticationFailed
            if reason.contains("mechanism") && reason.contains("supported mechanisms") =>
        {
            NotReady::new("Unauthorized", reason)
        }
        Code::Authentication | Code::SaslAuthenticationFailed => NotReady::new(
            "Unauthorized",
            format!("{} does not accept the user or its proof", peer(reason, brokers)),
        ),
        Code::UnsupportedSASLMechanism => NotReady::new("Unauthorized", reason),
        Code::SSL => NotReady::new("TlsFailed", format!("no TLS: {reason}")),
        Code::Resolve => NotReady::new("Unreachable", format!("a name cannot be resolved: {reason}")),
        Code::AllBrokersDown => NotReady::new("Unreachable", format!("none of {names} can be reached")),
        _ => NotReady::new("Unreachable", format!("{names} cannot be reached: {reason}")),
    }
}

/// Why the brokers do not describe `topic`.
pub(super) fn topic(code: Code, topic: &str) -> NotReady {
    if is_missing(code) {
        NotReady::new("TopicNotFound", format!("there is no topic {topic}"))
    } else if is_denied(code) {
        NotReady::new("PermissionDenied", format!("the user may not see or write to the topic {topic}"))
    } else if code == Code::InvalidTopic {
        NotReady::new("InvalidTopic", format!("no topic can be called {topic}"))
    } else {
        NotReady::new("TopicUnavailable", format!("the topic {topic} cannot be used: {code}"))
    }
}

/// Why some partition of `topic` takes nothing.
pub(super) fn too_few(topic: &str, weakest: Weakest, wanted: usize) -> NotReady {
    let Weakest { partition, in_sync, replicas } = weakest;
    let message = format!(
        "of the topic {topic}, the partition {partition} has {in_sync} of {replicas} replicas in sync, and min.insync.replicas wants {wanted}"
    );
    NotReady::new("NotEnoughReplicas", message)
}

/// Why `topic` was not created.
pub(super) fn not_created(code: Code, topic: &str) -> NotReady {
    match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => NotReady::new(
            "PermissionDenied",
            format!("there is no topic {topic}, and the user may not create it"),
        ),
        _ => NotReady::new("TopicNotCreated", format!("the topic {topic} cannot be created: {code}")),
    }
}

/// The broker that librdkafka speaks of: `protocol://host:port/id: …`.
pub(super) fn peer<'a>(reason: &'a str, brokers: &'a [String]) -> &'a str {
    let address = reason.split_once("://").and_then(|(_, rest)| rest.split(['/', ' ']).next());
    address
        .filter(|address| address.contains(':'))
        .map(|address| address.trim_end_matches(':'))
        .or(brokers.first().map(String::as_str))
        .unwrap_or_default()
}

/// What a broker compares with its limit: the batch with this record alone, not compressed.
pub(super) fn wire_size(message: &Message) -> usize {
    let text = |length: usize| varint(length) + length;
    let headers: usize =
        message.headers.iter().map(|(name, value)| text(name.len()) + text(value.len())).sum();
    // Attributes, and two differences that are zero.
    let record = 3
        + text(message.record_key.len())
        + text(message.body.len())
        + varint(message.headers.len())
        + headers;
    BATCH_OVERHEAD + text(record)
}

/// Bytes of a length as records have it: zigzag, seven bits a byte.
fn varint(length: usize) -> usize {
    let bits = usize::BITS - (length << 1 | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn too_large(size: usize, limit: usize) -> Outcome {
    Outcome::Rejected { reason: Rejection::TooLarge { size, limit } }
}

fn refused(why: String) -> Outcome {
    Outcome::Rejected { reason: Rejection::Refused(why) }
}

#[cfg(test)]
#[path = "classify/tests.rs"]
mod tests;
