use serde_json::{Value, json};

use super::*;

fn settings(change: Value) -> RabbitmqSettings {
    let mut json = json!({
        "servers": ["amqps://broker"],
        "auth": {"user": "tidings", "passwordSecretRef": {"name": "broker", "key": "password"}},
    });
    json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

fn errors(change: Value) -> Vec<String> {
    let settings = settings(change);
    let mut errors = FieldErrors::new();
    let connection = settings.connection.validate("rabbitmq", &mut errors);
    let address = settings.address("rabbitmq", &mut errors);
    assert!(!errors.is_empty() || connection.is_some() && address.is_some());
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_not_given_has_its_default() {
    let settings = settings(json!({}));
    let mut errors = FieldErrors::new();
    let connection = settings.connection.validate("", &mut errors).unwrap();
    let address = settings.address("", &mut errors).unwrap();
    assert_eq!(errors, []);
    assert_eq!(connection.virtual_host, "/");
    assert_eq!(address.exchange.to_string(), "tidings");
    assert_eq!(address.routing_key.to_string(), RabbitmqSettings::DEFAULT_ROUTING_KEY);
    assert_eq!((address.header_prefix.as_str(), address.declare), ("ce-", None));
    let declared: DeclareExchangeSettings = serde_json::from_str("{}").unwrap();
    assert_eq!(declared, DeclareExchangeSettings { kind: ExchangeType::Topic, durable: true });
}

#[test]
fn every_mistake_is_named_with_its_field() {
    let key = json!({"name": "broker", "key": "password"});
    for (change, expected) in [
        (json!({"servers": []}), "rabbitmq.servers: at least one server"),
        (json!({"servers": vec!["amqp://a"; 17]}), "rabbitmq.servers: 17 servers are more"),
        (json!({"servers": ["nats://a"]}), "rabbitmq.servers[0]: the scheme is"),
        (json!({"servers": ["amqp://ann:hunter2@a"]}), "rabbitmq.servers[0]: credentials do not belong"),
        (json!({"servers": ["amqp://a/vhost"]}), "rabbitmq.servers[0]: nothing may follow"),
        (json!({"servers": ["amqp://"]}), "rabbitmq.servers[0]: no "),
        (json!({"servers": ["amqp://a"], "tls": {}}), "rabbitmq.servers[0]: with `tls`"),
        (json!({"virtualHost": ""}), "rabbitmq.virtualHost: "),
        (json!({"auth": null}), "rabbitmq.auth: a user with a password is needed"),
        (json!({"auth": {}}), "rabbitmq.auth: either `user`"),
        (json!({"auth": {"user": "a"}}), "rabbitmq.auth: either `user`"),
        (json!({"auth": {"user": "", "passwordSecretRef": key}}), "rabbitmq.auth.user: "),
        (json!({"auth": {"user": "a", "passwordSecretRef": key, "external": true}}), "rabbitmq.auth: either"),
        (json!({"auth": {"external": true}}), "rabbitmq.auth.external: "),
        (
            json!({"auth": {"user": "a", "passwordSecretRef": {"name": "A", "key": "b"}}}),
            "rabbitmq.auth.passwordSecretRef.name: ",
        ),
        (json!({"exchange": "a".repeat(256)}), "rabbitmq.exchange: it has at most 255"),
        (json!({"exchange": "a\nb"}), "rabbitmq.exchange: it has no control characters"),
        (json!({"routingKey": "{nmae}"}), "rabbitmq.routingKey: `{nmae}` is no placeholder"),
        (json!({"exchange": "", "declareExchange": {}}), "rabbitmq.declareExchange: only an exchange"),
        (json!({"exchange": "{kind}", "declareExchange": {}}), "rabbitmq.declareExchange: only an exchange"),
        (json!({"exchange": "amq.topic", "declareExchange": {}}), "rabbitmq.declareExchange: only an"),
        (json!({"headerPrefix": "ce "}), "rabbitmq.headerPrefix: "),
        (json!({"headerPrefix": ":"}), "rabbitmq.headerPrefix: "),
    ] {
        let found = errors(change.clone());
        assert!(found.len() == 1 && found[0].starts_with(expected), "{change}: {found:?}");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn what_a_company_may_have_is_accepted() {
    for change in [
        json!({"servers": ["amqp://a", "amqp://b:1234"]}),
        json!({"auth": {"external": true}, "tls": {"certificateSecretName": "me"}}),
        json!({"exchange": "", "routingKey": "a queue/with anything"}),
        json!({"exchange": "todos.{namespace}", "routingKey": ""}),
        json!({"declareExchange": {"type": "Fanout", "durable": false}}),
        json!({"headerPrefix": "cloudEvents:"}),
        json!({"headerPrefix": ""}),
    ] {
        assert_eq!(errors(change.clone()), [""; 0], "{change}");
    }
}

#[test]
fn all_secrets_are_named() {
    let settings = settings(json!({"tls": {"certificateSecretName": "me"}}));
    let connection = settings.connection.validate("", &mut FieldErrors::new()).unwrap();
    let keys: Vec<_> =
        connection.secrets().into_iter().map(|key| format!("{}/{}", key.name, key.key)).collect();
    assert_eq!(keys, ["broker/password", "me/tls.crt", "me/tls.key"]);
}
