//! Everything a NATS server can ask of whoever connects: who gets in, and what is said to who does not.

#[path = "fixture/event.rs"]
mod fixture;
#[path = "fixture/nats.rs"]
mod nats;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream::{self, stream};
use nkeys::KeyPair;
use serde_json::{Value, json};
use tidings_core::delivery::Outcome;
use tidings_testbed::certificates::Shown;
use tidings_testbed::component::Home;
use tidings_testbed::nats::operator::Operator;
use tidings_testbed::nats::{Nats, NatsOptions, NatsUser};
use tidings_testbed::wait::eventually;

use crate::fixture::todo;
use crate::nats::target_at;

const SOON: Duration = Duration::from_secs(10);

async fn start(options: NatsOptions) -> Result<Nats> {
    let nats = Nats::start_with(&Home::Temporary, options).await?;
    let config = stream::Config {
        name: "TODOS".to_owned(),
        subjects: vec!["todos.>".to_owned()],
        ..Default::default()
    };
    jetstream::new(nats.client().await?).create_stream(config).await?;
    Ok(nats)
}

/// `spec.sink.nats.auth` with one key of the Secret.
fn auth(field: &str) -> Value {
    json!({"auth": {field: {"name": "broker", "key": "it"}}})
}

/// Whoever has these settings and Secrets delivers.
async fn gets_in(nats: &Nats, settings: Value, secrets: &[(&str, &str)]) -> Result<()> {
    let target = target_at(&nats.url(), settings, secrets)?;
    eventually(SOON, "the sink is ready", || target.sink.check()).await?;
    assert_eq!(target.sink.deliver(&[target.encoder.encode(&todo("milk"))]).await, [Outcome::Acked]);
    Ok(())
}

/// Whoever has these does not, for `reason`; the words.
async fn stays_out(nats: &Nats, settings: Value, secrets: &[(&str, &str)], reason: &str) -> Result<String> {
    let target = target_at(&nats.url(), settings, secrets)?;
    let said = eventually(SOON, reason, || async {
        match target.sink.check().await {
            Err(not_ready) if not_ready.reason == reason => Ok(not_ready.message),
            other => Err(format!("{other:?}")),
        }
    });
    let said = said.await?;
    for (_, secret) in secrets {
        assert!(!said.contains(secret), "{said}");
    }
    Ok(said)
}

#[tokio::test]
async fn a_token_lets_in() -> Result<()> {
    let nats = start(NatsOptions { token: Some("sesame".to_owned()), ..NatsOptions::default() }).await?;
    gets_in(&nats, auth("tokenSecretRef"), &[("it", "sesame\n")]).await?;
    stays_out(&nats, auth("tokenSecretRef"), &[("it", "simsim")], "Unauthorized").await?;
    stays_out(&nats, json!({}), &[], "Unauthorized").await.map(drop)
}

#[tokio::test]
async fn the_holder_of_an_nkey_gets_in() -> Result<()> {
    let (known, unknown) = (KeyPair::new_user(), KeyPair::new_user());
    let options = NatsOptions {
        nkeys: vec![known.public_key()],
        users: vec![NatsUser::new("admin", "admin")],
        ..NatsOptions::default()
    };
    let nats = start(options).await?;
    gets_in(&nats, auth("nkeySecretRef"), &[("it", &known.seed()?)]).await?;
    stays_out(&nats, auth("nkeySecretRef"), &[("it", &unknown.seed()?)], "Unauthorized").await?;
    stays_out(&nats, auth("nkeySecretRef"), &[("it", &known.public_key())], "InvalidCredentials")
        .await
        .map(drop)
}

#[tokio::test]
async fn a_credentials_file_lets_in_whom_the_operator_knows() -> Result<()> {
    let operator = Arc::new(Operator::new()?);
    let nats = start(NatsOptions { operator: Some(operator.clone()), ..NatsOptions::default() }).await?;
    gets_in(&nats, auth("credsSecretRef"), &[("it", &operator.user()?)]).await?;
    stays_out(&nats, auth("credsSecretRef"), &[("it", &Operator::new()?.user()?)], "Unauthorized").await?;
    stays_out(&nats, auth("credsSecretRef"), &[("it", "no such file")], "InvalidCredentials").await.map(drop)
}

#[tokio::test]
async fn a_certificate_lets_in() -> Result<()> {
    let nats = start(NatsOptions { client_certificates: true, ..NatsOptions::default() }).await?;
    let authority = nats.authority().context("no authority")?;
    let tls = |certificate: Option<&str>| {
        let mut tls = json!({"caSecretRef": {"name": "broker", "key": "ca.crt"}});
        if let Some(certificate) = certificate {
            tls["certificateSecretName"] = certificate.into();
        }
        json!({ "tls": tls })
    };
    let (good, expired) = (authority.client("tidings", None)?, authority.expired_client("tidings")?);
    let secrets = |identity: &tidings_testbed::certificates::Identity| {
        [
            ("ca.crt", authority.certificate().to_owned()),
            ("tls.crt", identity.certificate.clone()),
            ("tls.key", identity.key.clone()),
        ]
    };
    for (identity, reason) in [(&good, None), (&expired, Some("CertificateRefused"))] {
        let secrets = secrets(identity);
        let secrets: Vec<_> = secrets.iter().map(|(key, value)| (*key, &**value)).collect();
        match reason {
            None => gets_in(&nats, tls(Some("broker")), &secrets).await?,
            Some(reason) => drop(stays_out(&nats, tls(Some("broker")), &secrets, reason).await?),
        }
    }
    let ca = [("ca.crt", authority.certificate())];
    stays_out(&nats, tls(None), &ca, "CertificateRefused").await.map(drop)
}

#[tokio::test]
async fn a_server_with_a_certificate_that_is_not_good_is_not_trusted() -> Result<()> {
    for (shown, reason) in [(Shown::Expired, "CertificateExpired"), (Shown::OtherHost, "WrongHostName")] {
        let nats =
            Nats::start_with(&Home::Temporary, NatsOptions { tls: true, shown, ..NatsOptions::default() });
        let nats = nats.await?;
        let ca = nats.authority().context("no authority")?.certificate();
        let settings = json!({"tls": {"caSecretRef": {"name": "broker", "key": "ca.crt"}}});
        stays_out(&nats, settings, &[("ca.crt", ca)], reason).await?;
    }
    Ok(())
}

#[tokio::test]
async fn streams_of_another_domain_are_not_found() -> Result<()> {
    let nats = start(NatsOptions { domain: Some("leaf".to_owned()), ..NatsOptions::default() }).await?;
    gets_in(&nats, json!({"domain": "leaf", "stream": "TODOS"}), &[]).await?;
    stays_out(&nats, json!({"domain": "hub"}), &[], "JetStreamNotEnabled").await.map(drop)
}
