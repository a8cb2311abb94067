//! Dead letters in topics.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidings_config::sink::ContentMode;
use tidings_testbed::kafka::Listener;

use super::shared;
use crate::letters::{Place, contract, dead};

/// With `settings` of `kafka` beside the plain listener.
async fn place(settings: Value) -> Result<Place> {
    let brokers = json!({"brokers": [shared().await?.address(Listener::Plain)]});
    Place::new("kafka", settings, brokers, &[])
}

#[tokio::test]
async fn a_topic_gives_each_letter_until_it_is_consumed() -> Result<()> {
    let kafka = shared().await?;
    for (partitions, mode) in [(1, ContentMode::Binary), (3, ContentMode::Structured)] {
        let topic = format!("dead-{partitions}");
        kafka.create_topic(&topic, partitions, &[]).await?;
        contract(&place(json!({ "topic": topic })).await?, mode).await?;
    }
    Ok(())
}

#[tokio::test]
async fn topics_whose_names_are_made_of_values_are_all_read() -> Result<()> {
    let kafka = shared().await?;
    for topic in ["lost.milk", "lost.bread", "lost."] {
        kafka.create_topic(topic, 2, &[]).await?;
    }
    contract(&place(json!({"topic": "lost.{name}"})).await?, ContentMode::Binary).await
}

#[tokio::test]
async fn a_topic_or_group_that_cannot_be_used_is_said() -> Result<()> {
    let missing = place(json!({"topic": "nowhere"})).await?.open().await.err().unwrap();
    assert_eq!(missing.reason, "TopicNotFound", "{missing}");
    let missing = place(json!({"topic": "nowhere.{name}"})).await?.open().await.err().unwrap();
    assert_eq!(missing.reason, "TopicNotFound", "{missing}");
    let away = Place::new("kafka", json!({"brokers": ["127.0.0.1:9"], "topic": "dead"}), json!({}), &[])?;
    let away = away.open().await.err().unwrap();
    assert_eq!(away.reason, "Unreachable", "{away}");
    Ok(())
}

#[tokio::test]
async fn who_has_what_a_listener_asks_for_reads() -> Result<()> {
    let kafka = shared().await?;
    let key = |key: &str| json!({"name": "broker", "key": key});
    let files = [("ca", kafka.authority().certificate()), ("password", "secret")];
    let tls = json!({"caSecretRef": key("ca")});
    let user = json!({"scramSha512": {"user": "ann", "passwordSecretRef": key("password")}});
    let tokens = kafka.tokens().await?;
    let oauth = json!({"oauthBearer": {
        "tokenEndpoint": tokens.url(), "clientId": "ann", "clientSecretRef": key("password"),
    }});
    for (listener, more) in [
        (Listener::SaslTls, json!({"topic": "read-by-user", "tls": tls, "sasl": user})),
        (Listener::Sasl, json!({"topic": "read-by-token", "sasl": oauth})),
    ] {
        kafka.create_topic(more["topic"].as_str().context("a topic")?, 1, &[]).await?;
        let place = Place::new("kafka", json!({"brokers": [kafka.address(listener)]}), more, &files)?;
        contract(&place, ContentMode::Binary).await?;
    }
    Ok(())
}

#[tokio::test]
async fn who_may_not_read_is_told_so_and_no_credential_is() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("unread", 1, &[]).await?;
    kafka.allow_writing("bob", &["unread"]).await?;
    let read = async |user: &str, password: &str| {
        let user = json!({"user": user, "passwordSecretRef": {"name": "broker", "key": "password"}});
        let settings = json!({"topic": "unread", "sasl": {"plain": user}});
        let broker = json!({"brokers": [kafka.address(Listener::Sasl)]});
        let place = Place::new("kafka", settings, broker, &[("password", password)])?;
        let refused = match place.open().await {
            Ok(mut letters) => letters.next().await.err().context("he may")?,
            Err(refused) => refused,
        };
        anyhow::ensure!(!refused.message.contains("hunter2"), "{refused}");
        anyhow::Ok(refused)
    };
    let bob = read("bob", "b").await?;
    assert_eq!(bob.reason, "PermissionDenied", "{bob}");
    let stranger = read("ann", "hunter2").await?;
    assert_eq!(stranger.reason, "Unauthorized", "{stranger}");
    Ok(())
}

#[tokio::test]
async fn groups_do_not_know_of_each_other() -> Result<()> {
    shared().await?.create_topic("grouped", 1, &[]).await?;
    let place = place(json!({"topic": "grouped"})).await?;
    contract(&place, ContentMode::Binary).await?;
    let other = place.by(|reader| reader.group = Some("mine".to_owned()));
    other.put(ContentMode::Binary, &[dead("shop/all.todos", "milk", 7)]).await?;
    let mut letters = other.open().await.unwrap();
    let mut count = 0;
    while letters.next().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 7, "all that there are");
    Ok(())
}
