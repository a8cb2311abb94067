//! What an operator writes, and what the program makes of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::json;
use support::{lines, stage};

#[tokio::test]
async fn a_change_becomes_an_event_and_the_subscription_says_that_it_is_well() {
    let stage = stage("well").await;
    stage.create_stream().await;
    stage.write("milk", "one").await;
    stage.subscribe("orders", |_| ()).await;
    stage.says("orders", "Accepted", "True", "Valid").await;
    stage.says("orders", "SinkReady", "True", "Connected").await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.write("bread", "one").await;
    stage.write("bread", "two").await;
    stage.delete("bread").await;
    let events = stage.hears(4).await;
    assert_eq!(lines(&events), ["snapshot milk", "added bread", "updated bread", "deleted bread"]);
    assert_eq!(events[3].data["spec"]["message"], "two");
    assert_eq!(events[1].attribute("subscription"), format!("{}/orders", stage.namespace));
    assert!(events[1].attribute("source").ends_with("/apis/k8sasbackend.com/todos"));
    stage.agrees().await;

    // The numbers follow within a moment.
    tidings_testbed::wait::eventually(support::SOON, "the numbers", || async {
        let status = stage.subscriptions().get("orders").await?.status.unwrap_or_default();
        let counts = status.counts.clone().unwrap_or_default();
        let lag = status.lag.clone().unwrap_or_default();
        let well = (counts.acked, lag.changes, status.positions.len()) == (4, 0, 1);
        anyhow::ensure!(well, "{status:#?}");
        anyhow::ensure!(status.positions[0].resource == "todos.v1.k8sasbackend.com");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_malformed_subscription_names_every_mistake_and_concerns_no_other() {
    let stage = stage("malformed").await;
    stage.create_stream().await;
    stage.subscribe("good", |_| ()).await;
    stage
        .subscribe("bad", |spec| {
            spec["sink"]["nats"]["subject"] = "todos..{nme}".into();
            spec["sources"] = json!([
                {"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"},
                {"apiVersion": "k8sasbackend.com/v2", "kind": "Todo"},
            ]);
        })
        .await;
    let message = stage.says("bad", "Accepted", "False", "Invalid").await;
    assert!(message.contains("spec.sink.nats.subject: "), "{message}");
    assert!(message.contains("spec.sources[1]"), "{message}");
    stage.says("bad", "Delivering", "False", "Invalid").await;
    stage.says("good", "Delivering", "True", "Synchronized").await;
    stage.write("milk", "one").await;
    assert_eq!(lines(&stage.hears(1).await), ["added milk"]);

    // Mended, it begins with what exists.
    let subject = format!("{}.mended.{{name}}.{{change}}", stage.namespace);
    let sources = json!([{"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"}]);
    stage.edit("bad", json!({"sources": sources, "sink": {"nats": {"subject": subject}}})).await;
    stage.says("bad", "Delivering", "True", "Synchronized").await;
    assert_eq!(lines(&stage.hears(2).await), ["added milk", "snapshot milk"]);
}

#[tokio::test]
async fn what_the_schema_can_say_is_refused_at_once() {
    let stage = stage("schema").await;
    let both = "apiVersion: tidings.dev/v1alpha1\nkind: Subscription\nmetadata: {name: both}\n\
                spec: {sources: [{apiVersion: v1, kind: Pod}], \
                sink: {stdout: {}, nats: {servers: ['nats://x:4222']}}}";
    let refused = tidings_testbed::kubectl::apply(&stage.cluster.kubeconfig, &stage.namespace, both);
    let words = refused.expect_err("it is refused").to_string();
    assert!(words.contains("only one of kafka, nats, rabbitmq, http and stdout can be given"), "{words}");
}

#[tokio::test]
async fn a_missing_stream_is_said_and_nothing_waits_in_vain_for_it() {
    let stage = stage("stream").await;
    stage.subscribe("orders", |_| ()).await;
    let message = stage.says("orders", "SinkReady", "False", "StreamNotFound").await;
    assert!(message.contains(&stage.namespace), "{message}");
    stage.says("orders", "Delivering", "False", "SinkNotReady").await;
    stage.write("milk", "one").await;
    stage.write("milk", "two").await;
    stage.create_stream().await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    assert_eq!(lines(&stage.hears(2).await), ["added milk", "updated milk"]);
}

#[tokio::test]
async fn a_kind_that_is_not_there_or_may_not_be_read_is_said_until_that_changes() {
    let stage = stage("kind").await;
    stage.create_stream().await;
    let group = format!("{}.example.com", stage.namespace);
    let source = json!([{"apiVersion": format!("{group}/v1"), "kind": "Note"}]);
    stage.subscribe("notes", |spec| spec["sources"] = source).await;
    let message = stage.says("notes", "Delivering", "False", "KindNotServed").await;
    assert!(message.contains("Note") && message.contains("CRD"), "{message}");
    stage.cluster.apply(
        "default",
        &format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: notes.{group}}}\n\
             spec:\n  group: {group}\n  scope: Namespaced\n  names: {{plural: notes, kind: Note}}\n  \
             versions:\n  - name: v1\n    served: true\n    storage: true\n    \
             schema: {{openAPIV3Schema: {{type: object}}}}\n"
        ),
    );
    let message = stage.says("notes", "Delivering", "False", "Forbidden").await;
    assert!(message.contains("cannot") && message.contains("notes"), "{message}");
    stage.cluster.let_read(&group, "notes");
    stage.says("notes", "Delivering", "True", "Synchronized").await;
    let note = format!("apiVersion: {group}/v1\nkind: Note\nmetadata: {{name: first}}\n");
    stage.cluster.apply(&stage.namespace, &note);
    assert_eq!(lines(&stage.hears(1).await), ["added first"]);
}

#[tokio::test]
async fn an_edit_takes_effect_without_a_restart_and_repeats_nothing() {
    let stage = stage("edit").await;
    stage.create_stream().await;
    stage.subscribe("orders", |_| ()).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    for round in 0..20 {
        stage.write("milk", &round.to_string()).await;
        if round == 10 {
            let subject = format!("{}.second.{{name}}.{{change}}", stage.namespace);
            stage.edit("orders", json!({"sink": {"nats": {"subject": subject}}})).await;
        }
    }
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.write("milk", "last").await;
    let events = stage.hears(21).await;
    assert_eq!(events.len(), 21, "{:?}", lines(&events));
    let sequences: Vec<_> = events.iter().map(|event| event.attribute("sequence").to_owned()).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
    let last = events.last().unwrap();
    assert_eq!(last.subject, format!("{}.second.milk.updated", stage.namespace));

    // Only deletes from now on.
    stage.edit("orders", json!({"on": ["Deleted"]})).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    stage.write("milk", "unheard").await;
    stage.delete("milk").await;
    let events = stage.hears(22).await;
    assert_eq!(events.last().unwrap().change(), "deleted");
    assert_eq!(events.len(), 22);
}

#[tokio::test]
async fn a_deleted_subscription_stops_and_the_other_goes_on() {
    let stage = stage("deleted").await;
    stage.create_stream().await;
    let subject = |which: &str| format!("{}.{which}.{{name}}.{{change}}", stage.namespace);
    stage.subscribe("first", |spec| spec["sink"]["nats"]["subject"] = subject("first").into()).await;
    stage.subscribe("second", |spec| spec["sink"]["nats"]["subject"] = subject("second").into()).await;
    stage.says("first", "Delivering", "True", "Synchronized").await;
    stage.says("second", "Delivering", "True", "Synchronized").await;
    stage.write("milk", "one").await;
    assert_eq!(stage.hears(2).await.len(), 2);
    stage.subscriptions().delete("first", &kube::api::DeleteParams::default()).await.unwrap();
    // Everything that is decided after this reached the bridge later than the deletion.
    stage.subscribe("third", |spec| spec["sink"]["nats"]["subject"] = subject("third").into()).await;
    stage.says("third", "Delivering", "True", "Synchronized").await;
    stage.write("milk", "two").await;
    let events = stage.hears(5).await;
    let of =
        |which: &str| events.iter().filter(|event| event.subject.contains(&format!(".{which}."))).count();
    assert_eq!((of("first"), of("second"), of("third")), (1, 2, 2), "{:?}", lines(&events));
}

#[tokio::test]
async fn an_event_that_is_too_large_goes_as_a_reference() {
    let stage = stage("large").await;
    stage.create_stream().await;
    stage.subscribe("orders", |_| ()).await;
    stage.says("orders", "Delivering", "True", "Synchronized").await;
    // NATS takes 1 MiB; a Todo's message has at most 64 KiB, so the bulk is in annotations and status.
    stage.write("milk", "one").await;
    let status = json!({"status": {"bulk": "x".repeat(1_100_000)}});
    let todos = stage.todos();
    let params = kube::api::PatchParams::default();
    todos.patch_status("milk", &params, &kube::api::Patch::Merge(status)).await.unwrap();
    stage.write("bread", "one").await;
    let events = stage.hears(3).await;
    let large = events.iter().find(|event| event.change() == "updated").unwrap();
    assert_eq!(large.data["metadata"]["name"], "milk");
    assert_eq!((large.data.get("spec"), large.data.get("status")), (None, None));
}
