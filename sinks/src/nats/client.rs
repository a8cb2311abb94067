//! Delivers to NATS `JetStream`, over one connection at a time that is opened again whenever it is lost.
//!
//! Before: sinks/src/nats/encode.rs
//! Next: sinks/src/nats/connection.rs

use std::sync::Arc;
use std::time::Duration;

use async_nats::ServerAddr;
use async_trait::async_trait;
use tidings_config::sink::nats::{ValidNatsAddress, ValidNatsConnection};
use tidings_core::delivery::{Backoff, Outcome};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Credentials};
use super::encode::wildcards;
use crate::SinkContext;
use crate::message::Message;
use crate::sink::{NotReady, Sink, retry};

/// How long a delivery waits for a connection that is being made.
const LINK_TIMEOUT: Duration = Duration::from_secs(5);
/// Before the next round of attempts.
const RECONNECT: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(5) };
/// A connection that does not last that long counts as a failed attempt.
const STABLE: Duration = Duration::from_secs(5);

/// What a Subscription sends by. Several may share the connection.
pub struct NatsSink {
    connection: Arc<NatsConnection>,
    stream: Option<String>,
    /// With wildcards, what all our subjects match.
    subjects: String,
}

/// Keeps a connection to one of several servers. Dropping it ends the connection.
pub struct NatsConnection {
    link: Arc<watch::Sender<Link>>,
    keeper: JoinHandle<()>,
}

/// How the connection is doing.
#[derive(Clone)]
enum Link {
    /// The first attempt, or the first after a loss, is under way.
    Connecting,
    /// It stands.
    Up(Arc<Connection>),
    /// The last round of attempts failed; the next one comes.
    Down(NotReady),
    /// [`NatsConnection::close`] was called.
    Closed,
}

// === impl NatsConnection ===

impl NatsConnection {
    /// Begins to connect in the background.
    pub fn open(valid: ValidNatsConnection, context: SinkContext) -> Self {
        // The client looks at the process's default even where it is given everything; that it is set already is fine.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ValidNatsConnection { servers, domain, auth, tls } = valid;
        let SinkContext { secrets, owner } = context;
        let client_name = format!("tidings {owner}");
        let credentials = Credentials { client_name, domain, auth, tls, secrets };
        // The only thing that could be wrong is the scheme, and the settings were validated.
        let servers = servers.into_iter().filter_map(|url| ServerAddr::from_url(url).ok()).collect();

        let link = Arc::new(watch::Sender::new(Link::Connecting));
        let keeper = tokio::spawn(keep(servers, credentials, link.clone()));
        Self { link, keeper }
    }

    /// Whether there is a connection. Waits while one is being made.
    pub async fn check(&self) -> Result<(), NotReady> {
        self.connection().await.map(drop)
    }

    /// The connection, or why there is none. Waits while one is being made.
    async fn connection(&self) -> Result<Arc<Connection>, NotReady> {
        let mut link = self.link.subscribe();
        let decided = timeout(LINK_TIMEOUT, link.wait_for(|link| !matches!(link, Link::Connecting))).await;
        match decided.map(|link| link.map(|link| link.clone())) {
            Ok(Ok(Link::Up(connection))) => Ok(connection),
            Ok(Ok(Link::Down(not_ready))) => Err(not_ready),
            Ok(Ok(Link::Closed)) => Err(NotReady::new("Closed", "the sink is closed")),
            Ok(Ok(Link::Connecting) | Err(_)) | Err(_) => {
                Err(NotReady::new("Unreachable", "the connection is still being made"))
            }
        }
    }

    async fn close(&self, deadline: Duration) {
        self.keeper.abort();
        if let Link::Up(connection) = self.link.send_replace(Link::Closed) {
            let _ = timeout(deadline, connection.close()).await;
        }
    }
}

impl Drop for NatsConnection {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

// === impl NatsSink ===

impl NatsSink {
    /// Sends to `address` by `connection`.
    pub fn new(connection: Arc<NatsConnection>, address: &ValidNatsAddress) -> Self {
        let ValidNatsAddress { stream, subject } = address;
        Self { connection, stream: stream.clone(), subjects: wildcards(subject) }
    }
}

#[async_trait]
impl Sink for NatsSink {
    async fn check(&self) -> Result<(), NotReady> {
        self.connection.connection().await?.check(&self.subjects, self.stream.as_deref()).await
    }

    async fn deliver(&self, messages: &[Message]) -> Vec<Outcome> {
        match self.connection.connection().await {
            Ok(connection) => connection.publish(messages).await,
            Err(not_ready) => vec![retry(not_ready.message); messages.len()],
        }
    }

    async fn close(&self, deadline: Duration) {
        // Others may go on with it.
        if Arc::strong_count(&self.connection) == 1 {
            self.connection.close(deadline).await;
        }
    }
}

/// Keeps a connection to one of `servers`, for ever.
async fn keep(servers: Vec<ServerAddr>, credentials: Credentials, link: Arc<watch::Sender<Link>>) {
    let mut failures = 0;
    loop {
        match open(&servers, &credentials).await {
            Ok(connection) => {
                let since = Instant::now();
                let connection = Arc::new(connection);
                link.send_replace(Link::Up(connection.clone()));
                connection.ended().await;
                link.send_replace(Link::Connecting);
                if since.elapsed() >= STABLE {
                    failures = 0;
                    continue;
                }
            }
            Err(not_ready) => {
                link.send_replace(Link::Down(not_ready));
            }
        }
        failures += 1;
        tokio::time::sleep(RECONNECT.delay(failures, fastrand::f64())).await;
    }
}

/// A connection to the first server that gives one, or what the last one said.
async fn open(servers: &[ServerAddr], credentials: &Credentials) -> Result<Connection, NotReady> {
    let mut last = NotReady::new("Unreachable", "there is no server to connect to");
    for server in servers {
        match Connection::open(server, credentials).await {
            Ok(connection) => return Ok(connection),
            Err(not_ready) => last = not_ready,
        }
    }
    Err(last)
}
