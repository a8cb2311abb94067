//! Topics of Kafka: what they can be called, and what they are made like.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MAX_TEMPLATE;
use crate::field_error::{FieldError, FieldErrors};
use crate::sink::template::{Part, Template};

/// The longest name of a topic, in bytes.
pub const MAX_NAME: usize = 249;
/// The most partitions that a topic is created with.
const MAX_PARTITIONS: i32 = 10_000;
/// The most replicas.
const MAX_REPLICAS: i32 = 100;
/// The most settings of a topic, and the longest of them in bytes.
const MAX_CONFIG: usize = 64;
const MAX_CONFIG_VALUE: usize = 1024;

/// What a missing topic is created like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaTopicSettings {
    /// How many partitions it has. Without it, as many as the cluster's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub partitions: Option<i32>,
    /// How many brokers hold each of them. Without it, as many as the cluster's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub replication_factor: Option<i32>,
    /// More settings, by Kafka's own names, e.g. `cleanup.policy: compact`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64), schema_with = "config_schema")]
    pub config: BTreeMap<String, String>,
}

/// A topic that can be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidKafkaTopic {
    /// The cluster's default without it.
    pub partitions: Option<i32>,
    /// The cluster's default without it.
    pub replication_factor: Option<i32>,
    /// Settings by Kafka's own names.
    pub config: BTreeMap<String, String>,
}

// === impl KafkaTopicSettings ===

impl KafkaTopicSettings {
    /// What is created; adds every mistake to `errors`, with paths that start with `path`.
    pub fn validate(&self, path: &str, errors: &mut FieldErrors) -> ValidKafkaTopic {
        let Self { partitions, replication_factor, config } = self;
        let counts = [
            ("partitions", partitions, MAX_PARTITIONS),
            ("replicationFactor", replication_factor, MAX_REPLICAS),
        ];
        for (field, count, max) in counts {
            if let Some(count) = count.filter(|count| !(1..=max).contains(count)) {
                let problem = format!("{count} is not from 1 to {max}");
                errors.push(FieldError::new(format!("{path}.{field}"), problem));
            }
        }
        if config.len() > MAX_CONFIG {
            let problem =
                format!("{} settings are more than the {MAX_CONFIG} that are possible", config.len());
            errors.push(FieldError::new(format!("{path}.config"), problem));
        }
        let legal =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_');
        for (name, value) in config {
            let path = format!("{path}.config[{name:?}]");
            if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(legal) {
                errors.push(FieldError::new(&path, "no setting of a topic is called that"));
            }
            if value.len() > MAX_CONFIG_VALUE || value.contains('\0') {
                let problem = format!("a value has at most {MAX_CONFIG_VALUE} bytes, and no zero among them");
                errors.push(FieldError::new(&path, problem));
            }
        }
        ValidKafkaTopic {
            partitions: *partitions,
            replication_factor: *replication_factor,
            config: config.clone(),
        }
    }
}

/// Every text has a bound, so that the API server can tell what a CEL rule costs at most.
fn config_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": MAX_CONFIG,
        "additionalProperties": {"type": "string", "maxLength": MAX_CONFIG_VALUE},
    })
}

/// Whether a topic can have this character in its name.
pub fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

pub(super) fn parse(text: &str) -> Result<Template, String> {
    if text.is_empty() || text.len() > MAX_TEMPLATE {
        return Err(format!("a topic has 1 to {MAX_TEMPLATE} bytes"));
    }
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    let literals = template.parts().iter().filter_map(|part| match part {
        Part::Literal(literal) => Some(&**literal),
        Part::Value(_) => None,
    });
    let literals: String = literals.collect();
    if !literals.bytes().all(is_legal) {
        return Err("a topic's name has letters, digits, `.`, `_` and `-`".to_owned());
    }
    // No value is empty.
    let least =
        literals.len() + template.parts().iter().filter(|part| matches!(part, Part::Value(_))).count();
    if least > MAX_NAME {
        return Err(format!("a topic's name has at most {MAX_NAME} characters"));
    }
    if matches!(text, "." | "..") {
        return Err("no topic is called `.` or `..`".to_owned());
    }
    Ok(template)
}
