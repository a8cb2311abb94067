//! The connections of the RabbitMQ sink to a real broker: whom it lets in, and what becomes of it in trouble.

#[path = "fixture/event.rs"]
mod fixture;

#[path = "fixture/rabbitmq.rs"]
mod node;

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidings_config::sink::ContentMode;
use tidings_core::delivery::Outcome;
use tidings_core::object::ObjectKey;
use tidings_sinks::Target;
use tidings_sinks::message::Message;
use tidings_testbed::certificates::{Authority, Identity, Shown};
use tidings_testbed::component::Home;
use tidings_testbed::proxy::{Link, Proxy};
use tidings_testbed::rabbitmq::{Rabbitmq, RabbitmqOptions, RabbitmqUser};
use tokio::time::Instant;

use crate::fixture::{context, todos, updated};
use crate::node::{
    NOTICED, SOON, declare, is_retry, messages, plain, reason, shared, stored, target_in, until_acked,
    until_not_ready, until_ready,
};

/// The sink gives up on a silent broker after 5 seconds without progress.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

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

#[tokio::test]
async fn a_server_that_went_silent_for_ever_is_left_for_another() -> Result<()> {
    let rabbitmq = shared().await?;
    declare(&rabbitmq.client().await?, "left").await?;
    let first = Proxy::start(rabbitmq.address(), Link::GOOD).await?;
    let second = Proxy::start(rabbitmq.address(), Link::GOOD).await?;
    let servers = [&first, &second].map(|proxy| format!("amqp://{}", proxy.address()));
    let settings = json!({"servers": servers, "exchange": "left"});
    let target = target_in(ContentMode::Binary, settings, &[])?;
    let messages = messages(&target, 3);
    until_acked(&target, &messages).await?;

    first.set(Link::Silent);
    let since = Instant::now();
    assert!(target.sink.deliver(&messages).await.iter().all(is_retry));
    assert!(target.sink.check().await.is_err());
    assert!(since.elapsed() < NOTICED + CONFIRM_TIMEOUT, "{:?}", since.elapsed());
    // The silence of the first one is waited for once more; its heartbeats would be missed only after 20 seconds.
    until_acked(&target, &messages).await?;
    assert!(since.elapsed() < Duration::from_secs(21), "{:?}", since.elapsed());
    Ok(())
}
