use std::collections::HashMap;

use cloudevents::{EventBuilder, EventBuilderV10};
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use tidings_config::sink::nats::NatsSettings;
use tidings_core::object::ObjectKey;

use super::*;
use crate::encode::tests::assert_same_attributes;
use crate::fixture::{self, todo};

fn encoder(settings: serde_json::Value, mode: ContentMode) -> NatsEncoder {
    let mut json = serde_json::json!({"servers": ["nats://broker"]});
    json.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let settings: NatsSettings = serde_json::from_value(json).unwrap();
    NatsEncoder::new(&settings.address("nats", &mut Vec::new()).unwrap(), mode)
}

fn binary() -> NatsEncoder {
    encoder(serde_json::json!({}), ContentMode::Binary)
}

fn headers(message: &Message) -> HashMap<&str, &str> {
    let headers: HashMap<_, _> = message.headers.iter().map(|(name, value)| (name.as_ref(), value)).collect();
    assert_eq!(headers.len(), message.headers.len(), "a header occurs twice");
    headers
}

/// What a reader of binary mode makes of a message: attributes from `ce-` headers, decoded once.
fn read(message: &Message) -> cloudevents::Event {
    let attributes = message.headers.iter().filter_map(|(name, value)| {
        let value = percent_decode_str(value).decode_utf8().unwrap().into_owned();
        Some((name.strip_prefix("ce-")?, value))
    });
    let builder = attributes.fold(EventBuilderV10::new(), |builder, (name, value)| match name {
        "specversion" => {
            assert_eq!(value, "1.0");
            builder
        }
        "id" => builder.id(value),
        "source" => builder.source(value),
        "type" => builder.ty(value),
        "subject" => builder.subject(value),
        "time" => builder.time(value),
        "datacontenttype" => builder.data(value, message.body.to_vec()),
        extension => builder.extension(extension, value),
    });
    builder.build().unwrap()
}

#[test]
fn a_reader_finds_every_attribute_and_the_data_in_binary_mode() {
    for name in ["milk", "system:node@a=b,c", "zwei Wörter 100% \"so\""] {
        let event = todo(name);
        let message = binary().encode(&event);
        let headers = headers(&message);
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["ce-datacontenttype"], "application/json");
        assert_eq!(message.body, event.data);
        assert!(message.headers.iter().all(|(_, value)| value.bytes().all(|byte| byte.is_ascii_graphic())));
        assert_same_attributes(&read(&message), &event);
    }
}

#[test]
fn structured_mode_is_one_json_document_and_says_so() {
    let event = todo("milk");
    let message = encoder(serde_json::json!({}), ContentMode::Structured).encode(&event);
    let headers = headers(&message);
    assert_eq!(headers["content-type"], "application/cloudevents+json");
    assert_eq!(headers["Content-Type"], "application/cloudevents+json");
    assert!(!headers.keys().any(|name| name.starts_with("ce-")), "{headers:?}");
    assert_same_attributes(&serde_json::from_slice(&message.body).unwrap(), &event);
}

#[test]
fn the_message_id_tells_subscriptions_apart_and_repeats_not() {
    let of = |uid: &str| {
        let key = ObjectKey::new(Some("shop"), "milk");
        let event = fixture::updated(&fixture::context(&fixture::todos(), uid), key, 42, "{}");
        let message = binary().encode(&event);
        assert_eq!(headers(&message)["Nats-Msg-Id"], message.id);
        (message.id, event.id)
    };
    let ((first, event_id), (second, _)) = (of("one"), of("two"));
    assert_eq!(first, format!("one/{event_id}"));
    assert_ne!(first, second);
    assert_eq!(of("one").0, first);
}

#[test]
fn the_expected_stream_is_sent_only_when_there_is_one() {
    assert!(!headers(&binary().encode(&todo("milk"))).contains_key("Nats-Expected-Stream"));
    let encoder = encoder(serde_json::json!({"stream": "TODOS"}), ContentMode::Binary);
    assert_eq!(headers(&encoder.encode(&todo("milk")))["Nats-Expected-Stream"], "TODOS");
}

#[test]
fn every_dot_of_a_value_becomes_an_underscore() {
    let subject = |template: &str, name: &str| {
        encoder(serde_json::json!({"subject": template}), ContentMode::Binary).encode(&todo(name)).destination
    };
    assert_eq!(subject("todos.{namespace}.{name}.{change}", "a.b..c"), "todos.shop.a_b__c.updated");
    assert_eq!(subject("{group}.{subscription}", "milk"), "k8sasbackend_com.shop_all_todos");
    assert_eq!(
        subject(NatsSettings::DEFAULT_SUBJECT, "milk"),
        "tidings.k8sasbackend_com.todos.shop.milk.updated"
    );
    assert_eq!(subject("{name}", "a_b"), "a%5Fb");
    assert_eq!(subject("{name}", "$SYS > * %\u{e4}"), "%24SYS%20%3E%20%2A%20%25%C3%A4");
    assert_eq!(subject("{name}", "system:node"), "system:node");
}

/// What a template with this name in it becomes.
fn subject_of(name: &str) -> String {
    let mut subject = String::new();
    push_token(name, &mut subject);
    subject
}

proptest! {
    #[test]
    fn a_subject_is_legal_whatever_the_name(name in "\\PC+|[\\x00-\\x7f]+") {
        let token = subject_of(&name);
        prop_assert!(!token.is_empty());
        prop_assert!(token.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'.' | b'*' | b'>' | b'$' | b'"')));
    }

    #[test]
    fn different_names_have_different_subjects(
        (one, other) in ("[ab._%25F*]{1,6}", "[ab._%25F*]{1,6}").prop_filter("different", |(a, b)| a != b)
    ) {
        prop_assert_ne!(subject_of(&one), subject_of(&other));
    }
}

#[test]
fn wildcards_cover_every_token_with_a_placeholder() {
    for (template, expected) in [
        ("todos.{namespace}.{name}.{change}", "todos.*.*.*"),
        ("a.x-{kind}-{name}.b", "a.*.b"),
        ("plain.subject", "plain.subject"),
        ("{name}", "*"),
    ] {
        assert_eq!(wildcards(&Template::parse(template).unwrap()), expected);
    }
}

#[test]
fn the_size_counts_headers_and_body() {
    let message = Message {
        id: String::new(),
        destination: String::new(),
        key: ObjectKey::new(None, "x"),
        record_key: String::new(),
        tombstone: false,
        headers: [("a", "bc")].into_iter().collect(),
        body: "12345".into(),
    };
    // `a: bc\r\n12345`
    assert_eq!(message.size(), 12);
}
