//! What is asked of librdkafka to read: all of it waits, and belongs on a thread that may.
//!
//! Before: sinks/src/kafka/letters.rs
//! Next: sinks/src/kafka/letters/progress.rs

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidings_config::sink::template::{Part, Template};
use tokio::time::Instant;

use super::progress::Progress;
use crate::decode::{Content, Error};
use crate::kafka::classify;
use crate::kafka::events::{Events, Listener, Trouble};
use crate::sink::NotReady;

/// For an answer of the brokers.
const ANSWER: Duration = Duration::from_secs(5);
/// For a first one, with the connection it takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of one look at what came.
const POLL: Duration = Duration::from_millis(200);

pub(super) type Client = BaseConsumer<Listener>;

/// Before this offset ends what was there.
pub(super) type End = i64;

/// How far one is.
pub(super) struct Partition {
    pub(super) progress: Progress,
    /// What the brokers know of it.
    pub(super) stored: (i64, String),
}

/// What a client read.
pub(super) struct Record {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) content: Result<Content, Error>,
}

/// What a client said.
pub(super) enum Said {
    Record(Record),
    /// There is no more in this partition.
    End(i32),
    Nothing,
}

/// The topics that `template` may mean; nothing where no broker answers.
pub(super) fn topics(
    client: &Client,
    template: &Template,
    events: &Events,
) -> Result<Option<VecDeque<String>>, NotReady> {
    let patient = Instant::now() + PATIENCE;
    let only = template.as_literal();
    let metadata = loop {
        // Tokens and errors come only to who looks.
        let _ = client.poll(POLL);
        match client.fetch_metadata(only, POLL * 5) {
            Ok(metadata) => break metadata,
            Err(_)
                if Instant::now() < patient && !events.trouble().is_some_and(|trouble| lasts(&trouble)) => {}
            Err(_) => return Ok(None),
        }
    };
    let described = || metadata.topics().iter();
    if let Some(only) = only {
        let error = described().find(|topic| topic.name() == only).map(MetadataTopic::error);
        return match error {
            Some(None) => Ok(Some([only.to_owned()].into())),
            Some(Some(code)) => Err(classify::topic(code.into(), only)),
            None => Err(classify::topic(RDKafkaErrorCode::UnknownTopicOrPartition, only)),
        };
    }
    let names = described().map(MetadataTopic::name);
    let names: VecDeque<_> = names.filter(|name| can_be(template.parts(), name)).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(NotReady::new("TopicNotFound", format!("there is no topic like {template}")));
    }
    Ok(Some(names))
}

/// Whether waiting would not help.
fn lasts(trouble: &Trouble) -> bool {
    matches!(
        trouble.code,
        RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
    )
}

/// Whether `name` is made of these parts, with something in the place of each value.
fn can_be(parts: &[Part], name: &str) -> bool {
    match parts {
        [] => name.is_empty(),
        [Part::Literal(literal), rest @ ..] => {
            name.strip_prefix(&**literal).is_some_and(|name| can_be(rest, name))
        }
        [Part::Value(_), rest @ ..] => (1..=name.len()).any(|end| {
            // Topics are ASCII.
            name.get(end..).is_some_and(|name| can_be(rest, name))
        }),
    }
}

/// Of each partition: how far the group is, and where what is there ends.
pub(super) fn positions(client: &Client, topic: &str) -> Result<BTreeMap<i32, (Partition, End)>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER)?;
    let described = metadata.topics().iter().find(|described| described.name() == topic);
    let mut partitions = TopicPartitionList::new();
    for partition in described.iter().flat_map(|topic| topic.partitions()) {
        partitions.add_partition(topic, partition.id());
    }
    let committed = client.committed_offsets(partitions, ANSWER)?;
    let mut found = BTreeMap::new();
    for element in committed.elements() {
        element.error()?;
        let partition = element.partition();
        let (low, high) = client.fetch_watermarks(topic, partition, ANSWER)?;
        let (floor, text) = match element.offset() {
            Offset::Offset(offset) if offset <= high => (offset, element.metadata()),
            // Of a topic that was another one then, or none.
            _ => (low, ""),
        };
        let progress = Progress::stored(floor, text, low);
        found.insert(partition, (Partition { progress, stored: (floor, text.to_owned()) }, high));
    }
    Ok(found)
}

pub(super) fn poll(client: &Client) -> Result<Said, KafkaError> {
    match client.poll(POLL) {
        Some(Ok(record)) => Ok(Said::Record(Record {
            partition: record.partition(),
            offset: record.offset(),
            content: read(&record),
        })),
        Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Said::End(partition)),
        // librdkafka goes on trying with these; who waits has a limit.
        None
        | Some(Err(KafkaError::MessageConsumption(
            RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::Resolve,
        ))) => Ok(Said::Nothing),
        Some(Err(error)) => Err(error),
    }
}

fn read(record: &BorrowedMessage<'_>) -> Result<Content, Error> {
    // An empty record is a tombstone, and tells nothing that the one before it has not told.
    let body = Bytes::copy_from_slice(record.payload().ok_or(Error::NotCloudEvent)?);
    let headers = || {
        let headers = record.headers().into_iter().flat_map(Headers::iter);
        headers.filter_map(|header| Some((header.key, std::str::from_utf8(header.value?).ok()?)))
    };
    let kind = headers().find(|(name, _)| name.eq_ignore_ascii_case("content-type")).map(|(_, kind)| kind);
    Content::read("ce_", kind, headers(), &body)
}

pub(super) fn lost(topic: &str, error: &KafkaError) -> NotReady {
    refused(topic, error.rdkafka_error_code())
        .unwrap_or_else(|| NotReady::new("Unreachable", format!("the topic {topic} cannot be read: {error}")))
}

/// The same, where librdkafka tries again and again what is refused, and only mentions that.
pub(super) fn lost_silently(client: &Client, topic: &str, error: &KafkaError, events: &Events) -> NotReady {
    let _ = client.poll(POLL);
    let mentioned = events.trouble().map(|trouble| trouble.code);
    refused(topic, mentioned).unwrap_or_else(|| lost(topic, error))
}

fn refused(topic: &str, code: Option<RDKafkaErrorCode>) -> Option<NotReady> {
    Some(match code {
        Some(RDKafkaErrorCode::GroupAuthorizationFailed) => NotReady::new(
            "PermissionDenied",
            "the user may not read with this group: name another one with --group",
        ),
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            NotReady::new("PermissionDenied", format!("the user may not read the topic {topic}"))
        }
        _ => return None,
    })
}
