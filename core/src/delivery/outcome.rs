//! What can become of Events: what a Sink says, what is done about it, and how that ends.
//!
//! Before: core/src/delivery.rs

use std::time::Duration;

/// What a Sink says of one Message it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The broker said that it holds the Message durably.
    Acked,
    /// It may work later: the same Message is to be tried again, not before `after` where that is given.
    Retry {
        /// What failed, for status and logs: lower case, no full stop, no credentials.
        reason: String,
        /// The earliest moment the broker named, counted from now.
        after: Option<Duration>,
    },
    /// It will never work as it is.
    Rejected {
        /// What is wrong with it.
        reason: Rejection,
    },
}

/// Why a Message can never be delivered as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Larger than the broker takes, in bytes.
    TooLarge {
        /// Size of the Message.
        size: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// Any other refusal, in words: lower case, no full stop.
    Refused(String),
    /// It might work, and was tried for as long as it should be; why it did not, in words.
    GivenUp(String),
}

/// What is done about what cannot be delivered.
pub trait Policy<T> {
    /// Whether an entry that failed `failures` times in a row, the last time for `reason`, is not tried any more, and why.
    fn gives_up(&mut self, entry: &T, failures: u32, reason: &str) -> Option<Rejection>;

    /// What becomes of an entry that will never be delivered as it is.
    fn resort(&mut self, entry: &T, reason: &Rejection) -> Resort<T>;
}

/// What becomes of an entry that will never be delivered as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resort<T> {
    /// Another one is tried in its place.
    Instead(T),
    /// It is settled without being delivered.
    Drop,
    /// It leaves the line, and who asked finds another end for it.
    Aside,
    /// It leaves the line with all that waits on its key, and who asked brings it back when it is worth being tried again.
    Withdraw,
    /// It stays, and holds back what follows on its key.
    Block,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// The broker holds it.
    Settled(T),
    /// It will be tried again.
    Retrying {
        /// What is retried.
        entry: T,
        /// Why.
        reason: String,
    },
    /// It can never be delivered, and was left out.
    Dropped {
        /// What was left out.
        entry: T,
        /// Why.
        reason: Rejection,
    },
    /// It can never be delivered, and left the line; it is not settled.
    Aside {
        /// What left the line.
        entry: T,
        /// Why.
        reason: Rejection,
        /// How often it was tried in vain.
        attempts: u32,
    },
    /// It can never be delivered, and left the line with all that waited on its key; nothing of that is settled.
    Withdrawn {
        /// What left the line, in order: the first is what cannot be delivered.
        entries: Vec<T>,
        /// Why.
        reason: Rejection,
    },
    /// It can never be delivered, and holds back what follows on its key.
    Blocked {
        /// What is blocked.
        entry: T,
        /// Why.
        reason: Rejection,
    },
}

// === impl Rejection ===

impl Rejection {
    /// One word in `CamelCase` for what is wrong.
    pub fn word(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "TooLarge",
            Self::Refused(_) => "Refused",
            Self::GivenUp(_) => "GivenUp",
        }
    }
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge { size, limit } => {
                write!(f, "the message has {size} bytes, and the broker takes at most {limit}")
            }
            Self::Refused(why) => f.write_str(why),
            Self::GivenUp(why) => write!(f, "given up: {why}"),
        }
    }
}
