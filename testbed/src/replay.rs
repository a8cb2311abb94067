//! An API server that replays: TLS, discovery, and WATCH of generated Todos, as fast as they are read or at a given
//! rate. It serves just what a bridge asks for, remembers when it wrote which version, and what the bridge said of
//! its Subscriptions.

mod server;
mod todos;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Authority;
use crate::folder::Folder;
use crate::wait::eventually;
use todos::Todos;

/// The version before the first event.
pub const START: u64 = 1000;
/// The Secret that every Subscription may read.
pub const SECRET: &str = "broker";

const NAMESPACE: &str = "bench";
/// For a bridge to say that it is well.
const SOON: Duration = Duration::from_mins(1);

/// What is replayed.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many events there may be.
    pub events: u64,
    /// Of how many objects, in turn.
    pub objects: u64,
    /// Length of one object's JSON, about.
    pub size: usize,
    /// Messages that a Subscription may have unacked.
    pub in_flight: u64,
}

/// A running server, of a cluster in which nothing has happened yet.
pub struct Replay {
    shared: Arc<Shared>,
    kubeconfig: PathBuf,
    task: JoinHandle<()>,
    _folder: Folder,
}

struct Shared {
    load: Load,
    /// The Subscriptions that are there.
    subscriptions: Vec<Value>,
    /// What is in [`SECRET`].
    secret: Value,
    /// What was said of them, by name.
    statuses: Mutex<BTreeMap<String, Value>>,
    pace: watch::Sender<Arc<Pace>>,
    /// When each event was first written, in nanoseconds since 1970.
    written: Vec<AtomicU64>,
    /// How many events were written.
    newest: AtomicU64,
    todos: Todos,
}

/// How far, and how fast, events are written.
struct Pace {
    first: u64,
    /// The first event that is not written.
    until: u64,
    /// Events per second; as fast as they are read without it.
    rate: Option<u64>,
    /// When somebody read the first of them.
    began: OnceLock<Instant>,
}

// === impl Replay ===

impl Replay {
    /// Starts it, with a Subscription to all Todos for each name and sink.
    pub async fn start(load: Load, sinks: &[(&str, Value)]) -> Result<Self> {
        Self::start_with(load, sinks, &BTreeMap::new()).await
    }

    /// The same, with these keys and values in [`SECRET`].
    pub async fn start_with(
        load: Load,
        sinks: &[(&str, Value)],
        secret: &BTreeMap<&str, String>,
    ) -> Result<Self> {
        let specs: Vec<_> = sinks.iter().map(|(name, sink)| (*name, json!({ "sink": sink }))).collect();
        Self::start_specs(load, &specs, secret).await
    }

    /// The same, with a Subscription for each name and spec; what a spec does not say is as in [`start`](Self::start).
    pub async fn start_specs(
        load: Load,
        specs: &[(&str, Value)],
        secret: &BTreeMap<&str, String>,
    ) -> Result<Self> {
        let encoded = secret.iter().map(|(key, value)| (*key, BASE64_STANDARD.encode(value)));
        let encoded: BTreeMap<_, _> = encoded.collect();
        let folder = Folder::temporary("replay")?;
        let authority = Authority::new("tidings-replay")?;
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        authority.server()?.write(&certificate, &key)?;
        let certificates = CertificateDer::pem_file_iter(&certificate)?.collect::<Result<Vec<_>, _>>()?;
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, PrivateKeyDer::from_pem_file(&key)?)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://{}", listener.local_addr()?);
        let ca = folder.path().join("ca.crt");
        std::fs::write(&ca, authority.certificate())?;
        let kubeconfig = write_kubeconfig(folder.path(), &url, &ca)?;
        let pace = Pace { first: 0, until: 0, rate: None, began: OnceLock::new() };
        let shared = Arc::new(Shared {
            load,
            subscriptions: specs
                .iter()
                .map(|(name, spec)| subscription(name, spec, load.in_flight))
                .collect(),
            secret: json!({
                "apiVersion": "v1", "kind": "Secret", "data": encoded,
                "metadata": {"name": SECRET, "namespace": NAMESPACE, "uid": SECRET, "resourceVersion": "1"}
            }),
            statuses: Mutex::default(),
            pace: watch::Sender::new(Arc::new(pace)),
            written: (0..load.events).map(|_| AtomicU64::new(0)).collect(),
            newest: AtomicU64::new(0),
            todos: Todos::new(load.objects, load.size),
        });
        let task =
            tokio::spawn(server::accept(listener, TlsAcceptor::from(Arc::new(config)), shared.clone()));
        Ok(Self { shared, kubeconfig, task, _folder: folder })
    }

    /// How to reach it.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// From now on events are written until there are `until` of them, `rate` a second or as fast as they are read.
    pub fn write(&self, until: u64, rate: Option<u64>) {
        let until = until.min(self.shared.load.events);
        self.shared.pace.send_modify(|pace| {
            let first = self.newest().max(pace.first);
            *pace = Arc::new(Pace { first, until, rate, began: OnceLock::new() });
        });
    }

    /// Nothing is written any more after the next few events; says how many there are then.
    pub fn hold(&self) -> u64 {
        let rate = self.shared.pace.borrow().rate;
        // What is being written at this moment cannot be stopped.
        self.write(self.newest() + 64, rate);
        self.shared.pace.borrow().until
    }

    /// How many events were written.
    pub fn newest(&self) -> u64 {
        self.shared.newest.load(Ordering::Relaxed)
    }

    /// When the event with this version was first written, in nanoseconds since 1970.
    pub fn written(&self, version: u64) -> Option<u64> {
        let index = usize::try_from(version.checked_sub(START + 1)?).ok()?;
        Some(self.shared.written.get(index)?.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// Waits until the bridge says of every Subscription that it delivers.
    pub async fn all_delivering(&self) -> Result<()> {
        let all = self.shared.subscriptions.len();
        let said = eventually(SOON, "delivering Subscriptions", || async {
            let statuses = self.shared.statuses.lock().unwrap_or_else(PoisonError::into_inner);
            let delivering = statuses.values().filter(|status| delivers(status)).count();
            anyhow::ensure!(delivering == all, "{delivering} of {all} deliver");
            Ok(())
        });
        said.await.map(drop).context("the start")
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn delivers(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|found| found["type"] == "Delivering" && found["reason"] == "Synchronized")
}

// === impl Shared ===

impl Shared {
    /// Waits until the event at `index` is due, or the pace has changed.
    async fn may_write(&self, paces: &mut watch::Receiver<Arc<Pace>>, index: u64) -> bool {
        let pace = paces.borrow_and_update().clone();
        if index >= pace.until {
            // The stream stays open: nothing happens for now. The sender lives as long as we do.
            let _ = paces.changed().await;
            return false;
        }
        let Some(rate) = pace.rate else {
            if index.is_multiple_of(64) {
                // A stream that is always ready must let others run.
                tokio::task::yield_now().await;
            }
            return true;
        };
        let due = Duration::from_nanos(index.saturating_sub(pace.first) * 1_000_000_000 / rate);
        let due = *pace.began.get_or_init(Instant::now) + due;
        tokio::select! {
            () = tokio::time::sleep_until(due) => true,
            _ = paces.changed() => false,
        }
    }

    /// Takes what is written to `path`, and answers it. Only statuses are kept.
    fn take(&self, path: &str, body: &[u8]) -> Value {
        let mut body: Value = serde_json::from_slice(body).unwrap_or_default();
        if path == "/apis/authorization.k8s.io/v1/subjectaccessreviews" {
            body["status"] = json!({"allowed": true});
            return body;
        }
        let name = path.strip_suffix("/status").and_then(|path| path.rsplit('/').next());
        let Some(name) = name else { return body };
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        statuses.insert(name.to_owned(), body["status"].clone());
        let of_name = |subscription: &&Value| subscription["metadata"]["name"] == name;
        self.subscriptions.iter().find(of_name).cloned().unwrap_or_default()
    }
}

fn subscription(name: &str, spec: &Value, in_flight: u64) -> Value {
    let mut subscription = json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": name, "generation": 1, "resourceVersion": "1"},
        "spec": {
            "sources": [{"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"}],
            "on": ["Snapshot", "Added", "Updated", "Deleted", "Left"],
            "event": {"mode": "Binary"}, "delivery": {"maxInFlight": in_flight, "oversize": "Reference"}
        }
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        subscription["spec"][field] = value.clone();
    }
    subscription
}

fn write_kubeconfig(folder: &Path, url: &str, ca: &Path) -> Result<PathBuf> {
    let path = folder.join("kubeconfig");
    let ca = ca.display();
    std::fs::write(
        &path,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: replay\n\
             clusters:\n- name: replay\n  cluster: {{server: \"{url}\", certificate-authority: \"{ca}\"}}\n\
             users:\n- name: replay\n  user: {{token: replay}}\n\
             contexts:\n- name: replay\n  context: {{cluster: replay, user: replay}}\n"
        ),
    )?;
    Ok(path)
}

/// Writes the JSON of `count` Todos of about `size` bytes, one a line: for who sends something of the same kind.
pub fn write_todos(path: &Path, count: u64, size: usize) -> Result<()> {
    let todos = Todos::new(count, size);
    let lines: String = (0..count).map(|index| todos.object(index) + "\n").collect();
    std::fs::write(path, lines).with_context(|| format!("write {}", path.display()))
}

/// Nanoseconds since 1970, by the clock that brokers stamp with.
#[allow(clippy::disallowed_methods, reason = "it is compared with what another process wrote")]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
