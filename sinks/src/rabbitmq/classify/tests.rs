use std::io;
use std::sync::Arc;

use bytes::Bytes;
use lapin::{ChannelState, ConnectionState};
use rustls::{AlertDescription, CertificateError, Error as Tls};
use tidings_core::object::ObjectKey;

use super::*;
use crate::sink::unclassified_errors;

fn message(exchange: &str, routing_key: &str, size: usize) -> Message {
    Message {
        id: "id".to_owned(),
        destination: format!("{exchange}\n{routing_key}"),
        key: ObjectKey::new(None, "milk"),
        record_key: String::new(),
        tombstone: false,
        headers: crate::message::Headers::default(),
        body: Bytes::from(vec![b' '; size]),
    }
}

fn soft(kind: AMQPSoftError, text: &str) -> Error {
    ErrorKind::ProtocolError(AMQPError::new(kind.into(), text.into())).into()
}

fn hard(kind: AMQPHardError) -> Error {
    ErrorKind::ProtocolError(AMQPError::new(kind.into(), "said so".into())).into()
}

/// Every kind of error that the client has.
fn kinds() -> Vec<(ErrorKind, bool)> {
    let broken = || Arc::new(io::Error::from(io::ErrorKind::BrokenPipe));
    vec![
        (ErrorKind::ChannelsLimitReached, true),
        (ErrorKind::InvalidChannel(1), true),
        (ErrorKind::InvalidChannelState(ChannelState::Closed, "publish"), true),
        (ErrorKind::InvalidConnectionState(ConnectionState::Closed), true),
        (ErrorKind::IOError(broken()), true),
        (ErrorKind::RuntimeShutdownError(broken()), true),
        (ErrorKind::MissingHeartbeatError, true),
        (ErrorKind::AuthProviderError("no".to_owned()), false),
        (ErrorKind::FutureCompleted, false),
        (ErrorKind::NoDefaultRuntime, false),
    ]
}

fn retried(answer: Answer) -> String {
    match answer.outcome {
        Outcome::Retry { reason, after: None } => reason,
        other => panic!("not a retry: {other:?}"),
    }
}

#[test]
fn every_kind_of_error_of_the_client_is_a_retry_and_what_is_not_known_is_counted() {
    for (kind, known) in kinds() {
        let text = format!("{kind:?}");
        let before = unclassified_errors();
        let reason = retried(publish(&kind.into(), &message("todos", "a.b", 1)));
        assert_eq!(reason.starts_with("an error of unknown meaning: "), !known, "{text}: {reason}");
        assert!(known || unclassified_errors() > before, "{text}");
    }
}

#[test]
fn every_refusal_of_the_broker_has_its_outcome() {
    use AMQPSoftError as Soft;
    let message = message("todos", "a.b", 300);
    for (kind, text, reason, expected) in [
        (Soft::NOTFOUND, "no exchange 'todos'", Some("ExchangeNotFound"), "there is no exchange \"todos\""),
        (
            Soft::ACCESSREFUSED,
            "access to exchange 'todos' refused",
            Some("PermissionDenied"),
            "the user may not publish to the exchange \"todos\" with the routing key \"a.b\"",
        ),
        (Soft::NOROUTE, "said so", None, "an error of unknown meaning: "),
        (Soft::NOCONSUMERS, "said so", None, "an error of unknown meaning: "),
        (Soft::RESOURCELOCKED, "said so", None, "an error of unknown meaning: "),
        (Soft::PRECONDITIONFAILED, "said so", None, "an error of unknown meaning: "),
    ] {
        let answer = publish(&soft(kind, text), &message);
        let said = answer.not_ready.as_ref().map(|not_ready| &*not_ready.reason);
        assert_eq!(said, reason, "{text}");
        let words = retried(answer);
        assert!(words.starts_with(expected), "{words}");
    }
    for kind in [Soft::PRECONDITIONFAILED, Soft::CONTENTTOOLARGE] {
        let error =
            soft(kind, "PRECONDITION_FAILED - message size 300 is larger than configured max size 200");
        let reason = Rejection::TooLarge { size: 300, limit: 200 };
        assert_eq!(publish(&error, &message), Outcome::Rejected { reason }.into());
    }
}

#[test]
fn what_ends_the_connection_is_a_retry() {
    use AMQPHardError as Hard;
    for (kind, expected) in [
        (Hard::CONNECTIONFORCED, "the broker closes the connection: said so"),
        (Hard::RESOURCEERROR, "the broker is in trouble: said so"),
        (Hard::INTERNALERROR, "the broker is in trouble: said so"),
        (Hard::INVALIDPATH, "an error of unknown meaning: "),
        (Hard::FRAMEERROR, "an error of unknown meaning: "),
        (Hard::SYNTAXERROR, "an error of unknown meaning: "),
        (Hard::COMMANDINVALID, "an error of unknown meaning: "),
        (Hard::CHANNELERROR, "an error of unknown meaning: "),
        (Hard::UNEXPECTEDFRAME, "an error of unknown meaning: "),
        (Hard::NOTALLOWED, "an error of unknown meaning: "),
        (Hard::NOTIMPLEMENTED, "an error of unknown meaning: "),
    ] {
        assert!(!is_refusal(&hard(kind.clone())));
        let reason = retried(publish(&hard(kind), &message("todos", "a.b", 1)));
        assert!(reason.starts_with(expected), "{reason}");
    }
}

#[test]
fn a_refusal_concerns_only_what_it_names() {
    let milk = message("todos", "a.milk", 150);
    let exchange = soft(AMQPSoftError::NOTFOUND, "NOT_FOUND - no exchange 'todos' in vhost '/'");
    let topic = "ACCESS_REFUSED - write access to topic 'a.milk' in exchange 'todos' in vhost '/' refused";
    let topic = soft(AMQPSoftError::ACCESSREFUSED, topic);
    let size = soft(AMQPSoftError::PRECONDITIONFAILED, "message size 150 is larger than max size 100");
    let other = soft(AMQPSoftError::PRECONDITIONFAILED, "something else");
    for (error, message, expected) in [
        (&exchange, &milk, true),
        (&exchange, &message("todo", "a.milk", 1), false),
        (&topic, &milk, true),
        (&topic, &message("todos", "a.bread", 1), false),
        (&size, &milk, true),
        (&size, &message("todos", "a.milk", 100), false),
        (&other, &milk, true),
    ] {
        assert!(is_refusal(error));
        assert_eq!(concerns(error, message), expected, "{error} {message:?}");
    }
}

#[test]
fn every_error_of_a_connection_has_its_reason() {
    let reason = |error: &Error| {
        let attempt = Attempt { server: "amqps://broker", virtual_host: "shop", user: Some("ann") };
        let not_ready = connect(error, attempt);
        assert!(not_ready.message.contains("amqps://broker"), "{not_ready:?}");
        not_ready.reason
    };
    for (kind, _) in kinds() {
        let expected =
            if matches!(kind, ErrorKind::AuthProviderError(_)) { "Unauthorized" } else { "Unreachable" };
        assert_eq!(reason(&kind.clone().into()), expected, "{kind:?}");
    }
    assert_eq!(reason(&soft(AMQPSoftError::ACCESSREFUSED, "no")), "Unauthorized");
    assert_eq!(reason(&soft(AMQPSoftError::NOTFOUND, "no")), "Unreachable");
    assert_eq!(reason(&hard(AMQPHardError::NOTALLOWED)), "VirtualHostRefused");
    assert_eq!(reason(&hard(AMQPHardError::INTERNALERROR)), "Unreachable");
    for (error, expected) in [
        (Tls::InvalidCertificate(CertificateError::Expired), "CertificateExpired"),
        (Tls::InvalidCertificate(CertificateError::NotValidForName), "WrongHostName"),
        (Tls::InvalidCertificate(CertificateError::UnknownIssuer), "CertificateUntrusted"),
        (Tls::AlertReceived(AlertDescription::CertificateRequired), "CertificateRefused"),
        (Tls::AlertReceived(AlertDescription::ProtocolVersion), "TlsFailed"),
    ] {
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        assert_eq!(reason(&error.into()), expected);
    }
}

#[test]
fn every_answer_to_a_question_has_its_reason() {
    for (error, expected) in [
        (soft(AMQPSoftError::NOTFOUND, "no exchange"), "ExchangeNotFound"),
        (soft(AMQPSoftError::ACCESSREFUSED, "refused"), "PermissionDenied"),
        (soft(AMQPSoftError::PRECONDITIONFAILED, "inequivalent arg"), "ExchangeMismatch"),
        (soft(AMQPSoftError::RESOURCELOCKED, "locked"), "Unreachable"),
        (hard(AMQPHardError::CONNECTIONFORCED), "Unreachable"),
        (ErrorKind::MissingHeartbeatError.into(), "Unreachable"),
    ] {
        assert_eq!(look(&error, "the exchange \"todos\"", "ExchangeNotFound").reason, expected, "{error}");
    }
}
