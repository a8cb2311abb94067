//! `tidings subscription status` against a real API server.

mod support;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::{stderr, stdout, tidings};
use tidings_crds::subscription::Subscription;
use tidings_testbed::shared;
use tidings_testbed::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(20);

/// An API for Subscriptions in a namespace of the test's own, its name, and the kubeconfig.
async fn start() -> Result<(Api<Subscription>, String, String)> {
    let control_plane = &shared::testbed().await?.control_plane;
    let client = control_plane.client().await?;
    let definition = Subscription::definition();
    let name = definition.metadata.name.clone().context("no name")?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&definition)).await?;
    let namespace = shared::namespace(&client, "status").await?;
    let api: Api<Subscription> = Api::namespaced(client, &namespace);
    eventually(DEADLINE, "the definition is served", || async { api.list(&ListParams::default()).await })
        .await?;
    Ok((api, namespace, control_plane.kubeconfig().display().to_string()))
}

#[tokio::test]
async fn the_exit_code_says_whether_it_delivers_and_the_page_why_not() -> Result<()> {
    let (api, namespace, kubeconfig) = start().await?;
    let subscription: Subscription = serde_json::from_value(json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription", "metadata": {"name": "orders"},
        "spec": {"sources": [{"apiVersion": "v1", "kind": "ConfigMap"}], "sink": {"stdout": {}}},
    }))?;
    let status = |arguments: &[&str]| {
        let common = ["subscription", "status", "-n", &namespace, "--kubeconfig", &kubeconfig];
        tidings([common.as_slice(), arguments].concat()).output()
    };
    let missing = status(&["orders"])?;
    assert_eq!((missing.status.code(), &*stdout(&missing)), (Some(1), ""));
    assert!(
        stderr(&missing).contains(&format!("there is no Subscription {namespace}/orders")),
        "{}",
        stderr(&missing)
    );

    api.create(&PostParams::default(), &subscription).await?;
    let fresh = status(&["orders"])?;
    assert_eq!((fresh.status.code(), &*stderr(&fresh)), (Some(1), ""));
    assert!(stdout(&fresh).contains("is a bridge running in this cluster?"), "{}", stdout(&fresh));

    for (value, reason, code) in
        [("True", "Synchronized", 0), ("False", "Blocked", 1), ("Unknown", "Pending", 1)]
    {
        let condition = json!({
            "type": "Delivering", "status": value, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
        api.patch_status("orders", &PatchParams::default(), &patch).await?;
        let text = status(&["orders"])?;
        assert_eq!((text.status.code(), &*stderr(&text)), (Some(code), ""));
        assert!(stdout(&text).contains(reason), "{}", stdout(&text));

        let document = status(&["orders", "-o", "json"])?;
        assert_eq!(document.status.code(), Some(code));
        let document: Value = serde_json::from_slice(&document.stdout)?;
        if document["delivers"] != (code == 0) || document["status"]["conditions"][0]["reason"] != reason {
            bail!("{document:#}");
        }
    }
    Ok(())
}
