//! Delivers by HTTP, over connections that are kept and shared (HTTP/1.1 or HTTP/2, as the receiver wants).
//!
//! Before: sinks/src/http/encode.rs
//! Next: sinks/src/http/classify.rs

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tidings_config::secret::{SecretKeyRef, Secrets};
use tidings_config::sink::http::{ValidHttpAddress, ValidHttpAuth, ValidHttpConnection};
use tidings_core::delivery::{Outcome, Rejection};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::Service;
use tower::ServiceExt as _;
use url::Url;

use super::classify::{self, Statuses};
use super::encode::{BATCH_CONTENT_TYPE, batch};
use super::resolve::{self, NotPublic};
use crate::SinkContext;
use crate::answer::{Answer, Places};
use crate::message::Message;
use crate::patience::Patience;
use crate::sink::{NotReady, Sink, retry};
use crate::tls;

/// For TCP.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a word against our certificate, or that we show none.
const OBJECTION: Duration = Duration::from_millis(300);
/// Connections that nothing is sent by are closed after this time, before most receivers do so.
const IDLE: Duration = Duration::from_secs(30);
/// Requests of one Subscription that may be under way at once: with HTTP/1.1, each takes a connection.
const CONCURRENT: usize = 64;
/// What is read of a body that nobody wants, so that the connection can be used again.
const MAX_ANSWER: usize = 64 << 10;

/// What a Subscription sends by. Several may share the connection.
pub struct HttpSink {
    connection: Arc<HttpConnection>,
    max_batch: Option<usize>,
    statuses: Statuses,
    places: Places,
    /// One for each request under way.
    slots: Semaphore,
}

/// Keeps connections to one receiver.
pub struct HttpConnection {
    ready: Result<Ready, NotReady>,
    closed: AtomicBool,
}

struct Ready {
    url: Url,
    /// For people: without a query.
    server: String,
    headers: HeaderMap,
    connector: Connector,
    client: Client<Connector, Full<Bytes>>,
    timeout: Duration,
}

type Connector = HttpsConnector<HttpConnector<Resolver>>;

/// Resolves names, within the operator's policy.
#[derive(Clone, Copy)]
struct Resolver {
    public_only: bool,
}

// === impl HttpConnection ===

impl HttpConnection {
    /// Nothing is connected to before something is sent or checked.
    pub fn open(valid: ValidHttpConnection, context: SinkContext) -> Self {
        Self { ready: Ready::new(&valid, &context.secrets), closed: AtomicBool::new(false) }
    }

    /// Whether the receiver takes connections. What it says to requests, only requests can tell.
    pub async fn check(&self) -> Result<(), NotReady> {
        let ready = self.ready()?;
        let uri = ready.uri("").map_err(|reason| NotReady::new("InvalidUrl", reason))?;
        let connected = timeout(CONNECT_TIMEOUT, ready.connector.clone().oneshot(uri)).await;
        match connected {
            Ok(Ok(MaybeHttpsStream::Http(_))) => Ok(()),
            Ok(Ok(MaybeHttpsStream::Https(stream))) => {
                // In TLS 1.3 a certificate is refused only after the handshake. Who does not mind it says nothing.
                let said = timeout(OBJECTION, TokioIo::new(stream).read(&mut [0])).await;
                let objection = said.ok().and_then(Result::err);
                objection.map_or(Ok(()), |error| Err(classify::connect(&error, &ready.server)))
            }
            Ok(Err(error)) => Err(classify::connect(&*error, &ready.server)),
            Err(_elapsed) => Err(NotReady::new("Unreachable", format!("{} does not answer", ready.server))),
        }
    }

    fn ready(&self) -> Result<&Ready, NotReady> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(NotReady::new("Closed", "the sink is closed"));
        }
        self.ready.as_ref().map_err(Clone::clone)
    }
}

// === impl Ready ===

impl Ready {
    fn new(valid: &ValidHttpConnection, secrets: &Secrets) -> Result<Self, NotReady> {
        let ValidHttpConnection { url, auth, headers, tls, timeout, public_only } = valid;
        let server = valid.summary();
        // An address needs no resolver.
        let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if let Some(address) = literal.filter(|address| *public_only && !resolve::is_public(*address)) {
            return Err(classify::not_public(NotPublic(address), &server));
        }
        let mut http = HttpConnector::new_with_resolver(Resolver { public_only: *public_only });
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client_config(tls, secrets)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(IDLE)
            .build(connector.clone());
        let headers = self::headers(auth.as_ref(), headers, secrets)?;
        Ok(Self { url: url.clone(), server, headers, connector, client, timeout: timeout.get() })
    }

    /// The URL with `path` behind its own.
    fn uri(&self, path: &str) -> Result<Uri, String> {
        let mut url = self.url.clone();
        if !path.is_empty() {
            let base = self.url.path().trim_end_matches('/');
            // Not by the URL, which would take `..` for a way up.
            let query = self.url.query().map_or_else(String::new, |query| format!("?{query}"));
            url.set_query(None);
            url.set_path("");
            let origin = url.as_str().trim_end_matches('/');
            let text = format!("{origin}{base}/{path}{query}");
            return text.parse().map_err(|error| format!("{path:?} is no path: {error}"));
        }
        url.as_str().parse().map_err(|error| format!("the URL cannot be used: {error}"))
    }

    /// One request, and what it was answered.
    async fn send(&self, messages: &[&Message], in_batches: bool, statuses: &Statuses) -> Answer {
        let refused = |reason: String| Outcome::Rejected { reason: Rejection::Refused(reason) }.into();
        let Some(first) = messages.first() else { return Outcome::Acked.into() };
        let uri = match self.uri(&first.destination) {
            Ok(uri) => uri,
            Err(reason) => return refused(reason),
        };
        let body = if in_batches { batch(messages.iter().copied()) } else { first.body.clone() };
        let size = body.len();
        let mut request = Request::post(uri).body(Full::new(body)).unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        if in_batches {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(BATCH_CONTENT_TYPE));
        } else {
            for (name, value) in first.headers.iter() {
                match (HeaderName::try_from(&**name), HeaderValue::try_from(value)) {
                    (Ok(name), Ok(value)) => drop(request.headers_mut().insert(name, value)),
                    _ => return refused(format!("the header {name} is not legal")),
                }
            }
        }
        match self.client.request(request).await {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                // Read, so that the connection can be used again; what it says, nobody asked for.
                let _ = Limited::new(body, MAX_ANSWER).collect().await;
                let mut answer = classify::answer(parts.status, &parts.headers, size, statuses);
                if let Some(not_ready) = &mut answer.not_ready {
                    not_ready.message = format!("{}: {}", self.server, not_ready.message);
                }
                answer
            }
            Err(error) => classify::request(&error, &self.server),
        }
    }
}

// === impl Resolver ===

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<std::net::SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { public_only } = *self;
        Box::pin(async move { Ok(resolve::resolve(name.as_str(), public_only).await?.into_iter()) })
    }
}

// === impl HttpSink ===

impl HttpSink {
    /// Sends to `address` by `connection`.
    pub fn new(connection: Arc<HttpConnection>, address: &ValidHttpAddress) -> Self {
        let ValidHttpAddress { path: _, max_batch, retry_on, reject_on } = address;
        let statuses = Statuses { retry_on: retry_on.clone(), reject_on: reject_on.clone() };
        let (places, slots) = (Places::default(), Semaphore::new(CONCURRENT));
        Self { connection, max_batch: *max_batch, statuses, places, slots }
    }

    /// Which Messages share a request: those of one path, up to the most that may.
    fn requests(&self, messages: &[Message], answers: &[Option<Answer>]) -> Vec<Vec<usize>> {
        let open = messages.iter().enumerate().filter(|(index, _)| answers[*index].is_none());
        let Some(most) = self.max_batch else {
            return open.map(|(index, _)| vec![index]).collect();
        };
        let mut paths: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, message) in open {
            paths.entry(&message.destination).or_default().push(index);
        }
        paths.values().flat_map(|indices| indices.chunks(most.max(1)).map(<[usize]>::to_vec)).collect()
    }

    /// What is known without asking: a receiver that has said that it is gone is not asked again, until the Subscription is
    /// edited or the bridge starts anew.
    fn retired(&self, message: &Message) -> Option<Answer> {
        self.places
            .get(&message.destination)
            .filter(|place| place.reason == classify::GONE)
            .map(Answer::not_ready)
    }

    /// Sends all of `requests`, some at a time, and notes the answers, until nothing has moved for too long.
    async fn send(
        &self,
        ready: &Ready,
        messages: &[Message],
        requests: Vec<Vec<usize>>,
        answers: &mut [Option<Answer>],
        patience: &mut Patience,
    ) {
        let in_batches = self.max_batch.is_some();
        let send = |indices: Vec<usize>| async move {
            // It is never closed.
            let _slot = self.slots.acquire().await;
            let together: Vec<_> = indices.iter().map(|index| &messages[*index]).collect();
            let answer = ready.send(&together, in_batches, &self.statuses).await;
            (indices, answer)
        };
        let mut answered = stream::iter(requests).map(send).buffer_unordered(CONCURRENT);
        loop {
            let (indices, answer) = tokio::select! {
                biased;
                next = answered.next() => match next {
                    Some(next) => next,
                    None => return,
                },
                () = patience.over() => return,
            };
            patience.progress();
            for index in indices {
                answers[index] = Some(answer.clone());
            }
        }
    }
}

#[async_trait]
impl Sink for HttpSink {
    async fn check(&self) -> Result<(), NotReady> {
        self.connection.check().await?;
        self.places.check()
    }

    async fn deliver(&self, messages: &[Message]) -> Vec<Outcome> {
        let ready = match self.connection.ready() {
            Ok(ready) => ready,
            Err(not_ready) => return vec![retry(not_ready.message); messages.len()],
        };
        let mut answers: Vec<_> = messages.iter().map(|message| self.retired(message)).collect();
        let mut patience = Patience::new(ready.timeout);
        let requests = self.requests(messages, &answers);
        let together: Vec<_> =
            requests.iter().filter(|request| request.len() > 1).flatten().copied().collect();
        self.send(ready, messages, requests, &mut answers, &mut patience).await;

        // One of a batch that is refused may be meant: alone, each of them is told.
        let refused = |answer: &Option<Answer>| {
            matches!(answer, Some(Answer { outcome: Outcome::Rejected { .. }, .. }))
        };
        let alone: Vec<_> = together.into_iter().filter(|index| refused(&answers[*index])).collect();
        for index in &alone {
            answers[*index] = None;
        }
        let alone = alone.into_iter().map(|index| vec![index]).collect();
        self.send(ready, messages, alone, &mut answers, &mut patience).await;

        let silence = || Answer::retry(format!("{} does not answer in time", ready.server));
        let answers = answers.into_iter().map(|answer| answer.unwrap_or_else(silence)).collect();
        self.places.note(messages, answers)
    }

    async fn close(&self, _deadline: Duration) {
        // Others may go on with it.
        if Arc::strong_count(&self.connection) == 1 {
            self.connection.closed.store(true, Ordering::Relaxed);
        }
    }
}

/// What every request says beside the Event.
fn headers(
    auth: Option<&ValidHttpAuth>,
    own: &[(String, SecretKeyRef)],
    secrets: &Secrets,
) -> Result<HeaderMap, NotReady> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static("tidings"));
    let mut insert = |name: HeaderName, text: &str, key: &SecretKeyRef| {
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| tls::invalid(key, "has characters that no header can have"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok::<_, NotReady>(())
    };
    match auth {
        None => {}
        Some(ValidHttpAuth::Token(key)) => {
            insert(AUTHORIZATION, &format!("Bearer {}", secrets.text(key)?), key)?;
        }
        Some(ValidHttpAuth::Password { user, password }) => {
            let pair = BASE64_STANDARD.encode(format!("{user}:{}", secrets.text(password)?));
            insert(AUTHORIZATION, &format!("Basic {pair}"), password)?;
        }
    }
    for (name, key) in own {
        let name = HeaderName::try_from(name.as_str())
            .map_err(|_| NotReady::new("InvalidHeader", format!("{name} is no name of a header")))?;
        insert(name, secrets.text(key)?, key)?;
    }
    Ok(headers)
}
