//! The webhook with the rights and the settings that the chart renders, and with what the chart makes for it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::path::Path;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Api;
use kube::api::{Patch, PatchParams};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{Cluster, HOME, SOON, program};
use tidings_crds::subscription::Subscription;
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::folder::Folder;
use tidings_testbed::ports::Port;
use tidings_testbed::process::{Lifetime, Process, Program};
use tidings_testbed::wait::eventually;
use tidings_testbed::{helm, shared};

const ACCOUNT: &str = "tidings-webhook";

/// A webhook on loopback, and its log.
fn start(program: &Path, kubeconfig: &Path, settings: &str, folder: &Folder, ports: &[Port; 2]) -> Process {
    let (file, log) = (folder.path().join("webhook.yaml"), folder.path().join("log"));
    fs::write(&file, settings).unwrap();
    let [https, admin] = [ports[0].number(), ports[1].number()];
    let program = Program {
        path: "/usr/bin/env".into(),
        arguments: vec![
            "--unset=TIDINGS_PROGRAM".to_owned(),
            format!("KUBECONFIG={}", kubeconfig.display()),
            program.display().to_string(),
            "webhook".to_owned(),
            format!("--config={}", file.display()),
            // There is no network of a cluster.
            format!("--address=127.0.0.1:{https}"),
            format!("--url=https://127.0.0.1:{https}"),
            format!("--admin-address=127.0.0.1:{admin}"),
            "--shutdown-delay=10ms".to_owned(),
            // What it only warns of is said there.
            "--log-level=debug".to_owned(),
        ],
        folder: folder.path().to_owned(),
        log,
    };
    Process::spawn(&program, Lifetime::Owner).unwrap()
}

#[tokio::test]
async fn the_chart_gives_the_webhook_every_right_that_it_needs() {
    let control_plane = ControlPlane::start().await.unwrap();
    // Its account and rights are among what is installed.
    let cluster = Cluster::install(&control_plane).await;
    let objects = helm::template(HOME, &json!({})).unwrap();
    let object = |kind: &str, name: &str| {
        objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name).unwrap()
    };
    let configuration = object("ValidatingWebhookConfiguration", "tidings");
    cluster.apply(HOME, &configuration.to_string());
    let settings = object("ConfigMap", "tidings-webhook")["data"]["webhook.yaml"].as_str().unwrap();
    let kubeconfig = control_plane.kubeconfig_of(HOME, ACCOUNT).await.unwrap();
    let folder = Folder::temporary("webhook").unwrap();
    let ports = [Port::reserve().unwrap(), Port::reserve().unwrap()];
    let mut webhook = start(program().await, &kubeconfig, settings, &folder, &ports);
    let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();

    let configurations = Api::<ValidatingWebhookConfiguration>::all(cluster.client.clone());
    let policy = async || {
        let present = configurations.get("tidings").await?;
        let webhooks = serde_json::to_value(present.webhooks)?;
        let bundle =
            webhooks[0]["clientConfig"]["caBundle"].as_str().is_some_and(|bundle| !bundle.is_empty());
        Ok::<_, anyhow::Error>((bundle, webhooks[0]["failurePolicy"].clone()))
    };
    eventually(SOON, "a webhook that is asked", || async {
        let found = policy().await?;
        anyhow::ensure!(found == (true, "Fail".into()), "{found:?}: {}", log());
        Ok(())
    })
    .await
    .unwrap();

    // It looks at the Sink of another namespace, at the labels of this one, and at who may read what.
    let namespace = shared::namespace(&cluster.client, "asking").await.unwrap();
    let company = shared::namespace(&cluster.client, "company").await.unwrap();
    let labels = json!({"kubernetes.io/metadata.name": namespace});
    let sink = json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Sink", "metadata": {"name": "company"},
        "spec": {
            "nats": {"servers": ["nats://127.0.0.1:1"]},
            "allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": labels}}
        }
    });
    cluster.apply(&company, &sink.to_string());
    let subscription = |subject: &str| {
        json!({
            "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription", "metadata": {"name": "orders"},
            "spec": {
                "sources": [{"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"}],
                "sink": {"ref": {"namespace": company, "name": "company"}, "nats": {"subject": subject}}
            }
        })
    };
    let subscriptions = Api::<Subscription>::namespaced(cluster.client.clone(), &namespace);
    let apply = async |object: Value| {
        subscriptions
            .patch("orders", &PatchParams::apply("e2e").force(), &Patch::Apply(object))
            .await
            .map(drop)
    };
    let refused = apply(subscription("todos..{nme}")).await.unwrap_err().to_string();
    assert!(
        refused.contains("webhook.tidings.dev") && refused.contains("spec.sink.nats.subject"),
        "{refused}"
    );
    let refused = apply(subscription("todos.{name}")).await.unwrap_err().to_string();
    let lacks =
        format!("spec.sources[0]: the service account {namespace}/default may not list and watch todos");
    assert!(refused.contains(&lacks), "{refused}");
    let rights = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "reads-todos"},
            "rules": [{"apiGroups": ["k8sasbackend.com"], "resources": ["todos"], "verbs": ["list", "watch"]}]
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "reads-todos"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads-todos"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}]
        }
    ]});
    cluster.apply(&namespace, &rights.to_string());
    eventually(SOON, "a Subscription that is accepted", || apply(subscription("todos.{name}")))
        .await
        .unwrap();

    // It takes itself out before it goes.
    webhook.signal(Signal::SIGTERM).unwrap();
    assert!(webhook.ended_within(SOON).await, "{}", log());
    assert_eq!(policy().await.unwrap(), (true, "Ignore".into()), "{}", log());
    // And through all of that the API server refused it nothing.
    let refused: Vec<_> =
        log().lines().filter(|line| line.contains("is forbidden")).map(ToOwned::to_owned).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}
