use std::collections::HashMap;

use cloudevents::{EventBuilder, EventBuilderV10};
use tidings_core::object::ObjectKey;

use super::*;
use crate::encode::tests::assert_same_attributes;
use crate::fixture::{self, todo};

fn encoder(settings: serde_json::Value, mode: ContentMode) -> RabbitmqEncoder {
    let settings: RabbitmqSettings = serde_json::from_value(settings).unwrap();
    RabbitmqEncoder::new(&settings.address("rabbitmq", &mut Vec::new()).unwrap(), mode)
}

fn headers(message: &Message) -> HashMap<&str, &str> {
    let headers: HashMap<_, _> = message.headers.iter().map(|(name, value)| (name.as_ref(), value)).collect();
    assert_eq!(headers.len(), message.headers.len(), "a header occurs twice");
    headers
}

/// What a reader of binary mode makes of a message.
fn read(message: &Message, prefix: &str) -> cloudevents::Event {
    let attributes =
        message.headers.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value)));
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
        extension => builder.extension(extension, value),
    });
    builder.data(headers(message)[CONTENT_TYPE], message.body.to_vec()).build().unwrap()
}

#[test]
fn a_reader_finds_every_attribute_and_the_data_in_binary_mode() {
    for prefix in ["ce-", "cloudEvents:", "cloudEvents_", "x"] {
        for name in ["milk", "system:node@a=b,c", "zwei Wörter 100% \"so\""] {
            let event = todo(name);
            let message =
                encoder(serde_json::json!({"headerPrefix": prefix}), ContentMode::Binary).encode(&event);
            assert_eq!(message.body, event.data);
            assert_eq!(message.id, event.id);
            assert_same_attributes(&read(&message, prefix), &event);
        }
    }
}

#[test]
fn properties_tell_what_is_known_beside_the_attributes() {
    for (mode, content_type) in
        [(ContentMode::Binary, "application/json"), (ContentMode::Structured, "application/cloudevents+json")]
    {
        let message = encoder(serde_json::json!({}), mode).encode(&todo("milk"));
        let headers = headers(&message);
        assert_eq!(headers[CONTENT_TYPE], content_type);
        assert_eq!(headers[TYPE], "com.k8sasbackend.todo.updated");
        assert_eq!(headers[TIMESTAMP], "1767312000");
    }
}

#[test]
fn structured_mode_is_one_json_document() {
    let event = todo("milk");
    let message = encoder(serde_json::json!({}), ContentMode::Structured).encode(&event);
    assert!(headers(&message).keys().all(|name| name.starts_with(':')), "{message:?}");
    assert_same_attributes(&serde_json::from_slice(&message.body).unwrap(), &event);
}

#[test]
fn exchange_and_routing_key_are_filled() {
    for (exchange, routing_key, expected) in [
        ("", "a queue/here", Route { exchange: "", routing_key: "a queue/here" }),
        (
            "todos.{namespace}",
            "{name}.{change}",
            Route { exchange: "todos.shop", routing_key: "a_b.updated" },
        ),
        ("todos", "", Route { exchange: "todos", routing_key: "" }),
    ] {
        let settings = serde_json::json!({"exchange": exchange, "routingKey": routing_key});
        let message = encoder(settings, ContentMode::Binary).encode(&todo("a.b"));
        assert_eq!(Route::of(&message), expected);
    }
}

#[test]
fn a_type_that_is_too_long_for_a_property_is_only_a_header() {
    let mut resource = fixture::todos();
    resource.group = format!("{}.example", "g".repeat(250));
    let context = fixture::context(&resource, "uid");
    let event = fixture::updated(&context, ObjectKey::new(Some("shop"), "milk"), 1, "{}");
    let message = encoder(serde_json::json!({}), ContentMode::Binary).encode(&event);
    let headers = headers(&message);
    assert!(!headers.contains_key(TYPE) && headers["ce-type"].len() > MAX_PROPERTY, "{headers:?}");
}
