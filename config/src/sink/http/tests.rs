use serde_json::{Value, json};

use super::*;

fn settings(change: Value) -> HttpSettings {
    let mut json = json!({"url": "https://receiver/events"});
    json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

fn errors(change: Value) -> Vec<String> {
    let settings = settings(change);
    let mut errors = FieldErrors::new();
    let connection = settings.connection.validate("http", &mut errors);
    let address = settings.address("http", &mut errors);
    assert!(!errors.is_empty() || connection.is_some() && address.is_some());
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn only_a_url_is_needed() {
    let settings = settings(json!({}));
    let connection = settings.connection.validate("", &mut FieldErrors::new()).unwrap();
    assert_eq!(connection.timeout, HttpConnectionSettings::DEFAULT_TIMEOUT);
    assert!(connection.auth.is_none() && !connection.public_only && connection.secrets().is_empty());
    assert_eq!(settings.address("", &mut FieldErrors::new()).unwrap(), ValidHttpAddress::default());
}

#[test]
fn every_mistake_is_named_with_its_field() {
    let key = json!({"name": "receiver", "key": "token"});
    for (change, expected) in [
        (json!({"url": null}), "http.url: a URL is needed"),
        (json!({"url": "nats://a"}), "http.url: the scheme is"),
        (json!({"url": "https://ann:hunter2@a"}), "http.url: credentials do not belong"),
        (json!({"url": "https://a#b"}), "http.url: a fragment"),
        (json!({"url": "http://a", "tls": {}}), "http.url: with `tls`"),
        (json!({"auth": {}}), "http.auth: either"),
        (json!({"auth": {"user": "a"}}), "http.auth: either"),
        (json!({"auth": {"tokenSecretRef": key, "user": "a"}}), "http.auth: either"),
        (json!({"auth": {"user": "a:b", "passwordSecretRef": key}}), "http.auth.user: "),
        (json!({"headers": [{"name": "a b", "valueSecretRef": key}]}), "http.headers[0].name: the name"),
        (json!({"headers": [{"name": "Host", "valueSecretRef": key}]}), "http.headers[0].name: this header"),
        (json!({"headers": [{"name": "ce-id", "valueSecretRef": key}]}), "http.headers[0].name: this header"),
        (
            json!({"headers": [{"name": "x-key", "valueSecretRef": {"name": "A", "key": "a"}}]}),
            "http.headers[0].valueSecretRef.name: ",
        ),
        (json!({"timeout": "10ms"}), "http.timeout: "),
        (json!({"timeout": "soon"}), "http.timeout: \"soon\" is not a duration"),
        (json!({"timeout": "1h"}), "http.timeout: "),
        (json!({"path": "{nmae}"}), "http.path: `{nmae}`"),
        (json!({"path": "a?b"}), "http.path: a path has only"),
        (json!({"path": "{name}/../b"}), "http.path: no part of a path"),
        (json!({"path": "./b"}), "http.path: no part of a path"),
        (json!({"path": "a/%2E."}), "http.path: no part of a path"),
        (json!({"path": "a".repeat(1025)}), "http.path: a path has at most"),
        (json!({"maxBatch": 0}), "http.maxBatch: "),
        (json!({"maxBatch": 1001}), "http.maxBatch: "),
        (json!({"retryOn": [300, 200]}), "http.retryOn[1]: 200 is not"),
        (json!({"rejectOn": [600]}), "http.rejectOn[0]: "),
        (json!({"rejectOn": vec![300; 33]}), "http.rejectOn: 33 statuses"),
        (json!({"retryOn": [404], "rejectOn": [404]}), "http.rejectOn: 404 is also"),
    ] {
        let found = errors(change.clone());
        assert!(found.len() == 1 && found[0].starts_with(expected), "{change}: {found:?}");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn all_secrets_are_named_and_a_query_is_not_shown() {
    let key = |key: &str| json!({"name": "receiver", "key": key});
    let settings = settings(json!({
        "url": "https://receiver/events?key=hunter2",
        "auth": {"user": "ann", "passwordSecretRef": key("password")},
        "headers": [{"name": "x-key", "valueSecretRef": key("header")}],
        "tls": {"caSecretRef": key("ca")},
    }));
    let connection = settings.connection.validate("", &mut FieldErrors::new()).unwrap();
    let keys: Vec<_> = connection.secrets().into_iter().map(|key| key.key).collect();
    assert_eq!(keys, ["password", "header", "ca"]);
    assert_eq!(connection.summary(), "https://receiver/events");
}
