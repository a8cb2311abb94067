//! The RabbitMQ sink against a real broker: what is said to be delivered is in the queue, and whatever breaks, nothing
//! is said that is not true.

#[path = "fixture/event.rs"]
mod fixture;

use std::time::Duration;

use anyhow::{Context as _, Result};
use lapin::options::{
    BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection as Client, ExchangeKind};
use serde_json::{Value, json};
use tidings_config::secret::{SecretKeyRef, SecretValue, Secrets};
use tidings_config::sink::{ContentMode, SinkSettings, ValidSink, Via};
use tidings_core::delivery::{Outcome, Rejection};
use tidings_core::object::ObjectKey;
use tidings_sinks::message::Message;
use tidings_sinks::sink::NotReady;
use tidings_sinks::{Connection, SinkContext, Target};
use tidings_testbed::certificates::{Authority, Identity, Shown};
use tidings_testbed::component::Home;
use tidings_testbed::proxy::{Link, Proxy};
use tidings_testbed::rabbitmq::{Rabbitmq, RabbitmqOptions, RabbitmqUser};
use tidings_testbed::wait::eventually;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::fixture::{context, todo, todos, updated};

/// For everything that is expected to happen soon, on a machine that compiles meanwhile.
const SOON: Duration = Duration::from_secs(30);
/// A mistake is noticed, and so is its correction.
const NOTICED: Duration = Duration::from_secs(10);
/// The sink gives up on a silent broker after 5 seconds without progress.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// What the shared node takes of one body.
const LIMIT: usize = 200_000;

/// One node for all tests that do not break it.
async fn shared() -> Result<&'static Rabbitmq> {
    static RABBITMQ: OnceCell<Rabbitmq> = OnceCell::const_new();
    let users = vec![
        RabbitmqUser::new("ann", "secret"),
        RabbitmqUser::new("bob", "b").publishing_only(&["bobs"]),
        RabbitmqUser::new("carl", "old"),
    ];
    let settings = vec![("max_message_size".to_owned(), LIMIT.to_string())];
    let options = RabbitmqOptions { users, settings, ..RabbitmqOptions::default() };
    RABBITMQ.get_or_try_init(|| Rabbitmq::start_with(&Home::Temporary, options)).await
}

/// A target with `settings` of `spec.sink.rabbitmq`, and what is in the Secret `broker` beside ann's password.
fn target_in(mode: ContentMode, settings: Value, credentials: &[(&str, &str)]) -> Result<Target> {
    let key = json!({"name": "broker", "key": "password"});
    let mut rabbitmq = json!({"auth": {"user": "ann", "passwordSecretRef": key}});
    rabbitmq.as_object_mut().context("an object")?.extend(settings.as_object().context("an object")?.clone());
    let settings: SinkSettings = serde_json::from_value(json!({ "rabbitmq": rabbitmq }))?;
    let valid = settings.validate("spec.sink").map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let ValidSink { via: Via::Inline(connection), address: Some(address) } = valid else {
        anyhow::bail!("{valid:?}")
    };
    let value = |(key, value): &(&str, &str)| {
        (SecretKeyRef::new("broker", *key), SecretValue::new(value.as_bytes().to_vec()))
    };
    let secrets = Secrets::new([("password", "secret\n")].iter().chain(credentials).map(value));
    let connection =
        Connection::open(connection, SinkContext { secrets, owner: "shop/all.todos".to_owned() });
    connection.target(&address, mode).map_err(|error| anyhow::anyhow!("{error:?}"))
}

fn target(settings: Value) -> Result<Target> {
    target_in(ContentMode::Binary, settings, &[])
}

/// A target on `address` in clear, that sends to the exchange `name`.
fn plain(address: &str, name: &str) -> Result<Target> {
    target(json!({"servers": [format!("amqp://{address}")], "exchange": name}))
}

async fn channel(client: &Client) -> Result<Channel> {
    Ok(client.create_channel().await?)
}

/// The durable exchange `name`, bound to a queue of the same name that takes everything.
async fn declare(client: &Client, name: &str) -> Result<()> {
    declare_exchange(client, name).await?;
    declare_queue(client, name, "classic").await?;
    bind(client, name, "#").await
}

async fn declare_exchange(client: &Client, name: &str) -> Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let channel = channel(client).await?;
    channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default()).await?;
    Ok(())
}

async fn declare_queue(client: &Client, name: &str, kind: &str) -> Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel(client).await?.queue_declare(name.into(), options, arguments).await?;
    Ok(())
}

/// Binds the queue `name` to the exchange of that name.
async fn bind(client: &Client, name: &str, key: &str) -> Result<()> {
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel(client).await?.queue_bind(name.into(), name.into(), key.into(), options, arguments).await?;
    Ok(())
}

/// How many messages the queue holds.
async fn stored(client: &Client, name: &str) -> Result<u32> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel(client).await?.queue_declare(name.into(), options, FieldTable::default()).await?;
    Ok(queue.message_count())
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

fn reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Retry { reason, .. } => reason,
        other => panic!("not a retry: {other:?}"),
    }
}

/// Waits until the sink says that it is ready.
async fn until_ready(target: &Target) -> Result<()> {
    eventually(SOON, "the sink is ready", || target.sink.check()).await
}

/// Waits until the sink is not ready for `reason`, and returns the words.
async fn until_not_ready(target: &Target, reason: &str) -> Result<String> {
    let NotReady { message, .. } =
        eventually(NOTICED, &format!("the sink is not ready: {reason}"), || async {
            match target.sink.check().await {
                Err(not_ready) if not_ready.reason == reason => Ok(not_ready),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
    assert!(!message.contains("secret") && !message.contains("hunter2"), "{message}");
    Ok(message)
}

/// Delivers until everything is acked, as the bridge would.
async fn until_acked(target: &Target, messages: &[Message]) -> Result<()> {
    eventually(SOON, "everything is acked", || async {
        let outcomes = target.sink.deliver(messages).await;
        match outcomes.iter().find(|outcome| **outcome != Outcome::Acked) {
            None => Ok(()),
            Some(other) => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn acked_events_are_in_the_queue_with_their_headers_and_properties() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    declare(&client, "acked").await?;
    let target = plain(&rabbitmq.address(), "acked")?;
    until_ready(&target).await?;
    let (one, two) = (message(&target, "milk"), message(&target, "zwei.Wörter"));
    assert_eq!(target.sink.deliver(&[one.clone(), two.clone()]).await, [Outcome::Acked, Outcome::Acked]);

    let channel = channel(&client).await?;
    for (sent, name, routing_key) in [
        (one, "milk", "k8sasbackend_com.todos.shop.milk.updated"),
        (two, "zwei.Wörter", "k8sasbackend_com.todos.shop.zwei_W%C3%B6rter.updated"),
    ] {
        let options = BasicGetOptions { no_ack: true };
        let got = channel.basic_get("acked".into(), options).await?.context("a message")?;
        assert_eq!(got.routing_key.as_str(), routing_key);
        assert_eq!(got.data, sent.body);
        let properties = &got.properties;
        assert_eq!(properties.message_id().as_ref().map(ToString::to_string), Some(todo(name).id));
        let kind = properties.kind().as_ref().map(ToString::to_string);
        assert_eq!(kind.as_deref(), Some("com.k8sasbackend.todo.updated"));
        let content_type = properties.content_type().as_ref().map(ToString::to_string);
        assert_eq!(content_type.as_deref(), Some("application/json"));
        assert_eq!((properties.delivery_mode(), properties.timestamp()), (&Some(2), &Some(1_767_312_000)));
        let headers = properties.headers().as_ref().context("headers")?;
        let subject = headers.inner().get("ce-subject").and_then(AMQPValue::as_long_string);
        assert_eq!(subject.map(ToString::to_string), Some(format!("shop/{name}")));
        assert!(!headers.contains_key("ce-datacontenttype") && headers.contains_key("ce-specversion"));
    }
    Ok(())
}

#[tokio::test]
async fn structured_mode_arrives_as_one_document() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    declare_queue(&client, "structured", "quorum").await?;
    let settings = json!({"servers": [format!("amqp://{}", rabbitmq.address())], "exchange": "", "routingKey": "structured"});
    let target = target_in(ContentMode::Structured, settings, &[])?;
    until_ready(&target).await?;
    until_acked(&target, &[message(&target, "milk")]).await?;
    let options = BasicGetOptions { no_ack: true };
    let got = channel(&client).await?.basic_get("structured".into(), options).await?.context("a message")?;
    let event: cloudevents::Event = serde_json::from_slice(&got.data)?;
    assert_eq!(cloudevents::AttributesReader::id(&event), todo("milk").id);
    Ok(())
}
