//! `docs/reference/subscription.md` and `sink.md` are what the definitions say, and every field of a spec occurs in an example that
//! a real API server takes and the validator understands.
//!
//! To write them anew: `UPDATE_EXPECT=1 cargo test -p tidings-crds --test reference`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "reference/page.rs"]
mod page;
#[path = "reference/used.rs"]
mod used;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use expect_test::expect_file;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use serde_json::Value;
use tidings_crds::check::check;
use tidings_crds::sink::Sink;
use tidings_crds::subscription::Subscription;
use tidings_testbed::wait::eventually;
use tidings_testbed::{kubectl, shared};

use self::page::page;
use self::used::{fields, used};

const SUBSCRIPTIONS: &str = include_str!("../../docs/reference/examples/subscription.yaml");
const SINKS: &str = include_str!("../../docs/reference/examples/sink.yaml");
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn the_page_of_subscriptions_is_up_to_date() {
    expect_file!["../../docs/reference/subscription.md"]
        .assert_eq(&page(&Subscription::definition(), SUBSCRIPTIONS));
}

#[test]
fn the_page_of_sinks_is_up_to_date() {
    expect_file!["../../docs/reference/sink.md"].assert_eq(&page(&Sink::definition(), SINKS));
}

#[test]
fn every_field_occurs_in_an_example() -> Result<()> {
    for (definition, text) in [(Subscription::definition(), SUBSCRIPTIONS), (Sink::definition(), SINKS)] {
        let schema = spec(&definition)?;
        let mut found = BTreeSet::new();
        for document in serde_saphyr::from_multiple::<Value>(text)? {
            used(&schema, &document["spec"], &mut found);
        }
        let all = fields(&schema);
        let missing: Vec<_> =
            all.iter().filter(|(field, _)| !found.contains(*field)).map(|(_, path)| path).collect();
        let file = format!("docs/reference/examples/{}.yaml", definition.spec.names.kind.to_lowercase());
        ensure!(missing.is_empty(), "{file} has no example of {missing:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_examples_apply_and_nothing_is_wrong_with_them() -> Result<()> {
    let control_plane = &shared::testbed().await?.control_plane;
    let client = control_plane.client().await?;
    for definition in [Subscription::definition(), Sink::definition()] {
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        let name = definition.metadata.name.clone().context("no name")?;
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&definition)).await?;
    }
    let namespace = shared::namespace(&client, "reference").await?;
    for text in [SUBSCRIPTIONS, SINKS] {
        // As people do it, with strict validation. The definitions may not be served yet.
        let applied = eventually(DEADLINE, "kubectl applies the examples", || async {
            kubectl::apply(control_plane.kubeconfig(), &namespace, text)
        });
        applied.await?;
        for document in serde_saphyr::from_multiple::<Value>(text)? {
            let checked =
                check(document.clone(), &namespace).with_context(|| format!("not ours: {document}"))?;
            if !checked.errors.is_empty() {
                bail!("{}: {:?}", checked.name, checked.errors);
            }
        }
    }
    Ok(())
}

/// The schema of the spec.
fn spec(definition: &CustomResourceDefinition) -> Result<Value> {
    let schema =
        definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let schema = serde_json::to_value(schema.ok_or_else(|| anyhow!("no schema"))?)?;
    Ok(schema["properties"]["spec"].clone())
}
