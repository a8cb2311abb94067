//! Delivers to NATS `JetStream`, over one connection at a time that is opened again whenever it is lost.
//!
//! Before: sinks/src/nats/encode.rs
//! Next: sinks/src/nats/connection.rs

use std::sync::Arc;
use std::time::Duration;

use async_nats::ServerAddr;
use async_trait::async_trait;
use tidings_config::sink::nats::{ValidNatsAddress, ValidNatsConnection};
use tidings_core::delivery::Outcome;
use tokio::time::timeout;

use super::connection::{Connection, Credentials};
use super::encode::wildcards;
use crate::SinkContext;
use crate::link::{Dial, Kept};
use crate::message::Message;
use crate::sink::{NotReady, Sink, retry};

/// What a Subscription sends by. Several may share the connection.
pub struct NatsSink {
    connection: Arc<NatsConnection>,
    stream: Option<String>,
    /// With wildcards, what all our subjects match.
    subjects: String,
}

/// Keeps a connection to one of several servers. Dropping it ends the connection.
pub struct NatsConnection(Kept<Connection>);

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

        Self(Kept::to(servers, credentials))
    }

    /// Whether there is a connection. Waits while one is being made.
    pub async fn check(&self) -> Result<(), NotReady> {
        self.0.get().await.map(drop)
    }

    async fn close(&self, deadline: Duration) {
        if let Some(connection) = self.0.close() {
            let _ = timeout(deadline, connection.close()).await;
        }
    }
}

impl Dial for Credentials {
    type Server = ServerAddr;
    type Connection = Connection;

    async fn dial(&self, server: &ServerAddr) -> Result<Connection, NotReady> {
        Connection::open(server, self).await
    }

    async fn ended(connection: &Connection) {
        connection.ended().await;
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
        self.connection.0.get().await?.check(&self.subjects, self.stream.as_deref()).await
    }

    async fn deliver(&self, messages: &[Message]) -> Vec<Outcome> {
        match self.connection.0.get().await {
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
