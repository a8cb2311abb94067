//! What a sink refuses for good: it goes to the dead letters, or waits for a person, who has two ways out. A receiver of
//! HTTP refuses everything about one Todo and takes all others.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::process::{Command, Output};

use kube::api::DeleteParams;
use serde_json::{Value, json};
use support::{SOON, Stage, program, stage};
use tidings_testbed::consumer::Received;
use tidings_testbed::receiver::{Kind, Receiver};
use tidings_testbed::wait::eventually;

/// A receiver that refuses the Todo `bad`, and a Subscription that sends there.
async fn set(prefix: &str, delivery: Value) -> (Stage, Receiver) {
    let stage = stage(prefix).await;
    stage.create_stream().await;
    let receiver = Receiver::start(Kind::Http, &stage.namespace).await.unwrap();
    receiver.reject(&key(&stage, "bad"), true).unwrap();
    stage
        .subscribe("orders", |spec| {
            spec["sink"] = receiver.sink();
            spec["delivery"] = delivery;
        })
        .await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    (stage, receiver)
}

fn key(stage: &Stage, name: &str) -> String {
    format!("{}/{name}", stage.namespace)
}

/// `spec.delivery.deadLetter` in the stream of the stage.
fn stream(stage: &str, url: &str) -> Value {
    json!({"nats": {"servers": [url], "subject": format!("{stage}.dead.{{name}}")}})
}

/// Waits until the receiver was told this version of the object.
async fn takes(receiver: &Receiver, version: u64) {
    let version = version.to_string();
    eventually(SOON, &format!("version {version}"), || async {
        let of = |event: &Received| event.data["metadata"]["resourceVersion"].as_str() == Some(&version);
        anyhow::ensure!(receiver.heard().iter().any(of), "it was told {:?}", receiver.heard());
        Ok(())
    })
    .await
    .unwrap();
}

/// Runs `tidings subscription …` for `orders`.
async fn order(stage: &Stage, what: &str, key: &str) -> Output {
    let kubeconfig = stage.cluster.kubeconfig.display().to_string();
    let arguments =
        ["subscription", what, "orders", "-n", &stage.namespace, "--key", key, "--kubeconfig", &kubeconfig];
    let mut command = Command::new(program().await);
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn what_is_refused_goes_to_the_dead_letters_and_holds_back_nothing() {
    let (stage, receiver) = set("dead", json!({})).await;
    let dead_letter = stream(&stage.namespace, &stage.nats_url);
    stage.edit("orders", json!({"delivery": {"onReject": "DeadLetter", "deadLetter": dead_letter}})).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    let refused = stage.write("bad", "one").await;
    takes(&receiver, stage.write("good", "one").await).await;

    let events = stage.hears(1).await;
    let event = &events[0];
    assert_eq!((event.subject.clone(), event.change()), (format!("{}.dead.bad", stage.namespace), "added"));
    assert_eq!(event.data["metadata"]["resourceVersion"], refused.to_string());
    assert_eq!(
        (event.attribute("deadletterreason"), event.attribute("deadletterattempts")),
        ("Refused", "1")
    );
    assert_eq!(event.attribute("deadlettererror"), "the receiver answers 422 Unprocessable Entity");
    assert!(event.attribute("deadlettersink").starts_with("http://127.0.0.1"), "{event:?}");
    // The path, which begins with the place of the receiver.
    let path = format!("{}/{}", stage.namespace, key(&stage, "bad"));
    assert_eq!(event.attribute("deadletterplace"), path);

    receiver.reject(&key(&stage, "bad"), false).unwrap();
    takes(&receiver, stage.write("bad", "two").await).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    eventually(SOON, "counts", || async {
        let status = stage.subscriptions().get("orders").await?.status.unwrap_or_default();
        let counts = status.counts.unwrap_or_default();
        let [rejected, dead_lettered, dropped] = [counts.rejected, counts.dead_lettered, counts.dropped];
        anyhow::ensure!((rejected, dead_lettered, dropped) == (1, 1, 0), "{counts:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn dead_letters_whose_sink_is_away_wait_and_others_go_out() {
    let (stage, receiver) = set("dead", json!({})).await;
    let dead_letter = stream(&stage.namespace, "nats://127.0.0.1:9");
    stage.edit("orders", json!({"delivery": {"onReject": "DeadLetter", "deadLetter": dead_letter}})).await;
    stage.write("bad", "one").await;
    let words = stage.says("orders", "Delivering", "False", "DeadLettersWait").await;
    assert!(words.starts_with("1 dead letters wait: "), "{words}");
    takes(&receiver, stage.write("good", "one").await).await;
    let dead_letter = stream(&stage.namespace, &stage.nats_url);
    stage.edit("orders", json!({"delivery": {"deadLetter": dead_letter}})).await;
    assert_eq!(stage.hears(1).await[0].attribute("subject"), key(&stage, "bad"));
    stage.says("orders", "Delivering", "True", "Synchronized").await;
}

#[tokio::test]
async fn a_person_tries_again_or_leaves_out_what_blocks_an_object() {
    let (stage, receiver) = set("blocked", json!({})).await;
    let bad = key(&stage, "bad");
    stage.write("bad", "one").await;
    let words = stage.says("orders", "Delivering", "False", "Blocked").await;
    assert_eq!(words, "the broker refuses the events of 1 objects; all others go out");
    let second = stage.write("bad", "two").await;

    let again = order(&stage, "retry", &bad).await;
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    let refused = format!("{bad}: refused again: the receiver answers 422 Unprocessable Entity");
    assert!(text(&again).contains(&refused), "{}", text(&again));
    let other = order(&stage, "skip", &key(&stage, "good")).await;
    assert!(
        text(&other).contains("is not among the blocked ones") && text(&other).contains(&bad),
        "{}",
        text(&other)
    );

    let skipped = order(&stage, "skip", &bad).await;
    assert!(skipped.status.success(), "{}", text(&skipped));
    assert!(text(&skipped).contains(&format!("{bad}: left out the event ")), "{}", text(&skipped));
    stage.says("orders", "Delivering", "False", "Blocked").await;
    receiver.reject(&bad, false).unwrap();
    let again = order(&stage, "retry", &bad).await;
    assert!(again.status.success() && text(&again).contains(&format!("{bad}: goes on")), "{}", text(&again));
    takes(&receiver, second).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
}

#[tokio::test]
async fn what_was_not_delivered_when_a_subscription_is_deleted_is_said() {
    let (stage, _receiver) = set("unsent", json!({})).await;
    stage.write("bad", "one").await;
    stage.says("orders", "Delivering", "False", "Blocked").await;
    stage.subscriptions().delete("orders", &DeleteParams::default()).await.unwrap();
    let note = stage.announces("orders", "NotDelivered").await;
    assert_eq!(note, "1 changes were not delivered: the Subscription was deleted before its sink took them");
}
