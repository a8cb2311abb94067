//! Dead letters are sent again by `tidings redrive`, through everything that is real.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use kube::config::Kubeconfig;
use serde_json::{Value, json};
use support::{SOON, Stage, program, stage};
use tempfile::NamedTempFile;
use tidings_testbed::receiver::{Kind, Receiver};
use tidings_testbed::wait::eventually;

/// A receiver of HTTP that refuses the Todo `bad`, a Subscription that sends there, and its dead letters in `dead_letter`.
async fn set(stage: &Stage, dead_letter: Value) -> Receiver {
    let receiver = Receiver::start(Kind::Http, &stage.namespace).await.unwrap();
    receiver.reject(&key(stage, "bad"), true).unwrap();
    stage
        .subscribe("orders", |spec| {
            spec["sink"] = receiver.sink();
            spec["delivery"] = json!({"onReject": "DeadLetter", "deadLetter": dead_letter});
        })
        .await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    receiver
}

fn key(stage: &Stage, name: &str) -> String {
    format!("{}/{name}", stage.namespace)
}

/// Runs `tidings redrive orders` with more arguments.
async fn redrive(stage: &Stage, more: &[&str]) -> Output {
    redrive_with(stage, &stage.cluster.kubeconfig, more).await
}

async fn redrive_with(stage: &Stage, kubeconfig: &Path, more: &[&str]) -> Output {
    let kubeconfig = kubeconfig.display().to_string();
    let mut command = Command::new(program().await);
    command.args(["redrive", "orders", "-n", &stage.namespace, "--kubeconfig", &kubeconfig]).args(more);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The exit code, and whether all of `parts` were said.
#[track_caller]
fn said(output: &Output, code: i32, parts: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

/// The right of the user `poor` to read Subscriptions, and nothing else, as YAML.
fn rights(namespace: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: poor, namespace: {namespace}}}\n\
         rules: [{{apiGroups: [tidings.dev], resources: [subscriptions], verbs: [get]}}]\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: poor, namespace: {namespace}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: poor}}\n\
         subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: poor}}]\n"
    )
}

/// The kubeconfig of the stage, for somebody else.
fn as_somebody(stage: &Stage, user: &str) -> NamedTempFile {
    let mut kubeconfig = Kubeconfig::read_from(&stage.cluster.kubeconfig).unwrap();
    for named in &mut kubeconfig.auth_infos {
        named.auth_info.as_mut().unwrap().impersonate = Some(user.to_owned());
    }
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::to_string(&kubeconfig).unwrap()).unwrap();
    file
}

/// Waits until so many Events went to the dead letters.
async fn dies(stage: &Stage, count: i64) {
    eventually(SOON, &format!("{count} dead letters"), || async {
        let status = stage.subscriptions().get("orders").await?.status.unwrap_or_default();
        let counts = status.counts.unwrap_or_default();
        anyhow::ensure!(counts.dead_lettered == count, "{counts:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// From the first refusal to an empty place, with whatever arguments a broker needs.
async fn comes_back(stage: &Stage, receiver: &Receiver, more: &[&str]) {
    let redrive = async |stage: &Stage, arguments: &[&str]| redrive(stage, &[arguments, more].concat()).await;
    let bad = key(stage, "bad");
    let version = stage.write("bad", "one").await.to_string();
    stage.write("bad", "two").await;
    dies(stage, 2).await;

    let listed = redrive(stage, &["--dry-run"]).await;
    said(&listed, 0, &["ATTEMPTS", &bad, "Refused", "the receiver answers 422", "2 would be sent"]);
    let again = redrive(stage, &[]).await;
    let refused = format!("{bad}: refused again: the receiver answers 422");
    said(&again, 1, &[&refused, "0 sent, 2 refused again", "2 of 2 dead letters stay"]);
    assert_eq!(receiver.heard().len(), 0);

    receiver.reject(&bad, false).unwrap();
    let first = redrive(stage, &["--limit", "1", "-o", "json"]).await;
    said(&first, 0, &[]);
    let line: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!((&line["key"], &line["end"]), (&json!(bad), &json!("Sent")));
    let heard = receiver.heard();
    assert_eq!(heard.len(), 1);
    let event = &heard[0];
    assert_eq!(event.data["metadata"]["resourceVersion"], version);
    assert_eq!(event.attribute("id"), line["id"]);
    assert!(event.attribute("id").ends_with(&version) && event.change() == "added", "{event:?}");
    assert!(!event.attributes.keys().any(|name| name.starts_with("deadletter")), "{event:?}");

    said(&redrive(stage, &[]).await, 0, &[&format!("{bad}: sent: "), "1 sent"]);
    said(&redrive(stage, &[]).await, 0, &["there are no dead letters"]);
    assert_eq!(receiver.heard().len(), 2);
}

#[tokio::test]
async fn dead_letters_in_a_stream_come_back_as_the_events_they_were() {
    let stage = stage("redrive").await;
    stage.create_stream().await;
    let place = json!({"nats": {"servers": [stage.nats_url], "subject": format!("{}.dead.{{name}}", stage.namespace)}});
    let receiver = set(&stage, place).await;
    comes_back(&stage, &receiver, &[]).await;
}

#[tokio::test]
async fn dead_letters_in_a_topic_come_back_as_the_events_they_were() {
    let stage = stage("redrive").await;
    let kafka = Receiver::start(Kind::Kafka, &stage.namespace).await.unwrap();
    let receiver = set(&stage, kafka.sink()).await;
    comes_back(&stage, &receiver, &[]).await;
}

#[tokio::test]
async fn dead_letters_in_a_queue_come_back_as_the_events_they_were() {
    let stage = stage("redrive").await;
    let rabbitmq = Receiver::start_untaken(Kind::Rabbitmq, &stage.namespace).await.unwrap();
    stage.cluster.apply(&stage.namespace, &rabbitmq.secret(&stage.namespace));
    let receiver = set(&stage, rabbitmq.sink()).await;
    let unnamed = redrive(&stage, &["--dry-run"]).await;
    said(&unnamed, 1, &["name the one they are in with --queue"]);
    comes_back(&stage, &receiver, &["--queue", &stage.namespace]).await;
}

#[tokio::test]
async fn what_cannot_be_redriven_is_said_with_what_to_do() {
    let stage = stage("redrive").await;
    said(&redrive(&stage, &[]).await, 1, &[&format!("there is no Subscription {}", key(&stage, "orders"))]);

    let receiver = Receiver::start(Kind::Http, &stage.namespace).await.unwrap();
    stage.subscribe("orders", |spec| spec["sink"] = receiver.sink()).await;
    said(&redrive(&stage, &[]).await, 1, &["has no dead letters", "spec.delivery.deadLetter"]);

    let stream = json!({"nats": {"servers": [stage.nats_url], "subject": "dead"}});
    stage.edit("orders", json!({"suspend": true, "delivery": {"deadLetter": stream}})).await;
    said(&redrive(&stage, &[]).await, 1, &["is suspended (spec.suspend)"]);
    let dead_letter = |sink: Value| json!({"delivery": {"deadLetter": sink}});
    let http = json!({"nats": null, "http": receiver.sink()["http"]});
    stage.edit("orders", dead_letter(http)).await;
    said(&redrive(&stage, &["--dry-run"]).await, 1, &["HTTP cannot be read back"]);

    let nats = json!({"http": null, "nats": {
        "servers": [stage.nats_url], "subject": "dead", "auth": {"tokenSecretRef": {"name": "broker", "key": "token"}},
    }});
    stage.edit("orders", dead_letter(nats)).await;
    let missing = format!("there is no Secret {}", key(&stage, "broker"));
    said(&redrive(&stage, &["--dry-run"]).await, 1, &[&missing]);

    let namespace = &stage.namespace;
    stage.cluster.apply(namespace, &rights(namespace));
    let kubeconfig = as_somebody(&stage, "poor");
    let forbidden = format!("you may not read the Secret {}: `get` on it is needed", key(&stage, "broker"));
    let output = redrive_with(&stage, kubeconfig.path(), &["--dry-run"]).await;
    said(&output, 1, &[&forbidden]);
    let sink = json!({"nats": null, "ref": {"name": "shared"}});
    stage.edit("orders", dead_letter(sink)).await;
    said(
        &redrive(&stage, &["--dry-run"]).await,
        1,
        &[&format!("there is no Sink {}", key(&stage, "shared"))],
    );
}
