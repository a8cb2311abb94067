use serde_json::json;

use super::sasl::{KafkaMechanism, ValidKafkaOauth};
use super::*;

fn settings(json: serde_json::Value) -> KafkaSettings {
    serde_json::from_value(json).unwrap()
}

/// With a broker, and `more`.
fn with(more: serde_json::Value) -> KafkaSettings {
    let mut json = json!({"brokers": ["broker:9092"]});
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings(json)
}

/// Connection and address, or every mistake.
fn validate(
    settings: &KafkaSettings,
    path: &str,
) -> Result<(ValidKafkaConnection, ValidKafkaAddress), FieldErrors> {
    let mut errors = FieldErrors::new();
    let connection = settings.connection.validate(path, &mut errors);
    let address = settings.address(path, &mut errors);
    address.filter(|_| errors.is_empty()).map(|address| (connection, address)).ok_or(errors)
}

/// The only error of `settings`, which must be at `path`.
fn problem(settings: &KafkaSettings, path: &str) -> String {
    let errors = validate(settings, "kafka").unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].path, path);
    errors[0].problem.clone()
}

#[test]
fn only_brokers_are_needed() {
    let (connection, address) = validate(&with(json!({})), "kafka").unwrap();
    assert_eq!(connection.brokers, ["broker:9092"]);
    assert_eq!((connection.compression, connection.linger.as_millis()), (KafkaCompression::Lz4, 5));
    assert_eq!(connection.secrets(), []);
    assert_eq!(connection.summary(), "kafka://broker:9092");
    assert_eq!(address.topic.to_string(), "tidings.{group}.{plural}");
    assert_eq!((address.key, address.tombstones, address.create_topic), (None, false, None));
    assert!(!address.may_create_topics);
}

#[test]
fn a_broker_is_a_host_and_a_port() {
    for text in ["a:1", "broker-1.kafka.svc:9092", "10.0.0.1:65535", "[::1]:9092", "my_broker:9092"] {
        validate(&settings(json!({"brokers": [text]})), "kafka").unwrap();
    }
    for (text, expected) in [
        ("", "no port"),
        ("broker", "no port"),
        (":9092", "no host"),
        ("bro ker:9092", "no host"),
        ("a,b:9092", "no host"),
        ("::1:9092", "no host"),
        ("[::1:9092", "no host"),
        ("[a]:9092", "no host"),
        ("broker:", "a port is"),
        ("broker:0", "a port is"),
        ("broker:65536", "a port is"),
        ("broker:+1", "a port is"),
        ("kafka://broker:9092", "without a scheme"),
        ("me:hunter2@broker:9092", "without credentials"),
    ] {
        let problem = problem(&settings(json!({"brokers": [text]})), "kafka.brokers[0]");
        assert!(problem.contains(expected), "{text}: {problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn one_to_sixteen_brokers() {
    for (count, expected) in
        [(0, Some("at least one broker")), (1, None), (16, None), (17, Some("more than the 16"))]
    {
        let settings = settings(json!({"brokers": vec!["broker:9092"; count]}));
        match expected {
            None => assert_eq!(validate(&settings, "kafka").unwrap().0.brokers.len(), count),
            Some(expected) => assert!(problem(&settings, "kafka.brokers").contains(expected)),
        }
    }
}

#[test]
fn a_topic_is_legal_whatever_fills_it() {
    for text in ["todos", "a.{group}.{plural}-{kind}_{change}", "{name}", "...", "{uid}."] {
        validate(&with(json!({"topic": text})), "kafka").unwrap();
    }
    for (text, expected) in [
        ("", "1 to 512 bytes"),
        (".", "no topic is called"),
        ("..", "no topic is called"),
        ("to dos", "letters, digits"),
        ("tödos", "letters, digits"),
        ("todos/{name}", "letters, digits"),
        ("todos.{nmae}", "is no placeholder"),
        ("todos.{name", "without its"),
        (&"x".repeat(250), "at most 249"),
    ] {
        let problem = problem(&with(json!({"topic": text})), "kafka.topic");
        assert!(problem.contains(expected), "{text}: {problem}");
    }
}

#[test]
fn a_key_is_the_same_for_all_events_of_an_object() {
    let key = |text: &str| validate(&with(json!({"key": text})), "kafka").unwrap().1.key.unwrap();
    assert_eq!(key("{namespace}/{name}").to_string(), "{namespace}/{name}");
    assert_eq!(key("constant ä").to_string(), "constant ä");
    for (text, expected) in
        [("", "1 to 512 bytes"), ("{x}", "no placeholder"), ("{name}.{change}", "no order")]
    {
        let problem = problem(&with(json!({"key": text})), "kafka.key");
        assert!(problem.contains(expected), "{text}: {problem}");
    }
}

#[test]
fn a_topic_to_create_is_one_that_kafka_knows() {
    let created = json!({"partitions": 6, "replicationFactor": 3, "config": {"cleanup.policy": "compact"}});
    let topic = validate(&with(json!({"createTopic": created})), "kafka").unwrap().1.create_topic.unwrap();
    assert_eq!((topic.partitions, topic.replication_factor), (Some(6), Some(3)));
    assert_eq!(topic.config["cleanup.policy"], "compact");
    for (topic, path) in [
        (json!({"partitions": 0}), "partitions"),
        (json!({"partitions": 10_001}), "partitions"),
        (json!({"replicationFactor": -1}), "replicationFactor"),
        (json!({"config": {"": "x"}}), "config[\"\"]"),
        (json!({"config": {"a b": "x"}}), "config[\"a b\"]"),
        (json!({"config": {"a": "x".repeat(1025)}}), "config[\"a\"]"),
    ] {
        problem(&with(json!({"createTopic": topic})), &format!("kafka.createTopic.{path}"));
    }
}

#[test]
fn records_wait_for_a_second_at_most() {
    assert_eq!(validate(&with(json!({"linger": "0s"})), "kafka").unwrap().0.linger, StdDuration::ZERO);
    assert_eq!(validate(&with(json!({"linger": "1s"})), "kafka").unwrap().0.linger.as_secs(), 1);
    problem(&with(json!({"linger": "1001ms"})), "kafka.linger");
}

#[test]
fn who_the_bridge_is_is_said_in_one_way() {
    let key = json!({"name": "broker", "key": "it"});
    let expected = SecretKeyRef::new("broker", "it");
    let user = json!({"user": "tidings", "passwordSecretRef": key});
    for (field, mechanism) in [
        ("plain", KafkaMechanism::Plain),
        ("scramSha256", KafkaMechanism::ScramSha256),
        ("scramSha512", KafkaMechanism::ScramSha512),
    ] {
        let (connection, _) = validate(&with(json!({"sasl": {field: user}})), "kafka").unwrap();
        let (user, password) = ("tidings".to_owned(), expected.clone());
        assert_eq!(connection.sasl, Some(ValidKafkaSasl::Password { mechanism, user, password }));
        assert_eq!(connection.secrets(), std::slice::from_ref(&expected));
    }
    let ca = json!({"name": "broker", "key": "ca"});
    let oauth = json!({"tokenEndpoint": "https://login/token", "clientId": "tidings", "clientSecretRef": key,
                       "scope": "kafka", "caSecretRef": ca});
    let (connection, _) = validate(&with(json!({"sasl": {"oauthBearer": oauth}})), "kafka").unwrap();
    assert_eq!(
        connection.sasl,
        Some(ValidKafkaSasl::Oauth(ValidKafkaOauth {
            token_endpoint: "https://login/token".parse().unwrap(),
            client_id: "tidings".to_owned(),
            client_secret: expected.clone(),
            scope: Some("kafka".to_owned()),
            ca: Some(SecretKeyRef::new("broker", "ca")),
        }))
    );
    assert_eq!(connection.secrets(), [expected, SecretKeyRef::new("broker", "ca")]);
    for sasl in
        [json!({}), json!({"plain": user, "scramSha512": user}), json!({"plain": user, "oauthBearer": oauth})]
    {
        assert!(problem(&with(json!({"sasl": sasl})), "kafka.sasl").contains("exactly one of"));
    }
}

#[test]
fn a_clients_secret_is_never_sent_in_clear() {
    let endpoint = |url: &str| {
        let key = json!({"name": "broker", "key": "it"});
        let oauth = json!({"tokenEndpoint": url, "clientId": "tidings", "clientSecretRef": key});
        with(json!({"sasl": {"oauthBearer": oauth}}))
    };
    for url in
        ["https://login/token?x=y", "http://localhost:8080/token", "http://127.0.0.1/", "http://[::1]/"]
    {
        validate(&endpoint(url), "kafka").unwrap();
    }
    for (url, expected) in [
        ("", "no URL"),
        ("login/token", "no URL"),
        ("ftp://login/token", "the scheme is"),
        ("http://login/token", "could be read"),
        ("https://me:hunter2@login/token", "credentials do not belong"),
        ("https://login/token#x", "has no `#`"),
    ] {
        let problem = problem(&endpoint(url), "kafka.sasl.oauthBearer.tokenEndpoint");
        assert!(problem.contains(expected), "{url}: {problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let broken = settings(json!({
        "brokers": ["ok:1", "broker"],
        "topic": "a/b",
        "key": "",
        "linger": "1h",
        "createTopic": {"partitions": 0},
        "sasl": {"plain": {"user": "", "passwordSecretRef": {"name": "", "key": "x"}}},
        "tls": {"caSecretRef": {"name": "a", "key": ""}},
    }));
    let errors = validate(&broken, "spec.sink.kafka").unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "spec.sink.kafka.brokers[1]",
            "spec.sink.kafka.tls.caSecretRef.key",
            "spec.sink.kafka.sasl.plain.user",
            "spec.sink.kafka.sasl.plain.passwordSecretRef.name",
            "spec.sink.kafka.linger",
            "spec.sink.kafka.topic",
            "spec.sink.kafka.key",
            "spec.sink.kafka.createTopic.partitions",
        ]
    );
}
