//! What became of Messages, and what a sink says of itself because of it, where the broker cannot be asked.
//!
//! Before: sinks/src/sink.rs
//! Next: core/src/delivery.rs

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_core::delivery::Outcome;

use crate::message::Message;
use crate::sink::{NotReady, retry};

/// Places that are remembered to be out of order.
const MAX_PLACES: usize = 1_000;

/// What became of a Message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// The place it was to go to is not in order.
    pub(crate) not_ready: Option<NotReady>,
}

/// Destinations that were out of order when something was sent there, until something arrives.
#[derive(Default)]
pub(crate) struct Places(Mutex<HashMap<String, NotReady>>);

// === impl Answer ===

impl Answer {
    /// Only a reason to try again.
    pub(crate) fn retry(reason: impl Into<String>) -> Self {
        retry(reason).into()
    }

    /// Tried again, and whoever asks hears why.
    pub(crate) fn not_ready(not_ready: NotReady) -> Self {
        Self { outcome: retry(&*not_ready.message), not_ready: Some(not_ready) }
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, not_ready: None }
    }
}

// === impl Places ===

impl Places {
    /// Takes note of the answers to `messages`, in order, and hands the outcomes on.
    pub(crate) fn note(&self, messages: &[Message], answers: Vec<Answer>) -> Vec<Outcome> {
        let mut places = self.lock();
        let outcomes = messages.iter().zip(answers).map(|(message, answer)| {
            let Answer { outcome, not_ready } = answer;
            let destination = &message.destination;
            match not_ready {
                Some(not_ready) if places.len() < MAX_PLACES || places.contains_key(destination) => {
                    places.insert(destination.clone(), not_ready);
                }
                None if outcome == Outcome::Acked && !places.is_empty() => drop(places.remove(destination)),
                _ => {}
            }
            outcome
        });
        outcomes.collect()
    }

    /// What was said of this one, if it is out of order.
    pub(crate) fn get(&self, destination: &str) -> Option<NotReady> {
        self.lock().get(destination).cloned()
    }

    /// What is wrong with one of them.
    pub(crate) fn check(&self) -> Result<(), NotReady> {
        self.lock().values().next().map_or(Ok(()), |not_ready| Err(not_ready.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, NotReady>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidings_core::object::ObjectKey;

    use super::*;

    #[test]
    fn a_place_is_out_of_order_until_something_arrives_there() {
        let message = |destination: &str| Message {
            id: "id".to_owned(),
            destination: destination.to_owned(),
            key: ObjectKey::new(None, "milk"),
            record_key: String::new(),
            tombstone: false,
            headers: crate::message::Headers::default(),
            body: Bytes::new(),
        };
        let (places, messages) = (Places::default(), [message("a"), message("b")]);
        let gone = || Answer::not_ready(NotReady::new("Gone", "it is gone"));
        assert_eq!(
            places.note(&messages, vec![gone(), Outcome::Acked.into()]),
            [retry("it is gone"), Outcome::Acked]
        );
        assert_eq!(places.check(), Err(NotReady::new("Gone", "it is gone")));
        places.note(&messages, vec![Answer::retry("busy"), Outcome::Acked.into()]);
        assert!(places.check().is_err());
        places.note(&messages, vec![Outcome::Acked.into(), gone()]);
        assert!(places.check().is_err());
        places.note(&messages, vec![Outcome::Acked.into(), Outcome::Acked.into()]);
        assert_eq!(places.check(), Ok(()));
    }
}
