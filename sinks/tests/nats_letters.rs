//! Dead letters in streams of a real NATS server.

#[allow(dead_code, reason = "each test file uses its part")]
#[path = "fixture/event.rs"]
mod fixture;
#[path = "fixture/letters.rs"]
mod letters;

use anyhow::Result;
use async_nats::jetstream::{self, stream};
use serde_json::{Value, json};
use tidings_config::sink::ContentMode;
use tidings_sinks::letters::Fate;
use tidings_testbed::component::Home;
use tidings_testbed::nats::{Nats, NatsOptions, NatsUser};

use crate::letters::{Place, contract, dead};

async fn create(nats: &Nats, change: impl FnOnce(&mut stream::Config)) -> Result<stream::Stream> {
    let mut config = stream::Config {
        name: "DEAD".to_owned(),
        subjects: vec!["dead.>".to_owned()],
        ..stream::Config::default()
    };
    change(&mut config);
    Ok(jetstream::new(nats.client().await?).create_stream(config).await?)
}

fn place(nats: &Nats, more: Value) -> Result<Place> {
    let settings = json!({"servers": [nats.url()], "subject": "dead.{subscription}.{name}"});
    Place::new("nats", settings, more, &[])
}

#[tokio::test]
async fn a_stream_that_keeps_its_messages_gives_each_letter_until_it_is_consumed() -> Result<()> {
    let nats = Nats::start().await?;
    let mut stream = create(&nats, |_| ()).await?;
    contract(&place(&nats, json!({"subject": "dead.{namespace}.{name}"}))?, ContentMode::Binary).await?;
    assert_eq!(stream.info().await?.state.messages, 6, "all are still there");
    Ok(())
}

#[tokio::test]
async fn from_a_queue_of_work_only_what_is_consumed_is_gone() -> Result<()> {
    let nats = Nats::start().await?;
    let queue = |config: &mut stream::Config| config.retention = stream::RetentionPolicy::WorkQueue;
    let mut stream = create(&nats, queue).await?;
    contract(&place(&nats, json!({"stream": "DEAD"}))?, ContentMode::Structured).await?;
    // The one that is no dead letter stays.
    assert_eq!(stream.info().await?.state.messages, 1);
    Ok(())
}

#[tokio::test]
async fn what_another_one_holds_is_said_and_nobody_waits_for_it() -> Result<()> {
    let nats = Nats::start().await?;
    create(&nats, |_| ()).await?;
    let place = place(&nats, json!({}))?;
    place.put(ContentMode::Binary, &[dead("shop/all.todos", "milk", 1)]).await?;
    let mut first = place.open().await.unwrap();
    let letter = first.next().await.unwrap().unwrap();
    let mut second = place.open().await.unwrap();
    let busy = second.next().await.unwrap_err();
    assert_eq!(busy.reason, "Busy", "{busy}");
    second.close().await.unwrap();
    first.settle(letter.receipt, Fate::Left).await.unwrap();
    first.close().await.unwrap();
    assert!(place.open().await.unwrap().next().await.unwrap().is_some(), "it was given back");
    Ok(())
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() -> Result<()> {
    let allowed = ["dead.>", "$JS.API.STREAM.>", "$JS.API.CONSUMER.>"];
    let users = vec![
        NatsUser::new("admin", "admin"),
        NatsUser::new("publisher", "p").publishing_only(&allowed[..1]),
        NatsUser::new("reader", "p").publishing_only(&allowed),
    ];
    let options = NatsOptions { users, ..NatsOptions::default() };
    let nats = Nats::start_with(&Home::Temporary, options).await?;
    create(&nats, |_| ()).await?;
    let place = |user: &str| {
        let auth = json!({"user": user, "passwordSecretRef": {"name": "broker", "key": "password"}});
        let settings =
            json!({"servers": [nats.url()], "subject": "dead.{name}", "stream": "DEAD", "auth": auth});
        Place::new("nats", settings, json!({}), &[("password", "p")])
    };
    place("publisher")?.put(ContentMode::Binary, &[dead("shop/all.todos", "milk", 1)]).await?;
    let denied = place("publisher")?.open().await.err().unwrap();
    assert_eq!(denied.message, "the user may not publish to $JS.API.STREAM.INFO.DEAD");

    // Who may read, and not acknowledge: nothing is consumed.
    let mut letters = place("reader")?.open().await.unwrap();
    let letter = letters.next().await.unwrap().unwrap();
    let denied = letters.settle(letter.receipt, Fate::Consumed).await.unwrap_err();
    assert!(denied.message.contains("$JS.ACK.DEAD.tidings-redrive-shop_all_todos."), "{denied}");
    Ok(())
}

#[tokio::test]
async fn a_place_that_cannot_be_read_is_said() -> Result<()> {
    let nats = Nats::start().await?;
    let missing = place(&nats, json!({}))?.open().await.err().unwrap();
    assert_eq!(missing.reason, "StreamNotFound", "{missing}");
    let named = place(&nats, json!({"stream": "NONE"}))?.open().await.err().unwrap();
    assert!(named.message.contains("NONE"), "{named}");
    let flag = place(&nats, json!({}))?.by(|reader| reader.queue = Some("dead".to_owned()));
    assert_eq!(
        flag.open().await.err().unwrap().message,
        "--queue is for RabbitMQ, and the dead letters are at NATS"
    );
    let http = Place::new("http", json!({"url": "https://shop.example"}), json!({}), &[])?;
    let unreadable = http.open().await.err().unwrap();
    assert_eq!(unreadable.reason, "NotReadable", "{unreadable}");
    Ok(())
}
