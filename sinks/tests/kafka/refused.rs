//! What is wrong: each mistake has its own reason, which is gone soon after it was put right.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures::future::try_join_all;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tidings_core::delivery::Outcome;
use tidings_testbed::certificates::{Authority, Shown};
use tidings_testbed::component::Home;
use tidings_testbed::kafka::{Kafka, KafkaOptions, Listener};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::{Wanted, is_retry, message, shared, until_acked, until_not_ready, until_ready};

/// Within which a mistake is to be in the condition.
const NOTICED: Duration = Duration::from_secs(10);
/// What no condition may repeat.
const PASSWORD: &str = "wrong-hunter2";

fn key(name: &str) -> Value {
    json!({"name": "broker", "key": name})
}

fn user(mechanism: &str, user: &str) -> Value {
    json!({mechanism: {"user": user, "passwordSecretRef": key("password")}})
}

/// Looks until `reason` is said, and that nothing is delivered meanwhile.
async fn said(wanted: Wanted<'_>, reason: &str) -> Result<String> {
    let settings = wanted.settings.clone();
    let target = wanted.target()?;
    let since = Instant::now();
    let words = until_not_ready(&target, reason).await?;
    assert!(since.elapsed() < NOTICED, "{settings}: {:?}", since.elapsed());
    assert!(!words.contains("hunter2"), "{words}");
    let outcomes = target.sink.deliver(&[message(&target, "milk")]).await;
    let [Outcome::Retry { reason, .. }] = &outcomes[..] else { bail!("{settings}: {outcomes:?}") };
    assert!(!reason.contains("hunter2"), "{reason}");
    Ok(words)
}

#[tokio::test]
async fn who_has_what_a_listener_asks_for_delivers() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("welcome", 1, &[]).await?;
    let identity = kafka.authority().client("ann", None)?;
    let files = [
        ("ca", kafka.authority().certificate()),
        ("password", "secret\n"),
        ("tls.crt", &identity.certificate),
        ("tls.key", &identity.key),
    ];
    let tls = json!({"caSecretRef": key("ca")});
    let certified = json!({"caSecretRef": key("ca"), "certificateSecretName": "broker"});
    let tokens = kafka.tokens().await?;
    let oauth = json!({"oauthBearer": {
        "tokenEndpoint": tokens.url(), "clientId": "ann", "clientSecretRef": key("password"), "scope": "broker",
    }});
    for (listener, settings) in [
        (Listener::Tls, json!({"tls": tls})),
        (Listener::MutualTls, json!({"tls": certified})),
        (Listener::Sasl, json!({"sasl": user("plain", "ann")})),
        (Listener::SaslTls, json!({"tls": tls, "sasl": user("plain", "ann")})),
        (Listener::SaslTls, json!({"tls": tls, "sasl": user("scramSha512", "ann")})),
        (Listener::SaslTls, json!({"tls": tls, "sasl": oauth})),
        (Listener::Sasl, json!({"sasl": oauth})),
    ] {
        let mut settings = settings;
        settings["topic"] = json!("welcome");
        let target = Wanted::at(kafka.address(listener), settings)?.with(&files).target()?;
        until_ready(&target).await?;
        assert_eq!(target.sink.deliver(&[message(&target, "milk")]).await, [Outcome::Acked]);
    }
    assert_eq!(kafka.records("welcome").await?.len(), 7);
    Ok(())
}

#[tokio::test]
async fn credentials_that_are_wrong_or_unusable_are_said_and_never_repeated() -> Result<()> {
    let kafka = shared().await?;
    let authority = Authority::new("somebody else")?;
    let files = [
        ("password", PASSWORD),
        ("ca", kafka.authority().certificate()),
        ("stranger", authority.certificate()),
        ("tls.crt", PASSWORD),
        ("tls.key", PASSWORD),
    ];
    let tls = json!({"caSecretRef": key("ca")});
    let tokens = kafka.tokens().await?;
    let oauth = |endpoint: &str, client: &str| {
        let client =
            json!({"tokenEndpoint": endpoint, "clientId": client, "clientSecretRef": key("password")});
        json!({ "oauthBearer": client })
    };
    let cases = [
        (Listener::Sasl, json!({"sasl": user("plain", "ann")}), "Unauthorized", "does not accept the user"),
        (
            Listener::SaslTls,
            json!({"tls": tls, "sasl": user("scramSha512", "ann")}),
            "Unauthorized",
            "does not accept the user",
        ),
        (Listener::Sasl, json!({"sasl": user("scramSha256", "ann")}), "Unauthorized", "SCRAM-SHA-512"),
        (Listener::Sasl, json!({"sasl": oauth(tokens.url(), "ann")}), "TokenRefused", "invalid_client"),
        (
            Listener::Sasl,
            json!({"sasl": oauth("http://127.0.0.1:9/", "ann")}),
            "TokenEndpointUnreachable",
            "gives no token",
        ),
        (
            Listener::Tls,
            json!({"tls": {"caSecretRef": key("password")}}),
            "InvalidCredentials",
            "has no certificate in PEM",
        ),
        (
            Listener::Tls,
            json!({"tls": {"caSecretRef": key("nothing")}}),
            "InvalidCredentials",
            "was not read",
        ),
        (
            Listener::MutualTls,
            json!({"tls": {"caSecretRef": key("ca"), "certificateSecretName": "broker"}}),
            "InvalidCredentials",
            "tls.crt of the Secret broker",
        ),
        (
            Listener::Tls,
            json!({"tls": {"caSecretRef": key("stranger")}}),
            "CertificateUntrusted",
            "no authority that is trusted",
        ),
        (Listener::MutualTls, json!({"tls": tls}), "CertificateRefused", "certificate of the bridge"),
        (Listener::Plain, json!({"tls": tls}), "TlsFailed", "does not speak TLS"),
        (Listener::Tls, json!({"tls": {}}), "CertificateUntrusted", "no authority that is trusted"),
    ];
    // Each waits for seconds, so they wait together.
    let cases = cases.map(async |(listener, settings, reason, words)| {
        let wanted = Wanted::at(kafka.address(listener), settings.clone())?.with(&files);
        let told = said(wanted, reason).await?;
        ensure!(told.contains(words), "{settings}: {told}");
        Ok(())
    });
    try_join_all(cases).await.map(drop)
}

#[tokio::test]
async fn a_client_certificate_that_is_expired_or_a_strangers_is_refused_with_the_reason() -> Result<()> {
    let kafka = shared().await?;
    let expired = kafka.authority().expired_client("ann")?;
    let foreign = Authority::new("stranger")?.client("ann", None)?;
    for identity in [expired, foreign] {
        let files = [
            ("ca", kafka.authority().certificate()),
            ("tls.crt", &*identity.certificate),
            ("tls.key", &*identity.key),
        ];
        let settings = json!({"tls": {"caSecretRef": key("ca"), "certificateSecretName": "broker"}});
        let wanted = Wanted::at(kafka.address(Listener::MutualTls), settings)?.with(&files);
        said(wanted, "CertificateRefused").await?;
    }
    Ok(())
}

#[tokio::test]
async fn addresses_that_lead_nowhere_are_said() -> Result<()> {
    for (broker, words) in
        [("127.0.0.1:9", "Connection refused"), ("no-such-host.invalid:9092", "cannot be resolved")]
    {
        let told = said(Wanted::at(broker.to_owned(), json!({}))?, "Unreachable").await?;
        assert!(told.contains(words), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_is_expired_or_for_another_host_is_said() -> Result<()> {
    for (shown, reason) in [(Shown::Expired, "CertificateExpired"), (Shown::OtherHost, "WrongHostName")] {
        let options = KafkaOptions { shown, ..KafkaOptions::default() };
        let kafka = Kafka::start_with(&Home::Temporary, options).await?;
        let files = [("ca", kafka.authority().certificate())];
        let wanted = Wanted::at(kafka.address(Listener::Tls), json!({"tls": {"caSecretRef": key("ca")}}))?;
        said(wanted.with(&files), reason).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_right_is_said_and_holds_up_only_its_own_topics() -> Result<()> {
    let kafka = shared().await?;
    for topic in ["bobs", "anns"] {
        kafka.create_topic(topic, 1, &[]).await?;
    }
    let settings = json!({"topic": "{name}", "sasl": user("plain", "bob")});
    let target = Wanted::at(kafka.address(Listener::Sasl), settings)?.with(&[("password", "b")]).target()?;
    until_ready(&target).await?;
    let outcomes = target.sink.deliver(&["anns", "bobs"].map(|name| message(&target, name))).await;
    match &outcomes[..] {
        [Outcome::Retry { reason, .. }, Outcome::Acked] => {
            assert_eq!(reason, "the user may not write to the topic anns");
        }
        other => panic!("{other:?}"),
    }
    let words = until_not_ready(&target, "PermissionDenied").await?;
    assert!(words.contains("the topic anns"), "{words}");

    // The right is given, and the sink notices by itself.
    kafka.allow_writing("bob", &["anns"]).await?;
    let since = Instant::now();
    until_acked(&target, &[message(&target, "anns")]).await?;
    until_ready(&target).await?;
    assert!(since.elapsed() < NOTICED, "{:?}", since.elapsed());
    Ok(())
}

#[tokio::test]
async fn who_may_do_nothing_is_told_so_until_he_may() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("carls", 1, &[]).await?;
    let settings = json!({"topic": "carls", "sasl": user("plain", "carl")});
    let target = Wanted::at(kafka.address(Listener::Sasl), settings)?.with(&[("password", "c")]).target()?;
    until_not_ready(&target, "PermissionDenied").await?;
    assert!(is_retry(&target.sink.deliver(&[message(&target, "milk")]).await[0]));
    kafka.allow_writing("carl", &["carls"]).await?;
    let since = Instant::now();
    until_acked(&target, &[message(&target, "milk")]).await?;
    until_ready(&target).await?;
    assert!(since.elapsed() < NOTICED, "{:?}", since.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("tokens", 1, &[]).await?;
    let tokens = kafka.tokens().await?;
    tokens.set_lifetime(Duration::from_secs(5));
    let oauth = json!({"tokenEndpoint": tokens.url(), "clientId": "ann", "clientSecretRef": key("password")});
    let settings = json!({"topic": "tokens", "sasl": {"oauthBearer": oauth}});
    let wanted = Wanted::at(kafka.address(Listener::Sasl), settings)?;
    let target = wanted.with(&[("password", "secret")]).target()?;
    until_ready(&target).await?;
    tidings_testbed::wait::eventually(crate::SOON, "three tokens were given", || async {
        if tokens.given() >= 3 { Ok(()) } else { Err(format!("{}", tokens.given())) }
    })
    .await?;
    until_acked(&target, &[message(&target, "milk")]).await?;

    // While there is none, what is connected goes on for as long as the last one holds; then it is said.
    tokens.set_broken(true);
    let words = until_not_ready(&target, "TokenEndpointUnreachable").await?;
    assert!(words.contains("503"), "{words}");
    tokens.set_broken(false);
    until_ready(&target).await?;
    until_acked(&target, &[message(&target, "milk")]).await
}

#[tokio::test]
async fn a_password_that_is_put_right_at_the_broker_is_noticed_soon() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("changed", 1, &[]).await?;
    kafka.set_password("dora", "old").await?;
    kafka.allow_writing("dora", &["changed"]).await?;
    let settings = json!({"topic": "changed", "sasl": user("scramSha512", "dora")});
    let target =
        Wanted::at(kafka.address(Listener::Sasl), settings)?.with(&[("password", "new")]).target()?;
    until_not_ready(&target, "Unauthorized").await?;
    kafka.set_password("dora", "new").await?;
    let since = Instant::now();
    until_acked(&target, &[message(&target, "milk")]).await?;
    until_ready(&target).await?;
    assert!(since.elapsed() < NOTICED, "{:?}", since.elapsed());
    Ok(())
}

/// Speaks TLS before `upstream`, for as long as the present runtime lives.
async fn https(authority: &Authority, upstream: String) -> Result<String> {
    let identity = authority.server()?;
    let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://{}/token", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut near) = acceptor.accept(stream).await else { continue };
            let Ok(mut far) = TcpStream::connect(&upstream).await else { continue };
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    });
    Ok(url)
}

#[tokio::test]
async fn a_token_comes_only_from_an_endpoint_that_is_trusted() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("trusted", 1, &[]).await?;
    let tokens = kafka.tokens().await?;
    let upstream = tokens.url().replace("http://", "").replace("/token", "");
    let authority = Authority::new("login")?;
    let endpoint = https(&authority, upstream).await?;
    let files = [
        ("password", "secret"),
        ("login", authority.certificate()),
        ("kafka", kafka.authority().certificate()),
    ];
    let settings = |ca: &str| {
        json!({"topic": "trusted", "sasl": {"oauthBearer": {
            "tokenEndpoint": endpoint, "clientId": "ann", "clientSecretRef": key("password"), "caSecretRef": key(ca),
        }}})
    };
    let wanted = |ca: &str| Wanted::at(kafka.address(Listener::Sasl), settings(ca));
    said(wanted("kafka")?.with(&files), "TokenEndpointTlsFailed").await?;
    let target = wanted("login")?.with(&files).target()?;
    until_ready(&target).await?;
    until_acked(&target, &[message(&target, "milk")]).await
}
