//! Where Events go, as `spec.sink` of a Subscription says it, and connections, as a Sink describes them.
//!
//! Each kind of sink has settings of two parts: its *connection* (servers, credentials, TLS), which a Sink can hold for
//! many Subscriptions, and the *address* behind it (topic, stream, subject, path), which is the Subscription's own.
//!
//! Validation is pure: it asks no broker and reads no Secret, so that the webhook, the bridge and the CLI can all run the
//! same one.
//!
//! Structs here do not refuse unknown fields: they are part of a custom resource, whose structural schema
//! already prunes them, and has no room for `additionalProperties: false`.

mod server;
pub mod template;
pub mod tls;
pub mod valid;

pub mod http;
pub mod kafka;
pub mod nats;
pub mod rabbitmq;
pub mod stdout;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::http::{HttpConnectionSettings, HttpSettings};
use self::kafka::{KafkaConnectionSettings, KafkaSettings};
use self::nats::{NatsConnectionSettings, NatsSettings};
use self::rabbitmq::{RabbitmqConnectionSettings, RabbitmqSettings};
use self::stdout::StdoutSettings;
use self::valid::{ValidAddress, ValidConnection, ValidSink, Via};
use crate::field_error::{FieldError, FieldErrors};

/// Where the Events go: a kind of sink with its connection, or a Sink that has the connection (`ref`), and then the kind
/// only with what is the Subscription's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkSettings {
    /// The Sink that has the connection.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<SinkReference>,
    /// Topics of Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSettings>,
    /// A stream of NATS JetStream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsSettings>,
    /// An exchange of RabbitMQ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rabbitmq: Option<RabbitmqSettings>,
    /// An HTTP endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSettings>,
    /// The standard output of the bridge, for people who look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<StdoutSettings>,
}

/// Names a Sink.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkReference {
    /// The namespace it is in: the Subscription's own unless given. Another one's Sink has to allow it
    /// (`spec.allowedNamespaces`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A connection to a broker, as a Sink has it: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionSettings {
    /// Brokers of Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaConnectionSettings>,
    /// Servers of NATS with JetStream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsConnectionSettings>,
    /// Servers of RabbitMQ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rabbitmq: Option<RabbitmqConnectionSettings>,
    /// A receiver of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpConnectionSettings>,
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

// === impl SinkSettings ===

impl SinkSettings {
    /// The fields that name a kind of sink.
    pub const KINDS: &str = "`kafka`, `nats`, `rabbitmq`, `http` and `stdout`";

    /// Where the Events go, or every mistake, with paths that start with `path`, e.g. `spec.sink`.
    pub fn validate(&self, path: &str) -> Result<ValidSink, FieldErrors> {
        let Self { reference, kafka, nats, rabbitmq, http, stdout } = self;
        let mut errors = FieldErrors::new();
        let given = [kafka.is_some(), nats.is_some(), rabbitmq.is_some(), http.is_some(), stdout.is_some()]
            .into_iter()
            .filter(|given| *given)
            .count();
        if given > 1 {
            errors.push(FieldError::new(path, format!("only one of {} can be given", Self::KINDS)));
        }
        if given == 0 && reference.is_none() {
            errors.push(FieldError::new(path, format!("`ref` or one of {} is needed", Self::KINDS)));
        }
        if let Some(reference) = reference {
            reference.check(&format!("{path}.ref"), &mut errors);
        }
        let mut connection = None;
        let mut address = None;
        let both = |own: bool, field: &str, errors: &mut FieldErrors| {
            if own && reference.is_some() {
                let problem = "with `ref`, the Sink has the connection: only what is behind it belongs here";
                errors.push(FieldError::new(format!("{path}.{field}"), problem));
            }
        };
        if let Some(kafka) = kafka {
            let path = format!("{path}.kafka");
            both(kafka.connection != KafkaConnectionSettings::default(), "kafka", &mut errors);
            if reference.is_none() {
                connection = Some(ValidConnection::Kafka(kafka.connection.validate(&path, &mut errors)));
            }
            address = kafka.address(&path, &mut errors).map(ValidAddress::Kafka);
        }
        if let Some(nats) = nats {
            let path = format!("{path}.nats");
            both(nats.connection != NatsConnectionSettings::default(), "nats", &mut errors);
            if reference.is_none() {
                connection = Some(ValidConnection::Nats(nats.connection.validate(&path, &mut errors)));
            }
            address = nats.address(&path, &mut errors).map(ValidAddress::Nats);
        }
        if let Some(rabbitmq) = rabbitmq {
            let path = format!("{path}.rabbitmq");
            let own = rabbitmq.connection != RabbitmqConnectionSettings::default();
            both(own, "rabbitmq", &mut errors);
            if reference.is_none() {
                let valid = rabbitmq.connection.validate(&path, &mut errors);
                connection = valid.map(ValidConnection::Rabbitmq);
            }
            address = rabbitmq.address(&path, &mut errors).map(ValidAddress::Rabbitmq);
        }
        if let Some(http) = http {
            let path = format!("{path}.http");
            both(http.connection != HttpConnectionSettings::default(), "http", &mut errors);
            if reference.is_none() {
                connection = http.connection.validate(&path, &mut errors).map(ValidConnection::Http);
            }
            address = http.address(&path, &mut errors).map(ValidAddress::Http);
        }
        if let Some(stdout) = stdout {
            if reference.is_some() {
                errors
                    .push(FieldError::new(format!("{path}.stdout"), "standard output needs no Sink (`ref`)"));
            }
            connection = Some(ValidConnection::Stdout);
            address = Some(ValidAddress::Stdout(stdout.validate()));
        }
        let via = match (reference, connection) {
            (Some(reference), _) => Some(Via::Sink(reference.clone())),
            (None, Some(connection)) => Some(Via::Inline(connection)),
            (None, None) => None,
        };
        match via {
            Some(via) if errors.is_empty() => Ok(ValidSink { via, address }),
            _ => Err(errors),
        }
    }
}

// === impl SinkReference ===

impl SinkReference {
    /// Adds what is wrong with it, at `path`.
    fn check(&self, path: &str, errors: &mut FieldErrors) {
        let Self { namespace, name } = self;
        let ends = |text: &str| text.starts_with(['-', '.']) || text.ends_with(['-', '.']);
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if let Some(namespace) = namespace
            && (!(1..=63).contains(&namespace.len()) || !namespace.bytes().all(legal) || ends(namespace))
        {
            let problem = format!("{namespace:?} is not the name of a namespace");
            errors.push(FieldError::new(format!("{path}.namespace"), problem));
        }
        let dotted = |byte: u8| legal(byte) || byte == b'.';
        if !(1..=253).contains(&name.len()) || !name.bytes().all(dotted) || ends(name) {
            errors
                .push(FieldError::new(format!("{path}.name"), format!("{name:?} is not the name of a Sink")));
        }
    }
}

// === impl ConnectionSettings ===

impl ConnectionSettings {
    /// What can be connected to, or every mistake, with paths that start with `path`, e.g. `spec`.
    pub fn validate(&self, path: &str) -> Result<ValidConnection, FieldErrors> {
        let Self { kafka, nats, rabbitmq, http } = self;
        let mut errors = FieldErrors::new();
        let connection = match (kafka, nats, rabbitmq, http) {
            (Some(kafka), None, None, None) => {
                Some(ValidConnection::Kafka(kafka.validate(&format!("{path}.kafka"), &mut errors)))
            }
            (None, Some(nats), None, None) => {
                Some(ValidConnection::Nats(nats.validate(&format!("{path}.nats"), &mut errors)))
            }
            (None, None, Some(rabbitmq), None) => {
                let valid = rabbitmq.validate(&format!("{path}.rabbitmq"), &mut errors);
                valid.map(ValidConnection::Rabbitmq)
            }
            (None, None, None, Some(http)) => {
                http.validate(&format!("{path}.http"), &mut errors).map(ValidConnection::Http)
            }
            _ => {
                let problem = "exactly one of `kafka`, `nats`, `rabbitmq` and `http` is needed";
                errors.push(FieldError::new(path, problem));
                None
            }
        };
        connection.filter(|_| errors.is_empty()).ok_or(errors)
    }
}

/// The first of several servers, and how many more there are.
fn summary<'a>(mut servers: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = servers.len().saturating_sub(1);
    match (servers.next(), more) {
        (None, _) => String::new(),
        (Some(first), 0) => first.to_owned(),
        (Some(first), more) => format!("{first} (+{more})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate(json: &str) -> Result<ValidSink, Vec<String>> {
        let settings: SinkSettings = serde_json::from_str(json).unwrap();
        settings.validate("spec.sink").map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    fn kind(json: &str) -> String {
        validate(json).unwrap().address.unwrap().kind().to_string()
    }

    #[test]
    fn exactly_one_sink_is_given() {
        assert_eq!(kind(r#"{"stdout": {}}"#), "stdout");
        assert_eq!(kind(r#"{"nats": {"servers": ["nats://broker"]}}"#), "NATS");
        assert_eq!(kind(r#"{"kafka": {"brokers": ["broker:9092"]}}"#), "Kafka");
        let errors = validate("{}").unwrap_err();
        assert_eq!(errors, [format!("spec.sink: `ref` or one of {} is needed", SinkSettings::KINDS)]);
        let errors = validate(r#"{"stdout": {}, "nats": {"servers": ["nats://broker"]}}"#).unwrap_err();
        assert_eq!(errors, [format!("spec.sink: only one of {} can be given", SinkSettings::KINDS)]);
    }

    #[test]
    fn a_sink_that_is_named_has_the_connection() {
        let valid = validate(r#"{"ref": {"name": "company"}}"#).unwrap();
        let named = SinkReference { namespace: None, name: "company".to_owned() };
        assert_eq!(valid, ValidSink { via: Via::Sink(named), address: None });
        let valid = validate(r#"{"ref": {"name": "company"}, "nats": {"subject": "a.b"}}"#).unwrap();
        assert!(
            matches!(valid.address, Some(ValidAddress::Nats(address)) if address.subject.to_string() == "a.b")
        );
        for (sink, path) in [
            (r#"{"ref": {"name": "company"}, "nats": {"servers": ["nats://broker"]}}"#, "spec.sink.nats: "),
            (r#"{"ref": {"name": "company"}, "stdout": {}}"#, "spec.sink.stdout: "),
            (r#"{"nats": {}}"#, "spec.sink.nats.servers: "),
            (r#"{"ref": {"name": "company"}, "kafka": {"linger": "1ms"}}"#, "spec.sink.kafka: "),
            (r#"{"kafka": {}}"#, "spec.sink.kafka.brokers: "),
            (r#"{"ref": {"name": "Company"}}"#, "spec.sink.ref.name: \"Company\" is not"),
            (
                r#"{"ref": {"name": "company", "namespace": "a.b"}}"#,
                "spec.sink.ref.namespace: \"a.b\" is not",
            ),
        ] {
            let errors = validate(sink).unwrap_err();
            assert!(errors.len() == 1 && errors[0].starts_with(path), "{sink}: {errors:?}");
        }
    }

    #[test]
    fn errors_of_the_sink_carry_the_whole_path() {
        let errors = validate(r#"{"nats": {"servers": ["http://broker"]}}"#).unwrap_err();
        assert!(errors[0].starts_with("spec.sink.nats.servers[0]: "), "{errors:?}");
        let settings: ConnectionSettings = serde_json::from_str(
            r#"{"nats": {"servers": ["nats://a"], "tls": {"certificateSecretName": "X"}}}"#,
        )
        .unwrap();
        let errors = settings.validate("spec").unwrap_err();
        assert_eq!(errors[0].path, "spec.nats.tls.certificateSecretName");
    }

    #[test]
    fn a_place_is_where_events_end_up_whoever_sends_them() {
        let place = |json: &str| match validate(json).unwrap() {
            ValidSink { via: Via::Inline(connection), address: Some(address) } => connection.place(&address),
            other => panic!("{other:?}"),
        };
        let rabbitmq = |user: &str, rest: &str| {
            let auth = format!(r#"{{"user": "{user}", "passwordSecretRef": {{"name": "a", "key": "b"}}}}"#);
            place(&format!(r#"{{"rabbitmq": {{"servers": ["amqp://a"], "auth": {auth}{rest}}}}}"#))
        };
        assert_eq!(rabbitmq("ann", ""), "rabbitmq amqp://a / tidings");
        assert_eq!(rabbitmq("bob", r#", "headerPrefix": "x""#), rabbitmq("ann", ""));
        assert_ne!(rabbitmq("ann", r#", "exchange": "b""#), rabbitmq("ann", ""));
        assert_ne!(rabbitmq("ann", r#", "virtualHost": "b""#), rabbitmq("ann", ""));
        let http = place(r#"{"http": {"url": "https://a/b?key=hunter2", "path": "c/{name}"}}"#);
        assert_eq!(http, "http https://a/b c/{name}");
        assert_eq!(place(r#"{"nats": {"servers": ["nats://a"], "stream": "B"}}"#), "nats nats://a B");
    }

    #[test]
    fn content_mode_is_binary_unless_said_otherwise() {
        assert_eq!(ContentMode::default(), ContentMode::Binary);
        assert_eq!(serde_json::from_str::<ContentMode>("\"Structured\"").unwrap(), ContentMode::Structured);
    }
}
