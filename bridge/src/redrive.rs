//! Sends dead letters again: each as the Event it was, to the sink that did not take it. Only what that sink holds then is
//! consumed; what it refuses again stays where it is.
//!
//! Of one key, one goes after the other, in the order they lie. A consumer may hold a newer version already, and ignores the
//! older one by its `sequence`.
//!
//! Next: bridge/src/redrive/place.rs

pub mod place;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tidings_core::delivery::{Backoff, Outcome};
use tidings_core::event::Event;
use tidings_sinks::Target;
use tidings_sinks::decode::{Content, Recipient};
use tidings_sinks::letters::{Fate, Letter, Letters, Receipt};
use tidings_sinks::sink::NotReady;
use tokio_util::sync::CancellationToken;

/// So many go out together at most, each of another key.
const BATCH: usize = 64;
/// A letter that the sink could not take for so many times in a row is the last that is tried.
const ATTEMPTS: u32 = 5;
/// Between attempts.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(250), max: Duration::from_secs(2) };
/// No sink is waited for longer, whatever it asks for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which dead letters, and what is done with them.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Only Events with these ids; all without any.
    pub ids: BTreeSet<String>,
    /// Only Events of these objects; all without any.
    pub keys: BTreeSet<String>,
    /// At most so many.
    pub limit: Option<u64>,
    /// They are only looked at.
    pub dry_run: bool,
}

/// What is said of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where it lies.
    pub place: String,
    /// The attributes of the Event, and of the dead letter it became.
    pub content: Content,
    /// What becomes of it.
    pub end: End,
}

/// What becomes of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It would be sent.
    Listed,
    /// The sink has it, and it is consumed.
    Sent,
    /// The sink refuses it again, for this reason; it stays.
    Refused(String),
    /// It cannot be sent as it was, for this reason; it stays.
    Unreadable(String),
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Dead letters that would be sent.
    pub listed: u64,
    /// That the sink has now.
    pub sent: u64,
    /// That it refuses again.
    pub refused: u64,
    /// That cannot be sent as they were.
    pub unreadable: u64,
    /// Of the Subscription, and not among those that are wanted.
    pub unwanted: u64,
    /// Of others, or no dead letters at all.
    pub others: u64,
}

/// Why it ended before everything was read. What was told before holds.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The dead letters cannot be read on, or not be consumed.
    #[error("failed to read the dead letters: {0}")]
    Letters(NotReady),
    /// The sink takes nothing for now.
    #[error("failed to send, and nothing more was tried: {0}")]
    Sink(String),
    /// Somebody wants it to end.
    #[error("stopped before all were read")]
    Stopped,
}

/// A run.
pub struct Redrive<'a, F> {
    /// Where they lie.
    pub letters: &'a mut dyn Letters,
    /// Where they go.
    pub target: &'a Target,
    /// Whose they are.
    pub recipient: &'a Recipient,
    /// Which ones.
    pub choice: &'a Choice,
    /// Ends it between two attempts.
    pub stop: &'a CancellationToken,
    /// Is told of each that is wanted, and how many were read.
    pub tell: F,
}

/// What is said beside the end of a letter.
pub enum Said {
    /// What became of one.
    Told(Box<Told>),
    /// One more was read.
    Read(Tally),
}

/// A letter on its way.
struct Sending {
    receipt: Receipt,
    place: String,
    content: Content,
    event: Event,
}

// === impl Tally ===

impl Tally {
    /// How many were read.
    pub fn read(&self) -> u64 {
        let Self { listed, sent, refused, unreadable, unwanted, others } = self;
        listed + sent + refused + unreadable + unwanted + others
    }

    /// Those that count against the limit.
    fn wanted(&self) -> u64 {
        self.listed + self.sent + self.refused + self.unreadable
    }
}

// === impl Redrive ===

impl<F: FnMut(Said)> Redrive<'_, F> {
    /// Until all have been read. The letters are to be closed afterwards, however it ended.
    pub async fn run(mut self) -> (Tally, Result<(), Error>) {
        let mut tally = Tally::default();
        let result = self.go(&mut tally).await;
        (tally, result)
    }

    async fn go(&mut self, tally: &mut Tally) -> Result<(), Error> {
        let mut batch: Vec<Sending> = Vec::new();
        loop {
            let room = self.choice.limit.is_none_or(|limit| tally.wanted() + (batch.len() as u64) < limit);
            let next = if room { self.next().await } else { Ok(None) };
            let letter = match next {
                Ok(Some(letter)) => letter,
                // What was read before goes out, unless it is to stop.
                Ok(None) => return self.send(batch, tally).await,
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(error) => return self.send(batch, tally).await.and(Err(error)),
            };
            let Some(sending) = self.sort(letter, tally).await? else { continue };
            if batch.len() == BATCH || batch.iter().any(|other| other.event.key == sending.event.key) {
                self.send(std::mem::take(&mut batch), tally).await?;
            }
            batch.push(sending);
        }
    }

    async fn next(&mut self) -> Result<Option<Letter>, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        self.letters.next().await.map_err(Error::Letters)
    }

    /// Whether a letter is to be sent. What is not is settled.
    async fn sort(&mut self, letter: Letter, tally: &mut Tally) -> Result<Option<Sending>, Error> {
        let Letter { receipt, place, content } = letter;
        (self.tell)(Said::Read(*tally));
        let content = match content {
            Ok(content) if content.is_dead_letter_of(&self.recipient.subscription) => content,
            _ => {
                tally.others += 1;
                return self.settle(receipt, Fate::Passed).await.map(|()| None);
            }
        };
        let Choice { ids, keys, limit: _, dry_run } = self.choice;
        let is_wanted = (ids.is_empty() || ids.contains(content.attribute("id")))
            && (keys.is_empty() || keys.contains(content.attribute("subject")));
        if !is_wanted {
            tally.unwanted += 1;
            return self.settle(receipt, Fate::Left).await.map(|()| None);
        }
        let end = match content.event(self.recipient) {
            Ok(event) if !dry_run => return Ok(Some(Sending { receipt, place, content, event })),
            Ok(_) => {
                tally.listed += 1;
                End::Listed
            }
            Err(error) => {
                tally.unreadable += 1;
                End::Unreadable(error.to_string())
            }
        };
        self.settle(receipt, Fate::Left).await?;
        (self.tell)(Said::Told(Box::new(Told { place, content, end })));
        Ok(None)
    }

    /// Sends letters of different keys, until the sink has said something of each.
    async fn send(&mut self, batch: Vec<Sending>, tally: &mut Tally) -> Result<(), Error> {
        let mut waiting = VecDeque::from(batch);
        let mut failures = 0;
        while !waiting.is_empty() {
            let messages: Vec<_> =
                waiting.iter().map(|sending| self.target.encoder.encode(&sending.event)).collect();
            let outcomes = self.target.sink.deliver(&messages).await;
            let mut again = VecDeque::new();
            let mut trouble = None;
            let mut pause = Duration::ZERO;
            for (sending, outcome) in waiting.into_iter().zip(outcomes) {
                let (fate, end) = match outcome {
                    Outcome::Acked => {
                        tally.sent += 1;
                        (Fate::Consumed, End::Sent)
                    }
                    Outcome::Rejected { reason } => {
                        tally.refused += 1;
                        (Fate::Left, End::Refused(reason.to_string()))
                    }
                    Outcome::Retry { reason, after } => {
                        trouble = Some(reason);
                        pause = pause.max(after.unwrap_or_default());
                        again.push_back(sending);
                        continue;
                    }
                };
                let Sending { receipt, place, content, event: _ } = sending;
                self.settle(receipt, fate).await?;
                (self.tell)(Said::Told(Box::new(Told { place, content, end })));
            }
            waiting = again;
            let Some(reason) = trouble else { continue };
            failures += 1;
            if failures == ATTEMPTS {
                return Err(Error::Sink(reason));
            }
            let pause = pause.max(BACKOFF.delay(failures, 0.5)).min(PATIENCE);
            tokio::select! {
                () = self.stop.cancelled() => return Err(Error::Stopped),
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    async fn settle(&mut self, receipt: Receipt, fate: Fate) -> Result<(), Error> {
        self.letters.settle(receipt, fate).await.map_err(Error::Letters)
    }
}

#[cfg(test)]
#[path = "redrive/tests.rs"]
mod tests;
