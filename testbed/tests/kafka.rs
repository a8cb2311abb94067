//! Kafka does what tests rely on: each listener takes who it should and refuses the others, records survive a crash, and
//! Kafka's own tools agree.

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tidings_testbed::certificates::{Authority, Identity};
use tidings_testbed::component::Home;
use tidings_testbed::kafka::{Kafka, KafkaOptions, KafkaUser, Listener};
use tidings_testbed::proxy::Link;
use tidings_testbed::tokens::Issuer;
use tokio::sync::OnceCell;

const SOON: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_hours(1);
/// In milliseconds. What the broker takes is what the token itself says.
const YEAR_2100: i64 = 4_102_444_800_000;
const SASL: [Listener; 2] = [Listener::Sasl, Listener::SaslTls];

/// One for all tests that do not break it.
async fn shared() -> Result<&'static Kafka> {
    static KAFKA: OnceCell<Kafka> = OnceCell::const_new();
    let users = vec![KafkaUser::new("ann", "secret"), KafkaUser::new("bob", "b").writing_only(&["orders"])];
    let options = KafkaOptions { users, ..KafkaOptions::default() };
    KAFKA.get_or_try_init(|| Kafka::start_with(&Home::Temporary, options)).await
}

/// What librdkafka asks of us, and tells by the way.
#[derive(Default)]
struct Witness {
    token: Option<String>,
    reasons: Mutex<Vec<String>>,
}

impl Witness {
    fn reasons(&self) -> MutexGuard<'_, Vec<String>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Witness {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        self.reasons().push(format!("{error}: {reason}"));
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let token = self.token.clone().ok_or("no token")?;
        Ok(OAuthToken { token, principal_name: "anybody".to_owned(), lifetime_ms: YEAR_2100 })
    }
}

impl ConsumerContext for Witness {}

/// Comes in and asks what there is, or says why it cannot.
async fn enter(config: ClientConfig, token: Option<String>) -> Result<Result<(), String>> {
    let attempt = move || {
        let mut config = config;
        config.set("group.id", "anybody");
        let witness = Witness { token, ..Witness::default() };
        let consumer = BaseConsumer::from_config_and_context(&config, witness)?;
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            // Tokens and reasons come only while it is polled.
            let _ = consumer.poll(Duration::from_millis(50));
            if consumer.fetch_metadata(None, Duration::from_millis(500)).is_ok() {
                return Ok(Ok(()));
            }
            let _ = consumer.poll(Duration::from_millis(50));
            if let Some(reason) = consumer.context().reasons().first() {
                return Ok(Err(reason.clone()));
            }
        }
        bail!("neither in nor refused within {SOON:?}")
    };
    tokio::task::spawn_blocking(attempt).await?
}

async fn refusal(config: ClientConfig, token: Option<String>) -> Result<String> {
    enter(config, token).await?.err().context("it was let in")
}

fn login(kafka: &Kafka, listener: Listener, mechanism: &str, user: &str, password: &str) -> ClientConfig {
    let mut config = kafka.client(listener);
    config.set("sasl.mechanisms", mechanism).set("sasl.username", user).set("sasl.password", password);
    config
}

fn bearer(kafka: &Kafka, listener: Listener) -> ClientConfig {
    let mut config = kafka.client(listener);
    config.set("sasl.mechanisms", "OAUTHBEARER");
    config
}

fn certified(kafka: &Kafka, Identity { certificate, key }: &Identity) -> ClientConfig {
    let mut config = kafka.client(Listener::MutualTls);
    config.set("ssl.certificate.pem", certificate).set("ssl.key.pem", key);
    config
}

async fn write(config: &ClientConfig, topic: &str, key: &str) -> Result<()> {
    let mut config = config.clone();
    config.set("enable.idempotence", "true").set("message.timeout.ms", "20000");
    // Else it waits for half a minute that somebody creates the topic.
    config.set("topic.metadata.propagation.max.ms", "1000");
    let producer: FutureProducer = config.create()?;
    let headers = OwnedHeaders::new().insert(Header { key: "ce_id", value: Some("1") });
    let record = FutureRecord::to(topic).key(key).payload("payload").headers(headers);
    producer.send(record, Duration::ZERO).await.map(drop).map_err(|(error, _)| error.into())
}

#[tokio::test]
async fn every_listener_takes_who_has_what_it_asks_for() -> Result<()> {
    let kafka = shared().await?;
    let certificate = kafka.authority().client("ann", None)?;
    let mut ways = vec![
        ("in clear", kafka.client(Listener::Plain)),
        ("TLS", kafka.client(Listener::Tls)),
        ("mTLS", certified(kafka, &certificate)),
    ];
    for listener in SASL {
        ways.push(("PLAIN", login(kafka, listener, "PLAIN", "ann", "secret")));
        ways.push(("SCRAM", login(kafka, listener, "SCRAM-SHA-512", "ann", "secret")));
        ways.push(("OAUTHBEARER", bearer(kafka, listener)));
    }
    let token = kafka.issuer().token("ann", HOUR)?;
    for (name, config) in ways {
        let answer = enter(config, Some(token.clone())).await?;
        assert_eq!(answer, Ok(()), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn every_listener_refuses_who_has_it_not() -> Result<()> {
    let kafka = shared().await?;
    let stranger = Authority::new("stranger")?;

    let mut untrusting = kafka.client(Listener::Tls);
    untrusting.set("ssl.ca.pem", stranger.certificate());
    let reason = refusal(untrusting, None).await?;
    assert!(reason.contains("certificate verify failed"), "{reason}");

    let expired = kafka.authority().expired_client("ann")?;
    let foreign = stranger.client("ann", None)?;
    for config in [kafka.client(Listener::MutualTls), certified(kafka, &expired), certified(kafka, &foreign)]
    {
        let reason = refusal(config, None).await?;
        assert!(reason.contains("SSL"), "{reason}");
    }

    for listener in SASL {
        for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
            let reason = refusal(login(kafka, listener, mechanism, "ann", "guess"), None).await?;
            assert!(reason.contains("Authentication failed"), "{reason}");
        }
        let forged = Issuer::new()?.token("ann", HOUR)?;
        let reason = refusal(bearer(kafka, listener), Some(forged)).await?;
        assert!(reason.contains("invalid_token"), "{reason}");
    }
    Ok(())
}

#[tokio::test]
async fn a_user_writes_only_where_allowed_however_it_came_in() -> Result<()> {
    let kafka = shared().await?;
    for topic in ["orders", "invoices"] {
        kafka.create_topic(topic, 1, &[]).await?;
    }
    let certificate = kafka.authority().client("bob", None)?;
    let by_password = login(kafka, Listener::SaslTls, "SCRAM-SHA-512", "bob", "b");
    for config in [by_password, certified(kafka, &certificate)] {
        write(&config, "orders", "allowed").await?;
        let error = format!("{:?}", write(&config, "invoices", "refused").await.unwrap_err());
        assert!(error.contains("TopicAuthorizationFailed"), "{error}");
    }
    assert_eq!(kafka.records("orders").await?.len(), 2);
    assert_eq!(kafka.records("invoices").await?, []);
    Ok(())
}

#[tokio::test]
async fn a_changed_password_is_the_one_that_counts() -> Result<()> {
    let kafka = shared().await?;
    kafka.set_password("carl", "old").await?;
    let carl = |password| login(kafka, Listener::Sasl, "SCRAM-SHA-512", "carl", password);
    assert_eq!(enter(carl("old"), None).await?, Ok(()));
    kafka.set_password("carl", "new").await?;
    assert_eq!(enter(carl("new"), None).await?, Ok(()));
    let reason = refusal(carl("old"), None).await?;
    assert!(reason.contains("Authentication failed"), "{reason}");
    Ok(())
}

/// The other side of the token endpoint is Kafka's own client.
#[tokio::test]
async fn a_client_with_the_right_secret_gets_a_token_that_opens_the_broker() -> Result<()> {
    let kafka = shared().await?;
    let tokens = kafka.tokens().await?;
    let list = async |secret: &str| {
        let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLogin";
        let text = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\n\
             sasl.login.callback.handler.class={module}CallbackHandler\n\
             sasl.oauthbearer.token.endpoint.url={}\n\
             sasl.jaas.config={module}Module required clientId=\"ann\" clientSecret=\"{secret}\";\n",
            tokens.url()
        );
        let file = kafka.folder().join(format!("client-{secret}.properties"));
        std::fs::write(&file, text)?;
        let (allowed, address) = (
            format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={}", tokens.url()),
            kafka.address(Listener::Sasl),
        );
        let (class, file) = ("org.apache.kafka.tools.TopicCommand", file.display().to_string());
        kafka
            .tool(&[&allowed, class, "--list", "--bootstrap-server", &address, "--command-config", &file])
            .await
    };
    kafka.create_topic("listed", 1, &[]).await?;
    assert!(list("secret").await?.lines().any(|topic| topic == "listed"));
    assert_eq!(tokens.given(), 1);
    let error = list("guess").await.unwrap_err().to_string();
    assert!(error.contains("invalid_client"), "{error}");
    assert_eq!(tokens.given(), 1);
    Ok(())
}

#[tokio::test]
async fn what_was_written_is_read_by_kafkas_own_consumer_too() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("read", 2, &[("cleanup.policy", "compact")]).await?;
    write(&kafka.client(Listener::Plain), "read", "key").await?;
    let records = kafka.records("read").await?;
    let [record] = records.as_slice() else { bail!("not one record: {records:?}") };
    assert_eq!(record.key.as_deref(), Some(&b"key"[..]));
    assert_eq!(record.value.as_deref(), Some(&b"payload"[..]));
    assert_eq!(record.header("ce_id"), Some("1"));
    let lines = kafka.console_consumer("read", 1).await?;
    assert_eq!(lines, [format!("Partition:{}\tce_id:1\tkey\tpayload", record.partition)]);
    Ok(())
}

#[tokio::test]
async fn a_topic_is_there_only_from_its_creation_to_its_end() -> Result<()> {
    let kafka = shared().await?;
    let plain = kafka.client(Listener::Plain);
    let missing = format!("{:?}", write(&plain, "short", "early").await.unwrap_err());
    assert!(missing.contains("UnknownTopic"), "{missing}");
    kafka.create_topic("short", 1, &[]).await?;
    write(&plain, "short", "in time").await?;
    kafka.delete_topic("short").await?;
    let missing = kafka.records("short").await.unwrap_err().to_string();
    assert!(missing.contains("there is no topic short"), "{missing}");
    Ok(())
}

#[tokio::test]
async fn kafkas_own_load_tool_says_how_fast_it_was() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("loaded", 1, &[]).await?;
    let report = kafka.producer_performance("loaded", 1000, 100, &["acks=all"]).await?;
    assert!(report.contains("1000 records sent"), "{report}");
    assert_eq!(kafka.records("loaded").await?.len(), 1000);
    Ok(())
}

#[tokio::test]
async fn what_the_network_holds_back_is_acknowledged_when_it_lets_go() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("far", 1, &[]).await?;
    let proxied = kafka.client(Listener::Proxied);
    let proxy = kafka.proxy(Link::GOOD).await?;
    write(&proxied, "far", "near").await?;
    proxy.set(Link::Silent);
    let mut late = std::pin::pin!(write(&proxied, "far", "late"));
    let early = tokio::time::timeout(Duration::from_secs(1), &mut late).await;
    ensure!(early.is_err(), "acknowledged by nobody: {early:?}");
    proxy.set(Link::GOOD);
    late.await?;
    assert_eq!(kafka.records("far").await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_broken_broker_keeps_what_it_acknowledged_and_nothing_else_is_acknowledged() -> Result<()> {
    let mut kafka = Kafka::start().await?;
    let (plain, address) = (kafka.client(Listener::Plain), kafka.address(Listener::Tls));
    kafka.create_topic("kept", 1, &[]).await?;
    write(&plain, "kept", "before").await?;

    kafka.kill()?;
    assert!(!kafka.is_running());
    kafka.restart().await?;
    assert_eq!(kafka.address(Listener::Tls), address);
    assert_eq!(kafka.records("kept").await?.len(), 1);

    kafka.pause()?;
    let late = write(&plain, "kept", "late");
    let mut late = std::pin::pin!(late);
    let early = tokio::time::timeout(Duration::from_secs(2), &mut late).await;
    ensure!(early.is_err(), "acknowledged while paused: {early:?}");
    kafka.resume()?;
    late.await?;
    assert_eq!(kafka.records("kept").await?.len(), 2);

    kafka.stop().await?;
    assert!(!kafka.is_running());
    Ok(())
}
