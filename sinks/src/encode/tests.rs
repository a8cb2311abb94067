use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use tidings_core::object::ObjectKey;
use tidings_core::route::Resource;

use super::*;
use crate::fixture::{self, todo};

/// What a reader makes of a structured body.
fn read(json: &[u8]) -> cloudevents::Event {
    serde_json::from_slice(json).unwrap()
}

/// The attributes of `event` are exactly those of `expected`, extensions included.
pub(crate) fn assert_same_attributes(event: &cloudevents::Event, expected: &Event) {
    use cloudevents::AttributesReader as _;
    let mut found = vec![
        ("specversion", event.specversion().to_string()),
        ("id", event.id().to_owned()),
        ("source", event.source().clone()),
        ("type", event.ty().to_owned()),
    ];
    found.extend(event.subject().map(|subject| ("subject", subject.to_owned())));
    found.extend(event.time().map(|time| ("time", time.to_rfc3339().replace("+00:00", "Z"))));
    found.extend(event.datacontenttype().map(|kind| ("datacontenttype", kind.to_owned())));
    found.extend(event.iter_extensions().map(|(name, value)| (name, value.to_string())));
    found.sort();
    let attributes = expected.attributes();
    let mut attributes: Vec<_> = attributes.iter().map(|(name, value)| (*name, value.to_string())).collect();
    attributes.sort();
    assert_eq!(found, attributes);
}

#[test]
fn what_a_header_cannot_hold_is_percent_encoded() {
    for (value, expected) in [
        ("com.k8sasbackend.todo.added", "com.k8sasbackend.todo.added"),
        ("/clusters/blue/apis/k8sasbackend.com/todos", "/clusters/blue/apis/k8sasbackend.com/todos"),
        ("!#$&'()*+,-./:;<=>?@[\\]^_`{|}~", "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"),
        ("a b", "a%20b"),
        ("100%", "100%25"),
        ("\"quoted\"", "%22quoted%22"),
        ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("a\r\nb\tc\u{7f}", "a%0D%0Ab%09c%7F"),
        ("", ""),
    ] {
        assert_eq!(percent_encoded(value), expected, "{value:?}");
    }
}

fn percent_encoded(value: &str) -> String {
    let mut encoded = String::new();
    percent_encode(value, &mut encoded);
    encoded
}

proptest! {
    #[test]
    fn percent_encoding_reads_back_and_is_always_printable_ascii(value in "\\PC*|[\\x00-\\x7f]*") {
        let encoded = percent_encoded(&value);
        prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'));
        prop_assert_eq!(percent_decode_str(&encoded).decode_utf8().unwrap(), value.as_str());
    }

    #[test]
    fn structured_mode_reads_back_whatever_the_name(name in "\\PC+|[\\x00-\\x7f]+") {
        let event = fixture::updated(&todo("x").context, ObjectKey::new(Some("shop"), &name), 1, r#"{"a":1}"#);
        let json: serde_json::Value = serde_json::from_slice(&structured(&event)).unwrap();
        prop_assert_eq!(json["subject"].as_str().unwrap(), event.key.as_str());
        prop_assert_eq!(&json["data"], &serde_json::json!({"a": 1}));
    }
}

#[test]
fn a_reader_finds_every_attribute_and_the_data_in_structured_mode() {
    let event = todo("milk");
    let read = read(&structured(&event));
    assert_same_attributes(&read, &event);
    let data: serde_json::Value = read.data().cloned().unwrap().try_into().unwrap();
    assert_eq!(data, serde_json::from_slice::<serde_json::Value>(&event.data).unwrap());
}

#[test]
fn what_is_not_known_is_left_out() {
    let event = Event { time: None, generation: None, gap: true, gap_missed: 7, ..todo("milk") };
    let read = read(&structured(&event));
    assert_same_attributes(&read, &event);
    assert_eq!(read.extension("gap").unwrap().to_string(), "true");
    assert_eq!(read.extension("gapmissed").unwrap().to_string(), "7");
}

#[test]
fn the_data_is_copied_byte_by_byte() {
    let body = r#"{"spec" : { "price": 1.50, "big": 12345678901234567890 }}"#;
    let event = fixture::updated(&todo("x").context, ObjectKey::new(Some("shop"), "milk"), 1, body);
    let json = String::from_utf8(structured(&event).to_vec()).unwrap();
    assert!(json.ends_with(&format!(r#","data":{body}}}"#)), "{json}");
}

fn filled(template: &str, event: &Event) -> String {
    fill(&Template::parse(template).unwrap(), event, |value, text| text.push_str(value))
}

#[test]
fn every_placeholder_is_filled() {
    let all = "{group} {version} {kind} {plural} {namespace} {name} {change} {uid} {subscription}";
    assert_eq!(
        filled(all, &todo("milk")),
        format!("k8sasbackend.com v1 Todo todos shop milk updated {} shop.all.todos", fixture::uid("milk"))
    );
    assert_eq!(filled("plain", &todo("milk")), "plain");
}

#[test]
fn the_core_group_and_cluster_scoped_objects_have_a_word_of_their_own() {
    let nodes = Resource {
        group: String::new(),
        version: "v1".into(),
        kind: "Node".into(),
        plural: "nodes".into(),
        namespaced: false,
    };
    let event = fixture::updated(&fixture::context(&nodes, "u"), ObjectKey::new(None, "node-1"), 1, "{}");
    assert_eq!(filled("{group}.{plural}.{namespace}.{name}", &event), "core.nodes._cluster.node-1");
}
