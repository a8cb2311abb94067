//! What the replay server answers: just what a bridge asks for.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{START, Shared, now};

type Body = BoxBody<Bytes, Infallible>;

/// Serves whoever connects.
pub(super) async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), shared.clone());
        tokio::spawn(async move {
            let _ = socket.set_nodelay(true);
            let Ok(socket) = tls.accept(socket).await else { return };
            let serve = service_fn(move |request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(answer(&shared, request).await) }
            });
            // A client that goes away in the middle of a stream is no error here.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), serve)
                .await;
        });
    }
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    const TODOS: &str = "/apis/k8sasbackend.com/v1/todos";
    const SUBSCRIPTIONS: &str = "/apis/tidings.dev/v1alpha1/subscriptions";
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let query = head.uri.query().unwrap_or_default();
    let watch = query.contains("watch=");
    if head.method != Method::GET {
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        return whole(&shared.take(path, &body));
    }
    match path {
        "/api/v1/namespaces/bench/secrets/broker" => whole(&shared.secret),
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
            "metadata": {"resourceVersion": "1"}, "items": shared.subscriptions
        })),
        TODOS if watch => {
            let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
            let from = from.and_then(|version| version.parse().ok()).unwrap_or(START);
            let initial = query.contains("sendInitialEvents=true").then(initial_events_end);
            streamed(stream::iter(initial).chain(events(shared.clone(), from.max(START) - START)))
        }
        TODOS => whole(&json!({
            "kind": "TodoList", "apiVersion": "k8sasbackend.com/v1", "items": [],
            "metadata": {"resourceVersion": (START + shared.newest.load(Ordering::Relaxed)).to_string()}
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
    let paces = shared.pace.subscribe();
    stream::unfold((shared, paces, index), |(shared, mut paces, index)| async move {
        while !shared.may_write(&mut paces, index).await {}
        let kind = if index < shared.load.objects { "ADDED" } else { "MODIFIED" };
        let line = shared.todos.event(kind, index);
        if let Some(written) = usize::try_from(index).ok().and_then(|index| shared.written.get(index)) {
            let _ = written.compare_exchange(0, now(), Ordering::Relaxed, Ordering::Relaxed);
        }
        shared.newest.fetch_max(index + 1, Ordering::Relaxed);
        Some((Bytes::from(line), (shared, paces, index + 1)))
    })
}

fn initial_events_end() -> Bytes {
    let bookmark = json!({"type": "BOOKMARK", "object": {
        "kind": "Todo", "apiVersion": "k8sasbackend.com/v1",
        "metadata": {"resourceVersion": START.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}}
    }});
    Bytes::from(format!("{bookmark}\n"))
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
