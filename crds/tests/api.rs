//! The definition against a real API server: it is accepted, fills in defaults, refuses what it should, and shows
//! in columns how a Subscription is doing.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tidings_core::route::Kind;
use tidings_crds::conditions;
use tidings_crds::sink::Sink;
use tidings_crds::subscription::status::{Counts, Lag, SubscriptionStatus};
use tidings_crds::subscription::{ChangeType, Oversize, Subscription};
use tidings_crds::validate::{read, validate};
use tidings_testbed::shared;
use tidings_testbed::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(20);
const TODOS: [(&str, &str); 3] = [
    ("crd.yaml", include_str!("../../examples/todo/crd.yaml")),
    ("subscription.yaml", include_str!("../../examples/todo/subscription.yaml")),
    ("todos.yaml", include_str!("../../examples/todo/todos.yaml")),
];

const SINKS: [(&str, &str); 4] = [
    ("http.yaml", include_str!("../../examples/sinks/http.yaml")),
    ("kafka.yaml", include_str!("../../examples/sinks/kafka.yaml")),
    ("nats.yaml", include_str!("../../examples/sinks/nats.yaml")),
    ("rabbitmq.yaml", include_str!("../../examples/sinks/rabbitmq.yaml")),
];

/// A client of an API server that serves Subscriptions, and a namespace of the test's own.
async fn start(prefix: &str) -> Result<(Client, String)> {
    let client = shared::testbed().await?.control_plane.client().await?;
    install(&client, &Subscription::definition()).await?;
    let namespace = shared::namespace(&client, prefix).await?;
    Ok((client, namespace))
}

/// Applies a definition and waits until it is served.
async fn install(client: &Client, definition: &CustomResourceDefinition) -> Result<CustomResourceDefinition> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = definition.name_any();
    api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(definition)).await?;
    let established = eventually(DEADLINE, "the definition is established", || async {
        let definition = api.get(&name).await?;
        let status = definition.status.clone().unwrap_or_default();
        let established =
            status.conditions.iter().flatten().any(|c| c.type_ == "Established" && c.status == "True");
        if established { Ok(definition) } else { bail!("{status:?}") }
    });
    let definition = established.await?;
    // Established comes shortly before the path is served.
    let path = format!("/apis/{}/{}", definition.spec.group, definition.spec.versions[0].name);
    let served = eventually(DEADLINE, "the definition is served", || async {
        let request =
            http::Request::get(format!("{path}/{}", definition.spec.names.plural)).body(Vec::new())?;
        client.request::<Value>(request).await.context("list")
    });
    served.await?;
    Ok(definition)
}

fn subscription(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription", "metadata": {"name": name}, "spec": spec,
    })
}

async fn create(client: &Client, namespace: &str, object: &Value) -> kube::Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
    let types = object.types.clone().unwrap_or_default();
    let Kind { group, version, kind } = Kind::new(&types.api_version, &types.kind);
    let kind = GroupVersionKind::gvk(&group, &version, &kind);
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind));
    api.create(&PostParams::default(), &object).await
}

#[tokio::test]
async fn the_definition_is_accepted_as_structural() -> Result<()> {
    let (client, _) = start("definition").await?;
    let definition = install(&client, &Subscription::definition()).await?;
    let conditions = definition.status.unwrap_or_default().conditions.unwrap_or_default();
    for condition in &conditions {
        assert_ne!(condition.type_, "NonStructuralSchema", "{condition:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_examples_apply_and_mean_something() -> Result<()> {
    let (client, namespace) = start("examples").await?;
    for (file, text) in TODOS {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).with_context(|| file)?;
        for document in documents {
            if document["kind"] == "CustomResourceDefinition" {
                install(&client, &serde_json::from_value(document)?).await.with_context(|| file)?;
            } else {
                create(&client, &namespace, &document)
                    .await
                    .with_context(|| format!("{file}: {document}"))?;
            }
        }
    }
    let api: Api<Subscription> = Api::namespaced(client, &namespace);
    let valid = validate(&api.get("todos").await?).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    assert_eq!(valid.sink_name(), "nats://127.0.0.1:4222");
    Ok(())
}

#[tokio::test]
async fn the_examples_of_sinks_apply_and_mean_something() -> Result<()> {
    let (client, namespace) = start("sinks").await?;
    install(&client, &Sink::definition()).await?;
    for (file, text) in SINKS {
        let mut kinds = Vec::new();
        for document in serde_saphyr::from_multiple::<Value>(text).with_context(|| file)? {
            let made = create(&client, &namespace, &document).await;
            let made = made.with_context(|| format!("{file}: {document}"))?;
            let kind = document["kind"].as_str().unwrap_or_default().to_owned();
            match &*kind {
                "Sink" => {
                    let sink = read::<Sink>(&made).map_err(|errors| anyhow::anyhow!("{file}: {errors:?}"))?;
                    let valid = sink.spec.connection.validate("spec");
                    valid.map_err(|errors| anyhow::anyhow!("{file}: {errors:?}"))?;
                }
                "Subscription" => {
                    let valid = read::<Subscription>(&made).and_then(|subscription| validate(&subscription));
                    valid.map_err(|errors| anyhow::anyhow!("{file}: {errors:?}"))?;
                }
                _ => {}
            }
            kinds.push(kind);
        }
        assert!(kinds.contains(&"Subscription".to_owned()), "{file}: {kinds:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_sink_that_makes_no_sense_is_refused_with_the_reason() -> Result<()> {
    let (client, namespace) = start("sinks").await?;
    install(&client, &Sink::definition()).await?;
    let nats = json!({"servers": ["nats://a"]});
    for (spec, reason) in [
        (json!({}), "exactly one of kafka, nats, rabbitmq and http must be given"),
        (
            json!({"nats": nats, "http": {"url": "http://a"}}),
            "exactly one of kafka, nats, rabbitmq and http must be given",
        ),
        (json!({"nats": {}}), "nats needs servers"),
        (json!({"kafka": {}}), "kafka needs brokers"),
        (json!({"http": {}}), "http needs a url"),
        (json!({"nats": {"servers": ["http://a"]}}), "spec.nats.servers[0]"),
        (json!({"nats": nats, "allowedNamespaces": {"from": "Everybody"}}), "spec.allowedNamespaces.from"),
        (
            json!({"nats": nats, "allowedNamespaces": {"from": "Selector"}}),
            "selector belongs to `from: Selector`",
        ),
    ] {
        let sink = json!({
            "apiVersion": "tidings.dev/v1alpha1", "kind": "Sink", "metadata": {"name": "refused"}, "spec": spec
        });
        let error = match create(&client, &namespace, &sink).await {
            Err(kube::Error::Api(status)) => status,
            other => bail!("{spec} was not refused but {other:?}"),
        };
        assert!(error.message.contains(reason), "{spec}: {:?} is not in {:?}", reason, error.message);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_left_out_is_filled_in() -> Result<()> {
    let (client, namespace) = start("defaults").await?;
    let least = json!({"sources": [{"apiVersion": "v1", "kind": "ConfigMap"}], "sink": {"stdout": {}}});
    let created = create(&client, &namespace, &subscription("least", least)).await?;
    assert_eq!(
        created.data["spec"],
        json!({
            "sources": [{"apiVersion": "v1", "kind": "ConfigMap"}],
            "changeTypes": ["Snapshot", "Added", "Updated", "Deleted", "Left"],
            "event": {"mode": "Binary"},
            "sink": {"stdout": {"format": "Summary"}},
            "delivery": {"maxInFlight": 1024, "oversize": "Reference", "onReject": "Block"},
            "serviceAccountName": "default",
            "suspend": false,
        })
    );
    let read = read::<Subscription>(&created).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    assert_eq!(read.spec.change_types, ChangeType::ALL);
    assert_eq!(read.spec.delivery.oversize, Oversize::Reference);
    Ok(())
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_reason() -> Result<()> {
    let (client, namespace) = start("refused").await?;
    let sources = |sources: Value| json!({"sources": sources, "sink": {"stdout": {}}});
    let source = |api_version: &str, kind: &str| sources(json!([{"apiVersion": api_version, "kind": kind}]));
    let namespaces =
        |namespaces: Value| sources(json!([{"apiVersion": "v1", "kind": "Pod", "namespaces": namespaces}]));
    let with = |field: &str, value: Value| {
        let mut spec = source("v1", "Pod");
        spec[field] = value;
        spec
    };
    let nats = |nats: Value| with("sink", json!({"nats": nats}));
    let http = |http: Value| with("sink", json!({"http": http}));
    let rabbitmq = |rabbitmq: Value| with("sink", json!({"rabbitmq": rabbitmq}));
    let kafka = |kafka: Value| with("sink", json!({"kafka": kafka}));
    let pods: Vec<Value> = vec![json!({"apiVersion": "v1", "kind": "Pod"}); 17];
    let many: Vec<String> = (0..65).map(|n| format!("n{n}")).collect();

    let cases = [
        (json!({}), "spec.sink: Required value"),
        (json!({}), "spec.sources: Required value"),
        (sources(json!([])), "spec.sources: Invalid value"),
        (sources(json!(pods)), "spec.sources: Too many: 17: must have at most 16 items"),
        (source("", "Pod"), "spec.sources[0].apiVersion"),
        (source("a/b/c", "Pod"), "spec.sources[0].apiVersion"),
        (source("v1", "Po d"), "spec.sources[0].kind"),
        (source("v1", &"x".repeat(64)), "spec.sources[0].kind: Too long"),
        (source("v1", "Secret"), "Secrets cannot be a source"),
        (source("tidings.dev/v1alpha1", "Subscription"), "resources of tidings.dev cannot be a source"),
        (namespaces(json!({"all": true, "names": ["a"]})), "names and all exclude each other"),
        (namespaces(json!({"names": []})), "spec.sources[0].namespaces.names"),
        (namespaces(json!({"names": many})), "spec.sources[0].namespaces.names: Too many: 65"),
        (
            namespaces(json!({"names": ["a", "a"]})),
            "spec.sources[0].namespaces.names[1]: Duplicate value: \"a\"",
        ),
        (namespaces(json!({"names": ["A"]})), "spec.sources[0].namespaces.names[0]"),
        (with("changeTypes", json!([])), "spec.changeTypes: Invalid value"),
        (with("changeTypes", json!(["Renamed"])), "spec.changeTypes[0]: Unsupported value: \"Renamed\""),
        (with("changeTypes", json!(["Added", "Added"])), "spec.changeTypes[1]: Duplicate value"),
        (with("event", json!({"mode": "Xml"})), "spec.event.mode: Unsupported value: \"Xml\""),
        (with("sink", json!({})), "ref or one of kafka, nats, rabbitmq, http and stdout must be given"),
        (
            with("sink", json!({"stdout": {}, "nats": {"servers": ["nats://a"]}})),
            "only one of kafka, nats, rabbitmq, http and stdout can be given",
        ),
        (kafka(json!({})), "kafka needs brokers, or else a Sink that has them (ref)"),
        (kafka(json!({"brokers": ["kafka://a:9092"]})), "spec.sink.kafka.brokers[0]"),
        (kafka(json!({"brokers": ["a:9092"], "topic": ""})), "spec.sink.kafka.topic"),
        (
            kafka(json!({"brokers": ["a:9092"], "createTopic": {"partitions": 0}})),
            "spec.sink.kafka.createTopic.partitions",
        ),
        (
            with("sink", json!({"ref": {"name": "a"}, "kafka": {"brokers": ["a:9092"]}})),
            "kafka needs brokers, or else a Sink that has them (ref)",
        ),
        (nats(json!({})), "nats needs servers, or else a Sink that has them (ref)"),
        (
            with("sink", json!({"ref": {"name": "a"}, "nats": {"servers": ["nats://a"]}})),
            "nats needs servers, or else a Sink that has them (ref)",
        ),
        (with("sink", json!({"ref": {"name": "a"}, "stdout": {}})), "stdout needs no Sink"),
        (nats(json!({"servers": []})), "spec.sink.nats.servers"),
        (nats(json!({"servers": ["http://a"]})), "spec.sink.nats.servers[0]"),
        (nats(json!({"servers": ["nats://a"], "subject": ""})), "spec.sink.nats.subject"),
        (
            nats(
                json!({"servers": ["nats://a"], "auth": {"user": "a", "passwordSecretRef": {"name": "A", "key": "b"}}}),
            ),
            "spec.sink.nats.auth.passwordSecretRef.name",
        ),
        (rabbitmq(json!({})), "rabbitmq needs servers, or else a Sink that has them (ref)"),
        (
            with("sink", json!({"rabbitmq": {"servers": ["amqp://a"]}, "nats": {"servers": ["nats://a"]}})),
            "only one of kafka, nats, rabbitmq, http and stdout can be given",
        ),
        (
            with("sink", json!({"ref": {"name": "a"}, "rabbitmq": {"servers": ["amqp://a"]}})),
            "rabbitmq needs servers, or else a Sink that has them (ref)",
        ),
        (rabbitmq(json!({"servers": ["http://a"]})), "spec.sink.rabbitmq.servers[0]"),
        (
            rabbitmq(json!({"servers": ["amqp://a"], "routingKey": "x".repeat(256)})),
            "spec.sink.rabbitmq.routingKey: Too long",
        ),
        (
            rabbitmq(json!({"servers": ["amqp://a"], "headerPrefix": "ce "})),
            "spec.sink.rabbitmq.headerPrefix",
        ),
        (
            rabbitmq(json!({"servers": ["amqp://a"], "declareExchange": {"type": "Other"}})),
            "spec.sink.rabbitmq.declareExchange.type: Unsupported value",
        ),
        (http(json!({})), "http needs a url, or else a Sink that has it (ref)"),
        (
            with("sink", json!({"ref": {"name": "a"}, "http": {"url": "https://a"}})),
            "http needs a url, or else a Sink that has it (ref)",
        ),
        (http(json!({"url": "amqp://a"})), "spec.sink.http.url"),
        (http(json!({"url": "https://a", "maxBatch": 0})), "spec.sink.http.maxBatch"),
        (http(json!({"url": "https://a", "retryOn": [200]})), "spec.sink.http.retryOn[0]"),
        (
            http(
                json!({"url": "https://a", "headers": [{"name": "a b", "valueSecretRef": {"name": "a", "key": "b"}}]}),
            ),
            "spec.sink.http.headers[0].name",
        ),
        (with("delivery", json!({"maxInFlight": 0})), "spec.delivery.maxInFlight: Invalid value: 0"),
        (with("delivery", json!({"maxInFlight": 65537})), "spec.delivery.maxInFlight: Invalid value: 65537"),
        (
            with("delivery", json!({"maxInFlight": "9"})),
            "spec.delivery.maxInFlight: Invalid value: \"string\"",
        ),
        (with("delivery", json!({"oversize": "Shrink"})), "spec.delivery.oversize: Unsupported value"),
        (with("delivery", json!({"onReject": "Retry"})), "spec.delivery.onReject: Unsupported value"),
        (
            with("delivery", json!({"onReject": "DeadLetter"})),
            "DeadLetter needs deadLetter: where dead letters go",
        ),
        (
            with("delivery", json!({"oversize": "DeadLetter"})),
            "DeadLetter needs deadLetter: where dead letters go",
        ),
        (
            with("delivery", json!({"onReject": "DeadLetter", "deadLetter": {}})),
            "ref or one of kafka, nats, rabbitmq, http and stdout must be given",
        ),
        (with("delivery", json!({"maxAttempts": 0})), "spec.delivery.maxAttempts: Invalid value: 0"),
        (with("delivery", json!({"maxAge": "soon"})), "spec.delivery.maxAge"),
        (with("serviceAccountName", json!("Nobody")), "spec.serviceAccountName"),
    ];
    for (index, (spec, reason)) in cases.iter().enumerate() {
        let object = subscription(&format!("refused-{index}"), spec.clone());
        let error = match create(&client, &namespace, &object).await {
            Err(kube::Error::Api(status)) => status,
            other => bail!("{spec} was not refused but {other:?}"),
        };
        assert_eq!(error.reason, "Invalid", "{spec}: {}", error.message);
        assert!(error.message.contains(reason), "{spec}: {:?} is not in {:?}", reason, error.message);

        let mut object: DynamicObject = serde_json::from_value(object)?;
        object.metadata.namespace = Some(namespace.clone());
        let offline = read::<Subscription>(&object).and_then(|subscription| validate(&subscription));
        assert!(offline.is_err(), "{spec} is refused by the schema and not by the validator");
    }
    Ok(())
}

#[tokio::test]
async fn a_field_that_does_not_exist_is_refused_by_strict_clients() -> Result<()> {
    let (client, namespace) = start("strict").await?;
    let spec =
        json!({"sources": [{"apiVersion": "v1", "kind": "Pod"}], "sink": {"stdout": {}}, "suspended": true});
    // As kubectl asks.
    let uri =
        format!("/apis/tidings.dev/v1alpha1/namespaces/{namespace}/subscriptions?fieldValidation=Strict");
    let request = http::Request::post(uri)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&subscription("strict", spec))?)?;
    let error = client.request::<Value>(request).await.unwrap_err().to_string();
    assert!(error.contains("unknown field \"spec.suspended\""), "{error}");
    Ok(())
}

#[tokio::test]
async fn columns_say_how_it_is_doing() -> Result<()> {
    let (client, namespace) = start("columns").await?;
    let spec = json!({"sources": [{"apiVersion": "v1", "kind": "Pod"}], "sink": {"stdout": {}}});
    create(&client, &namespace, &subscription("pods", spec)).await?;

    let mut status = SubscriptionStatus {
        sink: Some("stdout".to_owned()),
        counts: Some(Counts { acked: 41, ..Counts::default() }),
        lag: Some(Lag { changes: 2, seconds: 1 }),
        ..SubscriptionStatus::default()
    };
    let now = Time(Timestamp::from_second(1_800_000_000)?);
    conditions::set(
        &mut status.conditions,
        conditions::DELIVERING,
        Some(true),
        conditions::CATCHING_UP,
        "2 to go",
        Some(1),
        &now,
    );
    let api: Api<Subscription> = Api::namespaced(client.clone(), &namespace);
    let patch = Patch::Merge(json!({"status": status}));
    let patched = api.patch_status("pods", &PatchParams::default(), &patch).await?;
    assert_eq!(patched.status, Some(status));

    let request =
        http::Request::get(format!("/apis/tidings.dev/v1alpha1/namespaces/{namespace}/subscriptions"))
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())?;
    let table: Value = client.request(request).await?;
    let names: Vec<_> =
        table["columnDefinitions"].as_array().into_iter().flatten().map(|c| &c["name"]).collect();
    assert_eq!(
        json!(names),
        json!(["Name", "Delivering", "Reason", "Sink", "Lag", "Acked", "Blocked", "Message", "Age"])
    );
    let cells = table["rows"][0]["cells"].as_array().context("no row")?;
    assert_eq!(json!(cells[..6]), json!(["pods", "True", "CatchingUp", "stdout", 2, 41]));
    Ok(())
}
