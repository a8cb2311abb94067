//! One control plane and one NATS per test process, started by the first test that asks.
//!
//! Tests that break a component start their own; the shared ones cannot be stopped.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::OnceCell;

use crate::control_plane::ControlPlane;
use crate::nats::Nats;

/// What the tests of one process share.
#[derive(Debug)]
pub struct Testbed {
    /// A Kubernetes API. Objects of other tests are in it: use a [`namespace`] of your own, or names nobody else uses.
    pub control_plane: ControlPlane,
    /// A plain NATS. Streams of other tests are in it: use subjects and stream names of your own.
    pub nats: Nats,
}

/// The shared testbed. Slow the first time (seconds; minutes when the programs have to be built).
pub async fn testbed() -> Result<&'static Testbed> {
    static TESTBED: OnceCell<Testbed> = OnceCell::const_new();
    let start = || async {
        let (control_plane, nats) = tokio::try_join!(ControlPlane::start(), Nats::start())?;
        Ok(Testbed { control_plane, nats })
    };
    TESTBED.get_or_try_init(start).await
}

/// Creates a namespace nobody else has, its name beginning with `prefix`, and answers the name.
pub async fn namespace(client: &Client, prefix: &str) -> Result<String> {
    let namespace = Namespace {
        metadata: ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    let created = Api::all(client.clone()).create(&PostParams::default(), &namespace).await;
    created.context("create a namespace")?.metadata.name.context("the new namespace has no name")
}
