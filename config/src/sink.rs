//! Connections to brokers, as `spec.sink` of a Subscription names them.
//!
//! Each kind of sink has its settings, and what they become when they are valid. Validation is pure: it asks no
//! broker and reads no file, so that the webhook, the bridge and the CLI can all run the same one.
//!
//! Structs here do not refuse unknown fields: they are part of a custom resource, whose structural schema
//! already prunes them, and has no room for `additionalProperties: false`.

pub mod template;

pub mod nats;
pub mod stdout;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::nats::{NatsSettings, ValidNats};
use self::stdout::{StdoutSettings, ValidStdout};
use crate::field_error::{FieldError, FieldErrors};

/// Where the Events go: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkSettings {
    /// A stream of NATS JetStream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsSettings>,
    /// The standard output of the bridge, for people who look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<StdoutSettings>,
}

/// How an Event and its data share a Message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ContentMode {
    /// The attributes are headers, the data is the body.
    #[default]
    Binary,
    /// The body is one JSON document with attributes and data (`application/cloudevents+json`).
    Structured,
}

/// A sink that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidSink {
    /// NATS JetStream.
    Nats(ValidNats),
    /// Standard output.
    Stdout(ValidStdout),
}

// === impl SinkSettings ===

impl SinkSettings {
    /// What can be connected to, or every mistake, with paths that start with `path`, e.g. `spec.sink`.
    pub fn validate(&self, path: &str) -> Result<ValidSink, FieldErrors> {
        let Self { nats, stdout } = self;
        match (nats, stdout) {
            (Some(nats), None) => nats.validate(&format!("{path}.nats")).map(ValidSink::Nats),
            (None, Some(stdout)) => Ok(ValidSink::Stdout(stdout.validate())),
            (None, None) => Err(vec![FieldError::new(path, "one of `nats` and `stdout` is needed")]),
            (Some(_), Some(_)) => {
                Err(vec![FieldError::new(path, "only one of `nats` and `stdout` can be given")])
            }
        }
    }
}

// === impl ValidSink ===

impl ValidSink {
    /// Where Events end up. Sinks of the same place differ only in the shape of Messages, or in the way there: what
    /// was told through one was told through the other. It is stored, so it must stay what it is.
    pub fn place(&self) -> String {
        match self {
            Self::Nats(nats) => {
                let servers: Vec<_> = nats.servers.iter().map(url::Url::as_str).collect();
                format!("nats {} {}", servers.join(","), nats.stream.as_deref().unwrap_or_default())
            }
            Self::Stdout(_) => "stdout".to_owned(),
        }
    }

    /// What people call this kind of sink.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nats(_) => "NATS",
            Self::Stdout(_) => "stdout",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate(json: &str) -> Result<ValidSink, Vec<String>> {
        let settings: SinkSettings = serde_json::from_str(json).unwrap();
        settings.validate("spec.sink").map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn exactly_one_sink_is_given() {
        assert_eq!(validate(r#"{"stdout": {}}"#).unwrap().kind(), "stdout");
        assert_eq!(validate(r#"{"nats": {"servers": ["nats://broker"]}}"#).unwrap().kind(), "NATS");
        assert_eq!(validate("{}"), Err(vec!["spec.sink: one of `nats` and `stdout` is needed".to_owned()]));
        assert_eq!(
            validate(r#"{"stdout": {}, "nats": {"servers": ["nats://broker"]}}"#),
            Err(vec!["spec.sink: only one of `nats` and `stdout` can be given".to_owned()])
        );
    }

    #[test]
    fn errors_of_the_sink_carry_the_whole_path() {
        let errors = validate(r#"{"nats": {"servers": ["http://broker"]}}"#).unwrap_err();
        assert!(errors[0].starts_with("spec.sink.nats.servers[0]: "), "{errors:?}");
    }

    #[test]
    fn content_mode_is_binary_unless_said_otherwise() {
        assert_eq!(ContentMode::default(), ContentMode::Binary);
        assert_eq!(serde_json::from_str::<ContentMode>("\"Structured\"").unwrap(), ContentMode::Structured);
    }
}
