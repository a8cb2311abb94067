//! What arrives.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidings_config::secret::Secrets;
use tidings_config::sink::ContentMode;
use tidings_core::change::ChangeKind;
use tidings_core::delivery::{Outcome, Rejection};
use tidings_core::event::Event;
use tidings_core::object::ObjectKey;
use tidings_sinks::message::Message;
use tidings_testbed::kafka::{Listener, Record};

use crate::fixture::{context, todo, todos, updated};
use crate::{Wanted, is_retry, message, messages, shared, target, until_acked, until_not_ready, until_ready};

fn text(bytes: Option<&Vec<u8>>) -> Option<&str> {
    std::str::from_utf8(bytes?).ok()
}

#[tokio::test]
async fn acked_events_are_in_the_topic_with_their_headers_and_key() -> Result<()> {
    let kafka = shared().await?;
    let expected = "tidings.k8sasbackend.com.todos";
    kafka.create_topic(expected, 3, &[]).await?;
    let target = Wanted::at(kafka.address(Listener::Plain), json!({}))?.target()?;
    until_ready(&target).await?;

    let sent = [message(&target, "milk"), message(&target, "zwei Wörter")];
    assert_eq!(target.sink.deliver(&sent).await, [Outcome::Acked, Outcome::Acked]);

    let records = kafka.records(expected).await?;
    assert_eq!(records.len(), 2);
    for sent in sent {
        let record =
            records.iter().find(|record| record.header("ce_id") == Some(&*sent.id)).context("a record")?;
        assert_eq!(text(record.key.as_ref()), Some(&*sent.record_key));
        assert_eq!(record.value.as_deref(), Some(&*sent.body));
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| (&**name, text(value.as_ref()).unwrap_or("?")))
            .collect();
        let expected: Vec<_> = sent.headers.iter().map(|(name, value)| (&**name, value)).collect();
        assert_eq!(headers, expected);
    }
    // Kafka's own consumer sees the same.
    let lines = kafka.console_consumer(expected, 2).await?;
    assert!(lines.iter().any(|line| line.contains("ce_subject:shop/zwei Wörter")), "{lines:?}");
    Ok(())
}

#[tokio::test]
async fn structured_mode_arrives_as_one_document() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("structured", 1, &[]).await?;
    let wanted = Wanted::at(kafka.address(Listener::Plain), json!({"topic": "structured"}))?;
    let target = Wanted { mode: ContentMode::Structured, ..wanted }.target()?;
    until_acked(&target, &[message(&target, "milk")]).await?;

    let records = kafka.records("structured").await?;
    assert_eq!(records[0].header("content-type"), Some("application/cloudevents+json; charset=UTF-8"));
    let event: cloudevents::Event = serde_json::from_slice(records[0].value.as_ref().context("a value")?)?;
    assert_eq!(cloudevents::AttributesReader::id(&event), todo("milk").id);
    Ok(())
}

#[tokio::test]
async fn every_compression_arrives() -> Result<()> {
    let kafka = shared().await?;
    for compression in ["None", "Gzip", "Snappy", "Lz4", "Zstd"] {
        let topic = format!("compressed-{compression}");
        kafka.create_topic(&topic, 1, &[]).await?;
        let settings = json!({"topic": topic, "compression": compression, "linger": "20ms"});
        let target = Wanted::at(kafka.address(Listener::Plain), settings)?.target()?;
        until_acked(&target, &messages(&target, 100)).await?;
        assert_eq!(kafka.records(&topic).await?.len(), 100, "{compression}");
    }
    Ok(())
}

#[tokio::test]
async fn a_batch_of_any_size_comes_through_in_order_of_each_key() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("ordered", 4, &[]).await?;
    let target = target(kafka, "ordered")?;
    until_ready(&target).await?;
    let context = context(&todos(), "sub-uid");
    // More than the bridge would have under way of one key, since here that holds too.
    let version = |number: u64| {
        let key = ObjectKey::new(Some("shop"), &format!("todo-{}", number % 100));
        target.encoder.encode(&updated(&context, key, number, "{}"))
    };
    let messages: Vec<Message> = (1..=20_000).map(version).collect();
    let outcomes = target.sink.deliver(&messages).await;
    assert!(outcomes.len() == 20_000 && outcomes.iter().all(|outcome| *outcome == Outcome::Acked));
    assert_eq!(target.sink.deliver(&[]).await, []);

    let records = kafka.records("ordered").await?;
    assert_eq!(records.len(), 20_000);
    let mut last: BTreeMap<&[u8], (i32, &str)> = BTreeMap::new();
    for record in &records {
        let sequence = record.header("ce_sequence").context("a sequence")?;
        let key = record.key.as_deref().context("a key")?;
        if let Some((partition, before)) = last.insert(key, (record.partition, sequence)) {
            assert!(partition == record.partition && before < sequence);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_redelivery_has_the_same_id_and_key() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("again", 1, &[]).await?;
    let target = target(kafka, "again")?;
    let messages = messages(&target, 3);
    until_acked(&target, &messages).await?;
    until_acked(&target, &messages).await?;
    let records = kafka.records("again").await?;
    assert_eq!(records.len(), 6);
    let told = |record: &Record| (record.key.clone(), record.headers.clone(), record.value.clone());
    assert_eq!(
        records[..3].iter().map(told).collect::<Vec<_>>(),
        records[3..].iter().map(told).collect::<Vec<_>>()
    );
    Ok(())
}

#[tokio::test]
async fn a_tombstone_follows_what_tells_a_deletion() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("compact", 3, &[("cleanup.policy", "compact")]).await?;
    let settings = json!({"topic": "compact", "tombstones": true});
    let target = Wanted::at(kafka.address(Listener::Plain), settings)?.target()?;
    let of = |name: &str, change| target.encoder.encode(&Event { change, ..todo(name) });
    let sent = [
        of("milk", ChangeKind::Added),
        of("bread", ChangeKind::Deleted),
        of("milk", ChangeKind::Deleted),
        of("milk", ChangeKind::Added),
    ];
    until_acked(&target, &sent).await?;

    let records = kafka.records("compact").await?;
    let of = |key: &str| {
        let records = records.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
        let told =
            |record: &Record| record.value.as_ref().and(record.header("ce_type")).map(ToOwned::to_owned);
        records.map(told).collect::<Vec<_>>()
    };
    let [added, deleted] = ["added", "deleted"].map(|change| Some(format!("com.k8sasbackend.todo.{change}")));
    assert_eq!(of("shop/bread"), [deleted.clone(), None]);
    assert_eq!(of("shop/milk"), [added.clone(), deleted, None, added]);
    assert!(records.iter().all(|record| record.value.is_some() || record.headers.is_empty()));
    Ok(())
}

#[tokio::test]
async fn a_missing_topic_is_said_and_waited_for() -> Result<()> {
    let kafka = shared().await?;
    let target = target(kafka, "later")?;
    assert_eq!(until_not_ready(&target, "TopicNotFound").await?, "there is no topic later");
    let messages = messages(&target, 2);
    let outcomes = target.sink.deliver(&messages).await;
    assert!(outcomes.len() == 2 && outcomes.iter().all(is_retry), "{outcomes:?}");

    kafka.create_topic("later", 1, &[]).await?;
    until_acked(&target, &messages).await?;
    until_ready(&target).await?;
    assert_eq!(kafka.records("later").await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_missing_topic_holds_up_only_what_goes_there() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("there-milk", 1, &[]).await?;
    let target = target(kafka, "there-{name}")?;
    let both = [message(&target, "bread"), message(&target, "milk")];
    until_acked(&target, &both[1..]).await?;
    match &target.sink.deliver(&both).await[..] {
        [Outcome::Retry { reason, .. }, Outcome::Acked] => {
            assert_eq!(reason, "there is no topic there-bread");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(until_not_ready(&target, "TopicNotFound").await?, "there is no topic there-bread");
    // Nobody checks now: the sink itself notices.
    kafka.create_topic("there-bread", 1, &[]).await?;
    until_acked(&target, &both).await
}

#[tokio::test]
async fn a_missing_topic_is_created_only_where_that_is_wanted_and_allowed() -> Result<()> {
    let kafka = shared().await?;
    let like = json!({"partitions": 5, "config": {"cleanup.policy": "compact"}});
    let settings = json!({"topic": "made-{name}", "createTopic": like});
    let wanted = || Wanted::at(kafka.address(Listener::Plain), settings.clone());
    let forbidden = wanted()?.target()?;
    assert!(is_retry(&forbidden.sink.deliver(&[message(&forbidden, "milk")]).await[0]));
    let words = until_not_ready(&forbidden, "TopicNotFound").await?;
    assert_eq!(words, "there is no topic made-milk, and this bridge is not allowed to create topics");

    let allowed = Wanted { may_create_topics: true, ..wanted()? }.target()?;
    until_acked(&allowed, &messages(&allowed, 2)).await?;
    until_ready(&allowed).await?;
    // More than one where the other topic took longer.
    assert!(!kafka.records("made-todo-1").await?.is_empty());

    let broken = json!({"topic": "unmade", "createTopic": {"config": {"cleanup.policy": "maybe"}}});
    let wanted = Wanted::at(kafka.address(Listener::Plain), broken)?;
    let broken = Wanted { may_create_topics: true, ..wanted }.target()?;
    let words = until_not_ready(&broken, "TopicNotCreated").await?;
    assert!(words.starts_with("the topic unmade cannot be created: "), "{words}");
    Ok(())
}

/// To the byte, as the broker counts without compression.
#[tokio::test]
async fn what_is_too_large_is_found_before_it_is_sent_and_its_neighbours_arrive() -> Result<()> {
    const LIMIT: usize = 20_000;
    let kafka = shared().await?;
    kafka.create_topic("small", 1, &[("max.message.bytes", "20000")]).await?;
    let settings = json!({"topic": "small", "compression": "None", "linger": "50ms"});
    let target = Wanted::at(kafka.address(Listener::Plain), settings)?.target()?;
    until_ready(&target).await?;

    let context = context(&todos(), "sub-uid");
    let of_size = |name: &str, size: usize| {
        let key = ObjectKey::new(Some("shop"), name);
        target.encoder.encode(&updated(&context, key, 1, vec![b' '; size]))
    };
    let sizes = [1000, LIMIT * 2, 15_000, 15_000, 1_000_000];
    let batch: Vec<_> = (0..).zip(sizes).map(|(n, size)| of_size(&format!("t{n}"), size)).collect();
    let outcomes = target.sink.deliver(&batch).await;
    assert!([0, 2, 3].into_iter().all(|index| outcomes[index] == Outcome::Acked), "{outcomes:?}");
    let sizes = [1, 4].map(|index: usize| match &outcomes[index] {
        Outcome::Rejected { reason: Rejection::TooLarge { size, limit: LIMIT } } => *size,
        other => panic!("{other:?}"),
    });

    // The broker itself agrees on the last byte.
    let rest = sizes[0] - LIMIT * 2;
    let [fits, exceeds] = [LIMIT - rest, LIMIT - rest + 1].map(|size| of_size("t1", size));
    assert_eq!(target.sink.deliver(&[fits]).await, [Outcome::Acked]);
    let reason = Rejection::TooLarge { size: LIMIT + 1, limit: LIMIT };
    assert_eq!(target.sink.deliver(&[exceeds]).await, [Outcome::Rejected { reason }]);
    assert_eq!(kafka.records("small").await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn what_gets_small_enough_by_compression_is_taken_and_what_does_not_is_rejected_alone() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("packed", 1, &[("max.message.bytes", "20000")]).await?;
    let target = target(kafka, "packed")?;
    let context = context(&todos(), "sub-uid");
    let of = |name: &str, body: Vec<u8>| {
        target.encoder.encode(&updated(&context, ObjectKey::new(Some("shop"), name), 1, body))
    };
    let noise = |size: usize| (0..size).map(|_| fastrand::u8(..)).collect::<Vec<_>>();
    let batch = [
        of("spaces", vec![b' '; 500_000]),
        of("noise", noise(100_000)),
        of("a", noise(15_000)),
        of("b", noise(15_000)),
    ];
    // The first time it may not be known what the topic takes; then nobody is judged by the company he keeps.
    let outcomes = tidings_testbed::wait::eventually(crate::SOON, "all is decided", || async {
        let outcomes = target.sink.deliver(&batch).await;
        if outcomes.iter().any(is_retry) { Err(format!("{outcomes:?}")) } else { Ok(outcomes) }
    });
    match &outcomes.await?[..] {
        [
            Outcome::Acked,
            Outcome::Rejected { reason: Rejection::TooLarge { size, limit } },
            Outcome::Acked,
            Outcome::Acked,
        ] => {
            assert!(*size > 100_000 && *limit < *size, "{size} {limit}");
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// As brokers count today, a topic with one replica has enough of them.
#[tokio::test]
async fn a_topic_that_wants_more_replicas_than_it_has_is_as_ready_as_the_brokers_say() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("lonely", 1, &[("min.insync.replicas", "2")]).await?;
    let target = target(kafka, "lonely")?;
    until_ready(&target).await?;
    assert_eq!(target.sink.deliver(&[message(&target, "milk")]).await, [Outcome::Acked]);
    Ok(())
}

#[tokio::test]
async fn subscriptions_share_a_connection_and_each_closes_for_itself() -> Result<()> {
    use tidings_config::sink::SinkSettings;
    use tidings_config::sink::valid::Via;
    let kafka = shared().await?;
    kafka.create_topic("company", 1, &[]).await?;
    let settings = json!({"kafka": {"brokers": [kafka.address(Listener::Plain)], "topic": "company"}});
    let settings: SinkSettings = serde_json::from_value(settings)?;
    let valid = settings.validate("spec.sink").map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let Via::Inline(connection) = valid.via else { anyhow::bail!("{:?}", valid.via) };
    let context =
        tidings_sinks::SinkContext { secrets: Secrets::default(), owner: "shop/company".to_owned() };
    let connection = tidings_sinks::Connection::open(connection, context);
    let address = valid.address.context("an address")?;
    let target =
        || connection.target(&address, ContentMode::Binary).map_err(|error| anyhow::anyhow!("{error:?}"));
    let (one, other) = (target()?, target()?);
    connection.check().await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    until_acked(&one, &messages(&one, 2)).await?;
    one.sink.close(crate::SOON).await;
    drop(one);
    until_acked(&other, &messages(&other, 2)).await
}
