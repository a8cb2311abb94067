//! Makes one producer after the other, and gets tokens for them.
//!
//! Before: sinks/src/kafka/client.rs
//! Next: sinks/src/kafka/producer.rs

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidings_config::secret::Secrets;
use tidings_config::sink::kafka::ValidKafkaConnection;
use tidings_config::sink::kafka::sasl::{ValidKafkaOauth, ValidKafkaSasl};
use tokio::time::Instant;

use super::client::Shared;
use super::config::Config;
use super::producer::Producer;
use super::token::{self, Token};
use crate::SinkContext;
use crate::link::{RECONNECT, STABLE};
use crate::sink::NotReady;

/// What a producer is made from.
pub(super) struct Origin {
    pub(super) valid: ValidKafkaConnection,
    pub(super) context: SinkContext,
}

/// Keeps a producer, for ever.
pub(super) async fn keep(origin: Origin, shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        let since = Instant::now();
        let not_ready = match origin.open(&shared).await {
            Ok((producer, token)) => {
                let producer = Arc::new(producer);
                shared.link.up(producer.clone());
                tokio::select! {
                    not_ready = producer.fatal() => not_ready,
                    never = origin.refresh(&producer, token) => match never {},
                    () = shared.renew.notified() => continue,
                }
            }
            Err(not_ready) => not_ready,
        };
        shared.link.down(not_ready);
        failures = if since.elapsed() >= STABLE { 1 } else { failures + 1 };
        tokio::time::sleep(RECONNECT.delay(failures, fastrand::f64())).await;
    }
}

// === impl Origin ===

impl Origin {
    async fn open(&self, shared: &Shared) -> Result<(Producer, Option<Token>), NotReady> {
        let token = match self.oauth() {
            Some((oauth, secrets)) => Some(token::fetch(oauth, secrets).await?),
            None => None,
        };
        let config = Arc::new(Config::new(&self.valid, &self.context.secrets, &self.context.owner)?);
        let (limits, shown) = (shared.limits.clone(), token.clone());
        let batch_bytes = shared.batch_bytes.load(Ordering::Relaxed);
        let made = tokio::task::spawn_blocking(move || Producer::open(config, batch_bytes, limits, shown));
        let producer = made
            .await
            .unwrap_or_else(|_| Err(NotReady::new("OutOfResources", "the producer could not be made")))?;
        Ok((producer, token))
    }

    fn oauth(&self) -> Option<(&ValidKafkaOauth, &Secrets)> {
        match &self.valid.sasl {
            Some(ValidKafkaSasl::Oauth(oauth)) => Some((oauth, &self.context.secrets)),
            _ => None,
        }
    }

    /// Gets the next token before the last one has expired. librdkafka asks for it when four fifths of the time have gone.
    async fn refresh(&self, producer: &Producer, first: Option<Token>) -> std::convert::Infallible {
        let (Some((oauth, secrets)), Some(first)) = (self.oauth(), first) else {
            return std::future::pending().await;
        };
        let mut pause = first.lifetime.mul_f64(0.6);
        let mut failures = 0;
        loop {
            tokio::time::sleep(pause).await;
            pause = match token::fetch(oauth, secrets).await {
                Ok(token) => {
                    failures = 0;
                    let pause = token.lifetime.mul_f64(0.6);
                    producer.events.set_token(token);
                    pause
                }
                Err(not_ready) => {
                    failures += 1;
                    producer.events.miss_token(not_ready);
                    RECONNECT.delay(failures, fastrand::f64())
                }
            };
        }
    }
}
