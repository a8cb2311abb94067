//! Every kind of sink through the whole bridge: what an application hears is what the API server holds, also when its broker
//! is killed in the middle of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use kube::api::ListParams;
use support::{SOON, Stage, stage};
use tidings_testbed::consumer::{Fold, Received};
use tidings_testbed::receiver::{Kind, Receiver};
use tidings_testbed::wait::eventually;

/// Todos that are written while everything is well, and as many while the broker is gone.
const TODOS: usize = 20;

async fn holds(kind: Kind) {
    let stage = stage("receiver").await;
    let mut receiver = Receiver::start(kind, &stage.namespace).await.unwrap();
    let secret = receiver.secret(&stage.namespace);
    if !secret.is_empty() {
        stage.cluster.apply(&stage.namespace, &secret);
    }
    stage.write("before", "one").await;
    stage.subscribe("orders", |spec| spec["sink"] = receiver.sink()).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    write(&stage, "well").await;
    agrees(&stage, &receiver).await;

    receiver.kill().await.unwrap();
    write(&stage, "away").await;
    stage.says("orders", "Delivering", "False", "SinkNotReady").await;
    receiver.restart().await.unwrap();
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    agrees(&stage, &receiver).await;

    let heard = receiver.heard();
    for event in &heard {
        assert_eq!(event.attribute("specversion"), "1.0", "{event:?}");
        assert_eq!(event.attribute("subscription"), format!("{}/orders", stage.namespace));
    }
    in_order(&heard);
}

/// Creates, changes and deletes.
async fn write(stage: &Stage, prefix: &str) {
    for number in 0..TODOS {
        let name = format!("{prefix}-{number}");
        stage.write(&name, "one").await;
        stage.write(&name, "zwei Zoë 🎁").await;
        if number % 3 == 0 {
            stage.delete(&name).await;
        }
    }
}

/// What is heard of an object for the first time is newer than what was heard of it before.
fn in_order(heard: &[Received]) {
    let mut newest: BTreeMap<&str, &str> = BTreeMap::new();
    let mut ids = std::collections::BTreeSet::new();
    for event in heard {
        let (key, sequence) = (event.attribute("subject"), event.attribute("sequence"));
        if ids.insert((key, event.attribute("id"))) {
            let before = newest.insert(key, sequence);
            assert!(before.is_none_or(|before| before < sequence), "{key}: {sequence} after {before:?}");
        }
    }
}

/// Waits until what was heard, folded, is what the API server holds.
async fn agrees(stage: &Stage, receiver: &Receiver) {
    eventually(SOON, "the same on both sides", || async {
        let list = stage.todos().list(&ListParams::default()).await?;
        let held = list.items.into_iter().map(|todo| (todo.name_any(), todo.resource_version()));
        let held: BTreeMap<_, _> = held.collect();
        let mut fold = Fold::default();
        receiver.heard().iter().for_each(|event| fold.take(event));
        let folded = fold.objects.values().map(|object| {
            let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
            (text("name").unwrap_or_default(), text("resourceVersion"))
        });
        let folded: BTreeMap<_, _> = folded.collect();
        anyhow::ensure!(folded == held, "an application holds {folded:?}, the API server {held:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn nats_hears_everything() {
    holds(Kind::Nats).await;
}

#[tokio::test]
async fn kafka_hears_everything() {
    holds(Kind::Kafka).await;
}

#[tokio::test]
async fn rabbitmq_hears_everything() {
    holds(Kind::Rabbitmq).await;
}

#[tokio::test]
async fn http_hears_everything() {
    holds(Kind::Http).await;
}
