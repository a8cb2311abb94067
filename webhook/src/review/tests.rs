use serde_json::json;

use super::*;

fn source(kind: &str, namespaces: Value) -> Value {
    json!({"apiVersion": "k8sasbackend.com/v1", "kind": kind, "namespaces": namespaces})
}

fn object(kind: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "orders", "namespace": "shop"}, "spec": spec,
    })
}

fn subscription(spec: Value) -> Value {
    let mut whole = json!({"sources": [source("Todo", json!({}))], "sink": {"stdout": {}}});
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    object("Subscription", whole)
}

fn request(operation: &str, object: Value) -> Request {
    let kind = object["kind"].as_str().unwrap_or("Subscription");
    let request = json!({
        "uid": "u", "kind": {"group": GROUP, "version": "v1alpha1", "kind": kind},
        "name": "orders", "namespace": "shop", "operation": operation, "object": object,
    });
    serde_json::from_value(request).unwrap()
}

fn done(request: &Request) -> Verdict {
    match begin(request).unwrap() {
        Step::Done(verdict) => verdict,
        Step::Ask(case) => panic!("{case:?}"),
    }
}

fn case(object: Value) -> Case {
    match begin(&request("CREATE", object)).unwrap() {
        Step::Ask(case) => *case,
        Step::Done(verdict) => panic!("{verdict:?}"),
    }
}

fn resources(kinds: &[(&str, bool)]) -> Resources {
    let resource = |(kind, namespaced): &(&str, bool)| {
        let key = Kind::new("k8sasbackend.com/v1", kind);
        let resource = Resource {
            group: key.group.clone(),
            version: key.version.clone(),
            kind: key.kind.clone(),
            plural: format!("{}s", kind.to_lowercase()),
            namespaced: *namespaced,
        };
        (key, Some(resource))
    };
    kinds.iter().map(resource).collect()
}

/// `ann list todos shop`, with `*` for all namespaces.
fn lines(needs: &[Need]) -> Vec<String> {
    let line = |Need { who, target, verb, .. }: &Need| {
        let who = match who {
            Who::User => "user".to_owned(),
            Who::Account { namespace, name } => format!("{namespace}/{name}"),
        };
        let Target { plural, namespace, name, .. } = target;
        let namespace = namespace.as_deref().unwrap_or("*");
        let name = name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        format!("{who} {verb} {plural} {namespace}{name}")
    };
    needs.iter().map(line).collect()
}

#[test]
fn what_changes_no_spec_is_accepted_however_broken_it_is() {
    let broken = subscription(json!({"sources": []}));
    let mut leaving = broken.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(done(&request("UPDATE", leaving)).outcome, Outcome::Unchanged);
    let mut relabelled = request("UPDATE", broken.clone());
    relabelled.object.as_mut().unwrap()["metadata"]["finalizers"] = json!([]);
    relabelled.old_object = Some(broken.clone());
    assert_eq!(done(&relabelled).outcome, Outcome::Unchanged);
    for operation in ["DELETE", "CONNECT"] {
        assert_eq!(done(&request(operation, Value::Null)).outcome, Outcome::Unchanged);
    }
    let mut status = request("UPDATE", broken.clone());
    status.sub_resource = Some("status".to_owned());
    assert_eq!(done(&status).outcome, Outcome::Unchanged);
    // And it is refused as soon as the spec changes into it.
    let mut edited = request("UPDATE", broken);
    edited.old_object = Some(subscription(json!({})));
    assert_eq!(done(&edited).outcome, Outcome::Invalid);
}

#[test]
fn every_mistake_is_in_the_status_with_its_path() {
    let request = request(
        "CREATE",
        subscription(json!({"sources": [], "changeTypes": [], "delivery": {"maxInFlight": 0}})),
    );
    let verdict = done(&request);
    let answer = response::answer(&request, &verdict);
    let response = &answer["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("u"), &json!(false)));
    let status = &response["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(422), &json!("Invalid")));
    let causes = status["details"]["causes"].as_array().unwrap();
    let fields: Vec<_> = causes.iter().map(|cause| cause["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["spec.sources", "spec.changeTypes", "spec.delivery.maxInFlight"]);
    assert_eq!(
        (&status["details"]["name"], &status["details"]["kind"]),
        (&json!("orders"), &json!("Subscription"))
    );
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("the Subscription shop/orders is not valid:\n  spec.sources: "), "{message}");
    assert_eq!(message.lines().count(), 4, "{message}");
    assert_eq!(response["auditAnnotations"]["verdict"], "invalid");
}

#[test]
fn an_object_of_another_form_is_invalid_at_its_path() {
    let mistakes = |object: Value| match done(&request("CREATE", object)).refusal {
        Some(Refusal::Invalid(mistakes)) => mistakes,
        other => panic!("{other:?}"),
    };
    assert_eq!(mistakes(subscription(json!({"changeTypes": ["Renamed"]})))[0].path, "spec.changeTypes[0]");
    assert_eq!(mistakes(object("Sink", json!({})))[0].path, "spec");
    assert!(
        begin(&request("CREATE", json!({"metadata": 1}))).unwrap_err().to_string().contains("request.object")
    );
    assert!(begin(&request("CREATE", json!([]))).is_err());
    let mut none = request("CREATE", subscription(json!({})));
    none.object = None;
    assert!(begin(&none).unwrap_err().to_string().contains("no `request.object`"));
}

#[test]
fn a_kind_that_is_not_ours_is_accepted_with_a_warning() {
    let mut request = request("CREATE", json!({"kind": "Probe"}));
    let verdict = done(&request);
    assert_eq!((verdict.outcome, verdict.refusal.is_none()), (Outcome::Unknown, true));
    assert!(verdict.warnings[0].contains("does not know the kind Probe"), "{verdict:?}");
    request.kind.group = "example.com".to_owned();
    assert_eq!(done(&request).outcome, Outcome::Unknown);
}

#[test]
fn user_and_service_account_need_to_read_every_source_where_it_is_selected() {
    let case = case(subscription(json!({
        "sources": [
            source("Todo", json!({"names": ["a", "b"]})),
            source("Plan", json!({"all": true})),
            source("World", json!({})),
        ],
        "serviceAccountName": "reader",
    })));
    let resources = resources(&[("Todo", true), ("Plan", true), ("World", false)]);
    let mut expected = Vec::new();
    for scope in ["plans *", "todos a", "todos b", "worlds *"] {
        for who in ["user", "shop/reader"] {
            expected.extend(["list", "watch"].map(|verb| format!("{who} {verb} {scope}")));
        }
    }
    let needs = case.needs(&resources);
    assert_eq!(lines(&needs), expected);
    let path = |plural: &str| &needs.iter().find(|need| need.target.plural == plural).unwrap().path;
    assert_eq!(
        [path("todos"), path("plans"), path("worlds")],
        ["spec.sources[0]", "spec.sources[1]", "spec.sources[2]"]
    );
}

#[test]
fn secrets_are_needed_by_whoever_names_them() {
    let token = |name: &str| json!({"url": "https://example.com", "auth": {"tokenSecretRef": {"name": name, "key": "token"}}});
    let inline = case(subscription(json!({
        "sink": {"http": token("mine")},
        "delivery": {"onReject": "DeadLetter", "deadLetter": {"http": token("theirs")}},
    })));
    let needs = inline.needs(&Resources::new());
    let expected = [
        "user get secrets shop mine",
        "shop/default get secrets shop mine",
        "user get secrets shop theirs",
        "shop/default get secrets shop theirs",
    ];
    assert_eq!(lines(&needs), expected);
    assert_eq!((needs[0].path.as_str(), needs[2].path.as_str()), ("spec.sink", "spec.delivery.deadLetter"));
    let sink = case(object("Sink", json!({"http": token("mine")})));
    assert_eq!(lines(&sink.needs(&Resources::new())), ["user get secrets shop mine"]);
    // Through a Sink nobody needs more than the right to name it, which the Sink gives.
    let named = case(subscription(json!({"sink": {"ref": {"name": "company", "namespace": "ops"}}})));
    assert_eq!(lines(&named.needs(&Resources::new())), [""; 0]);
    assert_eq!(named.sinks(), ("shop", vec![("ops".to_owned(), "company".to_owned())]));
}

#[test]
fn a_refusal_names_who_lacks_which_verbs_on_what() {
    let object = subscription(json!({"sources": [source("Todo", json!({"names": ["b"]}))]}));
    let case = case(object.clone());
    let resources = resources(&[("Todo", true)]);
    let verdict = case.conclude("ann", &resources, case.needs(&resources), &[]);
    assert_eq!(verdict.outcome, Outcome::Forbidden);
    let answer = response::answer(&request("CREATE", object), &verdict);
    let status = &answer["response"]["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(403), &json!("Forbidden")));
    let message = status["message"].as_str().unwrap();
    for part in [
        "spec.sources[0]: you (ann) may not list and watch todos.k8sasbackend.com in the namespace b",
        "spec.sources[0]: the service account shop/default may not list and watch todos.k8sasbackend.com in the namespace b",
        "name another one in spec.serviceAccountName",
    ] {
        assert!(message.contains(part), "{part} is not in\n{message}");
    }
}

#[test]
fn what_is_unwise_is_warned_of() {
    let case = case(subscription(json!({
        "sink": {"ref": {"name": "company"}},
        "delivery": {"onReject": "DeadLetter", "deadLetter": {"ref": {"name": "dead", "namespace": "ops"}}, "maxInFlight": 1},
    })));
    let resources = Resources::from([(Kind::new("k8sasbackend.com/v1", "Todo"), None)]);
    let name = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
    let sinks = [(name("ops", "dead"), SinkFound::Closed), (name("shop", "company"), SinkFound::Missing)];
    let verdict = case.conclude("ann", &resources, Vec::new(), &sinks);
    assert_eq!((verdict.outcome, verdict.refusal.is_none()), (Outcome::Valid, true));
    let starts = [
        "spec.sources[0]: the cluster does not serve",
        "spec.sink.ref: there is no Sink ops/dead that allows",
        "spec.sink.ref: there is no Sink company",
        // As `tidings check` says it too.
        "spec.delivery.maxInFlight: ",
    ];
    for (warning, start) in verdict.warnings.iter().zip(starts) {
        assert!(warning.starts_with(start), "{warning}");
    }
    assert_eq!(verdict.warnings.len(), 4, "{verdict:?}");
    let open = [(name("ops", "dead"), SinkFound::Open), (name("shop", "company"), SinkFound::Unclear)];
    assert_eq!(case.conclude("ann", &Resources::new(), Vec::new(), &open).warnings.len(), 1);
}

#[test]
fn an_object_whose_name_is_still_to_be_made_is_not_nameless() {
    let mut object = subscription(json!({}));
    object["metadata"] = json!({"generateName": "orders-"});
    assert!(matches!(begin(&request("CREATE", object)).unwrap(), Step::Ask(_)));
}

#[test]
fn an_answer_is_bounded_whatever_is_asked() {
    let request = request("CREATE", subscription(json!({})));
    let mistakes = (0..1000).map(|n| FieldError::new(format!("spec.ä[{n}]"), "ö".repeat(200))).collect();
    let verdict = Verdict {
        refusal: Some(Refusal::Invalid(mistakes)),
        warnings: vec!["ü".repeat(1000)],
        outcome: Outcome::Invalid,
    };
    let answer = response::answer(&request, &verdict);
    let response = &answer["response"];
    assert!(response["warnings"][0].as_str().unwrap().len() <= 256);
    assert_eq!(response["status"]["details"]["causes"].as_array().unwrap().len(), 100);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.ends_with("  and 900 more"), "{}", &message[message.len() - 50..]);
    assert!(response["auditAnnotations"]["paths"].as_str().unwrap().len() <= 1024);
}

/// Whatever comes over the wire is answered in bounded time, without a panic.
mod nonsense {
    use proptest::prelude::*;

    use super::*;

    const FIELDS: [&str; 22] = [
        "apiVersion",
        "kind",
        "sources",
        "sink",
        "nats",
        "kafka",
        "http",
        "ref",
        "name",
        "names",
        "namespaces",
        "all",
        "changeTypes",
        "delivery",
        "maxAge",
        "maxInFlight",
        "deadLetter",
        "servers",
        "subject",
        "serviceAccountName",
        "event",
        "tls",
    ];

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
            "[{}./a-z]{0,20}".prop_map(Value::from),
            Just(json!("v1")),
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(prop::sample::select(&FIELDS[..]), inner, 0..6).prop_map(
                    |fields| Value::Object(
                        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
                    )
                ),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_spec_is_answered(kind in prop::sample::select(&["Subscription", "Sink"][..]), spec in value(), part in value()) {
            for spec in [spec.clone(), json!({"sources": spec, "sink": part}), json!({"nats": spec, "http": part})] {
                let request = request("UPDATE", object(kind, spec));
                let verdict = match begin(&request).unwrap() {
                    Step::Done(verdict) => verdict,
                    Step::Ask(case) => case.conclude("ann", &Resources::new(), case.needs(&Resources::new()), &[]),
                };
                let answer = response::answer(&request, &verdict);
                prop_assert_eq!(&answer["response"]["allowed"], &json!(verdict.refusal.is_none()));
            }
        }

        #[test]
        fn any_bytes_are_a_request_or_a_mistake(bytes in prop::collection::vec(any::<u8>(), 0..200), review in value()) {
            let _ = request::read(&bytes);
            let whole = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": review});
            let _ = request::read(whole.to_string().as_bytes());
            if let Ok(Step::Ask(case)) = begin(&request("CREATE", review)) {
                let _ = case.kinds();
            }
        }
    }
}
