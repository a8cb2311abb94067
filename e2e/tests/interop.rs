//! Events of every sink and mode, read back by code that is not ours: the SDKs of `CloudEvents` for Python and Rust behind
//! other people's clients, and Kafka's own console consumer. What they read is what the API server said, to the letter.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "interop/readers.rs"]
mod readers;
mod support;
#[path = "interop/told.rs"]
mod told;

use std::collections::{BTreeMap, BTreeSet};

use kube::api::ListParams;
use readers::{Consumer, Language, Running};
use serde_json::{Value, json};
use support::{Stage, stage};
use tidings_testbed::consumer::create_stream;
use tidings_testbed::kafka::{Kafka, Listener};
use tidings_testbed::ports::Port;
use tidings_testbed::rabbitmq::Rabbitmq;
use told::{CHANGES, Told};

/// A Subscription, and who reads what it sends.
struct Way {
    subscription: String,
    mode: &'static str,
    sink: Value,
    readers: Vec<(Consumer, Running)>,
}

const MODES: [&str; 2] = ["Binary", "Structured"];

/// Both modes to places of their own, each read in both languages.
async fn ways(
    from: &'static str,
    sink: impl Fn(&str) -> Value,
    arguments: impl Fn(&str) -> Vec<String>,
) -> Vec<Way> {
    let mut ways = Vec::new();
    for mode in MODES {
        let subscription = mode.to_lowercase();
        let mut readers = Vec::new();
        for language in Language::ALL {
            let mut arguments = arguments(&subscription);
            // Each reader has a name of its own, and so has everything.
            for argument in &mut arguments {
                *argument = argument.replace("{reader}", &format!("{language:?}"));
            }
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            readers.push(reader(language, from, &arguments).await);
        }
        ways.push(Way { sink: sink(&subscription), subscription, mode, readers });
    }
    ways
}

/// A consumer that is waiting for everything.
async fn reader(language: Language, from: &'static str, arguments: &[&str]) -> (Consumer, Running) {
    let consumer = Consumer::new(language, from, arguments);
    consumer.prepare().await;
    let running = consumer.start(None).await;
    (consumer, running)
}

/// Subscribes, writes, and compares what is read with what was written.
async fn reads_back(stage: &Stage, ways: Vec<Way>) -> Vec<Told> {
    stage.cluster.let_read("rbac.authorization.k8s.io", "roles");
    let cluster = told::cluster(stage).await;
    let mut told = told::before(stage).await;
    for Way { subscription, mode, sink, .. } in &ways {
        let roles = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"});
        let subscribe = |spec: &mut Value| {
            spec["sources"].as_array_mut().unwrap().push(roles);
            spec["event"] = json!({ "mode": mode });
            spec["sink"] = sink.clone();
        };
        stage.subscribe(subscription, subscribe).await;
        stage.says(subscription, "Delivering", "True", "Synchronized").await;
    }
    told.extend(told::write(stage).await);
    let held = held(stage).await;
    for Way { subscription, readers, .. } in ways {
        let subscription = format!("{}/{subscription}", stage.namespace);
        for (consumer, running) in readers {
            let language = consumer.language;
            let events = running.reads(CHANGES).await;
            let fold = consumer.start(Some(0)).await.end().await.fold;
            agrees(&told, events, &subscription, &cluster, language);
            assert_eq!(fold, held, "{language:?}, {subscription}");
        }
    }
    told
}

/// What was read, in order per object, is what was told.
fn agrees(told: &[Told], read: Vec<Value>, subscription: &str, cluster: &str, language: Language) {
    let mut read_of = BTreeMap::<String, Vec<Value>>::new();
    let mut ids = BTreeSet::new();
    for event in read {
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        // Everything is sent at least once.
        if ids.insert((text("subject"), text("id"))) {
            read_of.entry(text("subject")).or_default().push(event);
        }
    }
    for told in told {
        let expected = told.attributes(subscription, cluster);
        let events = read_of.get_mut(&expected["subject"]).filter(|events| !events.is_empty());
        let mut event = events.unwrap_or_else(|| panic!("{language:?} did not read {expected:#?}")).remove(0);
        let mut data = event.as_object_mut().unwrap().remove("data").unwrap();
        let mut attributes: BTreeMap<String, String> = serde_json::from_value(event).unwrap();
        if told.change == "deleted" {
            // It has the version of the deletion, which nobody was answered.
            let version = data["metadata"].as_object_mut().unwrap().remove("resourceVersion").unwrap();
            let sequence = attributes.remove("sequence").unwrap();
            assert_eq!(sequence, told::sequence(version.as_str().unwrap()));
            let before = told.object["metadata"]["resourceVersion"].as_str().unwrap();
            assert!(sequence > told::sequence(before), "{sequence}");
            // It has no time. The SDK for Python makes one up where there is none (`core/v1/event.py`).
            assert_eq!(attributes.remove("time").is_some(), language == Language::Python);
        }
        if !expected.contains_key("traceparent") {
            let derived = attributes.remove("traceparent").unwrap();
            assert!(derived.len() == 55 && derived.starts_with("00-"), "{derived}");
        }
        assert_eq!(attributes, expected, "{language:?}");
        assert_eq!(data, told.data(), "{language:?}: the data of {expected:#?}");
    }
    let rest: Vec<_> = read_of.values().flatten().collect();
    assert!(rest.is_empty(), "{language:?} read more than was told: {rest:#?}");
}

/// The objects that the API server holds, by namespace/name, without what it keeps for itself.
async fn held(stage: &Stage) -> Value {
    let kinds = [
        (stage.todos(), "k8sasbackend.com/v1", "Todo"),
        (told::roles_of(stage), "rbac.authorization.k8s.io/v1", "Role"),
    ];
    let mut held = json!({});
    for (api, version, kind) in kinds {
        for object in api.list(&ListParams::default()).await.unwrap() {
            let mut object = serde_json::to_value(object).unwrap();
            // Lists leave out what all their items have in common.
            object["apiVersion"] = version.into();
            object["kind"] = kind.into();
            let metadata = object["metadata"].as_object_mut().unwrap();
            metadata.remove("managedFields");
            let key = format!("{}/{}", stage.namespace, metadata["name"].as_str().unwrap());
            held[key] = object;
        }
    }
    held
}

fn strings<const N: usize>(arguments: [&str; N]) -> Vec<String> {
    arguments.map(ToOwned::to_owned).to_vec()
}

#[tokio::test]
async fn what_nats_holds_is_read_by_others() {
    let stage = stage("interop").await;
    for mode in MODES {
        create_stream(&stage.nats, &format!("{}-{}", stage.namespace, mode.to_lowercase())).await.unwrap();
    }
    let stream = |mode: &str| format!("{}-{mode}", stage.namespace);
    let sink = |mode: &str| {
        let subject = format!("{}.{{namespace}}.{{name}}.{{change}}", stream(mode));
        json!({"nats": {"servers": [stage.nats_url], "subject": subject}})
    };
    let arguments = |mode: &str| {
        strings(["--server", &stage.nats_url, "--stream", &stream(mode), "--durable", "{reader}"])
    };
    let ways = ways("nats", sink, arguments).await;
    reads_back(&stage, ways).await;
}

#[tokio::test]
async fn what_rabbitmq_holds_is_read_by_others() {
    let stage = stage("interop").await;
    let rabbitmq = Rabbitmq::start().await.unwrap();
    stage.cluster.apply(&stage.namespace, &readers::secret_of_guest(&stage.namespace));
    // Two of those that every node has.
    let exchange = |mode: &str| if mode == "binary" { "amq.topic" } else { "amq.fanout" };
    let sink = |mode: &str| {
        json!({"rabbitmq": {
            "servers": [format!("amqp://{}", rabbitmq.address())],
            "auth": {"user": "guest", "passwordSecretRef": {"name": "broker", "key": "password"}},
            "exchange": exchange(mode), "routingKey": "{namespace}.{change}",
        }})
    };
    let arguments = |mode: &str| {
        let queue = format!("{mode}-{{reader}}");
        strings(["--server", &rabbitmq.url(), "--exchange", exchange(mode), "--queue", &queue])
    };
    let ways = ways("rabbitmq", sink, arguments).await;
    reads_back(&stage, ways).await;
}

#[tokio::test]
async fn what_kafka_holds_is_read_by_others() {
    let stage = stage("interop").await;
    let kafka = Kafka::start().await.unwrap();
    let address = kafka.address(Listener::Plain);
    for mode in MODES {
        kafka.create_topic(&mode.to_lowercase(), 3, &[]).await.unwrap();
    }
    let sink = |mode: &str| json!({"kafka": {"brokers": [address], "topic": mode}});
    let arguments = |mode: &str| {
        strings(["--server", &address, "--topic", mode, "--group", &format!("{mode}-{{reader}}")])
    };
    let ways = ways("kafka", sink, arguments).await;
    let told = reads_back(&stage, ways).await;

    let cluster = told::cluster(&stage).await;
    let binary = kafka.console_consumer("binary", CHANGES).await.unwrap();
    let structured = kafka.console_consumer("structured", CHANGES).await.unwrap();
    for told in &told {
        let mut expected = told.attributes(&format!("{}/binary", stage.namespace), &cluster);
        expected.remove("datacontenttype");
        let id = &expected["id"];
        let line = binary.iter().find(|line| line.contains(&format!("ce_id:{id},"))).unwrap();
        // `Partition:0<TAB>name:value,name:value<TAB>key<TAB>value`
        let parts: Vec<_> = line.split('\t').collect();
        let [_, headers, key, value] = parts[..] else { panic!("{line}") };
        let headers = format!(",{headers},");
        assert!(headers.contains(",content-type:application/json,"), "{headers}");
        for (name, value) in &expected {
            assert!(headers.contains(&format!(",ce_{name}:{value},")), "{name} {value}: {headers}");
        }
        assert_eq!(key, expected["subject"]);
        assert_eq!(data(value.parse().unwrap(), told), told.data());

        let line = structured.iter().find(|line| line.contains(&format!("\"id\":\"{id}\""))).unwrap();
        let parts: Vec<_> = line.split('\t').collect();
        let [_, headers, key, value] = parts[..] else { panic!("{line}") };
        assert_eq!(headers, "content-type:application/cloudevents+json; charset=UTF-8");
        assert_eq!(key, expected["subject"]);
        let mut event: Value = value.parse().unwrap();
        assert_eq!(event["subject"], key);
        assert_eq!(data(event["data"].take(), told), told.data());
    }
}

/// Without the version of a deletion, which nobody was answered.
fn data(mut data: Value, told: &Told) -> Value {
    if told.change == "deleted" {
        data["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    }
    data
}

#[tokio::test]
async fn what_is_posted_is_read_by_others() {
    let stage = stage("interop").await;
    let mut ways = Vec::new();
    let mut ports = Vec::new();
    for (name, mode, batch) in
        [("one", "Binary", None), ("two", "Structured", None), ("all", "Structured", Some(10))]
    {
        for language in Language::ALL {
            let port = Port::reserve().unwrap();
            let address = format!("127.0.0.1:{}", port.number());
            let reader = reader(language, "http", &["--address", &address]).await;
            ports.push(port);
            let mut sink =
                json!({"http": {"url": format!("http://{address}/"), "path": "/{namespace}/{name}"}});
            if let Some(batch) = batch {
                sink["http"] = json!({"url": format!("http://{address}/"), "maxBatch": batch});
            }
            let subscription = format!("{name}-{}", format!("{language:?}").to_lowercase());
            ways.push(Way { subscription, mode, sink, readers: vec![reader] });
        }
    }
    reads_back(&stage, ways).await;
}
