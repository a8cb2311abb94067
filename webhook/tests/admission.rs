//! What the API server accepts, refuses and warns of, once it asks the webhook.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it is made of")]

mod common;

use common::replica::Replica;
use common::{
    BROKEN, broken, create, grant, namespace, prepare, reads_todos, refusal, subscription, subscriptions,
    until_asked, workplace, writes_ours,
};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::kubectl;
use tokio::sync::OnceCell;

/// One cluster with one webhook, for all tests here.
struct Stage {
    control_plane: ControlPlane,
    replica: Replica,
}

/// Where something broken is that was there before the webhook.
const OLD: &str = "old";

async fn stage() -> &'static Stage {
    static STAGE: OnceCell<Stage> = OnceCell::const_new();
    let start = || async {
        let control_plane = ControlPlane::start().await.unwrap();
        let kubeconfig = prepare(&control_plane).await;
        let client = control_plane.client().await.unwrap();
        namespace(&client, OLD).await;
        let mut object = broken("broken");
        object["metadata"]["finalizers"] = json!(["example.com/wait"]);
        create(&client, OLD, &object, "").await.unwrap();
        let replica = Replica::start(&kubeconfig, |_| ()).await;
        until_asked(&client, OLD).await;
        Stage { control_plane, replica }
    };
    STAGE.get_or_init(start).await
}

async fn client() -> Client {
    stage().await.control_plane.client().await.unwrap()
}

/// A client of somebody who may write our resources in `namespace`, and nothing else.
async fn tenant(user: &str, namespace: &str) -> Client {
    let admin = client().await;
    grant(&admin, Some(namespace), user, writes_ours()).await;
    stage().await.control_plane.client_for(user, None).await.unwrap()
}

/// What `error` complains about, line by line, without the title.
fn complaints(status: &kube::core::Status) -> Vec<String> {
    status.message.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

#[tokio::test]
async fn a_broken_subscription_is_refused_with_every_path() {
    let client = client().await;
    namespace(&client, "broken").await;
    let status = refusal(create(&client, "broken", &broken("orders"), "").await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"), "{status:?}");
    let details = status.details.clone().unwrap();
    assert_eq!((details.name.as_str(), details.kind.as_str()), ("orders", "Subscription"));
    let fields: Vec<_> = details.causes.iter().map(|cause| cause.field.as_str()).collect();
    assert_eq!(fields, BROKEN);
    let title = "admission webhook \"webhook.tidings.dev\" denied the request: the Subscription broken/orders is not valid:";
    assert_eq!(status.message.lines().next(), Some(title));
    assert_eq!(complaints(&status).len(), 3, "{}", status.message);
    assert_eq!(common::count(&client, "broken").await, 0);

    let kubeconfig = stage().await.control_plane.kubeconfig();
    let yaml = broken("orders").to_string();
    let words =
        kubectl::run(kubeconfig, &["apply", "-n", "broken", "-f", "-"], &yaml).unwrap_err().to_string();
    assert!(words.contains("The Subscription \"orders\" is invalid"), "{words}");
    assert!(words.contains("* spec.delivery.maxAge: is more than nothing"), "{words}");
}

#[tokio::test]
async fn a_good_subscription_is_accepted_and_so_is_one_whose_name_is_made() {
    let client = client().await;
    workplace(&client, "good").await;
    create(&client, "good", &subscription("orders", json!({})), "").await.unwrap();
    let mut nameless = subscription("", json!({}));
    nameless["metadata"] = json!({"generateName": "orders-"});
    let made = create(&client, "good", &nameless, "").await.unwrap();
    assert!(made["metadata"]["name"].as_str().unwrap().starts_with("orders-"), "{made}");
    // An edit is looked at like a new one.
    let api = subscriptions(&client, "good");
    let edit = |age: &str| Patch::Merge(json!({"spec": {"delivery": {"maxAge": age}}}));
    api.patch("orders", &PatchParams::default(), &edit("1h")).await.unwrap();
    let status = refusal(api.patch("orders", &PatchParams::default(), &edit("0s")).await);
    assert_eq!(complaints(&status), ["spec.delivery.maxAge: is more than nothing; without it, never"]);
}

#[tokio::test]
async fn a_broken_sink_is_refused_with_every_path() {
    let client = client().await;
    namespace(&client, "sinks").await;
    let sink = |servers: Value| {
        json!({
            "apiVersion": "tidings.dev/v1alpha1", "kind": "Sink", "metadata": {"name": "company"},
            "spec": {"nats": {"servers": servers}},
        })
    };
    create(&client, "sinks", &sink(json!(["nats://a", "tls://b"])), "").await.unwrap();
    let mut broken = sink(json!(["nats://a:4222/b", "nats://u:p@c"]));
    broken["metadata"]["name"] = json!("broken");
    let status = refusal(create(&client, "sinks", &broken, "").await);
    assert!(status.message.contains("spec.nats.servers["), "{}", status.message);
}

#[tokio::test]
async fn what_was_broken_before_can_be_labelled_reported_on_and_deleted() {
    let client = client().await;
    let api = subscriptions(&client, OLD);
    let params = PatchParams::default();
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    api.patch("broken", &params, &label).await.unwrap();
    api.patch_status("broken", &params, &Patch::Merge(json!({"status": {"sink": "x"}}))).await.unwrap();
    let edit = Patch::Merge(json!({"spec": {"suspend": true}}));
    assert_eq!(refusal(api.patch("broken", &params, &edit).await).code, 422);
    api.delete("broken", &DeleteParams::default()).await.unwrap();
    assert!(api.get("broken").await.unwrap().metadata.deletion_timestamp.is_some());
    // Now it may even be edited: it is on its way out.
    api.patch("broken", &params, &edit).await.unwrap();
    api.patch("broken", &params, &Patch::Merge(json!({"metadata": {"finalizers": null}}))).await.unwrap();
    assert_eq!(api.get_opt("broken").await.unwrap().map(|object| object.name_any()), None);
}

#[tokio::test]
async fn a_dry_run_is_checked_and_stores_nothing() {
    let client = client().await;
    workplace(&client, "dry").await;
    create(&client, "dry", &subscription("orders", json!({})), "?dryRun=All").await.unwrap();
    let status = refusal(create(&client, "dry", &broken("orders"), "?dryRun=All").await);
    assert_eq!(complaints(&status).len(), 3);
    assert_eq!(common::count(&client, "dry").await, 0);
}

#[tokio::test]
async fn what_is_unwise_is_accepted_with_a_warning() {
    let client = client().await;
    workplace(&client, "unwise").await;
    namespace(&client, "shared").await;
    let sink = |name: &str, allowed: Value| {
        json!({
            "apiVersion": "tidings.dev/v1alpha1", "kind": "Sink", "metadata": {"name": name},
            "spec": {"nats": {"servers": ["nats://a"]}, "allowedNamespaces": allowed},
        })
    };
    let labels = json!({"matchLabels": {"kubernetes.io/metadata.name": "unwise"}});
    for (name, allowed) in [
        ("closed", json!({})),
        ("open", json!({"from": "All"})),
        ("selecting", json!({"from": "Selector", "selector": labels})),
        ("selecting-others", json!({"from": "Selector", "selector": {"matchLabels": {"a": "b"}}})),
    ] {
        create(&client, "shared", &sink(name, allowed), "").await.unwrap();
    }
    let warnings = async |spec: Value| {
        let body = serde_json::to_vec(&subscription("orders", spec)).unwrap();
        let path = "/apis/tidings.dev/v1alpha1/namespaces/unwise/subscriptions?dryRun=All";
        let request = http::Request::post(path).header("content-type", "application/json").body(body.into());
        let response = client.send(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 201);
        let warnings = response.headers().get_all("warning").into_iter();
        warnings.map(|warning| warning.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let by = |name: &str| json!({"sink": {"ref": {"name": name, "namespace": "shared"}}});
    assert_eq!(warnings(json!({})).await, [""; 0]);
    assert_eq!(warnings(by("open")).await, [""; 0]);
    assert_eq!(warnings(by("selecting")).await, [""; 0]);
    for name in ["closed", "selecting-others", "missing"] {
        let told = warnings(by(name)).await;
        assert!(
            told.len() == 1 && told[0].contains(&format!("no Sink shared/{name} that allows")),
            "{told:?}"
        );
    }
    let told = warnings(json!({"sources": [{"apiVersion": "example.com/v1", "kind": "Ghost"}]})).await;
    assert!(
        told.len() == 1 && told[0].contains("does not serve the kind Ghost of example.com/v1"),
        "{told:?}"
    );
}

#[tokio::test]
async fn nobody_subscribes_to_what_they_may_not_read() {
    let admin = client().await;
    for name in ["tenant-a", "tenant-b"] {
        namespace(&admin, name).await;
    }
    let ann = tenant("ann", "tenant-a").await;
    let own = subscription("orders", json!({}));
    let theirs = subscription(
        "orders",
        json!({"sources": [
            {"apiVersion": "k8sasbackend.com/v1", "kind": "Todo", "namespaces": {"names": ["tenant-b"]}},
        ]}),
    );
    let all = subscription(
        "orders",
        json!({"sources": [
            {"apiVersion": "k8sasbackend.com/v1", "kind": "Todo", "namespaces": {"all": true}},
        ]}),
    );
    let tries = async |object: &Value| create(&ann, "tenant-a", object, "?dryRun=All").await;
    let told = async |object: &Value| {
        let status = refusal(tries(object).await);
        assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"), "{status:?}");
        complaints(&status)
    };
    let user = |scope: &str| {
        format!(
            "spec.sources[0]: you (ann) may not list and watch todos.k8sasbackend.com in {scope}, and so cannot have it sent \
             anywhere"
        )
    };
    let account = |scope: &str| {
        format!(
            "spec.sources[0]: the service account tenant-a/default may not list and watch todos.k8sasbackend.com in {scope}: \
             give it that right, or name another one in spec.serviceAccountName"
        )
    };
    let [a, b, cluster] = ["the namespace tenant-a", "the namespace tenant-b", "the whole cluster"];

    // Somebody who may read everything, and right after her: without any right, with hers alone, and with that of her service
    // account.
    let by_admin = refusal(create(&admin, "tenant-a", &own, "?dryRun=All").await);
    assert_eq!(complaints(&by_admin), [account(a)]);
    assert_eq!(told(&own).await, [user(a), account(a)]);
    grant(&admin, Some("tenant-a"), "ann", reads_todos()).await;
    assert_eq!(told(&own).await, [account(a)]);
    grant(&admin, Some("tenant-a"), "tenant-a:default", reads_todos()).await;
    tries(&own).await.unwrap();
    assert_eq!(told(&theirs).await, [user(b), account(b)]);
    assert_eq!(told(&all).await, [user(cluster), account(cluster)]);

    // Neither may be used for what only the other may read.
    grant(&admin, Some("tenant-b"), "tenant-a:default", reads_todos()).await;
    assert_eq!(told(&theirs).await, [user(b)]);
    grant(&admin, Some("tenant-b"), "ann", reads_todos()).await;
    tries(&theirs).await.unwrap();
    assert_eq!(told(&all).await, [user(cluster), account(cluster)]);

    // What one may not create, one may not edit into either.
    create(&ann, "tenant-a", &own, "").await.unwrap();
    let edit = Patch::Merge(json!({"spec": {"serviceAccountName": "other"}}));
    let edited = subscriptions(&ann, "tenant-a").patch("orders", &PatchParams::default(), &edit).await;
    assert!(refusal(edited).message.contains("the service account tenant-a/other may not list and watch"));
}

#[tokio::test]
async fn nobody_names_a_secret_that_they_may_not_read() {
    let admin = client().await;
    namespace(&admin, "tenant-s").await;
    let bob = tenant("bob", "tenant-s").await;
    grant(&admin, Some("tenant-s"), "bob", reads_todos()).await;
    grant(&admin, Some("tenant-s"), "tenant-s:default", reads_todos()).await;
    let http = json!({"http": {
        "url": "https://example.com", "auth": {"tokenSecretRef": {"name": "theirs", "key": "token"}},
    }});
    let inline = subscription("orders", json!({ "sink": http }));
    let sink = json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Sink", "metadata": {"name": "orders"}, "spec": http,
    });
    let tries = async |object: &Value| create(&bob, "tenant-s", object, "?dryRun=All").await;
    let user = "you (bob) may not get secrets \"theirs\" in the namespace tenant-s, and so cannot have it sent anywhere";
    let status = refusal(tries(&sink).await);
    assert_eq!((status.code, complaints(&status)), (403, vec![format!("spec: {user}")]));
    let told = complaints(&refusal(tries(&inline).await));
    assert_eq!(told[0], format!("spec.sink: {user}"));
    assert!(
        told[1].starts_with("spec.sink: the service account tenant-s/default may not get secrets \"theirs\""),
        "{told:?}"
    );

    let reads =
        json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["theirs"], "verbs": ["get"]}]);
    grant(&admin, Some("tenant-s"), "bob", reads.clone()).await;
    tries(&sink).await.unwrap();
    assert_eq!(complaints(&refusal(tries(&inline).await)).len(), 1);
    grant(&admin, Some("tenant-s"), "tenant-s:default", reads).await;
    tries(&inline).await.unwrap();
}

#[tokio::test]
async fn what_is_no_review_is_answered_and_harms_nobody() {
    let client = client().await;
    let (bundle, _) = common::state(&client).await.unwrap();
    let port = stage().await.replica.port();
    let connect = async || common::https::Https::connect(port, &bundle).await.unwrap();
    assert_eq!(common::https::post_http2(port, &bundle, "{}").await, Ok(400));
    let mut https = connect().await;
    let deep = "[".repeat(100_000);
    for (path, body, status, words) in [
        ("/validate", String::new(), 400, "no AdmissionReview"),
        ("/validate", "{}".to_owned(), 400, "missing field"),
        ("/validate", deep, 400, "no AdmissionReview"),
        ("/elsewhere", "{}".to_owned(), 404, "/validate"),
    ] {
        let answer = https.post(path, body).await.unwrap();
        assert_eq!(answer.status(), status, "{answer:?}");
        assert!(answer.body().contains(words), "{answer:?}");
    }
    let answer = connect().await.post("/validate", vec![b' '; 5 << 20]).await;
    // It hangs up on whoever goes on talking, before or after the answer is read.
    assert!(answer.is_err() || answer.as_ref().is_ok_and(|answer| answer.status() == 413), "{answer:?}");
    let metrics = stage().await.replica.admin("/metrics").await.unwrap();
    assert!(metrics.contains(r#"verdict="malformed""#), "{metrics}");
    assert!(metrics.contains("tidings_webhook_failure_policy_fail 1"), "{metrics}");
    until_asked(&client, OLD).await;
}
