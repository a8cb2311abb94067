//! What the cluster is called in the `source` of every Event.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use tidings_config::process::BridgeSettings;

use crate::chain::chain;

/// Why the cluster has no name.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to read the namespace kube-system, whose uid names the cluster; set cluster_name instead: {0}"
)]
pub(crate) struct Error(String);

/// The configured name, else the uid of the namespace kube-system: no other cluster has it, and it is the same
/// for every replica and after every restart.
pub(crate) async fn of_cluster(client: &kube::Client, settings: &BridgeSettings) -> Result<Arc<str>, Error> {
    if let Some(name) = &settings.cluster_name {
        return Ok(name.as_str().into());
    }
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace = namespaces.get("kube-system").await.map_err(|error| Error(chain(&error)))?;
    namespace.metadata.uid.map(Into::into).ok_or_else(|| Error("it has no uid".into()))
}
