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
use tidings_core::delivery::{Backoff, Outcome};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use url::Url;

use super::batch::Batch;
use super::classify;
use super::connection::{Connection, Credentials, Health, REQUEST_TIMEOUT};
use crate::SinkContext;
use crate::answer::Places;
use crate::message::Message;
use crate::sink::{NotReady, Sink, retry};

/// How long a delivery waits for a connection that is being made.
const LINK_TIMEOUT: Duration = Duration::from_secs(5);
/// Before the next round of attempts.
const RECONNECT: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(5) };
/// A connection that does not last that long counts as a failed attempt.
const STABLE: Duration = Duration::from_secs(5);

/// What a Subscription sends by. Several may share the connection.
pub struct RabbitmqSink {
    connection: Arc<RabbitmqConnection>,
    place: Place,
    places: Places,
}

/// Keeps a connection to one of several servers. Dropping it ends the connection.
pub struct RabbitmqConnection {
    link: Arc<watch::Sender<Link>>,
    keeper: JoinHandle<()>,
}

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

/// How the connection is doing.
#[derive(Clone)]
enum Link {
    /// The first attempt, or the first after a loss, is under way.
    Connecting,
    /// It stands.
    Up(Arc<Connection>),
    /// The last round of attempts failed; the next one comes.
    Down(NotReady),
    /// [`RabbitmqConnection::close`] was called.
    Closed,
}

// === impl RabbitmqConnection ===

impl RabbitmqConnection {
    /// Begins to connect in the background.
    pub fn open(valid: ValidRabbitmqConnection, context: SinkContext) -> Self {
        let ValidRabbitmqConnection { servers, virtual_host, auth, tls } = valid;
        let SinkContext { secrets, owner } = context;
        let client_name = format!("tidings {owner}");
        let credentials = Credentials { client_name, virtual_host, auth, tls, secrets };
        let link = Arc::new(watch::Sender::new(Link::Connecting));
        let keeper = tokio::spawn(keep(servers, credentials, link.clone()));
        Self { link, keeper }
    }

    /// Whether there is a connection on which the broker answers, and takes Messages. Waits while one is being made.
    pub async fn check(&self) -> Result<(), NotReady> {
        self.look(&Place::Unknown).await
    }

    /// The same, and whether `place` is there.
    async fn look(&self, place: &Place) -> Result<(), NotReady> {
        let connection = self.connection().await?;
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
        if let Link::Up(connection) = self.link.send_replace(Link::Closed)
            && timeout(deadline, connection.close()).await.is_err()
        {
            connection.give_up();
        }
    }
}

impl Drop for RabbitmqConnection {
    fn drop(&mut self) {
        self.keeper.abort();
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
        let connection = match self.connection.connection().await {
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

/// Keeps a connection to one of `servers`, for ever.
async fn keep(servers: Vec<Url>, credentials: Credentials, link: Arc<watch::Sender<Link>>) {
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
async fn open(servers: &[Url], credentials: &Credentials) -> Result<Connection, NotReady> {
    let mut last = NotReady::new("Unreachable", "there is no server to connect to");
    for server in servers {
        match Connection::open(server, credentials).await {
            Ok(connection) => return Ok(connection),
            Err(not_ready) => last = not_ready,
        }
    }
    Err(last)
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
