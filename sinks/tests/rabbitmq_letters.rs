//! Dead letters in queues of a real RabbitMQ.

#[allow(dead_code, reason = "each test file uses its part")]
#[path = "fixture/event.rs"]
mod fixture;
#[path = "fixture/letters.rs"]
mod letters;
#[allow(dead_code, reason = "each test file uses its part")]
#[path = "fixture/rabbitmq.rs"]
mod node;

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_config::sink::ContentMode;
use tidings_testbed::wait::eventually;

use crate::letters::{Place, contract};
use crate::node::{declare, declare_queue, shared, stored};

const DEADLINE: Duration = Duration::from_secs(10);

/// With `settings` of `rabbitmq` beside those of the connection.
async fn place(settings: Value) -> Result<Place> {
    let more = json!({
        "servers": [format!("amqp://{}", shared().await?.address())],
        "auth": {"user": "ann", "passwordSecretRef": {"name": "broker", "key": "password"}},
    });
    Place::new("rabbitmq", settings, more, &[("password", "secret")])
}

#[tokio::test]
async fn queues_give_each_letter_until_it_is_consumed() -> Result<()> {
    let client = shared().await?.client().await?;
    for (kind, mode) in [("classic", ContentMode::Binary), ("quorum", ContentMode::Structured)] {
        let queue = format!("dead-{kind}");
        declare_queue(&client, &queue, kind).await?;
        let place = place(json!({"exchange": "", "routingKey": queue})).await?;
        contract(&place, mode).await?;
        // The one that is no dead letter stays, in its place. A quorum queue counts what came back in its own time, and
        // answers 0 where it cannot count within a quarter of a second.
        eventually(DEADLINE, &format!("one message in {queue}"), || async {
            let count = stored(&client, &queue).await?;
            ensure!(count == 1, "{count}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_queue_behind_an_exchange_is_named() -> Result<()> {
    let client = shared().await?.client().await?;
    declare(&client, "dead").await?;
    let settings = json!({"exchange": "dead", "headerPrefix": "cloudEvents:"});
    let unknown = place(settings.clone()).await?.open().await.err().unwrap();
    assert_eq!(unknown.reason, "QueueUnknown", "{unknown}");
    assert!(unknown.message.contains("--queue"), "{unknown}");
    let missing = place(settings.clone()).await?.by(|reader| reader.queue = Some("nowhere".to_owned()));
    let missing = missing.open().await.unwrap().next().await.unwrap_err();
    assert_eq!(missing.reason, "QueueNotFound", "{missing}");
    let named = place(settings).await?.by(|reader| reader.queue = Some("dead".to_owned()));
    contract(&named, ContentMode::Binary).await
}

#[tokio::test]
async fn a_stream_is_no_queue_to_take_from() -> Result<()> {
    let client = shared().await?.client().await?;
    declare_queue(&client, "dead-stream", "stream").await?;
    let place = place(json!({"exchange": "", "routingKey": "dead-stream"})).await?;
    let refused = place.open().await.unwrap().next().await.unwrap_err();
    assert!(refused.message.contains("stream"), "{refused}");
    Ok(())
}
