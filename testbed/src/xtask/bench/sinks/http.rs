//! A receiver of HTTP/1.1 in this process: it reads each request, notes when it was there, and answers 204.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::broker::{Heard, PASSWORD, key};
use super::load::{Load, Target};
use crate::certificates::Authority;
use crate::receiver::Kind;
use crate::replay::now;

pub(super) struct Http {
    url: String,
    authority: Authority,
    secured: bool,
    heard: Arc<Heard>,
    task: JoinHandle<()>,
}

/// What is read of an Event in a batch.
#[derive(Deserialize)]
struct Event<'a> {
    sequence: &'a str,
}

const BATCH: &str = "application/cloudevents-batch+json";

// === impl Http ===

impl Http {
    pub(super) async fn start(secured: bool) -> Result<Self> {
        let authority = Authority::new("tidings-bench-http")?;
        let identity = authority.server()?;
        let chain =
            CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect::<Result<_, _>>()?;
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?)?;
        let tls = secured.then(|| TlsAcceptor::from(Arc::new(config)));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let scheme = if secured { "https" } else { "http" };
        let url = format!("{scheme}://{}/events", listener.local_addr()?);
        let heard = Arc::<Heard>::default();
        let task = tokio::spawn(accept(listener, tls, heard.clone()));
        Ok(Self { url, authority, secured, heard, task })
    }

    pub(super) fn certificate(&self) -> &str {
        self.authority.certificate()
    }

    pub(super) fn heard(&self) -> &Heard {
        &self.heard
    }

    pub(super) fn clear(&self) {
        self.heard.clear();
    }

    pub(super) fn sink(&self, max_batch: Option<u32>) -> Value {
        let mut sink = json!({"url": self.url});
        if let Some(most) = max_batch {
            sink["maxBatch"] = json!(most);
        }
        if self.secured {
            sink["tls"] = json!({"caSecretRef": key("ca")});
            sink["auth"] = json!({"tokenSecretRef": key("password")});
        }
        sink
    }

    pub(super) fn load(&self) -> Load {
        Load::Own(Target {
            kind: Kind::Http,
            url: self.url.clone(),
            place: String::new(),
            user: self.secured.then(|| (String::new(), PASSWORD.to_owned())),
            ca: self.secured.then(|| self.certificate().to_owned()),
        })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, heard: Arc<Heard>) {
    while let Ok((socket, _)) = listener.accept().await {
        let (tls, heard) = (tls.clone(), heard.clone());
        tokio::spawn(async move {
            let _ = socket.set_nodelay(true);
            match tls {
                None => serve(socket, heard, false).await,
                Some(tls) => {
                    if let Ok(socket) = tls.accept(socket).await {
                        serve(socket, heard, true).await;
                    }
                }
            }
        });
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, heard: Arc<Heard>, asks: bool) {
    let serve = service_fn(|request| {
        let heard = heard.clone();
        async move { Ok::<_, Infallible>(take(request, &heard, asks).await) }
    });
    // A client that goes away is no error here.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), serve).await;
}

/// `asks`: only who shows the token is answered with 204.
async fn take(request: Request<Incoming>, heard: &Heard, asks: bool) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let (head, body) = request.into_parts();
    let token =
        head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let body = body.collect().await;
    match body {
        Ok(body) if !asks || token == Some(PASSWORD) => {
            let body = body.to_bytes();
            if head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == BATCH) {
                return take_batch(&body, heard, response);
            }
            let headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
            let bytes = body.len() + headers.sum::<usize>();
            let sequence = head.headers.get("ce-sequence").and_then(|value| value.to_str().ok());
            heard.add(sequence.unwrap_or_default(), now(), bytes);
        }
        Ok(_) => *response.status_mut() = StatusCode::UNAUTHORIZED,
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

fn take_batch(body: &[u8], heard: &Heard, mut response: Response<Empty<Bytes>>) -> Response<Empty<Bytes>> {
    let at = now();
    let Ok(events) = serde_json::from_slice::<Vec<Event<'_>>>(body) else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    for event in &events {
        heard.add(event.sequence, at, body.len() / events.len());
    }
    response
}
