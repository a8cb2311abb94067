//! The HTTP sink against a real server: what is said to be delivered was accepted, and whatever breaks, nothing is said
//! that is not true.

#[path = "fixture/event.rs"]
mod fixture;

#[path = "fixture/receiver.rs"]
mod receiver;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cloudevents::AttributesReader as _;
use http::Version;
use serde_json::{Value, json};
use tidings_config::secret::{SecretKeyRef, SecretValue, Secrets};
use tidings_config::sink::valid::{ValidConnection, ValidSink, Via};
use tidings_config::sink::{ContentMode, SinkSettings};
use tidings_core::delivery::{Outcome, Rejection};
use tidings_sinks::message::Message;
use tidings_sinks::sink::NotReady;
use tidings_sinks::{Connection, SinkContext, Target};
use tidings_testbed::certificates::{Authority, Identity, Shown};
use tidings_testbed::proxy::{Link, Proxy};
use tidings_testbed::wait::eventually;
use tokio::time::Instant;

use crate::fixture::todo;
use crate::receiver::{Receiver, Reply};

/// For everything that is expected to happen soon, on a machine that compiles meanwhile.
const SOON: Duration = Duration::from_secs(30);
/// A mistake is noticed, and so is its correction.
const NOTICED: Duration = Duration::from_secs(10);

/// A target with `settings` of `spec.sink.http`, and what is in the Secret `receiver`.
fn target_in(
    mode: ContentMode,
    settings: Value,
    credentials: &[(&str, &str)],
    public_only: bool,
) -> Result<Target> {
    let settings: SinkSettings = serde_json::from_value(json!({ "http": settings }))?;
    let valid = settings.validate("spec.sink").map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let ValidSink { via: Via::Inline(ValidConnection::Http(mut http)), address: Some(address) } = valid
    else {
        anyhow::bail!("{valid:?}")
    };
    http.public_only = public_only;
    let value = |(key, value): &(&str, &str)| {
        (SecretKeyRef::new("receiver", *key), SecretValue::new(value.as_bytes().to_vec()))
    };
    let secrets = Secrets::new(credentials.iter().map(value));
    let context = SinkContext { secrets, owner: "shop/all.todos".to_owned() };
    let connection = Connection::open(ValidConnection::Http(http), context);
    connection.target(&address, mode).map_err(|error| anyhow::anyhow!("{error:?}"))
}

fn target(settings: Value) -> Result<Target> {
    target_in(ContentMode::Binary, settings, &[], false)
}

/// One that gives up after a second, and sends to `/events` there.
fn plain(address: &str) -> Result<Target> {
    target(json!({"url": format!("http://{address}/events"), "timeout": "1s"}))
}

fn message(target: &Target, name: &str) -> Message {
    target.encoder.encode(&todo(name))
}

fn messages(target: &Target, count: usize) -> Vec<Message> {
    (0..count).map(|number| message(target, &format!("todo-{number}"))).collect()
}

fn is_retry(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Retry { .. })
}

/// Waits until the sink is not ready for `reason`, and returns the words.
async fn until_not_ready(target: &Target, reason: &str) -> Result<String> {
    let NotReady { message, .. } =
        eventually(NOTICED, &format!("the sink is not ready: {reason}"), || async {
            match target.sink.check().await {
                Err(not_ready) if not_ready.reason == reason => Ok(not_ready),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
    assert!(!message.contains("hunter2"), "{message}");
    Ok(message)
}

/// Waits until the sink says that it is ready.
async fn until_ready(target: &Target) -> Result<()> {
    eventually(NOTICED, "the sink is ready", || target.sink.check()).await
}

/// Delivers until everything is acked, as the bridge would.
async fn until_acked(target: &Target, messages: &[Message]) -> Result<()> {
    eventually(SOON, "everything is acked", || async {
        let outcomes = target.sink.deliver(messages).await;
        match outcomes.iter().find(|outcome| **outcome != Outcome::Acked) {
            None => Ok(()),
            Some(other) => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn an_accepted_event_has_its_attributes_as_headers() -> Result<()> {
    let receiver = Receiver::start().await?;
    let url = format!("http://{}/base/?key=1", receiver.address);
    let target = target(json!({"url": url, "path": "/{plural}/{name}"}))?;
    until_ready(&target).await?;
    assert!(receiver.take().is_empty(), "a check sends no request");
    let milk = message(&target, "zwei Wörter/100%");
    assert_eq!(target.sink.deliver(std::slice::from_ref(&milk)).await, [Outcome::Acked]);
    let received = receiver.take();
    assert_eq!(received[0].path, "/base/todos/zwei%20W%C3%B6rter%2F100%25?key=1");
    assert_eq!(received[0].body, milk.body);
    let header = |name: &str| received[0].headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(header("ce-subject"), Some("shop/zwei%20W%C3%B6rter/100%25"));
    assert_eq!((header("ce-specversion"), header("ce-datacontenttype")), (Some("1.0"), None));
    assert_eq!(header("ce-id"), Some(&*todo("zwei Wörter/100%").id));
    Ok(())
}

#[tokio::test]
async fn structured_mode_arrives_as_one_document() -> Result<()> {
    let receiver = Receiver::start().await?;
    let url = format!("http://{}", receiver.address);
    let target = target_in(ContentMode::Structured, json!({"url": url}), &[], false)?;
    assert_eq!(target.sink.deliver(&[message(&target, "milk")]).await, [Outcome::Acked]);
    let received = receiver.take();
    assert_eq!(received[0].headers["content-type"], "application/cloudevents+json");
    let event: cloudevents::Event = serde_json::from_slice(&received[0].body)?;
    assert_eq!((event.id(), &*received[0].path), (&*todo("milk").id, "/"));
    Ok(())
}

#[tokio::test]
async fn a_batch_holds_several_and_what_is_refused_is_told_alone() -> Result<()> {
    let receiver = Receiver::start().await?;
    let url = format!("http://{}", receiver.address);
    let target = target(json!({"url": url, "maxBatch": 4}))?;
    let messages = messages(&target, 10);
    assert_eq!(target.sink.deliver(&messages).await, vec![Outcome::Acked; 10]);
    let received = receiver.take();
    assert_eq!(received.len(), 3);
    let mut ids = BTreeSet::new();
    for request in received {
        assert_eq!(request.headers["content-type"], "application/cloudevents-batch+json");
        let events: Vec<cloudevents::Event> = serde_json::from_slice(&request.body)?;
        ids.extend(events.iter().map(|event| event.id().to_owned()));
    }
    assert_eq!(ids, messages.iter().map(|message| message.id.clone()).collect());

    let bad = messages[5].id.clone();
    receiver.answer(move |request| {
        let has_bad = String::from_utf8_lossy(&request.body).contains(&bad);
        Reply::Status(if has_bad { 400 } else { 200 }, Vec::new())
    });
    let outcomes = target.sink.deliver(&messages).await;
    for (index, outcome) in outcomes.iter().enumerate() {
        let is_rejected = matches!(outcome, Outcome::Rejected { .. });
        assert_eq!(is_rejected, index == 5, "{index}: {outcome:?}");
        assert!(is_rejected || *outcome == Outcome::Acked, "{index}: {outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn every_class_of_status_has_its_outcome_and_redirects_are_not_followed() -> Result<()> {
    let receiver = Receiver::start().await?;
    let url = format!("http://{}", receiver.address);
    let target = target(json!({"url": url, "retryOn": [409], "rejectOn": [501]}))?;
    let one = [message(&target, "milk")];
    for (status, expected) in [
        (200, "acked"),
        (202, "acked"),
        (204, "acked"),
        (301, "rejected"),
        (307, "rejected"),
        (400, "rejected"),
        (401, "retry"),
        (403, "retry"),
        (404, "retry"),
        (408, "retry"),
        (409, "retry"),
        (415, "rejected"),
        (422, "rejected"),
        (425, "retry"),
        (429, "retry"),
        (500, "retry"),
        (501, "rejected"),
        (503, "retry"),
    ] {
        receiver.answer(move |_| {
            Reply::Status(
                status,
                vec![("location", "/elsewhere".to_owned()), ("retry-after", "7".to_owned())],
            )
        });
        let outcomes = target.sink.deliver(&one).await;
        let said = match &outcomes[0] {
            Outcome::Acked => "acked",
            Outcome::Retry { after, reason } => {
                assert_eq!(*after, Some(Duration::from_secs(7)), "{status}");
                assert!(reason.contains(&status.to_string()), "{reason}");
                "retry"
            }
            Outcome::Rejected { .. } => "rejected",
        };
        assert_eq!(said, expected, "{status}");
        assert_eq!(receiver.take().len(), 1, "{status}");
    }
    receiver.answer_all(413);
    let size = one[0].body.len();
    let reason = Rejection::TooLarge { size, limit: size - 1 };
    assert_eq!(target.sink.deliver(&one).await, [Outcome::Rejected { reason }]);
    Ok(())
}

#[tokio::test]
async fn what_a_receiver_says_of_the_place_is_said_until_something_arrives() -> Result<()> {
    let receiver = Receiver::start().await?;
    let target = plain(&receiver.address)?;
    let one = [message(&target, "milk")];
    for (status, reason) in [(401, "Unauthorized"), (403, "PermissionDenied"), (404, "NotFound")] {
        receiver.answer_all(status);
        assert!(is_retry(&target.sink.deliver(&one).await[0]));
        let words = until_not_ready(&target, reason).await?;
        assert!(words.contains(&status.to_string()), "{words}");
        receiver.answer_all(200);
        until_acked(&target, &one).await?;
        until_ready(&target).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_asked_no_more() -> Result<()> {
    let receiver = Receiver::start().await?;
    let url = format!("http://{}", receiver.address);
    let target = target(json!({"url": url, "path": "{name}"}))?;
    let messages = [message(&target, "milk"), message(&target, "bread")];
    receiver.answer(|request| Reply::Status(if request.path == "/milk" { 410 } else { 200 }, Vec::new()));
    for requests in [2, 1, 1] {
        let outcomes = target.sink.deliver(&messages).await;
        assert!(is_retry(&outcomes[0]) && outcomes[1] == Outcome::Acked, "{outcomes:?}");
        assert_eq!(receiver.take().len(), requests);
    }
    until_not_ready(&target, "Gone").await?;
    Ok(())
}

#[tokio::test]
async fn credentials_and_headers_come_from_secrets() -> Result<()> {
    let receiver = Receiver::start().await?;
    let url = format!("http://{}", receiver.address);
    let key = |key: &str| json!({"name": "receiver", "key": key});
    let credentials = [("token", "hunter2\n"), ("key", "abc"), ("broken", "a\nb")];
    for (auth, expected) in [
        (json!({"tokenSecretRef": key("token")}), "Bearer hunter2"),
        (json!({"user": "ann", "passwordSecretRef": key("token")}), "Basic YW5uOmh1bnRlcjI="),
    ] {
        let headers = json!([{"name": "X-Api-Key", "valueSecretRef": key("key")}]);
        let settings = json!({"url": url, "auth": auth, "headers": headers});
        let target = target_in(ContentMode::Binary, settings, &credentials, false)?;
        assert_eq!(target.sink.deliver(&[message(&target, "milk")]).await, [Outcome::Acked]);
        let received = receiver.take();
        assert_eq!(received[0].headers["authorization"], expected);
        assert_eq!(received[0].headers["x-api-key"], "abc");
    }
    for broken in ["broken", "absent"] {
        let settings = json!({"url": url, "auth": {"tokenSecretRef": key(broken)}});
        let target = target_in(ContentMode::Binary, settings, &credentials, false)?;
        let words = until_not_ready(&target, "InvalidCredentials").await?;
        assert!(words.contains(broken) && words.contains("receiver"), "{words}");
        assert!(is_retry(&target.sink.deliver(&[message(&target, "milk")]).await[0]));
    }
    assert!(receiver.take().is_empty());
    Ok(())
}

#[tokio::test]
async fn connections_are_kept_and_shared() -> Result<()> {
    let receiver = Receiver::start().await?;
    let target = plain(&receiver.address)?;
    for _ in 0..20 {
        assert_eq!(target.sink.deliver(&[message(&target, "milk")]).await, [Outcome::Acked]);
    }
    assert_eq!(receiver.connections(), 1);
    assert!(receiver.take().iter().all(|request| request.version == Version::HTTP_11));

    let authority = Authority::new("somebody")?;
    let receiver = Receiver::start_tls(&authority, Shown::Valid, false).await?;
    let ca = json!({"caSecretRef": {"name": "receiver", "key": "ca"}});
    let settings = json!({"url": format!("https://{}", receiver.address), "tls": ca});
    let credentials = [("ca", authority.certificate())];
    let target = target_in(ContentMode::Binary, settings, &credentials, false)?;
    assert_eq!(target.sink.deliver(&[message(&target, "milk")]).await, [Outcome::Acked]);
    let outcomes = target.sink.deliver(&messages(&target, 500)).await;
    assert_eq!(outcomes, vec![Outcome::Acked; 500]);
    assert_eq!(receiver.connections(), 1);
    assert!(receiver.take().iter().all(|request| request.version == Version::HTTP_2));
    Ok(())
}

#[tokio::test]
async fn only_a_receiver_with_the_right_certificate_is_trusted() -> Result<()> {
    let (authority, stranger) = (Authority::new("somebody")?, Authority::new("stranger")?);
    let Identity { certificate, key } = authority.client("tidings", None)?;
    let credentials = [
        ("ca", authority.certificate()),
        ("stranger", stranger.certificate()),
        ("tls.crt", &*certificate),
        ("tls.key", &*key),
    ];
    let ca = |key: &str| json!({"caSecretRef": {"name": "receiver", "key": key}});
    let both = json!({"caSecretRef": {"name": "receiver", "key": "ca"}, "certificateSecretName": "receiver"});
    for (shown, clients, tls, expected) in [
        (Shown::Valid, false, ca("ca"), None),
        (Shown::Valid, true, both, None),
        (Shown::Valid, false, ca("stranger"), Some("CertificateUntrusted")),
        (Shown::Expired, false, ca("ca"), Some("CertificateExpired")),
        (Shown::OtherHost, false, ca("ca"), Some("WrongHostName")),
    ] {
        let receiver = Receiver::start_tls(&authority, shown, clients).await?;
        let url = format!("https://{}", receiver.address);
        let settings = json!({"url": url, "tls": tls});
        let target = target_in(ContentMode::Binary, settings, &credentials, false)?;
        let outcomes = target.sink.deliver(&[message(&target, "milk")]).await;
        match expected {
            None => {
                assert_eq!(outcomes, [Outcome::Acked]);
                until_ready(&target).await?;
            }
            Some(reason) => {
                assert!(is_retry(&outcomes[0]), "{outcomes:?}");
                until_not_ready(&target, reason).await?;
            }
        }
    }
    let receiver = Receiver::start_tls(&authority, Shown::Valid, true).await?;
    let settings = json!({"url": format!("https://{}", receiver.address), "tls": ca("ca")});
    let target = target_in(ContentMode::Binary, settings, &credentials, false)?;
    assert!(is_retry(&target.sink.deliver(&[message(&target, "milk")]).await[0]));
    until_not_ready(&target, "CertificateRefused").await?;
    assert!(receiver.take().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_comes_later_or_goes_is_said_and_found_again() -> Result<()> {
    let first = Receiver::start().await?;
    let address = first.address.clone();
    let target = plain(&address)?;
    let messages = messages(&target, 3);
    until_acked(&target, &messages).await?;
    drop(first);
    until_not_ready(&target, "Unreachable").await?;
    assert!(target.sink.deliver(&messages).await.iter().all(is_retry));
    let second = eventually(SOON, "the address is free", || Receiver::start_at(&address)).await?;
    until_acked(&target, &messages).await?;
    until_ready(&target).await?;
    assert_eq!(second.take().len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_silent_receiver_is_a_retry_in_bounded_time_and_its_neighbours_arrive() -> Result<()> {
    let receiver = Receiver::start().await?;
    let target = plain(&receiver.address)?;
    let messages = messages(&target, 300);
    let silent = messages[7].id.clone();
    receiver.answer(move |request| match request.headers.get("ce-id") {
        Some(id) if *id == *silent => Reply::Silence,
        _ => Reply::Status(204, Vec::new()),
    });
    let outcomes = target.sink.deliver(&messages).await;
    for (index, outcome) in outcomes.iter().enumerate() {
        assert_eq!(is_retry(outcome), index == 7, "{index}: {outcome:?}");
    }
    receiver.answer(|_| Reply::Silence);
    let since = Instant::now();
    let batches = messages.chunks(100).map(|chunk| target.sink.deliver(chunk));
    let outcomes = futures::future::join_all(batches).await.concat();
    assert!(outcomes.len() == 300 && outcomes.iter().all(is_retry));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    // Up to as many as may be under way, however many calls there are, and what the client opened while another got free;
    // without a bound it would be one for each Message.
    assert!(receiver.connections() < 300, "{}", receiver.connections());
    Ok(())
}

#[tokio::test]
async fn a_network_that_is_cut_or_silent_is_a_retry_and_recovers() -> Result<()> {
    let receiver = Receiver::start().await?;
    let proxy = Proxy::start(receiver.address.clone(), Link::GOOD).await?;
    let target = plain(proxy.address())?;
    let messages = messages(&target, 10);
    until_acked(&target, &messages).await?;
    for link in [Link::Cut, Link::Silent] {
        proxy.set(link);
        let since = Instant::now();
        assert!(target.sink.deliver(&messages).await.iter().all(is_retry), "{link:?}");
        assert!(since.elapsed() < NOTICED, "{link:?}: {:?}", since.elapsed());
        proxy.set(Link::GOOD);
        let since = Instant::now();
        until_acked(&target, &messages).await?;
        assert!(since.elapsed() < NOTICED, "{link:?}: {:?}", since.elapsed());
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_not_public_can_be_refused() -> Result<()> {
    let receiver = Receiver::start().await?;
    let port = receiver.address.rsplit(':').next().context("a port")?;
    for host in ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "169.254.169.254", "[::ffff:10.0.0.1]"] {
        let settings = json!({"url": format!("http://{host}:{port}"), "timeout": "1s"});
        let target = target_in(ContentMode::Binary, settings, &[], true)?;
        let words = until_not_ready(&target, "AddressRefused").await?;
        assert!(words.contains("is no public address"), "{words}");
        assert!(is_retry(&target.sink.deliver(&[message(&target, "milk")]).await[0]));
    }
    assert_eq!(receiver.connections(), 0);
    Ok(())
}

#[tokio::test]
async fn a_closed_sink_takes_nothing_more() -> Result<()> {
    let receiver = Receiver::start().await?;
    let target = plain(&receiver.address)?;
    target.sink.close(SOON).await;
    assert!(target.sink.deliver(&messages(&target, 2)).await.iter().all(is_retry));
    assert_eq!(target.sink.check().await.map_err(|not_ready| not_ready.reason), Err("Closed".to_owned()));
    assert!(receiver.take().is_empty());
    Ok(())
}
