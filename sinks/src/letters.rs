//! Dead letters where they lie, for who sends them again.
//!
//! # The contract
//!
//! [`Letters::next`] gives what was there when they were opened, in the order of the place, and then nothing: it waits for
//! nothing that may never come. Whatever it gave is [settled](Letters::settle) once. What was not settled, in whatever way it
//! all ends, stays as if it had been [left](Fate::Left).
//!
//! A dead letter is consumed only when the sink has said that it holds the Event: whatever breaks in between, it is given
//! again, and none is lost.
//!
//! Before: bridge/src/redrive.rs
//! Next: sinks/src/decode.rs

use async_trait::async_trait;
use tidings_config::sink::valid::{Kind, ValidAddress, ValidConnection};

use crate::SinkContext;
use crate::decode::{self, Content};
use crate::kafka::letters::KafkaLetters;
use crate::nats::letters::NatsLetters;
use crate::rabbitmq::letters::RabbitmqLetters;
use crate::sink::NotReady;

/// A place of dead letters, opened. The contract is this module's page.
#[async_trait]
pub trait Letters: Send {
    /// The next one; nothing when all that were there have been given.
    async fn next(&mut self) -> Result<Option<Letter>, NotReady>;

    /// What becomes of one that was given.
    async fn settle(&mut self, receipt: Receipt, fate: Fate) -> Result<(), NotReady>;

    /// Gives back what was not consumed, and ends the connection.
    async fn close(&mut self) -> Result<(), NotReady>;
}

/// A message where dead letters lie.
#[derive(Debug)]
pub struct Letter {
    /// What it is settled by.
    pub receipt: Receipt,
    /// Where it lies, in words.
    pub place: String,
    /// What it is, or why that cannot be read.
    pub content: Result<Content, decode::Error>,
}

/// Stands for a letter, among those of one opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt(pub u64);

/// What becomes of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is done with, and not given again.
    Consumed,
    /// It stays, and is given again the next time.
    Left,
    /// It is somebody else's: they find it as it was.
    Passed,
}

/// Who reads.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Whose dead letters: `namespace/name` of the Subscription.
    pub subscription: String,
    /// The queue of RabbitMQ, where the settings do not tell.
    pub queue: Option<String>,
    /// The group of Kafka, instead of one for the Subscription.
    pub group: Option<String>,
    /// The durable consumer of NATS, instead of one for the Subscription.
    pub consumer: Option<String>,
}

/// Opens the dead letters that lie at `address`.
pub async fn open(
    valid: ValidConnection,
    address: ValidAddress,
    context: SinkContext,
    reader: &Reader,
) -> Result<Box<dyn Letters>, NotReady> {
    let Reader { subscription: _, queue, group, consumer } = reader;
    let named = [
        ("--queue", queue, Kind::Rabbitmq),
        ("--group", group, Kind::Kafka),
        ("--consumer", consumer, Kind::Nats),
    ];
    for (flag, given, kind) in named {
        if given.is_some() && valid.kind() != kind {
            let message = format!("{flag} is for {kind}, and the dead letters are at {}", valid.kind());
            return Err(NotReady::new("WrongKind", message));
        }
    }
    match (valid, address) {
        (ValidConnection::Nats(valid), ValidAddress::Nats(address)) => {
            Ok(Box::new(NatsLetters::open(valid, &address, context, reader).await?))
        }
        (ValidConnection::Kafka(valid), ValidAddress::Kafka(address)) => {
            Ok(Box::new(KafkaLetters::open(valid, &address, context, reader).await?))
        }
        (ValidConnection::Rabbitmq(valid), ValidAddress::Rabbitmq(address)) => {
            Ok(Box::new(RabbitmqLetters::open(valid, &address, context, reader).await?))
        }
        (ValidConnection::Http(_), _) => Err(NotReady::new(
            "NotReadable",
            "dead letters that went to a receiver of HTTP cannot be read back: have the receiver post them again without \
             the attributes deadletter…, or name a stream, topic or queue in spec.delivery.deadLetter from now on",
        )),
        (ValidConnection::Stdout, _) => Err(NotReady::new(
            "NotReadable",
            "dead letters that went to standard output cannot be read back: name a stream, topic or queue in \
             spec.delivery.deadLetter from now on",
        )),
        (valid, address) => {
            let (has, wants) = (valid.kind(), address.kind());
            let message =
                format!("the Sink is for {has}, and spec.delivery.deadLetter has an address for {wants}");
            Err(NotReady::new("WrongKind", message))
        }
    }
}
