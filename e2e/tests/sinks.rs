//! Sinks and credentials: who may use which, and what happens when they change.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::{Stage, lines, stage};
use tidings_crds::sink::Sink;
use tidings_testbed::component::Home;
use tidings_testbed::nats::{Nats, NatsOptions, NatsUser};
use tidings_testbed::wait::eventually;

/// A broker that wants a password, with the stream of the test.
async fn guarded(stage: &Stage) -> Nats {
    let options = NatsOptions { users: vec![NatsUser::new("tidings", "hunter2")], ..NatsOptions::default() };
    let nats = Nats::start_with(&Home::Temporary, options).await.unwrap();
    tidings_testbed::consumer::create_stream(&nats.client().await.unwrap(), &stage.namespace).await.unwrap();
    nats
}

fn auth() -> Value {
    json!({"user": "tidings", "passwordSecretRef": {"name": "broker", "key": "password"}})
}

/// `spec.sink` with a connection to `nats` of the Subscription's own.
fn inline(stage: &Stage, nats: &Nats) -> Value {
    let subject = format!("{}.{{name}}.{{change}}", stage.namespace);
    json!({"nats": {"servers": [nats.url()], "auth": auth(), "subject": subject}})
}

async fn put_secret(stage: &Stage, namespace: &str, password: &str) {
    let secrets = Api::<Secret>::namespaced(stage.cluster.client.clone(), namespace);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "broker"}, "stringData": {"password": password}
    });
    secrets.patch("broker", &PatchParams::apply("e2e").force(), &Patch::Apply(secret)).await.unwrap();
}

/// Lets the service account `default` read the Secret.
async fn grant(stage: &Stage) {
    let client = &stage.cluster.client;
    let role = json!({
        "metadata": {"name": "reads-broker"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["broker"], "verbs": ["get"]}]
    });
    let binding = json!({
        "metadata": {"name": "reads-broker"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads-broker"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": stage.namespace}]
    });
    let roles = Api::<Role>::namespaced(client.clone(), &stage.namespace);
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), &stage.namespace);
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
}

async fn create_sink(stage: &Stage, namespace: &str, spec: Value) {
    let sinks = Api::<Sink>::namespaced(stage.cluster.client.clone(), namespace);
    let sink = json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Sink", "metadata": {"name": "company"}, "spec": spec
    });
    sinks.create(&PostParams::default(), &serde_json::from_value(sink).unwrap()).await.unwrap();
}

/// Waits until the Sink `company` is `status` for `reason`, with so many Subscriptions.
async fn sink_says(stage: &Stage, namespace: &str, status: &str, reason: &str, subscriptions: i64) -> String {
    let sinks = Api::<Sink>::namespaced(stage.cluster.client.clone(), namespace);
    eventually(support::SOON, &format!("the Sink is {status} because of {reason}"), || async {
        let said = sinks.get("company").await?.status.unwrap_or_default();
        let reachable = said.conditions.iter().find(|condition| condition.type_ == "Reachable");
        match reachable {
            Some(found)
                if (found.status.as_str(), found.reason.as_str()) == (status, reason)
                    && said.subscriptions == Some(subscriptions) =>
            {
                Ok(found.message.clone())
            }
            _ => anyhow::bail!("{said:#?}"),
        }
    })
    .await
    .unwrap()
}

/// Everything in the stream of the test, on the guarded broker.
async fn events(stage: &Stage, nats: &Nats, count: usize) -> Vec<String> {
    let client = nats.client().await.unwrap();
    let read = || async {
        let events = tidings_testbed::consumer::read_all(&client, &stage.namespace).await?;
        anyhow::ensure!(events.len() >= count, "there are {:?}", lines(&events));
        Ok(lines(&events))
    };
    eventually(support::SOON, &format!("{count} events"), read).await.unwrap()
}

#[tokio::test]
async fn a_secret_is_used_only_with_the_right_to_read_it_and_its_changes_are_followed() {
    let stage = stage("secrets").await;
    let nats = guarded(&stage).await;
    stage.subscribe("orders", |spec| spec["sink"] = inline(&stage, &nats)).await;
    let message = stage.says("orders", "SinkReady", "False", "SecretForbidden").await;
    assert!(message.contains("default may not `get` the Secret broker"), "{message}");
    grant(&stage).await;
    let message = stage.says("orders", "SinkReady", "False", "SecretNotFound").await;
    assert_eq!(message, format!("there is no Secret {}/broker", stage.namespace));
    stage.write("milk", "one").await;

    put_secret(&stage, &stage.namespace, "wrong").await;
    stage.says("orders", "SinkReady", "False", "Unauthorized").await;
    put_secret(&stage, &stage.namespace, "hunter2").await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.write("milk", "two").await;
    assert_eq!(events(&stage, &nats, 2).await, ["added milk", "updated milk"]);

    // Not what the Subscription is allowed any more.
    let bindings = Api::<RoleBinding>::namespaced(stage.cluster.client.clone(), &stage.namespace);
    bindings.delete("reads-broker", &DeleteParams::default()).await.unwrap();
    stage.says("orders", "SinkReady", "False", "SecretForbidden").await;
    stage.write("milk", "three").await;
    let binding = json!({
        "metadata": {"name": "reads-broker"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads-broker"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": stage.namespace}]
    });
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    assert_eq!(events(&stage, &nats, 3).await, ["added milk", "updated milk", "updated milk"]);
}

#[tokio::test]
async fn a_secret_without_the_key_is_said() {
    let stage = stage("keyless").await;
    let nats = guarded(&stage).await;
    grant(&stage).await;
    put_secret(&stage, &stage.namespace, "hunter2").await;
    let mut sink = inline(&stage, &nats);
    sink["nats"]["auth"]["passwordSecretRef"]["key"] = "pass".into();
    stage.subscribe("orders", |spec| spec["sink"] = sink).await;
    let message = stage.says("orders", "SinkReady", "False", "SecretKeyNotFound").await;
    assert_eq!(message, format!("the Secret {}/broker has no key \"pass\"", stage.namespace));
}

#[tokio::test]
async fn subscriptions_share_a_sink_and_it_says_how_it_is() {
    let stage = stage("shared").await;
    let mut nats = guarded(&stage).await;
    put_secret(&stage, &stage.namespace, "hunter2").await;
    let subject = format!("{}.{{name}}.{{change}}", stage.namespace);
    let by_sink =
        |spec: &mut Value| spec["sink"] = json!({"ref": {"name": "company"}, "nats": {"subject": subject}});
    stage.subscribe("orders", by_sink).await;
    let message = stage.says("orders", "SinkReady", "False", "SinkNotFound").await;
    assert_eq!(message, format!("there is no Sink {}/company", stage.namespace));
    create_sink(&stage, &stage.namespace, json!({"nats": {"servers": [nats.url()], "auth": auth()}})).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.subscribe("again", by_sink).await;
    stage.says("again", "Delivering", "True", "Synchronized").await;
    sink_says(&stage, &stage.namespace, "True", "Connected", 2).await;
    stage.write("milk", "one").await;
    assert_eq!(events(&stage, &nats, 2).await, ["added milk", "added milk"]);

    // One connection for both.
    let client = nats.client().await.unwrap();
    drop(client);
    nats.stop().await.unwrap();
    sink_says(&stage, &stage.namespace, "False", "Unreachable", 2).await;
    stage.write("milk", "two").await;
    nats.restart().await.unwrap();
    assert_eq!(events(&stage, &nats, 4).await.len(), 4);

    // A changed password reaches those that use it, and what was told meanwhile is not lost.
    put_secret(&stage, &stage.namespace, "wrong").await;
    sink_says(&stage, &stage.namespace, "False", "Unauthorized", 2).await;
    stage.write("milk", "three").await;
    put_secret(&stage, &stage.namespace, "hunter2").await;
    sink_says(&stage, &stage.namespace, "True", "Connected", 2).await;
    let all = events(&stage, &nats, 6).await;
    assert_eq!(all.iter().filter(|line| *line == "updated milk").count(), 4, "{all:?}");
}

#[tokio::test]
async fn a_sink_of_another_namespace_lets_in_whom_it_says() {
    let (stage, other) = (stage("tenant").await, stage("broker").await);
    let nats = guarded(&stage).await;
    put_secret(&other, &other.namespace, "hunter2").await;
    let connection = json!({"servers": [nats.url()], "auth": auth()});
    create_sink(&other, &other.namespace, json!({"nats": connection})).await;
    let sink = json!({
        "ref": {"namespace": other.namespace, "name": "company"},
        "nats": {"subject": format!("{}.{{name}}.{{change}}", stage.namespace)}
    });
    stage.subscribe("orders", |spec| spec["sink"] = sink).await;
    let message = stage.says("orders", "SinkReady", "False", "SinkNotFound").await;
    assert!(message.contains("spec.allowedNamespaces"), "{message}");

    let sinks = Api::<Sink>::namespaced(stage.cluster.client.clone(), &other.namespace);
    let allow = |allowed: Value| Patch::Merge(json!({"spec": {"allowedNamespaces": allowed}}));
    let name = json!({"kubernetes.io/metadata.name": stage.namespace});
    for (allowed, in_) in [
        (json!({"from": "Selector", "selector": {"matchLabels": name}}), true),
        (json!({"from": "Same", "selector": null}), false),
        (json!({"from": "All", "selector": null}), true),
    ] {
        sinks.patch("company", &PatchParams::default(), &allow(allowed)).await.unwrap();
        if in_ {
            stage.says("orders", "Delivering", "True", "Synchronized").await;
        } else {
            stage.says("orders", "SinkReady", "False", "SinkNotFound").await;
        }
    }
    sink_says(&stage, &other.namespace, "True", "Connected", 1).await;
}

/// Nobody makes the bridge show somebody else's Secret to a broker of their own.
#[tokio::test]
async fn a_secret_of_another_namespace_cannot_be_named() {
    let (stage, other) = (stage("thief").await, stage("victim").await);
    let nats = guarded(&stage).await;
    put_secret(&other, &other.namespace, "hunter2").await;
    grant(&stage).await;
    let mut sink = inline(&stage, &nats);
    sink["nats"]["auth"]["passwordSecretRef"]["name"] = format!("{}/broker", other.namespace).into();
    let thief = json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription", "metadata": {"name": "thief"},
        "spec": {"sources": [{"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"}], "sink": sink}
    });
    let refused =
        stage.subscriptions().create(&PostParams::default(), &serde_json::from_value(thief).unwrap()).await;
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("spec.sink.nats.auth.passwordSecretRef.name"), "{words}");

    // Named as if it were here, it is not found.
    stage.subscribe("orders", |spec| spec["sink"] = inline(&stage, &nats)).await;
    stage.says("orders", "SinkReady", "False", "SecretNotFound").await;
}
