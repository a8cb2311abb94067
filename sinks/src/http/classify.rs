//! What each answer of a receiver, and each error of the client, means. What somebody can put right, or may go away by
//! itself, is a retry; only what the receiver says of the Event itself is a rejection.
//!
//! Before: sinks/src/http/client.rs
//! Next: core/src/delivery.rs

use std::error::Error;
use std::io;
use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use jiff::fmt::rfc2822::DateTimeParser;
use tidings_core::delivery::{Outcome, Rejection};

use super::resolve::NotPublic;
use crate::answer::Answer;
use crate::sink::NotReady;
use crate::tls;

/// The longest a receiver can make us wait.
const MAX_AFTER: Duration = Duration::from_hours(1);

/// The receiver wants nothing more at this path (`CloudEvents` HTTP Web Hooks, 2.1).
pub(super) const GONE: &str = "Gone";

/// Statuses that the settings say something about.
#[derive(Clone, Debug, Default)]
pub(super) struct Statuses {
    pub(super) retry_on: Vec<u16>,
    pub(super) reject_on: Vec<u16>,
}

/// What an answer with this status says of a request with a body of `size` bytes.
pub(super) fn answer(status: StatusCode, headers: &HeaderMap, size: usize, statuses: &Statuses) -> Answer {
    let code = status.as_u16();
    if status.is_success() {
        return Outcome::Acked.into();
    }
    if statuses.reject_on.contains(&code) {
        return refused(status);
    }
    let again = || -> Answer {
        Outcome::Retry { reason: format!("the receiver answers {status}"), after: retry_after(headers) }
            .into()
    };
    let standing = |reason: &str, what: &str| {
        let not_ready = Some(NotReady::new(reason, format!("the receiver answers {status}: {what}")));
        Answer { not_ready, ..again() }
    };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            standing("Unauthorized", "it does not accept the credentials, or their absence")
        }
        StatusCode::FORBIDDEN => standing("PermissionDenied", "the credentials may not send there"),
        StatusCode::NOT_FOUND => standing("NotFound", "nothing is under the URL and the path"),
        StatusCode::GONE => standing(
            GONE,
            "it wants no events any more, and gets none; delete the Subscription, or edit its sink",
        ),
        _ if statuses.retry_on.contains(&code) => again(),
        // The receiver does not say its limit; it is below this.
        StatusCode::PAYLOAD_TOO_LARGE => {
            Outcome::Rejected { reason: Rejection::TooLarge { size, limit: size.saturating_sub(1) } }.into()
        }
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::MISDIRECTED_REQUEST
        | StatusCode::LOCKED
        | StatusCode::FAILED_DEPENDENCY
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS => again(),
        _ if status.is_server_error() => again(),
        _ if status.is_client_error() || status.is_redirection() => refused(status),
        // No answer ends with such a status.
        _ => again(),
    }
}

fn refused(status: StatusCode) -> Answer {
    let redirected = if status.is_redirection() { ", and redirects are not followed" } else { "" };
    let reason = Rejection::Refused(format!("the receiver answers {status}{redirected}"));
    Outcome::Rejected { reason }.into()
}

/// Seconds, or a date, which the receiver's own clock makes seconds of.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let after = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let parse = |text: &str| DateTimeParser::new().parse_timestamp(text).ok();
        let now = parse(headers.get(DATE)?.to_str().ok()?)?;
        Duration::try_from(parse(text)?.duration_since(now)).unwrap_or_default()
    };
    Some(after.min(MAX_AFTER))
}

/// Why there is no connection to `server`.
pub(super) fn connect(error: &(dyn Error + 'static), server: &str) -> NotReady {
    let mut last = error;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return tls::refused(error, server);
        }
        if let Some(error) = error.downcast_ref::<NotPublic>() {
            return not_public(*error, server);
        }
        last = error;
        // An error of I/O leaves out what it holds itself.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    NotReady::new("Unreachable", format!("{server} cannot be reached: {last}"))
}

/// The operator's policy.
pub(super) fn not_public(error: NotPublic, server: &str) -> NotReady {
    NotReady::new("AddressRefused", format!("{server} may not be connected to: {error}"))
}

/// What a request that got no answer says. Whoever asks tries to connect, and then knows better.
pub(super) fn request(error: &hyper_util::client::legacy::Error, server: &str) -> Answer {
    Answer::retry(format!("no answer: {}", connect(error, server)))
}

#[cfg(test)]
#[path = "classify/tests.rs"]
mod tests;
