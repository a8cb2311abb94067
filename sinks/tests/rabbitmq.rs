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

/// Why it is tried again; no words where it is not.
fn reason(outcome: &Outcome) -> &str {
    if let Outcome::Retry { reason, .. } = outcome { reason } else { "" }
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

#[tokio::test]
async fn every_kind_of_queue_takes_events_and_another_prefix_is_kept() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    for kind in ["classic", "quorum", "stream"] {
        let name = format!("kind-{kind}");
        declare_exchange(&client, &name).await?;
        declare_queue(&client, &name, kind).await?;
        bind(&client, &name, "#").await?;
        let servers = [format!("amqp://{}", rabbitmq.address())];
        let target = target(json!({"servers": servers, "exchange": name, "headerPrefix": "cloudEvents:"}))?;
        until_acked(&target, &messages(&target, 20)).await?;
        // The count of a quorum queue or a stream follows its confirms.
        eventually(SOON, "the queue holds them", || async {
            match stored(&client, &name).await {
                Ok(20) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        if kind != "stream" {
            let options = BasicGetOptions { no_ack: true };
            let got = channel(&client).await?.basic_get(name.into(), options).await?.context("a message")?;
            let headers = got.properties.headers().as_ref().context("headers")?.clone();
            assert!(headers.contains_key("cloudEvents:id") && !headers.contains_key("ce-id"), "{headers:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_no_queue_takes_is_never_acked_and_its_neighbours_are() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    declare_exchange(&client, "routed").await?;
    // One that is not durable confirms at once, so that the broker confirms what came back together with others.
    let (options, arguments) = (QueueDeclareOptions::default(), FieldTable::default());
    channel(&client).await?.queue_declare("routed".into(), options, arguments).await?;
    bind(&client, "routed", "*.*.*.milk.*").await?;
    let target = plain(&rabbitmq.address(), "routed")?;
    until_ready(&target).await?;

    // Many in one go: the broker confirms several at once, and the client would mix up which of them came back.
    let context = context(&todos(), "sub-uid");
    let milk = |version| updated(&context, ObjectKey::new(Some("shop"), "milk"), version, "{}");
    let mixed: Vec<_> = (0..400)
        .map(|number| match number % 4 {
            0 => message(&target, &format!("unrouted-{number}")),
            _ => target.encoder.encode(&milk(number)),
        })
        .collect();
    let outcomes = target.sink.deliver(&mixed).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        if number % 4 == 0 {
            assert!(reason(outcome).contains("no queue is bound to the exchange \"routed\""), "{outcome:?}");
        } else {
            assert_eq!(*outcome, Outcome::Acked, "{number}");
        }
    }
    assert_eq!(stored(&client, "routed").await?, 300);
    let words = until_not_ready(&target, "Unroutable").await?;
    assert!(words.contains("k8sasbackend_com.todos.shop.unrouted-"), "{words}");

    bind(&client, "routed", "#").await?;
    until_acked(&target, &mixed).await?;
    until_ready(&target).await?;
    assert_eq!(stored(&client, "routed").await?, 700);
    Ok(())
}

#[tokio::test]
async fn a_missing_exchange_is_said_and_waited_for() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    let target = plain(&rabbitmq.address(), "later")?;
    let words = until_not_ready(&target, "ExchangeNotFound").await?;
    assert!(words.contains("\"later\""), "{words}");
    let messages = messages(&target, 3);
    for outcome in target.sink.deliver(&messages).await {
        assert_eq!(reason(&outcome), "there is no exchange \"later\"");
    }
    declare(&client, "later").await?;
    let since = Instant::now();
    until_acked(&target, &messages).await?;
    until_ready(&target).await?;
    assert!(since.elapsed() < NOTICED);
    assert_eq!(stored(&client, "later").await?, 3);

    // Gone under a channel that has been used.
    channel(&client).await?.exchange_delete("later".into(), ExchangeDeleteOptions::default()).await?;
    assert!(target.sink.deliver(&messages).await.iter().all(is_retry));
    until_not_ready(&target, "ExchangeNotFound").await?;
    Ok(())
}

#[tokio::test]
async fn one_missing_exchange_of_many_holds_up_only_its_own() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    declare(&client, "of-milk").await?;
    let servers = [format!("amqp://{}", rabbitmq.address())];
    let target = target(json!({"servers": servers, "exchange": "of-{name}"}))?;
    until_ready(&target).await?;
    let batch = ["bread", "milk", "eggs"].map(|name| message(&target, name));
    let outcomes = target.sink.deliver(&batch).await;
    assert_eq!(reason(&outcomes[0]), "there is no exchange \"of-bread\"");
    assert_eq!(outcomes[1], Outcome::Acked);
    assert_eq!(reason(&outcomes[2]), "there is no exchange \"of-eggs\"");
    until_not_ready(&target, "ExchangeNotFound").await?;
    declare(&client, "of-bread").await?;
    declare(&client, "of-eggs").await?;
    until_acked(&target, &batch).await?;
    until_ready(&target).await
}

#[tokio::test]
async fn an_exchange_is_declared_as_it_was_asked_for() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    let servers = [format!("amqp://{}", rabbitmq.address())];
    let declared = |kind: &str| {
        target(json!({"servers": servers, "exchange": "declared", "declareExchange": {"type": kind}}))
    };
    let target = declared("Fanout")?;
    until_ready(&target).await?;
    declare_queue(&client, "declared", "classic").await?;
    bind(&client, "declared", "").await?;
    until_acked(&target, &messages(&target, 2)).await?;
    assert_eq!(stored(&client, "declared").await?, 2);
    let words = until_not_ready(&declared("Direct")?, "ExchangeMismatch").await?;
    assert!(words.contains("\"declared\""), "{words}");
    Ok(())
}

#[tokio::test]
async fn a_missing_queue_behind_the_default_exchange_is_said() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    let servers = [format!("amqp://{}", rabbitmq.address())];
    let target = target(json!({"servers": servers, "exchange": "", "routingKey": "a queue"}))?;
    let words = until_not_ready(&target, "QueueNotFound").await?;
    assert!(words.contains("\"a queue\""), "{words}");
    let messages = messages(&target, 2);
    for outcome in target.sink.deliver(&messages).await {
        assert_eq!(reason(&outcome), "there is no queue \"a queue\"");
    }
    declare_queue(&client, "a queue", "classic").await?;
    until_acked(&target, &messages).await?;
    until_ready(&target).await
}

#[tokio::test]
async fn a_missing_right_is_said_and_never_acked() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    declare(&client, "bobs").await?;
    declare(&client, "anns").await?;
    let key = json!({"name": "broker", "key": "bobs"});
    let bob = |settings: Value| {
        let mut all = json!({
            "servers": [format!("amqp://{}", rabbitmq.address())],
            "auth": {"user": "bob", "passwordSecretRef": key},
        });
        all.as_object_mut().context("an object")?.extend(settings.as_object().context("an object")?.clone());
        target_in(ContentMode::Binary, all, &[("bobs", "b")])
    };
    let allowed = bob(json!({"exchange": "bobs"}))?;
    until_ready(&allowed).await?;
    assert_eq!(allowed.sink.deliver(&[message(&allowed, "milk")]).await, [Outcome::Acked]);

    let denied = bob(json!({"exchange": "anns"}))?;
    let outcomes = denied.sink.deliver(&messages(&denied, 2)).await;
    assert!(
        reason(&outcomes[0]).starts_with("the user may not publish to the exchange \"anns\""),
        "{outcomes:?}"
    );
    assert!(is_retry(&outcomes[1]));
    until_not_ready(&denied, "PermissionDenied").await?;
    assert_eq!(stored(&client, "anns").await?, 0);

    let words = bob(json!({"exchange": "bobs-own", "declareExchange": {}}))?;
    let words = until_not_ready(&words, "PermissionDenied").await?;
    assert!(words.contains("may not declare the exchange \"bobs-own\""), "{words}");
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_is_found_and_its_neighbours_arrive() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    declare(&client, "large").await?;
    let target = plain(&rabbitmq.address(), "large")?;
    until_ready(&target).await?;
    let context = context(&todos(), "sub-uid");
    let of_size = |name: &str, size: usize| {
        target.encoder.encode(&updated(&context, ObjectKey::new(Some("shop"), name), 1, vec![b' '; size]))
    };
    let batch = [of_size("a", 1000), of_size("b", LIMIT + 1), of_size("c", LIMIT), of_size("d", 2 * LIMIT)];
    let rejected = |size| Outcome::Rejected { reason: Rejection::TooLarge { size, limit: LIMIT } };
    for _ in 0..2 {
        assert_eq!(
            target.sink.deliver(&batch).await,
            [Outcome::Acked, rejected(LIMIT + 1), Outcome::Acked, rejected(2 * LIMIT)]
        );
    }
    assert!(stored(&client, "large").await? >= 4);
    until_ready(&target).await
}

#[tokio::test]
async fn each_way_not_to_be_let_in_has_its_reason() -> Result<()> {
    let rabbitmq = shared().await?;
    let (address, secure) = (rabbitmq.address(), rabbitmq.tls_address());
    let stranger = Authority::new("stranger")?;
    let Identity { certificate, key } = rabbitmq.authority().client("nobody", None)?;
    let credentials = [
        ("wrong", "hunter2"),
        ("ca", rabbitmq.authority().certificate()),
        ("stranger", stranger.certificate()),
        ("tls.crt", &certificate),
        ("tls.key", &key),
    ];
    let key = |key: &str| json!({"name": "broker", "key": key});
    let (plain, tls) = ([format!("amqp://{address}")], [format!("amqps://{secure}")]);
    let user = |name: &str, password: &str| json!({"user": name, "passwordSecretRef": key(password)});
    let certificate = json!({"caSecretRef": key("ca"), "certificateSecretName": "broker"});
    for (settings, expected, words) in [
        (json!({"servers": ["amqp://127.0.0.1:1"]}), "Unreachable", "amqp://127.0.0.1:1"),
        (json!({"servers": ["amqp://nobody.invalid"]}), "Unreachable", "amqp://nobody.invalid"),
        (json!({"servers": plain, "auth": user("ann", "wrong")}), "Unauthorized", "the user \"ann\""),
        (json!({"servers": plain, "auth": user("zoe", "wrong")}), "Unauthorized", "the user \"zoe\""),
        (json!({"servers": plain, "auth": user("ann", "absent")}), "InvalidCredentials", "key absent"),
        (json!({"servers": plain, "virtualHost": "shop"}), "VirtualHostRefused", "\"shop\""),
        (
            json!({"servers": tls, "tls": {"caSecretRef": key("stranger")}}),
            "CertificateUntrusted",
            "not trusted",
        ),
        (json!({"servers": tls}), "CertificateUntrusted", "not trusted"),
        (json!({"servers": tls, "tls": {"caSecretRef": key("wrong")}}), "InvalidCredentials", "key wrong"),
        (
            json!({"servers": tls, "auth": {"external": true}, "tls": certificate}),
            "Unauthorized",
            "whom the bridge's certificate names",
        ),
    ] {
        let target = target_in(ContentMode::Binary, settings.clone(), &credentials)?;
        let said = until_not_ready(&target, expected).await.with_context(|| settings.to_string())?;
        assert!(said.contains(words), "{settings}: {said}");
        let outcomes = target.sink.deliver(&messages(&target, 2)).await;
        assert!(outcomes.len() == 2 && outcomes.iter().all(is_retry), "{outcomes:?}");
    }
    Ok(())
}

#[tokio::test]
async fn tls_and_the_name_in_a_certificate_let_in_who_may() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    declare(&client, "secure").await?;
    let authority = rabbitmq.authority();
    let Identity { certificate, key } = authority.client("ann", None)?;
    let credentials = [("ca", authority.certificate()), ("tls.crt", &certificate), ("tls.key", &key)];
    let ca = json!({"name": "broker", "key": "ca"});
    let servers = [format!("amqps://{}", rabbitmq.tls_address())];
    for (settings, count) in [
        (json!({"servers": servers, "exchange": "secure", "tls": {"caSecretRef": ca}}), 5),
        (
            json!({"servers": servers, "exchange": "secure", "auth": {"external": true},
                "tls": {"caSecretRef": ca, "certificateSecretName": "broker"}}),
            10,
        ),
    ] {
        let target = target_in(ContentMode::Binary, settings, &credentials)?;
        until_ready(&target).await?;
        until_acked(&target, &messages(&target, 5)).await?;
        assert_eq!(stored(&client, "secure").await?, count);
    }
    Ok(())
}

#[tokio::test]
async fn a_server_with_a_bad_certificate_or_that_wants_ours_is_told_apart() -> Result<()> {
    for (shown, client_certificates, expected) in [
        (Shown::Expired, false, "CertificateExpired"),
        (Shown::OtherHost, false, "WrongHostName"),
        (Shown::Valid, true, "CertificateRefused"),
    ] {
        let users = vec![RabbitmqUser::new("ann", "secret")];
        let options = RabbitmqOptions { users, shown, client_certificates, ..RabbitmqOptions::default() };
        let rabbitmq = Rabbitmq::start_with(&Home::Temporary, options).await?;
        let ca = json!({"caSecretRef": {"name": "broker", "key": "ca"}});
        let settings = json!({"servers": [format!("amqps://{}", rabbitmq.tls_address())], "tls": ca});
        let credentials = [("ca", rabbitmq.authority().certificate())];
        let target = target_in(ContentMode::Binary, settings, &credentials)?;
        until_not_ready(&target, expected).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_password_that_was_changed_is_said_and_another_server_is_tried() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    declare(&client, "second").await?;
    let address = rabbitmq.address();
    let servers = ["amqp://127.0.0.1:1".to_owned(), format!("amqp://{address}")];
    let key = json!({"name": "broker", "key": "carl"});
    let settings =
        json!({"servers": servers, "exchange": "second", "auth": {"user": "carl", "passwordSecretRef": key}});
    let old = target_in(ContentMode::Binary, settings.clone(), &[("carl", "old")])?;
    until_acked(&old, &messages(&old, 1)).await?;
    rabbitmq.set_password("carl", "new").await?;
    let late = target_in(ContentMode::Binary, settings.clone(), &[("carl", "old")])?;
    until_not_ready(&late, "Unauthorized").await?;
    let new = target_in(ContentMode::Binary, settings, &[("carl", "new")])?;
    until_ready(&new).await
}

/// One test for what breaks a node, because each takes seconds to start.
#[tokio::test]
async fn a_broker_in_trouble_loses_nothing_and_is_found_again() -> Result<()> {
    let users = vec![RabbitmqUser::new("ann", "secret")];
    let options = RabbitmqOptions { users, ..RabbitmqOptions::default() };
    let mut rabbitmq = Rabbitmq::start_with(&Home::Temporary, options).await?;
    declare(&rabbitmq.client().await?, "kept").await?;
    let target = plain(&rabbitmq.address(), "kept")?;
    until_ready(&target).await?;
    let messages = messages(&target, 100);
    assert_eq!(target.sink.deliver(&messages[..50]).await, vec![Outcome::Acked; 50]);

    // Held first, so that the kill certainly finds the batch sent and not confirmed.
    rabbitmq.pause()?;
    let sink = target.sink.clone();
    let batch = messages.clone();
    let under_way = tokio::spawn(async move { sink.deliver(&batch).await });
    tokio::task::yield_now().await;
    let since = Instant::now();
    rabbitmq.kill()?;
    let outcomes = under_way.await?;
    assert!(outcomes.len() == 100 && outcomes.iter().all(is_retry), "{outcomes:?}");
    assert!(since.elapsed() < CONFIRM_TIMEOUT, "the loss was not noticed: {:?}", since.elapsed());
    until_not_ready(&target, "Unreachable").await?;

    rabbitmq.restart().await?;
    let since = Instant::now();
    until_acked(&target, &messages).await?;
    assert!(since.elapsed() < NOTICED, "{:?}", since.elapsed());
    let client = rabbitmq.client().await?;
    let held = stored(&client, "kept").await?;
    assert!((100..=250).contains(&held), "{held}");

    memory_alarm(&rabbitmq, &target, &messages).await?;
    silence(&mut rabbitmq, &target).await
}

async fn memory_alarm(rabbitmq: &Rabbitmq, target: &Target, messages: &[Message]) -> Result<()> {
    rabbitmq.set_memory_alarm(true).await?;
    let since = Instant::now();
    let outcomes = target.sink.deliver(messages).await;
    assert!(outcomes.iter().all(is_retry), "{outcomes:?}");
    assert!(since.elapsed() < CONFIRM_TIMEOUT * 2, "{:?}", since.elapsed());
    let words = until_not_ready(target, "Blocked").await?;
    assert!(words.contains("low on memory"), "{words}");
    let outcomes = target.sink.deliver(&messages[..2]).await;
    assert!(reason(&outcomes[0]).contains("low on memory"), "{outcomes:?}");

    rabbitmq.set_memory_alarm(false).await?;
    let since = Instant::now();
    until_acked(target, messages).await?;
    until_ready(target).await?;
    assert!(since.elapsed() < NOTICED, "{:?}", since.elapsed());
    Ok(())
}

async fn silence(rabbitmq: &mut Rabbitmq, target: &Target) -> Result<()> {
    // More than the sockets and the client take, so that even sending gets stuck.
    let body = vec![b' '; 20_000];
    let context = context(&todos(), "sub-uid");
    let large =
        |number| updated(&context, ObjectKey::new(Some("shop"), &format!("t{number}")), 1, body.clone());
    let messages: Vec<_> = (0..2000).map(|number| target.encoder.encode(&large(number))).collect();
    rabbitmq.pause()?;
    let since = Instant::now();
    let outcomes = target.sink.deliver(&messages).await;
    assert!(outcomes.len() == 2000 && outcomes.iter().all(is_retry));
    assert!(since.elapsed() < CONFIRM_TIMEOUT * 3, "{:?}", since.elapsed());
    until_not_ready(target, "Unreachable").await?;

    rabbitmq.resume()?;
    let since = Instant::now();
    until_acked(target, &messages).await?;
    until_ready(target).await?;
    assert!(since.elapsed() < NOTICED * 2, "{:?}", since.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_cut_or_silent_is_replaced() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    declare(&client, "cut").await?;
    let proxy = Proxy::start(rabbitmq.address(), Link::GOOD).await?;
    let target = plain(proxy.address(), "cut")?;
    until_ready(&target).await?;
    let messages = messages(&target, 10);
    for link in [Link::Cut, Link::Silent] {
        proxy.set(link);
        let since = Instant::now();
        let outcomes = target.sink.deliver(&messages).await;
        assert!(outcomes.len() == 10 && outcomes.iter().all(is_retry), "{link:?}: {outcomes:?}");
        assert!(since.elapsed() < CONFIRM_TIMEOUT * 3, "{link:?}: {:?}", since.elapsed());
        until_not_ready(&target, "Unreachable").await?;
        proxy.set(Link::GOOD);
        let since = Instant::now();
        until_acked(&target, &messages).await?;
        until_ready(&target).await?;
        assert!(since.elapsed() < NOTICED, "{link:?}: {:?}", since.elapsed());
    }
    Ok(())
}

#[tokio::test]
async fn what_is_acked_before_the_next_is_sent_stays_in_order() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    declare(&client, "ordered").await?;
    let target = plain(&rabbitmq.address(), "ordered")?;
    until_ready(&target).await?;
    let context = context(&todos(), "sub-uid");
    let version = |version: u64| {
        let body = version.to_string();
        target.encoder.encode(&updated(&context, ObjectKey::new(Some("shop"), "milk"), version, body))
    };
    for number in 1..=200 {
        assert_eq!(target.sink.deliver(&[version(number)]).await, [Outcome::Acked]);
    }
    let channel = channel(&client).await?;
    for number in 1..=200 {
        let got = channel.basic_get("ordered".into(), BasicGetOptions { no_ack: true }).await?;
        assert_eq!(got.context("a message")?.data, number.to_string().as_bytes());
    }
    Ok(())
}

#[tokio::test]
async fn many_batches_at_once_and_one_of_any_size_come_through() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    declare(&client, "many").await?;
    let target = plain(&rabbitmq.address(), "many")?;
    until_ready(&target).await?;
    let messages = messages(&target, 10_000);
    let outcomes = tokio::time::timeout(SOON, target.sink.deliver(&messages)).await?;
    assert!(outcomes.len() == 10_000 && outcomes.iter().all(|outcome| *outcome == Outcome::Acked));
    let batches = messages.chunks(500).map(|chunk| target.sink.deliver(chunk));
    let outcomes = tokio::time::timeout(SOON, futures::future::join_all(batches)).await?;
    assert!(outcomes.iter().flatten().all(|outcome| *outcome == Outcome::Acked));
    assert_eq!(stored(&client, "many").await?, 20_000);
    assert_eq!(target.sink.deliver(&[]).await, []);
    Ok(())
}

#[tokio::test]
async fn a_closed_sink_takes_nothing_more() -> Result<()> {
    let rabbitmq = shared().await?;
    let client = rabbitmq.client().await?;
    declare(&client, "closed").await?;
    let target = plain(&rabbitmq.address(), "closed")?;
    until_ready(&target).await?;
    target.sink.close(SOON).await;
    let outcomes = target.sink.deliver(&messages(&target, 2)).await;
    assert!(outcomes.len() == 2 && outcomes.iter().all(is_retry), "{outcomes:?}");
    assert_eq!(target.sink.check().await.map_err(|not_ready| not_ready.reason), Err("Closed".to_owned()));
    assert_eq!(stored(&client, "closed").await?, 0);
    Ok(())
}
