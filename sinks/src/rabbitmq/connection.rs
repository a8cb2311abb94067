//! One connection to one server, from its handshake to its end.
//!
//! The client could recover a connection by itself, and would then send what nobody knows of any more. Here one that is
//! lost is over: what is awaited on it fails at once, and `client.rs` opens the next one.
//!
//! Before: sinks/src/rabbitmq/client.rs
//! Next: sinks/src/rabbitmq/batch.rs

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd as _;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use lapin::options::ConfirmSelectOptions;
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{Channel, ConnectionProperties, Event};
use tidings_config::secret::Secrets;
use tidings_config::sink::rabbitmq::ValidRabbitmqAuth;
use tidings_config::sink::tls::ValidTls;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

use super::classify::{self, Attempt};
use crate::sink::NotReady;
use crate::tls;

/// For TCP, TLS and the handshake of AMQP together.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer to a question.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which the broker says nothing for twice as long is over.
const HEARTBEAT_SECONDS: u16 = 10;
/// The client keeps 64 frames of this size for each connection, so that the usual 128 KiB would be 8 MiB; larger ones save
/// nothing.
const FRAME_BYTES: u32 = 16 << 10;
/// Between looks at whether the connection still stands, should the client's word of it get lost.
const LOOK: Duration = Duration::from_millis(250);
/// For a farewell that nobody waits for.
const FAREWELL: Duration = Duration::from_secs(1);
/// Channels that are kept for the next batch.
const MAX_IDLE: usize = 16;

/// How to connect, whichever server it is.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    /// What the server shows to its operators.
    pub(super) client_name: String,
    pub(super) virtual_host: String,
    pub(super) auth: ValidRabbitmqAuth,
    pub(super) tls: ValidTls,
    /// The values of both.
    pub(super) secrets: Secrets,
}

/// How a connection is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    /// The broker takes nothing from who publishes, for this reason.
    Blocked(String),
    Over,
}

/// One connection to one server. Dropping it ends it.
pub(super) struct Connection {
    amqp: Arc<lapin::Connection>,
    socket: Option<Socket>,
    health: watch::Sender<Health>,
    listener: JoinHandle<()>,
    /// Channels with confirms, on which nothing is awaited.
    idle: Mutex<Vec<Channel>>,
    /// What the broker takes of one body; zero where that is not known.
    max_message_size: AtomicUsize,
}

/// The socket below the client, which would wait for ever for the farewell of a broker that hangs. Dropping it ends
/// whatever is on it.
struct Socket(Arc<Mutex<Option<std::net::TcpStream>>>);

// === impl Connection ===

impl Connection {
    /// Connects to `server`, or says why not.
    pub(super) async fn open(server: &Url, credentials: &Credentials) -> Result<Self, NotReady> {
        let Credentials { client_name, virtual_host, auth, tls, secrets } = credentials;
        let (uri, connector) = target(server, virtual_host, auth, tls, secrets)?;
        let socket = Socket(Arc::default());
        let user = match auth {
            ValidRabbitmqAuth::Password { user, .. } => Some(user.as_str()),
            ValidRabbitmqAuth::External => None,
        };
        let attempt = Attempt { server: server.as_str(), virtual_host, user };
        let opened = timeout(CONNECT_TIMEOUT, connect(uri, connector, client_name, &socket)).await;
        let amqp = match opened {
            Ok(Ok(amqp)) => Arc::new(amqp),
            Ok(Err(error)) => return Err(classify::connect(&error, attempt)),
            Err(_elapsed) => return Err(NotReady::new("Unreachable", format!("{server} does not answer"))),
        };
        let health = watch::Sender::new(Health::Well);
        let listener = tokio::spawn(listen(amqp.events_listener(), amqp.clone(), health.clone()));
        Ok(Self {
            amqp,
            socket: Some(socket),
            health,
            listener,
            idle: Mutex::default(),
            max_message_size: AtomicUsize::new(0),
        })
    }

    /// How it is doing.
    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Comes back when it is over.
    pub(super) async fn ended(&self) {
        // The only way to fail is that the sender is gone, and we have it.
        let _ = self.health.subscribe().wait_for(|health| *health == Health::Over).await;
    }

    /// Ends it without a farewell, because the broker does not answer.
    pub(super) fn give_up(&self) {
        if let Some(socket) = &self.socket {
            socket.shut_down();
        }
        self.health.send_replace(Health::Over);
    }

    /// Ends it properly.
    pub(super) async fn close(&self) {
        // The only way to fail is to be closed already.
        let _ = self.amqp.close(REPLY_SUCCESS, "OK".into()).await;
        self.health.send_replace(Health::Over);
    }

    /// A channel without any past, for a question: a refusal would end it.
    pub(super) async fn new_channel(&self) -> lapin::Result<Channel> {
        self.amqp.create_channel().await
    }

    /// A channel with confirms, for one batch alone: what is returned or closed then is of that batch.
    pub(super) async fn channel(&self) -> lapin::Result<Channel> {
        while let Some(channel) = self.idle().pop() {
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = self.amqp.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    /// Takes back a channel on which nothing is awaited any more.
    pub(super) fn give_back(&self, channel: Channel) {
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push(channel);
        }
    }

    /// What the broker takes of one body, where that is known.
    pub(super) fn max_message_size(&self) -> Option<usize> {
        Some(self.max_message_size.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// The broker said what it takes.
    pub(super) fn set_max_message_size(&self, limit: usize) {
        self.max_message_size.store(limit, Ordering::Relaxed);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.listener.abort();
        self.idle().clear();
        let socket = self.socket.take();
        if *self.health.borrow() != Health::Over
            && let Ok(runtime) = Handle::try_current()
        {
            let amqp = self.amqp.clone();
            runtime.spawn(async move {
                let _ = timeout(FAREWELL, amqp.close(REPLY_SUCCESS, "OK".into())).await;
                drop(socket);
            });
        }
    }
}

// === impl Socket ===

impl Socket {
    fn shut_down(&self) {
        if let Some(stream) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The only way to fail is to be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Where the client connects to, and with which TLS.
fn target(
    server: &Url,
    virtual_host: &str,
    auth: &ValidRabbitmqAuth,
    tls: &ValidTls,
    secrets: &Secrets,
) -> Result<(AMQPUri, Option<RustlsConnector>), NotReady> {
    let secure = server.scheme() == "amqps";
    let scheme = if secure { AMQPScheme::AMQPS } else { AMQPScheme::AMQP };
    let connector =
        secure.then(|| tls::client_config(tls, secrets).map(RustlsConnector::from)).transpose()?;
    let (username, password, mechanism) = match auth {
        ValidRabbitmqAuth::Password { user, password } => {
            (user.clone(), secrets.text(password)?.to_owned(), SASLMechanism::Plain)
        }
        ValidRabbitmqAuth::External => (String::new(), String::new(), SASLMechanism::External),
    };
    // Brackets around an address of IPv6 belong to the URL.
    let host = server.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = server.port().unwrap_or(if secure { 5671 } else { 5672 });
    let query = AMQPQueryString {
        frame_max: Some(FRAME_BYTES),
        heartbeat: Some(HEARTBEAT_SECONDS),
        auth_mechanism: Some(mechanism),
        ..AMQPQueryString::default()
    };
    let authority = AMQPAuthority { userinfo: AMQPUserInfo { username, password }, host, port };
    Ok((AMQPUri { scheme, authority, vhost: virtual_host.to_owned(), query }, connector))
}

async fn connect(
    uri: AMQPUri,
    connector: Option<RustlsConnector>,
    client_name: &str,
    socket: &Socket,
) -> lapin::Result<lapin::Connection> {
    let host = uri.authority.host.clone();
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((host.as_str(), uri.authority.port)).await?.collect();
    let slot = socket.0.clone();
    let properties = ConnectionProperties::default().with_connection_name(client_name.into());
    let runtime = lapin::runtime::default_runtime()?;
    lapin::Connection::connector(
        uri,
        runtime,
        async move |_, runtime| {
            let mut last = io::Error::other("the name has no address");
            for address in &addresses {
                // The thread that waits for this is the client's own, and outlives whoever gives up.
                let connected = timeout(CONNECT_TIMEOUT, AsyncTcpStream::connect(&runtime, *address)).await;
                let stream = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok(stream) => stream,
                    Err(error) => {
                        last = error;
                        continue;
                    }
                };
                if let AsyncTcpStream::Plain(plain) = &stream {
                    let below = std::net::TcpStream::from(plain.get_ref().as_fd().try_clone_to_owned()?);
                    below.set_nodelay(true)?;
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(below);
                }
                return match &connector {
                    None => Ok(stream),
                    Some(connector) => timeout(CONNECT_TIMEOUT, stream.into_rustls(connector, &host))
                        .await
                        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                        .map_err(Into::into),
                };
            }
            Err(last.into())
        },
        properties,
    )
    .await
}

/// Notes what the client says by itself, until the connection is over.
async fn listen(
    events: impl Stream<Item = Event>,
    amqp: Arc<lapin::Connection>,
    health: watch::Sender<Health>,
) {
    let mut events = pin!(events);
    if amqp.status().blocked() {
        health.send_replace(Health::Blocked("no reason given".to_owned()));
    }
    while amqp.status().connected() {
        tokio::select! {
            Some(event) = events.next() => match event {
                Event::ConnectionBlocked(reason) => drop(health.send_replace(Health::Blocked(reason))),
                Event::ConnectionUnblocked => drop(health.send_replace(Health::Well)),
                // What of these ends the connection is seen in its status.
                Event::Connected | Event::SendFlow(_) | Event::Error(_) | _ => {}
            },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    health.send_replace(Health::Over);
}
