//! What is unwise in where Events go behind a connection: keys and topics that lose the order of an object, or let one object
//! stand for another.

use std::collections::BTreeSet;

use tidings_config::sink::kafka::ValidKafkaAddress;
use tidings_config::sink::kafka::topic::ValidKafkaTopic;
use tidings_config::sink::rabbitmq::ValidRabbitmqAddress;
use tidings_config::sink::template::{Part, Placeholder, Template};
use tidings_config::sink::valid::ValidAddress;
use tidings_core::selection::{Namespaces, Scope, Selection};

use super::{Warning, tells_deletions};
use crate::validate::ValidSubscription;

/// Shorter than an application is away for.
const SHORT_RETENTION_MS: u64 = 3_600_000;

/// An address, whoever says it.
pub(super) enum Addressed<'a> {
    Given(&'a ValidAddress),
    Default(ValidAddress),
    /// The Sink that is named decides.
    Unknown,
}

// === impl Addressed ===

impl Addressed<'_> {
    /// Everything by which one Event is sent elsewhere than another, as it is written.
    pub(super) fn behind(&self) -> String {
        let address = match self {
            Self::Given(address) => address,
            Self::Default(address) => address,
            Self::Unknown => return String::new(),
        };
        match address {
            ValidAddress::Kafka(kafka) => kafka.topic.to_string(),
            ValidAddress::Nats(nats) => nats.subject.to_string(),
            ValidAddress::Rabbitmq(rabbitmq) => format!("{} {}", rabbitmq.exchange, rabbitmq.routing_key),
            ValidAddress::Http(http) => http.path.to_string(),
            ValidAddress::Stdout(_) => String::new(),
        }
    }
}

/// Adds what is unwise, with paths that start with `path`, e.g. `spec.sink`.
pub(super) fn check(
    subscription: &ValidSubscription,
    address: &ValidAddress,
    path: &str,
    warnings: &mut Vec<Warning>,
) {
    match address {
        ValidAddress::Kafka(kafka) => check_kafka(subscription, kafka, &format!("{path}.kafka"), warnings),
        ValidAddress::Rabbitmq(rabbitmq) => check_rabbitmq(rabbitmq, &format!("{path}.rabbitmq"), warnings),
        // A stream keeps one order for all its subjects, and a receiver of HTTP gets one Event of an object at a time.
        ValidAddress::Nats(_) | ValidAddress::Http(_) | ValidAddress::Stdout(_) => {}
    }
}

fn check_kafka(
    subscription: &ValidSubscription,
    kafka: &ValidKafkaAddress,
    path: &str,
    warnings: &mut Vec<Warning>,
) {
    let mut warn =
        |field: &str, message: String| warnings.push(Warning::new(format!("{path}.{field}"), message));
    if names(&kafka.topic, Placeholder::Change) {
        let message =
            "with `{change}`, Events of one object go to different topics, and there is no order among these";
        warn("topic", message.to_owned());
    }
    if let Some(placeholder) =
        [Placeholder::Name, Placeholder::Uid].into_iter().find(|one| names(&kafka.topic, *one))
    {
        let message = format!("with `{{{}}}`, every object has a topic of its own", placeholder.as_str());
        warn("topic", message);
    }
    let compacted = kafka.tombstones
        || kafka
            .create_topic
            .as_ref()
            .and_then(|topic| topic.config.get("cleanup.policy"))
            .is_some_and(|policy| policy.contains("compact"));
    if let Some(sharing) = kafka.key.as_ref().and_then(|key| sharing(subscription, key)) {
        let message = if compacted {
            format!("{sharing} share a key: a compacted topic keeps only the newest of their Events")
        } else {
            format!("{sharing} share a key, and so a partition; a consumer cannot tell them apart by it")
        };
        warn("key", message);
    }
    if compacted
        && kinds(subscription) > 1
        && !tells_kinds(&kafka.topic)
        && !kafka.key.as_ref().is_some_and(tells_kinds)
    {
        let message = "objects of different kinds that have the same name share a key in this topic: compaction keeps only one \
                       of them; `{kind}` in the topic or the key tells them apart";
        warn("topic", message.to_owned());
    }
    if kafka.tombstones && !tells_deletions(subscription) {
        warn("tombstones", "none is ever sent: `spec.on` leaves out `Deleted`".to_owned());
    }
    if let Some(topic) = &kafka.create_topic {
        check_topic(topic, &format!("{path}.createTopic"), warnings);
    }
}

fn check_topic(topic: &ValidKafkaTopic, path: &str, warnings: &mut Vec<Warning>) {
    let number = |name: &str| topic.config.get(name).and_then(|value| value.trim().parse::<u64>().ok());
    let mut warn =
        |field: &str, message: String| warnings.push(Warning::new(format!("{path}.{field}"), message));
    if topic.replication_factor == Some(1) {
        warn(
            "replicationFactor",
            "one broker holds the only copy: its disk is what Events are lost with".to_owned(),
        );
    }
    let replicas = topic.replication_factor.and_then(|count| u64::try_from(count).ok());
    if let (Some(least), Some(replicas)) = (number("min.insync.replicas"), replicas)
        && least > replicas
    {
        let message =
            format!("nothing is ever acknowledged: {least} are more than the {replicas} replicas there are");
        warn("config[\"min.insync.replicas\"]", message);
    }
    if let Some(retention) = number("retention.ms").filter(|retention| *retention < SHORT_RETENTION_MS) {
        let message = format!("a consumer that is away for longer than {retention} ms misses Events");
        warn("config[\"retention.ms\"]", message);
    }
}

fn check_rabbitmq(rabbitmq: &ValidRabbitmqAddress, path: &str, warnings: &mut Vec<Warning>) {
    if names(&rabbitmq.exchange, Placeholder::Change) {
        let message = "with `{change}`, Events of one object go to different exchanges, and there is no order among these";
        warnings.push(Warning::new(format!("{path}.exchange"), message));
    }
    if rabbitmq.declare.as_ref().is_some_and(|declare| !declare.durable) {
        let message = "after a restart of the broker the exchange is declared again, and the bindings of queues are gone: no \
                       queue takes the Events until somebody binds it again";
        warnings.push(Warning::new(format!("{path}.declareExchange.durable"), message));
    }
}

/// Which different objects have the same key, if that is certain.
fn sharing(subscription: &ValidSubscription, key: &Template) -> Option<&'static str> {
    if names(key, Placeholder::Uid) {
        return None;
    }
    if !names(key, Placeholder::Name) {
        return Some("different objects");
    }
    (!names(key, Placeholder::Namespace) && namespaces(subscription) > 1)
        .then_some("objects of the same name in different namespaces")
}

fn names(template: &Template, placeholder: Placeholder) -> bool {
    template.parts().contains(&Part::Value(placeholder))
}

fn tells_kinds(template: &Template) -> bool {
    names(template, Placeholder::Kind)
        || names(template, Placeholder::Plural)
        || names(template, Placeholder::Uid)
}

fn kinds(subscription: &ValidSubscription) -> usize {
    let kinds: BTreeSet<_> =
        subscription.route.selections.keys().map(|kind| (&kind.group, &kind.kind)).collect();
    kinds.len()
}

/// From how many namespaces its objects are.
fn namespaces(subscription: &ValidSubscription) -> usize {
    let scopes = subscription.route.selections.values().flat_map(Selection::scopes);
    let counts = scopes.map(|Scope { namespaces, .. }| match namespaces {
        Namespaces::All => usize::MAX,
        Namespaces::Only(names) => names.len(),
    });
    counts.max().unwrap_or(0)
}
