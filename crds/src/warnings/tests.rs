use serde_json::{Value, json};

use super::*;
use crate::sink::SinkSpec;
use crate::subscription::Subscription;
use crate::validate::validate;

/// The warnings for a Subscription with a good spec, in which `patch` replaces fields.
fn of(patch: Value) -> Vec<String> {
    let mut spec = json!({
        "sources": [{"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"}], "sink": {"stdout": {}},
    });
    for (field, value) in patch.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let subscription: Subscription = serde_json::from_value(json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription",
        "metadata": {"name": "todos", "namespace": "shop"}, "spec": spec,
    }))
    .unwrap();
    warnings(&validate(&subscription).unwrap()).iter().map(ToString::to_string).collect()
}

fn sink(sink: Value) -> Vec<String> {
    of(json!({ "sink": sink }))
}

fn delivery(delivery: Value) -> Vec<String> {
    of(json!({ "delivery": delivery }))
}

fn kafka(mut kafka: Value) -> Vec<String> {
    kafka["brokers"] = json!(["a:9092"]);
    sink(json!({ "kafka": kafka }))
}

/// Exactly one warning, at this path and with these words.
#[track_caller]
fn one(warnings: &[String], path: &str, words: &str) {
    assert!(
        warnings.len() == 1 && warnings[0].starts_with(&format!("{path}: ")) && warnings[0].contains(words),
        "{warnings:#?} is not one at {path} with {words:?}"
    );
}

#[test]
fn nothing_is_unwise_in_what_is_usual() {
    assert_eq!(of(json!({})), [""; 0]);
    assert_eq!(kafka(json!({"tombstones": true, "key": "{namespace}/{name}"})), [""; 0]);
    let secret = json!({"name": "a", "key": "b"});
    let user = json!({"user": "a", "passwordSecretRef": secret});
    assert_eq!(sink(json!({"nats": {"servers": ["tls://a"], "auth": user}})), [""; 0]);
    assert_eq!(sink(json!({"rabbitmq": {"servers": ["amqps://a"], "auth": user}})), [""; 0]);
    assert_eq!(sink(json!({"http": {"url": "http://a"}})), [""; 0]);
    assert_eq!(delivery(json!({"maxAge": "72h", "maxAttempts": 1000})), [""; 0]);
}

#[test]
fn what_loses_events_is_told() {
    one(&delivery(json!({"onReject": "Drop"})), "spec.delivery.onReject", "is lost");
    let told = delivery(json!({"onReject": "Drop", "maxAge": "10m", "maxAttempts": 3}));
    assert_eq!(told.len(), 3, "{told:#?}");
    assert_eq!(
        told[1],
        "spec.delivery.maxAge: an outage of the broker of more than 10m loses every change that waits for it"
    );
    assert!(
        told[2].starts_with("spec.delivery.maxAttempts: 3 attempts are over within minutes"),
        "{told:#?}"
    );
    one(&delivery(json!({"maxAge": "10m"})), "spec.delivery.maxAge", "blocks every object that changed");
}

#[test]
fn what_brings_less_than_it_seems_is_told() {
    one(&of(json!({"on": ["Snapshot"]})), "spec.on", "no change after it");
    one(&of(json!({"suspend": true})), "spec.suspend", "nothing is sent");
    one(&delivery(json!({"maxInFlight": 1})), "spec.delivery.maxInFlight", "with 1 on their way");
    let told = of(json!({
        "on": ["Added", "Updated"], "sink": {"kafka": {"brokers": ["a:9092"], "tombstones": true}},
    }));
    one(&told, "spec.sink.kafka.tombstones", "leaves out `Deleted`");
}

#[test]
fn dead_letters_that_never_come_or_come_back_are_told() {
    let path = "spec.delivery.deadLetter";
    one(
        &delivery(json!({"deadLetter": {"nats": {"servers": ["nats://a"]}}})),
        path,
        "nothing ever goes there",
    );
    let same = |subject: &str| {
        let nats = |subject: &str| json!({"nats": {"servers": ["nats://a"], "subject": subject}});
        of(json!({
            "sink": nats("a.{name}"), "delivery": {"onReject": "DeadLetter", "deadLetter": nats(subject)},
        }))
    };
    one(&same("a.{name}"), path, "dead letters go where the Events go");
    assert_eq!(same("dead.{name}"), [""; 0]);
    let named = json!({"ref": {"name": "company"}});
    let told = of(json!({"sink": named, "delivery": {"oversize": "DeadLetter", "deadLetter": named}}));
    one(&told, path, "dead letters go where the Events go");
}

#[test]
fn keys_and_topics_that_lose_order_or_objects_are_told() {
    one(&kafka(json!({"topic": "todos.{change}"})), "spec.sink.kafka.topic", "no order among these");
    one(&kafka(json!({"topic": "todos.{name}"})), "spec.sink.kafka.topic", "a topic of its own");
    one(&kafka(json!({"key": "{namespace}"})), "spec.sink.kafka.key", "different objects share a key");
    one(
        &kafka(json!({"key": "constant", "tombstones": true})),
        "spec.sink.kafka.key",
        "keeps only the newest",
    );
    assert_eq!(kafka(json!({"key": "{name}"})), [""; 0], "all are of one namespace");
    let everywhere = |key: &str| {
        of(json!({
            "sources": [{"apiVersion": "v1", "kind": "Pod", "namespaces": {"all": true}}],
            "sink": {"kafka": {"brokers": ["a:9092"], "key": key}},
        }))
    };
    one(&everywhere("{name}"), "spec.sink.kafka.key", "of the same name in different namespaces");
    assert_eq!(everywhere("{uid}"), [""; 0]);
    let rabbitmq = json!({
        "servers": ["amqps://a"], "auth": {"user": "a", "passwordSecretRef": {"name": "a", "key": "b"}},
        "exchange": "a.{change}",
    });
    one(&sink(json!({ "rabbitmq": rabbitmq })), "spec.sink.rabbitmq.exchange", "no order among these");
}

#[test]
fn kinds_that_share_a_compacted_topic_are_told() {
    let two = |kafka: Value| {
        of(json!({
            "sources": [{"apiVersion": "v1", "kind": "Pod"}, {"apiVersion": "v1", "kind": "ConfigMap"}],
            "sink": {"kafka": kafka},
        }))
    };
    let kafka = |topic: &str, key: &str| {
        json!({"brokers": ["a:9092"], "topic": topic, "key": key,
               "createTopic": {"config": {"cleanup.policy": "compact,delete"}}})
    };
    one(&two(kafka("all", "{namespace}/{name}")), "spec.sink.kafka.topic", "objects of different kinds");
    assert_eq!(two(kafka("all.{plural}", "{namespace}/{name}")), [""; 0]);
    assert_eq!(two(kafka("all", "{kind}/{namespace}/{name}")), [""; 0]);
}

#[test]
fn what_is_made_so_that_it_loses_is_told() {
    let create = |topic: Value| kafka(json!({ "createTopic": topic }));
    let path = "spec.sink.kafka.createTopic";
    one(&create(json!({"replicationFactor": 1})), &format!("{path}.replicationFactor"), "the only copy");
    let minimum = json!({"replicationFactor": 2, "config": {"min.insync.replicas": "3"}});
    one(&create(minimum), &format!("{path}.config[\"min.insync.replicas\"]"), "nothing is ever acknowledged");
    let retention = json!({"config": {"retention.ms": "60000"}});
    one(&create(retention), &format!("{path}.config[\"retention.ms\"]"), "longer than 60000 ms");
    let rabbitmq = json!({
        "servers": ["amqps://a"], "auth": {"user": "a", "passwordSecretRef": {"name": "a", "key": "b"}},
        "declareExchange": {"durable": false},
    });
    one(
        &sink(json!({ "rabbitmq": rabbitmq })),
        "spec.sink.rabbitmq.declareExchange.durable",
        "after a restart",
    );
}

#[test]
fn credentials_in_clear_are_told_of_subscriptions_and_sinks() {
    let secret = json!({"name": "a", "key": "b"});
    let user = json!({"user": "a", "passwordSecretRef": secret});
    let token = json!({"tokenSecretRef": secret});
    let kafka = |mechanism: &str| json!({"kafka": {"brokers": ["a:9092"], "sasl": {mechanism: user}}});
    let cases = [
        (kafka("plain"), "kafka.sasl", "reads the password"),
        (kafka("scramSha512"), "kafka.sasl", "reads the Events"),
        (
            json!({"nats": {"servers": ["tls://a", "nats://b"], "auth": user}}),
            "nats.servers[1]",
            "`tls://` does",
        ),
        (
            json!({"rabbitmq": {"servers": ["amqp://a"], "auth": user}}),
            "rabbitmq.servers[0]",
            "reads the password",
        ),
        (json!({"http": {"url": "http://a", "auth": token}}), "http.url", "reads the credentials"),
    ];
    for (connection, path, words) in cases {
        one(&sink(connection.clone()), &format!("spec.sink.{path}"), words);
        let spec: SinkSpec = serde_json::from_value(connection).unwrap();
        let told: Vec<_> = of_sink(&spec.validate().unwrap()).iter().map(ToString::to_string).collect();
        one(&told, &format!("spec.{path}"), words);
    }
    for here in [
        json!({"nats": {"servers": ["nats://127.0.0.1:4222"], "auth": user}}),
        json!({"rabbitmq": {"servers": ["amqp://localhost"], "auth": user}}),
        json!({"http": {"url": "http://[::1]:80", "auth": token}}),
        json!({"kafka": {"brokers": ["localhost:9092"], "sasl": {"plain": user}}}),
    ] {
        assert_eq!(sink(here), [""; 0]);
    }
}
