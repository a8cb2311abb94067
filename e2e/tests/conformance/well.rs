//! Nothing is broken, or not yet there.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tidings_testbed::proxy::Link;
use tidings_testbed::receiver::Kind;
use tidings_testbed::receiver::broker::USER;
use tidings_testbed::wait::eventually;

use crate::support::SOON;
use crate::trial::{ORDERS, Trial};

/// A network on which everything takes its time.
const SLOW: Link = Link::Open { delay: Duration::from_millis(50), rate: Some(200_000) };

/// Of every change there is one Event, and status counts it as one that the broker holds.
pub(crate) async fn what_is_acked_is_there_once(trial: &mut Trial<'static>) -> Result<()> {
    trial.open(None, json!({})).await?;
    trial.write(30).await?;
    trial.agrees().await?;
    let heard = trial.heard().len() as u64;
    eventually(SOON, "as many acknowledgements as Events", || async {
        let (sent, acked) = (trial.counts("sent_total").await?, trial.counts("acked_total").await?);
        ensure!((sent, acked) == (heard, heard), "{heard} were heard, {sent} sent, {acked} acked");
        let status = trial.stage.subscriptions().get(ORDERS).await?.status.unwrap_or_default();
        let counted = status.counts.unwrap_or_default().acked;
        ensure!(counted == i64::try_from(heard)?, "status counts {counted} of {heard}");
        Ok(())
    })
    .await
}

pub(crate) async fn a_slow_network_delays_and_loses_nothing(trial: &mut Trial<'static>) -> Result<()> {
    trial.through_network().await?;
    trial.open(None, json!({})).await?;
    trial.network(SLOW);
    trial.write(30).await?;
    trial.agrees().await
}

pub(crate) async fn a_missing_target_is_said_and_waited_for(trial: &mut Trial<'static>) -> Result<()> {
    trial.put("first", "one").await?;
    let way = trial.way(USER)?;
    trial.subscribe(&way, json!({})).await?;
    let (reason, named) = match trial.kind {
        Kind::Nats => ("StreamNotFound", format!("{}.", trial.place)),
        Kind::Kafka => ("TopicNotFound", trial.place.clone()),
        Kind::Rabbitmq => ("ExchangeNotFound", trial.place.clone()),
        // A path can only be asked for by sending something there.
        Kind::Http => ("NotFound", "nothing is under the URL and the path".to_owned()),
    };
    // What is there is told first, and from then on every change.
    eventually(SOON, "the snapshot", || async {
        ensure!(trial.counts("routed_total").await? == 1, "nothing is to be told");
        Ok(())
    })
    .await?;
    trial.write(10).await?;
    let words = trial.stage.says(ORDERS, "SinkReady", "False", reason).await;
    ensure!(words.contains(&named), "{words}");
    trial.write(10).await?;
    trial.create(None).await
}
