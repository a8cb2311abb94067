//! What a broker will never take.
//!
//! Kafka, NATS and RabbitMQ refuse what is too large and nothing else that a Subscription could send them (a subject, topic
//! or header that is not legal is not made); a receiver of HTTP refuses what it likes. What is too large counts as refused
//! where the Subscription says so (`oversize`).

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_testbed::receiver::Kind;
use tidings_testbed::receiver::broker::LARGEST;
use tidings_testbed::wait::eventually;
use tokio::process::Command;

use crate::support::{SOON, program};
use crate::trial::{ORDERS, Trial};

/// The object that is refused.
const BAD: &str = "bad";
/// Larger than any place takes, also when it is compressed.
const TOO_LARGE: usize = LARGEST * 3 / 2;

/// Makes the broker refuse one version of [`BAD`], and nothing that follows; the version.
async fn refused(trial: &Trial<'_>) -> Result<u64> {
    match trial.kind {
        Kind::Http => {
            trial.broker.reject(&trial.place, &trial.key(BAD), true)?;
            trial.put(BAD, "refused").await
        }
        Kind::Nats | Kind::Kafka | Kind::Rabbitmq => trial.put_large(BAD, TOO_LARGE).await,
    }
}

/// What is written of [`BAD`] from now on is taken again.
fn taken_again(trial: &Trial<'_>) -> Result<()> {
    match trial.kind {
        Kind::Http => trial.broker.reject(&trial.place, &trial.key(BAD), false),
        Kind::Nats | Kind::Kafka | Kind::Rabbitmq => Ok(()),
    }
}

/// Why [`BAD`] is refused, as dead letters say it.
fn reason(kind: Kind) -> &'static str {
    match kind {
        Kind::Http => "Refused",
        Kind::Nats | Kind::Kafka | Kind::Rabbitmq => "TooLarge",
    }
}

pub(crate) async fn what_is_refused_blocks_its_object_alone_until_it_is_left_out(
    trial: &mut Trial<'static>,
) -> Result<()> {
    trial.open(Some(LARGEST), json!({"onReject": "Block", "oversize": "Block"})).await?;
    trial.hears(trial.put(BAD, "one").await?).await?;
    let version = refused(trial).await?;
    trial.write(15).await?;
    let words = trial.stage.says(ORDERS, "Delivering", "False", "Blocked").await;
    ensure!(words.contains("1 objects"), "{words}");
    // Written after what is refused, and told all the same.
    trial.write(15).await?;
    trial.agrees_but(Some(BAD)).await?;
    let status = trial.stage.subscriptions().get(ORDERS).await?.status.unwrap_or_default();
    let blocked = status.blocked.first().context("status names no blocked object")?;
    ensure!(blocked.key == trial.key(BAD), "{blocked:?}");
    ensure!(blocked.event.ends_with(&format!(".{version}")), "{blocked:?}, and {version} is refused");

    // What comes after it waits for it.
    taken_again(trial)?;
    let after = trial.put_large(BAD, 1).await?;
    let (namespace, key) = (trial.stage.namespace.clone(), trial.key(BAD));
    let kubeconfig = trial.stage.cluster.kubeconfig.clone();
    let mut skip = Command::new(program().await);
    skip.args(["subscription", "skip", ORDERS, "-n", &namespace, "--key", &key, "--kubeconfig"])
        .arg(kubeconfig);
    let skipped = skip.output().await?;
    ensure!(skipped.status.success(), "{}", String::from_utf8_lossy(&skipped.stderr));
    trial.excuse(version);
    trial.hears(after).await.map(drop)
}

pub(crate) async fn what_is_refused_goes_to_the_dead_letters_with_the_reason(
    trial: &mut Trial<'static>,
) -> Result<()> {
    trial.stage.create_stream().await;
    let subject = format!("{}.dead.{{name}}", trial.stage.namespace);
    let dead_letter = json!({"nats": {"servers": [trial.stage.nats_url], "subject": subject}});
    let delivery = json!({"onReject": "DeadLetter", "oversize": "DeadLetter", "deadLetter": dead_letter});
    trial.open(Some(LARGEST), delivery).await?;
    trial.hears(trial.put(BAD, "one").await?).await?;
    let version = refused(trial).await?;
    trial.write(15).await?;
    let letters = trial.stage.hears(1).await;
    let letter = letters.first().context("there is no dead letter")?;
    let told = (letter.attribute("subject"), letter.data["metadata"]["resourceVersion"].as_str());
    ensure!(told == (&trial.key(BAD), Some(&version.to_string())), "{letter:?}");
    ensure!(letter.attribute("deadletterreason") == reason(trial.kind), "{letter:?}");
    taken_again(trial)?;
    trial.put_large(BAD, 1).await?;
    trial.excuse(version);
    trial.agrees().await?;
    let letters = trial.stage.events().await;
    ensure!(letters.len() == 1, "{} dead letters", letters.len());
    Ok(())
}

pub(crate) async fn what_is_too_large_is_told_as_a_reference(trial: &mut Trial<'static>) -> Result<()> {
    trial.open(Some(LARGEST), json!({})).await?;
    trial.put(BAD, "one").await?;
    let version = trial.put_large(BAD, TOO_LARGE).await?;
    trial.write(15).await?;
    let data = trial.hears(version).await?;
    let fields = |value: &Value| -> Vec<String> {
        value.as_object().into_iter().flat_map(|object| object.keys().cloned()).collect()
    };
    ensure!(fields(&data) == ["apiVersion", "kind", "metadata"], "{:?}", fields(&data));
    let metadata = fields(&data["metadata"]);
    ensure!(metadata == ["name", "namespace", "resourceVersion", "uid"], "{metadata:?}");
    // A consumer holds the whole again with the next version.
    trial.put_large(BAD, 1).await?;
    trial.agrees().await?;
    eventually(SOON, "nothing is blocked", || async {
        let status = trial.stage.subscriptions().get(ORDERS).await?.status.unwrap_or_default();
        ensure!(status.blocked_keys == Some(0), "{status:?}");
        Ok(())
    })
    .await
}
