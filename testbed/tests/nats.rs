//! NATS does what tests rely on: JetStream keeps messages, users have rights, TLS is verified, and each way to break it.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions};
use nkeys::KeyPair;
use tidings_testbed::certificates::Shown;
use tidings_testbed::component::Home;
use tidings_testbed::nats::{Nats, NatsOptions, NatsUser};
use tidings_testbed::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

async fn stream(client: &Client) -> Result<jetstream::Context> {
    let jetstream = jetstream::new(client.clone());
    let config = stream::Config {
        name: "kept".to_owned(),
        subjects: vec!["kept.>".to_owned()],
        ..stream::Config::default()
    };
    jetstream.get_or_create_stream(config).await?;
    Ok(jetstream)
}

async fn publish(jetstream: &jetstream::Context, subject: &'static str) -> Result<()> {
    jetstream.publish(subject, "payload".into()).await?.await?;
    Ok(())
}

#[tokio::test]
async fn messages_and_address_survive_a_crash() -> Result<()> {
    let mut nats = Nats::start().await?;
    let (client, url) = (nats.client().await?, nats.url());
    publish(&stream(&client).await?, "kept.one").await?;

    nats.kill()?;
    assert!(!nats.is_running());
    nats.restart().await?;

    assert_eq!(nats.url(), url);
    let jetstream = stream(&nats.client().await?).await?;
    assert_eq!(jetstream.get_stream("kept").await?.get_info().await?.state.messages, 1);
    Ok(())
}

#[tokio::test]
async fn a_stopped_server_is_gone_and_comes_back() -> Result<()> {
    let mut nats = Nats::start().await?;
    nats.stop().await?;
    assert!(!nats.is_running());
    assert!(nats.client().await.is_err());
    nats.restart().await?;
    nats.client().await?;
    Ok(())
}

#[tokio::test]
async fn a_paused_server_acknowledges_nothing_until_it_is_resumed() -> Result<()> {
    let mut nats = Nats::start().await?;
    let jetstream = stream(&nats.client().await?).await?;
    nats.pause()?;
    let ack = tokio::time::timeout(Duration::from_secs(1), publish(&jetstream, "kept.late")).await;
    assert!(ack.is_err(), "acknowledged while paused: {ack:?}");
    nats.resume()?;
    eventually(SOON, "an acknowledgement", || publish(&jetstream, "kept.late")).await
}

#[tokio::test]
async fn only_users_with_the_password_get_in() -> Result<()> {
    let users = vec![NatsUser::new("ann", "secret")];
    let nats = Nats::start_with(&Home::Temporary, NatsOptions { users, ..NatsOptions::default() }).await?;
    nats.client().await?;
    let wrong = ConnectOptions::with_user_and_password("ann".into(), "guess".into());
    let error = wrong.connect(nats.url()).await.unwrap_err().to_string();
    assert!(error.contains("authorization violation"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_user_publishes_only_where_allowed() -> Result<()> {
    let users = vec![NatsUser::new("ann", "a"), NatsUser::new("bob", "b").publishing_only(&["other.>"])];
    let nats = Nats::start_with(&Home::Temporary, NatsOptions { users, ..NatsOptions::default() }).await?;
    let allowed = stream(&nats.client().await?).await?;

    let (send, mut events) = tokio::sync::mpsc::channel(8);
    let bob = ConnectOptions::with_user_and_password("bob".into(), "b".into()).event_callback(move |event| {
        let send = send.clone();
        async move {
            let _ = send.send(event.to_string().to_lowercase()).await;
        }
    });
    let bob = bob.connect(nats.url()).await?;
    bob.publish("kept.refused", "payload".into()).await?;
    let refused = async {
        loop {
            let event = events.recv().await.context("no more events")?;
            if event.contains("permissions violation") {
                return anyhow::Ok(event);
            }
        }
    };
    let refusal = tokio::time::timeout(SOON, refused).await??;
    assert!(refusal.contains("kept.refused"), "{refusal}");
    publish(&allowed, "kept.allowed").await?;
    assert_eq!(allowed.get_stream("kept").await?.get_info().await?.state.messages, 1);
    Ok(())
}

#[tokio::test]
async fn tls_is_verified_against_the_authority() -> Result<()> {
    let nats =
        Nats::start_with(&Home::Temporary, NatsOptions { tls: true, ..NatsOptions::default() }).await?;
    publish(&stream(&nats.client().await?).await?, "kept.secret").await?;
    let error = async_nats::connect(nats.url()).await.unwrap_err();
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn the_largest_message_is_as_set() -> Result<()> {
    let options = NatsOptions { max_payload: Some(4096), ..NatsOptions::default() };
    let nats = Nats::start_with(&Home::Temporary, options).await?;
    assert_eq!(nats.client().await?.server_info().max_payload, 4096);
    Ok(())
}

#[tokio::test]
async fn without_a_certificate_nobody_gets_in_where_one_is_demanded() -> Result<()> {
    let options = NatsOptions { client_certificates: true, ..NatsOptions::default() };
    let nats = Nats::start_with(&Home::Temporary, options).await?;
    publish(&stream(&nats.client().await?).await?, "kept.known").await?;
    let ca = nats.ca_path().context("no authority")?.clone();
    let error =
        ConnectOptions::new().add_root_certificates(ca.clone()).connect(nats.url()).await.unwrap_err();
    assert!(format!("{error:?}").contains("CertificateRequired"), "{error:?}");

    let [certificate, key] = ["expired.crt", "expired.key"].map(|name| nats.folder().join(name));
    let authority = nats.authority().context("no authority")?;
    authority.expired_client("testbed")?.write(&certificate, &key)?;
    let expired = ConnectOptions::new().add_root_certificates(ca).add_client_certificate(certificate, key);
    let error = expired.connect(nats.url()).await.unwrap_err();
    assert!(format!("{error:?}").contains("CertificateExpired"), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_refused() -> Result<()> {
    for (shown, reason) in [(Shown::Expired, "certificate expired"), (Shown::OtherHost, "not valid for name")]
    {
        let options = NatsOptions { tls: true, shown, ..NatsOptions::default() };
        let nats = Nats::start_with(&Home::Temporary, options).await?;
        let error = nats.client().await.unwrap_err();
        assert!(format!("{error:?}").contains(reason), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn only_the_holder_of_a_named_key_gets_in() -> Result<()> {
    let (known, unknown) = (KeyPair::new_user(), KeyPair::new_user());
    let options = NatsOptions {
        nkeys: vec![known.public_key()],
        users: vec![NatsUser::new("ann", "secret")],
        ..NatsOptions::default()
    };
    let nats = Nats::start_with(&Home::Temporary, options).await?;
    nats.client().await?;
    ConnectOptions::with_nkey(known.seed()?).connect(nats.url()).await?;
    let error = ConnectOptions::with_nkey(unknown.seed()?).connect(nats.url()).await.unwrap_err();
    assert!(error.to_string().contains("authorization violation"), "{error}");
    Ok(())
}

#[tokio::test]
async fn only_who_has_the_token_gets_in() -> Result<()> {
    let options = NatsOptions { token: Some("open sesame".to_owned()), ..NatsOptions::default() };
    let nats = Nats::start_with(&Home::Temporary, options).await?;
    nats.client().await?;
    let error = async_nats::connect(nats.url()).await.unwrap_err();
    assert!(error.to_string().contains("authorization violation"), "{error}");
    Ok(())
}
