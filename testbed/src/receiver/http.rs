//! A receiver of HTTP, in clear and by TLS. Each place is a first segment of paths.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::Security;
use super::ear::{Ear, Log, binary};
use crate::certificates::{Authority, Identity, Shown};
use crate::ports::Port;

/// Where Events are posted to. Its places, and what they heard, outlive a crash.
pub(super) struct Endpoint {
    ports: [Port; 2],
    pub(super) authority: Authority,
    tls: TlsAcceptor,
    shared: Arc<Shared>,
    /// Whether requests are looked at.
    open: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    places: Mutex<BTreeMap<String, Place>>,
    /// Passwords of those who may post by TLS, and whether they may post anything.
    users: Mutex<BTreeMap<String, (String, bool)>>,
}

#[derive(Default)]
struct Place {
    log: Arc<Log>,
    /// What is posted to a path that ends like this is refused.
    rejects: BTreeSet<String>,
    /// The largest body.
    limit: Option<usize>,
}

// === impl Endpoint ===

impl Endpoint {
    /// Listens on two free ports.
    pub(super) async fn start(shown: Shown) -> Result<Self> {
        let authority = Authority::new("tidings-testbed-http").context("create the certificate authority")?;
        let Identity { certificate, key } = authority.server_showing(shown)?;
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?;
        let mut endpoint = Self {
            ports: [Port::reserve()?, Port::reserve()?],
            authority,
            tls: TlsAcceptor::from(Arc::new(config)),
            shared: Arc::default(),
            open: watch::Sender::new(true),
            servers: Vec::new(),
        };
        endpoint.restart().await?;
        Ok(endpoint)
    }

    pub(super) fn address(&self, security: Security) -> String {
        let [plain, secured] = &self.ports;
        let port = if security == Security::Plain { plain } else { secured };
        format!("127.0.0.1:{}", port.number())
    }

    /// From now on there is something under the path `place`.
    pub(super) fn create(&self, place: &str, limit: Option<usize>) {
        self.shared.places().entry(place.to_owned()).or_default().limit = limit;
    }

    pub(super) fn listen(&self, place: &str) -> Ear {
        Ear::new(self.shared.places().entry(place.to_owned()).or_default().log.clone(), None)
    }

    /// Whether what is posted to a path of `place` that ends with `end` is answered with 422.
    pub(super) fn reject(&self, place: &str, end: &str, rejects: bool) {
        let mut places = self.shared.places();
        let ends = &mut places.entry(place.to_owned()).or_default().rejects;
        if rejects {
            ends.insert(end.to_owned());
        } else {
            ends.remove(end);
        }
    }

    /// From now on `user` has this password for TLS, and may post or not.
    pub(super) fn set_user(&self, user: &str, password: &str, may_post: bool) {
        self.shared.users().insert(user.to_owned(), (password.to_owned(), may_post));
    }

    /// Ends all connections and takes none; what was not answered was not heard.
    pub(super) async fn kill(&mut self) {
        for server in self.servers.drain(..) {
            server.abort();
            let _ = server.await;
        }
    }

    /// Looks at nothing that is posted, and answers nothing.
    pub(super) fn pause(&self) {
        self.open.send_replace(false);
    }

    pub(super) fn resume(&self) {
        self.open.send_replace(true);
    }

    /// Listens again where it did.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.kill().await;
        for (security, tls) in [(Security::Plain, None), (Security::Secured, Some(self.tls.clone()))] {
            let listener = TcpListener::bind(self.address(security)).await.context("listen again")?;
            let visitor = Visitor { tls, shared: self.shared.clone(), open: self.open.subscribe() };
            self.servers.push(tokio::spawn(serve(listener, visitor)));
        }
        Ok(())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

/// What a connection needs.
#[derive(Clone)]
struct Visitor {
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    open: watch::Receiver<bool>,
}

async fn serve(listener: TcpListener, visitor: Visitor) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(visitor.clone().visit(stream));
    }
}

// === impl Visitor ===

impl Visitor {
    async fn visit(self, stream: TcpStream) {
        let tls = self.tls.clone();
        let service = service_fn(move |request| self.clone().post(request));
        // A connection ends as its client likes.
        match tls {
            None => drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await),
            Some(tls) => {
                if let Ok(stream) = tls.accept(stream).await {
                    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                }
            }
        }
    }

    async fn post(mut self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        // The sender is there as long as the endpoint.
        let _ = self.open.wait_for(|open| *open).await;
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        let status = match self.tls {
            Some(_) => self.shared.admits(&parts.headers),
            None => StatusCode::OK,
        };
        let status = match status {
            StatusCode::OK => self.shared.take(parts.uri.path(), &parts.headers, &body),
            refused => refused,
        };
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Ok(response)
    }
}

// === impl Shared ===

impl Shared {
    fn places(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> MutexGuard<'_, BTreeMap<String, (String, bool)>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody with such headers may post.
    fn admits(&self, headers: &HeaderMap) -> StatusCode {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let known = |(user, (password, _)): &(&String, &(String, bool))| {
            given == format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
        };
        match self.users().iter().find(known) {
            None => StatusCode::UNAUTHORIZED,
            Some((_, (_, false))) => StatusCode::FORBIDDEN,
            Some((_, (_, true))) => StatusCode::OK,
        }
    }

    fn take(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        let name = path.split('/').nth(1).unwrap_or_default();
        let places = self.places();
        let Some(Place { log, rejects, limit }) = places.get(name) else { return StatusCode::NOT_FOUND };
        if rejects.iter().any(|end| path.ends_with(end)) {
            return StatusCode::UNPROCESSABLE_ENTITY;
        }
        if limit.is_some_and(|limit| body.len() > limit) {
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        let headers = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        match binary(path, "ce-", headers, body) {
            Ok(event) => {
                log.add(event);
                StatusCode::NO_CONTENT
            }
            Err(_) => StatusCode::BAD_REQUEST,
        }
    }
}
