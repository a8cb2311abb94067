//! An API server that replays: TLS, discovery, LIST and WATCH of generated Todos, as fast as they are read or at a
//! given rate. It serves just what a bridge asks for, and remembers when it wrote which version.

use std::convert::Infallible;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Authority;
use crate::folder::Folder;

/// The version before the first event.
const START: u64 = 1000;

/// What is replayed.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// How many events.
    pub(super) events: u64,
    /// Of how many objects, in turn.
    pub(super) objects: u64,
    /// Length of one object's JSON, about.
    pub(super) size: usize,
    /// Events per second; as fast as they are read without it.
    pub(super) rate: Option<u64>,
}

/// A running server.
pub(super) struct Replay {
    shared: Arc<Shared>,
    kubeconfig: PathBuf,
    _folder: Folder,
}

struct Shared {
    load: Load,
    /// The Subscription that is there.
    subscription: Value,
    /// When each event was first written, in nanoseconds since 1970.
    written: Vec<AtomicU64>,
    padding: String,
}

type Body = BoxBody<Bytes, Infallible>;

impl Replay {
    /// Starts it, with one Subscription to all Todos whose sink is `sink`.
    pub(super) async fn start(load: Load, sink: Value) -> Result<Self> {
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
        let written = (0..load.events).map(|_| AtomicU64::new(0)).collect();
        let mut bare = String::new();
        write_object(&mut bare, 0, 1, START, "");
        let padding = "x".repeat(load.size.saturating_sub(bare.len()));
        let shared = Arc::new(Shared { load, subscription: subscription(&sink), written, padding });
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), shared.clone()));
        Ok(Self { shared, kubeconfig, _folder: folder })
    }

    /// How to reach it.
    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// When the event with this version was first written, in nanoseconds since 1970.
    pub(super) fn written(&self, version: u64) -> Option<u64> {
        let index = usize::try_from(version.checked_sub(START + 1)?).ok()?;
        Some(self.shared.written.get(index)?.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), shared.clone());
        tokio::spawn(async move {
            let _ = socket.set_nodelay(true);
            let Ok(socket) = tls.accept(socket).await else { return };
            let serve = service_fn(move |request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(answer(&shared, &request)) }
            });
            // A client that goes away in the middle of a stream is no error here.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), serve)
                .await;
        });
    }
}

fn answer(shared: &Arc<Shared>, request: &Request<Incoming>) -> Response<Body> {
    const TODOS: &str = "/apis/k8sasbackend.com/v1/todos";
    const SUBSCRIPTIONS: &str = "/apis/tidings.dev/v1alpha1/subscriptions";
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    let watch = query.contains("watch=");
    if request.method() == Method::PATCH {
        return whole(&shared.subscription);
    }
    match path {
        "/api/v1/namespaces/kube-system" => whole(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "replayed"}
        })),
        "/apis/k8sasbackend.com/v1" => whole(&json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "k8sasbackend.com/v1",
            "resources": [{"name": "todos", "singularName": "todo", "namespaced": true, "kind": "Todo",
                "verbs": ["list", "watch"]}]
        })),
        SUBSCRIPTIONS if watch => streamed(stream::pending()),
        SUBSCRIPTIONS => whole(&json!({
            "kind": "SubscriptionList", "apiVersion": "tidings.dev/v1alpha1",
            "metadata": {"resourceVersion": "1"}, "items": [shared.subscription]
        })),
        TODOS if watch => {
            let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
            let from = from.and_then(|version| version.parse().ok()).unwrap_or(START);
            let initial = query.contains("sendInitialEvents=true").then(initial_events_end);
            streamed(stream::iter(initial).chain(events(shared.clone(), from.max(START) - START)))
        }
        TODOS => whole(&json!({
            "kind": "TodoList", "apiVersion": "k8sasbackend.com/v1", "items": [],
            "metadata": {"resourceVersion": (START + shared.load.events).to_string()}
        })),
        _ => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound",
                "message": format!("{path} is not replayed")});
            let mut response = whole(&status);
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            response
        }
    }
}

/// The events after the first `index`, one chunk each, as the API server flushes them.
fn events(shared: Arc<Shared>, index: u64) -> impl Stream<Item = Bytes> {
    let start = tokio::time::Instant::now();
    let first = index;
    stream::unfold((shared, index), move |(shared, index)| async move {
        if index >= shared.load.events {
            // The stream stays open: nothing happens any more.
            return std::future::pending().await;
        }
        if let Some(rate) = shared.load.rate {
            let due = Duration::from_nanos((index - first) * 1_000_000_000 / rate);
            tokio::time::sleep_until(start + due).await;
        } else if index % 64 == 0 {
            // A stream that is always ready must let others run.
            tokio::task::yield_now().await;
        }
        let kind = if index < shared.load.objects { "ADDED" } else { "MODIFIED" };
        let line = event(kind, index, &shared);
        if let Some(written) = usize::try_from(index).ok().and_then(|index| shared.written.get(index)) {
            let _ = written.compare_exchange(0, now(), Ordering::Relaxed, Ordering::Relaxed);
        }
        Some((Bytes::from(line), (shared, index + 1)))
    })
}

/// The line of the event at `index`. Written in one go: the server must not be what is measured.
fn event(kind: &str, index: u64, shared: &Shared) -> String {
    let Load { objects, size, .. } = shared.load;
    let mut line = String::with_capacity(size + 128);
    line.push_str(r#"{"type":""#);
    line.push_str(kind);
    line.push_str(r#"","object":"#);
    write_object(&mut line, index % objects, index / objects + 1, START + index + 1, &shared.padding);
    line.push_str("}\n");
    line
}

fn write_object(text: &mut String, number: u64, generation: u64, version: u64, padding: &str) {
    let written = write!(
        text,
        r#"{{"apiVersion":"k8sasbackend.com/v1","kind":"Todo","metadata":{{"creationTimestamp":"2026-01-01T00:00:00Z","generation":{generation},"managedFields":[{{"apiVersion":"k8sasbackend.com/v1","fieldsType":"FieldsV1","fieldsV1":{{"f:spec":{{".":{{}},"f:message":{{}},"f:when":{{}}}}}},"manager":"bench","operation":"Update","time":"2026-01-02T00:00:00Z"}}],"name":"todo-{number}","namespace":"bench","resourceVersion":"{version}","uid":"00000000-0000-4000-8000-{number:012x}"}},"spec":{{"message":""#
    );
    debug_assert!(written.is_ok(), "writing to a String does not fail");
    text.push_str(padding);
    text.push_str(r#"","when":"2026-12-24T18:00:00Z"}}"#);
}

fn initial_events_end() -> Bytes {
    let bookmark = json!({"type": "BOOKMARK", "object": {
        "kind": "Todo", "apiVersion": "k8sasbackend.com/v1",
        "metadata": {"resourceVersion": START.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}}
    }});
    Bytes::from(format!("{bookmark}\n"))
}

fn subscription(sink: &Value) -> Value {
    json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription",
        "metadata": {"name": "bench", "namespace": "bench", "uid": "bench", "generation": 1, "resourceVersion": "1"},
        "spec": {
            "sources": [{"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"}],
            "on": ["Snapshot", "Added", "Updated", "Deleted", "Left"],
            "event": {"mode": "Binary"}, "delivery": {"maxInFlight": 1024, "oversize": "Reference"},
            "sink": sink
        }
    })
}

fn whole(value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).boxed();
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

fn streamed(chunks: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Response<Body> {
    let frames = chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
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

/// Nanoseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "it is compared with what another process wrote")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
