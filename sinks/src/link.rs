//! What stands behind every connection that is kept up in the background: how it is doing, for all who share it, and the loop
//! that makes it again whenever it is lost.
//!
//! Before: sinks/src/sink.rs

use std::sync::Arc;
use std::time::Duration;

use tidings_core::delivery::Backoff;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::sink::NotReady;

/// How long a delivery waits for a connection that is being made.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before the next round of attempts.
pub(crate) const RECONNECT: Backoff =
    Backoff { first: Duration::from_millis(100), max: Duration::from_secs(5) };
/// A connection that does not last that long counts as a failed attempt.
pub(crate) const STABLE: Duration = Duration::from_secs(5);

/// How a connection is doing.
pub(crate) struct Link<C> {
    state: watch::Sender<State<C>>,
}

enum State<C> {
    /// The first attempt, or the first after a loss, is under way.
    Making,
    /// It stands.
    Up(Arc<C>),
    /// The last round of attempts failed; the next one comes.
    Down(NotReady),
    /// It is wanted no more, which is the end.
    Closed,
}

/// A link, and the task that keeps it. Dropping it ends the connection.
pub(crate) struct Kept<C> {
    link: Arc<Link<C>>,
    keeper: JoinHandle<()>,
}

/// How a connection to one server is made, and how long it lasts.
pub(crate) trait Dial: Send + Sync + 'static {
    /// Where to.
    type Server: Send + Sync;
    /// What comes of it.
    type Connection: Send + Sync + 'static;

    /// One attempt.
    fn dial(&self, server: &Self::Server) -> impl Future<Output = Result<Self::Connection, NotReady>> + Send;

    /// Comes back when the connection is over.
    fn ended(connection: &Self::Connection) -> impl Future<Output = ()> + Send;
}

// === impl Link ===

impl<C> Link<C> {
    /// The first attempt is under way.
    pub(crate) fn new() -> Self {
        Self { state: watch::Sender::new(State::Making) }
    }

    /// The connection, or why there is none. Waits while one is being made.
    pub(crate) async fn get(&self) -> Result<Arc<C>, NotReady> {
        let mut state = self.state.subscribe();
        let decided = timeout(PATIENCE, state.wait_for(|state| !matches!(state, State::Making))).await;
        if let Ok(Ok(state)) = decided {
            match &*state {
                State::Up(connection) => return Ok(connection.clone()),
                State::Down(not_ready) => return Err(not_ready.clone()),
                State::Closed => return Err(NotReady::new("Closed", "the sink is closed")),
                State::Making => {}
            }
        }
        Err(NotReady::new("Unreachable", "the connection is still being made"))
    }

    /// It is being made anew.
    pub(crate) fn making(&self) {
        self.set(State::Making);
    }

    /// It stands.
    pub(crate) fn up(&self, connection: Arc<C>) {
        self.set(State::Up(connection));
    }

    /// It could not be made, or not go on.
    pub(crate) fn down(&self, not_ready: NotReady) {
        self.set(State::Down(not_ready));
    }

    /// It is wanted no more. The connection, if one stands.
    pub(crate) fn close(&self) -> Option<Arc<C>> {
        match self.state.send_replace(State::Closed) {
            State::Up(connection) => Some(connection),
            _ => None,
        }
    }

    fn set(&self, state: State<C>) {
        self.state.send_if_modified(|current| {
            let is_open = !matches!(current, State::Closed);
            if is_open {
                *current = state;
            }
            is_open
        });
    }
}

// === impl Kept ===

impl<C: Send + Sync + 'static> Kept<C> {
    /// Keeps a connection to one of `servers`, for ever.
    pub(crate) fn to<D: Dial<Connection = C>>(servers: Vec<D::Server>, dial: D) -> Self {
        let link = Arc::new(Link::new());
        let keeper = tokio::spawn(keep(servers, dial, link.clone()));
        Self { link, keeper }
    }

    /// The connection, or why there is none. Waits while one is being made.
    pub(crate) async fn get(&self) -> Result<Arc<C>, NotReady> {
        self.link.get().await
    }

    /// It is wanted no more. The connection, if one stands, to be ended properly.
    pub(crate) fn close(&self) -> Option<Arc<C>> {
        self.keeper.abort();
        self.link.close()
    }
}

impl<C> Drop for Kept<C> {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep<D: Dial>(servers: Vec<D::Server>, dial: D, link: Arc<Link<D::Connection>>) {
    let mut failures = 0;
    loop {
        match open(&servers, &dial).await {
            Ok(connection) => {
                let since = Instant::now();
                let connection = Arc::new(connection);
                link.up(connection.clone());
                D::ended(&connection).await;
                link.making();
                if since.elapsed() >= STABLE {
                    failures = 0;
                    continue;
                }
            }
            Err(not_ready) => link.down(not_ready),
        }
        failures += 1;
        tokio::time::sleep(RECONNECT.delay(failures, fastrand::f64())).await;
    }
}

/// A connection to the first server that gives one, or what the last one said.
async fn open<D: Dial>(servers: &[D::Server], dial: &D) -> Result<D::Connection, NotReady> {
    let mut last = NotReady::new("Unreachable", "there is no server to connect to");
    for server in servers {
        match dial.dial(server).await {
            Ok(connection) => return Ok(connection),
            Err(not_ready) => last = not_ready,
        }
    }
    Err(last)
}
