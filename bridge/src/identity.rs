//! Which cluster the bridge is connected to.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use tidings_config::process::BridgeSettings;

use tidings_config::chain::chain;

/// A cluster.
pub(crate) struct Cluster {
    /// What it is called in the `source` of every Event: the configured name, else the uid.
    pub(crate) name: Arc<str>,
    /// The uid of the namespace kube-system: no other cluster has it, and it is the same for every replica and after
    /// every restart.
    pub(crate) uid: String,
}

/// Why that cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the namespace kube-system, whose uid names the cluster: {0}")]
pub(crate) struct Error(String);

/// The cluster that `client` is connected to.
pub(crate) async fn of_cluster(client: &kube::Client, settings: &BridgeSettings) -> Result<Cluster, Error> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace = namespaces.get("kube-system").await.map_err(|error| Error(chain(&error)))?;
    let uid = namespace.metadata.uid.ok_or_else(|| Error("it has no uid".into()))?;
    let name = settings.cluster_name.clone().unwrap_or_else(|| uid.clone()).into();
    Ok(Cluster { name, uid })
}
