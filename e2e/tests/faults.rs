//! What breaks, and what a consumer has in the end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;

use support::{Cluster, Stage, program};
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::nats::Nats;
use tidings_testbed::tidings::Bridge;

/// A cluster, a broker and a bridge of the test's own.
async fn own() -> (ControlPlane, Nats, Bridge, Stage) {
    let (control_plane, nats) = tokio::try_join!(ControlPlane::start(), Nats::start()).unwrap();
    let cluster = Cluster::install(&control_plane).await;
    let bridge = Bridge::start(program().await, &cluster.kubeconfig, &[]).await.unwrap();
    let stage = Stage::set(cluster, &nats, "faults").await;
    stage.create_stream().await;
    stage.subscribe("orders", |_| ()).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    (control_plane, nats, bridge, stage)
}

/// The versions that were published of each Todo.
async fn versions(stage: &Stage) -> BTreeSet<String> {
    stage.events().await.iter().map(|event| event.attribute("sequence").to_owned()).collect()
}

fn sequence(version: u64) -> String {
    format!("000000000000.{version:020}")
}

#[tokio::test]
async fn a_broker_that_dies_and_comes_back_gets_every_version_in_order() {
    let (_control_plane, mut nats, bridge, mut stage) = own().await;
    let mut written = Vec::new();
    for round in 0..60 {
        match round {
            20 => nats.kill().unwrap(),
            40 => nats.restart().await.unwrap(),
            _ => {}
        }
        for name in ["milk", "bread"] {
            written.push(sequence(stage.write(name, &round.to_string()).await));
        }
    }
    stage.nats = nats.client().await.unwrap();
    stage.hears(written.len()).await;
    stage.agrees().await;
    let published = versions(&stage).await;
    let lost: Vec<_> = written.iter().filter(|version| !published.contains(*version)).collect();
    assert!(lost.is_empty(), "lost {lost:?}\n{}", bridge.log_tail());
    for name in ["milk", "bread"] {
        let events = stage.events().await;
        let of_name = events.iter().filter(|event| event.attribute("subject").ends_with(name));
        let sequences: Vec<_> = of_name.map(|event| event.attribute("sequence").to_owned()).collect();
        assert!(sequences.is_sorted(), "{sequences:?}");
    }
}

#[tokio::test]
async fn a_bridge_that_is_killed_tells_what_exists_when_it_is_back() {
    let (_control_plane, _nats, mut bridge, stage) = own().await;
    stage.write("milk", "one").await;
    stage.write("bread", "one").await;
    stage.hears(2).await;
    bridge.kill().unwrap();
    stage.write("milk", "two").await;
    bridge.start_again().await.unwrap();
    let events = stage.hears(4).await;
    let told: Vec<_> = events[2..].iter().map(tidings_testbed::consumer::Received::change).collect();
    assert_eq!(told, ["snapshot", "snapshot"]);
    stage.agrees().await;
    // A second restart tells the same with the same ids, and the broker knows them.
    bridge.kill().unwrap();
    bridge.start_again().await.unwrap();
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.write("last", "one").await;
    let events = stage.hears(5).await;
    assert_eq!(events.len(), 5, "{:?}", support::lines(&events));
}

#[tokio::test]
async fn a_bridge_that_is_stopped_delivers_first_what_it_has() {
    let (_control_plane, _nats, mut bridge, stage) = own().await;
    let mut written = BTreeSet::new();
    for round in 0..100 {
        written.insert(sequence(stage.write("milk", &round.to_string()).await));
    }
    bridge.stop().await.unwrap();
    let published = versions(&stage).await;
    // What the watch had not brought when the signal came is told by the next start; what it had is there, without
    // holes, and in order.
    let newest = published.last().cloned().unwrap_or_default();
    let expected: BTreeSet<_> = written.into_iter().filter(|version| *version <= newest).collect();
    assert_eq!(published, expected);
    assert!(!bridge.log().contains("changes were not delivered"), "{}", bridge.log_tail());
}

#[tokio::test]
async fn an_api_server_that_restarts_loses_nobody() {
    let (mut control_plane, _nats, bridge, stage) = own().await;
    stage.write("stays", "one").await;
    for round in 0..3 {
        stage.write("milk", &round.to_string()).await;
        control_plane.api_server.kill().unwrap();
        control_plane.api_server.restart().await.unwrap();
        stage.delete("milk").await;
        stage.write("milk", "again").await;
    }
    stage.agrees().await;
    let events = stage.events().await;
    let stays = events.iter().filter(|event| event.attribute("subject").ends_with("/stays")).count();
    assert_eq!(stays, 1, "{:?}\n{}", support::lines(&events), bridge.log_tail());
}

#[tokio::test]
async fn what_the_bridge_counts_can_be_read() {
    let (_control_plane, _nats, bridge, stage) = own().await;
    stage.write("milk", "one").await;
    stage.hears(1).await;
    let metrics = bridge.metrics().await.unwrap();
    let labels = format!(r#"{{namespace="{}",subscription="orders"}}"#, stage.namespace);
    for name in ["routed", "sent", "acked"] {
        assert!(metrics.contains(&format!("tidings_{name}_total{labels} 1")), "{name}\n{metrics}");
    }
    for name in ["retried_total", "rejected_total", "lag_changes", "lag_seconds", "blocked_keys"] {
        assert!(metrics.contains(&format!("tidings_{name}{labels} 0")), "{name}\n{metrics}");
    }
    let resource = r#"{resource="todos.v1.k8sasbackend.com"}"#;
    assert!(metrics.contains(&format!("tidings_received_total{resource} 1")), "{metrics}");
    assert!(metrics.contains(&format!("tidings_known_objects{resource} 1")), "{metrics}");
    assert!(metrics.contains("# UNIT tidings_lag_seconds seconds"), "{metrics}");
}
