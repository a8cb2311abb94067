//! The life of Events towards one Sink: which Message is tried when, in order per key, until it is settled.
//!
//! Before: core/src/event.rs
//! Next: core/src/cursor.rs

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
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge { size, limit } => {
                write!(f, "the message has {size} bytes, and the broker takes at most {limit}")
            }
            Self::Refused(why) => f.write_str(why),
        }
    }
}
