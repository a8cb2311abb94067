use std::io;

use async_nats::error::Error;
use bytes::Bytes;
use tidings_core::object::ObjectKey;

use super::*;
use crate::sink::unclassified_errors;

const SIZE: usize = 5000;
const MAX_PAYLOAD: usize = 4000;

fn message() -> Message {
    Message {
        id: "id".to_owned(),
        destination: "todos.milk".to_owned(),
        key: ObjectKey::new(None, "milk"),
        record_key: String::new(),
        tombstone: false,
        headers: crate::message::Headers::default(),
        body: Bytes::new(),
    }
}

fn outcome(error: &PublishError, connected: bool) -> Outcome {
    let circumstances =
        Circumstances { size: SIZE, max_payload: MAX_PAYLOAD, max_message_size: None, connected };
    publish(error, &message(), circumstances)
}

/// The error that a stream answers with.
fn refusal(code: u64) -> PublishError {
    let json = format!(r#"{{"code": 400, "err_code": {code}, "description": "said so"}}"#);
    let error: jetstream::Error = serde_json::from_str(&json).unwrap();
    Error::with_source(PublishErrorKind::Other, error)
}

fn retried(outcome: Outcome) -> String {
    match outcome {
        Outcome::Retry { reason, after: None } => reason,
        other => panic!("not a retry: {other:?}"),
    }
}

#[test]
fn every_kind_of_publish_error_has_its_outcome() {
    use PublishErrorKind as Kind;
    let cases = [
        (Kind::StreamNotFound, "no stream takes the subject todos.milk"),
        (Kind::TimedOut, "no acknowledgement in time"),
        (Kind::BrokenPipe, "the connection was lost before the acknowledgement"),
        (Kind::MaxAckPending, "too many acknowledgements are awaited"),
        (Kind::WrongLastMessageId, "an error of unknown meaning: wrong last message id"),
        (Kind::WrongLastSequence, "an error of unknown meaning: wrong last sequence"),
        (Kind::Other, "an error of unknown meaning: publish failed"),
    ];
    for (kind, expected) in cases {
        assert_eq!(retried(outcome(&kind.into(), true)), expected);
    }
    let too_large = Outcome::Rejected { reason: Rejection::TooLarge { size: SIZE, limit: MAX_PAYLOAD } };
    assert_eq!(outcome(&Kind::MaxPayloadExceeded.into(), true), too_large);
}

#[test]
fn a_lost_connection_is_not_an_unknown_error() {
    assert_eq!(retried(outcome(&PublishErrorKind::Other.into(), false)), "the connection was lost");
    let other = Error::with_source(PublishErrorKind::Other, "channel closed");
    assert_eq!(retried(outcome(&other, false)), "the connection was lost");
}

#[test]
fn an_unknown_error_is_retried_and_counted() {
    let before = unclassified_errors();
    let reason = retried(outcome(&refusal(19999), true));
    assert!(reason.starts_with("an error of unknown meaning: ") && reason.contains("said so"), "{reason}");
    assert!(unclassified_errors() > before);
}

#[test]
fn only_what_is_wrong_with_the_message_itself_is_rejected() {
    let cases = [
        (10054, Rejection::TooLarge { size: SIZE, limit: SIZE - 1 }),
        (10097, Rejection::Refused("the headers have more than 64 KiB".to_owned())),
    ];
    for (code, reason) in cases {
        assert_eq!(outcome(&refusal(code), true), Outcome::Rejected { reason }, "{code}");
    }
    let subject = Error::with_source(PublishErrorKind::Other, SubjectError::InvalidFormat);
    let reason = Rejection::Refused("\"todos.milk\" is no legal subject".to_owned());
    assert_eq!(outcome(&subject, true), Outcome::Rejected { reason });
}

#[test]
fn the_limit_of_the_stream_is_told_where_it_is_known() {
    let circumstances =
        Circumstances { size: SIZE, max_payload: MAX_PAYLOAD, max_message_size: Some(100), connected: true };
    let reason = Rejection::TooLarge { size: SIZE, limit: 100 };
    assert_eq!(publish(&refusal(10054), &message(), circumstances), Outcome::Rejected { reason });
}

#[test]
fn what_somebody_can_put_right_is_retried() {
    for code in [
        10002, 10005, 10007, 10008, 10009, 10023, 10028, 10035, 10039, 10041, 10044, 10047, 10051, 10059,
        10060, 10063, 10076, 10077, 10109, 10118, 10120, 10158, 10167, 10194,
    ] {
        let reason = retried(outcome(&refusal(code), true));
        assert!(!reason.contains("unknown meaning"), "{code}: {reason}");
    }
    assert_eq!(
        retried(outcome(&refusal(10060), true)),
        "another stream than the expected one takes the subject todos.milk"
    );
    let full = retried(outcome(&refusal(10077), true));
    assert!(full.starts_with("the stream does not take it: said so"), "{full}");
}

#[test]
fn an_answer_of_something_else_than_a_stream_is_no_acknowledgement() {
    let not_json = serde_json::from_str::<u8>("hello").unwrap_err();
    let error = Error::with_source(PublishErrorKind::Other, not_json);
    assert_eq!(retried(outcome(&error, true)), "the subject was answered by something else than a stream");
}

/// The reason for the error with this source.
fn connect_reason(kind: ConnectErrorKind, source: Option<io::Error>) -> String {
    let error = match source {
        Some(source) => Error::with_source(kind, source),
        None => Error::new(kind),
    };
    connect(&error, "nats://broker").reason
}

#[test]
fn every_kind_of_connect_error_has_its_reason() {
    use ConnectErrorKind as Kind;
    for (kind, reason) in [
        (Kind::AuthorizationViolation, "Unauthorized"),
        (Kind::Authentication, "Unauthorized"),
        (Kind::Tls, "TlsFailed"),
        (Kind::Dns, "Unreachable"),
        (Kind::TimedOut, "Unreachable"),
        (Kind::Io, "Unreachable"),
        (Kind::ServerParse, "Unreachable"),
        (Kind::MaxReconnects, "Unreachable"),
    ] {
        assert_eq!(connect_reason(kind, None), reason, "{kind}");
    }
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    assert_eq!(connect_reason(Kind::Io, Some(refused)), "Unreachable");
    let handshake = io::Error::new(
        io::ErrorKind::InvalidData,
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer),
    );
    assert_eq!(connect_reason(Kind::Io, Some(handshake)), "CertificateUntrusted");
}

#[test]
fn every_answer_of_the_api_has_its_reason() {
    use RequestErrorKind as Kind;
    for (kind, reason) in [
        (Kind::NoResponders, "JetStreamNotEnabled"),
        (Kind::TimedOut, "Unreachable"),
        (Kind::InvalidSubject, "Unreachable"),
        (Kind::Other, "Unreachable"),
    ] {
        assert_eq!(request(&Error::new(kind)).reason, reason, "{kind:?}");
    }
    for (code, stream, reason) in [
        (10039, None, "JetStreamNotEnabled"),
        (10076, Some("TODOS"), "JetStreamNotEnabled"),
        (10059, Some("TODOS"), "StreamNotFound"),
        (10059, None, "StreamUnavailable"),
        (10008, None, "StreamUnavailable"),
    ] {
        let json = format!(r#"{{"code": 400, "err_code": {code}}}"#);
        assert_eq!(answer(&serde_json::from_str(&json).unwrap(), stream).reason, reason, "{code}");
    }
}

#[test]
fn a_missing_right_is_read_from_the_words_of_the_server() {
    for (text, expected) in [
        (
            r#"Permissions Violation for Publish to "todos.shop.milk""#,
            Some(Denied::Publish("todos.shop.milk")),
        ),
        (r#"Permissions Violation for Subscription to "_INBOX.x.*""#, Some(Denied::Subscribe("_INBOX.x.*"))),
        (r#"Permissions Violation for Subscription to "a" using queue "b""#, Some(Denied::Subscribe("a"))),
        (r#"Permissions Violation for Publish to "cut off"#, None),
        ("Stale Connection", None),
        ("", None),
    ] {
        assert_eq!(denied(text), expected, "{text}");
    }
}
