//! The RabbitMQ sink against a real broker: what is said to be delivered is in the queue, and whatever is missing there,
//! nothing is said that is not true.

#[path = "fixture/event.rs"]
mod fixture;

#[path = "fixture/rabbitmq.rs"]
mod node;

use anyhow::{Context as _, Result};
use lapin::options::{BasicGetOptions, ExchangeDeleteOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tidings_config::sink::ContentMode;
use tidings_core::delivery::{Outcome, Rejection};
use tidings_core::object::ObjectKey;
use tidings_testbed::wait::eventually;
use tokio::time::Instant;

use crate::fixture::{context, todo, todos, updated};
use crate::node::{
    LIMIT, NOTICED, SOON, bind, channel, declare, declare_exchange, declare_queue, is_retry, message,
    messages, plain, reason, shared, stored, target, target_in, until_acked, until_not_ready, until_ready,
};

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
