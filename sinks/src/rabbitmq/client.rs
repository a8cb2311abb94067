//! Delivers to RabbitMQ, over one connection at a time that is opened again whenever it is lost.
//!
//! Before: sinks/src/rabbitmq/encode.rs
//! Next: sinks/src/rabbitmq/connection.rs

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};
use tidings_config::sink::rabbitmq::{
    DeclareExchangeSettings, ExchangeType, ValidRabbitmqAddress, ValidRabbitmqConnection,
};
use tidings_core::delivery::Outcome;
use tokio::time::timeout;
use url::Url;

use super::batch::Batch;
use super::classify;
use super::connection::{Connection, Credentials, Health, REQUEST_TIMEOUT};
use crate::SinkContext;
use crate::answer::Places;
use crate::link::{Dial, Kept};
use crate::message::Message;
use crate::sink::{NotReady, Sink, retry};

/// What a Subscription sends by. Several may share the connection.
pub struct RabbitmqSink {
    connection: Arc<RabbitmqConnection>,
    place: Place,
    places: Places,
}

/// Keeps a connection to one of several servers. Dropping it ends the connection.
pub struct RabbitmqConnection(Kept<Connection>);

/// What can be looked at before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// An exchange, to be declared like this or to be there.
    Exchange(String, Option<DeclareExchangeSettings>),
    /// A queue behind the default exchange.
    Queue(String),
    /// Only an Event tells where it goes.
    Unknown,
}

// === impl RabbitmqConnection ===

impl RabbitmqConnection {
    /// Begins to connect in the background.
    pub fn open(valid: ValidRabbitmqConnection, context: SinkContext) -> Self {
        let ValidRabbitmqConnection { servers, virtual_host, auth, tls } = valid;
        let SinkContext { secrets, owner } = context;
        let client_name = format!("tidings {owner}");
        let credentials = Credentials { client_name, virtual_host, auth, tls, secrets };
        Self(Kept::to(servers, credentials))
    }

    /// Whether there is a connection on which the broker answers, and takes Messages. Waits while one is being made.
    pub async fn check(&self) -> Result<(), NotReady> {
        self.look(&Place::Unknown).await
    }

    /// The same, and whether `place` is there.
    async fn look(&self, place: &Place) -> Result<(), NotReady> {
        let connection = self.0.get().await?;
        let mut health = connection.health();
        let blocked = health.wait_for(|health| matches!(health, Health::Blocked(_)));
        // One that is blocked is not read any more, so a question may get no answer.
        tokio::select! {
            biased;
            Ok(health) = blocked => {
                let reason = if let Health::Blocked(reason) = &*health { reason.as_str() } else { "" };
                Err(NotReady::new("Blocked", format!("the broker blocks who publishes: {reason}")))
            }
            looked = timeout(REQUEST_TIMEOUT, look(&connection, place)) => looked.unwrap_or_else(|_| {
                connection.give_up();
                Err(NotReady::new("Unreachable", "the broker does not answer in time"))
            }),
        }
    }

    async fn close(&self, deadline: Duration) {
        if let Some(connection) = self.0.close()
            && timeout(deadline, connection.close()).await.is_err()
        {
            connection.give_up();
        }
    }
}

impl Dial for Credentials {
    type Server = Url;
    type Connection = Connection;

    async fn dial(&self, server: &Url) -> Result<Connection, NotReady> {
        Connection::open(server, self).await
    }

    async fn ended(connection: &Connection) {
        connection.ended().await;
    }
}

// === impl RabbitmqSink ===

impl RabbitmqSink {
    /// Sends to `address` by `connection`.
    pub fn new(connection: Arc<RabbitmqConnection>, address: &ValidRabbitmqAddress) -> Self {
        let ValidRabbitmqAddress { exchange, routing_key, declare, header_prefix: _ } = address;
        let place = match (exchange.as_literal(), routing_key.as_literal()) {
            (Some(""), Some(queue)) => Place::Queue(queue.to_owned()),
            (Some(""), None) | (None, _) => Place::Unknown,
            (Some(exchange), _) => Place::Exchange(exchange.to_owned(), declare.clone()),
        };
        Self { connection, place, places: Places::default() }
    }
}

#[async_trait]
impl Sink for RabbitmqSink {
    async fn check(&self) -> Result<(), NotReady> {
        self.connection.look(&self.place).await?;
        self.places.check()
    }

    async fn deliver(&self, messages: &[Message]) -> Vec<Outcome> {
        let connection = match self.connection.0.get().await {
            Ok(connection) => connection,
            Err(not_ready) => return vec![retry(not_ready.message); messages.len()],
        };
        let answers = Batch::new(&connection, messages).run().await;
        self.places.note(messages, answers)
    }

    async fn close(&self, deadline: Duration) {
        // Others may go on with it.
        if Arc::strong_count(&self.connection) == 1 {
            self.connection.close(deadline).await;
        }
    }
}

/// Whether the broker answers and has `place`, which takes no more rights than to publish, unless it is to be declared.
async fn look(connection: &Connection, place: &Place) -> Result<(), NotReady> {
    let channel = connection.new_channel().await;
    let channel = channel.map_err(|error| classify::look(&error, "a channel", "Unreachable"))?;
    match place {
        Place::Exchange(exchange, declare) => exchange_is_there(&channel, exchange, declare.as_ref()).await,
        Place::Queue(queue) => {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let looked = channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await;
            let what = format!("the queue {queue:?}");
            looked.map(drop).map_err(|error| classify::look(&error, &what, "QueueNotFound"))
        }
        Place::Unknown => Ok(()),
    }
}

async fn exchange_is_there(
    channel: &Channel,
    exchange: &str,
    declare: Option<&DeclareExchangeSettings>,
) -> Result<(), NotReady> {
    let (kind, options) = match declare {
        None => {
            let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            (ExchangeKind::default(), options)
        }
        Some(DeclareExchangeSettings { kind, durable }) => {
            let options = ExchangeDeclareOptions { durable: *durable, ..ExchangeDeclareOptions::default() };
            let kind = match kind {
                ExchangeType::Topic => ExchangeKind::Topic,
                ExchangeType::Direct => ExchangeKind::Direct,
                ExchangeType::Fanout => ExchangeKind::Fanout,
                ExchangeType::Headers => ExchangeKind::Headers,
            };
            (kind, options)
        }
    };
    let looked = channel.exchange_declare(exchange.into(), kind, options, FieldTable::default()).await;
    let what = format!("the exchange {exchange:?}");
    looked.map_err(|error| classify::look(&error, &what, "ExchangeNotFound"))
}
