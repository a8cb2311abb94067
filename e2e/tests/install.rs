//! A release of the chart: installed, upgraded and uninstalled by Helm, with the controllers of a real cluster. There is no node:
//! pods are made, and do not run.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::helm;
use tidings_testbed::wait::eventually;

const SOON: Duration = Duration::from_mins(1);

/// Runs Helm on the release `tidings` in the namespace `tidings`.
fn release(control_plane: &ControlPlane, what: &[&str], values: &Value) -> String {
    let kubeconfig = control_plane.kubeconfig().display().to_string();
    let common = ["--kubeconfig", &kubeconfig, "--namespace", "tidings"];
    helm::run(&[what, &common].concat(), &values.to_string()).unwrap()
}

fn reads(rules: &[Value], resource: &str) -> bool {
    rules
        .iter()
        .any(|rule| rule["resources"] == json!([resource]) && rule["verbs"] == json!(["list", "watch"]))
}

#[tokio::test]
async fn a_release_is_installed_upgraded_and_uninstalled() {
    let mut control_plane = ControlPlane::start().await.unwrap();
    control_plane.start_controllers().await.unwrap();
    let client = control_plane.client().await.unwrap();
    let namespace = json!({"metadata": {
        "name": "tidings", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}
    }});
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    let chart = helm::chart().unwrap().display().to_string();

    let notes = release(&control_plane, &["install", "tidings", &chart], &json!({}));
    assert!(notes.contains("Tidings 0.1.0 is installed as tidings"), "{notes}");
    // In a namespace that takes no others.
    let pods = Api::<Pod>::namespaced(client.clone(), "tidings");
    let names = eventually(SOON, "three pods", || async {
        let pods = pods.list(&ListParams::default()).await?.items;
        anyhow::ensure!(pods.len() == 3, "{pods:#?}");
        Ok(pods.iter().map(ResourceExt::name_any).collect::<Vec<_>>())
    })
    .await
    .unwrap();
    assert!(names.contains(&"tidings-bridge-0".to_owned()), "{names:?}");

    // What somebody adds for a kind of theirs, and what an upgrade adds.
    let roles = Api::<ClusterRole>::all(client.clone());
    let theirs = json!({
        "metadata": {"name": "tidings-reads-orders", "labels": {"tidings.dev/aggregate-to-bridge": "true"}},
        "rules": [{"apiGroups": ["shop.example"], "resources": ["orders"], "verbs": ["list", "watch"]}]
    });
    roles.create(&PostParams::default(), &serde_json::from_value(theirs).unwrap()).await.unwrap();
    let sources = |resources: &'static [&'static str]| {
        let roles = roles.clone();
        async move {
            eventually(SOON, "a role that is put together", || async {
                let role = serde_json::to_value(roles.get("tidings-bridge-sources").await?)?;
                let rules = role["rules"].as_array().cloned().unwrap_or_default();
                let all = resources.iter().all(|resource| reads(&rules, resource));
                anyhow::ensure!(all && rules.len() == resources.len(), "{rules:#?}");
                Ok(())
            })
            .await
            .unwrap();
        }
    };
    sources(&["orders"]).await;
    let settings = async || {
        let pod = pods.get("tidings-bridge-0").await?;
        anyhow::ensure!(pod.metadata.deletion_timestamp.is_none(), "it is being deleted");
        Ok(pod.annotations()["tidings.dev/settings"].clone())
    };
    let before = settings().await.unwrap();
    let values = json!({
        "sources": [{"apiGroups": ["k8sasbackend.com"], "resources": ["todos"]}],
        "bridge": {"settings": {"log_level": "debug"}}
    });
    let upgrade = ["upgrade", "tidings", &chart, "--values", "-"];
    let notes = release(&control_plane, &upgrade, &values);
    assert!(notes.contains("tidings crds | kubectl apply --server-side"), "{notes}");
    sources(&["orders", "todos"]).await;
    // Also where the pod before never got ready, as here.
    eventually(SOON, "a pod with the other settings", || async {
        anyhow::ensure!(settings().await? != before, "it is still the same");
        Ok(())
    })
    .await
    .unwrap();
    // Once more, after the controllers have written into what Helm applies.
    release(&control_plane, &upgrade, &values);
    sources(&["orders", "todos"]).await;

    release(&control_plane, &["uninstall", "tidings"], &json!({}));
    eventually(SOON, "no pods", || async {
        let pods = pods.list(&ListParams::default()).await?.items;
        anyhow::ensure!(pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_some()), "{pods:#?}");
        Ok(())
    })
    .await
    .unwrap();
    assert!(roles.get_opt("tidings-bridge").await.unwrap().is_none());
    // What a person has to remove: what was subscribed to, and what was not delivered yet.
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    assert!(definitions.get_opt("subscriptions.tidings.dev").await.unwrap().is_some());
    let claims = Api::<PersistentVolumeClaim>::namespaced(client, "tidings");
    assert!(claims.get_opt("state-tidings-bridge-0").await.unwrap().is_some());
}
