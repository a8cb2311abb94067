use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidings_core::filter::{Attribute, Cel, Expression, Filter};
use tidings_core::route::Kind;
use tidings_core::selection::{LabelSelector, Namespaces, Operator, Requirement, Scope, Selection};

use super::*;

/// A Subscription with a good spec, over which `patch` is laid.
fn subscription(patch: Value) -> Subscription {
    let mut object = json!({
        "apiVersion": "tidings.dev/v1alpha1",
        "kind": "Subscription",
        "metadata": {"name": "todos", "namespace": "shop", "uid": "u-1", "generation": 3},
        "spec": {"sources": [{"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"}], "sink": {"stdout": {}}},
    });
    merge(&mut object, patch);
    serde_json::from_value(object).unwrap()
}

fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

fn spec(patch: Value) -> Subscription {
    subscription(json!({"spec": patch}))
}

fn only(names: &[&str]) -> Selection {
    Selection::of(Namespaces::Only(names.iter().map(ToString::to_string).collect()))
}

#[test]
fn the_least_that_can_be_written_means_everything_in_its_own_namespace() {
    let ValidSubscription { route, mode, delivery, .. } = validate(&spec(json!({}))).unwrap();
    assert_eq!(&*route.subscription, "shop/todos");
    assert_eq!((&*route.uid, route.generation), ("u-1", 3));
    let todo = Kind::new("k8sasbackend.com/v1", "Todo");
    assert_eq!(route.selections, BTreeMap::from([(todo, only(&["shop"]))]));
    assert_eq!(route.on, ChangeKinds::ALL);
    assert_eq!(mode, ContentMode::Binary);
    assert_eq!(
        delivery,
        ValidDelivery {
            max_in_flight: 1024,
            oversize: Oversize::Reference,
            on_reject: OnReject::Block,
            max_attempts: None,
            max_age: None,
        }
    );
}

#[test]
fn everything_that_can_be_written_arrives() {
    let valid = validate(&spec(json!({
        "sources": [
            {"apiVersion": "v1", "kind": "Pod", "namespaces": {"all": true}},
            {"apiVersion": "k8sasbackend.com/v1", "kind": "Todo", "namespaces": {"names": ["a", "b"]}},
            {"apiVersion": "k8sasbackend.com/v1", "kind": "Todo", "namespaces": {"all": false}},
        ],
        "on": ["Added", "Deleted"],
        "event": {"mode": "Structured"},
        "delivery": {"maxInFlight": 1, "oversize": "Block"},
    })))
    .unwrap();
    assert_eq!(valid.route.selections[&Kind::new("v1", "Pod")], Selection::all());
    assert_eq!(valid.route.selections[&Kind::new("k8sasbackend.com/v1", "Todo")], only(&["a", "b", "shop"]));
    assert_eq!(valid.route.on, ChangeKinds::of([ChangeKind::Added, ChangeKind::Deleted]));
    assert_eq!(valid.mode, ContentMode::Structured);
    assert_eq!((valid.delivery.max_in_flight, valid.delivery.oversize), (1, Oversize::Block));
}

#[test]
fn names_and_labels_narrow_a_source_and_sources_add_up() {
    let labels = json!({
        "matchLabels": {"app": "shop"},
        "matchExpressions": [
            {"key": "tier", "operator": "NotIn", "values": ["test"]}, {"key": "example.com/on", "operator": "Exists"},
        ],
    });
    let valid = validate(&spec(json!({"sources": [
        {"apiVersion": "v1", "kind": "Pod", "labelSelector": labels},
        {"apiVersion": "v1", "kind": "Pod", "names": ["a", "system:b"], "namespaces": {"all": true}},
    ]})));
    let requirement = |key: &str, operator| Requirement { key: key.to_owned(), operator };
    let labelled = Scope {
        names: None,
        labels: LabelSelector::new([
            requirement("app", Operator::In(["shop".to_owned()].into())),
            requirement("tier", Operator::NotIn(["test".to_owned()].into())),
            requirement("example.com/on", Operator::Exists),
        ]),
        namespaces: Namespaces::Only(["shop".to_owned()].into()),
    };
    let names = Some(["a", "system:b"].map(ToOwned::to_owned).into());
    let named = Scope { names, ..Scope::of(Namespaces::All) };
    let expected = Selection::from(labelled).union(named.into());
    assert_eq!(valid.unwrap().route.selections, BTreeMap::from([(Kind::new("v1", "Pod"), expected)]));
}

#[test]
fn filters_arrive() {
    let valid = validate(&spec(json!({
        "changed": {"generation": true},
        "filters": [
            {"exact": {"reason": "watch", "type": "com.k8sasbackend.todo.updated"}},
            {"any": [{"suffix": {"subject": "/milk"}}, {"not": {"cel": "object.spec.done"}}]},
        ],
    })))
    .unwrap();
    let attribute = |name| Attribute::named(name).unwrap();
    let expected = Filter::new(vec![
        Expression::All(vec![
            Expression::Exact(attribute("reason"), "watch".to_owned()),
            Expression::Exact(attribute("type"), "com.k8sasbackend.todo.updated".to_owned()),
        ]),
        Expression::Any(vec![
            Expression::All(vec![Expression::Suffix(attribute("subject"), "/milk".to_owned())]),
            Expression::Not(Box::new(Expression::Cel(Cel::compile("object.spec.done").unwrap()))),
        ]),
    ]);
    assert_eq!(*valid.route.filter, expected);
    assert_eq!(valid.route.on, ChangeKinds::ALL.of_generations());
}

#[test]
fn every_mistake_is_told_with_its_path() {
    let label = "x".repeat(64);
    let many: Vec<String> = (0..65).map(|n| format!("n{n}")).collect();
    let source = |api_version: &str, kind: &str| json!([{"apiVersion": api_version, "kind": kind}]);
    let pods = |more: Value| {
        let mut source = json!({"apiVersion": "v1", "kind": "Pod"});
        merge(&mut source, more);
        json!({"sources": [source]})
    };
    let names = |names: Value| pods(json!({"namespaces": names}));
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({"sources": []}), &["spec.sources: at least one"]),
        (json!({"sources": vec![source("v1", "Pod")[0].clone(); 17]}), &["spec.sources: 17 sources"]),
        (json!({"sources": source("", "Todo")}), &["spec.sources[0].apiVersion: "]),
        (json!({"sources": source("a/b/c", "Todo")}), &["spec.sources[0].apiVersion: "]),
        (json!({"sources": source("/v1", "Todo")}), &["spec.sources[0].apiVersion: "]),
        (json!({"sources": source("Shop.dev/v1", "Todo")}), &["spec.sources[0].apiVersion: "]),
        (json!({"sources": source("v1", "")}), &["spec.sources[0].kind: "]),
        (json!({"sources": source("v1", &label)}), &["spec.sources[0].kind: "]),
        (json!({"sources": source("v1", "9Lives")}), &["spec.sources[0].kind: "]),
        (json!({"sources": source("v 1", "To do")}), &["spec.sources[0].apiVersion", "spec.sources[0].kind"]),
        (json!({"sources": source("v1", "Secret")}), &["spec.sources[0]: Secrets cannot be a source"]),
        (
            json!({"sources": source("tidings.dev/v1alpha1", "Subscription")}),
            &["spec.sources[0]: resources of tidings.dev cannot be a source"],
        ),
        (
            json!({"sources": [{"apiVersion": "a.dev/v1", "kind": "A"}, {"apiVersion": "a.dev/v2", "kind": "A"}]}),
            &["spec.sources[1].apiVersion: A is a source in a.dev/v1 already"],
        ),
        (names(json!({"names": ["a"], "all": true})), &["spec.sources[0].namespaces: names and all exclude"]),
        (names(json!({"names": []})), &["spec.sources[0].namespaces.names: at least one"]),
        (names(json!({"names": many})), &["spec.sources[0].namespaces.names: 65 are more"]),
        (
            names(json!({"names": ["a", "a", "B"]})),
            &[
                "spec.sources[0].namespaces.names[1]: \"a\" is there twice",
                "spec.sources[0].namespaces.names[2]: \"B\" is not the name of a namespace",
            ],
        ),
        (
            pods(json!({"names": []})),
            &["spec.sources[0].names: at least one is needed; without `names`, it is every"],
        ),
        (
            pods(json!({"names": ["a", "a", "b/c", ""]})),
            &[
                "spec.sources[0].names[1]: \"a\" is there twice",
                "spec.sources[0].names[2]: \"b/c\" is not the name of an object",
                "spec.sources[0].names[3]: \"\" is not the name of an object",
            ],
        ),
        (
            pods(json!({"labelSelector": {"matchLabels": {"a b": "x", "c": "-x"}}})),
            &[
                "spec.sources[0].labelSelector.matchLabels[a b]: \"a b\" is not the key of a label",
                "spec.sources[0].labelSelector.matchLabels[c]: \"-x\" is not the value of a label",
            ],
        ),
        (
            pods(json!({"labelSelector": {"matchExpressions": [
                {"key": "a", "operator": "In"}, {"key": "/a", "operator": "Exists", "values": ["x"]},
            ]}})),
            &[
                "spec.sources[0].labelSelector.matchExpressions[0].values: In and NotIn need values",
                "spec.sources[0].labelSelector.matchExpressions[1].key: \"/a\" is not the key of a label",
                "spec.sources[0].labelSelector.matchExpressions[1].values: In and NotIn need values",
            ],
        ),
        (
            json!({"filters": [{}]}),
            &["spec.filters[0]: exactly one of exact, prefix, suffix, cel, all, any and not"],
        ),
        (json!({"filters": [{"exact": {"type": "a"}, "cel": "true"}]}), &["spec.filters[0]: exactly one of"]),
        (
            json!({"filters": [{"exact": {"tpye": "a"}}, {"prefix": {"subject": ""}}]}),
            &[
                "spec.filters[0].exact.tpye: no Event has this attribute; there are specversion, id, source, type",
                "spec.filters[1].prefix.subject: is empty, which every value begins and ends with",
            ],
        ),
        (
            json!({"filters": [{"any": [{"not": {"cel": "objekt.spec.n > 1"}}, {"all": []}]}, {"cel": "1 +"}]}),
            &[
                "spec.filters[0].any[0].not.cel: there is no variable \"objekt\"; there are object, change and event",
                "spec.filters[0].any[1].all: there can be 1 to 16, and are 0",
                "spec.filters[1].cel: is not CEL: ",
            ],
        ),
        (json!({"on": []}), &["spec.on: at least one"]),
        (json!({"on": ["Left", "Left"]}), &["spec.on[1]: Left is there twice"]),
        (json!({"sink": {"stdout": null}}), &["spec.sink: `ref` or one of"]),
        (
            json!({"sink": {"nats": {"servers": ["http://x"]}, "stdout": null}}),
            &["spec.sink.nats.servers[0]: "],
        ),
        (json!({"delivery": {"maxInFlight": 0}}), &["spec.delivery.maxInFlight: 0 is not from 1 to 65536"]),
        (json!({"delivery": {"maxInFlight": 65537}}), &["spec.delivery.maxInFlight: "]),
    ];
    for (patch, expected) in cases {
        let told: Vec<_> =
            validate(&spec(patch.clone())).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), expected.len(), "{patch}: {told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{patch}: {told:?} does not start with {expected:?}");
        }
    }
}

#[test]
fn mistakes_in_several_places_are_told_together() {
    let mut broken = spec(json!({
        "sources": [], "on": [], "sink": {"stdout": null}, "delivery": {"maxInFlight": -1},
    }));
    broken.metadata.namespace = None;
    let paths: Vec<_> = validate(&broken).unwrap_err().into_iter().map(|error| error.path).collect();
    assert_eq!(
        paths,
        ["metadata.namespace", "spec.sources", "spec.on", "spec.sink", "spec.delivery.maxInFlight"]
    );
}

#[test]
fn an_object_of_another_form_is_an_error_with_its_path() {
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "tidings.dev/v2", "kind": "Subscription",
        "metadata": {"name": "todos", "namespace": "shop"},
        "spec": {"sources": [{"apiVersion": "v1", "kind": "Pod"}], "on": ["Renamed"], "sink": {"stdout": {}}},
    }))
    .unwrap();
    let errors = read::<Subscription>(&object).unwrap_err();
    assert_eq!(errors[0].path, "spec.on[0]");
    assert!(errors[0].problem.contains("unknown variant `Renamed`"), "{errors:?}");
}

#[test]
fn an_object_reads_as_a_subscription() {
    let written = spec(json!({}));
    let object: DynamicObject = serde_json::from_value(serde_json::to_value(&written).unwrap()).unwrap();
    assert_eq!(read::<Subscription>(&object).unwrap(), written);
}

#[test]
fn what_cannot_be_delivered_is_given_up_only_where_that_is_said() {
    let delivery =
        |delivery: Value| validate(&spec(json!({"delivery": delivery}))).map(|valid| valid.delivery);
    let given = json!({"onReject": "Drop", "maxAttempts": 7, "maxAge": "36h"});
    let valid = delivery(given).unwrap();
    assert_eq!((valid.on_reject, valid.max_attempts), (OnReject::Drop, Some(7)));
    assert_eq!(valid.max_age, Some(Duration::from_hours(36)));
    let errors = delivery(json!({"maxAttempts": 0, "maxAge": "0s"})).unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["spec.delivery.maxAttempts", "spec.delivery.maxAge"]);
    assert!(delivery(json!({"maxAge": "soon"})).unwrap_err()[0].problem.contains("is not a duration"));
}

#[test]
fn dead_letters_need_a_sink_of_their_own() {
    let delivery = |delivery: Value| validate(&spec(json!({"delivery": delivery})));
    let path = "spec.delivery.deadLetter";
    for without in [json!({"onReject": "DeadLetter"}), json!({"oversize": "DeadLetter"})] {
        assert_eq!(delivery(without).unwrap_err()[0].path, path);
    }
    let wrong = json!({"onReject": "DeadLetter", "deadLetter": {"nats": {"servers": ["http://a"]}}});
    assert_eq!(delivery(wrong).unwrap_err()[0].path, format!("{path}.nats.servers[0]"));
    let elsewhere = json!({"ref": {"name": "dead", "namespace": "ops"}, "nats": {"subject": "dead.{name}"}});
    let valid = delivery(json!({"onReject": "DeadLetter", "deadLetter": elsewhere})).unwrap();
    assert_eq!(valid.sinks().collect::<Vec<_>>(), [("ops", "dead")]);
    // It may be prepared before it is used.
    assert!(delivery(json!({"deadLetter": {"stdout": {}}})).unwrap().dead_letter.is_some());
}

#[test]
fn a_sink_is_named_in_a_few_words() {
    let name = |sink: Value| validate(&spec(json!({"sink": sink}))).unwrap().sink_name();
    assert_eq!(name(json!({})), "stdout");
    assert_eq!(name(json!({"stdout": null, "nats": {"servers": ["nats://a:4222"]}})), "nats://a:4222");
    assert_eq!(
        name(json!({"stdout": null, "nats": {"servers": ["tls://a", "tls://b", "tls://c"]}})),
        "tls://a (+2)"
    );
}
