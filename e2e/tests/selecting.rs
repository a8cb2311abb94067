//! Of what is there, Subscriptions hear what they ask for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use anyhow::ensure;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use support::{Cluster, Stage, lines, program, stage};
use tidings_crds::subscription::status::SubscriptionStatus;
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::nats::Nats;
use tidings_testbed::tidings::Bridge;
use tidings_testbed::wait::eventually;

fn source(more: &Value) -> Value {
    let mut source = json!({"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"});
    let fields = source.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    source
}

async fn label(stage: &Stage, name: &str, tier: Option<&str>) {
    let patch = Patch::Merge(json!({"metadata": {"labels": {"tier": tier}}}));
    stage.todos().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

async fn status(
    stage: &Stage,
    what: &str,
    holds: impl Fn(&SubscriptionStatus) -> bool,
) -> SubscriptionStatus {
    let status = eventually(support::SOON, what, || async {
        let status = stage.subscriptions().get("orders").await?.status.unwrap_or_default();
        ensure!(holds(&status), "{status:#?}");
        Ok(status)
    });
    status.await.unwrap()
}

#[tokio::test]
async fn labels_bring_objects_in_and_take_them_out() {
    let stage = stage("labels").await;
    stage.create_stream().await;
    stage.write("milk", "one").await;
    stage.write("bread", "one").await;
    label(&stage, "bread", Some("gold")).await;
    let gold = json!([source(&json!({"labelSelector": {"matchLabels": {"tier": "gold"}}}))]);
    stage.subscribe("orders", |spec| spec["sources"] = gold).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;

    stage.write("milk", "two").await;
    label(&stage, "milk", Some("gold")).await;
    stage.write("milk", "three").await;
    label(&stage, "milk", Some("silver")).await;
    stage.write("milk", "four").await;
    label(&stage, "milk", Some("gold")).await;
    label(&stage, "bread", None).await;
    stage.delete("bread").await;
    stage.delete("milk").await;
    let events = stage.hears(7).await;
    let expected = [
        "snapshot bread",
        "added milk",
        "updated milk",
        "left milk",
        "added milk",
        "left bread",
        "deleted milk",
    ];
    assert_eq!(lines(&events), expected);
    let reasons: Vec<_> = [1, 3, 4].map(|at: usize| events[at].attribute("reason").to_owned()).into();
    assert_eq!(reasons, ["selection"; 3], "the labels did it");
    assert!(events.iter().all(|event| event.attribute("gap").is_empty()));
    let version = |at: usize| &events[at].data["metadata"]["resourceVersion"];
    let id = |at: usize| events[at].attribute("id");
    assert!(id(1).ends_with(&format!(".{}", version(1).as_str().unwrap())), "its own change: {}", id(1));

    // An edit is told as well: the second source adds up with the first.
    stage.write("eggs", "one").await;
    stage.write("flour", "one").await;
    let named = source(&json!({"names": ["eggs", "salt"]}));
    let gold =
        source(&json!({"labelSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}}));
    stage.edit("orders", json!({"sources": [named, gold]})).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.write("salt", "one").await;
    label(&stage, "flour", Some("lead")).await;
    let events = stage.hears(10).await;
    assert_eq!(lines(&events)[7..], ["added eggs", "added salt", "added flour"]);
}

#[tokio::test]
async fn filters_leave_out_events_and_say_how_many() {
    let stage = stage("filters").await;
    stage.create_stream().await;
    let filters = json!([
        {"not": {"suffix": {"subject": "/noise"}}},
        {"any": [{"cel": "object.spec.message != 'quiet'"}, {"suffix": {"type": ".deleted"}}]},
    ]);
    stage.subscribe("orders", |spec| spec["filters"] = filters).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.write("noise", "one").await;
    stage.write("milk", "one").await;
    stage.write("milk", "quiet").await;
    stage.write("bread", "quiet").await;
    stage.write("milk", "two").await;
    stage.write("milk", "quiet").await;
    stage.delete("milk").await;
    stage.delete("bread").await;
    let events = stage.hears(4).await;
    assert_eq!(lines(&events), ["added milk", "updated milk", "deleted milk", "deleted bread"]);
    let counted = status(&stage, "what was left out", |status| {
        status.counts.as_ref().is_some_and(|counts| counts.filtered == 4 && counts.acked == 4)
    });
    assert_eq!(counted.await.last_error, None);

    // A filter that cannot say leaves out nothing, and says why.
    stage.edit("orders", json!({"filters": [{"cel": "object.spec.priority > 3"}]})).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.write("milk", "three").await;
    assert_eq!(lines(&stage.hears(5).await)[4..], ["added milk"]);
    let failed =
        status(&stage, "a failure", |status| status.counts.as_ref().unwrap().filter_failures == 1).await;
    let message = failed.last_error.unwrap().message;
    assert!(message.starts_with("object.spec.priority > 3: ") && message.contains("priority"), "{message}");
}

#[tokio::test]
async fn only_changes_of_the_generation_are_told_where_that_is_asked() {
    let stage = stage("generation").await;
    stage.create_stream().await;
    stage.subscribe("orders", |spec| spec["changed"] = json!({"generation": true})).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.write("milk", "one").await;
    stage.write_status("milk", "being bought").await;
    label(&stage, "milk", Some("gold")).await;
    stage.write("milk", "two").await;
    stage.write_status("milk", "bought").await;
    stage.delete("milk").await;
    let events = stage.hears(3).await;
    assert_eq!(lines(&events), ["added milk", "updated milk", "deleted milk"]);
    assert!(events.iter().all(|event| event.attribute("gap").is_empty()), "nothing is missing");
}

#[tokio::test]
async fn what_happened_while_the_bridge_was_down_goes_through_the_filter_as_well() {
    let (control_plane, nats) = tokio::try_join!(ControlPlane::start(), Nats::start()).unwrap();
    let cluster = Cluster::install(&control_plane).await;
    let mut bridge = Bridge::start(program().await, &cluster.kubeconfig, &[]).await.unwrap();
    let stage = Stage::set(cluster, &nats, "filters-down").await;
    stage.create_stream().await;
    let filters = json!([{"cel": "object.spec.message.startsWith('loud')"}]);
    stage.subscribe("orders", |spec| spec["filters"] = filters).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.write("milk", "loud").await;
    stage.hears(1).await;
    bridge.kill().unwrap();
    stage.write("milk", "quiet").await;
    stage.write("bread", "quiet").await;
    stage.write("bread", "louder").await;
    bridge.start_again().await.unwrap();
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.write("milk", "loudest").await;
    let events = stage.hears(3).await;
    let told: Vec<_> = events.iter().map(|event| event.data["spec"]["message"].clone()).collect();
    // What was told in the last moment before the end may come again.
    let once: Vec<_> = told.iter().skip(told.len() - 2).collect();
    assert_eq!(once, ["louder", "loudest"], "{told:?}");
    assert!(told.iter().all(|message| message.as_str().unwrap().starts_with("loud")), "{told:?}");
    // Who was told nothing of it when it appeared is told when it goes.
    let rest = events.len();
    stage.delete("bread").await;
    let events = stage.hears(rest + 1).await;
    assert_eq!(lines(&events[rest..]), ["deleted bread"]);
}
