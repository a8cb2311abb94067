//! The client of RabbitMQ runs a thread for each connection. Whatever the broker does, none outlives its sink. Alone in
//! this process, because threads are counted.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidings_config::secret::{SecretKeyRef, SecretValue, Secrets};
use tidings_config::sink::ConnectionSettings;
use tidings_sinks::{Connection, SinkContext};
use tidings_testbed::component::Home;
use tidings_testbed::proxy::{Link, Proxy};
use tidings_testbed::rabbitmq::{Rabbitmq, RabbitmqOptions, RabbitmqUser};
use tidings_testbed::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

fn open(address: &str) -> Result<Connection> {
    let key = SecretKeyRef::new("broker", "password");
    let settings: ConnectionSettings = serde_json::from_value(json!({"rabbitmq": {
        "servers": [format!("amqp://{address}")],
        "auth": {"user": "ann", "passwordSecretRef": key},
    }}))?;
    let valid = settings.validate("spec").map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let secrets = Secrets::new([(key, SecretValue::new(b"secret".to_vec()))]);
    Ok(Connection::open(valid, SinkContext { secrets, owner: "shop/all.todos".to_owned() }))
}

/// Waits until as many threads of the client run.
async fn until_threads(expected: usize) -> Result<()> {
    eventually(SOON, &format!("{expected} threads run"), || async {
        let names = std::fs::read_dir("/proc/self/task").context("threads")?;
        let names = names.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("comm")).ok());
        let count = names.filter(|name| name.trim() == "lapin-io-loop").count();
        anyhow::ensure!(count == expected, "{count}");
        Ok(())
    })
    .await
}

async fn until_not_ready(connection: &Connection, reason: &str) -> Result<()> {
    eventually(SOON, reason, || async {
        match connection.check().await {
            Err(not_ready) if not_ready.reason == reason => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn no_thread_of_the_client_outlives_its_sink() -> Result<()> {
    let users = vec![RabbitmqUser::new("ann", "secret")];
    let options = RabbitmqOptions { users, ..RabbitmqOptions::default() };
    let rabbitmq = Rabbitmq::start_with(&Home::Temporary, options).await?;
    let proxy = Proxy::start(rabbitmq.address(), Link::GOOD).await?;
    let up = || async {
        proxy.set(Link::GOOD);
        let connection = open(proxy.address())?;
        eventually(SOON, "it is ready", || connection.check()).await?;
        until_threads(1).await?;
        anyhow::Ok(connection)
    };

    drop(up().await?);
    until_threads(0).await?;

    // Nobody is there to answer the farewell.
    let connection = up().await?;
    proxy.set(Link::Silent);
    drop(connection);
    until_threads(0).await?;

    let connection = up().await?;
    proxy.set(Link::Silent);
    until_not_ready(&connection, "Unreachable").await?;
    drop(connection);
    until_threads(0).await?;

    // Somebody takes the connection and says nothing.
    let connection = open(proxy.address())?;
    until_not_ready(&connection, "Unreachable").await?;
    drop(connection);
    until_threads(0).await?;

    let connection = up().await?;
    proxy.set(Link::Cut);
    until_not_ready(&connection, "Unreachable").await?;
    until_threads(0).await?;
    drop(connection);
    until_threads(0).await
}
