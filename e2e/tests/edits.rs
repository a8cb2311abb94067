//! What becomes of a Subscription that is edited, also while nobody serves it, and of one whose state is gone.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use kube::api::DeleteParams;
use serde_json::json;
use support::{Cluster, Stage, lines, program, stage};
use tidings_testbed::consumer::create_stream;
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::folder::Folder;
use tidings_testbed::nats::Nats;
use tidings_testbed::tidings::Bridge;

/// A cluster, a broker and a bridge of the test's own, with the folder of its state.
async fn own() -> (ControlPlane, Nats, Bridge, Folder, Stage) {
    let (control_plane, nats) = tokio::try_join!(ControlPlane::start(), Nats::start()).unwrap();
    let cluster = Cluster::install(&control_plane).await;
    let folder = Folder::temporary("state").unwrap();
    let state = format!("--state-dir={}", folder.path().join("state").display());
    let bridge = Bridge::start(program().await, cluster.bridge(), &[&state]).await.unwrap();
    let stage = Stage::set(cluster, &nats, "edits").await;
    stage.create_stream().await;
    (control_plane, nats, bridge, folder, stage)
}

#[tokio::test]
async fn a_bridge_that_lost_its_state_tells_what_exists_as_a_snapshot() {
    let (_control_plane, _nats, mut bridge, folder, stage) = own().await;
    stage.subscribe("orders", |_| ()).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.write("milk", "one").await;
    stage.write("bread", "one").await;
    stage.hears(2).await;
    bridge.stop().await.unwrap();
    stage.delete("bread").await;
    std::fs::remove_dir_all(folder.path().join("state")).unwrap();
    bridge.start_again().await.unwrap();
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    // That bread is gone nobody can know.
    assert_eq!(lines(&stage.hears(3).await), ["added milk", "added bread", "snapshot milk"]);
}

#[tokio::test]
async fn what_was_edited_while_the_bridge_was_down_counts_from_its_start() {
    let (_control_plane, _nats, mut bridge, _folder, stage) = own().await;
    let elsewhere = format!("{}-elsewhere", stage.namespace);
    create_stream(&stage.nats, &elsewhere).await.unwrap();
    let subject = |which: &str| format!("{}.{which}.{{name}}.{{change}}", stage.namespace);
    for name in ["narrower", "moved", "deleted"] {
        stage.subscribe(name, |spec| spec["sink"]["nats"]["subject"] = subject(name).into()).await;
        stage.says(name, "Delivering", "True", "Synchronized").await;
    }
    stage.write("milk", "one").await;
    stage.hears(3).await;
    bridge.stop().await.unwrap();
    let none =
        json!([{"apiVersion": "k8sasbackend.com/v1", "kind": "Todo", "namespaces": {"names": ["default"]}}]);
    stage.edit("narrower", json!({ "sources": none })).await;
    let there = json!({"subject": format!("{elsewhere}.{{name}}.{{change}}"), "stream": elsewhere});
    stage.edit("moved", json!({"sink": {"nats": there}})).await;
    stage.subscriptions().delete("deleted", &DeleteParams::default()).await.unwrap();
    bridge.start_again().await.unwrap();
    for name in ["narrower", "moved"] {
        stage.says(name, "Delivering", "True", "Synchronized").await;
    }
    stage.write("milk", "two").await;
    let events = stage.hears(4).await;
    let last: Vec<_> = events[3..].iter().map(|event| event.subject.clone()).collect();
    assert_eq!(last, [format!("{}.narrower.milk.left", stage.namespace)]);
    // Another stream is another place, which begins with what exists.
    let there = tidings_testbed::wait::eventually(support::SOON, "what is told elsewhere", || async {
        let events = tidings_testbed::consumer::read_all(&stage.nats, &elsewhere).await?;
        anyhow::ensure!(events.len() == 2, "{:?}", lines(&events));
        Ok(lines(&events))
    });
    assert_eq!(there.await.unwrap(), ["snapshot milk", "updated milk"]);
    assert_eq!(stage.events().await.len(), 4);
}

#[tokio::test]
async fn a_malformed_edit_leaves_the_last_valid_version_in_force() {
    let stage = stage("malformed-edit").await;
    stage.create_stream().await;
    stage.subscribe("orders", |_| ()).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.edit("orders", json!({"sink": {"nats": {"subject": "todos..{nme}"}}})).await;
    stage.says("orders", "Accepted", "False", "Invalid").await;
    stage.write("milk", "one").await;
    assert_eq!(lines(&stage.hears(1).await), ["added milk"]);
    let subject = format!("{}.mended.{{name}}.{{change}}", stage.namespace);
    stage.edit("orders", json!({"sink": {"nats": {"subject": subject}}})).await;
    stage.says("orders", "Accepted", "True", "Valid").await;
    stage.write("milk", "two").await;
    assert_eq!(lines(&stage.hears(2).await), ["added milk", "updated milk"]);
}

#[tokio::test]
async fn a_suspended_subscription_is_sent_nothing_until_it_is_resumed_and_then_everything() {
    let stage = stage("suspend").await;
    stage.create_stream().await;
    stage.subscribe("orders", |spec| spec["suspend"] = true.into()).await;
    stage.says("orders", "Delivering", "False", "Suspended").await;
    stage.write("milk", "one").await;
    stage.write("milk", "two").await;
    stage.delete("milk").await;
    // Nothing comes while it says so.
    stage.says("orders", "Delivering", "False", "Suspended").await;
    assert_eq!(lines(&stage.events().await), [""; 0]);
    stage.edit("orders", json!({"suspend": false})).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    let events = stage.hears(3).await;
    assert_eq!(lines(&events), ["added milk", "updated milk", "deleted milk"]);
}
