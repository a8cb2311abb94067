use cloudevents::{EventBuilder, EventBuilderV10};
use percent_encoding::percent_decode_str;

use super::*;
use crate::encode::tests::assert_same_attributes;
use crate::fixture::todo;

fn encoder(path: &str, max_batch: Option<usize>, mode: ContentMode) -> HttpEncoder {
    let path = Template::parse(path).unwrap();
    HttpEncoder::new(&ValidHttpAddress { path, max_batch, ..ValidHttpAddress::default() }, mode)
}

/// What a reader of binary mode makes of a request: attributes from `ce-` headers, decoded once.
fn read(message: &Message) -> cloudevents::Event {
    message
        .headers
        .iter()
        .fold(EventBuilderV10::new(), |builder, (name, value)| {
            let value = percent_decode_str(value).decode_utf8().unwrap().into_owned();
            match &**name {
                "ce-specversion" => builder,
                "ce-id" => builder.id(value),
                "ce-source" => builder.source(value),
                "ce-type" => builder.ty(value),
                "ce-subject" => builder.subject(value),
                "ce-time" => builder.time(value),
                "content-type" => builder.data(value, message.body.to_vec()),
                extension => builder.extension(extension.strip_prefix("ce-").unwrap(), value),
            }
        })
        .build()
        .unwrap()
}

#[test]
fn a_reader_finds_every_attribute_and_the_data_in_binary_mode() {
    for name in ["milk", "system:node@a=b,c", "zwei Wörter 100% \"so\""] {
        let event = todo(name);
        let message = encoder("", None, ContentMode::Binary).encode(&event);
        assert_eq!(message.body, event.data);
        assert!(message.headers.iter().all(|(_, value)| value.bytes().all(|byte| byte.is_ascii_graphic())));
        assert_same_attributes(&read(&message), &event);
    }
}

#[test]
fn structured_mode_is_one_json_document_and_a_batch_an_array_of_such() {
    let event = todo("milk");
    let message = encoder("", None, ContentMode::Structured).encode(&event);
    assert_eq!(message.headers, [("content-type", "application/cloudevents+json")].into_iter().collect());
    assert_same_attributes(&serde_json::from_slice(&message.body).unwrap(), &event);

    for count in 0..4 {
        let messages: Vec<_> = (0..count)
            .map(|number| encoder("", Some(10), ContentMode::Binary).encode(&todo(&format!("todo-{number}"))))
            .collect();
        let events: Vec<cloudevents::Event> = serde_json::from_slice(&batch(messages.iter())).unwrap();
        assert_eq!(events.len(), count);
        for (number, event) in events.iter().enumerate() {
            assert_same_attributes(event, &todo(&format!("todo-{number}")));
        }
    }
}

#[test]
fn values_stay_in_their_segment_of_the_path() {
    for (name, expected) in [
        ("milk", "todos/shop/milk"),
        ("a.b-c_d~", "todos/shop/a.b-c_d~"),
        ("../admin?x=1#y", "todos/shop/..%2Fadmin%3Fx%3D1%23y"),
    ] {
        let message = encoder("todos/{namespace}/{name}", None, ContentMode::Binary).encode(&todo(name));
        assert_eq!(message.destination, expected);
    }
}
