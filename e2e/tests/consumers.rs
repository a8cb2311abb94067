//! The consumers of the examples: what is acknowledged is folded, whenever they are stopped, and what is wrong is said.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "interop/readers.rs"]
mod readers;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use readers::{Consumer, Language};
use serde_json::{Value, json};
use support::{Stage, stage};
use tidings_testbed::consumer::create_stream;
use tidings_testbed::kafka::{Kafka, Listener};
use tidings_testbed::ports::Port;
use tidings_testbed::rabbitmq::Rabbitmq;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How many Todos are written while the consumer is there, and as many while it is not.
const TODOS: usize = 10;
/// After so many Events it is stopped.
const FIRST: usize = 7;

/// How the consumer ends in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    Killed,
}

/// Ends the consumer in the middle, and starts it again later.
async fn goes_on(
    language: Language,
    end: End,
    from: &'static str,
    sink: Value,
    arguments: &[&str],
    stage: &Stage,
) {
    let consumer = Consumer::new(language, from, arguments);
    consumer.prepare().await;
    let mut running = consumer.start(None).await;
    let name = format!("{language:?}-{end:?}").to_lowercase();
    stage.subscribe(&name, |spec| spec["sink"] = sink).await;
    stage.says(&name, "Delivering", "True", "Synchronized").await;
    let todos: Vec<_> = (0..TODOS).map(|number| format!("{name}-{number}")).collect();
    for todo in &todos {
        stage.write(todo, "one").await;
    }
    // The Subscription before may still say to the same place what became of its Todos.
    let ours = format!("{}/{name}", stage.namespace);
    let id = |event: &Value| (event["subscription"] == ours).then(|| event["id"].to_string());
    let heard = match end {
        End::Stopped => running.stop_after(FIRST).await,
        End::Killed => running.kill_after(FIRST).await,
    };
    let mut ids: BTreeSet<_> = heard.iter().filter_map(id).collect();
    for todo in &todos {
        stage.write(todo, "two").await;
    }
    running = consumer.start(None).await;
    while ids.len() < 2 * TODOS {
        ids.extend(id(&running.next().await));
    }
    running.stop_after(0).await;
    let fold = consumer.start(Some(0)).await.end().await.fold;
    let versions = |(key, object): (&String, &Value)| {
        (key.clone(), object["metadata"]["resourceVersion"].as_str().unwrap().to_owned())
    };
    let folded: BTreeMap<_, _> = fold.as_object().unwrap().iter().map(versions).collect();
    assert_eq!(folded, held(stage).await, "{language:?} {end:?}");
    // For what comes after it.
    stage.subscriptions().delete(&name, &DeleteParams::default()).await.unwrap();
    for todo in &todos {
        stage.delete(todo).await;
    }
}

/// The versions that the API server holds, by namespace/name.
async fn held(stage: &Stage) -> BTreeMap<String, String> {
    let todos = stage.todos().list(&ListParams::default()).await.unwrap();
    let held = todos
        .into_iter()
        .map(|todo| (format!("{}/{}", stage.namespace, todo.name_any()), todo.resource_version().unwrap()));
    held.collect()
}

#[tokio::test]
async fn a_stopped_consumer_of_nats_goes_on_where_it_was() {
    let stage = stage("consumer").await;
    for language in Language::ALL {
        let stream = format!("{}-{language:?}", stage.namespace);
        create_stream(&stage.nats, &stream).await.unwrap();
        let subject = format!("{stream}.{{name}}.{{change}}");
        let sink = json!({"nats": {"servers": [stage.nats_url], "subject": subject}});
        goes_on(
            language,
            End::Stopped,
            "nats",
            sink,
            &["--server", &stage.nats_url, "--stream", &stream],
            &stage,
        )
        .await;
    }
}

#[tokio::test]
async fn a_stopped_consumer_of_kafka_goes_on_where_it_was() {
    let stage = stage("consumer").await;
    let kafka = Kafka::start().await.unwrap();
    let address = kafka.address(Listener::Plain);
    for language in Language::ALL {
        let topic = format!("{language:?}");
        kafka.create_topic(&topic, 3, &[]).await.unwrap();
        let sink = json!({"kafka": {"brokers": [address], "topic": topic, "tombstones": true}});
        let arguments = ["--server", &address, "--topic", &topic, "--group", &topic];
        goes_on(language, End::Stopped, "kafka", sink, &arguments, &stage).await;
    }
}

#[tokio::test]
async fn a_stopped_consumer_of_rabbitmq_goes_on_where_it_was() {
    let stage = stage("consumer").await;
    let rabbitmq = Rabbitmq::start().await.unwrap();
    stage.cluster.apply(&stage.namespace, &readers::secret_of_guest(&stage.namespace));
    for (language, exchange) in Language::ALL.into_iter().zip(["amq.topic", "amq.fanout"]) {
        let sink = json!({"rabbitmq": {
            "servers": [format!("amqp://{}", rabbitmq.address())],
            "auth": {"user": "guest", "passwordSecretRef": {"name": "broker", "key": "password"}},
            "exchange": exchange, "routingKey": "{namespace}.{change}",
        }});
        let queue = format!("{language:?}");
        let arguments = ["--server", &rabbitmq.url(), "--exchange", exchange, "--queue", &queue];
        goes_on(language, End::Stopped, "rabbitmq", sink.clone(), &arguments, &stage).await;
        // Another queue, since the first still gets everything, and the exchange has new Events only.
        let queue = format!("{language:?}-killed");
        let arguments = ["--server", &rabbitmq.url(), "--exchange", exchange, "--queue", &queue];
        goes_on(language, End::Killed, "rabbitmq", sink, &arguments, &stage).await;

        let missing = ["--server", &rabbitmq.url(), "--exchange", "nowhere", "--queue", &queue];
        let words = Consumer::new(language, "rabbitmq", &missing).start(None).await.fails().await;
        assert!(words.contains("no exchange 'nowhere'"), "{language:?}: {words}");
    }
    let port = Port::reserve().unwrap();
    let nobody = format!("amqp://guest:secret@127.0.0.1:{}", port.number());
    for language in Language::ALL {
        let words =
            Consumer::new(language, "rabbitmq", &["--server", &nobody]).start(None).await.fails().await;
        assert!(words.contains("error: ") && words.contains("refused"), "{language:?}: {words}");
        assert!(!words.contains("secret"), "{language:?}: {words}");
    }
}

#[tokio::test]
async fn a_stopped_receiver_of_http_goes_on_where_it_was() {
    let stage = stage("consumer").await;
    for language in Language::ALL {
        let port = Port::reserve().unwrap();
        let address = format!("127.0.0.1:{}", port.number());
        let sink = json!({"http": {"url": format!("http://{address}/events")}});
        for end in [End::Stopped, End::Killed] {
            goes_on(language, end, "http", sink.clone(), &["--address", &address], &stage).await;
        }
    }
}

#[tokio::test]
async fn what_is_no_event_ends_a_consumer_and_is_not_acknowledged() {
    let stage = stage("consumer").await;
    stage.create_stream().await;
    let context = jetstream::new(stage.nats.clone());
    context.publish(format!("{}.x", stage.namespace), "no Event".into()).await.unwrap().await.unwrap();
    for language in Language::ALL {
        let durable = format!("{language:?}");
        let arguments = ["--server", &stage.nats_url, "--stream", &stage.namespace, "--durable", &durable];
        let words = Consumer::new(language, "nats", &arguments).start(None).await.fails().await;
        let place = format!("stream {}, message 1 is no Event that can be read", stage.namespace);
        assert!(words.contains(&place), "{language:?}: {words}");
        let stream = context.get_stream(&stage.namespace).await.unwrap();
        let info = stream.consumer_info(&durable).await.unwrap();
        assert_eq!((info.ack_floor.stream_sequence, info.num_ack_pending), (0, 1), "{language:?}");
    }
}

#[tokio::test]
async fn what_is_no_event_is_refused_by_a_receiver_of_http() {
    for language in Language::ALL {
        let port = Port::reserve().unwrap();
        let address = format!("127.0.0.1:{}", port.number());
        let consumer = Consumer::new(language, "http", &["--address", &address]);
        let _running = consumer.start(None).await;
        let other = "content-type: application/json\r\nce-specversion: 1.0\r\nce-id: 1\r\nce-source: /x\r\nce-type: x.";
        for (headers, words) in [
            ("content-type: application/json".to_owned(), ""),
            ("content-type: application/cloudevents+json".to_owned(), ""),
            ("content-type: application/cloudevents-batch+json".to_owned(), ""),
            (format!("{other}added"), "there is no attribute"),
            (format!("{other}renamed"), ""),
        ] {
            let answer = post(&address, &headers).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{language:?} on {headers}: {answer}");
            assert!(answer.contains(words), "{language:?} on {headers}: {answer}");
        }
    }
}

/// The rule, in both languages: also what no broker does every day.
#[tokio::test]
async fn what_is_late_or_a_repeat_changes_nothing() {
    for language in Language::ALL {
        let port = Port::reserve().unwrap();
        let address = format!("127.0.0.1:{}", port.number());
        let consumer = Consumer::new(language, "http", &["--address", &address]);
        let running = consumer.start(None).await;
        let story = [
            ("older", "u.2", "updated", "0.2"),
            ("older", "u.1", "added", "0.1"),
            ("gone", "u.1", "snapshot", "0.1"),
            ("gone", "u.deleted", "deleted", "0.3"),
            ("gone", "u.2", "updated", "0.2"),
            ("concluded", "u.1", "added", "0.1"),
            ("concluded", "u.deleted", "deleted", "0.1.d"),
            ("concluded", "u.1", "added", "0.1"),
            ("left", "u.1.s1", "snapshot", "0.1"),
            ("left", "u.1.s2.left", "left", "0.1"),
            ("left", "u.1.s1", "snapshot", "0.1"),
            ("back", "u.1.s2.left", "left", "0.1"),
            ("back", "u.1.s3", "added", "0.1"),
            ("rewound", "u.9", "updated", "0.9"),
            ("rewound", "e1.u.2", "updated", "1.2"),
        ];
        for (name, id, change, sequence) in story {
            let event = json!({
                "specversion": "1.0", "id": id, "source": "/x", "type": format!("x.{change}"), "subject": name,
                "sequence": sequence, "subscription": "x/x", "data": id,
            });
            let answer =
                send(&address, "content-type: application/cloudevents+json", &event.to_string()).await;
            assert!(answer.starts_with("HTTP/1.1 204 "), "{language:?}: {answer}");
        }
        assert_eq!(running.stop_after(0).await.len(), story.len());
        let fold = consumer.start(Some(0)).await.end().await.fold;
        assert_eq!(fold, json!({"older": "u.2", "back": "u.1.s3", "rewound": "e1.u.2"}), "{language:?}");
    }
}

/// The answer to a request whose body is a 7.
async fn post(address: &str, headers: &str) -> String {
    send(address, headers, "7").await
}

async fn send(address: &str, headers: &str, body: &str) -> String {
    let connect = || TcpStream::connect(address);
    let mut stream = tidings_testbed::wait::eventually(support::SOON, "a receiver", connect).await.unwrap();
    let length = body.len();
    let head =
        format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}");
    let request = format!("{head}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
