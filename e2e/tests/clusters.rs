//! A cluster that goes back in time, and another one behind the same address.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::{Cluster, Stage, program};
use tidings_testbed::consumer::Received;
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::folder::Folder;
use tidings_testbed::nats::Nats;
use tidings_testbed::tidings::Bridge;

/// A Subscription `orders` to the Todos of a new namespace, in a cluster with our CRDs.
async fn set(control_plane: &ControlPlane, nats: &Nats) -> Stage {
    let cluster = Cluster::install(control_plane).await;
    let stage = Stage::set(cluster, nats, "clusters").await;
    stage.create_stream().await;
    stage.subscribe("orders", |_| ()).await;
    stage
}

/// `deleted jam`, with ` in a new epoch` where it is of one.
fn told(event: &Received) -> String {
    let name = event.attribute("subject").rsplit('/').next().unwrap_or_default();
    let epoch = if event.attribute("sequence").starts_with("000000000000.") { "" } else { " in a new epoch" };
    format!("{} {name}{epoch}", event.change())
}

/// Milk and bread are in the backup, jam is not; butter was deleted after it.
async fn restored(down: bool) {
    let (mut control_plane, nats) = tokio::try_join!(ControlPlane::start(), Nats::start()).unwrap();
    let stage = set(&control_plane, &nats).await;
    let mut bridge =
        Bridge::start(program().await, stage.cluster.bridge(), &["--flush-interval=10ms"]).await.unwrap();
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    for name in ["milk", "bread", "butter"] {
        stage.write(name, "one").await;
    }
    stage.hears(3).await;
    let backup = control_plane.back_up().await.unwrap();
    stage.delete("butter").await;
    stage.write("jam", "one").await;
    for round in 0..5 {
        stage.write("milk", &round.to_string()).await;
    }
    stage.agrees().await;
    let before = stage.events().await.len();
    if down {
        bridge.stop().await.unwrap();
    }
    control_plane.restore(&backup).await.unwrap();
    if down {
        bridge.start_again().await.unwrap();
    }
    // Another one may have the very version that was told before, with other content.
    stage.write("bread", "two").await;
    stage.agrees().await;
    let events = stage.events().await.split_off(before);
    let mut lines: Vec<_> = events.iter().map(told).collect();
    lines.sort();
    lines.dedup();
    let rest = ["added butter", "deleted jam", "updated bread", "updated milk"];
    assert_eq!(lines, rest.map(|line| format!("{line} in a new epoch")), "{}", bridge.log_tail());
}

#[tokio::test]
async fn a_cluster_restored_from_a_backup_is_told_in_a_new_epoch() {
    restored(false).await;
}

#[tokio::test]
async fn a_cluster_restored_while_the_bridge_was_down_is_told_in_a_new_epoch() {
    restored(true).await;
}

#[tokio::test]
async fn the_state_of_another_cluster_is_refused_until_it_is_adopted() {
    let folder = Folder::temporary("state").unwrap();
    let state = format!("--state-dir={}", folder.path().display());
    let (first, second, nats) =
        tokio::try_join!(ControlPlane::start(), ControlPlane::start(), Nats::start()).unwrap();
    let stage = set(&first, &nats).await;
    let mut bridge = Bridge::start(program().await, stage.cluster.bridge(), &[&state]).await.unwrap();
    stage.write("milk", "one").await;
    stage.hears(1).await;
    bridge.stop().await.unwrap();

    let other = set(&second, &nats).await;
    let refused = Bridge::start(program().await, other.cluster.bridge(), &[&state]).await;
    let message = format!("{:#}", refused.unwrap_err());
    let adopt = message.split("--adopt-cluster=").nth(1);
    let uid = adopt.unwrap_or_else(|| panic!("it does not say what to do: {message}"));

    let adopt = format!("--adopt-cluster={}", &uid[..36]);
    let arguments: [&str; 2] = [&state, &adopt];
    let adopted = Bridge::start(program().await, other.cluster.bridge(), &arguments);
    let mut adopted = adopted.await.unwrap();
    other.says("orders", "Delivering", "True", "Synchronized").await;
    other.write("bread", "one").await;
    other.agrees().await;
    let lines: Vec<_> = other.events().await.iter().map(told).collect();
    assert_eq!(lines, ["added bread in a new epoch"]);
    // From now on the state is of this one.
    adopted.stop().await.unwrap();
    adopted.start_again().await.unwrap();
    drop(adopted);
    Bridge::start(program().await, other.cluster.bridge(), &[&state]).await.unwrap();
}
