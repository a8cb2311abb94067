//! The cluster a person means, and what to tell them when it cannot be used.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::args::ClusterArgs;

/// Long enough for a server far away, short enough for a person who waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client of an API server, and where it comes from.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// The namespace of the context.
    pub(crate) namespace: String,
    server: String,
    origin: Origin,
}

/// Where the access to a cluster is written down.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// In kubeconfig files: as they were named, and the context if one was.
    Kubeconfig { files: String, context: Option<String> },
    /// In the pod this process runs in.
    ServiceAccount,
}

/// Why a cluster cannot be used, and which one is meant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no kubeconfig ({0} does not exist), and this is no pod")]
    None(String),
    #[error("failed to use {origin}")]
    Kubeconfig { origin: Origin, source: Box<KubeconfigError> },
    #[error("failed to use {}", Origin::ServiceAccount)]
    ServiceAccount { source: Box<InClusterError> },
    #[error("failed to make a client for the API server {server} of {origin}")]
    Client { server: String, origin: Origin, source: Box<kube::Error> },
    #[error("failed to reach the API server {server} of {origin}")]
    Unreachable { server: String, origin: Origin, source: Box<kube::Error> },
    #[error("the API server {server} of {origin} did not answer within {} s", PATIENCE.as_secs())]
    Silent { server: String, origin: Origin },
    #[error("the API server {server} does not accept the credentials of {origin}")]
    Unauthorized { server: String, origin: Origin, source: Box<kube::Error> },
}

// === impl Cluster ===

impl Cluster {
    /// A client for the cluster that is asked for, without talking to it yet.
    ///
    /// Not `kube`'s inference: that one takes the pod's own cluster in place of a kubeconfig that is broken.
    pub(crate) async fn connect(args: &ClusterArgs) -> Result<Self, Error> {
        let ClusterArgs { kubeconfig, context } = args;
        let home = home_kubeconfig();
        let named = kubeconfig.is_some() || context.is_some() || env::var_os("KUBECONFIG").is_some();
        let (origin, config) = if named || home.exists() {
            let origin =
                Origin::Kubeconfig { files: files(kubeconfig.as_deref(), &home), context: context.clone() };
            let config = from_kubeconfig(kubeconfig.as_deref(), context.clone()).await;
            (origin.clone(), config.map_err(|source| Error::Kubeconfig { origin, source: source.into() })?)
        } else if env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
            let config = Config::incluster();
            (
                Origin::ServiceAccount,
                config.map_err(|source| Error::ServiceAccount { source: source.into() })?,
            )
        } else {
            return Err(Error::None(home.display().to_string()));
        };
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let namespace = config.default_namespace.clone();
        match Client::try_from(config) {
            Ok(client) => Ok(Self { client, namespace, server, origin }),
            Err(source) => Err(Error::Client { server, origin, source: source.into() }),
        }
    }

    /// Whether the API server answers and knows who asks.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        let (server, origin) = (self.server.clone(), self.origin.clone());
        match tokio::time::timeout(PATIENCE, self.client.apiserver_version()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 401 => {
                let source = Box::new(kube::Error::Api(status));
                Err(Error::Unauthorized { server, origin, source })
            }
            // Who may not ask for the version may still have every right that is needed.
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Ok(()),
            Ok(Err(source)) => Err(Error::Unreachable { server, origin, source: source.into() }),
            Err(_) => Err(Error::Silent { server, origin }),
        }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.server, self.origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubeconfig { files, context: Some(context) } => {
                write!(f, "context {context:?} of kubeconfig {files}")
            }
            Self::Kubeconfig { files, context: None } => write!(f, "kubeconfig {files}"),
            Self::ServiceAccount => f.write_str("the pod's service account"),
        }
    }
}

// === impl Error ===

impl Error {
    /// What a person can do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::None(_) => "name a file with --kubeconfig or in the variable KUBECONFIG",
            Self::Kubeconfig { .. } => {
                "choose another file with --kubeconfig or KUBECONFIG, or another context with --context; `kubectl config \
                 view` shows what is there"
            }
            Self::ServiceAccount { .. } => "check that the pod mounts the token of its service account",
            Self::Client { .. } => "check the certificates and keys that are named there",
            Self::Unreachable { .. } | Self::Silent { .. } => {
                "check that the server runs and that the address is right, or choose another cluster with --kubeconfig or \
                 --context"
            }
            Self::Unauthorized { .. } => "log in again, or choose another context with --context",
        }
    }
}

async fn from_kubeconfig(file: Option<&Path>, context: Option<String>) -> Result<Config, KubeconfigError> {
    let kubeconfig = match file {
        Some(file) => Kubeconfig::read_from(file)?,
        None => Kubeconfig::read()?,
    };
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await
}

fn files(named: Option<&Path>, home: &Path) -> String {
    match (named, env::var_os("KUBECONFIG")) {
        (Some(file), _) => file.display().to_string(),
        (None, Some(files)) => files.to_string_lossy().into_owned(),
        (None, None) => home.display().to_string(),
    }
}

fn home_kubeconfig() -> PathBuf {
    env::home_dir().unwrap_or_default().join(".kube").join("config")
}
