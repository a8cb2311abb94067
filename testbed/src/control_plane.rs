//! A Kubernetes API: etcd and the API server, ready in about three seconds; and controllers where a test wants them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use kube::Client;

use crate::api_server::{self, ApiServer};
use crate::binaries::Binary;
use crate::component::Home;
use crate::controller_manager::ControllerManager;
use crate::etcd::{Backup, Etcd};

/// etcd and the API server over it.
#[derive(Debug)]
pub struct ControlPlane {
    /// What acts on what the API server stores, if it was [started](Self::start_controllers).
    pub controller_manager: Option<ControllerManager>,
    // After what asks it.
    /// The API server.
    pub api_server: ApiServer,
    // After the API server, which is dropped first.
    /// Its store.
    pub etcd: Etcd,
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts an empty one that goes away with the returned value.
    pub async fn start() -> Result<Self> {
        Self::start_with(&Home::Temporary, &[]).await
    }

    /// Starts one in `home`, with `flags` added to the API server's.
    pub async fn start_with(home: &Home, flags: &[String]) -> Result<Self> {
        // Both built before either runs: a first build takes minutes.
        Binary::KubeApiserver.ensure_async().await?;
        let etcd = Etcd::start(home).await?;
        let api_server = ApiServer::start(home, &etcd.url(), flags).await?;
        Ok(Self { controller_manager: None, api_server, etcd })
    }

    /// Adds kube-controller-manager, which takes some seconds more to start and 120 MB.
    pub async fn start_controllers(&mut self) -> Result<()> {
        let started = ControllerManager::start(&Home::Temporary, &self.api_server).await?;
        self.controller_manager = Some(started);
        Ok(())
    }

    /// A client that may do everything. It belongs to the present runtime, so each test makes its own.
    pub async fn client(&self) -> Result<Client> {
        api_server::client(self.kubeconfig()).await
    }

    /// A client of `user`; see [`ApiServer::kubeconfig_for`].
    pub async fn client_for(&self, user: &str, group: Option<&str>) -> Result<Client> {
        api_server::client(&self.kubeconfig_for(user, group)?).await
    }

    /// The kubeconfig file of [`client`](Self::client).
    pub fn kubeconfig(&self) -> &Path {
        self.api_server.kubeconfig()
    }

    /// A kubeconfig file for `user`; see [`ApiServer::kubeconfig_for`].
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        self.api_server.kubeconfig_for(user, group)
    }

    /// A kubeconfig file with a token of a service account; see [`ApiServer::kubeconfig_of`].
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        self.api_server.kubeconfig_of(namespace, account).await
    }

    /// Makes every watch that resumes at an earlier resourceVersion get 410 Gone: compacts etcd, and restarts the API
    /// server, which has its own copy of the recent history.
    pub async fn forget_history(&mut self) -> Result<()> {
        self.api_server.stop().await?;
        self.etcd.compact().await?;
        self.api_server.restart().await
    }

    /// Everything the cluster holds. It is away for a moment.
    pub async fn back_up(&mut self) -> Result<Backup> {
        // It does not end in time when it is asked to, while watches are open.
        self.api_server.kill()?;
        let backup = self.etcd.back_up().await?;
        self.api_server.restart().await?;
        Ok(backup)
    }

    /// The cluster is restored from a backup: what was written since never was.
    pub async fn restore(&mut self, backup: &Backup) -> Result<()> {
        self.api_server.kill()?;
        self.etcd.restore(backup).await?;
        self.api_server.restart().await
    }
}
