//! One call of `deliver`: everything is sent, then every confirm is awaited.
//!
//! A Message that the broker refuses ends its channel, and with it the confirms of its neighbours: they are sent again on
//! a new one, without it.
//!
//! Before: sinks/src/rabbitmq/connection.rs
//! Next: sinks/src/rabbitmq/classify.rs

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use tidings_core::delivery::{Outcome, Rejection};
use tokio::sync::watch;

use super::classify;
use super::connection::{Connection, Health};
use super::encode::{CONTENT_TYPE, MAX_PROPERTY, Route, TIMESTAMP, TYPE};
use crate::answer::Answer;
use crate::message::Message;
use crate::patience::Patience;
use crate::sink::NotReady;

/// For a confirm, counted from the last sign of progress.
pub(super) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a refusal may end a channel before the rest waits for the next call.
const ROUNDS: usize = 8;
/// Stored on disk, where the queue is.
const PERSISTENT: u8 = 2;

/// One call of `publish`.
pub(super) struct Batch<'a> {
    connection: &'a Connection,
    messages: &'a [Message],
    answers: Vec<Option<Answer>>,
    health: watch::Receiver<Health>,
    patience: Patience,
}

/// What came of one Message in one round.
enum Reply {
    Confirmed(Confirmed),
    Failed(lapin::Error),
    /// Nothing will come, for this reason.
    Silence(String),
}

/// What the broker said of one Message, and what it had sent back before, be it that one or another.
struct Confirmed {
    word: Word,
    returned: Option<Return>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Ack,
    Nack,
    /// The channel has no confirms.
    Nothing,
}

/// A message that no queue took.
struct Return {
    id: String,
    /// What the broker said of it.
    text: String,
}

/// All that came back because no queue takes it.
///
/// The client hands a returned message to whichever confirm it completes next, and one confirm of the broker may complete
/// many, in any order. So it is told by its id which Message it was.
struct Returned {
    /// What the broker said, by id.
    ids: BTreeMap<String, String>,
    /// All replies are there, and with them all that was returned.
    complete: bool,
}

// === impl Batch ===

impl<'a> Batch<'a> {
    pub(super) fn new(connection: &'a Connection, messages: &'a [Message]) -> Self {
        let health = connection.health();
        let answers = messages.iter().map(|message| unsendable(message, connection.max_message_size()));
        let patience = Patience::new(CONFIRM_TIMEOUT);
        Self { connection, messages, answers: answers.collect(), health, patience }
    }

    /// One attempt for each Message.
    pub(super) async fn run(mut self) -> Vec<Answer> {
        let mut last = None;
        for _ in 0..ROUNDS {
            if self.open().is_empty() {
                break;
            }
            last = self.round().await;
        }
        let left = || match &last {
            Some(error) => Answer::retry(format!("the broker refuses others: {error}")),
            None => Answer::retry("the batch ended before"),
        };
        self.answers.into_iter().map(|answer| answer.unwrap_or_else(left)).collect()
    }

    /// The Messages without an answer.
    fn open(&self) -> Vec<usize> {
        (0..self.answers.len()).filter(|index| self.answers[*index].is_none()).collect()
    }

    /// Sends what is open, and returns the refusal where one ended the channel.
    async fn round(&mut self) -> Option<lapin::Error> {
        let open = self.open();
        let channel = tokio::select! {
            biased;
            channel = self.connection.channel() => channel,
            reason = interrupted(&mut self.health, &mut self.patience) => {
                self.answer_all(&open, &Answer::retry(reason));
                return None;
            }
        };
        let channel = match channel {
            Ok(channel) => channel,
            Err(error) => {
                for index in open {
                    self.answers[index] = Some(classify::publish(&error, &self.messages[index]));
                }
                return None;
            }
        };
        self.patience.progress();
        let sent = self.send(&channel, &open).await;
        let replies = self.confirms(sent).await;
        if replies.iter().all(|reply| matches!(reply, Reply::Confirmed(_))) {
            self.connection.give_back(channel);
        }
        self.judge(&open, replies)
    }

    /// Hands all to the client, in order.
    async fn send(&mut self, channel: &Channel, open: &[usize]) -> Vec<Result<PublisherConfirm, Reply>> {
        // Each of these is complete only when it is on its way, which another thread sees to: all at once, that costs one
        // turn instead of one for each.
        let mut publishes: FuturesOrdered<_> =
            open.iter().map(|index| publish(channel, &self.messages[*index])).collect();
        let mut sent = Vec::with_capacity(open.len());
        while sent.len() < open.len() {
            let next = tokio::select! {
                biased;
                Some(next) = publishes.next() => next.map_err(Reply::Failed),
                reason = interrupted(&mut self.health, &mut self.patience) => {
                    sent.resize_with(open.len(), || Err(Reply::Silence(reason.clone())));
                    break;
                }
            };
            self.patience.progress();
            sent.push(next);
        }
        sent
    }

    async fn confirms(&mut self, sent: Vec<Result<PublisherConfirm, Reply>>) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(sent.len());
        for confirm in sent {
            replies.push(match confirm {
                Err(reply) => reply,
                Ok(confirm) => tokio::select! {
                    biased;
                    confirmed = confirm => {
                        self.patience.progress();
                        confirmed.map_or_else(Reply::Failed, |confirmation| Reply::Confirmed(confirmation.into()))
                    }
                    reason = interrupted(&mut self.health, &mut self.patience) => Reply::Silence(reason),
                },
            });
        }
        replies
    }

    /// Gives answers, except to those that only had a bad neighbour.
    fn judge(&mut self, open: &[usize], replies: Vec<Reply>) -> Option<lapin::Error> {
        let returned = Returned::of(&replies);
        let refusal = replies.iter().find_map(|reply| match reply {
            Reply::Failed(error) if classify::is_refusal(error) => Some(error.clone()),
            _ => None,
        });
        if let Some(refusal) = &refusal {
            self.learn(refusal);
        }
        let concerned = |index: &usize| {
            refusal.as_ref().is_some_and(|error| classify::concerns(error, &self.messages[*index]))
        };
        // Where nobody fits what the broker said, all of them may be meant.
        let known = open.iter().any(concerned);
        for (&index, reply) in open.iter().zip(replies) {
            let message = &self.messages[index];
            self.answers[index] = match (reply, &refusal) {
                (Reply::Confirmed(confirmed), _) => Some(returned.answer(&confirmed, message)),
                (Reply::Silence(reason), _) => Some(Answer::retry(reason)),
                (Reply::Failed(_), Some(refusal)) if !known || classify::concerns(refusal, message) => {
                    Some(classify::publish(refusal, message))
                }
                (Reply::Failed(_), Some(_)) => None,
                (Reply::Failed(error), None) => Some(classify::publish(&error, message)),
            };
        }
        refusal
    }

    /// Remembers the limit of the broker, so that what is too large ends no channel again.
    fn learn(&self, refusal: &lapin::Error) {
        if let lapin::ErrorKind::ProtocolError(error) = refusal.kind()
            && let Some(limit) = classify::size_limit(error.get_message().as_str())
        {
            self.connection.set_max_message_size(limit);
        }
    }

    fn answer_all(&mut self, indices: &[usize], answer: &Answer) {
        for index in indices {
            self.answers[*index] = Some(answer.clone());
        }
    }
}

// === impl Confirmed ===

impl From<Confirmation> for Confirmed {
    fn from(confirmation: Confirmation) -> Self {
        let word = match &confirmation {
            Confirmation::Ack(_) => Word::Ack,
            Confirmation::Nack(_) => Word::Nack,
            Confirmation::NotRequested => Word::Nothing,
        };
        let returned = confirmation.take_message().map(|message| {
            let id = message.properties.message_id().as_ref().map(ToString::to_string);
            Return { id: id.unwrap_or_default(), text: message.reply_text.to_string() }
        });
        Self { word, returned }
    }
}

// === impl Returned ===

impl Returned {
    fn of(replies: &[Reply]) -> Self {
        let complete = replies.iter().all(|reply| matches!(reply, Reply::Confirmed(_)));
        let returned = replies.iter().filter_map(|reply| match reply {
            Reply::Confirmed(Confirmed { returned, .. }) => returned.as_ref(),
            Reply::Failed(_) | Reply::Silence(_) => None,
        });
        Self { ids: returned.map(|Return { id, text }| (id.clone(), text.clone())).collect(), complete }
    }

    fn answer(&self, confirmed: &Confirmed, message: &Message) -> Answer {
        if let Some(text) = self.ids.get(&message.id) {
            let route = Route::of(message);
            let (reason, message) = match route.exchange {
                "" => ("QueueNotFound", format!("there is no queue {:?}", route.routing_key)),
                _ => ("Unroutable", format!("no queue is bound to {route}: {text}")),
            };
            return Answer::not_ready(NotReady::new(reason, message));
        }
        match confirmed.word {
            Word::Ack if self.complete || confirmed.returned.is_none() => Outcome::Acked.into(),
            // Its own return may be what would have come next.
            Word::Ack => Answer::retry("it is not known whether a queue took it"),
            Word::Nack => Answer::retry("the broker could not store it (nack)"),
            Word::Nothing => Answer::retry("the channel has no confirms"),
        }
    }
}

/// Comes back with the reason when it makes no sense to wait any longer. What stays in the sockets of a connection that is
/// blocked may still arrive, before anything that is sent later by it.
async fn interrupted(health: &mut watch::Receiver<Health>, patience: &mut Patience) -> String {
    tokio::select! {
        health = health.wait_for(|health| *health != Health::Well) => match health.as_deref() {
            Ok(Health::Blocked(reason)) => format!("the broker blocks who publishes: {reason}"),
            _ => "the connection was lost before the confirm".to_owned(),
        },
        () = patience.over() => "no confirm in time".to_owned(),
    }
}

/// What no broker is asked to take.
fn unsendable(message: &Message, max_message_size: Option<usize>) -> Option<Answer> {
    let size = message.body.len();
    if let Some(limit) = max_message_size.filter(|limit| size > *limit) {
        return Some(Outcome::Rejected { reason: Rejection::TooLarge { size, limit } }.into());
    }
    let Route { exchange, routing_key } = Route::of(message);
    let names = [("exchange", exchange), ("routing key", routing_key), ("message id", &message.id)];
    let properties = message.headers.iter().filter(|(_, value)| value.len() > MAX_PROPERTY);
    let properties = properties.filter_map(|(name, value)| Some((name.strip_prefix(':')?, value)));
    let (what, text) = names.into_iter().chain(properties).find(|(_, text)| text.len() > MAX_PROPERTY)?;
    let reason = format!("the {what} has {} bytes, and AMQP takes at most {MAX_PROPERTY}", text.len());
    Some(Outcome::Rejected { reason: Rejection::Refused(reason) }.into())
}

async fn publish(channel: &Channel, message: &Message) -> lapin::Result<PublisherConfirm> {
    let Route { exchange, routing_key } = Route::of(message);
    // A message that no queue takes comes back.
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel
        .basic_publish(exchange.into(), routing_key.into(), options, &message.body, properties(message))
        .await
}

fn properties(message: &Message) -> BasicProperties {
    let mut properties =
        BasicProperties::default().with_delivery_mode(PERSISTENT).with_message_id(message.id.as_str().into());
    let mut headers = FieldTable::default();
    for (name, value) in message.headers.iter() {
        match &**name {
            CONTENT_TYPE => properties = properties.with_content_type(value.into()),
            TYPE => properties = properties.with_type(value.into()),
            TIMESTAMP => {
                if let Ok(seconds) = value.parse() {
                    properties = properties.with_timestamp(seconds);
                }
            }
            name => {
                headers.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
            }
        }
    }
    properties.with_headers(headers)
}

#[cfg(test)]
#[path = "batch/tests.rs"]
mod tests;
