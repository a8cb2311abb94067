//! Dead letters in a stream of NATS `JetStream`, read by a durable consumer: the server keeps under its name what was
//! consumed.
//!
//! In a stream that keeps its messages (retention by limits, as usual) they stay, and are only read no more; from one that
//! is a queue of work they are gone. What is somebody else's is let alone in the latter, since to acknowledge it there would
//! delete it.
//!
//! Before: sinks/src/letters.rs
//! Next: sinks/src/decode.rs

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::message::Acker;
use async_nats::jetstream::stream::{RetentionPolicy, Stream};
use async_nats::jetstream::{AckKind, Message};
use async_nats::{HeaderMap, ServerAddr};
use async_trait::async_trait;
use futures::TryStreamExt as _;
use tidings_config::sink::nats::{ValidNatsAddress, ValidNatsConnection};
use tokio::time::timeout;

use super::connection::{Connection, Credentials};
use super::encode::wildcards_of;
use crate::SinkContext;
use crate::decode::{Content, Error};
use crate::letters::{Fate, Letter, Letters, Reader, Receipt};
use crate::sink::NotReady;

/// So many are asked for at once.
const FETCH: usize = 64;
/// For all of them.
const ANSWER: Duration = Duration::from_secs(20);
/// For the server to take back what was given back.
const MOMENT: Duration = Duration::from_secs(1);
/// What was given to somebody who says nothing more is free again after this.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// Dead letters in a stream.
pub(crate) struct NatsLetters {
    connection: Connection,
    consumer: PullConsumer,
    stream: String,
    /// The last message of the stream when it was opened.
    last: u64,
    /// An acknowledgement deletes a message.
    deletes: bool,
    fetched: VecDeque<Message>,
    /// Everything that was fetched.
    seen: BTreeSet<u64>,
    /// What is to be acknowledged, or given back at the end, by its number in the stream.
    held: BTreeMap<u64, Acker>,
    over: bool,
}

// === impl NatsLetters ===

impl NatsLetters {
    /// Opens those that are there.
    pub(crate) async fn open(
        valid: ValidNatsConnection,
        address: &ValidNatsAddress,
        context: SinkContext,
        reader: &Reader,
    ) -> Result<Self, NotReady> {
        let ValidNatsConnection { servers, domain, auth, tls } = valid;
        let SinkContext { secrets, owner } = context;
        let client_name = format!("tidings redrive {owner}");
        let credentials = Credentials { client_name, domain, auth, tls, secrets };
        let mut opened = Err(NotReady::new("Unreachable", "there is no server to connect to"));
        for server in servers.into_iter().filter_map(|url| ServerAddr::from_url(url).ok()) {
            opened = Connection::open(&server, &credentials).await;
            if opened.is_ok() {
                break;
            }
        }
        let connection = opened?;
        let filter = wildcards_of(&address.subject, &reader.subscription);
        let name = connection.stream_of(&filter, address.stream.as_deref()).await?;
        let stream = connection.signals().unless_denied(connection.context().get_stream(&name)).await?;
        let stream = stream.map_err(|error| refused("the stream", &name, error))?;
        let (state, config) = (&stream.cached_info().state, &stream.cached_info().config);
        let (last, deletes) = (state.last_sequence, config.retention != RetentionPolicy::Limits);
        let consumer = connection.signals().unless_denied(consumer(&stream, filter, reader)).await??;
        Ok(Self {
            connection,
            consumer,
            stream: name,
            last,
            deletes,
            fetched: VecDeque::new(),
            seen: BTreeSet::new(),
            held: BTreeMap::new(),
            over: false,
        })
    }

    /// Gets more of what is free. Finds out when that is nothing.
    async fn fetch(&mut self) -> Result<(), NotReady> {
        self.fetched = self.free(None).await?;
        if !self.fetched.is_empty() {
            return Ok(());
        }
        let info = self.consumer.info().await.map_err(|error| lost(&error))?;
        let (pending, elsewhere) = (info.num_pending, info.num_ack_pending.saturating_sub(self.held.len()));
        if elsewhere > 0 {
            // The server may still be busy with what was given back a moment ago.
            self.fetched = self.free(Some(elsewhere)).await?;
            if self.fetched.is_empty() {
                let message = format!(
                    "{elsewhere} dead letters are given to another `tidings redrive`, or were to one that was killed: then \
                     they are free again within {} s",
                    ACK_WAIT.as_secs()
                );
                return Err(NotReady::new("Busy", message));
            }
        }
        self.over = self.fetched.is_empty() && pending == 0;
        Ok(())
    }

    /// Messages that are free: now, or so many within a moment.
    async fn free(&self, awaited: Option<usize>) -> Result<VecDeque<Message>, NotReady> {
        let fetch = async {
            let messages = match awaited {
                None => self.consumer.fetch().max_messages(FETCH).messages().await,
                Some(count) => {
                    self.consumer.batch().max_messages(count.min(FETCH)).expires(MOMENT).messages().await
                }
            };
            messages.map_err(|error| lost(&error))?.try_collect().await.map_err(|error| lost(&error))
        };
        let silent = |_| NotReady::new("Unreachable", "the stream does not answer in time");
        self.connection.signals().unless_denied(timeout(ANSWER, fetch)).await?.map_err(silent)?
    }

    /// Takes in what was fetched. What was seen already comes again when it is held for long, or was given back.
    fn take(&mut self, message: Message) -> Result<Option<Letter>, NotReady> {
        let info = message.info().map_err(|error| lost(&error))?;
        let number = info.stream_sequence;
        let place = format!("message {number} of the stream {}", self.stream);
        let (message, acker) = message.split();
        let again = !self.seen.insert(number);
        self.held.insert(number, acker);
        // What came while this one reads is for the next.
        if number > self.last {
            self.over = true;
            return Ok(None);
        }
        Ok((!again).then(|| Letter { receipt: Receipt(number), place, content: read(&message) }))
    }
}

#[async_trait]
impl Letters for NatsLetters {
    async fn next(&mut self) -> Result<Option<Letter>, NotReady> {
        loop {
            while let Some(message) = self.fetched.pop_front() {
                if let Some(letter) = self.take(message)? {
                    return Ok(Some(letter));
                }
            }
            if self.over {
                return Ok(None);
            }
            self.fetch().await?;
        }
    }

    async fn settle(&mut self, Receipt(number): Receipt, fate: Fate) -> Result<(), NotReady> {
        match fate {
            Fate::Left => {}
            Fate::Passed if self.deletes => {}
            Fate::Consumed | Fate::Passed => {
                if let Some(acker) = self.held.get(&number) {
                    let acked = self.connection.signals().unless_denied(acker.double_ack()).await?;
                    acked.map_err(|error| lost(&error))?;
                    self.held.remove(&number);
                }
            }
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), NotReady> {
        let fetched = std::mem::take(&mut self.fetched).into_iter().map(|message| message.split().1);
        let ackers: Vec<_> = std::mem::take(&mut self.held).into_values().chain(fetched).collect();
        // In order, since that is the order they are given in the next time. Without a connection, they are free a little
        // later.
        for acker in ackers {
            let given_back = acker.double_ack_with(AckKind::Nak(None));
            if !matches!(self.connection.signals().unless_denied(given_back).await, Ok(Ok(()))) {
                break;
            }
        }
        self.connection.close().await;
        Ok(())
    }
}

/// The consumer by its name: as it is, where a person named it and it is there.
async fn consumer(stream: &Stream, filter: String, reader: &Reader) -> Result<PullConsumer, NotReady> {
    let name = reader.consumer.clone().unwrap_or_else(|| durable(&reader.subscription));
    if let Ok(there) = stream.get_consumer::<pull::Config>(&name).await
        && (reader.consumer.is_some() || there.cached_info().config.filter_subject == filter)
    {
        return Ok(there);
    }
    let config = pull::Config {
        durable_name: Some(name.clone()),
        description: Some(format!("what was read of the dead letters of {}", reader.subscription)),
        filter_subject: filter,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // What is refused again is held until the end.
        max_ack_pending: -1,
        ..pull::Config::default()
    };
    stream.create_consumer(config).await.map_err(|error| refused("the consumer", &name, error))
}

/// `.` and `/` are not legal in the name of a consumer, and `_` is not in those of Kubernetes.
fn durable(subscription: &str) -> String {
    format!("tidings-redrive-{}", subscription.replace(['/', '.'], "_"))
}

fn read(message: &async_nats::Message) -> Result<Content, Error> {
    let headers: Vec<_> = message.headers.iter().flat_map(HeaderMap::iter).collect();
    let headers = headers
        .iter()
        .filter_map(|(name, values)| Some((AsRef::<str>::as_ref(*name), values.first()?.as_str())));
    let kind = headers.clone().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let content = Content::read("ce-", kind.map(|(_, kind)| kind), headers, &message.payload)?;
    let structured = message.headers.as_ref().is_none_or(|headers| headers.get("ce-specversion").is_none());
    if structured { Ok(content) } else { content.decoded() }
}

fn refused(what: &str, name: &str, error: impl Display) -> NotReady {
    NotReady::new("StreamUnavailable", format!("{what} {name} cannot be used: {error}"))
}

fn lost(error: &dyn Display) -> NotReady {
    NotReady::new("Unreachable", format!("the stream cannot be read: {error}"))
}
