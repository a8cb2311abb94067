//! A replica of the webhook, with a runtime of its own, so that it can be killed as a process is.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use tidings_config::duration::Duration;
use tidings_config::process::webhook::WebhookSettings;
use tidings_testbed::api_server;
use tidings_testbed::ports::Port;
use tidings_testbed::wait::eventually;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{OWN, SOON, https};

pub(crate) struct Replica {
    runtime: Option<Runtime>,
    running: Option<JoinHandle<Result<(), tidings_webhook::Error>>>,
    shutdown: CancellationToken,
    port: Port,
    admin: Port,
}

/// Settings of a test: everything on loopback, and quick.
pub(crate) fn settings(url: &str) -> WebhookSettings {
    WebhookSettings {
        namespace: Some(OWN.to_owned()),
        url: Some(url.to_owned()),
        probe_interval: Duration::from_millis(500),
        shutdown_delay: Duration::from_secs(1),
        ..WebhookSettings::default()
    }
}

// === impl Replica ===

impl Replica {
    /// Starts one that is reached directly.
    pub(crate) async fn start(kubeconfig: &Path, change: impl FnOnce(&mut WebhookSettings)) -> Self {
        let port = Port::reserve().unwrap();
        let mut settings = settings(&format!("https://127.0.0.1:{}", port.number()));
        change(&mut settings);
        Self::start_on(port, kubeconfig, settings).await
    }

    /// Starts one that is reached as `settings` say.
    pub(crate) async fn start_on(port: Port, kubeconfig: &Path, mut settings: WebhookSettings) -> Self {
        // Once for the process; it may be done already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let admin = Port::reserve().unwrap();
        let on = |port: &Port| SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        (settings.address, settings.admin_address) = (on(&port), on(&admin));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shutdown = CancellationToken::new();
        let (token, kubeconfig) = (shutdown.clone(), kubeconfig.to_owned());
        let running = runtime.spawn(async move {
            let client = api_server::client(&kubeconfig).await.unwrap();
            tidings_webhook::run(client, settings, token).await
        });
        let replica = Self { runtime: Some(runtime), running: Some(running), shutdown, port, admin };
        replica.until_ready().await;
        replica
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) async fn until_ready(&self) {
        eventually(SOON, "a ready webhook", || self.admin("/readyz")).await.unwrap();
    }

    /// What the admin port says; an error for anything but 200.
    pub(crate) async fn admin(&self, path: &str) -> Result<String, String> {
        https::get_plain(self.admin.number(), path).await
    }

    /// Only tells it to stop.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Tells it to stop, and waits until it is gone.
    pub(crate) async fn stopped(mut self) {
        self.stop();
        tokio::time::timeout(SOON, self.running.take().unwrap()).await.unwrap().unwrap().unwrap();
    }

    /// Ends it in the middle of whatever it does, with all its connections, as SIGKILL would.
    pub(crate) fn kill(mut self) -> Port {
        self.runtime.take().unwrap().shutdown_background();
        // The rest goes with it.
        std::mem::replace(&mut self.port, Port::reserve().unwrap())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
