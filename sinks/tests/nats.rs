//! The NATS sink against a real server: what is said to be delivered is in the stream, and whatever breaks, nothing
//! is said that is not true.

#[path = "fixture/event.rs"]
mod fixture;
#[path = "fixture/nats.rs"]
mod nats;

use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream::{self, stream};
use serde_json::json;
use tidings_config::sink::ContentMode;
use tidings_core::delivery::{Outcome, Rejection};
use tidings_core::object::ObjectKey;
use tidings_sinks::Target;
use tidings_sinks::message::Message;
use tidings_sinks::sink::NotReady;
use tidings_testbed::certificates::Authority;
use tidings_testbed::component::Home;
use tidings_testbed::nats::{Nats, NatsOptions, NatsUser};
use tidings_testbed::wait::eventually;
use tokio::time::Instant;

use crate::fixture::{context, todo, todos, updated};
use crate::nats::{target_at, target_in};

/// For everything that is expected to happen soon, on a machine that compiles meanwhile.
const SOON: Duration = Duration::from_secs(30);
/// The sink gives up on a silent broker after 5 seconds without progress.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

fn target(nats: &Nats) -> Result<Target> {
    target_at(&nats.url(), json!({}), &[])
}

/// Creates the stream TODOS, which takes `todos.>`, with whatever `change` does to it.
async fn create_stream(nats: &Nats, change: impl FnOnce(&mut stream::Config)) -> Result<stream::Stream> {
    let mut config = stream::Config {
        name: "TODOS".to_owned(),
        subjects: vec!["todos.>".to_owned()],
        ..Default::default()
    };
    change(&mut config);
    Ok(jetstream::new(nats.client().await?).create_stream(config).await?)
}

async fn stored(stream: &mut stream::Stream) -> Result<u64> {
    Ok(stream.info().await?.state.messages)
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

/// Waits until the sink says that it is ready.
async fn until_ready(target: &Target) -> Result<()> {
    eventually(SOON, "the sink is ready", || target.sink.check()).await
}

/// Waits until the sink is not ready for `reason`, and returns the words.
async fn until_not_ready(target: &Target, reason: &str) -> Result<String> {
    let NotReady { message, .. } = eventually(SOON, &format!("the sink is not ready: {reason}"), || async {
        match target.sink.check().await {
            Err(not_ready) if not_ready.reason == reason => Ok(not_ready),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    Ok(message)
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
async fn acked_events_are_in_the_stream_with_their_headers() -> Result<()> {
    let nats = Nats::start().await?;
    let stream = create_stream(&nats, |_| {}).await?;
    let target = target(&nats)?;
    until_ready(&target).await?;

    let (one, two) = (message(&target, "milk"), message(&target, "bread.v1"));
    let outcomes = target.sink.deliver(&[one.clone(), two.clone()]).await;
    assert_eq!(outcomes, [Outcome::Acked, Outcome::Acked]);

    for (sequence, (sent, subject)) in
        (1..).zip([(one, "todos.shop.milk.updated"), (two, "todos.shop.bread_v1.updated")])
    {
        let stored = stream.get_raw_message(sequence).await?;
        assert_eq!(&*stored.subject, subject);
        assert_eq!(stored.payload, sent.body);
        assert_eq!(stored.headers.len(), sent.headers.len());
        for (name, value) in sent.headers.iter() {
            assert_eq!(
                stored.headers.get(&**name).map(ToString::to_string).as_ref(),
                Some(&value.to_owned()),
                "{name}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn structured_mode_arrives_as_one_document() -> Result<()> {
    let nats = Nats::start().await?;
    let stream = create_stream(&nats, |_| {}).await?;
    let settings = json!({"subject": "todos.{name}", "stream": "TODOS"});
    let target = target_in(ContentMode::Structured, &nats.url(), settings, &[])?;
    until_ready(&target).await?;
    until_acked(&target, &[message(&target, "milk")]).await?;

    let stored = stream.get_raw_message(1).await?;
    let event: cloudevents::Event = serde_json::from_slice(&stored.payload)?;
    assert_eq!(cloudevents::AttributesReader::id(&event), todo("milk").id);
    Ok(())
}

#[tokio::test]
async fn a_redelivery_is_stored_once() -> Result<()> {
    let nats = Nats::start().await?;
    let mut stream = create_stream(&nats, |_| {}).await?;
    let target = target(&nats)?;
    let messages = messages(&target, 3);
    until_acked(&target, &messages).await?;
    until_acked(&target, &messages).await?;
    assert_eq!(stored(&mut stream).await?, 3);
    Ok(())
}

#[tokio::test]
async fn two_subscriptions_with_the_same_event_both_arrive() -> Result<()> {
    let nats = Nats::start().await?;
    let mut stream = create_stream(&nats, |_| {}).await?;
    let target = target(&nats)?;
    for subscription in ["one", "two"] {
        let event = updated(&context(&todos(), subscription), ObjectKey::new(Some("shop"), "milk"), 42, "{}");
        until_acked(&target, &[target.encoder.encode(&event)]).await?;
    }
    assert_eq!(stored(&mut stream).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_missing_stream_is_said_and_waited_for() -> Result<()> {
    let nats = Nats::start().await?;
    for settings in [json!({}), json!({"stream": "TODOS"})] {
        let target = target_at(&nats.url(), settings, &[])?;
        let words = until_not_ready(&target, "StreamNotFound").await?;
        assert!(words.contains("todos.*.*.*") || words.contains("TODOS"), "{words}");
        let messages = messages(&target, 2);
        let outcomes = target.sink.deliver(&messages).await;
        assert!(outcomes.len() == 2 && outcomes.iter().all(is_retry), "{outcomes:?}");

        create_stream(&nats, |_| {}).await?;
        until_ready(&target).await?;
        assert_eq!(target.sink.deliver(&messages).await, [Outcome::Acked, Outcome::Acked]);
        jetstream::new(nats.client().await?).delete_stream("TODOS").await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_expected_stream_must_take_the_subjects() -> Result<()> {
    let nats = Nats::start().await?;
    create_stream(&nats, |_| {}).await?;
    create_stream(&nats, |config| {
        config.name = "ORDERS".to_owned();
        config.subjects = vec!["orders.>".to_owned()];
    })
    .await?;
    let target = target_at(&nats.url(), json!({"stream": "ORDERS"}), &[])?;
    let words = until_not_ready(&target, "SubjectNotInStream").await?;
    assert_eq!(words, "the stream ORDERS takes no subjects like todos.*.*.*");
    match &target.sink.deliver(&[message(&target, "milk")]).await[..] {
        [Outcome::Retry { reason, .. }] => assert!(reason.starts_with("another stream than"), "{reason}"),
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_right_holds_up_only_its_own_subjects() -> Result<()> {
    let user = NatsUser::new("tidings", "secret").publishing_only(&["$JS.API.>", "todos.shop.milk.>"]);
    let options = NatsOptions { users: vec![user], ..NatsOptions::default() };
    let nats = Nats::start_with(&Home::Temporary, options).await?;
    create_stream(&nats, |_| {}).await?;
    let auth =
        json!({"auth": {"user": "tidings", "passwordSecretRef": {"name": "broker", "key": "password"}}});
    let target = target_at(&nats.url(), auth, &[("password", "secret\n")])?;
    until_ready(&target).await?;

    let since = Instant::now();
    let outcomes = target.sink.deliver(&["bread", "milk", "eggs"].map(|name| message(&target, name))).await;
    assert!(since.elapsed() < ACK_TIMEOUT, "the denial was not noticed: {:?}", since.elapsed());
    match &outcomes[..] {
        [Outcome::Retry { reason, .. }, Outcome::Acked, Outcome::Retry { .. }] => {
            assert!(reason.contains("may not publish to todos.shop.bread.updated"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let words = until_not_ready(&target, "PermissionDenied").await?;
    assert!(
        words.contains("todos.shop.bread.updated") || words.contains("todos.shop.eggs.updated"),
        "{words}"
    );
    Ok(())
}

#[tokio::test]
async fn a_user_who_may_only_publish_can_deliver() -> Result<()> {
    let admin = NatsUser::new("admin", "admin");
    let user = NatsUser::new("tidings", "secret").publishing_only(&["todos.>"]);
    let options = NatsOptions { users: vec![admin, user], ..NatsOptions::default() };
    let nats = Nats::start_with(&Home::Temporary, options).await?;
    create_stream(&nats, |_| {}).await?;
    let auth =
        json!({"auth": {"user": "tidings", "passwordSecretRef": {"name": "broker", "key": "password"}}});
    let target = target_at(&nats.url(), auth, &[("password", "secret\n")])?;
    until_ready(&target).await?;
    assert_eq!(target.sink.deliver(&[message(&target, "milk")]).await, [Outcome::Acked]);
    Ok(())
}

#[tokio::test]
async fn credentials_that_are_wrong_or_unusable_are_said_and_never_repeated() -> Result<()> {
    let options = NatsOptions { users: vec![NatsUser::new("tidings", "right")], ..NatsOptions::default() };
    let nats = Nats::start_with(&Home::Temporary, options).await?;
    create_stream(&nats, |_| {}).await?;
    let auth = |field: &str| json!({"auth": {field: {"name": "broker", "key": "it"}}});
    let password = json!({"auth": {"user": "tidings", "passwordSecretRef": {"name": "broker", "key": "it"}}});
    for (settings, value, reason) in [
        (password.clone(), "wrong-hunter2", "Unauthorized"),
        (auth("tokenSecretRef"), "wrong-hunter2", "Unauthorized"),
        (auth("nkeySecretRef"), "wrong-hunter2", "InvalidCredentials"),
        (auth("credsSecretRef"), "wrong-hunter2", "InvalidCredentials"),
    ] {
        let target = target_at(&nats.url(), settings, &[("it", value)])?;
        let words = until_not_ready(&target, reason).await?;
        assert!(!words.contains("hunter2"), "{words}");
        let outcomes = target.sink.deliver(&[message(&target, "milk")]).await;
        assert!(is_retry(&outcomes[0]), "{outcomes:?}");
    }
    let target = target_at(&nats.url(), password, &[("it", "right\r\n")])?;
    until_ready(&target).await?;
    until_acked(&target, &[message(&target, "milk")]).await
}

#[tokio::test]
async fn only_a_server_of_the_right_authority_is_trusted() -> Result<()> {
    let options = NatsOptions { tls: true, ..NatsOptions::default() };
    let nats = Nats::start_with(&Home::Temporary, options).await?;
    create_stream(&nats, |_| {}).await?;
    let right = std::fs::read_to_string(nats.ca_path().context("a path")?)?;
    let wrong = Authority::new("somebody else")?;
    let files = [("right", &*right), ("wrong", wrong.certificate()), ("nothing", "no PEM")];
    let with = |key: &str| json!({"tls": {"caSecretRef": {"name": "broker", "key": key}}});

    let trusted = target_at(&nats.url(), with("right"), &files)?;
    until_ready(&trusted).await?;
    assert_eq!(trusted.sink.deliver(&[message(&trusted, "milk")]).await, [Outcome::Acked]);

    let stranger = target_at(&nats.url(), with("wrong"), &files)?;
    until_not_ready(&stranger, "CertificateUntrusted").await?;
    assert!(is_retry(&stranger.sink.deliver(&[message(&stranger, "milk")]).await[0]));

    let lost = target_at(&nats.url(), with("nothing"), &files)?;
    let words = until_not_ready(&lost, "InvalidCredentials").await?;
    assert_eq!(words, "the key nothing of the Secret broker has no certificate in PEM");
    Ok(())
}

#[tokio::test]
async fn tls_is_insisted_on_where_the_server_has_none() -> Result<()> {
    let nats = Nats::start().await?;
    for (server, settings) in
        [(nats.url(), json!({"tls": {}})), (nats.url().replace("nats://", "tls://"), json!({}))]
    {
        let target = target_at(&server, settings, &[])?;
        let not_ready =
            eventually(SOON, "an attempt", || async { target.sink.check().await.err().ok_or("ready") });
        let not_ready = not_ready.await?;
        assert!(["TlsFailed", "Unreachable"].contains(&&*not_ready.reason), "{not_ready:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_is_found_and_its_neighbours_arrive() -> Result<()> {
    const LIMIT: usize = 8192;
    let options = NatsOptions { max_payload: Some(LIMIT), ..NatsOptions::default() };
    let nats = Nats::start_with(&Home::Temporary, options).await?;
    let mut stream = create_stream(&nats, |_| {}).await?;
    let target = target(&nats)?;

    // To the byte: headers and body together may be as large as the limit.
    let context = context(&todos(), "sub-uid");
    let of_size = |name: &str, size: usize| {
        let key = ObjectKey::new(Some("shop"), name);
        let sized = |body: usize| target.encoder.encode(&updated(&context, key.clone(), 1, vec![b' '; body]));
        let rest = sized(0).size() + 12;
        sized(size - rest)
    };
    let batch = [of_size("a", 1000), of_size("b", LIMIT + 1), of_size("c", LIMIT), of_size("d", 1_000_000)];
    until_ready(&target).await?;
    let rejected = |size| Outcome::Rejected { reason: Rejection::TooLarge { size, limit: LIMIT } };
    assert_eq!(
        target.sink.deliver(&batch).await,
        [Outcome::Acked, rejected(LIMIT + 1), Outcome::Acked, rejected(1_000_000)]
    );
    assert_eq!(stored(&mut stream).await?, 2);
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_for_the_stream_alone_is_rejected_with_its_limit() -> Result<()> {
    let nats = Nats::start().await?;
    create_stream(&nats, |config| config.max_message_size = 2000).await?;
    let target = target(&nats)?;
    until_ready(&target).await?;
    let large = updated(&context(&todos(), "u"), ObjectKey::new(Some("shop"), "large"), 1, vec![b' '; 2000]);
    let outcomes = target.sink.deliver(&[target.encoder.encode(&large), message(&target, "milk")]).await;
    match &outcomes[..] {
        [Outcome::Rejected { reason: Rejection::TooLarge { size, limit: 2000 } }, Outcome::Acked] => {
            assert!(*size > 2000);
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn a_full_stream_is_a_retry() -> Result<()> {
    let nats = Nats::start().await?;
    let stream = create_stream(&nats, |config| {
        config.max_messages = 1;
        config.discard = stream::DiscardPolicy::New;
    })
    .await?;
    let target = target(&nats)?;
    let messages = messages(&target, 2);
    match &target.sink.deliver(&messages).await[..] {
        [Outcome::Acked, Outcome::Retry { reason, .. }] => {
            assert!(reason.contains("maximum messages exceeded"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    stream.purge().await?;
    until_acked(&target, &messages[1..]).await
}

#[tokio::test]
async fn a_broker_that_comes_later_is_connected_to() -> Result<()> {
    let mut nats = Nats::start().await?;
    let mut stream = create_stream(&nats, |_| {}).await?;
    nats.stop().await?;
    let target = target(&nats)?;
    until_not_ready(&target, "Unreachable").await?;
    let messages = messages(&target, 2);
    let since = Instant::now();
    assert!(target.sink.deliver(&messages).await.iter().all(is_retry));
    assert!(since.elapsed() < ACK_TIMEOUT * 2);

    nats.restart().await?;
    until_acked(&target, &messages).await?;
    until_ready(&target).await?;
    assert_eq!(stored(&mut stream).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_broker_killed_in_the_middle_of_a_batch_loses_nothing() -> Result<()> {
    let mut nats = Nats::start().await?;
    let mut stream = create_stream(&nats, |_| {}).await?;
    let target = target(&nats)?;
    until_ready(&target).await?;
    let messages = messages(&target, 100);
    assert_eq!(target.sink.deliver(&messages[..50]).await, vec![Outcome::Acked; 50]);

    // Held first, so that the kill certainly finds the batch sent and not acknowledged.
    nats.pause()?;
    let sink = target.sink.clone();
    let batch = messages.clone();
    let under_way = tokio::spawn(async move { sink.deliver(&batch).await });
    tokio::task::yield_now().await;
    let since = Instant::now();
    nats.kill()?;
    let outcomes = under_way.await?;
    assert!(outcomes.len() == 100 && outcomes.iter().all(is_retry), "{outcomes:?}");
    assert!(since.elapsed() < ACK_TIMEOUT, "the loss was not noticed: {:?}", since.elapsed());

    nats.restart().await?;
    until_acked(&target, &messages).await?;
    let stored = stored(&mut stream).await?;
    assert!((100..=150).contains(&stored), "{stored}");
    Ok(())
}

#[tokio::test]
async fn a_broker_that_hangs_is_a_retry_in_bounded_time() -> Result<()> {
    let mut nats = Nats::start().await?;
    let mut stream = create_stream(&nats, |_| {}).await?;
    let target = target(&nats)?;
    until_ready(&target).await?;

    // More than the sockets and the client take, so that even sending gets stuck.
    let body = vec![b' '; 20_000];
    let context = context(&todos(), "sub-uid");
    let large =
        |number| updated(&context, ObjectKey::new(Some("shop"), &format!("t{number}")), 1, body.clone());
    let messages: Vec<_> = (0..4000).map(|number| target.encoder.encode(&large(number))).collect();
    nats.pause()?;
    let since = Instant::now();
    let outcomes = target.sink.deliver(&messages).await;
    assert!(outcomes.len() == 4000 && outcomes.iter().all(is_retry));
    assert!(since.elapsed() < ACK_TIMEOUT * 3, "{:?}", since.elapsed());
    let check = tokio::time::timeout(ACK_TIMEOUT * 2, target.sink.check()).await?;
    assert_eq!(check.map_err(|not_ready| not_ready.reason), Err("Unreachable".to_owned()));

    nats.resume()?;
    until_acked(&target, &messages).await?;
    until_ready(&target).await?;
    assert_eq!(stored(&mut stream).await?, 4000);
    Ok(())
}

#[tokio::test]
async fn a_batch_of_any_size_comes_through() -> Result<()> {
    let nats = Nats::start().await?;
    let mut stream = create_stream(&nats, |_| {}).await?;
    let target = target(&nats)?;
    until_ready(&target).await?;
    let messages = messages(&target, 20_000);
    let outcomes = tokio::time::timeout(SOON, target.sink.deliver(&messages)).await?;
    assert!(outcomes.len() == 20_000 && outcomes.iter().all(|outcome| *outcome == Outcome::Acked));
    assert_eq!(stored(&mut stream).await?, 20_000);
    assert_eq!(target.sink.deliver(&[]).await, []);
    Ok(())
}

#[tokio::test]
async fn a_closed_sink_takes_nothing_more() -> Result<()> {
    let nats = Nats::start().await?;
    let mut stream = create_stream(&nats, |_| {}).await?;
    let target = target(&nats)?;
    until_ready(&target).await?;
    target.sink.close(SOON).await;
    let outcomes = target.sink.deliver(&messages(&target, 2)).await;
    assert!(outcomes.len() == 2 && outcomes.iter().all(is_retry), "{outcomes:?}");
    assert_eq!(target.sink.check().await.map_err(|not_ready| not_ready.reason), Err("Closed".to_owned()));
    assert_eq!(stored(&mut stream).await?, 0);
    Ok(())
}

/// Waits until no more tasks run than `before`.
async fn until_tasks(before: usize) -> Result<()> {
    let tasks = tokio::runtime::Handle::current().metrics();
    eventually(SOON, "nothing runs on", || async {
        match tasks.num_alive_tasks() {
            now if now <= before => Ok(()),
            now => Err(format!("{now} tasks are alive, before it were {before}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_sink_leaves_nothing_behind_whatever_its_broker_does() -> Result<()> {
    let mut nats = Nats::start().await?;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();

    let closed = target(&nats)?;
    until_not_ready(&closed, "StreamNotFound").await?;
    closed.sink.close(SOON).await;
    drop(closed);
    until_tasks(before).await?;

    let dropped = target(&nats)?;
    until_not_ready(&dropped, "StreamNotFound").await?;
    drop(dropped);
    until_tasks(before).await?;

    let bereft = target(&nats)?;
    until_not_ready(&bereft, "StreamNotFound").await?;
    nats.kill()?;
    until_not_ready(&bereft, "Unreachable").await?;
    drop(bereft);
    until_tasks(before).await?;

    let hopeless = target(&nats)?;
    until_not_ready(&hopeless, "Unreachable").await?;
    hopeless.sink.close(SOON).await;
    drop(hopeless);
    until_tasks(before).await
}
