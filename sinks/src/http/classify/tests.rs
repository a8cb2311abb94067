use std::net::IpAddr;

use super::*;

const SIZE: usize = 500;

fn of(status: u16, statuses: &Statuses) -> Answer {
    answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), SIZE, statuses)
}

#[test]
fn every_status_has_its_outcome() {
    const RETRIED: [u16; 11] = [401, 403, 404, 407, 408, 410, 421, 423, 424, 425, 429];
    for status in 100..1000 {
        let outcome = of(status, &Statuses::default()).outcome;
        match status {
            200..300 => assert_eq!(outcome, Outcome::Acked, "{status}"),
            413 => {
                let reason = Rejection::TooLarge { size: SIZE, limit: SIZE - 1 };
                assert_eq!(outcome, Outcome::Rejected { reason });
            }
            300..500 if !RETRIED.contains(&status) => {
                assert!(matches!(outcome, Outcome::Rejected { .. }), "{status}: {outcome:?}");
            }
            _ => assert!(matches!(outcome, Outcome::Retry { .. }), "{status}: {outcome:?}"),
        }
    }
}

#[test]
fn the_settings_overrule_the_class_but_never_2xx() {
    let statuses = Statuses { retry_on: vec![409, 413, 302], reject_on: vec![404, 503] };
    for status in [409, 413, 302] {
        assert!(matches!(of(status, &statuses).outcome, Outcome::Retry { .. }), "{status}");
    }
    for status in [404, 503] {
        let answer = of(status, &statuses);
        assert!(matches!(answer.outcome, Outcome::Rejected { .. }) && answer.not_ready.is_none(), "{status}");
    }
    assert_eq!(of(204, &statuses).outcome, Outcome::Acked);
}

#[test]
fn what_is_wrong_with_the_place_is_said_of_the_sink() {
    for (status, reason) in [
        (401, "Unauthorized"),
        (403, "PermissionDenied"),
        (404, "NotFound"),
        (407, "Unauthorized"),
        (410, "Gone"),
    ] {
        let answer = of(status, &Statuses::default());
        assert_eq!(answer.not_ready.map(|not_ready| not_ready.reason).as_deref(), Some(reason));
    }
    assert_eq!(of(500, &Statuses::default()).not_ready, None);
}

#[test]
fn retry_after_is_seconds_or_a_date_by_the_clock_of_the_receiver() {
    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (text, date, expected) in [
        ("120", None, Some(120)),
        (" 0 ", None, Some(0)),
        ("999999999", None, Some(3600)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", Some(NOW), Some(60)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(NOW), Some(0)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", None, None),
        ("soon", Some(NOW), None),
        ("-1", None, None),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{text}");
    }
}

#[test]
fn every_error_of_a_connection_has_its_reason() {
    use rustls::{AlertDescription, CertificateError, Error as Tls};
    let inside = |error: Tls| io::Error::other(error);
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    for (error, expected) in [
        (io::Error::from(io::ErrorKind::ConnectionRefused), "Unreachable"),
        (io::Error::from(io::ErrorKind::TimedOut), "Unreachable"),
        (io::Error::other(NotPublic(address)), "AddressRefused"),
        (inside(Tls::InvalidCertificate(CertificateError::Expired)), "CertificateExpired"),
        (inside(Tls::InvalidCertificate(CertificateError::NotValidForName)), "WrongHostName"),
        (inside(Tls::InvalidCertificate(CertificateError::UnknownIssuer)), "CertificateUntrusted"),
        (inside(Tls::AlertReceived(AlertDescription::CertificateRequired)), "CertificateRefused"),
        (inside(Tls::HandshakeNotComplete), "TlsFailed"),
        (io::Error::other(inside(Tls::HandshakeNotComplete)), "TlsFailed"),
    ] {
        let not_ready = connect(&error, "https://receiver");
        assert_eq!(not_ready.reason, expected, "{error:?}");
        assert!(not_ready.message.contains("https://receiver"), "{not_ready}");
    }
}
