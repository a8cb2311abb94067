//! What breaks, and what is left behind.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidings_core::delivery::Outcome;
use tidings_core::object::ObjectKey;
use tidings_sinks::message::Message;
use tidings_testbed::kafka::{Kafka, Listener};
use tidings_testbed::proxy::Link;
use tidings_testbed::wait::eventually;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::fixture::{context, todos, updated};
use crate::{
    SILENCE, SOON, Wanted, is_retry, messages, shared, target, until_acked, until_not_ready, until_ready,
};

/// Between the test and what is left of a deadline on a machine that compiles meanwhile.
const SLACK: std::time::Duration = std::time::Duration::from_secs(5);

/// One broker, broken in several ways one after the other: it takes long to start.
#[tokio::test]
async fn a_broker_that_breaks_loses_nothing() -> Result<()> {
    let mut kafka = Kafka::start().await?;
    kafka.create_topic("todos", 2, &[]).await?;
    let target = target(&kafka, "todos")?;
    until_ready(&target).await?;
    let messages = messages(&target, 100);
    assert_eq!(target.sink.deliver(&messages[..50]).await, vec![Outcome::Acked; 50]);

    // Held, it is a retry in bounded time, and both the condition and the recovery come soon.
    kafka.pause()?;
    let since = Instant::now();
    let outcomes = target.sink.deliver(&messages).await;
    assert!(outcomes.len() == 100 && outcomes.iter().all(is_retry), "{outcomes:?}");
    let elapsed = since.elapsed();
    assert!(elapsed >= SILENCE && elapsed < SILENCE + SLACK, "{elapsed:?}");
    let check = tokio::time::timeout(SLACK, target.sink.check()).await?;
    assert_eq!(check.map_err(|not_ready| not_ready.reason), Err("Unreachable".to_owned()));
    kafka.resume()?;
    let since = Instant::now();
    until_acked(&target, &messages).await?;
    until_ready(&target).await?;
    assert!(since.elapsed() < SILENCE * 2, "{:?}", since.elapsed());

    // Held first, so that the kill certainly finds the batch sent and not acknowledged.
    kafka.pause()?;
    let (sink, batch) = (target.sink.clone(), messages.clone());
    let under_way = tokio::spawn(async move { sink.deliver(&batch).await });
    tokio::task::yield_now().await;
    kafka.kill()?;
    let outcomes = under_way.await?;
    assert!(outcomes.len() == 100 && outcomes.iter().all(is_retry), "{outcomes:?}");
    until_not_ready(&target, "Unreachable").await?;
    kafka.restart().await?;
    let since = Instant::now();
    until_acked(&target, &messages).await?;
    until_ready(&target).await?;
    assert!(since.elapsed() < SILENCE * 2, "{:?}", since.elapsed());

    let records = kafka.records("todos").await?;
    for message in &messages {
        let copies = records.iter().filter(|record| record.header("ce_id") == Some(&*message.id)).count();
        assert!((2..=5).contains(&copies), "{copies} of {}", message.id);
    }

    // A sink that finds no broker waits for it.
    kafka.stop().await?;
    let early = crate::target(&kafka, "todos")?;
    let since = Instant::now();
    assert!(early.sink.deliver(&messages).await.iter().all(is_retry));
    assert!(since.elapsed() < SILENCE + SLACK, "{:?}", since.elapsed());
    until_not_ready(&early, "Unreachable").await?;
    kafka.restart().await?;
    until_acked(&early, &messages).await
}

/// There is one network before a broker at a time.
static NETWORK: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again_without_a_loss_or_a_repeat() -> Result<()> {
    let _alone = NETWORK.lock().await;
    let kafka = shared().await?;
    kafka.create_topic("cut", 2, &[]).await?;
    let proxy = kafka.proxy(Link::GOOD).await?;
    let target = Wanted::at(kafka.address(Listener::Proxied), json!({"topic": "cut"}))?.target()?;
    until_ready(&target).await?;
    // Far enough away that the cut comes between the records and their acknowledgements.
    proxy.set(Link::delayed(std::time::Duration::from_millis(300)));
    let messages = messages(&target, 1000);
    let cut = async {
        proxy.set(Link::Cut);
        // Nobody is let in once the cut is known.
        let mut stream = TcpStream::connect(proxy.address()).await?;
        let _ = stream.read_u8().await;
        proxy.set(Link::GOOD);
        anyhow::Ok(())
    };
    let (outcomes, cut) = tokio::join!(biased; target.sink.deliver(&messages), cut);
    cut?;
    assert_eq!(outcomes, vec![Outcome::Acked; 1000]);
    assert_eq!(kafka.records("cut").await?.len(), 1000);
    Ok(())
}

/// Through a network that is cut, silent and slow in turns, with several versions of each key under way, as the sink
/// allows: what is given up is handed over again from the first that failed on, as the contract wants it.
#[tokio::test]
async fn order_holds_through_whatever_the_network_does() -> Result<()> {
    const VERSIONS: u64 = 600;
    let _alone = NETWORK.lock().await;
    let kafka = shared().await?;
    kafka.create_topic("stormy", 3, &[]).await?;
    let proxy = kafka.proxy(Link::GOOD).await?;
    let settings = json!({"topic": "stormy", "linger": "1ms"});
    let target = Wanted::at(kafka.address(Listener::Proxied), settings)?.target()?;
    until_ready(&target).await?;

    let context = context(&todos(), "sub-uid");
    let version = |number: u64| {
        let key = ObjectKey::new(Some("shop"), &format!("todo-{}", number % 10));
        target.encoder.encode(&updated(&context, key, number, "{}"))
    };
    let mut left: Vec<Message> = (1..=VERSIONS).map(version).collect();
    let links = [
        Link::Cut,
        Link::GOOD,
        Link::Silent,
        Link::GOOD,
        Link::delayed(std::time::Duration::from_millis(30)),
    ];
    let mut links = links.into_iter().cycle().take(6);
    let mut attempts = 0;
    while !left.is_empty() {
        attempts += 1;
        assert!(attempts < 100, "{} are left", left.len());
        let most = left.len().min(150);
        let deliver = target.sink.deliver(&left[..most]);
        let breaks = async {
            proxy.set(links.next().unwrap_or(Link::GOOD));
        };
        let (outcomes, ()) = tokio::join!(biased; deliver, breaks);
        // From the first failure of a key on, everything of that key comes again.
        let mut failed = std::collections::BTreeSet::new();
        let batch: Vec<_> = left.drain(..most).collect();
        let mut again = Vec::new();
        for (message, outcome) in batch.into_iter().zip(outcomes) {
            if outcome != Outcome::Acked || failed.contains(&message.key) {
                failed.insert(message.key.clone());
                again.push(message);
            }
        }
        again.append(&mut left);
        left = again;
    }

    let records = kafka.records("stormy").await?;
    let mut seen: BTreeMap<&[u8], Vec<&str>> = BTreeMap::new();
    for record in &records {
        let sequence = record.header("ce_sequence").context("a sequence")?;
        let versions = seen.entry(record.key.as_deref().context("a key")?).or_default();
        // Whatever comes for the first time is newer than all before it.
        if !versions.contains(&sequence) {
            assert!(versions.iter().all(|before| *before < sequence), "{sequence} after {versions:?}");
        }
        versions.push(sequence);
    }
    let distinct: usize =
        seen.values().map(|versions| versions.iter().collect::<std::collections::BTreeSet<_>>().len()).sum();
    assert_eq!(distinct as u64, VERSIONS);
    for versions in seen.values() {
        assert_eq!(versions.last(), versions.iter().max(), "an older version came last");
    }
    Ok(())
}

#[tokio::test]
async fn a_closed_sink_has_finished_what_was_under_way_and_takes_nothing_more() -> Result<()> {
    let kafka = shared().await?;
    kafka.create_topic("closed", 1, &[]).await?;
    let settings = json!({"topic": "closed", "linger": "500ms"});
    let target = Wanted::at(kafka.address(Listener::Plain), settings)?.target()?;
    until_ready(&target).await?;
    let messages = messages(&target, 10);
    let (outcomes, ()) = tokio::join!(biased; target.sink.deliver(&messages), target.sink.close(SOON));
    assert_eq!(outcomes, vec![Outcome::Acked; 10]);
    let outcomes = target.sink.deliver(&messages).await;
    assert!(outcomes.len() == 10 && outcomes.iter().all(is_retry), "{outcomes:?}");
    assert_eq!(target.sink.check().await.map_err(|not_ready| not_ready.reason), Err("Closed".to_owned()));
    assert_eq!(kafka.records("closed").await?.len(), 10);
    Ok(())
}

/// How many threads of librdkafka and of the sink run in this process.
fn threads() -> Result<usize> {
    let names = std::fs::read_dir("/proc/self/task")?.flatten();
    let names = names.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    Ok(names.filter(|name| name.starts_with("rdk:") || name.trim() == "kafka").count())
}

/// In a process of its own, as the other tests have threads too.
#[tokio::test]
async fn a_sink_leaves_nothing_behind_whatever_its_broker_does() -> Result<()> {
    const MARK: &str = "TIDINGS_TEST_ALONE";
    if std::env::var_os(MARK).is_none() {
        let kafka = shared().await?;
        let name = "broken::a_sink_leaves_nothing_behind_whatever_its_broker_does";
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command
            .args([name, "--exact", "--nocapture"])
            .env(MARK, kafka.address(Listener::Plain))
            .kill_on_drop(true);
        let output = command.output().await?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return Ok(());
    }
    let reachable = std::env::var(MARK)?;
    let gone = "127.0.0.1:9".to_owned();
    for (broker, reason, close) in [
        (&reachable, "TopicNotFound", true),
        (&reachable, "TopicNotFound", false),
        (&gone, "Unreachable", true),
        (&gone, "Unreachable", false),
    ] {
        let target = Wanted::at(broker.clone(), json!({"topic": "nowhere"}))?.target()?;
        until_not_ready(&target, reason).await?;
        assert!(threads()? > 0);
        if close {
            target.sink.close(SOON).await;
        }
        drop(target);
        eventually(SOON, "nothing runs on", || async {
            match threads() {
                Ok(0) => Ok(()),
                other => Err(format!("{other:?} threads")),
            }
        })
        .await?;
    }
    Ok(())
}
