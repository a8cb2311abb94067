//! The broker breaks, its passwords change, or the bridge is stopped.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidings_testbed::proxy::Link;
use tidings_testbed::receiver::broker::TURNER;
use tidings_testbed::receiver::{Kind, Security};
use tidings_testbed::wait::eventually;

use crate::support::SOON;
use crate::trial::{ORDERS, Trial};

/// The broker has some of what is under way, has stored some of that, and has said nothing of it.
pub(crate) async fn a_broker_that_is_killed_in_the_middle_of_a_batch_loses_nothing(
    trial: &mut Trial<'static>,
) -> Result<()> {
    trial.through_network().await?;
    trial.open(None, json!({})).await?;
    trial.network(Link::Mute);
    trial.write(20).await?;
    trial.under_way(1).await?;
    trial.broker.alone()?.kill().await?;
    trial.network(Link::Cut);
    trial.write(10).await?;
    // A network that ends every connection lets each begin, and a receiver of HTTP in clear says nothing then.
    let reason = match (trial.kind, trial.security) {
        (Kind::Http, Security::Plain) => "AttemptsFail",
        _ => "SinkNotReady",
    };
    trial.stage.says(ORDERS, "Delivering", "False", reason).await;
    trial.broker.alone()?.restart().await?;
    trial.network(Link::GOOD);
    trial.write(10).await?;
    trial.agrees().await
}

/// It answers nothing, so long that attempts fail.
pub(crate) async fn a_broker_that_is_paused_loses_nothing(trial: &mut Trial<'static>) -> Result<()> {
    trial.open(None, json!({})).await?;
    trial.write(5).await?;
    trial.broker.alone()?.pause()?;
    let failed = async {
        trial.write(10).await?;
        trial.retried().await
    };
    let failed = failed.await;
    trial.broker.alone()?.resume()?;
    failed?;
    trial.write(5).await?;
    trial.agrees().await
}

/// It ends as it should, and comes back with what it had.
pub(crate) async fn a_broker_that_restarts_loses_nothing(trial: &mut Trial<'static>) -> Result<()> {
    trial.open(None, json!({})).await?;
    trial.write(10).await?;
    // Half of what is written meets one that goes, or is gone.
    let (before, meanwhile) = (trial.writing(30), trial.broker.alone()?.restart());
    tokio::try_join!(before, meanwhile)?;
    trial.write(10).await?;
    trial.agrees().await
}

/// Whether somebody is asked for a password that can change.
pub(crate) fn has_passwords(kind: Kind, security: Security) -> Result<(), &'static str> {
    match (kind, security) {
        (Kind::Rabbitmq, Security::Plain) | (_, Security::Secured) => Ok(()),
        (Kind::Nats | Kind::Kafka | Kind::Http, Security::Plain) => Err("nobody is asked for a password"),
    }
}

/// The broker's password changes and then the Secret, while Events flow; whoever connects from then on has the new one.
pub(crate) async fn a_password_that_changes_is_followed_and_nothing_is_lost(
    trial: &mut Trial<'static>,
) -> Result<()> {
    trial.through_network().await?;
    trial.create(None).await?;
    let mut way = trial.way(TURNER)?;
    let security = trial.security.name();
    let [old, new] = ["old", "new"].map(|age| format!("the-{age}-password-of-tom-{security}"));
    trial.broker.alone()?.set_password(TURNER, &old).await?;
    way.credentials.insert("password", old);
    trial.subscribe(&way, json!({})).await?;
    trial.delivers().await?;
    trial.write(10).await?;
    way.credentials.insert("password", new.clone());
    let (before, change) = (trial.writing(30), trial.broker.alone()?.set_password(TURNER, &new));
    tokio::try_join!(before, change)?;
    trial.put_secret(&way).await?;
    trial.write(10).await?;
    // With the old one, nothing would come back.
    trial.network(Link::Cut);
    trial.write(10).await?;
    trial.network(Link::GOOD);
    trial.agrees().await
}

/// What is under way when the bridge is told to end is awaited; what was acknowledged is not told again.
pub(crate) async fn a_bridge_that_is_stopped_loses_nothing_and_repeats_nothing(
    trial: &mut Trial<'static>,
) -> Result<()> {
    trial.through_network().await?;
    trial.open(None, json!({})).await?;
    trial.write(20).await?;
    trial.agrees().await?;
    trial.network(Link::Silent);
    for name in ["bread", "eggs", "salt"] {
        trial.put(name, "under way").await?;
    }
    trial.under_way(3).await?;
    let bridge = trial.own_bridge()?;
    bridge.terminate()?;
    eventually(SOON, "the signal was heard", || {
        let heard = bridge.log().contains("shutting down");
        std::future::ready(if heard { Ok(()) } else { Err("it was not") })
    })
    .await?;
    trial.network(Link::GOOD);
    trial.own_bridge()?.ended().await?;
    trial.agrees_with_what_was_written().await?;
    let before: BTreeSet<_> = trial.heard().iter().map(|event| event.attribute("id").to_owned()).collect();
    let count = trial.heard().len();
    trial.own_bridge()?.start_again().await?;
    let last = trial.put("bread", "afterwards").await?;
    trial.hears(last).await?;
    trial.agrees().await?;
    let heard = trial.heard();
    let after = heard.get(count..).context("what was heard is heard no more")?;
    let repeated: Vec<_> = after.iter().filter(|event| before.contains(event.attribute("id"))).collect();
    ensure!(repeated.is_empty(), "{repeated:#?}");
    // Also what a broker that knows ids had dropped would be acknowledged.
    trial.acked(1).await?;
    ensure!(trial.counts("acked_total").await? == 1, "more was sent than what was written since");
    Ok(())
}
