//! What the API server talks to: TLS, bounds on what is taken in, and an end that nobody notices.
//!
//! A connection of the API server is never closed while it may be about to use it: it would not try again. It closes those
//! itself that it has not used for 90 seconds. Who stops first says so in every answer (`Connection: close`).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::State;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, Request, Response, StatusCode, Version};
use axum::response::IntoResponse as _;
use axum::{Router, body};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tidings_config::process::webhook::WebhookSettings;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::certificates::serving::Shown;
use crate::cluster::Cluster;
use crate::configuration::{PATH, REPLICA};
use crate::metrics::Metrics;
use crate::review::request::{self, Malformed};
use crate::review::{self, Outcome, Step, Verdict, response};

/// Time in which a client has to have TLS ready.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Time in which a client has to send a request, once it is connected or has its last answer: longer than the API server
/// keeps a connection that it does not use.
const SILENCE: Duration = Duration::from_mins(3);
/// So much before the API server gives up, it is told why there is no answer.
const MARGIN: Duration = Duration::from_millis(500);
/// So many requests of the greatest length are read and judged at once; of shorter ones, more.
const AT_ONCE: usize = 2;
/// Before more connections are taken, after the system had none to give.
const BREATH: Duration = Duration::from_millis(50);

/// Answers the API server. All clones are one.
#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

struct Inner {
    cluster: Cluster,
    tls: TlsAcceptor,
    metrics: Metrics,
    replica: HeaderValue,
    draining: AtomicBool,
    patience: Duration,
    max_bytes: usize,
    connections: Arc<Semaphore>,
    /// For requests that are being read and judged, in kibibytes.
    memory: Semaphore,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the request is longer than {0} bytes (setting max_request_bytes), or breaks off")]
    TooLong(usize),
    #[error("unable to check it: {0}")]
    Cluster(#[from] crate::cluster::Error),
    #[error("unable to check it within {0:?}: the API server does not say what is asked about it")]
    Late(Duration),
}

// === impl Server ===

impl Server {
    pub(crate) fn new(
        settings: &WebhookSettings,
        client: kube::Client,
        shown: Arc<Shown>,
        metrics: Metrics,
        replica: Arc<str>,
    ) -> Self {
        let WebhookSettings { timeout, max_request_bytes, max_connections, .. } = settings;
        let mut tls = rustls::ServerConfig::builder().with_no_client_auth().with_cert_resolver(shown);
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let most = usize::try_from(max_connections.get()).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            cluster: Cluster::new(client, metrics.clone()),
            tls: TlsAcceptor::from(Arc::new(tls)),
            metrics,
            // Sixteen hexadecimal digits.
            replica: HeaderValue::from_str(&replica).unwrap_or(HeaderValue::from_static("unknown")),
            draining: AtomicBool::new(false),
            patience: timeout.get().saturating_sub(MARGIN),
            max_bytes: max_request_bytes.get(),
            connections: Arc::new(Semaphore::new(most)),
            memory: Semaphore::new(kibibytes(max_request_bytes.get()) as usize * AT_ONCE),
        }))
    }

    /// From now on everybody who is answered is told to come no more.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Serves until `closing`, and then until what is under way is answered.
    pub(crate) async fn serve(self, listener: TcpListener, closing: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let next = async {
                // Nobody closes it.
                let permit = self.0.connections.clone().acquire_owned().await.ok();
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                next = next => next,
                () = closing.cancelled() => break,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => {
                    let (server, closing) = (self.clone(), closing.clone());
                    connections.spawn(async move {
                        let gauge = server.0.metrics.connections.clone();
                        gauge.inc();
                        server.connection(stream, closing).await;
                        gauge.dec();
                        drop(permit);
                    });
                }
                // Most likely the system has no more files to give.
                Err(error) => {
                    tracing::warn!(%error, "unable to take a connection");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn connection(self, stream: TcpStream, closing: CancellationToken) {
        // Answers are short, and somebody waits for each.
        let _ = stream.set_nodelay(true);
        let secured = match tokio::time::timeout(HANDSHAKE, self.0.tls.accept(stream)).await {
            Ok(Ok(secured)) => secured,
            Ok(Err(error)) => {
                self.0.metrics.handshake_failures.inc();
                // Whoever has the wrong authority would fill the log.
                tracing::debug!(%error, "no TLS came to be");
                return;
            }
            Err(_elapsed) => {
                self.0.metrics.handshake_failures.inc();
                return;
            }
        };
        let router = Router::new().fallback(handle).with_state(self);
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(SILENCE);
        http.http2().timer(TokioTimer::new()).max_concurrent_streams(64).keep_alive_interval(SILENCE);
        let connection = http.serve_connection(TokioIo::new(secured), TowerToHyperService::new(router));
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, "a connection ended in an error");
        }
    }
}

// === impl Inner ===

impl Inner {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        if request.uri().path() != PATH {
            return (StatusCode::NOT_FOUND, format!("the API server is answered at {PATH}\n"))
                .into_response();
        }
        if request.method() != http::Method::POST {
            return (StatusCode::METHOD_NOT_ALLOWED, "an AdmissionReview is posted\n").into_response();
        }
        let started = Instant::now();
        let judged = tokio::time::timeout(self.patience, self.judge(request.into_body(), started)).await;
        let failure = match judged {
            Ok(Ok(answer)) => {
                return ([(CONTENT_TYPE, "application/json")], answer).into_response();
            }
            Ok(Err(failure)) => failure,
            Err(_elapsed) => Failure::Late(self.patience),
        };
        // The API server does what the failure policy says, and tells the reason.
        let (status, verdict) = match failure {
            Failure::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed"),
            Failure::TooLong(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too long"),
            Failure::Cluster(_) | Failure::Late(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        tracing::warn!(error = %failure, "unable to answer the API server");
        self.metrics.request("", "", verdict, started.elapsed());
        (status, format!("{failure}\n")).into_response()
    }

    async fn judge(&self, body: Body, started: Instant) -> Result<String, Failure> {
        let most = body.size_hint().upper().and_then(|length| usize::try_from(length).ok());
        let most = most.unwrap_or(self.max_bytes);
        if most > self.max_bytes {
            return Err(Failure::TooLong(self.max_bytes));
        }
        // It is never closed.
        let _permit = self.memory.acquire_many(kibibytes(most)).await;
        let body = body::to_bytes(body, self.max_bytes).await;
        let body = body.map_err(|_| Failure::TooLong(self.max_bytes))?;
        let request = request::read(&body)?;
        let verdict = match review::begin(&request)? {
            Step::Done(verdict) => verdict,
            Step::Ask(case) => {
                let user = &request.user_info;
                let resources = self.cluster.find(case.kinds()).await?;
                let denied = self.cluster.denied(case.needs(&resources), user);
                let (denied, sinks) = tokio::join!(denied, self.cluster.sinks(case.sinks()));
                let name = user.username.as_deref().unwrap_or("nobody");
                case.conclude(name, &resources, denied?, &sinks)
            }
        };
        self.note(&request, &verdict, started);
        Ok(response::answer(&request, &verdict).to_string())
    }

    fn note(&self, request: &request::Request, verdict: &Verdict, started: Instant) {
        let Verdict { refusal, warnings: _, outcome } = verdict;
        let kind = match request.kind.kind.as_str() {
            "Subscription" => "Subscription",
            "Sink" => "Sink",
            // Those of our own probes, and whatever else somebody sends: a name is no label.
            _ => "other",
        };
        let operation = match request.operation.as_str() {
            "CREATE" => "CREATE",
            "UPDATE" => "UPDATE",
            _ => "other",
        };
        self.metrics.request(kind, operation, outcome.name(), started.elapsed());
        if let Some(refusal) = refusal {
            let object = format!("{}/{}", request.namespace, request.name);
            let user = request.user_info.username.as_deref().unwrap_or_default();
            let mistakes = refusal.mistakes().len();
            tracing::info!(kind, object, operation, user, mistakes, verdict = outcome.name(), "refused");
        } else if *outcome != Outcome::Unknown {
            tracing::debug!(kind, operation, verdict = outcome.name(), "accepted");
        }
    }
}

fn kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(1 << 20)
}

async fn handle(State(server): State<Server>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let persistent = request.version() <= Version::HTTP_11;
    let mut response = server.0.answer(request).await;
    response.headers_mut().insert(REPLICA, server.0.replica.clone());
    // HTTP/2 has another word for it, said when the connection is shut down.
    if persistent && server.0.draining.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
