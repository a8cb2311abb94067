//! One call of `deliver`: everything is sent, then every acknowledgement is awaited.
//!
//! Before: sinks/src/nats/connection.rs
//! Next: sinks/src/nats/classify.rs

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};
use futures::FutureExt as _;
use tidings_core::delivery::{Outcome, Rejection};
use tokio::sync::watch;

use super::connection::{Connection, INBOX_DENIED, publish_denied};
use super::encode::MESSAGE_ID;
use super::signals::Denials;
use crate::message::Message;
use crate::patience::Patience;
use crate::sink::retry;

/// For an acknowledgement, counted from the last sign of progress.
pub(super) const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// The server takes 4 KiB of control line, and closes the connection that sends more.
const MAX_SUBJECT: usize = 3_500;

/// One call of `publish`.
pub(super) struct Batch<'a> {
    connection: &'a Connection,
    denials: watch::Receiver<Denials>,
    /// Denials before this batch say nothing about it: rights may have been given since.
    denials_before: u64,
    patience: Patience,
}

// === impl Batch ===

impl<'a> Batch<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        let denials = connection.signals().denials.subscribe();
        let denials_before = denials.borrow().count;
        Self { connection, denials, denials_before, patience: Patience::new(ACK_TIMEOUT) }
    }

    /// Hands one Message to the client, which tells right away what is too large.
    pub(super) async fn send(&mut self, message: &Message) -> Result<PublishAckFuture, Outcome> {
        if self.patience.is_over() {
            return Err(retry("the server takes nothing more"));
        }
        if message.destination.len() > MAX_SUBJECT {
            let length = message.destination.len();
            let reason =
                format!("the subject has {length} bytes, and the server takes at most {MAX_SUBJECT}");
            return Err(Outcome::Rejected { reason: Rejection::Refused(reason) });
        }
        let subject = Subject::from(message.destination.as_str());
        let publish = PublishMessage::build().headers(headers(message)?).payload(message.body.clone());
        let sent = tokio::select! {
            biased;
            sent = self.connection.context().send_publish(subject, publish) => sent,
            () = self.patience.over() => return Err(retry("the server takes nothing more")),
        };
        self.patience.progress();
        sent.map_err(|error| self.connection.classify(&error, message))
    }

    /// Awaits the word of the stream.
    pub(super) async fn ack(&mut self, message: &Message, ack: PublishAckFuture) -> Outcome {
        let mut ack = ack.into_future();
        if self.patience.is_over() {
            return self.outcome(message, ack.now_or_never());
        }
        let (subject, before) = (&message.destination, self.denials_before);
        let result = tokio::select! {
            biased;
            result = &mut ack => Some(result),
            denied = self.denials.wait_for(|denials| denials.denies(subject, before)) => {
                self.connection.lose();
                return retry(match denied {
                    Ok(denials) if denials.inbox => INBOX_DENIED.to_owned(),
                    _ => publish_denied(subject),
                });
            }
            () = self.patience.over() => None,
        };
        if result.is_some() {
            self.patience.progress();
        }
        self.outcome(message, result)
    }

    fn outcome(&self, message: &Message, result: Option<Result<PublishAck, PublishError>>) -> Outcome {
        match result {
            Some(Ok(_)) => {
                self.connection.signals().allow(&message.destination);
                Outcome::Acked
            }
            Some(Err(error)) => self.connection.classify(&error, message),
            None => {
                self.connection.lose();
                retry("no acknowledgement in time")
            }
        }
    }
}

/// The block of headers starts with `NATS/1.0` and ends with an empty line.
pub(super) fn wire_size(message: &Message) -> usize {
    message.size() + 12
}

/// Room for as many headers as an Event has, and more.
const ROOM: usize = 28;

/// No headers, with room for all: to grow is a tenth of what an Event costs, and the client's map cannot be made with a
/// capacity. But one that is read has room for as many entries as are read, and so has its copy: this one has the same
/// header again and again, without a value, which every Message has with one.
static ROOMY: LazyLock<HeaderMap> = LazyLock::new(|| {
    let entries = vec![format!("\"{MESSAGE_ID}\":[]"); ROOM];
    serde_json::from_str(&format!("{{{}}}", entries.join(","))).unwrap_or_default()
});

fn headers(message: &Message) -> Result<HeaderMap, Outcome> {
    let mut headers = ROOMY.clone();
    for (name, value) in message.headers.iter() {
        let refused =
            || Outcome::Rejected { reason: Rejection::Refused(format!("the header {name} is not legal")) };
        let header = match name {
            Cow::Borrowed(name) => HeaderName::from_static(name),
            Cow::Owned(name) => name.parse().map_err(|_| refused())?,
        };
        let value: HeaderValue = value.parse().map_err(|_| refused())?;
        headers.insert(header, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_the_message_and_no_others() {
        let message = Message {
            id: "a".to_owned(),
            destination: "a".to_owned(),
            key: tidings_core::object::ObjectKey::new(None, "a"),
            record_key: String::new(),
            tombstone: false,
            headers: [(MESSAGE_ID, "1"), ("ce-id", "2")].into_iter().collect(),
            body: "{}".into(),
        };
        let headers = headers(&message).unwrap();
        let mut all: Vec<_> = headers.iter().map(|(name, values)| (name.to_string(), values.len())).collect();
        all.sort();
        assert_eq!(all, [(MESSAGE_ID.to_owned(), 1), ("ce-id".to_owned(), 1)]);
        assert_eq!(ROOMY.len(), 1, "what is read twice is there once");
    }
}
