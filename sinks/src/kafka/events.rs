//! What librdkafka tells and asks by itself, on a thread that waits for it.
//!
//! Before: sinks/src/kafka/producer.rs
//! Next: sinks/src/kafka/batch.rs

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::batch::Slot;
use super::token::Token;
use crate::sink::NotReady;

/// For so long what was said of a cause is worth more than that the connection broke.
const FRESH: Duration = Duration::from_secs(5);

/// What is known of one producer.
pub(super) struct Events {
    since: Instant,
    /// When a broker last said something of a record, in milliseconds.
    heard: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
    token: Mutex<Option<Token>>,
    /// Why there is no newer one.
    no_token: Mutex<Option<NotReady>>,
    /// The producer may not be able to go on.
    pub(super) fatal: Notify,
}

/// Why there is no connection, in librdkafka's words.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) code: RDKafkaErrorCode,
    /// Begins with the broker's address.
    pub(super) reason: String,
    at: Instant,
}

/// What librdkafka calls.
#[derive(Clone)]
pub(super) struct Listener(pub(super) Arc<Events>);

// === impl Events ===

impl Events {
    pub(super) fn new(token: Option<Token>) -> Self {
        Self {
            since: Instant::now(),
            heard: AtomicU64::new(0),
            trouble: Mutex::default(),
            token: Mutex::new(token),
            no_token: Mutex::default(),
            fatal: Notify::new(),
        }
    }

    /// When a broker last said something of a record, or the producer was made.
    pub(super) fn heard(&self) -> Instant {
        self.since + Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// A broker said something of a record.
    pub(super) fn hear(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(millis, Ordering::Relaxed);
    }

    /// Why there is no connection, unless it is well.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        lock(&self.trouble).clone()
    }

    /// A broker answered.
    pub(super) fn well(&self) {
        lock(&self.trouble).take();
    }

    /// What the brokers are shown from the next connection on.
    pub(super) fn set_token(&self, token: Token) {
        lock(&self.token).replace(token);
        lock(&self.no_token).take();
    }

    /// There is no newer token. What is connected already goes on.
    pub(super) fn miss_token(&self, not_ready: NotReady) {
        lock(&self.no_token).replace(not_ready);
    }

    /// Why there is no newer token, if one was wanted.
    pub(super) fn no_token(&self) -> Option<NotReady> {
        lock(&self.no_token).clone()
    }

    fn complain(&self, code: RDKafkaErrorCode, reason: &str) {
        let at = Instant::now();
        let mut trouble = lock(&self.trouble);
        if trouble.as_ref().is_none_or(|known| known.yields_to(code, at)) {
            *trouble = Some(Trouble { code, reason: reason.to_owned(), at });
        }
    }
}

// === impl Trouble ===

impl Trouble {
    fn yields_to(&self, code: RDKafkaErrorCode, at: Instant) -> bool {
        rank(code) >= rank(self.code) || at.duration_since(self.at) > FRESH
    }
}

/// What says more of a cause is higher.
fn rank(code: RDKafkaErrorCode) -> u8 {
    match code {
        RDKafkaErrorCode::AllBrokersDown => 0,
        RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut => 1,
        _ => 2,
    }
}

// === impl Listener ===

impl ClientContext for Listener {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Whatever matters is an outcome or a condition too.
        tracing::debug!(?level, facility, message, "librdkafka says");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        self.0.complain(code, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let token = lock(&self.0.token);
        let token = token.as_ref().ok_or("there is no token yet")?;
        Ok(OAuthToken {
            token: token.text.to_string(),
            principal_name: token.principal.clone(),
            lifetime_ms: token.expires_millis,
        })
    }
}

impl ConsumerContext for Listener {}

impl ProducerContext for Listener {
    type DeliveryOpaque = Box<Slot>;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: Box<Slot>) {
        let failure = match result {
            Ok(_) => None,
            Err((error, _)) => Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        // Codes below zero are librdkafka's own.
        if failure.is_none_or(|code| code as i32 > 0) {
            self.0.hear();
        }
        if failure == Some(RDKafkaErrorCode::Fatal) {
            self.0.fatal.notify_one();
        }
        slot.report(failure);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(events: &Events) -> Option<RDKafkaErrorCode> {
        events.trouble().map(|trouble| trouble.code)
    }

    #[tokio::test(start_paused = true)]
    async fn a_cause_is_worth_more_than_that_the_connection_broke_while_it_is_fresh() {
        let events = Events::new(None);
        assert_eq!(trouble(&events), None);
        for (code, expected) in [
            (RDKafkaErrorCode::AllBrokersDown, RDKafkaErrorCode::AllBrokersDown),
            (RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::BrokerTransportFailure),
            (RDKafkaErrorCode::AllBrokersDown, RDKafkaErrorCode::BrokerTransportFailure),
            (RDKafkaErrorCode::Authentication, RDKafkaErrorCode::Authentication),
            (RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::Authentication),
            (RDKafkaErrorCode::SSL, RDKafkaErrorCode::SSL),
        ] {
            events.complain(code, "");
            assert_eq!(trouble(&events), Some(expected), "{code}");
        }
        tokio::time::advance(FRESH * 2).await;
        events.complain(RDKafkaErrorCode::AllBrokersDown, "");
        assert_eq!(trouble(&events), Some(RDKafkaErrorCode::AllBrokersDown));
        events.well();
        assert_eq!(trouble(&events), None);
    }
}
