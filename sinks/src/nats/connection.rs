//! One connection to one server, from its handshake to its end.
//!
//! The client would reconnect by itself, send what it had buffered before, and let acknowledgements time out that
//! can never come. Here a connection that is lost is over: what is awaited on it fails at once, nothing stale is
//! ever sent, and `client.rs` opens the next one.
//!
//! Before: sinks/src/nats/client.rs
//! Next: sinks/src/nats/batch.rs

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::jetstream::context::{ContextBuilder, PublishError};
use async_nats::jetstream::response::Response;
use async_nats::{AuthError, ConnectOptions, ServerAddr};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidings_config::secret::Secrets;
use tidings_config::sink::nats::ValidNatsAuth;
use tidings_config::sink::tls::ValidTls;
use tidings_core::delivery::Outcome;

use super::batch::{ACK_TIMEOUT, Batch, wire_size};
use super::classify::{self, Circumstances};
use super::encode::matches;
use super::identity::Identity;
use super::signals::Signals;
use crate::message::Message;
use crate::sink::NotReady;
use crate::tls;

/// For TCP, TLS and the handshake of NATS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
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
/// What people read when acknowledgements cannot arrive.
pub(super) const INBOX_DENIED: &str = "the user may not subscribe to _INBOX.>, where acknowledgements arrive";

/// How to connect, whichever server it is.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    /// What the server shows to its operators.
    pub(super) client_name: String,
    /// The JetStream domain.
    pub(super) domain: Option<String>,
    /// Who the bridge is.
    pub(super) auth: Option<ValidNatsAuth>,
    /// Whether TLS is insisted on, and with whom.
    pub(super) tls: Option<ValidTls>,
    /// The values of both.
    pub(super) secrets: Secrets,
}

/// One connection to one server.
pub(super) struct Connection {
    context: jetstream::Context,
    /// What questions to `JetStream` begin with.
    prefix: String,
    signals: Arc<Signals>,
    /// Acknowledgements that never came.
    lost: AtomicUsize,
    /// What the stream takes, of headers and body together; zero where that is not known.
    max_message_size: AtomicUsize,
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
        let Credentials { client_name, domain, auth, tls, secrets } = credentials;
        let identity = Identity::new(auth.as_ref(), secrets)?;
        // The client asks for credentials whenever it connects; after the first time it gets none.
        let spent = Arc::new(AtomicBool::new(false));
        let asked = spent.clone();
        let answer = move |nonce: Vec<u8>| {
            let answer = if asked.load(Ordering::Relaxed) {
                Err(AuthError::new("connects only once"))
            } else {
                identity.answer(&nonce)
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
            .require_tls(tls.is_some())
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .ping_interval(PING_INTERVAL)
            .max_reconnects(1)
            .ignore_discovered_servers();
        if let Some(tls) = tls {
            options = options.tls_client_config(tls::client_config(tls, secrets)?);
        }
        let client =
            options.connect(server).await.map_err(|error| classify::connect(&error, server.as_url_str()))?;
        spent.store(true, Ordering::Relaxed);
        let prefix = domain.as_ref().map_or("$JS.API".to_owned(), |domain| format!("$JS.{domain}.API"));
        let context = ContextBuilder::new()
            .api_prefix(&prefix)
            .timeout(ACK_TIMEOUT * 2) // ours is shorter, and counted differently
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(MAX_ACKS)
            .backpressure_on_inflight(false)
            .build(client);
        Ok(Self {
            context,
            prefix,
            signals,
            lost: AtomicUsize::new(0),
            max_message_size: AtomicUsize::new(0),
        })
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

    /// Where Messages go.
    pub(super) fn context(&self) -> &jetstream::Context {
        &self.context
    }

    /// What was said beside the protocol.
    pub(super) fn signals(&self) -> &Signals {
        &self.signals
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
            return Err(NotReady::new("PermissionDenied", INBOX_DENIED));
        }
        match denials.subjects.keys().find(|subject| matches(subjects, subject)) {
            Some(subject) => Err(NotReady::new("PermissionDenied", publish_denied(subject))),
            None => Ok(()),
        }
    }

    /// The stream that has `subjects`: that one, where it is given, or the only one there is.
    pub(super) async fn stream_of(&self, subjects: &str, stream: Option<&str>) -> Result<String, NotReady> {
        if let Some(stream) = stream {
            return Ok(stream.to_owned());
        }
        let filter = serde_json::json!({ "subject": subjects });
        let streams = match self.ask::<StreamNames>("STREAM.NAMES", &filter, None).await {
            Ok(StreamNames { streams }) => streams.unwrap_or_default(),
            Err(Unanswered::NotReady(not_ready)) => return Err(not_ready),
            Err(Unanswered::Denied) => {
                let message = "the user may not ask which stream it is: name it in the settings (`stream`)";
                return Err(NotReady::new("PermissionDenied", message));
            }
        };
        match streams.as_slice() {
            [only] => Ok(only.clone()),
            [] => {
                let message = format!("no stream takes subjects like {subjects}");
                Err(NotReady::new("StreamNotFound", message))
            }
            several => {
                let message = format!(
                    "several streams take subjects like {subjects}: name one of them in the settings (`stream`): {}",
                    several.join(", ")
                );
                Err(NotReady::new("StreamNotFound", message))
            }
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
        let info = self.ask(&format!("STREAM.INFO.{name}"), &serde_json::json!({}), Some(name)).await;
        if let Ok(StreamInfo { config }) = &info {
            let limit = usize::try_from(config.max_msg_size).unwrap_or(0);
            self.max_message_size.store(limit, Ordering::Relaxed);
        }
        match info {
            Err(Unanswered::NotReady(not_ready)) => Err(Unanswered::NotReady(not_ready)),
            _ if names.iter().any(|taker| taker == name) => Ok(()),
            _ => {
                let message = format!("the stream {name} takes no subjects like {subjects}");
                Err(Unanswered::NotReady(NotReady::new("SubjectNotInStream", message)))
            }
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
        let subject = format!("{}.{question}", self.prefix);
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
    pub(super) fn lose(&self) {
        if self.lost.fetch_add(1, Ordering::Relaxed) + 1 == MAX_LOST_ACKS {
            self.signals.ended.notify_one();
        }
    }

    /// What became of the publish of `message`.
    pub(super) fn classify(&self, error: &PublishError, message: &Message) -> Outcome {
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

/// What people read when a subject may not be published to.
pub(super) fn publish_denied(subject: &str) -> String {
    format!("the user may not publish to {subject}")
}
