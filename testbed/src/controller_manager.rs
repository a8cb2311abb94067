//! kube-controller-manager: what the API server only stores, it makes true.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;

use crate::api_server::{self, ApiServer};
use crate::binaries::Binary;
use crate::component::{Component, Home, Ready, Setup};
use crate::ports::Port;

/// One controller manager. Without it roles that are put together of others stay empty, namespaces have no service account
/// and never finish deleting, nothing is garbage collected, and no pod is made.
#[derive(Debug)]
pub struct ControllerManager(Component);

// === impl ControllerManager ===

impl ControllerManager {
    /// Starts one with every controller, and returns when they have begun.
    pub async fn start(home: &Home, api_server: &ApiServer) -> Result<Self> {
        let (kubeconfig, folder) = (api_server.kubeconfig().to_owned(), api_server.folder().to_owned());
        let component = Component::start(Binary::KubeControllerManager, home, |_| {
            let port = Port::reserve()?;
            let arguments = arguments(&kubeconfig, &folder, port.number());
            let ready = Ready::Controllers { kubeconfig: kubeconfig.clone() };
            Ok(Setup { program: None, arguments, ports: vec![port], ready })
        });
        Ok(Self(component.await.context("start the controller manager")?))
    }
}

impl Deref for ControllerManager {
    type Target = Component;

    fn deref(&self) -> &Component {
        &self.0
    }
}

impl DerefMut for ControllerManager {
    fn deref_mut(&mut self) -> &mut Component {
        &mut self.0
    }
}

/// `folder` is the API server's, which has the keys.
fn arguments(kubeconfig: &Path, folder: &Path, port: u16) -> Vec<String> {
    let flag = |name: &str, value: &str| format!("--{name}={value}");
    let file = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
    vec![
        file("kubeconfig", kubeconfig.to_owned()),
        flag("bind-address", "127.0.0.1"),
        flag("secure-port", &port.to_string()),
        // There is one.
        flag("leader-elect", "false"),
        file("root-ca-file", folder.join("ca.crt")),
        file("service-account-private-key-file", folder.join("service-account.key")),
        // Its own limit makes a start take seconds longer.
        flag("kube-api-qps", "300"),
        flag("kube-api-burst", "600"),
    ]
}

/// Whether two controllers have done what every cluster needs first.
pub(crate) async fn answers(kubeconfig: &Path) -> Result<()> {
    let client = api_server::client(kubeconfig).await?;
    Api::<ServiceAccount>::namespaced(client.clone(), "default").get("default").await?;
    let view = Api::<ClusterRole>::all(client).get("view").await?;
    ensure!(!view.rules.unwrap_or_default().is_empty(), "the role `view` is not put together yet");
    Ok(())
}
