use super::*;

fn settings(json: serde_json::Value) -> NatsSettings {
    serde_json::from_value(json).unwrap()
}

fn one(field: &str, value: &str) -> NatsSettings {
    let mut json = serde_json::json!({"servers": ["nats://broker"]});
    json[field] = value.into();
    settings(json)
}

/// Connection and address, or every mistake.
fn validate(
    settings: &NatsSettings,
    path: &str,
) -> Result<(ValidNatsConnection, ValidNatsAddress), FieldErrors> {
    let mut errors = FieldErrors::new();
    let connection = settings.connection.validate(path, &mut errors);
    let address = settings.address(path, &mut errors);
    address.filter(|_| errors.is_empty()).map(|address| (connection, address)).ok_or(errors)
}

/// The only error of `settings`, which must be at `path`.
fn problem(settings: &NatsSettings, path: &str) -> String {
    let errors = validate(settings, "nats").unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].path, path);
    errors[0].problem.clone()
}

#[test]
fn only_servers_are_needed() {
    let (connection, address) =
        validate(&settings(serde_json::json!({"servers": ["nats://broker"]})), "nats").unwrap();
    assert_eq!(address.subject.to_string(), NatsSettings::DEFAULT_SUBJECT);
    assert_eq!((address.stream, connection.auth, connection.tls), (None, None, None));
}

#[test]
fn servers_are_urls_of_nats() {
    for text in ["nats://broker", "tls://broker:4222", "nats://127.0.0.1:14222/", "nats://[::1]:4222"] {
        validate(&settings(serde_json::json!({"servers": [text]})), "nats").unwrap();
    }
    for (text, expected) in [
        ("broker", "no URL like"),
        ("", "no URL like"),
        ("nats://", "no host"),
        ("nats://:4222", "no URL like"),
        ("nats://bro ker", "no URL like"),
        ("nats://broker:notaport", "no URL like"),
        ("http://broker", "the scheme is"),
        ("ws://broker", "the scheme is"),
        ("nats://broker/path", "nothing may follow"),
        ("nats://broker?x=1", "nothing may follow"),
        ("nats://me:hunter2@broker", "credentials do not belong in a URL"),
        ("nats://token@broker", "credentials do not belong in a URL"),
    ] {
        let problem = problem(&settings(serde_json::json!({"servers": [text]})), "nats.servers[0]");
        assert!(problem.contains(expected), "{text}: {problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn one_to_sixteen_servers() {
    for (count, expected) in
        [(0, Some("at least one server")), (1, None), (16, None), (17, Some("more than the 16"))]
    {
        let settings = settings(serde_json::json!({"servers": vec!["nats://broker"; count]}));
        match expected {
            None => assert_eq!(validate(&settings, "nats").unwrap().0.servers.len(), count),
            Some(expected) => assert!(problem(&settings, "nats.servers").contains(expected)),
        }
    }
}

#[test]
fn a_subject_is_legal_whatever_fills_it() {
    for text in ["todos", "todos.{namespace}.{name}.{change}", "{name}", "a-{kind}/{uid}.b", "_INBOXES.x"] {
        validate(&one("subject", text), "nats").unwrap();
    }
    for (text, expected) in [
        ("", "1 to 512 bytes"),
        ("todos..x", "may be empty"),
        (".todos", "may be empty"),
        ("todos.", "may be empty"),
        ("todos.*", "wildcards"),
        ("todos.>", "wildcards"),
        ("to dos", "without spaces"),
        ("tödos", "printable ASCII"),
        ("$JS.API", "belong to the server"),
        ("_INBOX.x", "belong to the server"),
        ("todos.{nmae}", "is no placeholder"),
        ("todos.{name", "without its"),
    ] {
        let problem = problem(&one("subject", text), "nats.subject");
        assert!(problem.contains(expected), "{text}: {problem}");
    }
}

#[test]
fn a_stream_has_a_name_the_server_takes() {
    validate(&one("stream", "TODOS_v1-a"), "nats").unwrap();
    for text in ["", "a.b", "a b", "*", ">", "a/b", "a\\b", "a\tb"] {
        problem(&one("stream", text), "nats.stream");
    }
}

#[test]
fn who_the_bridge_is_is_said_in_one_way() {
    let with = |auth: serde_json::Value| {
        settings(serde_json::json!({"servers": ["nats://broker"], "domain": "leaf", "auth": auth}))
    };
    let key = serde_json::json!({"name": "broker", "key": "it"});
    let expected = SecretKeyRef::new("broker", "it");
    for (auth, valid) in [
        (
            serde_json::json!({"user": "tidings", "passwordSecretRef": key}),
            ValidNatsAuth::Password { user: "tidings".to_owned(), password: expected.clone() },
        ),
        (serde_json::json!({"tokenSecretRef": key}), ValidNatsAuth::Token(expected.clone())),
        (serde_json::json!({"nkeySecretRef": key}), ValidNatsAuth::Nkey(expected.clone())),
        (serde_json::json!({"credsSecretRef": key}), ValidNatsAuth::Creds(expected.clone())),
    ] {
        let (connection, _) = validate(&with(auth), "nats").unwrap();
        assert_eq!(connection.secrets(), std::slice::from_ref(&expected));
        assert_eq!(connection.auth, Some(valid));
    }
    for auth in [
        serde_json::json!({}),
        serde_json::json!({"user": "tidings"}),
        serde_json::json!({"tokenSecretRef": key, "nkeySecretRef": key}),
    ] {
        assert!(problem(&with(auth), "nats.auth").contains("exactly one of"));
    }
    for auth in [
        serde_json::json!({"passwordSecretRef": key}),
        serde_json::json!({"user": "tidings", "tokenSecretRef": key}),
    ] {
        assert!(problem(&with(auth), "nats.auth").contains("belong together"));
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let errors = settings(serde_json::json!({
        "servers": ["nats://ok", "http://broker"],
        "stream": "a.b",
        "subject": "a..b",
        "auth": {"user": "", "passwordSecretRef": {"name": "", "key": "x"}},
        "tls": {"caSecretRef": {"name": "a", "key": ""}},
    }));
    let errors = validate(&errors, "spec.sink.nats").unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "spec.sink.nats.servers[1]",
            "spec.sink.nats.auth.passwordSecretRef.name",
            "spec.sink.nats.auth.user",
            "spec.sink.nats.tls.caSecretRef.key",
            "spec.sink.nats.stream",
            "spec.sink.nats.subject",
        ]
    );
}
