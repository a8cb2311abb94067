//! The Kafka sink against a real broker: what is said to be delivered is in the topic, in order, and whatever breaks, nothing
//! is said that is not true.

#[path = "fixture/event.rs"]
mod fixture;

#[path = "kafka/broken.rs"]
mod broken;
#[path = "kafka/delivery.rs"]
mod delivery;
#[path = "kafka/letters.rs"]
mod in_topics;
#[path = "fixture/letters.rs"]
mod letters;
#[path = "kafka/refused.rs"]
mod refused;

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidings_config::secret::{SecretKeyRef, SecretValue, Secrets};
use tidings_config::sink::valid::{ValidAddress, ValidSink, Via};
use tidings_config::sink::{ContentMode, SinkSettings};
use tidings_core::delivery::Outcome;
use tidings_sinks::message::Message;
use tidings_sinks::sink::NotReady;
use tidings_sinks::{Connection, SinkContext, Target};
use tidings_testbed::component::Home;
use tidings_testbed::kafka::{Kafka, KafkaOptions, KafkaUser, Listener};
use tidings_testbed::wait::eventually;
use tokio::sync::OnceCell;

use crate::fixture::todo;

/// For everything that is expected to happen soon, on a machine that compiles meanwhile.
const SOON: Duration = Duration::from_secs(30);
/// The sink gives up on silent brokers after 5 seconds without progress.
const SILENCE: Duration = Duration::from_secs(5);

/// One for all tests that do not break it. Each of them has topics of its own.
async fn shared() -> Result<&'static Kafka> {
    static KAFKA: OnceCell<Kafka> = OnceCell::const_new();
    let users = vec![
        KafkaUser::new("ann", "secret"),
        KafkaUser::new("bob", "b").writing_only(&["bobs"]),
        KafkaUser::new("carl", "c").writing_only(&[]),
    ];
    let options = KafkaOptions { users, ..KafkaOptions::default() };
    KAFKA.get_or_try_init(|| Kafka::start_with(&Home::Temporary, options)).await
}

/// What a sink is made from.
struct Wanted<'a> {
    mode: ContentMode,
    /// `spec.sink.kafka`.
    settings: Value,
    /// What is in the Secret `broker`.
    credentials: &'a [(&'a str, &'a str)],
    may_create_topics: bool,
}

impl<'a> Wanted<'a> {
    /// `settings` beside the only `broker`.
    fn at(broker: String, settings: Value) -> Result<Self> {
        let mut kafka = json!({"brokers": [broker]});
        kafka
            .as_object_mut()
            .context("an object")?
            .extend(settings.as_object().context("an object")?.clone());
        Ok(Self { mode: ContentMode::Binary, settings: kafka, credentials: &[], may_create_topics: false })
    }

    fn with(self, credentials: &'a [(&'a str, &'a str)]) -> Self {
        Self { credentials, ..self }
    }

    fn target(self) -> Result<Target> {
        let settings: SinkSettings = serde_json::from_value(json!({ "kafka": self.settings }))?;
        let valid = settings.validate("spec.sink").map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
        let ValidSink { via: Via::Inline(connection), address: Some(ValidAddress::Kafka(mut address)) } =
            valid
        else {
            anyhow::bail!("{valid:?}")
        };
        address.may_create_topics = self.may_create_topics;
        let value = |(key, value): &(&str, &str)| (secret(key), SecretValue::new(value.as_bytes().to_vec()));
        let secrets = Secrets::new(self.credentials.iter().map(value));
        let connection =
            Connection::open(connection, SinkContext { secrets, owner: "shop/all.todos".to_owned() });
        connection
            .target(&ValidAddress::Kafka(address), self.mode)
            .map_err(|error| anyhow::anyhow!("{error:?}"))
    }
}

fn secret(key: &str) -> SecretKeyRef {
    SecretKeyRef::new("broker", key)
}

/// Sends to `topic` of the plain listener.
fn target(kafka: &Kafka, topic: &str) -> Result<Target> {
    Wanted::at(kafka.address(Listener::Plain), json!({ "topic": topic }))?.target()
}

fn message(target: &Target, name: &str) -> Message {
    target.encoder.encode(&todo(name))
}

fn messages(target: &Target, count: usize) -> Vec<Message> {
    (0..count).map(|number| message(target, &format!("todo-{number}"))).collect()
}

fn is_retry(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Retry { .. })
}

/// Waits until the sink says that it is ready.
async fn until_ready(target: &Target) -> Result<()> {
    eventually(SOON, "the sink is ready", || target.sink.check()).await
}

/// Waits until the sink is not ready for `reason`, and returns the words.
async fn until_not_ready(target: &Target, reason: &str) -> Result<String> {
    let NotReady { message, .. } = eventually(SOON, &format!("the sink is not ready: {reason}"), || async {
        match target.sink.check().await {
            Err(not_ready) if not_ready.reason == reason => Ok(not_ready),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    Ok(message)
}

/// Delivers until everything is acked, as the bridge would.
async fn until_acked(target: &Target, messages: &[Message]) -> Result<()> {
    eventually(SOON * 2, "everything is acked", || async {
        let outcomes = target.sink.deliver(messages).await;
        match outcomes.iter().find(|outcome| **outcome != Outcome::Acked) {
            None => Ok(()),
            Some(other) => Err(format!("{other:?}")),
        }
    })
    .await
}
