//! The conditions of a Subscription: their types, and the reasons they can have.
//!
//! | type | `True` | `False` |
//! |---|---|---|
//! | [`ACCEPTED`] | [`VALID`] | [`INVALID`], [`KIND_NOT_SERVED`] |
//! | [`SINK_READY`] | [`CONNECTED`] | a reason of the sink, e.g. `StreamNotFound`; [`INVALID`] |
//! | [`DELIVERING`] | [`SYNCHRONIZED`], [`CATCHING_UP`], [`SNAPSHOT_RUNNING`] | [`INVALID`], [`KIND_NOT_SERVED`], [`FORBIDDEN`], [`STATE_NOT_STORED`], [`SINK_NOT_READY`], [`ATTEMPTS_FAIL`], [`DEAD_LETTERS_WAIT`], [`API_UNAVAILABLE`], [`BLOCKED`], [`SUSPENDED`] |
//!
//! `Unknown` with [`PENDING`]: the bridge has not found out yet.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The Subscription can be understood, and the cluster serves what it names.
pub const ACCEPTED: &str = "Accepted";
/// The broker can be reached, and takes this Subscription's Events.
pub const SINK_READY: &str = "SinkReady";
/// Events go out: "is it well?" in one word.
pub const DELIVERING: &str = "Delivering";

/// Of a Sink: the broker can be reached, and knows who we are. Its reasons are [`CONNECTED`], [`INVALID`], and those of each
/// kind of sink.
pub const REACHABLE: &str = "Reachable";

/// The bridge has not found out yet.
pub const PENDING: &str = "Pending";

/// Nothing is wrong with what is written.
pub const VALID: &str = "Valid";
/// The message holds every mistake with its path.
pub const INVALID: &str = "Invalid";
/// A kind is not there: its definition is missing or was removed. It is looked for again and again.
pub const KIND_NOT_SERVED: &str = "KindNotServed";

/// The broker is there and takes the Events. The reasons for the contrary are those of each sink.
pub const CONNECTED: &str = "Connected";

/// Everything that happened is settled, or is on its way since just now.
pub const SYNCHRONIZED: &str = "Synchronized";
/// There is a backlog, and it is being worked off.
pub const CATCHING_UP: &str = "CatchingUp";
/// The objects that exist are being told.
pub const SNAPSHOT_RUNNING: &str = "SnapshotRunning";
/// The bridge may not list or watch a source.
pub const FORBIDDEN: &str = "Forbidden";
/// The state of the bridge cannot be stored, most likely because its disk is full. What was taken in is delivered; what
/// is new waits, and nothing is lost. It goes on by itself when there is room.
pub const STATE_NOT_STORED: &str = "StateNotStored";
/// The API server does not answer, or not well.
pub const API_UNAVAILABLE: &str = "ApiUnavailable";
/// The broker does not take the Events; `SinkReady` says why. Nothing is lost: they wait.
pub const SINK_NOT_READY: &str = "SinkNotReady";
/// The broker can be reached, and all attempts fail, e.g. because a receiver of HTTP answers with an error. Nothing is lost:
/// Events wait.
pub const ATTEMPTS_FAIL: &str = "AttemptsFail";
/// The broker refuses the Events of some objects; `status.blocked` lists them. All others go out.
pub const BLOCKED: &str = "Blocked";

/// The sink of dead letters does not take them. Nothing is lost: they wait, and nobody behind them does.
pub const DEAD_LETTERS_WAIT: &str = "DeadLettersWait";

/// A person wants it so (`spec.suspend`). Nothing is lost: Events wait.
pub const SUSPENDED: &str = "Suspended";

/// What the API server takes as a condition's message, in bytes.
const MAX_MESSAGE: usize = 32_768;

/// Puts the condition `type_` into the list, in place of the one it has. `lastTransitionTime` moves to `now` only
/// where the status changed.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: Option<bool>,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: &Time,
) {
    let status = match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let old = conditions.iter_mut().find(|condition| condition.type_ == type_);
    let last_transition_time = match &old {
        Some(old) if old.status == status => old.last_transition_time.clone(),
        _ => now.clone(),
    };
    let condition = Condition {
        last_transition_time,
        message: cut(message).to_owned(),
        observed_generation: generation,
        reason: reason.to_owned(),
        status: status.to_owned(),
        type_: type_.to_owned(),
    };
    match old {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

fn cut(message: &str) -> &str {
    let mut end = message.len().min(MAX_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, ACCEPTED, Some(true), VALID, "", Some(1), &at(1));
        set(&mut conditions, DELIVERING, None, PENDING, "", Some(1), &at(1));
        set(&mut conditions, DELIVERING, Some(true), CATCHING_UP, "", Some(1), &at(2));
        set(&mut conditions, DELIVERING, Some(true), SYNCHRONIZED, "all told", Some(2), &at(3));
        assert_eq!(conditions.len(), 2);
        let delivering = &conditions[1];
        assert_eq!((delivering.reason.as_str(), delivering.message.as_str()), (SYNCHRONIZED, "all told"));
        assert_eq!(delivering.last_transition_time, at(2));
        assert_eq!(delivering.observed_generation, Some(2));
    }

    #[test]
    fn a_message_is_cut_to_what_the_api_server_takes() {
        let mut conditions = Vec::new();
        set(&mut conditions, ACCEPTED, Some(false), INVALID, &"ü".repeat(MAX_MESSAGE), None, &at(1));
        assert_eq!(conditions[0].message.len(), MAX_MESSAGE);
    }
}
