//! The scanner and the full parse give the same object, whatever the text.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::watch::full;

fn todo_type() -> TypeMeta {
    TypeMeta { api_version: "k8sasbackend.com/v1".into(), kind: "Todo".into() }
}

fn scanned(value: &Value) -> Object {
    scan(&serde_json::to_vec(value).unwrap(), &todo_type()).unwrap()
}

fn body(object: &Object) -> Value {
    serde_json::from_slice(&object.body).unwrap()
}

fn todo() -> Value {
    json!({
        "apiVersion": "k8sasbackend.com/v1", "kind": "Todo",
        "metadata": {
            "annotations": {LAST_APPLIED: "{\"a\":\"}\"}", "note": "keep \"this\""},
            "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3,
            "labels": {"app": "x"},
            "managedFields": [
                {"manager": "kubectl", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:spec": {}}},
                {"manager": "other", "time": "2026-01-02T00:00:00Z"},
                {"manager": "no time"}
            ],
            "name": "milk", "namespace": "shop", "resourceVersion": "42", "uid": "u-1"
        },
        "spec": {"message": "metadata: }{\" \\", "list": [1, 2.5, null, true]}
    })
}

#[test]
fn metadata_is_read_and_noise_is_cut() {
    let object = scanned(&todo());
    assert_eq!(object.meta.key.as_str(), "shop/milk");
    assert_eq!(object.meta.resource_version, ResourceVersion(42));
    assert_eq!(object.meta.generation, Some(3));
    assert_eq!(object.meta.labels.parse(), [("app".into(), "x".into())].into());
    assert_eq!(object.meta.modified.as_deref(), Some("2026-01-03T00:00:00Z"));
    let mut expected = todo();
    expected["metadata"].as_object_mut().unwrap().remove("managedFields");
    expected["metadata"]["annotations"].as_object_mut().unwrap().remove(LAST_APPLIED);
    assert_eq!(body(&object), expected);
}

#[test]
fn annotations_that_held_only_the_copy_go_as_a_whole() {
    let mut value = todo();
    value["metadata"]["annotations"] = json!({LAST_APPLIED: "{}"});
    assert_eq!(body(&scanned(&value))["metadata"].get("annotations"), None);
}

#[test]
fn a_list_item_without_a_type_gets_one() {
    let mut value = todo();
    value.as_object_mut().unwrap().remove("apiVersion");
    value.as_object_mut().unwrap().remove("kind");
    let body = body(&scanned(&value));
    assert_eq!((&body["apiVersion"], &body["kind"]), (&json!("k8sasbackend.com/v1"), &json!("Todo")));
}

#[test]
fn what_follows_the_metadata_is_forwarded_byte_by_byte() {
    let text = br#"{"apiVersion":"v1","kind":"X","metadata":{"name":"n","resourceVersion":"1","uid":"u"},"spec":{"n":1.0000, "s":"\u00e9"}}"#;
    assert_eq!(&scan(text, &todo_type()).unwrap().body[..], &text[..]);
}

#[test]
fn an_unusual_order_is_parsed_in_full() {
    let text = br#"{"spec":{"metadata":{"name":"wrong"}},"metadata":{"uid":"u","name":"a\u0062","resourceVersion":"1"}}"#;
    assert_eq!(scan(text, &todo_type()).unwrap().meta.key.as_str(), "ab");
}

#[test]
fn what_is_missing_is_named() {
    for field in ["name", "uid", "resourceVersion"] {
        let mut value = todo();
        value["metadata"].as_object_mut().unwrap().remove(field);
        let error = scan(&serde_json::to_vec(&value).unwrap(), &todo_type()).unwrap_err();
        assert_eq!(error.to_string(), format!("metadata.{field} is missing or of another type"));
    }
    assert!(matches!(scan(b"{\"metadata\":", &todo_type()), Err(Error::Json(_))));
}

#[test]
fn a_cut_off_object_still_says_who_it_is() {
    let text = serde_json::to_vec(&todo()).unwrap();
    let spec = text.windows(6).position(|window| window == b"\"spec\"").unwrap();
    assert_eq!(scan_prefix(&text[..spec + 20]).unwrap().key.as_str(), "shop/milk");
    assert_eq!(scan_prefix(&text[..40]), None);
}

/// Any JSON value, a few levels deep.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Annotations of any text, with or without the two that mean something.
fn any_annotations() -> impl Strategy<Value = Value> {
    let key = prop_oneof![Just(LAST_APPLIED.to_owned()), Just(TRACEPARENT.to_owned()), any::<String>()];
    proptest::collection::hash_map(key, any::<String>(), 0..4)
        .prop_map(|map| map.into_iter().map(|(key, value)| (key, Value::from(value))).collect())
}

fn any_managed_fields() -> impl Strategy<Value = Value> {
    let entry =
        (proptest::option::of("20[0-9]{2}-01-01T00:00:00Z"), any_value()).prop_map(|(time, fields)| {
            let mut entry = json!({"fieldsV1": fields});
            if let Some(time) = time {
                entry["time"] = time.into();
            }
            entry
        });
    proptest::collection::vec(entry, 0..3).prop_map(Value::from)
}

prop_compose! {
    /// An object as a server may write it, and as it may not: each field may be missing, and text is any text.
    fn any_object()(
        name in "[a-z]{1,8}|\\PC{1,3}", namespace in proptest::option::of("[a-z]{1,8}"),
        uid in "[a-z0-9-]{1,36}", version in any::<u64>(),
        generation in proptest::option::of(any::<u64>()),
        annotations in proptest::option::of(any_annotations()),
        managed in proptest::option::of(any_managed_fields()),
        more in proptest::collection::hash_map("[a-z]{1,6}", any_value(), 0..3),
        labels in proptest::option::of(any_value()), typed in any::<bool>(),
    ) -> Value {
        let mut metadata = Map::new();
        metadata.insert("name".into(), name.into());
        metadata.insert("uid".into(), uid.into());
        metadata.insert("resourceVersion".into(), version.to_string().into());
        let optional = [
            ("namespace", namespace.map(Value::from)), ("generation", generation.map(Value::from)),
            ("annotations", annotations), ("managedFields", managed), ("labels", labels),
        ];
        metadata.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        let mut object: Map<_, _> = more.into_iter().collect();
        object.insert("metadata".into(), metadata.into());
        if typed {
            object.insert("apiVersion".into(), "v1".into());
            object.insert("kind".into(), "X".into());
        }
        object.into()
    }
}

proptest! {
    #[test]
    fn scanner_and_full_parse_agree(object in any_object(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) }.unwrap();
        let scanned = scan(&text, &todo_type()).unwrap();
        let parsed = full::parse(&text, &todo_type()).unwrap();
        prop_assert_eq!(&scanned.meta, &parsed.meta);
        prop_assert_eq!(body(&scanned), body(&parsed));
    }

    #[test]
    fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = scan(&text, &todo_type());
        let _ = scan_prefix(&text);
    }

    #[test]
    fn no_cut_makes_it_panic(object in any_object(), at in any::<prop::sample::Index>()) {
        let text = serde_json::to_vec(&object).unwrap();
        let _ = scan_prefix(&text[..at.index(text.len())]);
    }
}
