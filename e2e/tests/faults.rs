//! What breaks, and what a consumer has in the end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use support::{Cluster, Stage, program};
use tidings_testbed::consumer::Received;
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::disk::{Disk, SIZE};
use tidings_testbed::nats::Nats;
use tidings_testbed::tidings::Bridge;
use tidings_testbed::wait::eventually;

/// A cluster, a broker and a bridge of the test's own.
async fn own() -> (ControlPlane, Nats, Bridge, Stage) {
    own_with(&[]).await
}

/// The same, whose bridge has more `arguments`.
async fn own_with(arguments: &[&str]) -> (ControlPlane, Nats, Bridge, Stage) {
    let (control_plane, nats) = tokio::try_join!(ControlPlane::start(), Nats::start()).unwrap();
    let cluster = Cluster::install(&control_plane).await;
    let bridge = Bridge::start(program().await, cluster.bridge(), arguments).await.unwrap();
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

/// `added milk one`, with ` gap` where that is marked.
fn told(event: &Received) -> String {
    let name = event.attribute("subject").rsplit('/').next().unwrap_or_default();
    let gap = if event.attribute("gap").is_empty() { "" } else { " gap" };
    format!("{} {name} {}{gap}", event.change(), event.data["spec"]["message"].as_str().unwrap_or_default())
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
async fn a_bridge_that_is_killed_goes_on_where_it_was() {
    let (_control_plane, _nats, mut bridge, stage) = own().await;
    for name in ["milk", "bread", "jam"] {
        stage.write(name, "one").await;
    }
    stage.hears(3).await;
    bridge.kill().unwrap();
    stage.write("milk", "two").await;
    stage.write("milk", "three").await;
    stage.delete("jam").await;
    bridge.start_again().await.unwrap();
    // Repeats have the ids they had, so the broker knows them, and nothing is told as if it were new.
    let events = stage.hears(6).await;
    let mut told: Vec<_> = events[3..].iter().map(told).collect();
    told.sort();
    assert_eq!(told, ["deleted jam one", "updated milk three", "updated milk two"]);
    stage.agrees().await;
}

#[tokio::test]
async fn what_went_while_bridge_and_api_server_were_down_is_told_with_the_gap_marked() {
    // Nothing is recovered, so all of it is marked.
    let (mut control_plane, _nats, mut bridge, stage) = own_with(&["--backfill-requests=0"]).await;
    for name in ["milk", "bread", "jam"] {
        stage.write(name, "one").await;
    }
    stage.hears(3).await;
    bridge.kill().unwrap();
    stage.write("milk", "two").await;
    stage.delete("jam").await;
    // A new API server has no history to resume from.
    control_plane.api_server.kill().unwrap();
    control_plane.api_server.restart().await.unwrap();
    stage.write("last", "one").await;
    bridge.start_again().await.unwrap();
    let events = stage.hears(6).await;
    // Whether milk was heard of may be in doubt: it was told just before the kill.
    let told = events[3..].iter().map(|event| told(event).replace("updated milk", "added milk"));
    let mut told: Vec<_> = told.collect();
    told.sort();
    assert_eq!(told, ["added last one gap", "added milk two gap", "deleted jam  gap"]);
    stage.agrees().await;
    let note = stage.announces("orders", "HistoryLost").await;
    assert!(note.starts_with("the history of todos.v1.k8sasbackend.com after resourceVersion "), "{note}");
}

#[tokio::test]
async fn while_the_disk_is_full_it_is_said_and_nothing_is_lost() {
    // Said on stderr: not everybody may mount one.
    let Some(disk) = Disk::mount().unwrap() else { return };
    let state = format!("--state-dir={}", disk.path().display());
    let (_control_plane, _nats, bridge, stage) = own_with(&[&state]).await;
    stage.write("milk", "one").await;
    stage.hears(1).await;
    // The store has a reserve, which is to be used up.
    let round = AtomicU32::new(0);
    eventually(support::SOON, "a commit that fails", || async {
        disk.fill()?;
        stage.write("milk", &round.fetch_add(1, Ordering::Relaxed).to_string()).await;
        let metrics = bridge.metrics().await?;
        let failed = metrics
            .lines()
            .any(|line| line.strip_prefix("tidings_state_failures_total ").is_some_and(|count| count != "0"));
        anyhow::ensure!(failed, "{metrics}");
        Ok(())
    })
    .await
    .unwrap();
    stage.write("bread", "one").await;
    let message = stage.says("orders", "Delivering", "False", "StateNotStored").await;
    assert!(
        message.contains("free room on its volume") && message.contains("what is new waits"),
        "{message}"
    );
    stage.announces("orders", "StateNotStored").await;
    disk.free().unwrap();
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.announces("orders", "StateStored").await;
    stage.agrees().await;
}

#[tokio::test]
async fn a_disk_that_a_backlog_has_filled_is_drained_without_help() {
    let Some(disk) = Disk::mount().unwrap() else { return };
    let state = format!("--state-dir={}", disk.path().display());
    let (_control_plane, mut nats, bridge, mut stage) = own_with(&[&state, "--journal-bytes=8Mi"]).await;
    stage.write("milk", "one").await;
    stage.hears(1).await;
    nats.kill().unwrap();
    // Of what no compression makes much less; more than there is room for.
    let mut random = fastrand::Rng::with_seed(1);
    let mut written = 0;
    while written < 2 * SIZE {
        let bulk: String = (0..900_000).map(|_| random.alphanumeric()).collect();
        written += stage.write_status("milk", &bulk).await;
    }
    stage.says("orders", "Delivering", "False", "StateNotStored").await;
    nats.restart().await.unwrap();
    stage.nats = nats.client().await.unwrap();
    let last = stage.write("milk", "last").await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    eventually(support::SOON, "the last version", || async {
        let stream = async_nats::jetstream::new(stage.nats.clone()).get_stream(&stage.namespace).await?;
        let subject = format!("{}.milk.updated", stage.namespace);
        let message = stream.get_last_raw_message_by_subject(&subject).await?;
        let told = message.headers.get("ce-sequence").map(ToString::to_string);
        anyhow::ensure!(told == Some(sequence(last)), "{told:?}\n{}", bridge.log_tail());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_bridge_that_is_stopped_repeats_nothing() {
    let (_control_plane, mut nats, mut bridge, stage) = own().await;
    let mut written = BTreeSet::new();
    for round in 0..20 {
        written.insert(sequence(stage.write("milk", &round.to_string()).await));
    }
    stage.hears(20).await;
    // What the broker has, and did not say so yet, is under way when the signal comes.
    nats.pause().unwrap();
    for name in ["bread", "eggs", "salt"] {
        written.insert(sequence(stage.write(name, "one").await));
    }
    let sent = sent_of(&stage, 23);
    eventually(support::SOON, "three under way", || async {
        let metrics = bridge.metrics().await?;
        anyhow::ensure!(metrics.contains(&sent), "{metrics}");
        Ok(())
    })
    .await
    .unwrap();
    bridge.terminate().unwrap();
    eventually(support::SOON, "the signal was heard", || {
        let heard = bridge.log().contains("shutting down");
        std::future::ready(if heard { Ok(()) } else { Err("it was not") })
    })
    .await
    .unwrap();
    nats.resume().unwrap();
    bridge.ended().await.unwrap();
    let before = stage.events().await.len();
    bridge.start_again().await.unwrap();
    written.insert(sequence(stage.write("milk", "last").await));
    eventually(support::SOON, "all versions", || async {
        let published = versions(&stage).await;
        if published == written { Ok(()) } else { Err(format!("{} of {}", published.len(), written.len())) }
    })
    .await
    .unwrap();
    let metrics = bridge.metrics().await.unwrap();
    let rest = written.len() - before;
    assert!(metrics.contains(&sent_of(&stage, rest)), "{rest}\n{metrics}");
}

/// What the metrics say after so many attempts.
fn sent_of(stage: &Stage, count: usize) -> String {
    format!("tidings_sent_total{{namespace=\"{}\",subscription=\"orders\"}} {count}\n", stage.namespace)
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
