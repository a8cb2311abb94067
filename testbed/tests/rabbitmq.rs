//! RabbitMQ does what tests rely on: each listener takes who it should and refuses the others, messages survive a crash,
//! and each way to break it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tidings_testbed::certificates::{Authority, Identity};
use tidings_testbed::component::Home;
use tidings_testbed::rabbitmq::{Rabbitmq, RabbitmqOptions, RabbitmqUser, connect};
use tidings_testbed::wait::eventually;
use tokio::sync::OnceCell;

const SOON: Duration = Duration::from_secs(30);

/// One for all tests that do not break it.
async fn shared() -> Result<&'static Rabbitmq> {
    static RABBITMQ: OnceCell<Rabbitmq> = OnceCell::const_new();
    let users = vec![
        RabbitmqUser::new("ann", "secret"),
        RabbitmqUser::new("bob", "b").publishing_only(&["orders"]),
        RabbitmqUser::new("carl", "old"),
    ];
    let options = RabbitmqOptions { users, ..RabbitmqOptions::default() };
    RABBITMQ.get_or_try_init(|| Rabbitmq::start_with(&Home::Temporary, options)).await
}

fn tls(authority: &Authority, identity: Option<Identity>) -> OwnedTLSConfig {
    let identity = identity.map(|Identity { certificate, key }| OwnedIdentity::PKCS8 {
        pem: certificate.into_bytes(),
        key: key.into_bytes(),
    });
    OwnedTLSConfig { identity, cert_chain: Some(authority.certificate().to_owned()) }
}

/// Why nobody gets in this way.
async fn refusal(url: &str, tls: OwnedTLSConfig) -> Result<String> {
    let error = connect(url, tls).await.err().context("it was let in")?;
    Ok(format!("{error:?}"))
}

/// The node has closed a TLS connection for this reason. The client may hear of it, or only that it was closed: what it
/// sent meanwhile stays unread.
async fn closed_for(rabbitmq: &Rabbitmq, reason: &str) -> Result<()> {
    eventually(SOON, reason, || async {
        let log = std::fs::read_to_string(rabbitmq.log())?;
        ensure!(log.contains(reason), "not in the log:\n{}", rabbitmq.log_tail());
        Ok(())
    })
    .await
}

/// A channel on which the broker confirms what it holds.
async fn confirming(connection: &Connection) -> Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn declare(connection: &Connection, queue: &str) -> Result<u32> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare(queue.into(), options, FieldTable::default()).await?.message_count())
}

/// Publishes through the default exchange, and returns when the broker holds it.
async fn publish(channel: &Channel, queue: &str) -> Result<()> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirm = channel.basic_publish("".into(), queue.into(), options, b"payload", properties).await?;
    let answer = confirm.await?;
    ensure!(matches!(answer, Confirmation::Ack(None)), "not held: {answer:?}");
    Ok(())
}

#[tokio::test]
async fn every_listener_takes_who_has_what_it_asks_for() -> Result<()> {
    let rabbitmq = shared().await?;
    rabbitmq.client().await?;
    let authority = rabbitmq.authority();
    let address = rabbitmq.tls_address();
    connect(&format!("amqps://ann:secret@{address}/%2f"), tls(authority, None)).await?;
    let ann = authority.client("ann", None)?;
    connect(&format!("amqps://{address}/%2f?auth_mechanism=external"), tls(authority, Some(ann))).await?;
    Ok(())
}

#[tokio::test]
async fn every_listener_refuses_who_has_it_not() -> Result<()> {
    let rabbitmq = shared().await?;
    let (address, secure, authority) = (rabbitmq.address(), rabbitmq.tls_address(), rabbitmq.authority());
    for (url, tls) in [
        (format!("amqp://ann:guess@{address}/%2f"), OwnedTLSConfig::default()),
        (format!("amqps://ann:guess@{secure}/%2f"), tls(authority, None)),
    ] {
        let reason = refusal(&url, tls).await?;
        assert!(reason.contains("ACCESS") && reason.contains("REFUSED"), "{reason}");
    }

    let stranger = Authority::new("stranger")?;
    let reason = refusal(&format!("amqps://ann:secret@{secure}/%2f"), tls(&stranger, None)).await?;
    assert!(reason.contains("UnknownIssuer"), "{reason}");

    let external = format!("amqps://{secure}/%2f?auth_mechanism=external");
    let nobody = authority.client("nobody", None)?;
    let reason = refusal(&external, tls(authority, Some(nobody))).await?;
    assert!(reason.contains("ACCESS"), "{reason}");
    let foreign = stranger.client("ann", None)?;
    refusal(&external, tls(authority, Some(foreign))).await?;
    closed_for(rabbitmq, "Fatal - Unknown CA").await
}

#[tokio::test]
async fn without_a_certificate_nobody_gets_in_where_one_is_demanded() -> Result<()> {
    let options = RabbitmqOptions { client_certificates: true, ..RabbitmqOptions::default() };
    let rabbitmq = Rabbitmq::start_with(&Home::Temporary, options).await?;
    let (address, authority) = (rabbitmq.tls_address(), rabbitmq.authority());
    let url = format!("amqps://guest:guest@{address}/%2f");
    connect(&url, tls(authority, Some(authority.client("guest", None)?))).await?;
    refusal(&url, tls(authority, None)).await?;
    closed_for(&rabbitmq, "Fatal - Certificate required").await?;
    refusal(&url, tls(authority, Some(authority.expired_client("guest")?))).await?;
    closed_for(&rabbitmq, "Fatal - Certificate Expired").await
}

#[tokio::test]
async fn a_user_publishes_only_where_allowed() -> Result<()> {
    let rabbitmq = shared().await?;
    declare(&rabbitmq.client().await?, "invoices").await?;
    let bob = connect(&format!("amqp://bob:b@{}/%2f", rabbitmq.address()), OwnedTLSConfig::default()).await?;
    let refused = publish(&confirming(&bob).await?, "invoices").await;
    let error = format!("{:?}", refused.unwrap_err());
    assert!(error.contains("ACCESS_REFUSED"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_changed_password_is_the_one_that_counts() -> Result<()> {
    let rabbitmq = shared().await?;
    rabbitmq.set_password("carl", "new").await?;
    let url = |password| format!("amqp://carl:{password}@{}/%2f", rabbitmq.address());
    connect(&url("new"), OwnedTLSConfig::default()).await?;
    let reason = refusal(&url("old"), OwnedTLSConfig::default()).await?;
    assert!(reason.contains("REFUSED"), "{reason}");
    Ok(())
}

/// One test, because each node takes seconds to start.
#[tokio::test]
async fn a_node_in_trouble_keeps_what_it_confirmed_and_confirms_nothing_else() -> Result<()> {
    let mut rabbitmq = Rabbitmq::start().await?;
    let (address, process) = (rabbitmq.address(), rabbitmq.process());
    let connection = rabbitmq.client().await?;
    declare(&connection, "kept").await?;
    publish(&confirming(&connection).await?, "kept").await?;

    rabbitmq.kill()?;
    assert!(!process.is_running());
    rabbitmq.restart().await?;
    assert_eq!(rabbitmq.address(), address);
    let connection = rabbitmq.client().await?;
    assert_eq!(declare(&connection, "kept").await?, 1);

    let channel = confirming(&connection).await?;
    rabbitmq.pause()?;
    let mut late = std::pin::pin!(publish(&channel, "kept"));
    let early = tokio::time::timeout(Duration::from_secs(1), &mut late).await;
    ensure!(early.is_err(), "confirmed while paused: {early:?}");
    rabbitmq.resume()?;
    late.await?;

    rabbitmq.set_memory_alarm(true).await?;
    let mut late = std::pin::pin!(publish(&channel, "kept"));
    let early = tokio::time::timeout(Duration::from_secs(1), &mut late).await;
    ensure!(early.is_err(), "confirmed in spite of the alarm: {early:?}");
    eventually(SOON, "the client is told", || async {
        if connection.status().blocked() { Ok(()) } else { Err("not blocked") }
    })
    .await?;
    rabbitmq.set_memory_alarm(false).await?;
    late.await?;
    assert_eq!(declare(&connection, "kept").await?, 3);

    rabbitmq.stop().await?;
    assert!(!rabbitmq.is_running());
    Ok(())
}
