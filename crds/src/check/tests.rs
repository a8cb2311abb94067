use serde_json::json;

use super::*;

fn subscription(spec: Value) -> Value {
    json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription", "metadata": {"name": "orders"}, "spec": spec,
    })
}

fn spec(sink: Value) -> Value {
    json!({"sources": [{"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"}], "sink": sink})
}

fn sink(namespace: &str, spec: Value) -> Value {
    let metadata = json!({"name": "company", "namespace": namespace});
    json!({"apiVersion": "tidings.dev/v1alpha1", "kind": "Sink", "metadata": metadata, "spec": spec})
}

fn lines(checked: &Checked) -> Vec<String> {
    checked.errors.iter().map(ToString::to_string).collect()
}

fn checked(object: Value) -> Checked {
    check(object, "shop").unwrap()
}

/// What is said of all of them together: which one, and what.
fn found(objects: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut all: Vec<_> = objects.into_iter().map(checked).collect();
    for checked in &all {
        assert_eq!(lines(checked), [""; 0]);
    }
    together(&mut all);
    let said = |checked: &Checked| {
        let errors = checked.errors.iter().map(|error| format!("{} {error}", checked.namespace));
        let warnings = checked.warnings.iter().map(|warning| format!("{} {warning}", checked.namespace));
        errors.chain(warnings).collect::<Vec<_>>()
    };
    all.iter().flat_map(said).collect()
}

#[test]
fn other_kinds_are_not_ours() {
    for object in [json!({}), json!([]), json!(null), json!({"apiVersion": "v1", "kind": "Secret"})] {
        assert_eq!(check(object, "shop"), None);
    }
}

#[test]
fn what_is_well_means_something_in_the_namespace_that_is_said() {
    let checked = checked(subscription(spec(json!({"stdout": {}}))));
    assert_eq!((lines(&checked), &*checked.namespace, &*checked.name), (Vec::new(), "shop", "orders"));
    let Some(Meaning::Subscription(subscription)) = checked.meaning else { panic!("{checked:?}") };
    assert_eq!(&*subscription.route.subscription, "shop/orders");
}

#[test]
fn kinds_and_versions_that_are_not_served_are_told() {
    let mut object = subscription(spec(json!({"stdout": {}})));
    object["kind"] = "Subscripton".into();
    let problem = "\"Subscripton\" is no kind of tidings.dev: there are Subscription and Sink; did you mean \
                   `Subscription`?";
    assert_eq!(lines(&checked(object.clone())), [format!("kind: {problem}")]);
    object["kind"] = "Subscription".into();
    object["apiVersion"] = "tidings.dev/v1".into();
    assert_eq!(
        lines(&checked(object)),
        ["apiVersion: \"tidings.dev/v1\" is not served; it is tidings.dev/v1alpha1"]
    );
}

#[test]
fn form_and_meaning_are_told_together_and_nothing_twice() {
    let mut object = subscription(spec(json!({"nats": {"servers": ["http://a"], "subjct": "a"}})));
    object["metadata"] = json!({"name": "Orders", "nmespace": "a"});
    object["spec"]["delivery"] = json!({"maxInFlight": 0});
    assert_eq!(
        lines(&checked(object)),
        [
            "metadata.nmespace: there is no such field; did you mean `namespace`?",
            "spec.sink.nats.subjct: there is no such field; did you mean `subject`?",
            "metadata.name: \"Orders\" is no name: it has 1 to 253 lower-case letters, digits, `-` and `.`, and begins \
             and ends with a letter or digit",
            "spec.sink.nats.servers[0]: the scheme is `nats://` or `tls://`",
            "spec.delivery.maxInFlight: 0 is not from 1 to 65536",
        ]
    );
}

#[test]
fn what_is_malformed_hides_nothing_else() {
    let mut object = subscription(spec(json!({"nats": {"servers": ["http://a"], "auth": {"user": 1}}})));
    object["spec"]["on"] = json!(["Renamed"]);
    object["spec"]["sources"][0]["kind"] = json!("Secret");
    object["spec"]["sources"][0]["apiVersion"] = json!("v1");
    object["spec"]["delivery"] = json!({"onReject": "DeadLetter", "deadLetter": null});
    assert_eq!(
        lines(&checked(object)),
        [
            "spec.sources[0]: Secrets cannot be a source: their content would go to a broker",
            "spec.sink.nats.servers[0]: the scheme is `nats://` or `tls://`",
            "spec.delivery.deadLetter: is needed where onReject or oversize is DeadLetter: where dead letters go",
            "spec.on[0]: \"Renamed\" is none of Snapshot, Added, Updated, Deleted, Left",
            "spec.sink.nats.auth.user: must be a text, and not 1 without quotes",
        ]
    );
}

#[test]
fn any_number_of_mistakes_is_told_in_time() {
    let mut object = subscription(spec(json!({"stdout": {}})));
    let names: Vec<_> = (0..20_000).map(|number| format!("Team-{number}")).collect();
    object["spec"]["sources"][0]["namespaces"] = json!({ "names": names });
    object["spec"]["on"] = json!(vec!["Renamed"; 20_000]);
    // Each name, that there are too many, and each word.
    let told = checked(object).errors.len();
    assert!(told > 40_000, "{told}");
}

#[test]
fn a_resource_needs_a_name() {
    let mut object = subscription(spec(json!({"stdout": {}})));
    object["metadata"] = json!({});
    assert_eq!(lines(&checked(object.clone())), ["metadata.name: is needed"]);
    object["metadata"] = Value::Null;
    assert!(!checked(object).errors.is_empty());
}

#[test]
fn the_same_resource_twice_is_an_error() {
    let object = || subscription(spec(json!({"stdout": {}})));
    let said = found([object(), object()]);
    assert_eq!(
        said,
        [
            "shop metadata.name: there is a Subscription shop/orders already: the last one that is applied counts"
        ]
    );
}

#[test]
fn a_sink_that_is_named_takes_what_is_sent_to_it() {
    let kafka = json!({"kafka": {"brokers": ["a:9092"]}});
    let company = |mut spec: Value, from: &str| {
        spec["allowedNamespaces"] = json!({"from": from});
        sink("ops", spec)
    };
    let by =
        |kind: &str| subscription(spec(json!({"ref": {"name": "company", "namespace": "ops"}, kind: {}})));
    assert_eq!(
        found([company(kafka.clone(), "Same"), by("kafka")]),
        ["shop spec.sink.ref: the Sink ops/company does not let the namespace shop in (its \
             spec.allowedNamespaces)"]
    );
    assert_eq!(
        found([company(kafka.clone(), "All"), by("nats")]),
        ["shop spec.sink.ref: the Sink ops/company is one of Kafka, and what is given here is for NATS"]
    );
    assert_eq!(found([company(kafka, "All"), by("kafka")]), [""; 0]);
    assert_eq!(found([by("kafka")]), [""; 0], "it may be in the cluster");
}

#[test]
fn two_subscriptions_that_share_a_target_are_told() {
    let nats = json!({"nats": {"servers": ["nats://a"], "subject": "a.{name}"}});
    let other = |sink: &Value, namespaces: Value| {
        let mut other = subscription(spec(sink.clone()));
        other["metadata"] = json!({"name": "others", "namespace": "ops"});
        other["spec"]["sources"][0]["namespaces"] = namespaces;
        other
    };
    let said = found([subscription(spec(nats.clone())), other(&nats, json!({"all": true}))]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("ops spec.sink: the Subscription shop/orders sends Events of the same objects"),
        "{said:?}"
    );
    // Other objects, another subject, the name of the Subscription in it, another server, nobody who consumes.
    let stdout = json!({"stdout": {}});
    let named = json!({"nats": {"servers": ["nats://a"], "subject": "a.{subscription}"}});
    for (first, second, namespaces) in [
        (&nats, &nats, json!({"names": ["ops"]})),
        (&nats, &json!({"nats": {"servers": ["nats://a"], "subject": "b.{name}"}}), json!({"all": true})),
        (&named, &named, json!({"all": true})),
        (&stdout, &stdout, json!({"all": true})),
        (&nats, &json!({"nats": {"servers": ["nats://b"], "subject": "a.{name}"}}), json!({"all": true})),
    ] {
        assert_eq!(found([subscription(spec(first.clone())), other(second, namespaces)]), [""; 0]);
    }
}
