//! Settings of the Kafka sink.

pub mod sasl;

pub mod topic;

use std::time::Duration as StdDuration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::sasl::{KafkaSaslSettings, ValidKafkaSasl};
use self::topic::{KafkaTopicSettings, ValidKafkaTopic};
use super::template::{Part, Placeholder, Template};
use super::tls::{TlsSettings, ValidTls};
use crate::duration::{self, Duration};
use crate::field_error::{FieldError, FieldErrors};
use crate::secret::SecretKeyRef;

/// The most brokers that can be named.
const MAX_BROKERS: usize = 16;
/// The longest host and port of a broker, in bytes.
const MAX_BROKER: usize = 512;
/// The longest template of a topic or a key, in bytes.
const MAX_TEMPLATE: usize = 512;
/// The longest that records wait for others to share a request with: acknowledgements are awaited for seconds only.
const MAX_LINGER: StdDuration = StdDuration::from_secs(1);

/// Events go to topics of Kafka. One counts as delivered when every replica in sync holds it (`acks=all`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSettings {
    /// How the brokers are reached; left out with `ref`.
    #[serde(flatten)]
    pub connection: KafkaConnectionSettings,
    /// The topic of each Event, with the placeholders `{group}` (`core` for the core group), `{version}`, `{kind}`,
    /// `{plural}`, `{namespace}` (`_cluster` for cluster-scoped objects), `{name}`, `{change}`, `{uid}` and
    /// `{subscription}` (`namespace.name`). Dots of a value stay; what a topic cannot be called becomes `_` and two
    /// hexadecimal digits, and so does `_` itself.
    #[serde(default = "KafkaSettings::default_topic")]
    #[schemars(length(min = 1, max = 512))]
    pub topic: String,
    /// The key of each record, with the same placeholders except `{change}`; values stay as they are. Without it, the
    /// subject of the Event: `namespace/name`, or `name` for cluster-scoped objects. Order holds among Events of one key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub key: Option<String>,
    /// After each Event of a deleted object, an empty record of the same key follows, so that a compacted topic forgets the
    /// object.
    #[serde(default)]
    pub tombstones: bool,
    /// Topics that are missing are created like this, where the bridge may do so. Without it, they are waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_topic: Option<KafkaTopicSettings>,
}

/// How brokers of Kafka are reached, and how what goes there is packed: all that share the connection share requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaConnectionSettings {
    /// Some brokers of one cluster, each as `host:port`; the others are found through them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 512), regex(pattern = "^[^ ,/@]+:[0-9]+$"))
    )]
    pub brokers: Vec<String>,
    /// Present, the connection is by TLS; `{}` trusts the authorities that the bridge's system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
    /// Who the bridge is to the brokers, where its certificate does not say it: exactly one way to prove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSaslSettings>,
    /// How batches are compressed: `None`, `Gzip`, `Snappy`, `Lz4` or `Zstd`.
    #[serde(default)]
    pub compression: KafkaCompression,
    /// How long a record waits for others to share a request with, at most a second. More of it saves work on both sides, and
    /// is added to the time that an Event takes.
    #[serde(default = "KafkaConnectionSettings::default_linger")]
    #[schemars(length(min = 2, max = 32), extend("format" = "duration"))]
    pub linger: String,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KafkaCompression {
    /// Not at all.
    None,
    /// Small, and slow.
    Gzip,
    /// Fast, and a little larger than others.
    Snappy,
    /// Fast.
    #[default]
    Lz4,
    /// Smallest, and still fast.
    Zstd,
}

/// Brokers that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidKafkaConnection {
    /// At least one, each a host and a port.
    pub brokers: Vec<String>,
    /// Whether the connection is by TLS, and with whom.
    pub tls: Option<ValidTls>,
    /// Who the bridge is to the brokers.
    pub sasl: Option<ValidKafkaSasl>,
    /// How batches are compressed.
    pub compression: KafkaCompression,
    /// How long a record waits for others.
    pub linger: StdDuration,
}

/// Where in Kafka the Events of a Subscription go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidKafkaAddress {
    /// Whatever fills it, made legal, makes it a legal name, unless that gets too long.
    pub topic: Template,
    /// The subject of the Event without it.
    pub key: Option<Template>,
    /// Whether an empty record follows what tells a deletion.
    pub tombstones: bool,
    /// How a missing topic is created, where that is wanted.
    pub create_topic: Option<ValidKafkaTopic>,
    /// Whether the bridge may create topics at all. The process says so, not the Subscription: it is false here.
    pub may_create_topics: bool,
}

// === impl KafkaSettings ===

impl KafkaSettings {
    /// One topic per kind.
    pub const DEFAULT_TOPIC: &str = "tidings.{group}.{plural}";

    fn default_topic() -> String {
        Self::DEFAULT_TOPIC.to_owned()
    }

    /// Where the Events go; adds every mistake to `errors`, with paths that start with `path`, e.g. `spec.sink.kafka`.
    pub fn address(&self, path: &str, errors: &mut FieldErrors) -> Option<ValidKafkaAddress> {
        let Self { connection: _, topic, key, tombstones, create_topic } = self;
        let mut parsed = |field: &str, parsed: Result<Template, String>| {
            parsed.map_err(|problem| errors.push(FieldError::new(format!("{path}.{field}"), problem))).ok()
        };
        let topic = parsed("topic", topic::parse(topic));
        let key = key.as_ref().map(|key| parsed("key", parse_key(key)));
        let create_topic =
            create_topic.as_ref().map(|topic| topic.validate(&format!("{path}.createTopic"), errors));
        Some(ValidKafkaAddress {
            topic: topic?,
            key: match key {
                Some(key) => Some(key?),
                None => None,
            },
            tombstones: *tombstones,
            create_topic,
            may_create_topics: false,
        })
    }
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            connection: KafkaConnectionSettings::default(),
            topic: Self::default_topic(),
            key: None,
            tombstones: false,
            create_topic: None,
        }
    }
}

// === impl KafkaConnectionSettings ===

impl KafkaConnectionSettings {
    /// How long a record waits for others unless something is said.
    pub const DEFAULT_LINGER: &str = "5ms";

    fn default_linger() -> String {
        Self::DEFAULT_LINGER.to_owned()
    }

    /// What can be connected to; adds every mistake to `errors`, with paths that start with `path`, e.g. `spec.sink.kafka`.
    pub fn validate(&self, path: &str, errors: &mut FieldErrors) -> ValidKafkaConnection {
        let Self { brokers, tls, sasl, compression, linger } = self;
        let count = match brokers.len() {
            1..=MAX_BROKERS => None,
            0 => Some("at least one broker is needed, like `broker:9092`".to_owned()),
            count => Some(format!("{count} brokers are more than the {MAX_BROKERS} that can be named")),
        };
        errors.extend(count.map(|problem| FieldError::new(format!("{path}.brokers"), problem)));
        for (index, broker) in brokers.iter().enumerate() {
            if let Err(problem) = check_broker(broker) {
                errors.push(FieldError::new(format!("{path}.brokers[{index}]"), problem));
            }
        }
        let tls = tls.as_ref().map(|tls| tls.validate(&format!("{path}.tls"), errors));
        let sasl = sasl.as_ref().and_then(|sasl| sasl.validate(&format!("{path}.sasl"), errors));
        let linger = parse_linger(linger)
            .map_err(|problem| errors.push(FieldError::new(format!("{path}.linger"), problem)))
            .unwrap_or_default();
        ValidKafkaConnection { brokers: brokers.clone(), tls, sasl, compression: *compression, linger }
    }
}

impl Default for KafkaConnectionSettings {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            tls: None,
            sasl: None,
            compression: KafkaCompression::default(),
            linger: Self::default_linger(),
        }
    }
}

// === impl ValidKafkaConnection ===

impl ValidKafkaConnection {
    /// What has to be read before a connection can be made.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        let Self { brokers: _, tls, sasl, compression: _, linger: _ } = self;
        let tls = tls.iter().flat_map(ValidTls::secrets);
        tls.chain(sasl.iter().flat_map(ValidKafkaSasl::secrets)).collect()
    }

    /// The brokers in a few words.
    pub fn summary(&self) -> String {
        format!("kafka://{}", super::summary(self.brokers.iter().map(String::as_str)))
    }
}

/// The text itself is never repeated: where people put credentials by mistake, they must not spread.
fn check_broker(text: &str) -> Result<(), &'static str> {
    if text.contains("://") || text.contains('@') || text.len() > MAX_BROKER {
        return Err("a broker is `host:port`, without a scheme and without credentials");
    }
    let (host, port) = text.rsplit_once(':').ok_or("no port; a broker is written `broker:9092`")?;
    let host = host
        .strip_prefix('[')
        .map_or(Some(host), |host| host.strip_suffix(']').filter(|host| host.contains(':')));
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
    let bare_colons = host.is_some_and(|host| host.contains(':')) && !text.starts_with('[');
    if host.is_none_or(|host| host.is_empty() || !host.bytes().all(legal)) || bare_colons {
        return Err("no host; a broker is written `broker:9092`, and an IPv6 address in brackets");
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || !port.parse().is_ok_and(|port: u16| port > 0) {
        return Err("a port is a number from 1 to 65535");
    }
    Ok(())
}

fn parse_linger(text: &str) -> Result<StdDuration, String> {
    let linger: Duration = text.parse().map_err(|error: duration::Error| error.to_string())?;
    if linger.get() > MAX_LINGER {
        return Err("records wait for a second at most".to_owned());
    }
    Ok(linger.get())
}

fn parse_key(text: &str) -> Result<Template, String> {
    if text.is_empty() || text.len() > MAX_TEMPLATE {
        return Err(format!("a key has 1 to {MAX_TEMPLATE} bytes"));
    }
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    if template.parts().contains(&Part::Value(Placeholder::Change)) {
        return Err("with `{change}` in its key, Events of one object would have no order".to_owned());
    }
    Ok(template)
}

#[cfg(test)]
#[path = "kafka/tests.rs"]
mod tests;
