//! What each error of the AMQP client and each refusal of the broker means. Everything that somebody can put right, or
//! that may go away by itself, is a retry; only what is wrong with the Message itself is a rejection.
//!
//! Before: sinks/src/rabbitmq/batch.rs
//! Next: core/src/delivery.rs

use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};
use tidings_core::delivery::{Outcome, Rejection};

use super::encode::Route;
use crate::answer::Answer;
use crate::message::Message;
use crate::sink::{NotReady, unclassified};
use crate::tls;

/// Who tried to connect to what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    /// The URL.
    pub(super) server: &'a str,
    pub(super) virtual_host: &'a str,
    /// The user, or nothing where a certificate names it.
    pub(super) user: Option<&'a str>,
}

/// What became of the publish of `message` that ended with `error`.
pub(super) fn publish(error: &Error, message: &Message) -> Answer {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => refused(refusal, error, message),
        // What the client says of a connection or channel that is over.
        ErrorKind::InvalidChannel(_)
        | ErrorKind::InvalidChannelState(..)
        | ErrorKind::InvalidConnectionState(_)
        | ErrorKind::IOError(_)
        | ErrorKind::RuntimeShutdownError(_)
        | ErrorKind::MissingHeartbeatError => Answer::retry("the connection was lost before the confirm"),
        ErrorKind::ChannelsLimitReached => Answer::retry("the broker allows no more channels"),
        ErrorKind::InvalidProtocolVersion(_)
        | ErrorKind::ParsingError(_)
        | ErrorKind::SerialisationError(_)
        | ErrorKind::AuthProviderError(_)
        | ErrorKind::FutureCompleted
        | ErrorKind::NoDefaultRuntime
        | _ => unclassified(error).into(),
    }
}

fn refused(refusal: &AMQPError, error: &Error, message: &Message) -> Answer {
    let text = refusal.get_message();
    let route = Route::of(message);
    match refusal.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => {
            let message = format!("there is no exchange {:?}", route.exchange);
            Answer::not_ready(NotReady::new("ExchangeNotFound", message))
        }
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
            let message = format!("the user may not publish to {route}");
            Answer::not_ready(NotReady::new("PermissionDenied", message))
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::CONTENTTOOLARGE) => {
            match size_limit(text.as_str()) {
                Some(limit) => {
                    let size = message.body.len();
                    Outcome::Rejected { reason: Rejection::TooLarge { size, limit } }.into()
                }
                None => unclassified(error).into(),
            }
        }
        // The connection ends with these; the next one is made at once.
        AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED) => {
            Answer::retry(format!("the broker closes the connection: {text}"))
        }
        AMQPErrorKind::Hard(AMQPHardError::RESOURCEERROR | AMQPHardError::INTERNALERROR) => {
            Answer::retry(format!("the broker is in trouble: {text}"))
        }
        AMQPErrorKind::Soft(
            AMQPSoftError::NOROUTE | AMQPSoftError::NOCONSUMERS | AMQPSoftError::RESOURCELOCKED,
        )
        | AMQPErrorKind::Hard(
            AMQPHardError::INVALIDPATH
            | AMQPHardError::FRAMEERROR
            | AMQPHardError::SYNTAXERROR
            | AMQPHardError::COMMANDINVALID
            | AMQPHardError::CHANNELERROR
            | AMQPHardError::UNEXPECTEDFRAME
            | AMQPHardError::NOTALLOWED
            | AMQPHardError::NOTIMPLEMENTED,
        ) => unclassified(error).into(),
    }
}

/// Whether `error`, with which the broker closed a channel, can be about `message`. It does not say which one it was, but
/// names the exchange, the routing key or the size.
pub(super) fn concerns(error: &Error, message: &Message) -> bool {
    let ErrorKind::ProtocolError(refusal) = error.kind() else { return true };
    let text = refusal.get_message().as_str();
    let Route { exchange, routing_key } = Route::of(message);
    if let Some(limit) = size_limit(text) {
        message.body.len() > limit
    } else if text.contains("topic '") {
        text.contains(&format!("topic '{routing_key}'"))
    } else if text.contains("exchange '") {
        text.contains(&format!("exchange '{exchange}'"))
    } else {
        true
    }
}

/// Whether the broker closed only the channel, for something that one Message did.
pub(super) fn is_refusal(error: &Error) -> bool {
    error.is_amqp_soft_error()
}

/// The last number in `… message size 200 is larger than … max size 100`.
pub(super) fn size_limit(text: &str) -> Option<usize> {
    let (_, after) = text.split_once("message size ")?;
    after
        .rsplit(|character: char| !character.is_ascii_digit())
        .find(|digits| !digits.is_empty())?
        .parse()
        .ok()
}

/// Why there is no connection.
pub(super) fn connect(error: &Error, attempt: Attempt<'_>) -> NotReady {
    let Attempt { server, virtual_host, user } = attempt;
    match error.kind() {
        ErrorKind::IOError(io) | ErrorKind::RuntimeShutdownError(io) => match tls::inside(io) {
            Some(error) => tls::refused(error, server),
            None => NotReady::new("Unreachable", format!("{server} cannot be reached: {io}")),
        },
        ErrorKind::ProtocolError(refusal) => match refusal.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                let whom = match user {
                    Some(user) => format!("the user {user:?} with this password"),
                    None => "whom the bridge's certificate names".to_owned(),
                };
                NotReady::new("Unauthorized", format!("{server} does not accept {whom}"))
            }
            // Also what a limit of connections is called.
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH) => {
                let text = refusal.get_message();
                let message = format!("{server} does not open the virtual host {virtual_host:?}: {text}");
                NotReady::new("VirtualHostRefused", message)
            }
            AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => {
                NotReady::new("Unreachable", format!("{server} ends the connection: {refusal}"))
            }
        },
        ErrorKind::InvalidProtocolVersion(_) | ErrorKind::ParsingError(_) => {
            NotReady::new("WrongProtocol", format!("{server} does not speak AMQP 0-9-1: {error}"))
        }
        ErrorKind::AuthProviderError(_) => {
            NotReady::new("Unauthorized", format!("{server} asks for another kind of credentials"))
        }
        ErrorKind::MissingHeartbeatError => NotReady::new("Unreachable", format!("{server} does not answer")),
        ErrorKind::InvalidConnectionState(_)
        | ErrorKind::InvalidChannel(_)
        | ErrorKind::InvalidChannelState(..)
        | ErrorKind::ChannelsLimitReached
        | ErrorKind::SerialisationError(_)
        | ErrorKind::FutureCompleted
        | ErrorKind::NoDefaultRuntime
        | _ => NotReady::new("Unreachable", format!("{server} cannot be connected to: {error}")),
    }
}

/// Why the broker does not say that it has what `what` names, e.g. `the exchange "a"`; `missing` is the reason where it has
/// not.
pub(super) fn look(error: &Error, what: &str, missing: &str) -> NotReady {
    let ErrorKind::ProtocolError(refusal) = error.kind() else {
        return NotReady::new("Unreachable", format!("the broker cannot be asked for {what}: {error}"));
    };
    let text = refusal.get_message();
    match refusal.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => {
            NotReady::new(missing, format!("there is no such thing as {what}"))
        }
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
            NotReady::new("PermissionDenied", format!("the user may not declare {what}: {text}"))
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => {
            NotReady::new("ExchangeMismatch", format!("{what} exists, and is another one: {text}"))
        }
        AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => {
            NotReady::new("Unreachable", format!("the broker cannot be asked for {what}: {text}"))
        }
    }
}

#[cfg(test)]
#[path = "classify/tests.rs"]
mod tests;
