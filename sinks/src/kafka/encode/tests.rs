use std::collections::HashMap;

use cloudevents::{EventBuilder, EventBuilderV10};
use proptest::prelude::*;
use tidings_config::sink::kafka::KafkaSettings;
use tidings_core::object::ObjectKey;

use super::*;
use crate::encode::tests::assert_same_attributes;
use crate::fixture::{self, todo};

fn encoder(settings: serde_json::Value, mode: ContentMode) -> KafkaEncoder {
    let settings: KafkaSettings = serde_json::from_value(settings).unwrap();
    KafkaEncoder::new(&settings.address("kafka", &mut Vec::new()).unwrap(), mode)
}

fn binary() -> KafkaEncoder {
    encoder(serde_json::json!({}), ContentMode::Binary)
}

fn headers(message: &Message) -> HashMap<&str, &str> {
    let headers: HashMap<_, _> = message.headers.iter().map(|(name, value)| (name.as_ref(), value)).collect();
    assert_eq!(headers.len(), message.headers.len(), "a header occurs twice");
    headers
}

/// What a reader of binary mode makes of a record: attributes from `ce_` headers as they are, and `content-type`.
fn read(message: &Message) -> cloudevents::Event {
    let builder = message.headers.iter().fold(EventBuilderV10::new(), |builder, (name, value)| {
        let Some(attribute) = name.strip_prefix("ce_") else {
            assert_eq!(name, "content-type");
            return builder.data(value, message.body.to_vec());
        };
        match attribute {
            "specversion" => {
                assert_eq!(value, "1.0");
                builder
            }
            "id" => builder.id(value),
            "source" => builder.source(value),
            "type" => builder.ty(value),
            "subject" => builder.subject(value),
            "time" => builder.time(value),
            extension => builder.extension(extension, value),
        }
    });
    builder.build().unwrap()
}

#[test]
fn a_reader_finds_every_attribute_and_the_data_in_binary_mode() {
    for name in ["milk", "system:node@a=b,c", "zwei Wörter 100% \"so\""] {
        let event = todo(name);
        let message = binary().encode(&event);
        assert_eq!(headers(&message)["content-type"], "application/json");
        assert!(!headers(&message).contains_key("ce_datacontenttype"));
        assert_eq!(message.body, event.data);
        assert_same_attributes(&read(&message), &event);
    }
}

#[test]
fn structured_mode_is_one_json_document_and_says_so() {
    let event = todo("milk");
    let message = encoder(serde_json::json!({}), ContentMode::Structured).encode(&event);
    assert_eq!(
        message.headers,
        [("content-type", "application/cloudevents+json; charset=UTF-8")].into_iter().collect()
    );
    assert_same_attributes(&serde_json::from_slice(&message.body).unwrap(), &event);
}

#[test]
fn the_key_is_the_partition_key_unless_it_is_configured_and_the_event_does_not_change_by_it() {
    let event = todo("zwei Wörter");
    let message = binary().encode(&event);
    assert_eq!(message.record_key, "shop/zwei Wörter");
    assert_eq!(headers(&message)["ce_partitionkey"], message.record_key);

    let configured =
        encoder(serde_json::json!({"key": "{kind}: {name}"}), ContentMode::Binary).encode(&event);
    assert_eq!(configured.record_key, "Todo: zwei Wörter");
    assert_eq!(configured.headers, message.headers);
    assert_eq!(configured.key, event.key);
}

#[test]
fn only_a_deletion_has_a_tombstone_and_only_where_it_is_wanted() {
    let deleted = Event { change: ChangeKind::Deleted, ..todo("milk") };
    let with = encoder(serde_json::json!({"tombstones": true}), ContentMode::Binary);
    assert!(with.encode(&deleted).tombstone);
    assert!(!with.encode(&deleted).body.is_empty());
    assert!(!with.encode(&todo("milk")).tombstone);
    assert!(!with.encode(&Event { change: ChangeKind::Left, ..todo("milk") }).tombstone);
    assert!(!binary().encode(&deleted).tombstone);
}

#[test]
fn dots_of_a_value_stay_in_the_topic() {
    let topic = |template: &str, name: &str| {
        encoder(serde_json::json!({"topic": template}), ContentMode::Binary).encode(&todo(name)).destination
    };
    assert_eq!(topic(KafkaSettings::DEFAULT_TOPIC, "milk"), "tidings.k8sasbackend.com.todos");
    assert_eq!(topic("t_{namespace}-{kind}.{name}", "a.b-c"), "t_shop-Todo.a.b-c");
    assert_eq!(topic("{name}", "a_b:c"), "a_5Fb_3Ac");
    assert_eq!(topic("{name}", "\u{e4}"), "_C3_A4");
}

/// What a template with this name in it becomes.
fn topic_of(name: &str) -> String {
    let mut topic = String::new();
    push_name(name, &mut topic);
    topic
}

proptest! {
    #[test]
    fn a_topic_is_legal_whatever_the_name(name in "\\PC+|[\\x00-\\x7f]+") {
        prop_assert!(topic_of(&name).bytes().all(topic::is_legal));
    }

    #[test]
    fn different_names_have_different_topics(
        (one, other) in ("[ab._:5F3A]{1,6}", "[ab._:5F3A]{1,6}").prop_filter("different", |(a, b)| a != b)
    ) {
        prop_assert_ne!(topic_of(&one), topic_of(&other));
    }

    #[test]
    fn values_of_headers_are_the_attributes_as_they_are(name in "\\PC+|[\\x01-\\x7f]+") {
        let event = fixture::updated(&todo("x").context, ObjectKey::new(Some("shop"), &name), 1, "{}");
        let message = binary().encode(&event);
        prop_assert_eq!(headers(&message)["ce_subject"], event.key.as_str());
        prop_assert_eq!(&message.record_key, event.key.as_str());
    }
}
