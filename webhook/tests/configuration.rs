//! The configuration is as it has to be, whoever edits it, and says `Fail` only while the webhook answers.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it is made of")]

mod common;

use std::fs;

use common::balancer::Balancer;
use common::https::Https;
use common::replica::{Replica, settings};
use common::{
    CONFIGURATION, OWN, SOON, broken, configuration, create, prepare, refusal, state, until_asked,
    until_policy, workplace,
};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tidings_testbed::certificates::Authority;
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::ports::Port;
use tidings_testbed::proxy::{Link, Proxy};
use tidings_testbed::wait::eventually;

const SHOP: &str = "shop";

/// A field, and what somebody does to it.
type Edit = (&'static str, fn(&mut Value));

async fn cluster() -> (ControlPlane, Client, std::path::PathBuf) {
    let control_plane = ControlPlane::start().await.unwrap();
    let kubeconfig = prepare(&control_plane).await;
    let client = control_plane.client().await.unwrap();
    workplace(&client, SHOP).await;
    (control_plane, client, kubeconfig)
}

/// Changes the one webhook in the configuration, as somebody does by hand.
async fn edit(client: &Client, change: impl Fn(&mut Value)) {
    let api = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    eventually(SOON, "an edit", || async {
        let mut object =
            serde_json::to_value(configuration(client).await?).map_err(kube::Error::SerdeError)?;
        change(&mut object["webhooks"]);
        let object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
        api.replace(CONFIGURATION, &PostParams::default(), &object).await
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_somebody_edits_is_repaired_and_what_is_theirs_is_kept() {
    let (_control_plane, client, kubeconfig) = cluster().await;
    // As a chart makes it: with nothing in it that the webhook knows better.
    let api = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    let mut empty = ValidatingWebhookConfiguration::default();
    empty.metadata.name = Some(CONFIGURATION.to_owned());
    empty.metadata.labels = Some([("helm".to_owned(), "yes".to_owned())].into());
    api.create(&PostParams::default(), &empty).await.unwrap();
    let replica = Replica::start(&kubeconfig, |_| ()).await;
    until_asked(&client, SHOP).await;
    let right = configuration(&client).await.unwrap();
    assert_eq!(right.metadata.labels, empty.metadata.labels);

    let edits: [Edit; 6] = [
        ("caBundle", |webhooks| webhooks[0]["clientConfig"]["caBundle"] = json!("bm90aGluZw==")),
        ("failurePolicy", |webhooks| webhooks[0]["failurePolicy"] = json!("Ignore")),
        ("rules", |webhooks| webhooks[0]["rules"][0]["operations"] = json!(["CREATE"])),
        ("namespaceSelector", |webhooks| webhooks[0]["namespaceSelector"] = json!({})),
        ("matchConditions", |webhooks| {
            webhooks[0]["matchConditions"] = json!([{"name": "never", "expression": "false"}]);
        }),
        ("webhooks", |webhooks| *webhooks = json!([])),
    ];
    for (field, change) in edits {
        edit(&client, change).await;
        eventually(SOON, &format!("a repair of {field}"), || async {
            let present = configuration(&client).await.map_err(|error| error.to_string())?;
            if present.webhooks == right.webhooks { Ok(()) } else { Err(format!("{present:?}")) }
        })
        .await
        .unwrap();
        let metrics = replica.admin("/metrics").await.unwrap();
        let repaired = format!("tidings_webhook_configuration_repairs_total{{field=\"{field}\"}}");
        assert!(metrics.contains(&repaired), "{repaired} is not in {metrics}");
    }
    api.delete(CONFIGURATION, &DeleteParams::default()).await.unwrap();
    until_asked(&client, SHOP).await;
    replica.stopped().await;
}

#[tokio::test]
async fn nobody_is_refused_while_the_webhook_cannot_be_reached() {
    let (_control_plane, client, kubeconfig) = cluster().await;
    let port = Port::reserve().unwrap();
    let road = Proxy::start(format!("127.0.0.1:{}", port.number()), Link::Cut).await.unwrap();
    let settings = settings(&format!("https://{}", road.address()));
    let replica = Replica::start_on(port, &kubeconfig, settings).await;
    until_policy(&client, "Ignore").await;
    create(&client, SHOP, &broken("first"), "").await.unwrap();
    road.set(Link::GOOD);
    until_asked(&client, SHOP).await;
    assert_eq!(refusal(create(&client, SHOP, &broken("second"), "").await).code, 422);
    for link in [Link::Cut, Link::Silent] {
        road.set(link);
        until_policy(&client, "Ignore").await;
        road.set(Link::GOOD);
        until_policy(&client, "Fail").await;
    }
    road.set(Link::Cut);
    until_policy(&client, "Ignore").await;
    let third = broken("third");
    eventually(SOON, "an unasked API server", || create(&client, SHOP, &third, "")).await.unwrap();
    let metrics = replica.admin("/metrics").await.unwrap();
    assert!(metrics.contains("tidings_webhook_failure_policy_fail 0"), "{metrics}");
}

#[tokio::test]
async fn the_last_one_who_leaves_leaves_the_door_open() {
    let (_control_plane, client, kubeconfig) = cluster().await;
    let replica = Replica::start(&kubeconfig, |_| ()).await;
    until_asked(&client, SHOP).await;
    replica.stopped().await;
    assert_eq!(state(&client).await.unwrap().1, "Ignore");
    create(&client, SHOP, &broken("orders"), "").await.unwrap();
}

/// How many of its own probes a replica has answered.
async fn probes(replica: &Replica) -> Result<u64, String> {
    let metrics = replica.admin("/metrics").await?;
    let name = r#"tidings_webhook_requests_total{kind="other",operation="other",verdict="unchanged"} "#;
    let count = metrics.lines().find_map(|line| line.strip_prefix(name));
    count.ok_or("there is no such metric")?.parse().map_err(|error| format!("{error}"))
}

#[tokio::test]
async fn whoever_is_to_stop_answers_on_and_says_that_the_connection_ends() {
    let (_control_plane, client, kubeconfig) = cluster().await;
    let replica = Replica::start(&kubeconfig, |settings| {
        settings.shutdown_delay = tidings_config::duration::Duration::from_secs(5);
    })
    .await;
    until_asked(&client, SHOP).await;
    let (bundle, _) = state(&client).await.unwrap();
    let question = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u", "operation": "DELETE", "kind": {"version": "v1", "kind": "Pod"}},
    });
    let ask = async |https: &mut Https| https.post("/validate", question.to_string()).await.unwrap();
    let mut standing = Https::connect(replica.port(), &bundle).await.unwrap();
    assert_eq!(ask(&mut standing).await.headers().get("connection"), None);
    replica.stop();
    eventually(SOON, "an end of readiness", || async {
        match replica.admin("/readyz").await {
            Ok(answer) => Err(answer),
            Err(words) if words.contains("it is stopping") => Ok(()),
            Err(words) => Err(words),
        }
    })
    .await
    .unwrap();
    let mut new = Https::connect(replica.port(), &bundle).await.unwrap();
    for https in [&mut standing, &mut new] {
        let answer = ask(https).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["connection"].to_str().unwrap()),
            (200, "close")
        );
    }
    // Nobody else answers, but this one still does, also its own probes: it is not time to accept unasked.
    let asked = probes(&replica).await.unwrap();
    eventually(SOON, "two more probes", || async {
        let now = probes(&replica).await?;
        if now >= asked + 2 { Ok(()) } else { Err(format!("{now} after {asked}")) }
    })
    .await
    .unwrap();
    assert_eq!(state(&client).await.unwrap().1, "Fail");
    assert_eq!(refusal(create(&client, SHOP, &broken("orders"), "?dryRun=All").await).code, 422);
    replica.stopped().await;
}

#[tokio::test]
async fn replicas_that_start_at_once_share_one_authority() {
    let (_control_plane, client, kubeconfig) = cluster().await;
    let balancer = Balancer::start().await;
    let start = || Replica::start_on(Port::reserve().unwrap(), &kubeconfig, settings(&balancer.url()));
    let replicas: [Replica; 3] = tokio::join!(start(), start(), start()).into();
    for replica in &replicas {
        balancer.add(replica.port());
    }
    until_asked(&client, SHOP).await;
    let (bundle, _) = state(&client).await.unwrap();
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 1);
    for replica in &replicas {
        Https::connect(replica.port(), &bundle).await.unwrap();
    }
}

#[tokio::test]
async fn whoever_never_wants_to_be_refused_is_not() {
    let (_control_plane, client, kubeconfig) = cluster().await;
    let ignore = tidings_config::process::webhook::FailurePolicy::Ignore;
    let replica = Replica::start(&kubeconfig, |settings| settings.failure_policy = ignore).await;
    eventually(SOON, "a refusal", || async {
        match create(&client, SHOP, &broken("orders"), "?dryRun=All").await {
            Err(kube::Error::Api(status)) if status.code == 422 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    assert_eq!(state(&client).await.unwrap().1, "Ignore");
    replica.kill();
    create(&client, SHOP, &broken("orders"), "").await.unwrap();
}

#[tokio::test]
async fn what_the_webhook_may_not_ask_about_is_an_error_with_the_reason() {
    let (control_plane, client, kubeconfig) = cluster().await;
    let replica = Replica::start(&kubeconfig, |_| ()).await;
    until_asked(&client, SHOP).await;
    // Whoever takes its rights away.
    let rules = json!({"rules": [{
        "apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"],
    }]});
    let roles = control_plane.client().await.unwrap();
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let list = roles.request::<Value>(http::Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
    for role in list["items"].as_array().unwrap() {
        let name = role["metadata"]["name"].as_str().unwrap();
        if name.starts_with("webhook-") {
            let request = http::Request::patch(format!("{path}/{name}"))
                .header("content-type", "application/merge-patch+json")
                .body(serde_json::to_vec(&rules).unwrap());
            roles.request::<Value>(request.unwrap()).await.unwrap();
        }
    }
    let good = common::subscription("orders", json!({}));
    let status = eventually(SOON, "an error", || async {
        match create(&client, SHOP, &good, "?dryRun=All").await {
            Err(kube::Error::Api(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        }
    });
    let status = status.await.unwrap();
    assert_eq!(status.code, 500, "{status:?}");
    for part in ["failed calling webhook", "unable to check it: the API server does not say who may"] {
        assert!(status.message.contains(part), "{part} is not in {}", status.message);
    }
    // What needs no asking is answered as before.
    assert_eq!(refusal(create(&client, SHOP, &broken("orders"), "").await).code, 422);
    replica.stopped().await;
}

#[tokio::test]
async fn a_secret_that_is_emptied_or_deleted_is_written_anew_with_the_same_authority() {
    let (_control_plane, client, kubeconfig) = cluster().await;
    let replica = Replica::start(&kubeconfig, |_| ()).await;
    until_asked(&client, SHOP).await;
    let (bundle, _) = state(&client).await.unwrap();
    let secrets = Api::<Secret>::namespaced(client.clone(), OWN);
    let name = "tidings-webhook-ca";
    let restored = async || {
        eventually(SOON, "the authority in the Secret", || async {
            let secret = secrets.get(name).await.map_err(|error| error.to_string())?;
            let stored = secret.data.unwrap_or_default().remove("ca.crt").unwrap_or_default().0;
            if stored == bundle.as_bytes() { Ok(()) } else { Err("it is another".to_owned()) }
        })
        .await
        .unwrap();
    };
    restored().await;
    secrets.delete(name, &DeleteParams::default()).await.unwrap();
    restored().await;
    let empty = Patch::Merge(json!({"data": {"authorities.json": "bm90aGluZw==", "ca.crt": null}}));
    secrets.patch(name, &PatchParams::default(), &empty).await.unwrap();
    restored().await;
    assert_eq!(state(&client).await.unwrap().0, bundle);
    replica.stopped().await;
}

#[tokio::test]
async fn certificates_of_somebody_else_are_shown_and_read_again() {
    let (_control_plane, client, kubeconfig) = cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("somebody-else").unwrap();
    let write = |authority: &Authority| {
        let identity = authority.server().unwrap();
        identity.write(&folder.path().join("tls.crt"), &folder.path().join("tls.key")).unwrap();
    };
    write(&authority);
    let files = Some(folder.path().to_owned());
    let replica = Replica::start(&kubeconfig, |settings| settings.certificates.files = files).await;
    until_policy(&client, "Ignore").await;
    // As cert-manager does it.
    let inject = async |authority: &Authority| {
        let bundle = k8s_openapi::ByteString(authority.certificate().as_bytes().to_vec());
        edit(&client, |webhooks| webhooks[0]["clientConfig"]["caBundle"] = json!(bundle)).await;
    };
    inject(&authority).await;
    until_asked(&client, SHOP).await;
    assert_eq!(state(&client).await.unwrap().0, authority.certificate());

    // Half written is not shown.
    fs::write(folder.path().join("tls.key"), "half").unwrap();
    let other = Authority::new("yet-another").unwrap();
    write(&other);
    inject(&other).await;
    until_asked(&client, SHOP).await;
    assert_eq!(state(&client).await.unwrap().0, other.certificate());
    let secrets = Api::<Secret>::namespaced(client.clone(), OWN);
    assert_eq!(secrets.get_opt("tidings-webhook-ca").await.unwrap().map(|_| ()), None);
    replica.stopped().await;
}
