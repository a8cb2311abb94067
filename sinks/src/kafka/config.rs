//! Settings and their Secrets as librdkafka wants them.
//!
//! Before: sinks/src/kafka/keeper.rs
//! Next: sinks/src/kafka/producer.rs

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use tidings_config::secret::Secrets;
use tidings_config::sink::kafka::sasl::ValidKafkaSasl;
use tidings_config::sink::kafka::{KafkaCompression, ValidKafkaConnection};
use tidings_config::sink::tls::{ValidCertificate, ValidTls};

use crate::sink::NotReady;
use crate::tls;

/// What one record may have at most, whatever the brokers take: the queue must have room for it.
pub(super) const MAX_RECORD: usize = 16 << 20;
/// What librdkafka holds at most, in KiB; what does not fit waits outside.
const QUEUE_KIB: usize = 32 << 10;
/// Records that share a request have so many bytes at most, unless a topic takes less: what brokers take without being
/// told otherwise, and some room for what is around the records.
pub(super) const BATCH_BYTES: usize = 1_000_000;
/// A record is given up when its partition could not take it for so long, while others could.
pub(super) const RECORD_TIMEOUT: Duration = Duration::from_secs(20);
/// For TCP, TLS and SASL together, and for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Between attempts to connect, at most.
const RECONNECT: Duration = Duration::from_secs(1);

/// How to connect, whichever client of librdkafka it is for.
#[derive(Clone)]
pub(super) struct Config {
    /// Without a token; credentials are in it, so it is never printed.
    client: ClientConfig,
    /// What TLS is made with, for who wants to see what is wrong with it.
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    /// As they were written down.
    pub(super) brokers: Vec<String>,
    /// Whether sizes on the wire are those of the records.
    pub(super) compressed: bool,
}

// === impl Config ===

impl Config {
    /// Reads what is needed of `secrets`.
    pub(super) fn new(
        valid: &ValidKafkaConnection,
        secrets: &Secrets,
        owner: &str,
    ) -> Result<Self, NotReady> {
        let ValidKafkaConnection { brokers, tls, sasl, compression, linger } = valid;
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Warning);
        client.set("bootstrap.servers", brokers.join(","));
        client.set("client.id", format!("tidings.{}", owner.replace('/', ".")));
        client.set(
            "security.protocol",
            match (tls, sasl) {
                (None, None) => "plaintext",
                (Some(_), None) => "ssl",
                (None, Some(_)) => "sasl_plaintext",
                (Some(_), Some(_)) => "sasl_ssl",
            },
        );
        let millis = |duration: Duration| duration.as_millis().to_string();
        client.set("socket.timeout.ms", millis(ANSWER));
        client.set("socket.connection.setup.timeout.ms", millis(ANSWER));
        client.set("api.version.request.timeout.ms", millis(ANSWER));
        client.set("reconnect.backoff.max.ms", millis(RECONNECT));
        client.set("socket.nagle.disable", "true");
        if let Some(tls) = tls {
            set_tls(&mut client, tls, secrets)?;
        }
        match sasl {
            None => {}
            Some(ValidKafkaSasl::Password { mechanism, user, password }) => {
                client.set("sasl.mechanism", mechanism.as_str());
                client.set("sasl.username", user).set("sasl.password", secrets.text(password)?);
            }
            Some(ValidKafkaSasl::Oauth(_)) => {
                client.set("sasl.mechanism", "OAUTHBEARER");
            }
        }
        client.set("linger.ms", millis(*linger));
        client.set(
            "compression.type",
            match compression {
                KafkaCompression::None => "none",
                KafkaCompression::Gzip => "gzip",
                KafkaCompression::Snappy => "snappy",
                KafkaCompression::Lz4 => "lz4",
                KafkaCompression::Zstd => "zstd",
            },
        );
        // Nothing else can be wrong with what we were given: the same Secrets, read by those who say what is wrong.
        let tls = tls.as_ref().map(|tls| tls::client_config(tls, secrets).map(Arc::new)).transpose()?;
        let compressed = *compression != KafkaCompression::None;
        Ok(Self { client, tls, brokers: brokers.clone(), compressed })
    }

    /// For a producer whose requests have at most `batch_bytes`, unless one record alone has more.
    pub(super) fn producer(&self, batch_bytes: usize) -> ClientConfig {
        let mut config = self.client.clone();
        config.set("acks", "all").set("enable.idempotence", "true");
        config.set("message.timeout.ms", RECORD_TIMEOUT.as_millis().to_string());
        config.set("request.timeout.ms", ANSWER.as_millis().to_string());
        config.set("message.max.bytes", MAX_RECORD.to_string());
        config.set("batch.size", batch_bytes.to_string());
        config.set("queue.buffering.max.kbytes", QUEUE_KIB.to_string());
        // Else what goes to a missing topic waits for half a minute that somebody creates it.
        config.set("topic.metadata.propagation.max.ms", "1000");
        // Where Kafka's own clients put a key, so that other topics of the same keys can be joined.
        config.set("partitioner", "murmur2_random");
        config
    }

    /// For a consumer that reads from where it says to where there is nothing more, and stores for `group` what it says.
    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.admin();
        config.set("group.id", group);
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "earliest").set("enable.partition.eof", "true");
        // The default is 64 MiB for each partition.
        config.set("queued.max.messages.kbytes", "16384");
        config
    }

    /// For a client that only asks.
    pub(super) fn admin(&self) -> ClientConfig {
        let mut config = self.client.clone();
        for setting in ["linger.ms", "compression.type"] {
            config.remove(setting);
        }
        config
    }
}

fn set_tls(client: &mut ClientConfig, valid: &ValidTls, secrets: &Secrets) -> Result<(), NotReady> {
    let ValidTls { ca, certificate } = valid;
    match ca {
        Some(ca) => client.set("ssl.ca.pem", secrets.text(ca)?),
        // Where the usual distributions have them.
        None => client.set("ssl.ca.location", "probe"),
    };
    if let Some(ValidCertificate { chain, key }) = certificate {
        client.set("ssl.certificate.pem", secrets.text(chain)?).set("ssl.key.pem", secrets.text(key)?);
    }
    Ok(())
}
