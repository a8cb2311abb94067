//! The network before the broker is bad, and the broker knows nothing of it.

use anyhow::{Result, ensure};
use serde_json::json;
use tidings_testbed::consumer::Received;
use tidings_testbed::proxy::Link;
use tidings_testbed::receiver::Kind;

use crate::trial::Trial;

pub(crate) async fn a_connection_that_is_cut_loses_nothing(trial: &mut Trial<'static>) -> Result<()> {
    trial.through_network().await?;
    trial.open(None, json!({})).await?;
    let trial = &*trial;
    let cut = async {
        for _ in 0..3 {
            trial.grows(10).await?;
            trial.network(Link::Cut);
            trial.grows(5).await?;
            trial.network(Link::GOOD);
        }
        Ok(())
    };
    tokio::try_join!(trial.write(60), cut)?;
    trial.agrees().await
}

/// Again and again the connection ends while versions of one object are under way and wait.
pub(crate) async fn an_object_is_told_in_order_however_often_it_is_tried(
    trial: &mut Trial<'static>,
) -> Result<()> {
    trial.through_network().await?;
    trial.open(None, json!({})).await?;
    for round in 0..3 {
        trial.network(if round % 2 == 0 { Link::Silent } else { Link::Mute });
        for version in 0..10 {
            trial.put("hot", &format!("{round} {version}")).await?;
        }
        trial.under_way(1).await?;
        trial.network(Link::Cut);
        trial.put("hot", "while there is no connection").await?;
        trial.network(Link::GOOD);
        trial.hears(trial.put("hot", "again").await?).await?;
    }
    match trial.kind {
        // Its client tries again by itself, in order.
        Kind::Kafka => {}
        Kind::Nats | Kind::Rabbitmq | Kind::Http => {
            ensure!(trial.counts("retried_total").await? > 0, "nothing was tried again");
        }
    }
    trial.agrees().await
}

/// The broker has the Event, and its word of that is lost.
pub(crate) async fn what_is_told_again_has_the_id_it_had(trial: &mut Trial<'static>) -> Result<()> {
    trial.through_network().await?;
    trial.open(None, json!({})).await?;
    trial.put("kept", "one").await?;
    trial.acked(1).await?;
    trial.network(Link::Mute);
    let version = trial.put("kept", "two").await?;
    trial.hears(version).await?;
    trial.under_way(1).await?;
    trial.network(Link::Cut);
    trial.network(Link::GOOD);
    trial.put("kept", "three").await?;
    trial.agrees().await?;
    let version = version.to_string();
    let of = |event: &Received| event.data["metadata"]["resourceVersion"] == version;
    let told: Vec<_> = trial.heard().into_iter().filter(of).collect();
    let (first, again) = told.split_first().expect("it was heard");
    ensure!(again.len() <= 1, "it came {} times", told.len());
    // A repeat says nothing else, wherever a broker that knows ids or sequences has not dropped it.
    for repeat in again {
        ensure!(repeat.data == first.data, "{first:?} and {repeat:?}");
        ensure!(repeat.attributes == first.attributes, "{first:?} and {repeat:?}");
    }
    Ok(())
}
