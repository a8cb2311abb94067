//! One connection to one server, from its handshake to its end.
//!
//! The client would reconnect by itself, send what it had buffered before, and let acknowledgements time out that
//! can never come. Here a connection that is lost is over: what is awaited on it fails at once, nothing stale is
//! ever sent, and `client.rs` opens the next one.
//!
//! Before: sinks/src/nats/client.rs
//! Next: sinks/src/nats/classify.rs

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture, PublishError};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, publish::PublishAck};
use async_nats::{
    Auth, AuthError, ConnectOptions, Event, HeaderMap, HeaderName, HeaderValue, ServerAddr, ServerError,
    Subject,
};
use futures::FutureExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidings_core::delivery::{Outcome, Rejection};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep};

use super::classify::{self, Circumstances, Denied};
use crate::message::Message;
use crate::sink::{NotReady, retry};

/// For name resolution, TCP, TLS and the handshake of NATS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an acknowledgement, counted from the last sign of progress.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer of `JetStream`'s API.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection of which two pings in a row get no answer is over.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Between looks at whether the connection still stands, should the client's word of it get lost.
const LOOK: Duration = Duration::from_secs(1);
/// Acknowledgements that may be awaited at once: more than any window, so that it never decides anything.
const MAX_ACKS: usize = 1 << 20;
/// The client keeps a note of every acknowledgement that never came, for as long as the connection lasts.
const MAX_LOST_ACKS: usize = 10_000;
/// Subjects that we remember to be denied; others just time out.
const MAX_DENIED: usize = 1_000;
/// The server takes 4 KiB of control line, and closes the connection that sends more.
const MAX_SUBJECT: usize = 3_500;

/// How to connect, whichever server it is.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    /// What the server shows to its operators.
    pub(super) client_name: String,
    /// The user, and where the password is.
    pub(super) user: Option<(String, PathBuf)>,
    /// Whether TLS is insisted on.
    pub(super) tls: bool,
    /// The only authorities to trust.
    pub(super) ca_file: Option<PathBuf>,
}

/// One connection to one server.
pub(super) struct Connection {
    context: jetstream::Context,
    signals: Arc<Signals>,
    /// Acknowledgements that never came.
    lost: AtomicUsize,
    /// What the stream takes, of headers and body together; zero where that is not known.
    max_message_size: AtomicUsize,
}

/// What the client says by itself.
#[derive(Default)]
struct Signals {
    ended: Notify,
    denials: watch::Sender<Denials>,
}

/// Rights that the server said are missing.
#[derive(Default)]
struct Denials {
    /// Grows with each of them.
    count: u64,
    /// The inbox, where acknowledgements arrive, may not be subscribed to.
    inbox: bool,
    /// Subjects that may not be published to, with the count when that was last said.
    subjects: HashMap<String, u64>,
}

/// One call of `publish`.
struct Batch<'a> {
    connection: &'a Connection,
    denials: watch::Receiver<Denials>,
    /// Denials before this batch say nothing about it: rights may have been given since.
    denials_before: u64,
    patience: Patience,
}

/// Ends when nothing has moved for a while.
struct Patience {
    until: Instant,
    sleep: Pin<Box<Sleep>>,
    over: bool,
}

/// Why a question has no answer.
enum Unanswered {
    /// The right to ask is missing.
    Denied,
    NotReady(NotReady),
}

#[derive(Deserialize)]
struct StreamNames {
    #[serde(default)]
    streams: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct StreamInfo {
    config: StreamConfig,
}

#[derive(Deserialize)]
struct StreamConfig {
    /// -1 or 0 where nothing is set.
    #[serde(default)]
    max_msg_size: i64,
}

// === impl Connection ===

impl Connection {
    /// Connects to `server`, or says why not.
    pub(super) async fn open(server: &ServerAddr, credentials: &Credentials) -> Result<Self, NotReady> {
        let Credentials { client_name, user, tls, ca_file } = credentials;
        let mut auth = Auth::new();
        if let Some((user, file)) = user {
            auth.username = Some(user.clone());
            auth.password = Some(read_password(file).await?);
        }
        // The client asks for credentials whenever it connects; after the first time it gets none.
        let spent = Arc::new(AtomicBool::new(false));
        let asked = spent.clone();
        let answer = move |_nonce| {
            let answer = if asked.load(Ordering::Relaxed) {
                Err(AuthError::new("connects only once"))
            } else {
                Ok(auth.clone())
            };
            std::future::ready(answer)
        };
        let signals = Arc::new(Signals::default());
        let listener = signals.clone();
        let mut options = ConnectOptions::with_auth_callback(answer)
            .event_callback(move |event| {
                listener.hear(&event);
                std::future::ready(())
            })
            .name(client_name)
            .require_tls(*tls)
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .ping_interval(PING_INTERVAL)
            .max_reconnects(1)
            .ignore_discovered_servers();
        if let Some(file) = ca_file {
            // The client would not say which file it is that it cannot read.
            tokio::fs::metadata(file).await.map_err(|error| unreadable("CA file", file, &error))?;
            options = options.add_root_certificates(file.clone());
        }
        let client =
            options.connect(server).await.map_err(|error| classify::connect(&error, server.as_url_str()))?;
        spent.store(true, Ordering::Relaxed);
        let context = ContextBuilder::new()
            .timeout(ACK_TIMEOUT * 2) // ours is shorter, and counted differently
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(MAX_ACKS)
            .backpressure_on_inflight(false)
            .build(client);
        Ok(Self { context, signals, lost: AtomicUsize::new(0), max_message_size: AtomicUsize::new(0) })
    }

    /// Comes back when the connection is over, or has served its time.
    pub(super) async fn ended(&self) {
        while self.is_up() {
            tokio::select! {
                () = self.signals.ended.notified() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn is_up(&self) -> bool {
        self.context.client().connection_state() == State::Connected
    }

    /// One attempt for each of `messages`: all are sent before the first acknowledgement is awaited.
    pub(super) async fn publish(&self, messages: &[Message]) -> Vec<Outcome> {
        let mut batch = Batch::new(self);
        let mut sent = Vec::with_capacity(messages.len());
        for message in messages {
            sent.push(batch.send(message).await);
        }
        let mut outcomes = Vec::with_capacity(messages.len());
        for (message, sent) in messages.iter().zip(sent) {
            outcomes.push(match sent {
                Ok(ack) => batch.ack(message, ack).await,
                Err(outcome) => outcome,
            });
        }
        outcomes
    }

    /// Whether a stream (that one, where it is given) takes what matches `subjects`, as far as we may know.
    pub(super) async fn check(&self, subjects: &str, stream: Option<&str>) -> Result<(), NotReady> {
        // One may publish without the right to look at streams: then deliveries have to tell.
        if let Err(Unanswered::NotReady(not_ready)) = self.look(subjects, stream).await {
            return Err(not_ready);
        }
        let denials = self.signals.denials.borrow();
        if denials.inbox {
            self.signals.ended.notify_one(); // the client subscribes only once
            let message = "the user may not subscribe to _INBOX.>, where acknowledgements arrive";
            return Err(NotReady::new("PermissionDenied", message));
        }
        match denials.subjects.keys().find(|subject| !subject.starts_with("$JS.")) {
            Some(subject) => {
                Err(NotReady::new("PermissionDenied", format!("the user may not publish to {subject}")))
            }
            None => Ok(()),
        }
    }

    async fn look(&self, subjects: &str, stream: Option<&str>) -> Result<(), Unanswered> {
        let filter = serde_json::json!({ "subject": subjects });
        let StreamNames { streams } = self.ask("STREAM.NAMES", &filter, None).await?;
        let names = streams.unwrap_or_default();
        let name = match (stream, names.as_slice()) {
            (Some(stream), _) => stream,
            (None, [only]) => only,
            (None, []) => {
                let message = format!("no stream takes subjects like {subjects}");
                return Err(Unanswered::NotReady(NotReady::new("StreamNotFound", message)));
            }
            (None, _) => return Ok(()),
        };
        let StreamInfo { config } =
            self.ask(&format!("STREAM.INFO.{name}"), &serde_json::json!({}), Some(name)).await?;
        self.max_message_size.store(usize::try_from(config.max_msg_size).unwrap_or(0), Ordering::Relaxed);
        if names.iter().any(|taker| taker == name) {
            Ok(())
        } else {
            let message = format!("the stream {name} takes no subjects like {subjects}");
            Err(Unanswered::NotReady(NotReady::new("SubjectNotInStream", message)))
        }
    }

    /// Asks `JetStream`'s API.
    async fn ask<T: DeserializeOwned>(
        &self,
        question: &str,
        payload: &serde_json::Value,
        stream: Option<&str>,
    ) -> Result<T, Unanswered> {
        let mut denials = self.signals.denials.subscribe();
        let before = denials.borrow().count;
        let subject = format!("$JS.API.{question}");
        let request = self.context.request(question.to_owned(), payload);
        let response = tokio::select! {
            biased;
            response = tokio::time::timeout(REQUEST_TIMEOUT, request) => response,
            _ = denials.wait_for(|denials| denials.denies(&subject, before)) => return Err(Unanswered::Denied),
        };
        match response {
            Ok(Ok(Response::Ok(answer))) => Ok(answer),
            Ok(Ok(Response::Err { error })) => Err(Unanswered::NotReady(classify::answer(&error, stream))),
            Ok(Err(error)) => Err(Unanswered::NotReady(classify::request(&error))),
            Err(_elapsed) => {
                Err(Unanswered::NotReady(NotReady::new("Unreachable", "JetStream does not answer in time")))
            }
        }
    }

    /// Ends the connection properly.
    pub(super) async fn close(&self) {
        // The only way to fail is to be closed already.
        let _ = self.context.client().drain().await;
    }

    /// An acknowledgement will never come, or nobody waits for it any more.
    fn lose(&self) {
        if self.lost.fetch_add(1, Ordering::Relaxed) + 1 == MAX_LOST_ACKS {
            self.signals.ended.notify_one();
        }
    }

    fn classify(&self, error: &PublishError, message: &Message) -> Outcome {
        let max_message_size = self.max_message_size.load(Ordering::Relaxed);
        let circumstances = Circumstances {
            size: wire_size(message),
            max_payload: self.context.client().max_payload(),
            max_message_size: (max_message_size > 0).then_some(max_message_size),
            connected: self.is_up(),
        };
        classify::publish(error, message, circumstances)
    }
}

// === impl Batch ===

impl<'a> Batch<'a> {
    fn new(connection: &'a Connection) -> Self {
        let denials = connection.signals.denials.subscribe();
        let denials_before = denials.borrow().count;
        Self { connection, denials, denials_before, patience: Patience::new() }
    }

    /// Hands one Message to the client, which tells right away what is too large.
    async fn send(&mut self, message: &Message) -> Result<PublishAckFuture, Outcome> {
        if self.patience.over {
            return Err(retry("the server takes nothing more"));
        }
        if message.destination.len() > MAX_SUBJECT {
            let length = message.destination.len();
            let reason =
                format!("the subject has {length} bytes, and the server takes at most {MAX_SUBJECT}");
            return Err(Outcome::Rejected { reason: Rejection::Refused(reason) });
        }
        let subject = Subject::from(message.destination.as_str());
        let publish = PublishMessage::build().headers(headers(message)?).payload(message.body.clone());
        let sent = tokio::select! {
            biased;
            sent = self.connection.context.send_publish(subject, publish) => sent,
            () = self.patience.over() => return Err(retry("the server takes nothing more")),
        };
        self.patience.progress();
        sent.map_err(|error| self.connection.classify(&error, message))
    }

    /// Awaits the word of the stream.
    async fn ack(&mut self, message: &Message, ack: PublishAckFuture) -> Outcome {
        let mut ack = ack.into_future();
        if self.patience.over {
            return self.outcome(message, ack.now_or_never());
        }
        let (subject, before) = (&message.destination, self.denials_before);
        let result = tokio::select! {
            biased;
            result = &mut ack => Some(result),
            _ = self.denials.wait_for(|denials| denials.denies(subject, before)) => {
                self.connection.lose();
                return retry(format!("the user may not publish to {subject}, or not subscribe to _INBOX.>"));
            }
            () = self.patience.over() => None,
        };
        self.patience.progress_if(result.is_some());
        self.outcome(message, result)
    }

    fn outcome(&self, message: &Message, result: Option<Result<PublishAck, PublishError>>) -> Outcome {
        match result {
            Some(Ok(_)) => {
                self.connection.signals.allow(&message.destination);
                Outcome::Acked
            }
            Some(Err(error)) => self.connection.classify(&error, message),
            None => {
                self.connection.lose();
                retry("no acknowledgement in time")
            }
        }
    }
}

// === impl Patience ===

impl Patience {
    fn new() -> Self {
        let until = Instant::now() + ACK_TIMEOUT;
        Self { until, sleep: Box::pin(tokio::time::sleep_until(until)), over: false }
    }

    /// Something moved.
    fn progress(&mut self) {
        self.until = Instant::now() + ACK_TIMEOUT;
    }

    fn progress_if(&mut self, moved: bool) {
        if moved {
            self.progress();
        }
    }

    /// Comes back when nothing has moved for too long, and remembers that.
    async fn over(&mut self) {
        while Instant::now() < self.until {
            // One timer for the whole batch: it is set again only when it went off too early.
            if self.sleep.is_elapsed() {
                self.sleep.as_mut().reset(self.until);
            }
            self.sleep.as_mut().await;
        }
        self.over = true;
    }
}

// === impl Signals ===

impl Signals {
    fn hear(&self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed => self.ended.notify_one(),
            Event::ServerError(ServerError::Other(text)) => {
                if let Some(denied) = classify::denied(text) {
                    self.deny(denied);
                }
            }
            Event::ServerError(_)
            | Event::ClientError(_)
            | Event::Connected
            | Event::LameDuckMode
            | Event::Draining
            | Event::SlowConsumer(_) => {}
        }
    }

    fn deny(&self, denied: Denied<'_>) {
        self.denials.send_modify(|denials| {
            denials.count += 1;
            match denied {
                Denied::Subscribe(_) => denials.inbox = true,
                Denied::Publish(subject) => {
                    if denials.subjects.len() < MAX_DENIED || denials.subjects.contains_key(subject) {
                        denials.subjects.insert(subject.to_owned(), denials.count);
                    }
                }
            }
        });
    }

    /// A publish to `subject` was acknowledged.
    fn allow(&self, subject: &str) {
        if !self.denials.borrow().subjects.is_empty() {
            self.denials.send_if_modified(|denials| denials.subjects.remove(subject).is_some());
        }
    }
}

// === impl Denials ===

impl Denials {
    /// Whether a publish to `subject`, or its answer, was denied after the first `before` denials.
    fn denies(&self, subject: &str, before: u64) -> bool {
        self.inbox || self.subjects.get(subject).is_some_and(|at| *at > before)
    }
}

/// The block of headers starts with `NATS/1.0` and ends with an empty line.
fn wire_size(message: &Message) -> usize {
    message.size() + 12
}

fn headers(message: &Message) -> Result<HeaderMap, Outcome> {
    let mut headers = HeaderMap::new();
    for (name, value) in &message.headers {
        let refused =
            || Outcome::Rejected { reason: Rejection::Refused(format!("the header {name} is not legal")) };
        let header = match name {
            Cow::Borrowed(name) => HeaderName::from_static(name),
            Cow::Owned(name) => name.parse().map_err(|_| refused())?,
        };
        let value: HeaderValue = value.parse().map_err(|_| refused())?;
        headers.insert(header, value);
    }
    Ok(headers)
}

async fn read_password(file: &PathBuf) -> Result<String, NotReady> {
    let mut password =
        tokio::fs::read_to_string(file).await.map_err(|error| unreadable("password file", file, &error))?;
    if password.ends_with('\n') {
        password.pop();
        if password.ends_with('\r') {
            password.pop();
        }
    }
    Ok(password)
}

/// The path tells the operator of the bridge where to look; it holds no secret.
fn unreadable(what: &str, file: &std::path::Path, error: &std::io::Error) -> NotReady {
    NotReady::new("CredentialsUnavailable", format!("the {what} {} cannot be read: {error}", file.display()))
}
